"""Coming back to a better link: make before break, step by step, and back out at once.

Law (links.md section 10): a link that has passed its hold gets no traffic at a stroke. It waits
for a moment when moving costs little, opens its connections, takes one read in a hundred, then in
ten, then half of them, then all, then bookings, then other writes; only then the backup is
drained, and swept until nothing is left on it.

Rule 1: ``STEPS`` is the whole truth about who goes where in a ramp. Which request is one in a
        hundred is decided by its serial number: no dice, so a story replays.
Rule 2: rolled back at once where the returning link does worse than the backup; never on one slow
        read: the figures say how many it takes.
Rule 3: nothing here delays a failover. A ramp whose backup dies ends: there is nothing to ramp.
Rule 4: routes first, flows second. What is still on the backup when both had their time is an
        alarm, FLOWS_ON_WRONG_LINK.
"""

from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from gateway.core.instant import Mono, Wall
from gateway.core.london import local
from gateway.core.steer import Figures

Stage: TypeAlias = Literal[
    "WAITING",  # healthy backup, busy hour: no hurry
    "WARMING",  # connections are opened on the returning link
    "READS", "BOOKINGS", "WRITES",
    "CLEARING",  # all routes are back; what still runs on the backup gets its time
]
RampReason: TypeAlias = Literal["", "done", "errors", "slow", "lost", "needless"]
"""Why a ramp ended, ``""`` while it goes on. ``lost``: its link left it by its own state;
``needless``: the backup died, so that everything is on the link already."""

STEPS: Final[tuple[tuple[Stage, float], ...]] = (
    ("WAITING", 0.0), ("WARMING", 0.0),
    ("READS", 0.01), ("READS", 0.10), ("READS", 0.50), ("READS", 1.0),
    ("BOOKINGS", 1.0), ("WRITES", 1.0), ("CLEARING", 1.0))
"""The stage, and the share of reads that goes over the returning link in it."""

FIRST_READS: Final = 2
FIRST_BOOKINGS: Final = 6
FIRST_WRITES: Final = 7
LAST: Final = len(STEPS) - 1

GOLDEN: Final = 0.6180339887498949
"""Multiples of it, modulo 1, spread as evenly as can be: one in a hundred is never two in a row."""

WARM_MAX_S: Final = 5.0
"""Connections that are not open by then will be opened by the requests themselves."""


@dataclass(frozen=True, slots=True)
class FailbackRules:
    """How a healed link takes its traffic back."""

    step_s: float = field(default=10.0, metadata={
        "ge": 0.1, "description": "seconds of each step: 1, 10, 50, 100 % of reads, then bookings, "
                                  "then other writes"})
    wait_most_s: float = field(default=1800.0, metadata={
        "ge": 0.0, "description": "longest wait for a quiet minute in surgery hours, while the "
                                  "backup is well and in budget; 0: none"})
    quiet_share: float = field(default=0.5, metadata={
        "ge": 0.0, "le": 1.0, "description": "share of the usual rate of requests that is quiet"})
    surgery_from_h: float = field(default=8.0, metadata={
        "ge": 0.0, "le": 24.0, "description": "hour of the local day, on weekdays, at which "
                                              "waiting begins to pay"})
    surgery_until_h: float = field(default=18.5, metadata={
        "ge": 0.0, "le": 24.0, "description": "hour at which it ends"})
    risk_share: float = field(default=0.01, metadata={
        "ge": 0.0, "le": 1.0, "description": "share of the ramp's reads that a move may cost 3 s "
                                             "each: the price of switching"})
    errors_min: int = field(default=3, metadata={
        "ge": 1, "description": "failed reads of one step that it takes to roll back"})
    error_share: float = field(default=0.001, metadata={
        "ge": 0.0, "description": "share of failed reads beyond the backup's that rolls back"})
    slow_factor: float = field(default=1.5, metadata={
        "ge": 1.0, "description": "times the backup's p95 that rolls back"})
    slow_least_s: float = field(default=0.05, metadata={
        "ge": 0.0, "description": "seconds by which it must be slower at least"})
    slow_samples: int = field(default=40, metadata={
        "ge": 20, "description": "reads on each link that a p95 needs: at 40, two slow ones are "
                                 "not enough"})
    warm_most: int = field(default=8, metadata={
        "ge": 1, "le": 64, "description": "warm connections per tenant and upstream, at most"})
    http_drain_s: float = field(default=30.0, metadata={
        "ge": 1.0, "description": "seconds that requests on the backup get to end"})
    tunnel_drain_s: float = field(default=295.0, metadata={
        "ge": 1.0, "description": "seconds that tunnels on the backup get, then they are reset"})
    tunnel_gap_s: float = field(default=15.0, metadata={
        "ge": 1.0, "description": "seconds without a byte after which one is reset early"})


