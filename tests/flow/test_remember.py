"""What was learned is written now and then, and at the end."""

import asyncio

from gateway.flow.remember import EVERY_S, remember
from tests.kit.clock import SimClock


async def test_it_writes_every_quarter_of_an_hour_and_when_it_is_stopped() -> None:
    clock, written = SimClock(), []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(remember(lambda: written.append(clock.now()), clock))
        await clock.advance(3 * EVERY_S + 1.0)
        assert len(written) == 3
        task.cancel()
        await clock.advance(0.0)
    assert len(written) == 4
