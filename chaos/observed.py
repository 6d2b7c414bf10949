"""What was seen of a run from outside: by clients, the clinical system, /status and the broker.

All of it frozen and plain, so that the promises (``promises.py``) are pure functions of it. Every
time is seconds of the Unix epoch on one machine. Nothing here holds a patient: targets, bodies
and keys are digests or codes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

NOTICE_S: Final = 3.0
"""How long after a path came back we do not yet call it working: the gateway probes every 0.2 to
0.5 s and a TCP connect that met silence is sent again after 1 s. A path that dies gets no such
grace while another one works."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of a client and what became of it.

    ``at`` is when it was *due* to be sent, ``took_s`` counts from there. ``status`` 0: no whole
    answer. ``upstream_key`` names what the clinical system calls it (``gpc:B81001``). ``key`` says
    which reads are the same question; ``ceiling_s`` the oldest copy allowed for it (None: none).
    ``body_sha`` is of the body less the gateway's own outcome entry. ``empty``: it says "none" (a
    searchset of nothing). ``transient`` and
    ``throttled``: an OperationOutcome with that code, the latter with ``Retry-After``.
    """

    n: int
    at: float
    took_s: float
    phase: str
    tenant: str
    upstream: str
    upstream_key: str
    client: str
    kind: str
    key: str
    token: str
    is_read: bool
    opted_in: bool
    status: int = 0
    whole: bool = False
    answer_class: str = ""
    link: str = ""
    cause: str = ""
    age_s: float | None = None
    ceiling_s: float | None = None
    body_sha: str = ""
    body_bytes: int = 0
    empty: bool = False
    transient: bool = False
    has_etag: bool = False
    no_store: bool = False
    marked: bool = False
    trouble: str = ""
    throttled: bool = False

    @property
    def answered(self) -> Literal["live", "copy", "refused", "shed", "failed"]:
        """How it ended, in one word: a 503 that says so is a refusal, nothing at all a failure.

        "Shed" is the refusal of a gateway with no place left: it says when to come back.
        """
        if self.whole and self.status == 503 and self.throttled:
            return "shed"
        if not self.whole or self.status == 0:
            return "failed"
        if self.answer_class not in ("", "live") and self.status < 300:
            return "copy"
        if self.answer_class == "live" and self.status < 500:
            return "live"
        return "refused" if self.status == 503 and self.transient else (
            "failed" if self.status >= 500 else "live")


@dataclass(frozen=True, slots=True)
class Seen:
    """One arrival at the clinical system, as it remembers it (``clinical_system.Arrival``)."""

    at: float
    listener: str
    system: str
    ods: str
    method: str
    token: str
    status: int
    reply_sha: str
    took_effect: bool = False


@dataclass(frozen=True, slots=True)
class Weather:
    """What held from ``at`` on: links that work, upstreams that do not, and the gateway itself."""

    at: float
    links: frozenset[str]
    down: frozenset[str] = frozenset()
    gateway: bool = True
    words: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """A change of the active link (``what`` = "switch") or of a mode, as the gateway told it."""

    at: float
    what: Literal["switch", "mode"]
    frm: str
    to: str
    tenant: str = ""
    upstream: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Leak:
    """A mark that was found where no patient and no key may be: ``place`` never quotes it."""

    place: str
    mark: str


@dataclass(frozen=True, slots=True)
class Crash:
    """A kill -9 and what was acknowledged before it and found after it.

    Copies: what /status had counted, per tenant. Rows: numbers of event rows that were in the
    outbox or at the broker before; ``rows_after`` those delivered or still waiting afterwards.
    """

    at: float
    copies_before: tuple[tuple[str, int], ...] = ()
    copies_after: tuple[tuple[str, int], ...] = ()
    rows_before: frozenset[tuple[int, str, int]] = frozenset()
    rows_after: frozenset[tuple[int, str, int]] = frozenset()
    ready_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """One receipt ever shown, with every state it was seen in at the end."""

    receipt: str
    states: tuple[str, ...]
    is_terminal: bool


@dataclass(frozen=True, slots=True)
class Bookings:
    """The journal's account once the weather has cleared (None until there is a journal)."""

    accepted: int
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which something must hold of ``subject`` (a link or an upstream)."""

    start: float
    end: float
    subject: str


@dataclass(frozen=True, slots=True)
class Observed:
    """One whole run. Empty parts make their promises "not exercised", never held."""

    sent: tuple[Sent, ...] = ()
    seen: tuple[Seen, ...] = ()
    weather: tuple[Weather, ...] = ()
    moves: tuple[Move, ...] = ()
    leaks: tuple[Leak, ...] = ()
    scanned: int = 0
    crashes: tuple[Crash, ...] = ()
    bookings: Bookings | None = None
    failed_back: tuple[Span, ...] = ()
    isolated: tuple[Span, ...] = ()
    told_rows: tuple[tuple[int, str, int], ...] = ()
    stored_rows: tuple[tuple[int, str, int], ...] = ()
    notice_s: float = field(default=NOTICE_S)
    failback_grace_s: float = 60.0
    may_be_shed: frozenset[str] = frozenset()  # kinds that overload may refuse, in this run

    def path_works(self, start: float, end: float, upstream_key: str) -> bool:
        """Whether at every instant from ``start`` to ``end`` some path to the upstream worked.

        A path that came back counts only ``notice_s`` later; those of the first entry at once.
        """
        covered = start
        for good in sorted(self._good(upstream_key), key=lambda span: span.start):
            if good.start <= covered:
                covered = max(covered, good.end)
        return covered > end and bool(self.weather)

    def _good(self, upstream_key: str) -> Iterable[Span]:
        """The stretches in which each link was a working path to the upstream."""
        for link in frozenset[str]().union(*(part.links for part in self.weather)):
            since: float | None = None
            for part in self.weather:
                good = link in part.links and part.gateway and not is_down(part.down, upstream_key)
                if good and since is None:
                    since = part.at if part is self.weather[0] else part.at + self.notice_s
                elif not good and since is not None:
                    yield Span(since, part.at, link)
                    since = None
            if since is not None:
                yield Span(since, float("inf"), link)

    def upstream_alone_at_fault(self) -> tuple[Span, ...]:
        """Return when links and gateway were all well and some upstream was not."""
        if not self.weather:
            return ()
        every = frozenset[str]().union(*(part.links for part in self.weather))
        spans: list[Span] = []
        for part, following in zip(self.weather, (*self.weather[1:], None), strict=True):
            if part.down and part.gateway and part.links == every:
                end = following.at if following else float("inf")
                spans.append(Span(part.at, end, ",".join(sorted(part.down))))
        return tuple(spans)


def is_down(down: frozenset[str], upstream_key: str) -> bool:
    """Whether ``gpc:B81001`` is in ``down`` by its own name or its system's (``gpc``)."""
    return upstream_key in down or upstream_key.partition(":")[0] in down
