"""The letter of HTTP at our doors: which heads are admitted, and what we change in one.

The law: what two programs could read in two ways is refused, never repaired. All else passes
byte for byte. A refusal never repeats what was sent, and says whether the connection may go on:
only where nobody can doubt where the refused message ends.

Sources: RFC 9112 (framing), RFC 9110 §7 (intermediaries), and what the parser before us lets
through (it takes any version, a Transfer-Encoding list, fragments, and bytes that are not UTF-8).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from typing import Final, NoReturn

from gateway.core.message import Answer, Headers, Request, Streamed, every, first

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",  # trailers are not carried (RFC 9110 §6.5.1 lets us), so none is announced
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields of one connection (RFC 9110 §7.6.1): never passed on, in either direction."""

OURS: Final = frozenset({"x-gateway-key", "proxy-authorization", "expect"})
"""Request fields addressed to us."""

KEPT_ALWAYS: Final = frozenset({"host", "content-length"})
"""Not removable by ``Connection: content-length``: that would change how a message is framed."""

X_FORWARDED: Final = ("X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix")

ALLOW: Final = ("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")

_VERSION: Final = re.compile(rb" HTTP/([0-9]+(?:\.[0-9]+)?)$")
_NAME: Final = re.compile(r"[A-Za-z0-9._~-]+")
_SEPARATOR: Final = re.compile(r"/|\\|%2f|%5c", re.IGNORECASE)
_DOT: Final = re.compile(r"%2e", re.IGNORECASE)
_PARAMETER: Final = re.compile(r";|%3b", re.IGNORECASE)
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_TARGET: Final = re.compile(r"[\x21-\x7e\x80-\U0010ffff]+")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What we say instead of serving: an OperationOutcome of ``code`` and ``words`` (ours alone).

    ``close`` is True where the end of the refused message is in doubt: nothing after it is read.
    """

    status: int
    code: str
    words: str
    close: bool = False
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Head:
    """One request head as it came: ``target`` decoded as UTF-8 with surrogates, values raw."""

    method: str
    target: str = field(repr=False)
    version: str
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Names:
    """What we answer to: ``authorities`` (lower case, ``host`` or ``host:port``) and ``via``, our
    pseudonym. ``aliases`` maps a URL prefix (``http://provider/base``, as ``normal_url`` gives it
    and without a last slash) to an upstream."""

    authorities: frozenset[str]
    via: str
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """An admitted head. ``ods`` is None where an alias named the upstream.

    ``length`` is the declared body length (None: none declared). ``authority`` and ``prefix`` are
    what X-Forwarded-Host and -Prefix would say. ``expects`` asks for a 100 before the body.
    """

    method: str
    version: str
    ods: str | None = field(repr=False)
    upstream: str = field(repr=False)
    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    chunked: bool = False
    length: int | None = None
    expects: bool = False
    authority: str = field(default="", repr=False)
    prefix: str = field(default="", repr=False)

    @property
    def has_body(self) -> bool:
        """Whether bytes follow the head."""
        return self.chunked or bool(self.length)


class _Refused(Exception):
    """Carries a refusal out of the checks below; never leaves this module."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.words)
        self.refusal = refusal


def unspoken(line: bytes) -> Refusal | None:
    """Return the refusal of a request line that names a version we do not speak, else None.

    Asked before the parser, which would call HTTP/1.2 and 3.0 malformed (400).
    """
    found = _VERSION.search(line)
    if found is None or found[1] in (b"1.0", b"1.1"):
        return None
    return Refusal(505, "not-supported", "Only HTTP/1.0 and HTTP/1.1 are spoken here.", True)


def examine(head: Head, names: Names) -> Seen | Refusal:
    """Return what ``head`` asks for, or why it is refused.

    Framing is judged first, so that a refusal for any other reason has a sound end.
    """
    try:
        return _examine(head, names)
    except _Refused as refused:
        return refused.refusal


