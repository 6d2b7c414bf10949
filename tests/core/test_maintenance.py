"""Windows bind a link from their drain to their end, and never every link at once."""

from datetime import UTC, datetime

import pytest

from gateway.core.instant import Wall
from gateway.core.maintenance import (
    PREFLIGHT_S,
    REFRESH_S,
    WINDOWS_MAX,
    Step,
    Window,
    asks,
    binding,
    due,
    is_outside,
    key,
    merged,
    minutes_to_next,
    phase,
    preflight,
    refresh_wanted,
    refusal,
    shared,
    still,
    upcoming,
    without_path,
)

NIGHT = Window("night", "fibre", Wall(1000.0), Wall(2000.0), drain_s=100.0)
LINKS = ("fibre", "sim")


def utc(text: str) -> Wall:
    return Wall(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(("wall", "bound"), [
    (899.9, False), (900.0, True), (1000.0, True), (1999.9, True), (2000.0, False)])
def test_a_window_binds_from_its_drain_to_its_end(wall: float, bound: bool) -> None:
    assert (binding((NIGHT,), "fibre", Wall(wall)) is NIGHT) == bound
    assert binding((NIGHT,), "sim", Wall(wall)) is None


def test_the_next_window_is_the_one_that_drains_first() -> None:
    later = Window("later", "sim", Wall(1200.0), Wall(1300.0), drain_s=50.0)
    assert upcoming((later, NIGHT), Wall(0.0)) is NIGHT
    assert upcoming((later, NIGHT), Wall(950.0)) is later
    assert upcoming((later, NIGHT), Wall(1250.0)) is None


def test_a_window_that_takes_the_last_path_is_named() -> None:
    other = Window("other", "sim", Wall(1500.0), Wall(1600.0), drain_s=0.0)
    assert without_path((NIGHT, other), LINKS) == ("other",)
    assert without_path((NIGHT,), LINKS) == ()
    assert without_path((NIGHT,), ("fibre",)) == ("night",)


@pytest.mark.parametrize(("window", "why"), [
    (Window("a", "sim", Wall(1999.0), Wall(2100.0), 0.0), "last_path"),
    (Window("a", "sim", Wall(2000.0), Wall(2100.0), 0.0), None),  # begins as the other ends
    (Window("a", "sim", Wall(2050.0), Wall(2100.0), 100.0), "last_path"),  # its drain overlaps
    (Window("a", "sim", Wall(500.0), Wall(950.0), 0.0), "last_path"),  # the other's drain does
    (Window("a", "sim", Wall(500.0), Wall(900.0), 0.0), None),
    (Window("a", "copper", Wall(500.0), Wall(900.0)), "unknown_link"),
    (Window("a", "sim", Wall(900.0), Wall(900.0)), "bad_times"),
    (Window("a", "sim", Wall(3000.0), Wall(3001.0 + 7 * 86_400)), "bad_times"),
])
def test_a_window_that_cannot_stand_is_refused_with_its_reason(window: Window,
                                                               why: str | None) -> None:
    assert refusal(window, (NIGHT,), LINKS) == why


def test_who_announced_first_keeps_the_path_and_the_other_is_told() -> None:
    theirs = Window("cal", "sim", Wall(1500.0), Wall(1600.0), source="calendar")
    plan = merged((NIGHT, theirs), (), LINKS, Wall(0.0))
    assert plan.windows == (NIGHT,)
    assert [(each.window.id, each.why) for each in plan.refused] == [("cal", "last_path")]


def test_a_cancelled_an_ended_and_a_doubled_window_are_left_out() -> None:
    twin = Window("twin", "fibre", NIGHT.start, NIGHT.end, source="calendar")
    assert merged((NIGHT, twin), (), LINKS, Wall(0.0)).windows == (NIGHT,)
    assert merged((NIGHT,), ("night",), LINKS, Wall(0.0)).windows == ()
    assert merged((NIGHT,), (), LINKS, Wall(2000.0 + 86_400)).windows == (NIGHT,)
    assert merged((NIGHT,), (), LINKS, Wall(2000.1 + 86_400)).windows == ()


def test_one_window_past_the_limit_is_refused() -> None:
    many = tuple(Window(f"w{n}", "fibre", Wall(n * 100.0), Wall(n * 100.0 + 50), 0.0)
                 for n in range(WINDOWS_MAX + 1))
    plan = merged(many, (), LINKS, Wall(0.0))
    assert len(plan.windows) == WINDOWS_MAX
    assert [each.why for each in plan.refused] == ["too_many"]


@pytest.mark.parametrize(("start", "end", "cover_s", "asked"), [
    ("2026-11-26T02:00", "2026-11-26T04:00", None, ()),
    ("2026-11-26T06:00", "2026-11-26T08:05", None, ("surgery_hours",)),  # a Thursday
    ("2026-11-28T09:00", "2026-11-28T11:00", None, ()),  # a Saturday
    ("2026-07-01T06:30", "2026-07-01T06:59", None, ()),  # 07:30 to 07:59 in summer
    ("2026-07-01T06:30", "2026-07-01T07:30", None, ("surgery_hours",)),  # to 08:30
    ("2026-11-26T02:00", "2026-11-26T04:00", 7200.0, ()),
    ("2026-11-26T02:00", "2026-11-26T04:00", 7199.0, ("beyond_quota",)),
])
def test_a_person_is_asked_twice_in_surgery_hours_and_beyond_the_quota(
        start: str, end: str, cover_s: float | None, asked: tuple[str, ...]) -> None:
    window = Window("w", "fibre", utc(start), utc(end))
    assert asks(window, 8.0, 18.5, cover_s) == asked


@pytest.mark.parametrize(("fates", "proven", "spent", "found"), [
    ({}, {"sim"}, set(), ()),
    ({}, set(), set(), ("unproven",)),
    ({"fibre": frozenset({"exchange:x"}), "sim": frozenset({"exchange:x"})}, {"sim"}, set(),
     ("shared_fate",)),
    ({"fibre": frozenset({"exchange:x"}), "sim": frozenset({"mast:x"})}, {"sim"}, set(), ()),
    ({}, {"sim"}, {"sim"}, ("quota",)),
    ({}, {"fibre"}, {"sim"}, ("unproven", "quota")),
])
def test_the_day_before_the_other_link_is_looked_at(
        fates: dict[str, frozenset[str]], proven: set[str], spent: set[str],
        found: tuple[str, ...]) -> None:
    assert preflight(NIGHT, LINKS, fates, proven, spent) == found


def test_one_good_link_among_the_others_is_enough_and_none_is_said() -> None:
    assert preflight(NIGHT, (*LINKS, "dsl"), {}, {"dsl"}, ()) == ()
    assert preflight(NIGHT, ("fibre",), {}, {"fibre"}, ()) == ("no_other_link",)


def test_a_part_that_two_links_share_is_named() -> None:
    fates = {"sim": frozenset({"mast:1", "firewall:y"}), "fibre": frozenset({"firewall:y"})}
    assert shared(fates) == (("fibre", "sim", "firewall:y"),)


@pytest.mark.parametrize(("before", "told"), [
    (PREFLIGHT_S + 1, "planned"), (PREFLIGHT_S, "checked"), (REFRESH_S, "refreshing"),
    (100.0, "draining"), (0.0, "open"), (-999.0, "open"), (-1000.0, "over")])
def test_a_window_goes_through_its_phases(before: float, told: str) -> None:
    window = Window("w", "fibre", Wall(1e6), Wall(1e6 + 1000), drain_s=100.0)
    assert phase(window, Wall(1e6 - before)) == told


def test_every_step_is_due_once_and_in_order() -> None:
    window = Window("w", "fibre", Wall(1e6), Wall(1e6 + 1000), drain_s=300.0)
    done: set[str] = set()
    seen: list[tuple[float, Step]] = []
    for wall in range(int(1e6 - PREFLIGHT_S - 600), int(1e6 + 2000), 60):
        for found, step in due((window,), done, Wall(wall)):
            done.add(key(found, step))
            seen.append((wall - 1e6, step))
    assert [step for _, step in seen] == ["preflight", "refresh", "page", "drain", "begin", "end"]
    assert [at for at, _ in seen] == [-86_400, -1800, -1800, -300, 0, 1020]


def test_a_window_announced_late_gets_what_is_still_of_use() -> None:
    assert [step for _, step in due((NIGHT,), (), Wall(990.0))] == [
        "preflight", "refresh", "page", "drain"]
    assert [step for _, step in due((NIGHT,), (), Wall(1500.0))] == ["begin"]
    assert due((NIGHT,), (), Wall(2000.0 + 86_400)) == ()


def test_what_was_done_is_forgotten_with_its_window() -> None:
    done = {key(NIGHT, "end"), "sim/1/2/end"}
    assert still(done, (NIGHT,)) == {key(NIGHT, "end")}
    assert still(done, ()) == frozenset()


def test_copies_are_wanted_fresh_from_half_an_hour_before_until_it_begins() -> None:
    assert refresh_wanted((NIGHT,), Wall(1000 - REFRESH_S - 0.1)) is None
    assert refresh_wanted((NIGHT,), Wall(1000 - REFRESH_S)) is NIGHT
    assert refresh_wanted((NIGHT,), Wall(1000.0)) is None


def test_the_minutes_to_the_next_window() -> None:
    assert minutes_to_next((NIGHT,), Wall(400.0)) == 10.0
    assert minutes_to_next((NIGHT,), Wall(1500.0)) == 0.0
    assert minutes_to_next((NIGHT,), Wall(2000.0)) is None


def test_a_fault_of_another_link_inside_a_window_is_outside_the_work() -> None:
    assert is_outside("sim", (NIGHT,), Wall(1500.0))
    assert not is_outside("fibre", (NIGHT,), Wall(1500.0))
    assert not is_outside("sim", (NIGHT,), Wall(2500.0))
