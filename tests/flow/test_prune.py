"""The forgetting loop: each hour, each store, and no store's trouble is another's."""

import asyncio
import logging

import pytest

from gateway.core.instant import Wall
from gateway.flow.prune import prune
from tests.kit.clock import SimClock


class Shelf:
    """Remembers when it was pruned; fails while ``broken``."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.pruned: list[float] = []

    async def prune(self, now: Wall) -> None:
        if self.broken:
            raise ZeroDivisionError("a poisoned row")
        self.pruned.append(now)


async def test_every_store_is_pruned_at_once_and_then_each_hour() -> None:
    clock = SimClock(wall=5000.0)
    shelves = Shelf(), Shelf()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(prune(shelves, clock))
        await clock.advance(7300)
        task.cancel()
    assert [shelf.pruned for shelf in shelves] == [[5000.0, 8600.0, 12200.0]] * 2


async def test_nothing_is_forgotten_by_a_clock_that_cannot_be_trusted() -> None:
    clock, shelf = SimClock(), Shelf()
    clock.trusted = False
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(prune((shelf,), clock))
        await clock.advance(7300)
        assert shelf.pruned == []
        clock.trusted = True
        await clock.advance(3600)
        task.cancel()
    assert len(shelf.pruned) == 1


async def test_one_stores_trouble_is_told_once_and_is_not_the_others(
        caplog: pytest.LogCaptureFixture) -> None:
    clock, bad, good = SimClock(), Shelf(broken=True), Shelf()
    caplog.set_level(logging.INFO)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(prune((bad, good), clock, every_s=10))
        await clock.advance(35)
        bad.broken = False
        await clock.advance(20)
        task.cancel()
    assert len(good.pruned) == 6
    assert len(bad.pruned) == 2
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "poisoned" not in caplog.text
