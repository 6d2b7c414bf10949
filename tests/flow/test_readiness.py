"""The morning's run on virtual days: when it is made, what it tries, and what follows."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.cadence import Ask
from gateway.core.canary import Found
from gateway.core.instant import Wall
from gateway.core.link import Sample
from gateway.core.london import local
from gateway.core.readiness import Connected, ReadinessRules, Report, Result
from gateway.core.report import readiness_alarms, readiness_told
from gateway.flow.readiness import Readiness
from tests.kit.clock import SimClock

RULES = ReadinessRules()


def utc(text: str) -> Wall:
    return Wall(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@dataclass
class Line:
    """A link that does as it is told."""

    clock: SimClock
    name: str
    up: bool = True
    hole: bool = False
    names_: Result = "pass"
    tls: Result = "pass"
    ends: float | None = None
    tried: int = 0

    async def names(self, upstream: str) -> Result:
        return self.names_ if self.up else "fail"

    async def connect(self, upstream: str) -> Connected:
        await self.clock.sleep(0.1 if self.up else 5.0)
        self.tried += 1
        return Connected("pass", self.tls, self.ends) if self.up else Connected("fail", "unknown")

    async def echoes(self) -> tuple[Sample, ...]:
        return (self._sample(self.up),)

    async def ladder(self, sizes: tuple[int, ...]) -> tuple[Sample, ...]:
        return tuple(self._sample(self.up and not (self.hole and size > 1400)) for size in sizes)

    def _sample(self, good: bool) -> Sample:
        now = self.clock.now()
        return Sample(self.name, "anchor", "echo", good, now, now, anchor=True)


@dataclass
class Rig:
    clock: SimClock
    canary: dict[str, Found] = field(default_factory=dict)
    low: frozenset[str] = frozenset()
    free: float | None = 0.5
    distrusted: frozenset[str] = frozenset()
    reports: list[Report] = field(default_factory=list)
    passed: list[tuple[str, ...]] = field(default_factory=list)
    seen: int = 0
    asked: Counter[tuple[str, Ask]] = field(default_factory=Counter)
    fibre: Line = field(init=False)
    sim: Line = field(init=False)

    def __post_init__(self) -> None:
        self.fibre, self.sim = Line(self.clock, "fibre"), Line(self.clock, "sim")

    def counted(self, link: str, ask: Ask) -> None:
        self.asked[link, ask] += 1

    def see(self, sample: Sample) -> None:
        self.seen += 1

    def climbed(self, rungs: Iterable[Sample]) -> None:
        self.seen += len(tuple(rungs))

    async def ask(self, link: str, upstream: str) -> Found | None:
        return self.canary.get(link, "proved")

    def spent(self) -> frozenset[str]:
        return self.low

    def planned(self) -> frozenset[str]:
        return frozenset({"sim"})

    def free_share(self) -> float | None:
        return self.free

    def codes(self) -> list[str]:
        return [each.code for each in self.reports[-1].found]

    def told(self, report: Report, passed: tuple[str, ...]) -> None:
        self.reports.append(report)
        self.passed.append(passed)
        if set(passed) & self.distrusted:
            self.distrusted = frozenset()


@asynccontextmanager
async def running(rig: Rig, last: Report | None = None) -> AsyncIterator[Readiness]:
    it = Readiness(rig, {"fibre": rig.fibre, "sim": rig.sim}, ("gpc",), rig, rig, RULES, rig.clock,
                   lambda: rig.distrusted, rig.told, last)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it.run())
        await rig.clock.settle()
        yield it
        task.cancel()


@pytest.mark.parametrize("begin", ["2026-03-27", "2026-10-23", "2026-11-25"])
async def test_one_run_at_half_past_six_a_local_day_also_where_the_clocks_change(begin: str
                                                                                 ) -> None:
    rig = Rig(SimClock(wall=utc(f"{begin}T12:00")))
    async with running(rig):
        await rig.clock.advance(3 * 86_400.0)
    shown = [local(each.at) for each in rig.reports[1:]]  # the first made up for this morning
    assert [(now.hour, now.minute) for now in shown] == [(6, 30)] * 3
    day = datetime.fromisoformat(begin).date()
    assert [each.day for each in rig.reports] == [
        (day + timedelta(days=n)).isoformat() for n in range(4)]
    assert all(each.is_ready for each in rig.reports)
    assert rig.passed[-1] == ("fibre", "sim")


async def test_what_a_run_asks_is_counted_as_what_probing_costs() -> None:
    rig = Rig(SimClock(wall=utc("2026-11-26T06:29")))
    async with running(rig):
        await rig.clock.advance(120.0)
    assert len(rig.reports) == 1
    assert rig.asked == {(link, ask): 1 for link in ("fibre", "sim")
                         for ask in ("anchor", "size", "names", "connect")}


async def test_a_restart_after_the_run_does_not_run_again() -> None:
    rig = Rig(SimClock(wall=utc("2026-11-26T06:29")))
    async with running(rig):
        await rig.clock.advance(120.0)
    async with running(rig, rig.reports[-1]):
        await rig.clock.advance(600.0)
    assert len(rig.reports) == 1


async def test_a_dead_main_line_alarms_until_a_later_look_finds_it_mended() -> None:
    rig = Rig(SimClock(wall=utc("2026-11-26T06:29")))
    rig.fibre.up = False
    async with running(rig) as it:
        await rig.clock.advance(120.0)
        assert rig.codes() == ["backup_only", "dead_link", "no_names"]
        (alarm,) = readiness_alarms(it.last(), RULES, rig.clock.wall())
        assert (alarm.code, alarm.sev, alarm.link, alarm.upstream) == (
            "not_ready", "critical", "fibre", "gpc")
        assert readiness_told(rig.reports[-1]).result == "not_ready"
        rig.fibre.up = True
        await rig.clock.advance(900.0)
        assert len(rig.reports) == 2
        assert readiness_alarms(it.last(), RULES, rig.clock.wall()) == ()


async def test_a_morning_that_stays_bad_is_not_looked_at_all_day() -> None:
    rig = Rig(SimClock(wall=utc("2026-11-26T06:29")))
    rig.fibre.up = rig.sim.up = False
    async with running(rig):
        await rig.clock.advance(10 * 3600.0)
    assert rig.codes()[0] == "no_way"
    assert 8 <= len(rig.reports) <= 11  # every 15 minutes from 06:30 to 09:00


async def test_a_closed_day_is_looked_at_and_alarms_nobody() -> None:
    rig = Rig(SimClock(wall=utc("2026-11-28T06:29")))
    rig.fibre.up = False
    async with running(rig) as it:
        await rig.clock.advance(120.0)
        assert not rig.reports[-1].is_ready
        assert readiness_alarms(it.last(), RULES, rig.clock.wall()) == ()


async def test_each_thing_that_is_wrong_is_found() -> None:
    rig = Rig(SimClock(wall=utc("2026-11-26T06:29")), low=frozenset({"sim"}), free=0.01)
    rig.fibre.hole, rig.fibre.names_ = True, "fail"
    rig.fibre.ends = rig.sim.ends = utc("2026-12-01T00:00")
    async with running(rig):
        await rig.clock.advance(120.0)
    assert rig.codes() == ["backup_only", "no_names", "large_packets", "quota", "disk",
                           "certificate"]
    assert rig.seen == 12  # echoes and rungs are the board's samples too


@pytest.mark.parametrize(("found", "codes"), [
    ("foreign", ["backup_only"]), ("failed", ["backup_only"]), ("answered", [])])
async def test_a_canary_that_failed_spoils_a_path_and_one_that_wants_a_credential_does_not(
        found: Found, codes: list[str]) -> None:
    rig = Rig(SimClock(wall=utc("2026-11-26T06:29")), canary={"fibre": found})
    async with running(rig):
        await rig.clock.advance(120.0)
    assert rig.codes() == codes


async def test_a_distrusted_link_is_tried_every_minute_until_it_passes() -> None:
    rig = Rig(SimClock(wall=utc("2026-11-26T12:00")))
    async with running(rig):
        await rig.clock.advance(60.0)
        rig.distrusted, rig.fibre.tls = frozenset({"fibre"}), "fail"
        await rig.clock.advance(150.0)
        assert [each.cause for each in rig.reports] == ["opening", "window", "window", "window"]
        assert "fibre" not in rig.passed[-1]
        rig.fibre.tls = "pass"
        await rig.clock.advance(60.0)
        assert "fibre" in rig.passed[-1]
        await rig.clock.advance(600.0)
        assert len(rig.reports) == 5


async def test_a_run_after_a_window_at_night_does_not_replace_the_mornings_own() -> None:
    rig = Rig(SimClock(wall=utc("2026-11-26T04:00")), distrusted=frozenset({"fibre"}))
    async with running(rig):
        await rig.clock.advance(4 * 3600.0)
    assert [(each.cause, each.day) for each in rig.reports] == [
        ("window", ""), ("opening", "2026-11-26")]


async def test_without_a_trusted_clock_a_run_has_no_date_and_says_so() -> None:
    rig = Rig(SimClock(wall=0.0))
    rig.clock.trusted = False
    async with running(rig) as it:
        await rig.clock.advance(890.0)
        assert rig.reports == []
        await rig.clock.advance(20.0)
        (report,) = rig.reports
        assert (report.day, report.cause, report.trusted) == ("", "undated", False)
        assert rig.codes() == ["clock"]
        assert readiness_alarms(it.last(), RULES, rig.clock.wall()) == ()
        grave = replace(report, found=(replace(report.found[0], code="no_way"),))
        assert len(readiness_alarms(grave, RULES, rig.clock.wall())) == 1
