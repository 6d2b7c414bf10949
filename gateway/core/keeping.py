"""What is kept, for how long, for whom, and how it is marked when served (continuity.md §§3, 6).

The record store holds kept replies only, under keys that this module makes; the store turns
them into HMACs, so nothing about a patient is in clear on disk.
"""

import base64
import binascii
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from gateway.core.instant import Wall
from gateway.core.message import Headers, Reply, Request, every, first
from gateway.core.pack import Matched, Pack

Class: TypeAlias = Literal["live", "as-of", "restricted", "unknown"]
KeepMode: TypeAlias = Literal["continuity", "http", "off"]

HTTP_NO: Final = frozenset({"no-store", "private"})
"""Reply directives by which an HTTP cache shared by clients keeps nothing (RFC 9111 §3)."""

UNPACKED_BYTES_MAX: Final = 32 << 20
"""A kept body of at most 1 MiB may unpack to this; beyond it is a bomb, not a record."""

FRESH_ONLY: Final = frozenset({"must-revalidate", "proxy-revalidate", "no-cache", "s-maxage"})
"""Reply directives that forbid a stale answer, disconnected or not (RFC 9111 §4.2.4)."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a kept reply answers: everything its content depends on, as one byte string."""

    upstream: str
    route: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keep:
    """Store this whole reply. ``fetched`` is when its fetch *began*: age counts from there.

    ``subjects`` (``Patient/2``, ``nhs/9990000018``) are whom it speaks of; ``identity`` says that
    it ties them together as one person. ``ceiling_s`` is the oldest it may be served.
    """

    key: Key
    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    fetched: Wall
    ceiling_s: float
    subjects: tuple[str, ...] = field(default=(), repr=False)
    identity: bool = False
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy read back: the same bytes, headers and time of fetch as were stored."""

    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    fetched: Wall
    ceiling_s: float
    restricted: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget copies, and refuse to keep any whose fetch began before ``before``.

    ``key`` drops that one; ``routes`` drops these routes' copies of the upstream, all of them or,
    with ``subjects``, those about these people; ``subjects`` alone drops everything about them
    (and about whoever an identity copy ties them to).
    """

    upstream: str
    before: Wall
    key: Key | None = None
    routes: tuple[str, ...] = ()
    subjects: tuple[str, ...] = field(default=(), repr=False)


def key_of(pack: Pack, matched: Matched, request: Request) -> Key:
    """Return the key under which the reply to ``request`` is kept and found.

    It holds all that the reply depends on (continuity.md §3): upstream, route, interaction, exact
    path, raw query in its order, canonical body of a POST that only reads, the pack's own headers
    (formats, versions, targets) and the asker. HEAD is looked up as the GET it stands for. The
    tenant is not in it: each tenant has a store of its own.
    """
    named = request.header(pack.interaction_header) if pack.interaction_header else None
    method = "GET" if request.method == "HEAD" else request.method
    parts = [request.upstream, matched.route.id, method, request.target, named or ""]
    parts += [f"{name}:{','.join(every(request.headers, name))}" for name in pack.key_headers]
    parts += asker(pack, request)
    content = b"\0".join(part.encode() for part in parts) + b"\0" + _canonical(request.body)
    return Key(request.upstream, matched.route.id, hashlib.sha256(content).digest())


def asker(pack: Pack, request: Request) -> list[str]:
    """Return what the answer depends on besides the request: who asks, by the pack's claims.

    The token proves nothing (GP Connect: ``alg: none``), it only says which organisation and
    scope the upstream answered. Where the claims cannot be read the client stands for the asker,
    so that what one program may see is never served to another.
    """
    if pack.asker_claims:
        token = (request.header("Authorization") or "").partition(" ")[2]
        payload = _payload(token)
        found = [_claim(payload, claim) for claim in pack.asker_claims]
        if payload is not None and any(found):
            return ["token", *found]
    return ["client", request.client]


def _payload(token: str) -> object:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        payload: object = json.loads(raw)
    except (ValueError, binascii.Error, RecursionError):
        return None
    return payload


