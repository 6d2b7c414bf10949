"""Links: what was seen on them, and the states through which one goes.

Rule 1: a sample is what was seen, a verdict (``core/verdict.py``) what it means. Samples are kept
        in rings by ``flow/board.py`` and judged when asked; nothing counts up, no timer subtracts.
Rule 2: ``TURNS`` is the whole truth about states; only hysteresis has memory (``LinkMemory``).
Rule 3: leaving a link is undamped, coming back is damped: a healed link waits in PROBATION, each
        time longer, unless no other link is steady; then its first signed answer makes it UP
        (links.md section 7). Damping counts episodes, never samples, and blocks no failover.
Rule 4: nothing here knows of upstreams. Their troubles move no link (promise 6).
"""

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from gateway.core.instant import Mono
from gateway.errors import ImpossibleTurn

LinkState: TypeAlias = Literal[
    "UNKNOWN",  # nothing was heard yet
    "VALIDATING",  # heard, not yet proved
    "UP",
    "SUSPECT",  # something is overdue
    "IMPAIRED",  # alive, and dearer than another link: steered by class
    "DOWN",
    "PROBATION",  # heard again, held back
    "QUARANTINED",  # somebody else answers on it
    "DRAINING",  # announced work is near
    "SUPPRESSED",  # it came and went too often
]
News: TypeAlias = Literal[
    "HEARD",  # a success, the first
    "VALIDATED",  # each kind of probe that it has succeeded once
    "MISSED",  # a question is overdue and nothing was heard since it was asked
    "QUIET",  # heard again, and nothing overdue for ``quiet_s``
    "COSTLY",  # another link serves some class better (core/steer.py)
    "MENDED",  # that is over
    "DEAD",  # a verdict against the link: BLACKHOLE, LINK_DOWN
    "FOREIGN",  # a verdict that somebody else answers: CAPTIVE, TLS_INTERCEPT
    "OURS",  # our nonce was signed and a pinned handshake succeeded since
    "HEALED",  # several successes in a row
    "HELD",  # good for the whole hold
    "ROLLED_BACK",  # its share of the traffic did worse than on the backup (core/failback.py)
    "NEEDED",  # heard, while no other link can be used
    "DAMPED",  # too many episodes lately
    "CALMED",  # the penalty for them has decayed
    "DRAIN",  # a maintenance window is near or open
    "RELEASED",  # the window is over, and the link was heard since
]

