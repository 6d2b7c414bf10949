"""How long a link may be silent before that means something: learned per link, kept over restarts.

A *gap* is a silence that healed by itself. From the gaps of the last 14 days come their mean
length ``m`` and their daily count ``R``, and from these the silence that will be exceeded by
chance once in 1/eps days: ``A* = m ln(R / eps)``, between 0.8 and 5 s (links.md section 5). This
is the phi-accrual idea in units that an operator can audit.

Rule 1: a gap is seen through questions a while apart, so its length lies between two bounds: the
        last unanswered question less the first (``low``), and the next answered one less the
        first. For exponential gaps seen through a comb of width w, ``low`` is a whole number of
        widths with the geometric law, whence ``m = w / ln(1 + w / mean low)``; taking what was
        measured as the length would make 0.1 s gaps look twice as long.
Rule 2: a gap shorter than the comb is often missed; R is corrected by the share that is seen.
Rule 3: where long gaps are commoner than an exponential has them, the empirical quantile rules.
Rule 4: nothing here reads a clock. A day is 86,400 s in which the link was watched.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Final

DAYS: Final = 14
"""Days that are remembered; until they are full ``fresh_s`` rules."""

DAY_S: Final = 86_400.0

GAP_MAX_S: Final = 30.0
"""A silence longer than this is an outage, not a gap that the link lives with."""

EDGES_S: Final[tuple[float, ...]] = tuple(round(0.05 * 1.25 ** n, 3) for n in range(30))
"""Upper edges of the histogram of lengths, 0.05 to 32 s: the quantile is known within 25 %."""

LOSS_MIN: Final = 0.002
LOSS_MAX: Final = 0.2
LOSS_MEMORY: Final = 20_000.0
"""Echoes over which the loss of a link is averaged: an hour and a half at four a second."""


@dataclass(frozen=True, slots=True)
class SilenceRules:
    """How the silence age is set. ``gap_mean_s`` and ``gaps_a_day``, both above 0, set m and R."""

    fresh_s: float = field(default=1.5, metadata={
        "ge": 0.2, "description": "silence that means dead until 14 days are learned"})
    least_s: float = field(default=0.8, metadata={
        "ge": 0.2, "description": "least such silence, however quiet the link"})
    most_s: float = field(default=5.0, metadata={
        "ge": 0.5, "description": "longest such silence, however bursty the link"})
    wrong_a_day: float = field(default=0.033, metadata={
        "gt": 0.0, "description": "wrong switches a day that are accepted: one a month"})
    gap_mean_s: float = field(default=0.0, metadata={
        "ge": 0.0, "description": "mean gap set by hand; 0 with gaps_a_day 0: learned"})
    gaps_a_day: float = field(default=0.0, metadata={
        "ge": 0.0, "description": "gaps a day set by hand"})


@dataclass(frozen=True, slots=True)
class Day:
    """One day of gaps: their count, sums of ``low`` and of widths, and lengths by ``EDGES_S``."""

    watched_s: float = 0.0
    gaps: int = 0
    low_s: float = 0.0
    width_s: float = 0.0
    lengths: tuple[int, ...] = (0,) * len(EDGES_S)


@dataclass(frozen=True, slots=True)
class Learned:
    """What one link's past says: days (the last one under way) and its everyday loss."""

    days: tuple[Day, ...] = (Day(),)
    loss: float = 0.005
    interval_s: float = 0.25
    """Usual time between two questions: what the comb of Rule 2 is made of."""

    def watched(self, seconds: float) -> "Learned":
        """Return this after ``seconds`` more in which the link was watched and not dead."""
        last = self.days[-1]
        last = replace(last, watched_s=last.watched_s + max(0.0, seconds))
        days = (*self.days[:-1], last)
        if last.watched_s >= DAY_S:
            days = (*days, Day())[-(DAYS + 1):]
        return replace(self, days=days)

    def gap(self, low_s: float, width_s: float) -> "Learned":
        """Return this after a gap that healed by itself: ``low_s`` to ``low_s + width_s`` long."""
        length = low_s + width_s / 2
        if length > GAP_MAX_S:
            return self
        last = self.days[-1]
        at = next((n for n, edge in enumerate(EDGES_S) if length <= edge), len(EDGES_S) - 1)
        lengths = (*last.lengths[:at], last.lengths[at] + 1, *last.lengths[at + 1:])
        last = Day(last.watched_s, last.gaps + 1, last.low_s + low_s, last.width_s + width_s,
                   lengths)
        return replace(self, days=(*self.days[:-1], last))

    def asked(self, lost: int, of: int) -> "Learned":
        """Return this after ``of`` everyday echoes of which ``lost`` were missed."""
        weight = min(1.0, of / LOSS_MEMORY)
        share = lost / of if of else self.loss
        loss = self.loss + weight * (share - self.loss)
        return replace(self, loss=min(LOSS_MAX, max(LOSS_MIN, loss)))

    @property
    def is_full(self) -> bool:
        """Whether 14 whole days are known."""
        return sum(day.watched_s >= DAY_S for day in self.days) >= DAYS