def _claim(payload: object, dotted: str) -> str:
    for name in dotted.split("."):
        payload = payload.get(name) if isinstance(payload, dict) else None
    return "" if payload is None else json.dumps(payload, sort_keys=True)


def _canonical(body: object) -> bytes:
    """A read operation's JSON body without its spacing and member order; else the very bytes."""
    if not isinstance(body, bytes):
        return b""
    try:
        return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return body


def to_keep(
    mode: KeepMode, pack: Pack, matched: Matched, request: Request, reply: Reply, fetched: Wall
) -> Keep | None:
    """Return what the store shall keep of this live reply, or None.

    Kept only if whole (a body in memory, ended by length or chunks, framed one way), 200, of a
    content type that the API speaks, and a route that the pack keeps. ``continuity`` is a declared
    copy and may hold what says ``no-store``; ``http`` obeys RFC 9111.
    """
    route = matched.route
    if mode == "off" or not route.keep or request.method == "HEAD" or reply.status != 200:
        return None
    whole = isinstance(reply.body, bytes) and reply.unambiguous and reply.ending in (
        "length", "chunked")
    if not whole or not speaks(pack, reply) or not _vary_is_in_key(pack, reply):
        return None
    if not _coding_is_known(reply):
        return None
    ceiling = route.ceiling_s if mode == "continuity" else _http_ceiling(request, reply)
    if ceiling <= 0 or not isinstance(reply.body, bytes):
        return None
    return Keep(key_of(pack, matched, request), reply.status, reply.reason, reply.headers,
                reply.body, fetched, ceiling, matched.subjects, route.identity, route.types)


def speaks(pack: Pack, reply: Reply) -> bool:
    """Whether the reply's Content-Type is one that the API speaks, parameters aside."""
    return _media(reply) in pack.content_types


def is_page(reply: Reply) -> bool:
    """Whether the reply is a web page, as portals and firewalls send."""
    return _media(reply) in ("text/html", "application/xhtml+xml")


def _media(reply: Reply) -> str:
    return (reply.header("Content-Type") or "").partition(";")[0].strip().lower()


def _coding_is_known(reply: Reply) -> bool:
    return coding_of(reply.headers) in ("", "gzip", "deflate")


def coding_of(headers: Headers) -> str:
    """Return the Content-Encoding in lower case, ``""`` for none or ``identity``."""
    coding = ",".join(every(headers, "Content-Encoding")).strip().lower()
    return "" if coding == "identity" else coding


def decoded(body: bytes, headers: Headers) -> bytes | None:
    """Return ``body`` without its Content-Encoding; None if it is unknown, broken or too large."""
    coding = coding_of(headers)
    if not coding:
        return body
    if coding not in ("gzip", "deflate"):
        return None
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = unpacker.decompress(body, UNPACKED_BYTES_MAX)
    except zlib.error:
        return None
    return plain if unpacker.eof and not unpacker.unused_data else None


def _vary_is_in_key(pack: Pack, reply: Reply) -> bool:
    """A reply that varies by what the key does not hold would be served to the wrong request."""
    known = {name.lower() for name in pack.key_headers} | {"accept-encoding", "authorization"}
    named = {part.strip().lower()
             for value in every(reply.headers, "Vary") for part in value.split(",")}
    return named - {""} <= known


def directives(headers: Headers) -> dict[str, str]:
    """Return the Cache-Control directives, names in lower case, values without quotes."""
    found: dict[str, str] = {}
    for value in every(headers, "Cache-Control"):
        for part in value.split(","):
            name, _, argument = part.strip().partition("=")
            if name:
                found.setdefault(name.lower(), argument.strip().strip('"'))
    return found


