"""The ladder is asked when a link comes up, each hour, or day where bytes cost, not when dead."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest

from gateway.core.cadence import Ask, CadenceRules
from gateway.core.echo import LADDER
from gateway.core.instant import Mono
from gateway.core.link import Link, LinkMemory, LinkState, Probe, Sample
from gateway.core.verdict import VerdictKind
from gateway.flow.ladder import Ladder
from tests.kit.clock import SimClock

ECHO = Probe("anchor", "echo", "192.0.2.1:4477")


class Board:
    def __init__(self, clock: SimClock) -> None:
        self.memory = LinkMemory("fibre", Mono(0.0), Mono(0.0), "UP")
        self.seen: list[Sample] = []
        self.clock, self.browned, self.holed = clock, False, False

    def browned_at(self, link: str) -> Mono | None:
        return self.clock.now() if self.browned else None

    def ails(self, link: str, kind: VerdictKind) -> bool:
        return self.holed and kind == "MTU_HOLE"

    def state(self, link: str) -> LinkMemory:
        return self.memory

    def counted(self, link: str, ask: Ask) -> None:
        assert ask == "size"

    def climbed(self, rungs: Iterable[Sample]) -> None:
        self.seen += rungs


class Prober:
    def __init__(self, clock: SimClock) -> None:
        self.clock, self.at = clock, list[float]()

    async def ladder(self, probe: Probe, sizes: tuple[int, ...]) -> tuple[Sample, ...]:
        self.at.append(self.clock.now())
        now = self.clock.now()
        return tuple(Sample("fibre", probe.id, "size", size < 1400, now, now, True, size=size)
                     for size in sizes)


async def asked(seconds: float, *, metered: bool = False, probe: Probe = ECHO,
                state: LinkState = "UP", reborn_at: float | None = None, browned: bool = False,
                holed: bool = False) -> tuple[int, Board]:
    clock = SimClock()
    board = Board(clock)
    board.browned, board.holed = browned, holed
    board.memory = replace(board.memory, state=state)
    prober = Prober(clock)
    link = Link("fibre", 1, metered=metered, probes=(probe,))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Ladder(board, {"fibre": prober}, (link,), clock).run())
        if reborn_at is not None:
            await clock.advance(reborn_at)
            board.memory = replace(board.memory, epoch=1)
        await clock.advance(seconds - (reborn_at or 0.0))
        task.cancel()
    return len(prober.at), board


async def test_a_link_that_is_up_is_asked_at_once_and_then_each_hour() -> None:
    times, board = await asked(3 * CadenceRules().size_s + 10)
    assert times == 4
    assert [each.size for each in board.seen[:5]] == list(LADDER)
    assert [each.ok for each in board.seen[:5]] == [True, True, False, False, False]


async def test_a_metered_one_is_asked_each_day() -> None:
    assert (await asked(CadenceRules().size_metered_s + 10, metered=True))[0] == 2


async def test_a_link_that_came_back_is_asked_again() -> None:
    assert (await asked(100.0, reborn_at=50.0))[0] == 2


@pytest.mark.parametrize("state", ["DOWN", "UNKNOWN", "QUARANTINED"])
async def test_a_dead_link_is_not_asked(state: LinkState) -> None:
    assert (await asked(100.0, state=state))[0] == 0


async def test_a_link_without_an_anchor_of_ours_has_no_ladder() -> None:
    assert (await asked(100.0, probe=Probe("broker", "tls", "192.0.2.2:8883")))[0] == 0


async def test_one_that_works_badly_is_asked_soon_and_not_all_the_time() -> None:
    assert (await asked(5.0, browned=True))[0] == 2
    assert (await asked(32.0, browned=True))[0] == 5
    assert (await asked(99.0, browned=True, metered=True))[0] == 2
    assert (await asked(105.0, browned=True, metered=True))[0] == 3


async def test_one_with_a_hole_is_asked_each_minute_whether_it_is_gone() -> None:
    assert (await asked(125.0, holed=True))[0] == 3
    assert (await asked(605.0, holed=True, metered=True))[0] == 2
