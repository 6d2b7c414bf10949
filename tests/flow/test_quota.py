"""Watching plans: counters in, prices and barred uses out, and the count over a restart."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from gateway.core.instant import Wall
from gateway.core.quota import Carrier, Overlay, Plan, PlanView, Reading, Used
from gateway.flow.quota import Quota
from tests.kit.clock import SimClock

MB = 1_000_000
WALL = datetime(2026, 11, 11, 12, tzinfo=UTC).timestamp()
PLAN = Plan(1000 * MB)


class World:
    """A clock, a counter that can be set, a board, and what was kept and told."""

    def __init__(self, *, device: bool = True, carrier: Carrier | None = None,
                 kept: Mapping[str, Used] | None = None) -> None:
        self.clock = SimClock(wall=WALL)
        self.device = device
        self.reading: Reading | None = Reading(0, "boot/1")
        self.prices: dict[str, float] = {}
        self.low: list[str] = []
        self.kept: dict[str, Used] = dict(kept or {})
        self.saves = 0
        self.told: list[tuple[str, Overlay, Overlay]] = []
        self.quota = Quota({"sim": (PLAN, carrier)}, self, self.kept, self.save, self, self.clock,
                           self.tell)

    def read(self, link: str) -> Reading | None:
        return self.reading

    def has_device(self, link: str) -> bool:
        return self.device

    def priced(self, prices: Mapping[str, float], spent: Collection[str]) -> None:
        self.prices, self.low = dict(prices), sorted(spent)

    async def save(self, used: Mapping[str, Used]) -> None:
        self.saves += 1
        self.kept = dict(used)

    def tell(self, link: str, before: Overlay, plan: PlanView) -> None:
        self.told.append((link, before, plan.overlay))

    async def run(self, seconds: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.quota.run())
            await self.clock.advance(seconds)
            task.cancel()


async def test_a_plan_that_fills_is_told_priced_and_shed_and_bookings_go_on() -> None:
    world = World()
    await world.run(1)
    cheap = world.prices["sim"]
    assert (world.told, world.quota.barred("background")) == ([], frozenset())
    assert world.quota.barred("bulk") == {"sim"}

    for used, overlay in ((800 * MB, "QUOTA_LOW"), (1001 * MB, "QUOTA_OUT")):
        world.reading = Reading(used, "boot/1")
        await world.run(10)
        assert world.told[-1][2] == overlay
        assert world.low == ["sim"]
        assert [each[:2] for each in world.quota.alarms()] == [("sim", overlay)]

    assert len(world.told) == 2
    assert world.prices["sim"] > 9 * cheap
    assert all(world.quota.barred(use) == {"sim"}
               for use in ("prefetch", "background", "other", "bulk", "hedges"))
    assert world.quota.barred("clinical") == frozenset()


async def test_the_count_goes_on_where_the_run_before_left_it() -> None:
    first = World()
    await first.run(1)
    first.reading = Reading(30 * MB, "boot/1")
    await first.run(11)

    second = World(kept=first.kept)
    second.reading = Reading(34 * MB, "boot/1")  # 4 MB passed while nobody looked
    await second.run(1)

    assert second.quota.views()[0].total == 34 * MB


async def test_the_carriers_figure_makes_a_fresh_count_whole() -> None:
    world = World(carrier=Carrier(700 * MB, Wall(WALL - 3600.0)))
    await world.run(1)

    (plan,) = world.quota.views()
    assert (plan.total, plan.whole, plan.counted) == (700 * MB, True, "device")


async def test_a_link_without_a_device_is_counted_by_its_requests_and_says_so() -> None:
    world = World(device=False)
    await world.run(1)
    world.quota.spent("sim", "clinical", 5000)
    world.quota.spent("fibre", "clinical", 9999)
    await world.run(10)

    (plan,) = world.quota.views()
    assert (plan.total, plan.counted, dict(plan.by)["clinical"]) == (5000, "own", 5000)


async def test_nothing_is_counted_into_a_month_that_the_clock_only_guesses() -> None:
    world = World()
    world.clock.trusted = False
    world.reading = Reading(50 * MB, "boot/1")
    await world.run(30)
    assert world.quota.views() == ()


async def test_without_a_counter_the_carriers_word_holds_and_the_source_is_unknown() -> None:
    world = World(carrier=Carrier(1100 * MB, Wall(WALL - 3600.0)))
    world.reading = None
    await world.run(1)

    (plan,) = world.quota.views()
    assert (plan.overlay, plan.counted) == ("QUOTA_OUT", "unknown")
    world.reading = Reading(77 * MB, "boot/1")  # it shows what came before it, too: not counted
    await world.run(11)
    assert world.quota.views()[0].total == 1100 * MB


async def test_the_count_is_kept_every_five_minutes_and_at_the_end() -> None:
    world = World()
    await world.run(650)
    assert world.saves == 3


async def test_a_device_that_is_away_costs_nothing_that_was_counted() -> None:
    world = World()
    await world.run(1)
    world.reading = Reading(9 * MB, "boot/1")
    await world.run(11)
    world.reading = None
    await world.run(20)
    assert world.quota.views()[0].total == 9 * MB