def _seconds(text: str | None) -> float | None:
    """A delta-seconds (RFC 9111 §1.2.2); None where there is none or it is not one."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _http_ceiling(request: Request, reply: Reply) -> float:
    """How long an ordinary HTTP reply may be served: its freshness, and its stale-if-error."""
    asked, said = directives(request.headers), directives(reply.headers)
    if "no-store" in asked or HTTP_NO & said.keys():
        return 0.0
    shared = {"public", "s-maxage", "must-revalidate"} & said.keys()
    if first(request.headers, "Authorization") is not None and not shared:
        return 0.0
    fresh = _seconds(said.get("s-maxage"))
    fresh = _seconds(said.get("max-age")) if fresh is None else fresh
    if fresh is None:
        return 0.0
    spent = _seconds(reply.header("Age")) or 0.0
    fresh = 0.0 if "no-cache" in said else max(0.0, fresh - spent)
    if FRESH_ONLY & said.keys():
        return fresh
    return fresh + (_seconds(said.get("stale-if-error")) or 0.0)


@dataclass(frozen=True, slots=True)
class Leave:
    """Whether a client takes copy answers, and how old at most (its own bound, in seconds)."""

    given: bool
    age_s_max: float = float("inf")


def leave(opted_in: bool, request: Request) -> Leave:
    """Return whether this request may be answered from the copy (design 5.2).

    By the client's config (``copies = "marked"``), or by the request itself: ``max-stale`` or
    ``stale-if-error`` (RFC 9111 §5.2.1.2, RFC 5861 §4), whose bound is obeyed beside the ceiling.
    ``no-store`` and ``no-cache`` in a request refuse a copy whatever the config says.
    """
    asked = directives(request.headers)
    if "no-store" in asked or "no-cache" in asked:
        return Leave(False)
    bounds = [float("inf") if not asked[name] else _seconds(asked[name]) or 0.0
              for name in ("max-stale", "stale-if-error") if name in asked]
    if not bounds:
        return Leave(opted_in)
    return Leave(True, max(bounds))


def removal(
    pack: Pack, matched: Matched, request: Request, reply: Reply, now: Wall
) -> Drop | None:
    """Return what a 403, 404 or 410 over a proven path removes, or None (continuity.md §3).

    A code that speaks of the patient drops all about them; any other drops this asker's own copy
    only, so that one badly set-up client cannot empty a practice's copy. A search that identifies
    a patient and finds nobody speaks of them too (domain.md, interaction 2).
    """
    if matched.route.identity and matched.subjects and _finds_nobody(reply):
        return Drop(request.upstream, now, subjects=matched.subjects)
    if reply.status not in (403, 404, 410) or not matched.route.is_read:
        return None
    if reply.body != b"" and not speaks(pack, reply):
        return None  # a portal's or a firewall's page is not the clinical system's word
    if matched.route.removes == "none":
        return None
    about_patient = matched.route.removes == "subject" and _names_patient(pack, reply)
    if about_patient and matched.subjects:
        return Drop(request.upstream, now, subjects=matched.subjects)
    return Drop(request.upstream, now, key=key_of(pack, matched, request))


def _finds_nobody(reply: Reply) -> bool:
    """Whether this is a whole searchset without a match."""
    if reply.status != 200 or not isinstance(reply.body, bytes):
        return False
    try:
        tree = json.loads(decoded(reply.body, reply.headers) or b"")
    except (ValueError, RecursionError):
        return False
    if not isinstance(tree, dict) or tree.get("type") != "searchset":
        return False
    entries = tree.get("entry") or []
    return isinstance(entries, list) and not any(
        isinstance(entry, dict) and _is_match(entry) for entry in entries)


def _is_match(entry: dict[str, object]) -> bool:
    search = entry.get("search")
    return not isinstance(search, dict) or search.get("mode", "match") == "match"


def _names_patient(pack: Pack, reply: Reply) -> bool:
    if not pack.subject_codes:
        return reply.status != 403
    body = reply.body if isinstance(reply.body, bytes) else b""
    text = decoded(body, reply.headers) or b""
    return any(f'"{code}"'.encode() in text for code in pack.subject_codes)


def voided(matched: Matched, request: Request, now: Wall) -> Drop | None:
    """Return what a write that may have arrived voids: the pack's routes, all or its subjects'."""
    route = matched.route
    if not route.voids:
        return None
    subjects = matched.subjects if route.voids_subject else ()
    return Drop(request.upstream, now, routes=route.voids, subjects=subjects)
