"""What a metered link may still carry: months, counters, slices, the forecast, and who stops."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.config.packs import find, read
from gateway.core.instant import Wall
from gateway.core.message import Request, Streamed
from gateway.core.pack import OTHER_READ, OTHER_WRITE, Kind, Matched, Route
from gateway.core.quota import (
    PRICE,
    SHED,
    USES,
    Carrier,
    Plan,
    Reading,
    Use,
    Used,
    barred,
    burn,
    counted,
    days_left,
    month_of,
    overlay,
    price,
    reconciled,
    share,
    spent,
    use_of,
    uses,
)

MB = 1_000_000
PLAN = Plan(1000 * MB)


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> Wall:
    zone = ZoneInfo("Europe/London")
    return Wall(datetime(year, month, day, hour, minute, tzinfo=zone).timestamp())


def _request(body: bytes | Streamed, headers: tuple[tuple[str, str], ...] = ()) -> Request:
    return Request("T", "c", "u", "POST", "/x", headers, body)


NOON = at(2026, 11, 11, 12)


@pytest.mark.parametrize(("when", "starts", "begin", "end"), [
    ((2026, 11, 27, 9), 1, (2026, 11, 1), (2026, 12, 1)),
    ((2026, 11, 27, 9), 28, (2026, 10, 28), (2026, 11, 28)),
    ((2026, 12, 31, 23, 59), 1, (2026, 12, 1), (2027, 1, 1)),
    ((2026, 3, 1), 31, (2026, 2, 28), (2026, 3, 31)),
    ((2028, 2, 29), 30, (2028, 2, 29), (2028, 3, 30)),
    ((2026, 4, 30, 0), 31, (2026, 4, 30), (2026, 5, 31)),
    ((2026, 3, 29, 12), 29, (2026, 3, 29), (2026, 4, 29)),  # the clocks go forward that night
    ((2026, 10, 25, 0, 30), 25, (2026, 10, 25), (2026, 11, 25)),  # and back
    ((2026, 10, 24, 23, 59), 25, (2026, 9, 25), (2026, 10, 25)),
])
def test_a_contracts_month_runs_from_local_midnight_to_local_midnight(
        when: tuple[int, ...], starts: int, begin: tuple[int, ...], end: tuple[int, ...]) -> None:
    assert month_of(at(*when), starts) == (at(*begin), at(*end))


@pytest.mark.parametrize("starts", [1, 15, 29, 30, 31])
def test_months_follow_each_other_without_a_gap_for_four_years(starts: int) -> None:
    wall = at(2026, 1, 15)
    while wall < at(2030, 1, 1):
        begin, end = month_of(wall, starts)
        assert begin <= wall < end
        assert month_of(end, starts)[0] == end
        wall = Wall(wall + 13 * 3600.0)


def test_a_counter_that_begins_anew_loses_nothing() -> None:
    used = counted(None, Reading(700, "boot1/3"), PLAN, NOON)
    for reading in (Reading(900, "boot1/3"), Reading(50, "boot1/7"), Reading(80, "boot1/7"),
                    Reading(5000, "boot2/3"), Reading(40, "boot2/3")):
        used = counted(used, reading, PLAN, NOON)

    # 200 more, a new device's first 50 and 30 more, a new boot's 5000, a wrap's 40
    assert used.total == 200 + 50 + 30 + 5000 + 40


def test_a_new_month_begins_at_nothing_and_is_known_whole() -> None:
    used = counted(None, Reading(0, "b"), PLAN, at(2026, 11, 30, 23))
    used = counted(used, Reading(500, "b"), PLAN, at(2026, 11, 30, 23, 59))
    assert (used.total, used.whole) == (500, False)

    used = counted(used, Reading(620, "b"), PLAN, at(2026, 12, 1))
    assert (used.total, used.whole, used.month) == (120, True, at(2026, 12, 1))


def test_a_clock_that_steps_back_over_the_boundary_begins_no_month_twice() -> None:
    used = Used(at(2026, 12, 1), 900, last=Reading(0, "b"), whole=True)

    used = counted(used, Reading(10, "b"), PLAN, at(2026, 11, 30, 23))

    assert (used.total, used.month) == (910, at(2026, 12, 1))


def test_the_carriers_figure_rules_and_is_taken_once() -> None:
    today = datetime(2026, 11, 11, tzinfo=UTC).toordinal()
    used = Used(at(2026, 11, 1), 10 * MB, days=((today - 1, 4 * MB), (today, 1 * MB)))
    told = Carrier(300 * MB, at(2026, 11, 11, 8))

    after = reconciled(used, told)
    assert (after.total, after.whole) == (301 * MB, True)
    assert reconciled(after, told) is after
    assert reconciled(used, Carrier(300 * MB, at(2026, 10, 31))) is used  # of the month before


@pytest.mark.parametrize("part", [0.0, 0.49, 0.5, 0.75, 0.9, 0.99, 1.0, 3.0])
def test_bookings_and_reads_are_cut_at_no_percentage(part: float) -> None:
    out = barred(Used(at(2026, 11, 1), int(part * PLAN.month_bytes)), PLAN)

    assert "clinical" not in out
    for use, level in SHED.items():
        assert use not in out or part >= level or use == "bulk"
        assert use in out or part < level


def test_at_the_level_and_one_byte_below_it() -> None:
    for use, level in SHED.items():
        limit = int(level * PLAN.month_bytes)
        generous = Plan(PLAN.month_bytes, bulk_share=1.0)
        by: tuple[tuple[Use, int], ...] = (("clinical", limit),)
        assert use in barred(Used(NOON, limit, by), generous)
        assert use not in barred(Used(NOON, limit - 1, by), generous)


@pytest.mark.parametrize(("use", "part"), [
    ("background", 0.10), ("hedges", 0.03), ("probes", 0.05), ("bulk", 0.0)])
def test_a_spent_slice_stops_its_own_use_only(use: Use, part: float) -> None:
    generous = Plan(1000 * MB, bulk_share=0.2 if use != "bulk" else 0.0)
    n = int(part * generous.month_bytes)
    used = Used(NOON, n) if use == "probes" else spent(Used(NOON, n), use, n)

    assert barred(used, generous) == {use}


def test_a_slice_of_nothing_is_spent_from_the_beginning() -> None:
    slices: tuple[tuple[Use, Plan], ...] = (("hedges", Plan(1000 * MB, hedge_share=0.0)),
                                            ("probes", Plan(1000 * MB, probe_share=0.0)),
                                            ("background", Plan(1000 * MB, background_share=0.0)))
    for use, plan in slices:
        assert barred(Used(NOON), plan) == {use, "bulk"}


def test_what_no_request_explains_is_the_probes() -> None:
    used = spent(spent(Used(NOON, 100), "clinical", 60), "hedges", 15)

    assert uses(used) == {use: {"clinical": 60, "hedges": 15, "probes": 25}.get(use, 0)
                          for use in USES}


def test_seven_days_and_the_present_hour_foretell_the_day() -> None:
    today = datetime(2026, 11, 11, tzinfo=UTC).toordinal()
    week = tuple((today - n, 40 * MB) for n in range(7, 0, -1))
    used = Used(at(2026, 11, 1), 600 * MB, days=week)

    assert days_left(used, PLAN, NOON) == pytest.approx(10.0 + 5 / 24, rel=0.01)

    hour = int(NOON // 3600)
    burst = Used(at(2026, 11, 1), 600 * MB, days=week, hour=(hour, 50 * MB))
    ahead = days_left(burst, PLAN, Wall(NOON + 1800.0))  # 100 MB an hour: gone in four
    assert ahead == pytest.approx(4 / 24, rel=0.01)


def test_a_month_that_ends_first_has_no_day_of_exhaustion() -> None:
    today = datetime(2026, 11, 11, tzinfo=UTC).toordinal()

    assert days_left(Used(at(2026, 11, 1), 10 * MB, days=((today - 1, MB),)), PLAN, NOON) is None
    assert days_left(Used(at(2026, 11, 1)), PLAN, NOON) is None
    assert days_left(Used(at(2026, 11, 1), 1000 * MB), PLAN, NOON) == 0.0


def test_low_comes_before_out() -> None:
    today = datetime(2026, 11, 11, tzinfo=UTC).toordinal()
    said = [overlay(Used(at(2026, 11, 1), int(part * 1000) * MB), PLAN, NOON)
            for part in (0.0, 0.5, 0.749, 0.75, 0.999, 1.0)]
    assert said == ["", "", "", "QUOTA_LOW", "QUOTA_LOW", "QUOTA_OUT"]

    fast = Used(at(2026, 11, 1), 500 * MB, days=((today - 1, 100 * MB),))
    assert overlay(fast, PLAN, NOON) == "QUOTA_LOW"


def test_a_byte_becomes_dearer_and_never_cheaper() -> None:
    prices = [price(Used(NOON, n * MB), PLAN) for n in range(0, 2001, 10)]

    assert prices == sorted(prices)
    assert prices[0] == PRICE
    assert prices[-1] == pytest.approx(10 * PRICE)


def test_the_curve_begins_at_nothing_ends_at_all_and_rests_at_weekends() -> None:
    assert burn(PLAN, at(2026, 11, 1)) == 0.0
    assert burn(PLAN, at(2026, 11, 30, 23, 59)) == pytest.approx(1.0, abs=0.01)
    friday = burn(PLAN, at(2026, 11, 7)) - burn(PLAN, at(2026, 11, 6))
    saturday = burn(PLAN, at(2026, 11, 8)) - burn(PLAN, at(2026, 11, 7))
    assert friday == pytest.approx(4 * saturday)
    assert share(Used(NOON, 250 * MB), PLAN) == 0.25


@pytest.mark.parametrize(("kind", "clinical", "streams", "expected"), [
    ("booking_read", False, False, "clinical"), ("record_read", False, False, "clinical"),
    ("booking", False, False, "clinical"), ("booking", False, True, "clinical"),
    ("write", True, False, "clinical"), ("write", True, True, "clinical"),
    ("write", False, False, "clinical"), ("write", False, True, "other"),
    ("other", False, True, "bulk"), ("other", True, True, "clinical"),
])
def test_a_request_is_to_the_plan_what_the_packs_route_says(
        kind: Kind, clinical: bool, streams: bool, expected: Use) -> None:
    body = Streamed(None) if streams else b""
    route = Route("r", kind, ("POST",), ".*", clinical=clinical)

    assert use_of(Matched(route), _request(body)) == expected


@pytest.mark.parametrize("name", ["bars-r4", "fhir-r4", "gp-connect-stu3"])
def test_no_route_of_our_packs_waits_for_a_plan_but_bodies_over_a_mebibyte(name: str) -> None:
    file = find(name, None)
    assert file is not None
    pack = read(file, [])
    assert pack is not None

    waiting = {route.id for route in pack.routes
               if use_of(Matched(route), _request(b"x")) != "clinical"}
    assert waiting <= {"metadata"}


def test_what_no_pack_names_is_background_whatever_it_says_of_itself() -> None:
    urgent = (("Prefer", "priority=clinical"), ("User-Agent", "EMIS"))

    assert use_of(Matched(OTHER_READ), _request(b"", urgent)) == "background"
    assert use_of(Matched(OTHER_WRITE), _request(b"", urgent)) == "other"