def _examine(head: Head, names: Names) -> Seen:
    if head.version not in ("HTTP/1.0", "HTTP/1.1"):
        _refuse(505, "not-supported", "Only HTTP/1.0 and HTTP/1.1 are spoken here.", close=True)
    chunked, length = _framing(head)
    if head.method == "CONNECT":
        _refuse(405, "not-supported", "Tunnels have a port of their own.", True, (ALLOW,))
    headers = _decoded(head)
    host = _host(head, headers)
    if head.method == "TRACE":
        _refuse(405, "not-supported", "TRACE is not served here.", headers=(ALLOW,))
    if "#" in head.target:
        _refuse(400, "invalid", "A request target has no fragment.")
    if not _TARGET.fullmatch(head.target):
        _refuse(400, "invalid", "The request target holds bytes that no target may hold.")
    authority, prefix, ods, upstream, target = _place(head.target, host, names)
    if _climbs(target):
        _refuse(400, "invalid", "The path has a dot segment.")
    if loops(headers, names.via):
        _refuse(508, "processing", "The request has already passed through this gateway.")
    expects = _expects(head, headers, chunked or bool(length))
    return Seen(
        head.method, head.version, ods, upstream, target, headers,
        chunked, length, expects, authority, prefix,
    )  # fmt: skip


def _refuse(
    status: int, code: str, words: str, close: bool = False, headers: Headers = ()
) -> NoReturn:
    raise _Refused(Refusal(status, code, words, close, headers))


def _framing(head: Head) -> tuple[bool, int | None]:
    """Return (chunked, declared length). RFC 9112 §6.1: anything but one plain ``chunked`` could
    be read otherwise by whoever stands behind us, and in HTTP/1.0 it means nothing at all."""
    codings = [value for name, value in head.headers if name.lower() == b"transfer-encoding"]
    lengths = [value for name, value in head.headers if name.lower() == b"content-length"]
    if codings and (len(codings) > 1 or codings[0].strip(b" \t").lower() != b"chunked"):
        _refuse(400, "invalid", "The only Transfer-Encoding taken is one chunked.", close=True)
    if codings and head.version == "HTTP/1.0":
        _refuse(400, "invalid", "HTTP/1.0 has no Transfer-Encoding.", close=True)
    if codings and lengths:
        _refuse(400, "invalid", "The body is framed twice.", close=True)
    if len(lengths) > 1 or (
        lengths and not _LENGTH.fullmatch(lengths[0].decode("latin-1").strip(" \t"))
    ):
        _refuse(400, "invalid", "The Content-Length is not one number.", close=True)
    return bool(codings), int(lengths[0]) if lengths else None


def _decoded(head: Head) -> Headers:
    try:
        return tuple((name.decode("ascii"), value.decode("utf-8")) for name, value in head.headers)
    except UnicodeDecodeError:
        _refuse(400, "invalid", "A header field is not UTF-8.")


def _host(head: Head, headers: Headers) -> str:
    hosts = every(headers, "Host")
    if len(hosts) > 1 or (not hosts and head.version == "HTTP/1.1"):
        _refuse(400, "invalid", "One Host field is needed.")
    if hosts and not is_authority(hosts[0]):
        _refuse(400, "invalid", "The Host field is not host[:port].")
    return hosts[0] if hosts else ""


def is_authority(text: str) -> bool:
    """Whether ``text`` is ``host`` or ``host:port``: a name, an IPv4 address or ``[IPv6]``."""
    host, port = _split_authority(text)
    if port is not None and not (port.isascii() and port.isdigit() and int(port) <= 65535):
        return False
    if host.startswith("["):
        try:
            IPv6Address(host[1:-1])
        except AddressValueError:
            return False
        return host.endswith("]") and "%" not in host
    return bool(_NAME.fullmatch(host))


def _split_authority(text: str) -> tuple[str, str | None]:
    end = text.rfind("]")
    colon = text.rfind(":")
    if colon > end:
        return text[:colon], text[colon + 1 : colon + 7]
    return text, None


def _place(target: str, host: str, names: Names) -> tuple[str, str, str | None, str, str]:
    """Return (authority, prefix, ods or None, upstream, target) of what is asked for."""
    if target.startswith("/"):
        return (host, *_routed(target))
    scheme, mark, rest = target.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        _refuse(400, "invalid", "The request target is no path.")
    cut = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if not is_authority(authority):
        _refuse(400, "invalid", "The authority is not host[:port].")
    asked = normal_url(f"{scheme}://{authority}{path}")
    for url in sorted(names.aliases, key=len, reverse=True):
        after = asked[len(url) :]
        if asked.startswith(url) and (not after or after[0] in "/?"):
            prefix = url.split("://", 1)[1].partition("/")
            return authority, prefix[1] + prefix[2], None, names.aliases[url], after
    if authority.lower() not in names.authorities:
        _refuse(400, "invalid", "That authority is not served here.")
    return (authority, *_routed(path or "/"))


