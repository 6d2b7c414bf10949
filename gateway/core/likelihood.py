"""How strongly what was missed speaks: the fused likelihood of a death, and sums for brown-outs.

``S`` adds log-likelihood ratios in nats. A miss is worth ``ln(0.99 / p0)`` where ``p0`` is the
link's everyday loss (fibre 0.5 %: 5.3; 4G 3 %: 3.5); a success takes back ``ln(0.995 / 0.01)``.
Loss comes in bursts, so a miss within one burst of the one before counts 0.3 (links.md section 5).

Brown-outs are found by CUSUM (Page, Biometrika 41, 1954): a sum of log-likelihood ratios that
never falls below zero. It reaches its limit soon after the law has changed, and seldom before.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

SUCCESS: Final = math.log(0.995 / 0.01)
BURST_SHARE: Final = 0.3
BURST_LEAST_S: Final = 0.1

WINDOW_PRIOR: Final = math.log(100.0)
"""Added inside an announced window: work on a link makes its death a hundred times likelier."""

LOSS_BROWN: Final = 0.10
"""The loss that the sum looks for: between 5 %, found in seconds, and 20 %, found at once."""

LOSS_LIMIT: Final = 8.0
"""Three misses close together: at 0.5 % loss chance makes them about once an hour of echoes."""
RTT_LIMIT: Final = 3.0
USUAL_MAX: Final = 1.6
RTT_DRIFT: Final = math.log(USUAL_MAX)
"""Round trips up to 1.6 times the usual are everyday; three times it is found in six echoes."""
RTT_STEP_MAX: Final = 1.0
SUM_MAX: Final = 12.0
"""Sums stop growing here, so that a long brown-out is over soon after it ends."""


def miss_weight(loss: float) -> float:
    """Return what one miss is worth on a link whose everyday loss is ``loss``."""
    return math.log(0.99 / min(max(loss, 1e-4), 0.5))


def likelihood(sent: Iterable[float], loss: float, burst_s: float, carried: float = 0.0) -> float:
    """Return S of misses that were ``sent`` (seconds, ascending); ``carried`` is from before."""
    weight, total = miss_weight(loss), carried
    near, last = max(burst_s, BURST_LEAST_S), -math.inf
    for at in sent:
        total += weight if at - last > near else BURST_SHARE * weight
        last = at
    return total


def after_success(total: float, successes: int = 1) -> float:
    """Return S after ``successes`` more answers; it never falls below zero."""
    return max(0.0, total - successes * SUCCESS)


@dataclass(frozen=True, slots=True)
class Sums:
    """The two CUSUMs of one link. ``missed_last`` ties the misses of one burst together."""

    loss: float = 0.0
    rtt: float = 0.0
    missed_last: bool = False

    @property
    def is_brown(self) -> bool:
        """Whether either sum has reached its limit."""
        return self.loss >= LOSS_LIMIT or self.rtt >= RTT_LIMIT

    @property
    def is_clear(self) -> bool:
        """Whether both are low again: half the limit, so that a verdict does not flutter."""
        return self.loss < LOSS_LIMIT / 2 and self.rtt < RTT_LIMIT / 2

    def missed(self, loss: float) -> "Sums":
        """Return them after a miss. Of misses with no success between them only the first counts:
        a burst that swallows everything is a silence, and judged as one."""
        if self.missed_last:
            return self
        step = math.log(LOSS_BROWN / min(max(loss, 1e-4), LOSS_BROWN / 2))
        return replace(self, loss=min(SUM_MAX, self.loss + step), missed_last=True)

    def answered(self, loss: float, times_usual: float | None = None) -> "Sums":
        """Return them after an answer that took ``times_usual`` times the usual round trip."""
        if not (self.loss or self.rtt or self.missed_last) and (
                times_usual is None or times_usual <= USUAL_MAX):
            return self  # as nearly all answers on nearly all days: nothing to take back
        good, rtt = _good(loss), self.rtt
        if times_usual is not None and times_usual > 0.0:
            step = min(RTT_STEP_MAX, math.log(times_usual) - RTT_DRIFT)
            rtt = min(SUM_MAX, max(0.0, rtt + step))
        return Sums(max(0.0, self.loss + good), rtt, False)

    def quiet(self, loss: float, answers: int) -> "Sums":
        """Return them after ``answers`` that took as long as usual."""
        if not answers:
            return self
        return Sums(max(0.0, self.loss + answers * _good(loss)),
                    max(0.0, self.rtt - answers * RTT_DRIFT), False)


def _good(loss: float) -> float:
    """What one answer adds to the sum of losses: a little less than nothing."""
    p0 = min(max(loss, 1e-4), LOSS_BROWN / 2)
    return math.log((1.0 - LOSS_BROWN) / (1.0 - p0))
