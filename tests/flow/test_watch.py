"""The watch asks each target in its turn, as often as the board says, and stops cleanly."""

import asyncio
from itertools import pairwise
from random import Random

import pytest

from chaos.weather import Cut, Heal
from gateway.core.instant import Mono
from gateway.core.link import Link, LinkRules, Probe, Sample
from gateway.flow.board import Board
from gateway.flow.watch import UNDER_WAY_MAX, Watch
from gateway.ports import Prober
from tests.kit.clock import SimClock
from tests.sim.watched import ANCHORS, FIBRE, SIM
from tests.sim.world import World

LINKS = (FIBRE, SIM)


class Counting:
    """A prober of the simulated world that remembers what was asked when."""

    def __init__(self, world: World, link: str) -> None:
        self._prober = world.prober(link)
        self._clock = world.clock
        self.asked: list[tuple[Mono, str]] = []

    async def ask(self, probe: Probe) -> Sample:
        self.asked.append((self._clock.now(), probe.id))
        return await self._prober.ask(probe)


class Hanging:
    """A prober whose answers never come."""

    def __init__(self) -> None:
        self.under_way = 0

    async def ask(self, probe: Probe) -> Sample:
        self.under_way += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.under_way -= 1
        raise AssertionError


class Rigged:
    """A watch over a simulated world with counting probers."""

    def __init__(self, links: tuple[Link, ...] = LINKS,
                 connects: dict[str, dict[str, Probe]] | None = None) -> None:
        self.clock = SimClock()
        self.world = World(self.clock, links, ("gpc",))
        self.board = Board(links, {"gpc": ("B81001",)}, LinkRules(), (), self.clock,
                           lambda told: None)
        self.probers = {link.id: Counting(self.world, link.id) for link in links}
        self.beats = 0
        self.watch = Watch(self.board, self.probers, links, self.clock, Random(7), connects,
                           self._beat)

    def _beat(self) -> None:
        self.beats += 1

    def asked(self, link: str, target: str = "") -> int:
        """How often ``target`` (or any) was asked over ``link`` since the last ``forget``."""
        return sum(not target or name == target for _, name in self.probers[link].asked)

    def forget(self) -> None:
        """Begin to count anew."""
        for prober in self.probers.values():
            prober.asked.clear()


async def test_each_target_is_asked_twice_a_second_and_a_metered_link_s_every_ten() -> None:
    it = Rigged()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it.watch.run())
        await it.clock.advance(5.0)
        it.forget()
        await it.clock.advance(60.0)
        assert 100 <= it.asked("fibre", "echo") <= 125
        assert abs(it.asked("fibre", "echo") - it.asked("fibre", "broker")) <= 1
        assert 5 <= it.asked("sim") <= 7  # one anchor or the other every ten seconds
        task.cancel()


async def test_the_questions_of_one_link_never_bunch() -> None:
    it = Rigged()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it.watch.run())
        await it.clock.advance(5.0)
        it.forget()
        await it.clock.advance(60.0)
        times = [at for at, _ in it.probers["fibre"].asked]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert min(gaps) >= 0.19
        assert max(gaps) <= 0.35
        assert len({round(gap, 3) for gap in gaps}) > 1, "no jitter"
        task.cancel()


async def test_a_suspect_link_quickens_its_own_probes_and_wakes_the_metered_one() -> None:
    it = Rigged()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it.watch.run())
        await it.clock.advance(5.0)
        await it.world.apply(Cut("fibre"))
        await it.clock.advance(0.7)
        assert it.board.state("fibre").state == "SUSPECT"
        it.forget()
        await it.clock.advance(1.0)
        assert it.asked("fibre") >= 6  # four where nothing is suspect
        assert it.asked("sim") >= 2
        task.cancel()


async def test_a_metered_link_that_carries_the_traffic_is_asked_like_any_other() -> None:
    it = Rigged()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it.watch.run())
        await it.clock.advance(3.0)
        await it.world.apply(Cut("fibre"))
        await it.clock.advance(5.0)
        it.forget()
        await it.clock.advance(10.0)
        assert it.asked("sim", "echo") >= 16
        task.cancel()


async def test_a_connect_is_tried_every_fifteen_seconds_and_proves_nothing_of_the_link() -> None:
    connects = {"fibre": {"gpc": Probe("gpc", "tcp", "192.0.2.9:443")}}
    it = Rigged(connects=connects)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it.watch.run())
        await it.clock.advance(5.0)
        it.forget()
        await it.clock.advance(60.0)
        assert 3 <= it.asked("fibre", "gpc") <= 5
        await it.world.apply(Cut("fibre"))
        await it.clock.advance(3.0)
        assert it.asked("fibre", "gpc") >= 8
        await it.world.apply(Heal("fibre"))
        await it.clock.advance(1.0)
        assert it.board.state("fibre").state == "PROBATION"
        task.cancel()


async def test_answers_that_never_come_are_waited_for_in_limited_number_and_all_cancelled(
        ) -> None:
    it = Rigged((FIBRE,))
    hanging = Hanging()
    probers: dict[str, Prober] = {"fibre": hanging}
    watch = Watch(it.board, probers, (FIBRE,), it.clock, Random(1))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        await it.clock.advance(30.0)
        assert hanging.under_way == UNDER_WAY_MAX
        assert it.board.state("fibre").state == "DOWN"
        task.cancel()
    assert hanging.under_way == 0


async def test_each_turn_beats_for_the_watchdog() -> None:
    it = Rigged()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it.watch.run())
        await it.clock.advance(10.0)
        assert it.beats == pytest.approx(200, abs=2)
        task.cancel()


async def test_a_link_without_probes_harms_nobody() -> None:
    bare = Link("bare", 3)
    it = Rigged((Link("fibre", 1, probes=ANCHORS), bare))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it.watch.run())
        await it.clock.advance(5.0)
        assert it.board.state("fibre").state == "UP"
        assert it.board.state("bare").state == "UNKNOWN"
        task.cancel()