def normal_url(url: str) -> str:
    """Return an absolute URL with its scheme and authority in lower case, the scheme's own port
    left out, and all else as it is: the form in which aliases are compared."""
    scheme, _, rest = url.partition("://")
    cut = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    default = {"http": ":80", "https": ":443"}.get(scheme.lower(), "")
    authority = rest[:cut].lower()
    if default:
        authority = authority.removesuffix(default)
    return f"{scheme.lower()}://{authority}{rest[cut:]}"


def _routed(path: str) -> tuple[str, str, str, str]:
    """Split ``/{ods}/{upstream}{target}``: (prefix, ods, upstream, target), nothing decoded."""
    bare = path.split("?", 1)[0]
    parts = bare.split("/", 3)
    if len(parts) < 3 or not parts[1] or not parts[2]:
        _refuse(404, "not-found", "The path is not /{ods}/{upstream}/...")
    prefix = f"/{parts[1]}/{parts[2]}"
    if _climbs(prefix):
        _refuse(400, "invalid", "The path has a dot segment.")
    return prefix, parts[1], parts[2], path[len(prefix) :]


def _climbs(target: str) -> bool:
    """Whether the path of ``target`` has a ``.`` or ``..`` segment in any spelling.

    They climb out of the upstream's base: a breach between tenants. ``..;x`` counts too, since
    servlet containers drop what follows the semicolon before they climb.
    """
    segments = _SEPARATOR.split(target.split("?", 1)[0])
    return any(_DOT.sub(".", _PARAMETER.split(part)[0]) in (".", "..") for part in segments)


def loops(headers: Headers, via: str) -> bool:
    """Whether a Via entry names us: ``protocol received-by (comment)`` (RFC 9110 §7.6.3)."""
    entries = [entry.split() for value in every(headers, "Via") for entry in value.split(",")]
    return any(len(words) > 1 and words[1].lower() == via.lower() for words in entries)


def _expects(head: Head, headers: Headers, has_body: bool) -> bool:
    """Whether a 100 is awaited. In HTTP/1.0 the field means nothing (RFC 9110 §10.1.1)."""
    wanted = every(headers, "Expect")
    if not wanted or head.version == "HTTP/1.0":
        return False
    if any(value.strip().lower() != "100-continue" for value in wanted):
        # The client may hold its body back for ever, or send it: its end is in doubt.
        _refuse(417, "not-supported", "The only expectation met is 100-continue.", close=has_body)
    return has_body


def outbound_headers(request: Request, authority: str, via: str, forwarded: bool) -> Headers:
    """Return the fields that go upstream, in the client's order, case and number.

    Gone are those of the connection, those it names, and those addressed to us. Host becomes the
    upstream's ``authority`` in its place (first, where an HTTP/1.0 client sent none). Our Via is
    a field line of its own at the end, so nobody else's line changes. With ``forwarded`` the
    three X-Forwarded fields are ours and the client's are dropped.
    """
    gone = _named_by_connection(request.headers) | HOP_BY_HOP | OURS
    if forwarded:
        gone |= {name.lower() for name in X_FORWARDED}
    kept = [
        (name, authority if name.lower() == "host" else value)
        for name, value in request.headers
        if name.lower() not in gone
    ]
    if first(tuple(kept), "Host") is None:
        kept.insert(0, ("Host", authority))
    kept.append(("Via", f"{request.version.removeprefix('HTTP/')} {via}"))
    if forwarded:
        kept += zip(X_FORWARDED, request.forwarded, strict=True)
    return tuple(kept)


def answer_headers(headers: Headers, via: str) -> Headers:
    """Return the fields of an upstream's reply that the client gets, with our Via at the end.

    Gone are those of the connection, those it names, any ``Continuity``, and a ``Cache-Status``
    that speaks in our name: nobody forges our marks. Content-Length stays; the door sees that it
    is true.
    """
    gone = _named_by_connection(headers) | HOP_BY_HOP | {"continuity"}
    kept = [(name, value) for name, value in headers
            if name.lower() not in gone and not _is_our_mark(name, value)]
    return (*kept, ("Via", f"1.1 {via}"))


def _is_our_mark(name: str, value: str) -> bool:
    return name.lower() == "cache-status" and value.lstrip().startswith("practice-gateway")