@dataclass(frozen=True, slots=True)
class Silence:
    """The silence age of one link and where it comes from: ``mean_s`` m, ``a_day`` R.

    ``source`` is ``fresh``, ``learned``, ``quantile`` or ``config``.
    """

    age_s: float
    mean_s: float
    a_day: float
    source: str


def silence(learned: Learned, rules: SilenceRules) -> Silence:
    """Return the silence age A* that ``learned`` gives under ``rules``."""
    if rules.gap_mean_s > 0.0 and rules.gaps_a_day > 0.0:
        age = _exponential(rules.gap_mean_s, rules.gaps_a_day, rules)
        return Silence(_clamp(age, rules), rules.gap_mean_s, rules.gaps_a_day, "config")
    mean, a_day = figures(learned)
    if not learned.is_full:
        return Silence(_clamp(rules.fresh_s, rules), mean, a_day, "fresh")
    age = _exponential(mean, a_day, rules)
    tail = _quantile(learned, rules)
    if tail > age:
        return Silence(_clamp(tail, rules), mean, a_day, "quantile")
    return Silence(_clamp(age, rules), mean, a_day, "learned")


def figures(learned: Learned) -> tuple[float, float]:
    """Return (m in seconds, R a day), corrected for the comb they were seen through."""
    gaps = sum(day.gaps for day in learned.days)
    watched = sum(day.watched_s for day in learned.days)
    if not gaps or watched < 1.0:
        return 0.0, 0.0
    width = sum(day.width_s for day in learned.days) / gaps
    low = sum(day.low_s for day in learned.days) / gaps
    mean = width / math.log1p(width / low) if low > 0.0 and width > 0.0 else max(low, width / 4)
    seen = (mean / learned.interval_s) * -math.expm1(-learned.interval_s / mean) if mean else 1.0
    return mean, gaps / max(seen, 0.05) * DAY_S / watched


def _exponential(mean_s: float, a_day: float, rules: SilenceRules) -> float:
    return mean_s * math.log(max(1.0, a_day / rules.wrong_a_day))


def _quantile(learned: Learned, rules: SilenceRules) -> float:
    """The length that gaps exceed ``wrong_a_day`` times a day, as they were counted; 0 if none."""
    watched = sum(day.watched_s for day in learned.days) / DAY_S
    allowed = rules.wrong_a_day * watched
    beyond = 0
    for at in range(len(EDGES_S) - 1, -1, -1):
        beyond += sum(day.lengths[at] for day in learned.days)
        if beyond > allowed:
            return EDGES_S[at]
    return 0.0


def _clamp(age_s: float, rules: SilenceRules) -> float:
    return min(max(age_s, rules.least_s), rules.most_s)