Layer: TypeAlias = Literal[
    "carrier", "echo", "size", "dns", "connect", "tls", "http", "request", "ack"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing seen on one link. ``target`` is a probe target's id or an upstream's id.

    ``anchor`` is True where the target is no upstream: what it says is about the link alone.
    ``at`` dates a success when it came, and a miss when the answer was *due*, never when noticed.
    ``sent_at`` is when the question left. ``detail`` is a code (a ``Cause`` or a status): no text.
    ``seq`` numbers echoes; ``size`` is the length in bytes of a rung of the size ladder.
    Layer ``ack``: new bytes of a live socket were acknowledged, or (not ``ok``) its gate fired.
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
    seq: int = 0
    size: int = 0


ProbeKind: TypeAlias = Literal["echo", "tcp", "tls", "http"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to ask on a link, of ``host:port`` (IPv6 in brackets).

    For ``http`` the ``path`` is fetched and the body must equal ``expect`` exactly. An ``echo`` is
    a numbered, signed datagram to an anchor of ours; ``secret`` is the path of the key that both
    share, ``tls_target`` where the same is asked over TLS when datagrams are filtered.
    """

    id: str
    kind: ProbeKind
    target: str
    path: str = "/"
    expect: str = ""
    ca_file: str = ""
    secret: str = ""
    tls_target: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """One WAN path out of the building, as the engineer wrote it down.

    ``resolvers`` are the link's own; ``other_resolver`` is somebody else's, asked over the same
    link: what tells a dead resolver from names that are in trouble everywhere.

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
    other_resolver: str = ""


@dataclass(frozen=True, slots=True)
class LinkRules:
    """How links are judged; each limit with its reason, read by config.py for range and schema."""

    probe_every_s: float = field(default=0.5, metadata={
        "ge": 0.05, "description": "seconds between probes of one target on an unmetered link"})
    probe_metered_every_s: float = field(default=10.0, metadata={
        "ge": 0.1, "description": "seconds between any two on a metered link that stands by"})
    probe_suspect_every_s: float = field(default=0.2, metadata={
        "ge": 0.05, "description": "the same while a link is suspect, metered or not"})
    probe_timeout_s: float = field(default=0.8, metadata={
        "ge": 0.05, "description": "seconds until a probe without answer counts as missed"})
    likelihood_min: float = field(default=12.0, metadata={
        "ge": 1.0, "description": "fused likelihood, in nats, that a dead link must reach"})
    misses_min: int = field(default=6, metadata={
        "ge": 2, "description": "unanswered probes or requests needed beside the silence"})
    fresh_s: float = field(default=1.5, metadata={
        "ge": 0.2, "description": "silence that means dead until 14 days of gaps are learned"})
    least_s: float = field(default=0.8, metadata={
        "ge": 0.2, "description": "least such silence that may be learned"})
    most_s: float = field(default=5.0, metadata={
        "ge": 0.5, "description": "longest such silence that may be learned"})
    wrong_a_day: float = field(default=0.033, metadata={
        "gt": 0.0, "description": "wrong switches a day that are accepted: one a month"})
    gap_mean_s: float = field(default=0.0, metadata={
        "ge": 0.0, "description": "mean length of gaps set by hand; 0: learned"})
    gaps_a_day: float = field(default=0.0, metadata={
        "ge": 0.0, "description": "gaps a day set by hand; 0: learned"})
    site_jitter_s: float = field(default=0.25, metadata={
        "ge": 0.0, "description": "at most so much is added to the silence, by the device's name, "
        "so that a county does not move in one instant"})
    hold_s: float = field(default=60.0, metadata={
        "ge": 0.0, "description": "seconds a healed link must stay good before it carries traffic"})
    hold_most_s: float = field(default=1800.0, metadata={
        "ge": 0.0, "description": "longest such hold: it doubles with each episode of an hour"})
    hold_echoes: int = field(default=200, metadata={
        "ge": 0, "description": "answers in a hold of 60 s, in proportion in a shorter one"})
    penalty_limit: float = field(default=2500.0, metadata={
        "ge": 1.0, "description": "penalty that suppresses a link; an episode adds 1000"})
    penalty_release: float = field(default=750.0, metadata={
        "ge": 0.0, "description": "penalty below which it is released"})
    penalty_half_s: float = field(default=300.0, metadata={
        "gt": 0.0, "description": "seconds in which the penalty halves"})
    suppressed_most_s: float = field(default=1800.0, metadata={
        "ge": 0.0, "description": "longest suppression"})
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
    echo_late_s: float = field(default=0.15, metadata={
        "ge": 0.02, "description": "least wait until an echo counts as missed; else 4 x RTT95"})
    heal_successes: int = field(default=5, metadata={
        "ge": 1, "description": "successes in a row on a dead link that begin its hold"})
    stall_s: float = field(default=0.1, metadata={
        "ge": 0.02, "description": "delay of our own loop that is a local stall, no link fault"})
    route_retry_s: float = field(default=30.0, metadata={
        "ge": 1.0, "description": "seconds until one request tries a faulty path again"})
    hedge_s: float = field(default=0.25, metadata={
        "ge": 0.01, "description": "wait before a read is hedged while little is measured"})
    hedge_min_s: float = field(default=0.12, metadata={
        "ge": 0.01, "description": "least wait before a hedge, however fast the path"})
    hedge_max_s: float = field(default=1.0, metadata={
        "ge": 0.05, "description": "longest wait before a hedge, however slow the path"})
    hedge_suspect_s: float = field(default=0.08, metadata={
        "ge": 0.01, "description": "wait before a hedge while the link is suspect"})


# fmt: off
TURNS: Final[dict[LinkState, dict[News, LinkState]]] = {
    "UNKNOWN":     {"HEARD": "VALIDATING", "NEEDED": "UP", "DEAD": "DOWN",
                    "FOREIGN": "QUARANTINED", "DRAIN": "DRAINING"},
    "VALIDATING":  {"MISSED": "VALIDATING", "VALIDATED": "UP", "NEEDED": "UP", "DEAD": "DOWN",
                    "FOREIGN": "QUARANTINED", "DRAIN": "DRAINING"},
    "UP":          {"MISSED": "SUSPECT", "COSTLY": "IMPAIRED", "DEAD": "DOWN",
                    "FOREIGN": "QUARANTINED", "ROLLED_BACK": "PROBATION", "DAMPED": "SUPPRESSED",
                    "DRAIN": "DRAINING"},
    "SUSPECT":     {"MISSED": "SUSPECT", "QUIET": "UP", "DEAD": "DOWN",
                    "FOREIGN": "QUARANTINED", "ROLLED_BACK": "PROBATION", "DRAIN": "DRAINING"},
    "IMPAIRED":    {"MISSED": "SUSPECT", "MENDED": "UP", "DEAD": "DOWN",
                    "FOREIGN": "QUARANTINED", "ROLLED_BACK": "PROBATION", "DRAIN": "DRAINING"},
    "DOWN":        {"HEALED": "PROBATION", "NEEDED": "UP", "FOREIGN": "QUARANTINED"},
    "PROBATION":   {"MISSED": "PROBATION", "DEAD": "DOWN", "HELD": "UP", "NEEDED": "UP",
                    "FOREIGN": "QUARANTINED", "DAMPED": "SUPPRESSED", "DRAIN": "DRAINING"},
    "QUARANTINED": {"OURS": "PROBATION"},
    "DRAINING":    {"MISSED": "DRAINING", "DEAD": "DOWN", "FOREIGN": "QUARANTINED",
                    "RELEASED": "PROBATION"},
    "SUPPRESSED":  {"MISSED": "SUPPRESSED", "DEAD": "DOWN", "CALMED": "PROBATION",
                    "FOREIGN": "QUARANTINED", "DRAIN": "DRAINING"},
}
# fmt: on
SOILING: Final[frozenset[News]] = frozenset({
    "MISSED", "DEAD", "FOREIGN", "OURS", "HEALED", "NEEDED", "RELEASED", "ROLLED_BACK"})
"""News that begin the count of clean time anew."""

EPISODE: Final[frozenset[News]] = frozenset({"DEAD", "FOREIGN", "ROLLED_BACK"})
"""News by which an absence of success begins: counted once, however many samples made it."""

EPISODE_PENALTY: Final = 1000.0
EPISODES_S: Final = 3600.0
EPISODES_MAX: Final = 16
"""Episodes remembered: after nine the hold has reached its longest anyway."""

CARRIES: Final[frozenset[LinkState]] = frozenset({"UP", "SUSPECT", "IMPAIRED"})
"""States in which a link takes new work. DRAINING and the like only where nothing else can."""

UNPROVED: Final[frozenset[LinkState]] = frozenset({"UNKNOWN", "VALIDATING"})
"""States of a link that carries only if it is all there is."""

STEADY: Final[frozenset[LinkState]] = frozenset({"UP", "IMPAIRED", "SUPPRESSED"})
"""States that make another link's hold binding, and destructive steps allowed (links.md §7)."""

BEGINNING: Final = Mono(0.0)

OUT_OF_USE: Final[frozenset[LinkState]] = frozenset({"DOWN", "PROBATION", "QUARANTINED"})


@dataclass(frozen=True, slots=True)
class LinkMemory:
    """All that hysteresis remembers of one link.

    ``clean_since`` dates the end of the last time something was overdue; hold and quiet count
    from there. ``cause`` is the verdict that last took it out of use, or ``MAINTENANCE``, kept
    until it is UP again: why traffic is elsewhere. ``epoch`` is raised when it leaves DOWN.
    ``episodes`` dates those of the last hour, ``penalty`` was true at ``penalty_at``.
    """

    link: str
    since: Mono
    clean_since: Mono
    state: LinkState = "UNKNOWN"
    cause: str = ""
    epoch: int = 0
    episodes: tuple[Mono, ...] = ()
    penalty: float = 0.0
    penalty_at: Mono = BEGINNING

    def penalty_now(self, rules: LinkRules, now: Mono) -> float:
        """The penalty as it has decayed by ``now``."""
        return float(self.penalty * 0.5 ** ((now - self.penalty_at) / rules.penalty_half_s))

    def hold_s(self, rules: LinkRules, now: Mono) -> float:
        """The hold that binds now: it doubles with each earlier episode of the last hour."""
        recent = sum(now - at < EPISODES_S for at in self.episodes)
        return float(min(rules.hold_s * 2.0 ** max(0, recent - 1),
                         max(rules.hold_most_s, rules.hold_s)))


def resumed(link: str, state: str, cause: str, now: Mono) -> LinkMemory:
    """Return how a link begins that was in ``state`` when the process ended.

    One that was out of use begins so: nothing waits for it, and its first success mends that
    at once where no other link can be used; but who was quarantined must prove himself. Any other
    begins UNKNOWN.
    """
    if state in ("DOWN", "PROBATION", "SUPPRESSED"):
        return LinkMemory(link, now, now, "DOWN", cause)
    if state == "QUARANTINED":
        return LinkMemory(link, now, now, "QUARANTINED", cause)
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


def turn(memory: LinkMemory, news: News, cause: str, now: Mono,
         rules: LinkRules | None = None) -> LinkMemory:
    """Return ``memory`` after ``news``; ``cause`` is kept where the news takes the link out of use.

    An episode is counted when a link that worked stops working; one that ends a probation within
    its hold is still the same one. ``rules`` (default: the defaults) give the penalty's decay.

    Raises:
        ImpossibleTurn: TURNS has no row for ``news`` in this state.
    """
    after = TURNS[memory.state].get(news)
    if after is None:
        raise ImpossibleTurn(f"link {memory.link}", memory.state, news)
    since = memory.since if after == memory.state else now
    clean = now if news in SOILING else memory.clean_since
    if news in EPISODE and memory.state not in ("UNKNOWN", "VALIDATING", "PROBATION"):
        memory = _counted(memory, rules or LinkRules(), now)
    epoch = memory.epoch + (memory.state in ("DOWN", "QUARANTINED") and after != memory.state)
    if news in ("DEAD", "DRAIN", "FOREIGN", "ROLLED_BACK"):
        return replace(memory, state=after, since=since, clean_since=clean, cause=cause,
                       epoch=epoch)
    kept = "" if after == "UP" else memory.cause
    return replace(memory, state=after, since=since, clean_since=clean, cause=kept, epoch=epoch)


def _counted(memory: LinkMemory, rules: LinkRules, now: Mono) -> LinkMemory:
    recent = tuple(at for at in memory.episodes if now - at < EPISODES_S)
    return replace(memory, episodes=(*recent, now)[-EPISODES_MAX:],
                   penalty=memory.penalty_now(rules, now) + EPISODE_PENALTY, penalty_at=now)


class Reading(NamedTuple):
    """What the samples of one link say at one moment (made by ``core/verdict.py``).

    ``heard`` is the last success, ``in_row`` how many came since the last miss. ``overdue`` tells
    that something asked since is late; ``dead`` is the verdict against the link, ``""`` if none.
    ``likelihood`` is S, ``age_s`` the silence that was needed. ``signed`` is the last good answer
    of the kind that nobody can forge (an echo, where the link has any), ``pinned`` the last
    handshake that showed the right certificate. ``valid``: each kind of probe that the link has
    succeeded since the state began. ``good_hold``: where a hold is over, it saw enough answers, few
    enough lost and quick enough.
    """

    heard: Mono | None = None
    in_row: int = 0
    overdue: bool = False
    silence_s: float = 0.0
    unanswered: int = 0
    targets: int = 0
    dead: str = ""
    likelihood: float = 0.0
    age_s: float = 0.0
    signed: Mono | None = None
    pinned: Mono | None = None
    valid: bool = True
    good_hold: bool = True
    gap: bool = False
    """A silence of A*, whatever else is missing to call it death: it ends a probation."""
    lost: tuple[Mono, ...] = ()
    """When the unanswered were sent, in order: what a gap's length is made of."""


FOREIGNERS: Final = frozenset({"CAPTIVE", "TLS_INTERCEPT"})


class Circumstances(NamedTuple):
    """What is known beside a link's own samples when it is judged.

    ``windowed``: a maintenance window binds it. ``alone``: no other link is steady (``STEADY``).
    ``costly``: another link serves some class better. ``locked``: it carries nothing before the end
    of a window, or before a readiness run, while another link does. ``may_pin``: the link has a
    probe that can show a pinned certificate. ``rolled_back``: its ramp was rolled back.
    ``unproven``: an upstream whose canary another link brings has not been reached over this one
    since its probation began.
    """

    windowed: bool = False
    alone: bool = False
    costly: bool = False
    locked: bool = False
    may_pin: bool = False
    rolled_back: bool = False
    unproven: bool = False


def news_of(memory: LinkMemory, reading: Reading, around: Circumstances, rules: LinkRules,
            now: Mono) -> News | None:
    """Return what ``reading`` means to a link in this state, or None where it means nothing new.

    The first that applies wins: death, need, maintenance, the miss, then the good news.
    """
    state = memory.state
    possible = TURNS[state]
    bad = _bad_news(memory, reading, around, rules, now)
    if bad is not None:
        return bad if bad in possible else None
    if _is_needed(memory, reading, around):
        return "NEEDED"
    if around.windowed and "DRAIN" in possible:
        return "DRAIN"
    if reading.overdue and "MISSED" in possible and not _is_lone(memory, reading):
        return "MISSED"
    if reading.heard is None or reading.overdue:
        return None
    return _good_news(memory, reading, around, rules, now)


def still_until(memory: LinkMemory, rules: LinkRules, now: Mono) -> float:
    """Return until when time alone brings a link in this state no news, if nothing is late."""
    match memory.state:
        case "UP":
            return math.inf
        case "SUSPECT":
            return memory.clean_since + rules.quiet_s
        case "PROBATION":  # what doubles the hold is forgotten after an hour
            forgotten = (at + EPISODES_S for at in memory.episodes if now - at < EPISODES_S)
            return min(memory.clean_since + memory.hold_s(rules, now), *forgotten, math.inf)
    return now


def _is_lone(memory: LinkMemory, reading: Reading) -> bool:
    """Whether all that is missed in a hold is one question: its share of losses judges that
    (``good_hold``). Were it to begin the hold anew, 0.5 % of loss would make it last an hour."""
    return memory.state == "PROBATION" and reading.unanswered < 2


def _bad_news(memory: LinkMemory, reading: Reading, around: Circumstances, rules: LinkRules,
              now: Mono) -> News | None:
    if reading.dead:
        return "FOREIGN" if reading.dead in FOREIGNERS else "DEAD"
    if memory.state == "PROBATION" and reading.gap:
        return "DEAD"
    if around.rolled_back and memory.state in CARRIES:
        return "ROLLED_BACK"
    damped = memory.penalty_now(rules, now) >= rules.penalty_limit
    return "DAMPED" if damped and not around.alone and "DAMPED" in TURNS[memory.state] else None


def _is_needed(memory: LinkMemory, reading: Reading, around: Circumstances) -> bool:
    """A signed answer since the state began, while no other link is steady.

    Not for one that is suspect, which carries as it is, or draining, which is used where it must.
    """
    if not around.alone or "NEEDED" not in TURNS[memory.state]:
        return False
    return reading.signed is not None and reading.signed > memory.since and not reading.overdue


def _good_news(memory: LinkMemory, reading: Reading, around: Circumstances, rules: LinkRules,
               now: Mono) -> News | None:
    heard = reading.heard or Mono(0.0)
    fresh = heard > memory.since
    clean_s = now - memory.clean_since
    match memory.state:
        case "UNKNOWN":
            return "HEARD"
        case "VALIDATING":
            late = around.locked and not around.alone  # distrust outlives a restart
            return "VALIDATED" if reading.valid and not late else None
        case "UP":
            return "COSTLY" if around.costly else None
        case "SUSPECT":
            return "QUIET" if clean_s >= rules.quiet_s else None
        case "IMPAIRED":
            return None if around.costly else "MENDED"
        case "DOWN":
            return "HEALED" if fresh and reading.in_row >= rules.heal_successes else None
        case "PROBATION":
            held = clean_s >= memory.hold_s(rules, now) and reading.good_hold
            return "HELD" if held and not around.locked and not around.unproven else None
        case "QUARANTINED":
            signed = reading.signed is not None and reading.signed > memory.since
            pinned = reading.pinned is not None and reading.pinned > memory.since
            return "OURS" if signed and (pinned or not around.may_pin) else None
        case "DRAINING":
            return "RELEASED" if not around.windowed and fresh else None
        case "SUPPRESSED":
            calm = memory.penalty_now(rules, now) < rules.penalty_release
            return "CALMED" if calm or now - memory.since >= rules.suppressed_most_s else None
