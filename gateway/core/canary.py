"""Canaries: small whole requests to real upstreams that show a path to work (links.md section 13).

Law:

- a canary carries no credential of a program or person and speaks of no patient: it asks for what
  the pack names, mostly the server's statement of what it can do. Where the upstream wants the
  practice's own certificate for the handshake, it is shown, as for any request over that path;
- its content must be what such a statement is. A portal's page, or any other 200, is no success;
- a status other than 200 is an answer, and says that somebody is there; it proves nothing of use.
"""

from typing import Final, Literal, TypeAlias

from gateway.core.fhir import resource_type
from gateway.core.keeping import decoded, speaks
from gateway.core.message import Arrived, Outbound, Outcome
from gateway.core.pack import Pack

Found: TypeAlias = Literal["proved", "answered", "foreign", "failed"]

PATIENCE_S: Final = 10.0
"""A capability statement is made anew by some servers: seconds, not milliseconds."""
CONNECT_S: Final = 1.5


def canary(pack: Pack, tenant: str, upstream: str, via: str) -> Outbound | None:
    """Return the request, None where the pack names none."""
    if not pack.canary:
        return None
    headers = [("Accept", pack.content_types[0]), ("Via", f"1.1 {via}")]
    if pack.interaction_header and pack.canary_interaction:
        headers.insert(0, (pack.interaction_header, pack.canary_interaction))
    return Outbound(tenant, upstream, "GET", pack.canary, tuple(headers), b"", False, CONNECT_S,
                    PATIENCE_S, is_read=True)


def judged(pack: Pack, outcome: Outcome) -> Found:
    """Return what came of a canary."""
    if not isinstance(outcome, Arrived):
        return "failed"
    reply = outcome.reply
    if reply.status != 200:
        return "answered"
    if not isinstance(reply.body, bytes) or not speaks(pack, reply):
        return "foreign"
    body = decoded(reply.body, reply.headers)
    is_right = body is not None and resource_type(body) in pack.canary_types
    return "proved" if is_right else "foreign"
