"""How an answer says what it is: live, from the copy and how old, or refused (continuity.md §6).

Law: nobody forges our mark and nothing old goes unmarked. A copy carries ``Age``, ``Cache-Status``
(RFC 9211), ``Continuity`` and ``Cache-Control: no-store``, and never an ETag, since a client could
update with it. A searchset also carries an OperationOutcome entry, spliced between stored bytes;
the resource itself is never altered.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.core.fhir import JSON_TYPE, operation_outcome, outcome_entry, splice
from gateway.core.instant import Wall
from gateway.core.keeping import Kept, Leave, coding_of, decoded
from gateway.core.message import Answer, Headers, Request, every, first
from gateway.core.pack import Route

CLOCK_SLACK_S: Final = 5.0
"""A copy dated further in the future than this was made by a clock that stepped: it is stale."""

TAKEN_OUT: Final = frozenset({
    "age", "cache-control", "cache-status", "clear-site-data", "connection", "content-length",
    "continuity", "date", "etag", "expires", "keep-alive", "pragma", "proxy-connection",
    "set-cookie", "strict-transport-security", "trailer", "transfer-encoding", "upgrade",
    "via", "warning"})
"""Fields of the stored reply that its copy does not repeat: they spoke of another moment."""

OF_THE_BYTES: Final = frozenset({
    "accept-ranges", "content-digest", "content-encoding", "content-md5", "digest", "repr-digest"})
"""Fields that describe the stored bytes, untrue once these are unpacked or spliced."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why a copy is served: ``cause`` is the verdict's kind, ``detail`` the mode in lower case."""

    cause: str
    detail: str


def stamp(at: Wall) -> str:
    """Return ``at`` as ``2026-11-20T08:55:00Z``, the form of every time we write."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def copy_answer(
    kept: Kept, request: Request, route: Route, leave: Leave, why: Why, via: str,
    now: Wall, trusted: bool,
) -> Answer | None:
    """Return the marked answer made of ``kept``, or None where it may not be served.

    None when the client did not opt in, the copy is past its ceiling or the client's own bound,
    its age is not certain (the wall clock is not trusted, or the copy is dated in the future), or
    its bytes cannot be marked (an XML Bundle, an unknown coding). Then the client gets a 503.
    """
    age = max(0.0, now - kept.fetched)
    uncertain = not trusted or kept.fetched > now + CLOCK_SLACK_S
    if not leave.given or uncertain or age > min(kept.ceiling_s, leave.age_s_max):
        return None
    marked = _marked_body(kept, request, why, route.clinical)
    if marked is None:
        return None
    body, headers = marked
    fields = [*headers, *_marks(kept, why, via, age)]
    fields.append(("Content-Length", str(len(body))))
    return Answer(kept.status, kept.reason or "OK", tuple(fields),
                  b"" if request.method == "HEAD" else body)


def _marks(kept: Kept, why: Why, via: str, age: float) -> list[tuple[str, str]]:
    answer_class = "restricted" if kept.restricted else "as-of"
    cause = f"; cause={why.cause}" if why.cause else ""
    left = int(-age)
    return [
        ("Via", f"1.1 {via}"),
        ("Age", str(int(age))),
        ("Cache-Control", "no-store"),
        ("Cache-Status", f"practice-gateway; hit; ttl={left}; detail={why.detail}"),
        ("Continuity", f'class={answer_class}; as-of="{stamp(kept.fetched)}"{cause}'),
    ]


def _marked_body(
    kept: Kept, request: Request, why: Why, clinical: bool
) -> tuple[bytes, Headers] | None:
    """The bytes to send and the stored fields that are still true of them."""
    fields = tuple(pair for pair in kept.headers if pair[0].lower() not in TAKEN_OUT)
    plain = decoded(kept.body, kept.headers)
    if plain is None:
        return None
    media = (first(kept.headers, "Content-Type") or "").lower()
    if "xml" in media and b"<Bundle" in plain[:512]:
        return None
    tree = _tree(plain) if "json" in media else {}
    if kept.restricted and clinical and not tree.get("entry"):
        return None  # "none" must not be read where the upstream withheld (hazard H02)
    if tree.get("resourceType") == "Bundle" and tree.get("type") in ("searchset", "collection"):
        code = "suppressed" if kept.restricted else "informational"
        entry = outcome_entry(code, _words(kept, why), tree["type"] == "searchset")
        spliced = splice(plain, entry)
        if spliced is None:
            return None
        return spliced, _without(fields, OF_THE_BYTES)
    coding = coding_of(kept.headers)
    if coding and not _accepts(request, coding):
        return plain, _without(fields, OF_THE_BYTES)
    return kept.body, _without(fields, frozenset({"accept-ranges"}))


def _words(kept: Kept, why: Why) -> str:
    withheld = " Some information is withheld or has not yet arrived." if kept.restricted else ""
    return (f"This is a copy as at {stamp(kept.fetched)}, served because the clinical system "
            f"cannot be reached ({why.cause or why.detail}). "
            f"Later changes are not in it.{withheld}")


def _tree(body: bytes) -> dict[str, object]:
    """The top of the JSON body where its members matter: a Bundle, or a List; else empty."""
    if b'"Bundle"' not in body and b'"List"' not in body:
        return {}
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _without(fields: Headers, names: frozenset[str]) -> Headers:
    return tuple(pair for pair in fields if pair[0].lower() not in names)


def _accepts(request: Request, coding: str) -> bool:
    """Whether the client takes this coding (RFC 9110 §12.5.3); without the field: identity only."""
    for value in every(request.headers, "Accept-Encoding"):
        for part in value.lower().split(","):
            name, _, weight = part.strip().partition(";")
            if name.strip() in (coding, "*"):
                return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def refusal(
    status: int, code: str, words: str, via: str, retry_after_s: int | None = None,
    continuity: str = "class=unknown", cause: str = "",
) -> Answer:
    """Return an error of ours on a FHIR route: an OperationOutcome that repeats nothing sent."""
    body = operation_outcome(code, words)
    said = f"{continuity}; cause={cause}" if cause else continuity
    fields = [("Content-Type", f"{JSON_TYPE}; charset=utf-8"),
              ("Content-Length", str(len(body))),
              ("Cache-Control", "no-store"), ("Via", f"1.1 {via}"), ("Continuity", said)]
    if retry_after_s is not None:
        fields.append(("Retry-After", str(retry_after_s)))
    return Answer(status, PHRASES.get(status, "Error"), tuple(fields), body)


PHRASES: Final = {
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


def live_marks(link: str, is_read: bool, kept: bool, doubt: bool) -> Headers:
    """Return the fields that we add to a live answer, beside Via (design 5.2).

    ``doubt`` marks a whole 5xx reply to a booking: it passes unchanged, yet it may have been taken.
    """
    forward = "miss" if kept else "bypass" if is_read else "method"
    unknown = "; outcome=unknown" if doubt else ""
    return (("Cache-Status", f"practice-gateway; fwd={forward}"),
            ("Continuity", f"class=live; link={link}{unknown}"))