def _named_by_connection(headers: Headers) -> frozenset[str]:
    """The options of Connection, less those whose removal would change a message's framing."""
    values = (*every(headers, "Connection"), *every(headers, "Proxy-Connection"))
    named = {option.strip().lower() for value in values for option in value.split(",")}
    return frozenset(named) - KEPT_ALWAYS


@dataclass(frozen=True, slots=True)
class Framed:
    """An answer's fields as they go on the wire. ``length`` is the number of body bytes they
    promise, None where the body is ``chunked`` or ends with the connection."""

    headers: Headers = field(repr=False)
    chunked: bool
    length: int | None
    close: bool
    has_body: bool


def framed(answer: Answer, method: str, version: str, close: bool, date: str) -> Framed:
    """Decide how ``answer`` is framed for a client that asked by ``method`` in ``version``.

    Chunked stays chunked, a length stays a length, and an end by close stays one; HTTP/1.0 knows
    no chunks, so whole bodies get a length there and streams end by close. ``date`` is added
    where the answer has none (RFC 9110 §6.6.1). A true Content-Length keeps its bytes.
    """
    has_body = method != "HEAD" and answer.status >= 200 and answer.status not in (204, 304)
    chunked, length = _ending(answer, version) if has_body else (False, 0)
    close = close or answer.close or (has_body and not chunked and length is None)
    gone = {"connection", "keep-alive", "transfer-encoding"}
    declared = every(answer.headers, "Content-Length")
    true = length is not None and declared == (str(length),)
    if (has_body and not true) or answer.status == 204 or answer.status < 200:
        gone.add("content-length")
    headers = [(name, value) for name, value in answer.headers if name.lower() not in gone]
    if has_body and length is not None and not true:
        headers.append(("Content-Length", str(length)))
    if chunked:
        headers.append(("Transfer-Encoding", "chunked"))
    if first(answer.headers, "Date") is None:
        headers.append(("Date", date))
    if close or version == "HTTP/1.0":
        headers.append(("Connection", "close" if close else "keep-alive"))
    return Framed(tuple(headers), chunked, length, close, has_body)


def _ending(answer: Answer, version: str) -> tuple[bool, int | None]:
    """Return (chunked, length); (False, None) ends by close."""
    whole = not isinstance(answer.body, Streamed)
    length = answer.body.length if isinstance(answer.body, Streamed) else len(answer.body)
    if answer.ending == "close":
        return False, None
    if answer.ending == "chunked" or length is None:
        if version == "HTTP/1.1":
            return True, None
        return False, length if whole else None
    return False, length


class Chunks:
    """Walks a chunked body to find its end (RFC 9112 §7.1), beside the parser that decodes it.

    Two readers must agree on where the body ends, or the request is refused: a body that two
    programs could end at different bytes is how a second request is smuggled past the first.
    """

    LINE_BYTES_MAX: Final = 256  # a size and its extensions; 16 hex digits are 64 bits already
    TRAILER_BYTES_MAX: Final = 8192

    def __init__(self) -> None:
        self._line = bytearray()
        self._skip = 0  # bytes of data (and its CRLF) still to pass over
        self._trailer_bytes = -1  # -1: not in the trailer

    def walk(self, data: bytes) -> int | None:
        """Pass over ``data``; return how much of it belongs to the body once its end is found,
        None while more is to come.

        Raises:
            ValueError: this is no chunked body, or a line of it is over its limit.
        """
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end + 1
            self._line += data[at:stop]
            at = stop
            if self._told_end(complete=end >= 0):
                return at
        return None

    def _told_end(self, complete: bool) -> bool:
        in_trailer = self._trailer_bytes >= 0
        limit = self.TRAILER_BYTES_MAX - self._trailer_bytes if in_trailer else self.LINE_BYTES_MAX
        if len(self._line) > limit:
            raise ValueError("a line of a chunked body is over its limit")
        if not complete:
            return False
        line = bytes(self._line)
        self._line.clear()
        if not line.endswith(b"\r\n"):
            raise ValueError("a line of a chunked body ends without CRLF")
        if in_trailer:
            self._trailer_bytes += len(line)
            return line == b"\r\n"
        size = _chunk_size(line[:-2])
        if size:
            self._skip = size + 2
        else:
            self._trailer_bytes = 0
        return False


_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")


def _chunk_size(line: bytes) -> int:
    found = _CHUNK_SIZE.fullmatch(line)
    if found is None:
        raise ValueError("a chunk size is no hexadecimal number")
    return int(found[1], 16)
