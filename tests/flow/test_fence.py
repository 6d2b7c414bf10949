"""The fence of auxiliary loops: begun again, more slowly each time, and shown."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.core.instant import Mono
from gateway.flow.fence import HEALED_S, PAUSE_MOST_S, Fences
from tests.kit.clock import SimClock


@dataclass
class Loop:
    clock: SimClock
    well_s: float = 0.0
    began: list[Mono] = field(default_factory=list)

    async def run(self) -> None:
        self.began.append(self.clock.now())
        await self.clock.sleep(self.well_s)
        async with asyncio.TaskGroup():
            raise KeyError("nobody foresaw this")


async def test_a_loop_that_breaks_is_begun_again_more_slowly_each_time() -> None:
    clock = SimClock()
    fences, loop = Fences(clock), Loop(clock)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(fences.run("canaries", loop.run))
        await clock.advance(2000.0)
        task.cancel()
    pauses = [round(later - earlier, 1) for earlier, later in
              zip(loop.began, loop.began[1:], strict=False)]
    assert pauses[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert max(pauses) == PAUSE_MOST_S
    broken, = fences.view()
    assert (broken.loop, broken.times, broken.kind) == ("canaries", len(loop.began), "KeyError")


async def test_one_that_ran_well_for_long_begins_with_a_short_pause_and_is_not_shown() -> None:
    clock = SimClock()
    fences, loop = Fences(clock), Loop(clock, well_s=HEALED_S + 1)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(fences.run("names", loop.run))
        await clock.advance(3 * (HEALED_S + 3))
        assert [each.times for each in fences.view()] == [1]
        loop.well_s = 1e6
        await clock.advance(HEALED_S + PAUSE_MOST_S + HEALED_S)
        assert fences.view() == ()
        task.cancel()


async def test_a_loop_that_returns_or_is_cancelled_is_let_go() -> None:
    clock = SimClock()
    fences = Fences(clock)

    async def done() -> None:
        return

    await fences.run("names", done)
    task = asyncio.ensure_future(fences.run("x", lambda: clock.sleep(100.0)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fences.view() == ()
