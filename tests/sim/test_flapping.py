"""An hour of flapping on virtual time: the hold, the penalty and the ramp together.

Failover is never damped; coming back is, by hold and penalty (``core/link.py``) and then by the
ramp (``core/failback.py``), which takes nothing of a link that breaks again while it waits.
"""

import pytest

from chaos.weather import Flap
from gateway.core.course import RampTold
from gateway.core.route import Switched
from tests.sim.watched import Watched, watched

HOUR_S = 3600.0


def failbacks(it: Watched) -> int:
    """How often the flapping link became the active one again."""
    return sum(isinstance(each, Switched) and (each.before, each.after) == ("sim", "fibre")
               for each in it.told)


@pytest.mark.parametrize(("down_s", "up_s", "most"), [
    (2.0, 2.0, 0),  # the acceptance's: at most 2; it never passes a hold of 60 s
    (5.0, 63.0, 2)])  # it breaks again each time just after the first hold
async def test_an_hour_of_flapping_brings_two_failbacks_at_most(
        down_s: float, up_s: float, most: int) -> None:
    async with watched() as it:
        await it.world.apply(Flap("fibre", down_s, up_s))
        await it.clock.advance(HOUR_S)

        assert failbacks(it) <= most
        assert it.turns("sim") == ["VALIDATING", "UP"] or it.turns("sim") == ["UP"]
        assert not any(isinstance(each, RampTold) and each.reason == "done" for each in it.told)
        assert it.board.standing("B81001", "gpc").links[0] == "sim"


async def test_a_link_that_comes_back_for_longer_than_its_hold_is_held_longer_each_time() -> None:
    """Up for three minutes: longer than the second hold, 120 s, and shorter than the third. Without
    the doubling it comes back until the penalty holds it: four times an hour."""
    async with watched() as it:
        await it.world.apply(Flap("fibre", 5.0, 180.0))
        await it.clock.advance(HOUR_S)

        assert 1 <= failbacks(it) <= 2
        assert it.board.standing("B81001", "gpc").links[0] == "sim"
