"""What passes through: requests, replies, answers, and what became of a send.

Law of the wire: headers are pairs in the order, case and number in which they came; values
are the very bytes, decoded as UTF-8 (what is not UTF-8 is refused at the doors, so nothing is
lost on the way out). A target is the raw request target, never decoded or normalised. Bodies
never show in a ``repr``.

A send ends in one of three ways, and which one decides what may be done next:

- ``Arrived``: a whole reply head was read (and the whole body, up to the limit).
- ``NeverLeft``: the connection was never handed to the request, so not a byte was sent.
- ``NoAnswer``: it may have arrived. A write is never sent again after it (promise 2).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from gateway.core.instant import Mono

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Field lines in wire order: ``(("Host", "x"), ("Accept", "application/fhir+json"))``."""

WHOLE_BYTES_MAX: Final = 1 << 20
"""Bodies up to 1 MiB are held whole (kept, retried, rescued); larger ones stream (design 5.2)."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """A body too large to hold: ``source`` belongs to the edge (an async iterator of bytes).

    ``length`` is the declared number of bytes, None when chunked or ended by close. It can be
    read once only. ``close`` lets go of whatever stands behind it; calling it twice is harmless.
    """

    source: object = field(repr=False)
    length: int | None = None
    close: Callable[[], None] = field(default=lambda: None, repr=False)


Body: TypeAlias = bytes | Streamed


@dataclass(frozen=True, slots=True)
class Request:
    """One admitted request. ``target`` is all that stands after ``/{ods}/{upstream}``, exactly as
    sent: ``""``, ``"/Slot?start=ge1"``, ``"?"`` (``/a?`` and ``/a`` differ). The upstream's base
    URL and the target put together are the URL that is asked.

    ``headers`` are the client's own, untouched; ``chunked`` tells how its body was framed.
    ``forwarded`` is what X-Forwarded-Host, -Proto, -Prefix would say (host, scheme, prefix).
    """

    tenant: str
    client: str
    upstream: str
    method: str
    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    body: Body = field(default=b"", repr=False)
    chunked: bool = False
    version: str = "HTTP/1.1"
    forwarded: tuple[str, str, str] = ("", "", "")
    serial: int = 0

    def header(self, name: str) -> str | None:
        """Return the first value of the field ``name`` (any case), or None."""
        return first(self.headers, name)

    @property
    def path(self) -> str:
        """The target without its query and without its first slash, raw."""
        return self.target.split("?", 1)[0].removeprefix("/")

    @property
    def query(self) -> str:
        """The raw query, ``""`` where there is none."""
        return self.target.partition("?")[2]


def first(headers: Headers, name: str) -> str | None:
    """Return the first value of the field ``name`` (any case), or None."""
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


def every(headers: Headers, name: str) -> tuple[str, ...]:
    """Return all values of the field ``name`` (any case), in order."""
    wanted = name.lower()
    return tuple(value for key, value in headers if key.lower() == wanted)


Ending: TypeAlias = Literal["length", "chunked", "close", "none"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An upstream's reply as it came. ``body`` is still in its Content-Encoding.

    ``ending`` is how the message ended (``none``: no body by rule, RFC 9112 §6.3).
    ``unambiguous`` is False when its framing could be read two ways; then it is never kept.
    """

    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: Body = field(default=b"", repr=False)
    ending: Ending = "length"
    unambiguous: bool = True

    def header(self, name: str) -> str | None:
        """Return the first value of the field ``name`` (any case), or None."""
        return first(self.headers, name)


Cause: TypeAlias = Literal[
    "resolve",  # the name had no address on this link
    "connect",  # no connection in time, or refused
    "tls",  # the handshake failed or timed out
    "certificate",  # the peer's certificate is not the right one: fail closed, alarm
    "reset",  # the connection ended before a whole head
    "truncated",  # the body was cut before its end
    "timeout",  # no first byte, or no end, inside the patience
    "bad_reply",  # a reply we refuse: unknown Transfer-Encoding, bytes that are not UTF-8
    "not_the_api",  # a 200 that is not what the API speaks (captive portal)
    "link_down",  # the link was judged dead while we waited
    "abandoned",  # another send won
    "busy",  # our own limit: no connection slot
]


@dataclass(frozen=True, slots=True)
class Arrived:
    """The upstream answered over ``link``; ``took_s`` from send to the last byte we waited for."""

    link: str
    reply: Reply
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NeverLeft:
    """Nothing of the request was handed to a connection: it may safely go elsewhere."""

    link: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request may have arrived; no whole reply came back.

    ``fresh`` is False when a pooled connection was closed by the peer before it answered a byte:
    that says nothing against the link (domain.md: a real provider closes after each 400 and each
    100th answer), yet a write is still in doubt.
    """

    link: str
    cause: Cause
    fresh: bool = True


Outcome: TypeAlias = Arrived | NeverLeft | NoAnswer


@dataclass(frozen=True, slots=True)
class Outbound:
    """One send, ready for the wire: ``headers`` already ours, Host included, framing left to the
    edge (Content-Length as the client sent it, or chunked).

    ``connect_s`` bounds name, TCP and TLS together; ``patience_s`` bounds the wait for the whole
    reply (for streams: for its head). ``idle_s`` bounds each later wait of a stream. ``is_read``
    lets the edge use a pooled connection freely; a write gets one that is surely alive, since a
    connection closed by the peer in that instant would leave its outcome unknown.
    """

    tenant: str
    upstream: str
    method: str
    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    body: Body = field(default=b"", repr=False)
    chunked: bool = False
    connect_s: float = 1.5
    patience_s: float = 30.0
    idle_s: float = 60.0
    is_read: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets. ``close`` ends the connection after it; ``ending`` as in Reply."""

    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: Body = field(default=b"", repr=False)
    ending: Ending = "length"
    close: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """One line of what was done for a request, for counters and logs: no paths, no identifiers."""

    tenant: str
    upstream: str
    client: str
    route: str
    answered: Literal["live", "copy", "refused", "failed", "unknown"]
    status: int
    link: str
    at: Mono
    took_s: float
    sends: int
