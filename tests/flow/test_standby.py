"""Warm standby on a simulated clock."""

import asyncio
from collections import Counter

from gateway.core.instant import Mono
from gateway.core.link import LinkMemory, LinkState
from gateway.flow.standby import EVERY_S, Standby
from tests.kit.clock import SimClock


class Pool:
    """Remembers what was asked of it; a stuck one never answers."""

    def __init__(self, stuck: bool = False) -> None:
        self.asked: Counter[tuple[str, str, int]] = Counter()
        self.stuck = stuck

    async def warm(self, tenant: str, upstream: str, n: int, connect_s: float = 1.5) -> int:
        self.asked[tenant, upstream, n] += 1
        if self.stuck:
            await asyncio.Event().wait()
        return n


class Links:
    """A board that says what it was told."""

    def __init__(self, **states: LinkState) -> None:
        self.states = states

    def state(self, link: str) -> LinkMemory:
        return LinkMemory(link, Mono(0.0), Mono(0.0), self.states[link])

    def active(self) -> str:
        return "fibre"


async def test_each_link_is_kept_warm_by_itself_and_a_stuck_or_dead_one_holds_up_no_other() -> None:
    clock = SimClock()
    pools = {"fibre": Pool(stuck=True), "sim": Pool(), "mast": Pool()}
    standby = Standby(Links(fibre="UP", sim="UP", mast="DOWN"), pools, (("B81001", "gpc"),),
                      frozenset({"sim"}), clock)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(standby.run())
        await clock.advance(EVERY_S * 2.5)
        running.cancel()

    assert pools["fibre"].asked == {("B81001", "gpc", 2): 1}
    assert pools["sim"].asked == {("B81001", "gpc", 1): 3}
    assert not pools["mast"].asked
