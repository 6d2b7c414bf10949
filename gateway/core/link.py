"""Links: what was seen on them, and the states through which one goes.

Rule 1: a sample is what was seen, a verdict (``core/verdict.py``) what it means. Samples are kept
        in rings by ``flow/board.py`` and judged when asked; nothing counts up, no timer subtracts.
Rule 2: ``TURNS`` is the whole truth about states; only hysteresis has memory (``LinkMemory``).
Rule 3: leaving a link is undamped, coming back is damped: a healed link waits in PROBATION,
        unless no other link can be used; then its first success makes it UP (links.md section 7).
Rule 4: nothing here knows of upstreams. Their troubles move no link (promise 6).
"""

from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from gateway.core.instant import Mono
from gateway.errors import ImpossibleTurn

LinkState: TypeAlias = Literal["UNKNOWN", "UP", "SUSPECT", "DOWN", "PROBATION", "DRAINING"]
News: TypeAlias = Literal[
    "HEARD",  # a success, the first
    "MISSED",  # a question is overdue and nothing was heard since it was asked
    "QUIET",  # heard again, and nothing overdue for ``quiet_s``
    "DEAD",  # a verdict against the link: BLACKHOLE, LINK_DOWN, CAPTIVE, TLS_INTERCEPT
    "HEALED",  # several successes in a row
    "HELD",  # good for the whole hold
    "NEEDED",  # heard, while no other link can be used
    "DRAIN",  # a maintenance window is near or open
    "RELEASED",  # the window is over, and the link was heard since
]

