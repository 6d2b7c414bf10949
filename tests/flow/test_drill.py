"""Drills on a watched world: out to the backup, a while there, and back, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chaos.weather import Cut
from gateway.core.drill import Count, Order, Report
from gateway.core.failback import Flows
from gateway.core.link import Sample
from gateway.core.status import Latency
from gateway.flow.drill import Drills
from tests.sim.watched import FIBRE, SIM, Watched, watched

ORDER = Order("0" * 16, seconds=20.0, wait_s=0.0)


@dataclass
class Rigged:
    it: Watched
    orders: list[Order] = field(default_factory=list)
    told: list[Report] = field(default_factory=list)
    answered: int = 0
    failed: int = 0
    spent: frozenset[str] = frozenset()

    def take(self) -> Order | None:
        return self.orders.pop() if self.orders else None

    def count(self) -> Count:
        n = self.answered + self.failed
        return Count((("B81001", "gpc", "live", self.answered),
                      ("B81001", "gpc", "failed", self.failed)), Latency((1.0,), (n,), 0.0, n))

    @property
    def last(self) -> Report:
        return self.told[-1]

    def prove(self) -> None:
        now = self.it.clock.now()
        self.it.board.see(Sample("sim", "gpc", "http", True, now, now, rtt_ms=50.0))


@asynccontextmanager
async def rigged() -> AsyncIterator[Rigged]:
    async with watched((FIBRE, SIM)) as it:
        rig = Rigged(it)
        drills = Drills(it.board, rig.take, rig.told.append, rig.count, lambda: rig.spent,
                        it.clock)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(drills.run())
            await it.clock.advance(2.0)
            yield rig
            task.cancel()


async def test_traffic_goes_to_the_backup_for_the_time_asked_and_back() -> None:
    async with rigged() as rig:
        rig.prove()
        rig.orders.append(ORDER)
        await rig.it.clock.advance(5.0)
        assert rig.it.board.active() == "sim"
        assert rig.it.board.state("fibre").state == "DRAINING"
        assert (rig.last.stage, rig.last.backup) == ("moved", "sim")
        rig.answered = 12
        await rig.it.clock.advance(20.0)
        assert rig.last.stage == "returning"
        for _ in range(60):  # nobody sweeps here: the board is told that nothing stayed
            await rig.it.clock.advance(5.0)
            for each in rig.it.board.clearing():
                rig.it.board.swept(each.link, Flows())
        assert rig.it.board.active() == "fibre"
        assert rig.last.is_good, rig.last
        assert rig.last.felt is not None
        assert rig.last.felt.requests == 12
        assert 20.0 <= (rig.last.stayed_s or 0) < 21.0
        assert [each.stage for each in rig.told] == ["waiting", "moved", "returning", "done"]


async def test_a_request_that_failed_meanwhile_breaks_the_promise() -> None:
    async with rigged() as rig:
        rig.prove()
        rig.orders.append(ORDER)
        await rig.it.clock.advance(5.0)
        rig.failed = 1
        await rig.it.clock.advance(1200.0)
        assert rig.last.is_over
        assert dict(rig.last.promises)[1] is False
        assert not rig.last.is_good


async def test_a_backup_that_dies_ends_it_at_once_and_the_main_link_carries_again() -> None:
    async with rigged() as rig:
        rig.prove()
        rig.orders.append(ORDER)
        await rig.it.clock.advance(5.0)
        await rig.it.world.apply(Cut("sim"))
        await rig.it.clock.advance(6.0)
        assert (rig.last.stage, rig.last.why) == ("aborted", "backup_lost")
        await rig.it.clock.advance(1.0)
        assert rig.it.board.active() == "fibre"


async def test_it_is_refused_without_a_proof_or_a_plan_and_moves_nothing() -> None:
    async with rigged() as rig:
        rig.orders.append(ORDER)
        await rig.it.clock.advance(3.0)
        assert (rig.last.stage, rig.last.why) == ("refused", "backup_unproven")
        rig.prove()
        rig.spent = frozenset({"sim"})
        rig.orders.append(ORDER)
        await rig.it.clock.advance(3.0)
        assert rig.last.why == "quota"
        assert rig.it.board.view().switches == 0


async def test_it_waits_for_a_quiet_moment_and_says_so_when_none_comes() -> None:
    async with rigged() as rig:
        rig.prove()
        rig.orders.append(Order("1" * 16, 20.0, 30.0))
        for _ in range(40):
            rig.answered += 50
            await rig.it.clock.advance(1.0)
        assert (rig.last.stage, rig.last.why) == ("refused", "no_quiet_minute")
        assert rig.it.board.view().switches == 0
