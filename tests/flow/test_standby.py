"""Warm standby on a simulated clock."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.core.instant import Mono
from gateway.core.link import LinkMemory, LinkState
from gateway.flow.standby import EVERY_S, Standby
from tests.kit.clock import SimClock

PATH = ("B81001", "gpc")


class Pool:
    """Remembers what was asked of it; a stuck one never answers."""

    def __init__(self, stuck: bool = False, peak: int = 0, refuses: bool = False) -> None:
        self.asked: Counter[tuple[str, str, int]] = Counter()
        self.trimmed: Counter[tuple[str, str, int]] = Counter()
        self.stuck = stuck
        self.at_most = peak
        self.refuses = refuses

    async def warm(self, tenant: str, upstream: str, n: int, connect_s: float = 1.5) -> int:
        self.asked[tenant, upstream, n] += 1
        if self.stuck:
            await asyncio.Event().wait()
        return 0 if self.refuses else n

    def peak(self, tenant: str, upstream: str) -> int:
        return self.at_most

    def trim(self, tenant: str, upstream: str, keep: int) -> int:
        self.trimmed[tenant, upstream, keep] += 1
        return keep


class Links:
    """A board that says what it was told."""

    def __init__(self, **states: LinkState) -> None:
        self.states = states
        self.coming: frozenset[str] = frozenset()
        self.warm: dict[str, bool] = {}

    def state(self, link: str) -> LinkMemory:
        return LinkMemory(link, Mono(0.0), Mono(0.0), self.states[link])

    def active(self) -> str:
        return "fibre"

    def returning(self) -> frozenset[str]:
        return self.coming

    def warmed(self, link: str, is_warm: bool) -> None:
        self.warm[link] = is_warm


@asynccontextmanager
async def running(links: Links, pools: dict[str, Pool]) -> AsyncIterator[tuple[SimClock, Standby]]:
    clock = SimClock()
    standby = Standby(links, pools, (PATH,), frozenset({"sim"}), clock)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(standby.run())
        yield clock, standby
        task.cancel()


async def test_each_link_is_kept_warm_by_itself_and_a_stuck_or_dead_one_holds_up_no_other() -> None:
    pools = {"fibre": Pool(stuck=True), "dsl": Pool(), "mast": Pool()}
    async with running(Links(fibre="UP", dsl="UP", mast="DOWN"), pools) as (clock, _):
        await clock.advance(EVERY_S * 2.5)

    assert pools["fibre"].asked == {(*PATH, 2): 1}
    assert pools["dsl"].asked == {(*PATH, 2): 3}
    assert not pools["mast"].asked


async def test_an_idle_metered_standby_is_opened_once_and_again_when_another_link_is_in_doubt(
        ) -> None:
    links = Links(fibre="UP", sim="UP")
    pools = {"fibre": Pool(), "sim": Pool()}
    async with running(links, pools) as (clock, _):
        await clock.advance(EVERY_S * 10)
        assert pools["sim"].asked == {(*PATH, 2): 1}
        links.states["fibre"] = "SUSPECT"
        await clock.advance(EVERY_S * 2)
        assert pools["sim"].asked == {(*PATH, 2): 3}
        links.states["fibre"] = "UP"
        await clock.advance(EVERY_S * 10)
        assert pools["sim"].asked == {(*PATH, 2): 3}


async def test_a_metered_standby_that_came_back_from_the_dead_is_opened_again() -> None:
    links = Links(fibre="UP", sim="UP")
    pools = {"fibre": Pool(), "sim": Pool()}
    async with running(links, pools) as (clock, _):
        await clock.advance(EVERY_S)
        links.states["sim"] = "DOWN"
        await clock.advance(EVERY_S * 2)
        links.states["sim"] = "UP"
        await clock.advance(EVERY_S * 3)
    assert pools["sim"].asked == {(*PATH, 2): 2}


async def test_an_upstream_that_is_down_costs_an_idle_metered_standby_four_tries_an_hour() -> None:
    pools = {"fibre": Pool(refuses=True), "sim": Pool(refuses=True)}
    async with running(Links(fibre="UP", sim="UP"), pools) as (clock, _):
        await clock.advance(3599.0)
    assert pools["sim"].asked == {(*PATH, 2): 4}
    assert pools["fibre"].asked == {(*PATH, 2): 1800}


async def test_what_a_burst_needs_is_learned_from_the_sends_of_all_links() -> None:
    links = Links(fibre="UP", dsl="UP")
    async with running(links, {"fibre": Pool(peak=4), "dsl": Pool(peak=1)}) as (clock, standby):
        assert standby.declared("dsl") == ((PATH, 2),)
        await clock.advance(EVERY_S * 20)
        assert standby.declared("dsl") == ((PATH, 5),)


async def test_the_board_is_told_when_a_returning_link_is_warm() -> None:
    links = Links(fibre="UP", sim="UP")
    links.coming = frozenset({"sim"})
    async with running(links, {"fibre": Pool(stuck=True), "sim": Pool()}) as (clock, _):
        await clock.advance(EVERY_S)
    assert links.warm == {"sim": True}


async def test_what_a_canary_left_over_on_a_standby_is_closed_and_no_more() -> None:
    pools = {"fibre": Pool(), "dsl": Pool()}
    async with running(Links(fibre="UP", dsl="UP"), pools) as (clock, _):
        await clock.advance(3 * EVERY_S)
    assert pools["dsl"].trimmed[(*PATH, 2)] >= 3
    assert not pools["fibre"].trimmed
