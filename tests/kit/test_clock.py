"""SimClock keeps its law: time stands still while anything runs; ties go by arrival."""

import asyncio

import pytest

from tests.kit.clock import Deadlock, SimClock


async def test_sleepers_wake_in_order_of_due_time_and_ties_by_arrival() -> None:
    clock = SimClock()
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(f"{name}@{clock.now() - 1000.0:g}")

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
            group.create_task(sleeper(name, seconds))
        await clock.advance(3.0)

    assert woken == ["first@1", "second@1", "late@2"]
    assert clock.now() == 1003.0


async def test_an_hour_of_half_second_steps_passes_in_order() -> None:
    clock = SimClock()

    async def tick() -> int:
        for _ in range(7200):
            await clock.sleep(0.5)
        return 7200

    assert await clock.run(tick()) == 7200
    assert clock.now() == pytest.approx(4600.0)


async def test_it_rings_at_its_time_and_not_when_called_off() -> None:
    clock = SimClock()
    rung: list[float] = []
    clock.ring(1.0, lambda: rung.append(clock.now()))
    call_off = clock.ring(2.0, lambda: rung.append(clock.now()))
    await clock.advance(1.5)
    call_off()
    await clock.advance(2.0)
    assert rung == [1001.0]


async def test_a_cancelled_sleeper_is_forgotten_and_moves_no_time() -> None:
    clock = SimClock()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(clock.sleep(5.0))
        await clock.settle()
        task.cancel()
        group.create_task(clock.sleep(7.0))
        await clock.advance(6.0)
        assert clock.now() == 1006.0
        await clock.advance(1.0)


async def test_work_that_waits_for_nobody_is_a_deadlock() -> None:
    clock = SimClock()
    with pytest.raises(Deadlock):
        await clock.run(asyncio.Event().wait())


async def test_after_a_jump_all_who_were_due_wake_at_its_end() -> None:
    clock = SimClock()
    woken: list[float] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(clock.now())

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper(0.5))
        group.create_task(sleeper(1.5))
        await clock.jump(2.0)

    assert woken == [1002.0, 1002.0]


async def test_the_wall_may_step_back_while_monotonic_time_goes_on() -> None:
    clock = SimClock()
    before = clock.wall()
    clock.step_wall(-3600.0)
    await clock.advance(1.0)

    assert clock.wall() == before - 3599.0
    assert clock.now() == 1001.0
