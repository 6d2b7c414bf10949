"""How long a link may be silent before that means something: learned per link, kept over restarts.

A *gap* is a silence that healed by itself. From the gaps of the last 14 days come their mean
length ``m`` and their daily count ``R``, and from these the silence that will be exceeded by
chance once in 1/eps days: ``A* = m ln(R / eps)``, between 0.8 and 5 s (links.md section 5). This
is the phi-accrual idea in units that an operator can audit.

Rule 1: a gap is seen through questions a while apart. So only its *tail* is measured: from the
        first question that was lost ``TAIL_S`` after the first of all. An exponential forgets, so
        the tail has the mean ``m`` of the whole; and losing two or three questions in turn is no
        work of chance, while at 0.5 % loss a lone one is lost 1,700 times a day, which would pass
        for as many short gaps.
Rule 2: the tail lies between the last question lost and the first answered. Through a comb of
        width w the number of teeth lost has the geometric law, whence ``m = w / ln(1 + w / mean
        of what was lost)``. What was measured, taken as the length, would make 0.1 s look twice
        as long. A tail longer than ``CUT_S`` counts up to there and as not ended, so that one
        outage teaches little.
Rule 3: how often a tail is seen gives how often there are gaps: R is the count of tails times
        ``exp(where they begin / m)``, over the share of gaps that meet a question at all.
Rule 4: where long gaps are commoner than an exponential has them, the empirical quantile rules.
Rule 5: nothing here reads a clock. A day is 86,400 s in which the link was watched.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

DAYS: Final = 14
"""Days that are remembered; until they are full ``fresh_s`` rules."""

DAY_S: Final = 86_400.0

GAP_MAX_S: Final = 6.0
"""A silence longer than this is an outage: no age that may be learned would have waited for it."""

TAIL_S: Final = 0.3
"""Where a tail begins: one question of a calm link (0.25 s) and a tenth later than the first."""

CUT_S: Final = 1.5
"""Where a tail is cut (type I censoring): for m = 0.4 s 2 % of them are."""

APART_S: Final = 10.0
"""Of tails nearer together than this only the first is learned: ten minutes of flapping are one
bad morning and not the way a link lives (200 gaps a day at random lose one in fifty by it)."""

BEYOND_MIN: Final = 3
"""Gaps beyond the age in 14 days that show a longer tail: an exponential has 0.46 of them, three
or more in one link of eighty."""

EDGES_S: Final[tuple[float, ...]] = tuple(round(0.05 * 1.25 ** n, 3) for n in range(30))
"""Upper edges of the histogram of lengths, 0.05 to 32 s: the quantile is known within 25 %."""

WIDTH_MIN_S: Final = 0.005
SEEN_MIN: Final = 0.05
"""Of gaps on a link that is asked each ten seconds few are ever met; their number is a guess."""

RATIO_MAX: Final = 20.0
"""Of gaps so short that one in exp(20) has a tail nothing is known but that they harm nobody."""

A_DAY_MAX: Final = 86_400.0
INTERVAL_MIN_S: Final = 0.001
INTERVAL_MAX_S: Final = 60.0

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
    """One day of gaps: all (``gaps``, their lengths by ``EDGES_S``), and the tails of the longer
    ones: how many, how many ended within ``CUT_S``, and sums of where they began, of what was
    lost up to there, and of the uncertain rest."""

    watched_s: float = 0.0
    gaps: int = 0
    tails: int = 0
    ended: int = 0
    from_s: float = 0.0
    lost_s: float = 0.0
    width_s: float = 0.0
    lengths: tuple[int, ...] = (0,) * len(EDGES_S)


@dataclass(frozen=True, slots=True)
class Learned:
    """What one link's past says: days (the last one under way) and its everyday loss."""

    days: tuple[Day, ...] = (Day(),)
    loss: float = 0.005
    interval_s: float = 0.25
    """Usual time between two signs of life: a gap that falls between them is never seen."""

    def watched(self, seconds: float, signs: int = 0) -> "Learned":
        """Return this after ``seconds`` more in which the link was watched and not dead, and gave
        so many ``signs`` of life (0: not counted)."""
        last = self.days[-1]
        last = replace(last, watched_s=last.watched_s + max(0.0, seconds))
        days = (*self.days[:-1], last)
        if last.watched_s >= DAY_S:
            days = (*days, Day())[-(DAYS + 1):]
        interval = self.interval_s
        if signs and seconds > 0.0:
            usual = min(max(seconds / signs, INTERVAL_MIN_S), INTERVAL_MAX_S)
            interval += min(1.0, seconds / DAY_S) * (usual - interval)
        return replace(self, days=days, interval_s=interval)

    def gap(self, lost: Sequence[float], healed: float, apart: bool = True) -> "Learned":
        """Return this after a gap that healed by itself.

        ``lost`` is when each question was sent that nobody answered, in order and not empty;
        ``healed`` when the link is known to have carried again. ``apart``: the last gap with a
        tail was long ago (``APART_S``).
        """
        healed = max(healed, lost[-1])
        length = (lost[-1] + healed) / 2 - lost[0]
        if length > GAP_MAX_S:
            return self
        last = self.days[-1]
        at = next((n for n, edge in enumerate(EDGES_S) if length <= edge), len(EDGES_S) - 1)
        lengths = (*last.lengths[:at], last.lengths[at] + 1, *last.lengths[at + 1:])
        last = replace(last, gaps=last.gaps + 1, lengths=lengths)
        begun = tail(lost)
        if begun is not None and apart:
            last = replace(
                last, tails=last.tails + 1, ended=last.ended + (lost[-1] - begun < CUT_S),
                from_s=last.from_s + begun - lost[0],
                lost_s=last.lost_s + min(lost[-1] - begun, CUT_S),
                width_s=last.width_s + healed - lost[-1])
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
    if _beyond(learned, age) >= BEYOND_MIN:
        return Silence(_clamp(max(age, _quantile(learned, rules)), rules), mean, a_day, "quantile")
    return Silence(_clamp(age, rules), mean, a_day, "learned")