@dataclass(frozen=True, slots=True)
class Ramp:
    """A link on its way back from ``backup``; ``step`` is a row of STEPS, begun at ``since``.

    ``stayed_s`` is what staying on the backup has cost since ``begun``, in seconds of waiting.
    """

    link: str
    backup: str
    begun: Mono
    since: Mono
    step: int = 0
    stayed_s: float = 0.0

    @property
    def stage(self) -> Stage:
        """Where it stands."""
        return STEPS[self.step][0]

    @property
    def has_begun(self) -> bool:
        """Whether any request goes over the returning link; telemetry follows from here on."""
        return self.step >= FIRST_READS


def share(ramp: Ramp, traffic: str) -> float:
    """Return the share of ``traffic`` (read, booking, write, stream, tunnel) that goes back."""
    first = {"read": FIRST_READS, "booking": FIRST_BOOKINGS}.get(traffic, FIRST_WRITES)
    if ramp.step < first:
        return 0.0
    return STEPS[ramp.step][1]


def takes(ramp: Ramp, traffic: str, serial: int) -> bool:
    """Whether the request numbered ``serial`` goes over the returning link."""
    return (serial * GOLDEN) % 1.0 < share(ramp, traffic)


@dataclass(frozen=True, slots=True)
class Moment:
    """What makes going now better or worse than waiting.

    ``stay_cost`` is seconds of waiting per second: what the backup's quality and price cost.
    Rates are requests a second: of the last minute, and what is usual in this hour.
    """

    in_hours: bool
    backup_is_well: bool
    rate: float
    usual_rate: float
    stay_cost: float = 0.0


def may_begin(ramp: Ramp, moment: Moment, now: Mono, rules: FailbackRules) -> bool:
    """Whether the ramp should begin now.

    In surgery hours, on a backup that is well and in budget, a quiet minute is worth waiting for,
    until staying has cost more than switching may: ``risk_share`` of the reads of the ramp at 3 s.
    """
    if not moment.in_hours or not moment.backup_is_well:
        return True
    if now - ramp.begun >= rules.wait_most_s:
        return True
    if moment.rate <= rules.quiet_share * moment.usual_rate:
        return True
    switch_cost = rules.risk_share * 3.0 * moment.rate * rules.step_s * (LAST - FIRST_READS)
    return ramp.stayed_s > switch_cost