Layer: TypeAlias = Literal["carrier", "dns", "connect", "tls", "http", "request"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing seen on one link. ``target`` is a probe target's id or an upstream's id.

    ``anchor`` is True where the target is no upstream: what it says is about the link alone.
    ``at`` dates a success when it came, and a miss when the answer was *due*, never when noticed.
    ``sent_at`` is when the question left. ``detail`` is a code (a ``Cause`` or a status): no text.
    """

    link: str
    target: str
    layer: Layer
    ok: bool
    sent_at: Mono
    at: Mono
    anchor: bool = False
    rtt_ms: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to ask on a link: ``kind`` tcp, tls or http, of ``host:port`` (IPv6 in brackets).

    For ``http`` the ``path`` is fetched and the body must equal ``expect`` exactly.
    """

    id: str
    kind: Literal["tcp", "tls", "http"]
    target: str
    path: str = "/"
    expect: str = ""
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """One WAN path out of the building, as the engineer wrote it down.

    Lower ``priority`` is preferred. ``interface`` binds by device, ``source`` by address; a link
    may have neither where its upstreams have a base URL of their own for it (the demo).
    """

    id: str
    priority: int
    kind: str = "other"
    metered: bool = False
    interface: str = ""
    source: str = ""
    resolvers: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()
    tcp_user_timeout_ms: int = 1500


@dataclass(frozen=True, slots=True)
class LinkRules:
    """How links are judged; each limit with its reason, read by config.py for range and schema."""

    probe_every_s: float = field(default=0.5, metadata={
        "ge": 0.05, "description": "seconds between probes of one target on an unmetered link"})
    probe_metered_every_s: float = field(default=10.0, metadata={
        "ge": 0.1, "description": "the same on a metered link that carries no traffic"})
    probe_suspect_every_s: float = field(default=0.2, metadata={
        "ge": 0.05, "description": "the same while a link is suspect, metered or not"})
    probe_timeout_s: float = field(default=0.8, metadata={
        "ge": 0.05, "description": "seconds until a probe without answer counts as missed"})
    silence_s: float = field(default=1.5, metadata={
        "ge": 0.2, "description": "silence on a link, with misses on two targets, that means dead"})
    misses_min: int = field(default=4, metadata={
        "ge": 2, "description": "unanswered probes or requests needed beside the silence"})
    hold_s: float = field(default=60.0, metadata={
        "ge": 0.0, "description": "seconds a healed link must stay good before it carries traffic"})
    samples_max: int = field(default=512, metadata={
        "ge": 64, "description": "samples kept per link"})
    upstream_failures: int = field(default=3, metadata={
        "ge": 1, "description": "failures in a row, on every usable link, that mean upstream down"})
    upstream_window_s: float = field(default=10.0, metadata={
        "ge": 1.0, "description": "how long a failure of an upstream counts"})
    upstream_trial_s: float = field(default=1.0, metadata={
        "ge": 0.1, "description": "seconds between requests let through to a down upstream"})
    late_s: float = field(default=0.25, metadata={
        "ge": 0.02, "description": "seconds without answer that make a silent link suspect"})
    quiet_s: float = field(default=2.0, metadata={
        "ge": 0.0, "description": "seconds without anything overdue until a suspect link is up"})
    heal_successes: int = field(default=3, metadata={
        "ge": 1, "description": "successes in a row on a dead link that begin its hold"})
    stall_s: float = field(default=0.1, metadata={
        "ge": 0.02, "description": "delay of our own loop that is a local stall, no link fault"})
    route_retry_s: float = field(default=30.0, metadata={
        "ge": 1.0, "description": "seconds until one request tries a faulty path again"})
    hedge_s: float = field(default=0.25, metadata={
        "ge": 0.01, "description": "wait before a read is hedged while little is measured"})
    hedge_min_s: float = field(default=0.15, metadata={
        "ge": 0.01, "description": "least wait before a hedge, however fast the path"})
    hedge_max_s: float = field(default=1.0, metadata={
        "ge": 0.05, "description": "longest wait before a hedge, however slow the path"})
    hedge_suspect_s: float = field(default=0.08, metadata={
        "ge": 0.01, "description": "wait before a hedge while the link is suspect"})


# fmt: off
TURNS: Final[dict[LinkState, dict[News, LinkState]]] = {
    "UNKNOWN":   {"HEARD": "UP", "DEAD": "DOWN", "DRAIN": "DRAINING"},
    "UP":        {"MISSED": "SUSPECT", "DEAD": "DOWN", "DRAIN": "DRAINING"},
    "SUSPECT":   {"MISSED": "SUSPECT", "QUIET": "UP", "DEAD": "DOWN", "DRAIN": "DRAINING"},
    "DOWN":      {"HEALED": "PROBATION", "NEEDED": "UP"},
    "PROBATION": {"MISSED": "PROBATION", "DEAD": "DOWN", "HELD": "UP", "NEEDED": "UP",
                  "DRAIN": "DRAINING"},
    "DRAINING":  {"MISSED": "DRAINING", "DEAD": "DOWN", "RELEASED": "PROBATION"},
}
# fmt: on
SOILING: Final[frozenset[News]] = frozenset({"MISSED", "DEAD", "HEALED", "NEEDED", "RELEASED"})
"""News that begin the count of clean time anew."""

CARRIES: Final[frozenset[LinkState]] = frozenset({"UNKNOWN", "UP", "SUSPECT"})
"""States in which a link takes new work. DRAINING takes it only where nothing else can."""


@dataclass(frozen=True, slots=True)
class LinkMemory:
    """All that hysteresis remembers of one link.

    ``clean_since`` dates the end of the last time something was overdue; hold and quiet count
    from there. ``cause`` is the verdict that last took it DOWN, or ``MAINTENANCE``, kept until it
    is UP again: why traffic is elsewhere.
    """

    link: str
    since: Mono
    clean_since: Mono
    state: LinkState = "UNKNOWN"
    cause: str = ""


def resumed(link: str, state: str, cause: str, now: Mono) -> LinkMemory:
    """Return how a link begins that was in ``state`` when the process ended.

    One that was out of use begins DOWN: nothing waits for it, and its first success mends that
    at once where no other link can be used. Any other begins UNKNOWN.
    """
    if state in ("DOWN", "PROBATION"):
        return LinkMemory(link, now, now, "DOWN", cause)
    return LinkMemory(link, now, now)


@dataclass(frozen=True, slots=True)
class LinkTurned:
    """A link changed its state; it had been ``before`` for ``lasted_s``. ``evidence`` are codes."""

    link: str
    before: LinkState
    after: LinkState
    cause: str
    at: Mono
    lasted_s: float
    evidence: tuple[tuple[str, str | float], ...] = ()


def turn(memory: LinkMemory, news: News, cause: str, now: Mono) -> LinkMemory:
    """Return ``memory`` after ``news``; ``cause`` is kept where the news takes the link out of use.

    Raises:
        ImpossibleTurn: TURNS has no row for ``news`` in this state.
    """
    after = TURNS[memory.state].get(news)
    if after is None:
        raise ImpossibleTurn(f"link {memory.link}", memory.state, news)
    since = memory.since if after == memory.state else now
    clean = now if news in SOILING else memory.clean_since
    if news in ("DEAD", "DRAIN"):
        return replace(memory, state=after, since=since, clean_since=clean, cause=cause)
    kept = "" if after == "UP" else memory.cause
    return replace(memory, state=after, since=since, clean_since=clean, cause=kept)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the samples of one link say at one moment (made by ``core/verdict.py``).

    ``heard`` is the last success, ``in_row`` how many came since the last miss. ``overdue`` tells
    that something asked since is late; ``dead`` is the verdict against the link, ``""`` if none.
    """

    heard: Mono | None = None
    in_row: int = 0
    overdue: bool = False
    silence_s: float = 0.0
    unanswered: int = 0
    targets: int = 0
    dead: str = ""


def news_of(memory: LinkMemory, reading: Reading, windowed: bool, alone: bool,
            rules: LinkRules, now: Mono) -> News | None:
    """Return what ``reading`` means to a link in this state, or None where it means nothing new.

    ``windowed``: a maintenance window binds the link; ``alone``: no other link takes new work.
    The first that applies wins: death, maintenance, the miss, then the good news.
    """
    state = memory.state
    if reading.dead:
        return "DEAD" if "DEAD" in TURNS[state] else None
    if windowed and "DRAIN" in TURNS[state]:
        return "DRAIN"
    if reading.overdue and "MISSED" in TURNS[state]:
        return "MISSED"
    heard = reading.heard is not None and not reading.overdue
    if not heard or reading.heard is None:
        return None
    fresh = reading.heard > memory.since
    match state:
        case "UNKNOWN":
            return "HEARD"
        case "UP":
            return None
        case "SUSPECT":
            return "QUIET" if now - memory.clean_since >= rules.quiet_s else None
        case "DOWN":
            if alone and fresh:
                return "NEEDED"
            return "HEALED" if fresh and reading.in_row >= rules.heal_successes else None
        case "PROBATION":
            if alone:
                return "NEEDED"
            return "HELD" if now - memory.clean_since >= rules.hold_s else None
        case "DRAINING":
            return "RELEASED" if not windowed and fresh else None
