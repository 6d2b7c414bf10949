"""Announced work on virtual days: what is done when, once, and who is believed meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from gateway.core.calendar import Calendar, Read
from gateway.core.instant import Wall
from gateway.core.maintenance import Finding, Step, Window
from gateway.flow.maintenance import Maintenance
from tests.kit.clock import SimClock
from tests.sim.watched import FIBRE, SIM, watched

DAY = 86_400.0


def utc(text: str) -> Wall:
    return Wall(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@dataclass
class Rigged:
    """A maintenance with everything round it told by the test; itself board, hand and reader."""

    clock: SimClock
    configured: tuple[Window, ...] = ()
    calendars: tuple[Calendar, ...] = ()
    added: tuple[Window, ...] = ()
    cancelled: frozenset[str] = frozenset()
    announced: Read = field(default_factory=lambda: Read(()))
    works: frozenset[str] = frozenset({"fibre", "sim"})
    fates: dict[str, frozenset[str]] = field(default_factory=dict)
    kept: tuple[frozenset[str], dict[str, Wall]] = (frozenset(), {})
    steps: list[tuple[float, str, Step, tuple[Finding, ...]]] = field(default_factory=list)
    windows: tuple[Window, ...] = ()
    distrusted: frozenset[str] = frozenset()
    changes: int = 0
    turn: int = 0

    def set_windows(self, windows: tuple[Window, ...], distrusted: frozenset[str]) -> None:
        self.windows, self.distrusted = windows, distrusted

    def changed(self) -> int:
        return self.turn

    def read_hand(self) -> tuple[tuple[Window, ...], frozenset[str], int]:
        return self.added, self.cancelled, 0

    def proven(self) -> frozenset[str]:
        return self.works

    def spent(self) -> frozenset[str]:
        return frozenset()

    def made(self) -> Maintenance:
        rig = self

        class Hand:
            def changed(self) -> int:
                return rig.turn

            def read(self) -> tuple[tuple[Window, ...], frozenset[str], int]:
                return rig.read_hand()

        class Suppliers:
            async def read(self, calendar: Calendar, wall: Wall) -> Read:
                await rig.clock.sleep(0.1)
                return rig.announced

        return Maintenance(
            self, self.configured, Hand(), self.calendars, Suppliers(), ("fibre", "sim"),
            self.fates, self, 28_800.0, self.clock, self._told, self._changed, self.kept,
            self._keep)

    def _told(self, window: Window, step: Step, findings: tuple[Finding, ...]) -> None:
        self.steps.append((self.clock.wall(), window.id, step, findings))

    def _changed(self) -> None:
        self.changes += 1

    def _keep(self, done: frozenset[str], passed: Mapping[str, Wall]) -> None:
        self.kept = (done, dict(passed))

    def said(self) -> list[str]:
        return [step for _, _, step, _ in self.steps]


@asynccontextmanager
async def running(rig: Rigged) -> AsyncIterator[Maintenance]:
    it = rig.made()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it.run())
        await rig.clock.settle()
        yield it
        task.cancel()


def at(text: str) -> SimClock:
    return SimClock(wall=utc(text))


def night() -> Window:
    return Window("CHG1", "fibre", utc("2026-11-26T02:00"), utc("2026-11-26T04:00"))


async def test_each_step_is_done_once_and_in_its_time() -> None:
    rig = Rigged(at("2026-11-24T12:00"), (night(),))
    async with running(rig):
        await rig.clock.advance(2 * DAY)
    begin = night().start
    assert [(step, round(begin - wall)) for wall, _, step, _ in rig.steps] == [
        ("preflight", 86_400), ("refresh", 1800), ("page", 1800), ("drain", 300), ("begin", 0),
        ("end", -7200)]
    assert not [found for *_, found in rig.steps if found]


async def test_a_restart_in_the_middle_says_nothing_twice() -> None:
    rig = Rigged(at("2026-11-25T01:00"), (night(),))
    async with running(rig):
        await rig.clock.advance(DAY)
    assert rig.said() == ["preflight"]
    async with running(rig):
        await rig.clock.advance(1800.0 + 60.0)
    async with running(rig):
        await rig.clock.advance(60.0)
    assert rig.said() == ["preflight", "refresh", "page"]


async def test_a_calendar_not_read_yet_after_a_restart_is_not_forgotten() -> None:
    told = replace(night(), id="north-1", source="calendar", origin="north")
    rig = Rigged(at("2026-11-26T01:00"), calendars=(Calendar("north", "fibre"),),
                 announced=Read((told,)))
    async with running(rig):
        await rig.clock.advance(1900.0)
    rig.configured = (Window("x", "sim", utc("2026-11-26T12:00"), utc("2026-11-26T13:00")),)
    async with running(rig):
        await rig.clock.advance(60.0)
    assert sorted(rig.said()) == ["page", "preflight", "preflight", "refresh"]


async def test_a_late_announcement_does_at_once_what_is_still_of_use() -> None:
    rig = Rigged(at("2026-11-26T01:58"))
    async with running(rig):
        await rig.clock.advance(10.0)
        rig.added, rig.turn = (night(),), 1
        await rig.clock.advance(1.0)
    assert rig.said() == ["preflight", "refresh", "page", "drain"]
    assert rig.windows == (night(),)


async def test_an_unproven_or_shared_backup_is_found_a_day_before_and_heals() -> None:
    rig = Rigged(at("2026-11-25T03:00"), (night(),), works=frozenset({"fibre"}))
    rig.fates = {"fibre": frozenset({"exchange:X"}), "sim": frozenset({"exchange:X"})}
    async with running(rig) as it:
        assert rig.steps[0][2:] == ("preflight", ("shared_fate", "unproven"))
        (risk,) = it.view().risks
        assert not risk.grave
        rig.fates.clear()
        rig.works = frozenset({"fibre", "sim"})
        await rig.clock.advance(1.0)
        assert it.view().risks == ()
        assert rig.changes == 2


async def test_a_person_is_called_half_an_hour_before_where_the_backup_is_unproven() -> None:
    rig = Rigged(at("2026-11-26T01:31"), (night(),), works=frozenset({"fibre"}))
    async with running(rig) as it:
        assert rig.steps[-1][2:] == ("page", ("unproven",))
        assert it.view().risks[0].grave


async def test_the_last_path_is_refused_whoever_announces_it() -> None:
    other = replace(night(), id="bt-1", link="sim", source="calendar", origin="bt")
    rig = Rigged(at("2026-11-25T12:00"), (night(),), (Calendar("bt", "sim"),),
                 announced=Read((other,)))
    async with running(rig) as it:
        await rig.clock.advance(1.0)
        (refused,) = it.view().plan.refused
        assert (refused.window.id, refused.why) == ("bt-1", "last_path")
        assert [each.id for each in rig.windows] == ["CHG1"]


async def test_after_its_work_a_link_is_distrusted_until_a_run_has_passed() -> None:
    rig = Rigged(at("2026-11-26T03:59:58"), (night(),))
    async with running(rig) as it:
        assert not rig.distrusted
        await rig.clock.advance(3.0)
        assert rig.distrusted == {"fibre"}
        it.passed(["fibre"], Wall(rig.clock.wall() - 5.0))
        assert rig.distrusted == {"fibre"}, "that run began while they were at work"
        it.passed(["fibre"], rig.clock.wall())
        assert not rig.distrusted
    async with running(rig):
        assert not rig.distrusted  # kept over the restart


async def test_distrust_ends_by_itself_when_no_run_ever_passes() -> None:
    rig = Rigged(at("2026-11-26T04:00:01"), (night(),))
    async with running(rig):
        await rig.clock.advance(28_790.0)
        assert rig.distrusted == {"fibre"}
        await rig.clock.advance(20.0)
        assert not rig.distrusted


async def test_a_clock_that_is_not_trusted_does_no_step() -> None:
    rig = Rigged(at("2026-11-26T02:30"), (night(),))
    rig.clock.trusted = False
    async with running(rig):
        await rig.clock.advance(600.0)
        assert rig.steps == []
        rig.clock.trusted = True
        await rig.clock.advance(1.0)
        assert rig.said() == ["begin"]


async def test_a_window_over_each_clock_change_keeps_its_length_in_utc() -> None:
    for start, end, hours in (("2026-03-28T23:30", "2026-03-29T03:30", 4),
                              ("2026-10-24T23:30", "2026-10-25T03:30", 4)):
        window = Window("w", "fibre", utc(start), utc(end))
        rig = Rigged(SimClock(wall=window.start - 10.0), (window,))
        async with running(rig):
            await rig.clock.advance(hours * 3600.0 + 20.0)
        moments = {step: wall for wall, _, step, _ in rig.steps}
        assert moments["end"] - moments["begin"] == hours * 3600.0


async def test_a_calendar_that_cannot_be_read_is_said_and_read_again_soon() -> None:
    rig = Rigged(at("2026-11-24T12:00"), calendars=(Calendar("bt", "sim"),),
                 announced=Read((), 0, "answered 503"))
    async with running(rig) as it:
        await rig.clock.advance(2.0)
        ((name, why, since),) = it.view().unread
        assert (name, why) == ("bt", "answered 503")
        rig.announced = Read(())
        await rig.clock.advance(300.0)
        assert it.view().unread == ()
        assert since < rig.clock.wall()


async def test_on_a_real_board_the_link_drains_and_returns_only_after_a_passed_run() -> None:
    async with watched((FIBRE, SIM)) as it:
        start = Wall(it.clock.wall() + 60.0)
        rig = Rigged(it.clock, (Window("w", "fibre", start, Wall(start + 120.0), 30.0),))
        rig.set_windows = it.board.set_windows  # type: ignore[method-assign]
        async with running(rig) as work:
            await it.clock.advance(20.0)
            assert it.board.active() == "fibre"
            await it.clock.advance(15.0)
            assert it.board.state("fibre").state == "DRAINING"
            assert it.board.active() == "sim"
            await it.clock.advance(600.0)
            assert it.board.state("fibre").state == "PROBATION"
            assert it.board.active() == "sim"
            work.passed(["fibre"], it.clock.wall())
            await it.clock.advance(5.0)
            assert it.board.state("fibre").state == "UP"


async def test_a_clock_that_is_not_trusted_distrusts_no_link() -> None:
    rig = Rigged(at("2026-11-26T04:30"), (night(),))
    rig.clock.trusted = False
    async with running(rig):
        assert not rig.distrusted