def tail(lost: Sequence[float]) -> float | None:
    """Return when the tail of a gap begins (Rule 1), None where it has none."""
    return next((at for at in lost if at - lost[0] >= TAIL_S), None)


def figures(learned: Learned) -> tuple[float, float]:
    """Return (m in seconds, R a day), corrected for the comb they were seen through."""
    tails = sum(day.tails for day in learned.days)
    watched = sum(day.watched_s for day in learned.days)
    if not tails or watched <= 0.0:
        return 0.0, 0.0
    width = max(sum(day.width_s for day in learned.days) / tails, WIDTH_MIN_S)
    # Half a tooth is added once, so that few tails without another loss do not make m nothing.
    lost = sum(day.lost_s for day in learned.days) + width / 2
    ended = max(1, sum(day.ended for day in learned.days))
    begun = sum(day.from_s for day in learned.days) / tails
    mean = width / math.log1p(width * ended / lost)
    seen = (mean / learned.interval_s) * -math.expm1(-learned.interval_s / mean)
    a_day = tails * DAY_S / watched * math.exp(min(begun / mean, RATIO_MAX)) / max(seen, SEEN_MIN)
    return mean, min(a_day, A_DAY_MAX)


def _exponential(mean_s: float, a_day: float, rules: SilenceRules) -> float:
    return mean_s * math.log(max(1.0, a_day / rules.wrong_a_day))


def _beyond(learned: Learned, age_s: float) -> int:
    """How many gaps were longer than ``age_s``, and certainly so."""
    at = next((n for n, edge in enumerate(EDGES_S) if edge >= age_s), len(EDGES_S) - 1)
    return sum(sum(day.lengths[at + 1:]) for day in learned.days)


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