@dataclass(frozen=True, slots=True)
class Trial:
    """What is known of a ramp when it is looked at: reads of this step over the returning link,
    and of the last minutes over the backup. ``troubled``: something is overdue on the returning
    link now, so nothing is added; ``warm``: its connections are open."""

    back: Figures
    backup: Figures
    troubled: bool = False
    warm: bool = True


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The returning link did worse; traffic is on ``ramp.backup`` again. ``reason``: errors, slow,
    lost (the link was judged down)."""

    ramp: Ramp
    reason: Literal["errors", "slow", "lost"]
    at: Mono
    trial: Trial


@dataclass(frozen=True, slots=True)
class Done:
    """All routes are back on ``ramp.link``; the backup is being cleared since ``at``."""

    ramp: Ramp
    at: Mono


def waited(ramp: Ramp, moment: Moment, span_s: float, now: Mono, rules: FailbackRules) -> Ramp:
    """Return a WAITING ramp ``span_s`` later: still waiting, or warming."""
    ramp = replace(ramp, stayed_s=ramp.stayed_s + max(0.0, moment.stay_cost) * span_s)
    if may_begin(ramp, moment, now, rules):
        return replace(ramp, step=1, since=now)
    return ramp


def advance(ramp: Ramp, trial: Trial, now: Mono, rules: FailbackRules) -> Ramp | RolledBack | Done:
    """Return what becomes of a ramp that is past WAITING; ask several times a second."""
    if ramp.stage == "WARMING":
        ready = trial.warm or now - ramp.since >= WARM_MAX_S
        return replace(ramp, step=FIRST_READS, since=now) if ready else ramp
    reason = _worse(trial, rules)
    if reason is not None:
        return RolledBack(ramp, reason, now, trial)
    if trial.troubled:
        return replace(ramp, since=now)
    if now - ramp.since < rules.step_s:
        return ramp
    after = replace(ramp, step=ramp.step + 1, since=now)
    return Done(after, now) if after.step == LAST else after


def _worse(trial: Trial, rules: FailbackRules) -> Literal["errors", "slow"] | None:
    back, backup = trial.back, trial.backup
    if back.fails >= rules.errors_min and (
            back.fail_share > backup.fail_share + rules.error_share):
        return "errors"
    if min(back.n - back.fails, backup.n - backup.fails) >= rules.slow_samples and (
            back.p95_s > backup.p95_s * rules.slow_factor
            and back.p95_s - backup.p95_s >= rules.slow_least_s):
        return "slow"
    return None


@dataclass(frozen=True, slots=True)
class Flows:
    """What is on one link: requests sent before its clearing began, idle connections beyond the
    declared warm ones, tunnels."""

    requests: int = 0
    idle: int = 0
    tunnels: int = 0


@dataclass(frozen=True, slots=True)
class Clearing:
    """A backup whose traffic has gone back, ``since`` when; ``wrong`` is its last count of flows
    that should not be there, ``clean_at`` when that was 0 first, ``alarmed`` since when not."""

    link: str
    since: Mono
    wrong: int = 0
    clean_at: Mono | None = None
    alarmed: Mono | None = None


TunnelEnd: TypeAlias = Literal["none", "idle", "all"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to do about a link now: which tunnels to reset. Idle connections are always trimmed."""

    clearing: Clearing
    tunnels: TunnelEnd


def sweep(clearing: Clearing, flows: Flows, now: Mono, rules: FailbackRules) -> Sweep:
    """Return what follows from the ``flows`` counted on a link that should carry nothing.

    HTTP has ``http_drain_s`` and as much again before it is an alarm (60 s); tunnels have
    ``tunnel_drain_s``, are reset then, and are an alarm if any is left at the next look but one.
    """
    spent = now - clearing.since
    late = ((flows.requests + flows.idle) if spent >= 2.0 * rules.http_drain_s else 0) + (
        flows.tunnels if spent >= rules.tunnel_drain_s + rules.tunnel_gap_s else 0)
    wrong = flows.requests + flows.idle + flows.tunnels
    clean = clearing.clean_at
    if wrong == 0 and clean is None:
        clean = now
    alarmed = None if not late else clearing.alarmed if clearing.alarmed is not None else now
    ends: TunnelEnd = "none"
    if flows.tunnels:
        ends = "all" if spent >= rules.tunnel_drain_s else "idle"
    return Sweep(replace(clearing, wrong=wrong, clean_at=clean, alarmed=alarmed), ends)


def is_surgery(wall: Wall, rules: FailbackRules) -> bool:
    """Whether ``wall`` falls into surgery hours in the United Kingdom, by its summer time rule."""
    now = local(wall)
    hour = now.hour + now.minute / 60.0
    return now.weekday() < 5 and rules.surgery_from_h <= hour < rules.surgery_until_h
