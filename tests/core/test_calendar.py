"""A supplier's event becomes a window that is never shorter than was meant."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway.core.calendar import HORIZON_S, Calendar, Occurrence, instant, readings, windows_of
from gateway.core.instant import Wall

LONDON = ZoneInfo("Europe/London")
BT = Calendar("bt", "fibre", match="planned works|PEW", windows_max=3)
NOW = Wall(datetime(2026, 10, 1, tzinfo=UTC).timestamp())


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("zone", [None, LONDON])
@pytest.mark.parametrize(("told", "start", "end"), [
    ("2026-07-01T02:00", "2026-07-01T01:00", "2026-07-01T01:00"),
    ("2026-11-26T02:00", "2026-11-26T02:00", "2026-11-26T02:00"),
    ("2026-10-25T01:30", "2026-10-25T00:30", "2026-10-25T01:30"),  # occurs twice
    ("2026-10-25T00:59", "2026-10-24T23:59", "2026-10-24T23:59"),
    ("2026-10-25T02:00", "2026-10-25T02:00", "2026-10-25T02:00"),
    ("2027-03-28T01:30", "2027-03-28T00:30", "2027-03-28T01:30"),  # does not exist
    ("2027-03-28T02:00", "2027-03-28T01:00", "2027-03-28T01:00"),
    ("2027-03-28T00:59", "2027-03-28T00:59", "2027-03-28T00:59"),
])
def test_a_local_time_begins_early_and_ends_late(zone: ZoneInfo | None, told: str, start: str,
                                                 end: str) -> None:
    at = datetime.fromisoformat(told).replace(tzinfo=zone)
    assert instant(at, "start") == utc(start)
    assert instant(at, "end") == utc(end)


def test_our_readings_are_those_of_the_zone_file_for_a_decade() -> None:
    at = datetime(2026, 1, 1)
    while at.year < 2036:
        theirs = {at.replace(tzinfo=LONDON, fold=fold).timestamp() for fold in (0, 1)}
        assert set(readings(at)) == theirs, at
        at += timedelta(minutes=3 * 60 + 30)


@pytest.mark.parametrize(("day", "hours"), [
    ("2026-11-26", 24), ("2026-10-25", 25), ("2027-03-28", 23)])
def test_a_whole_day_is_as_long_as_it_is_in_london(day: str, hours: int) -> None:
    (window,), _ = windows_of(Calendar("bt", "fibre"), (
        Occurrence(date.fromisoformat(day), None),), NOW if day < "2026-12" else Wall(
            utc("2027-03-01T00:00")))
    assert window.end - window.start == hours * 3600


def test_only_events_of_the_named_kind_that_were_not_cancelled_count() -> None:
    start, end = datetime(2026, 10, 8, 1, tzinfo=UTC), datetime(2026, 10, 8, 3, tzinfo=UTC)
    told = (
        Occurrence(start, end, "PLANNED WORKS at the exchange"),
        Occurrence(start + timedelta(days=1), end + timedelta(days=1), "x", ("pew",)),
        Occurrence(start + timedelta(days=2), end + timedelta(days=2), "Christmas party"),
        Occurrence(start + timedelta(days=3), end + timedelta(days=3), "PEW", (), "cancelled"),
        Occurrence(start + timedelta(days=4), start + timedelta(days=4), "PEW"),
    )
    found, beyond = windows_of(BT, told, NOW)
    assert [each.id for each in found] == ["bt-20261008T0100Z", "bt-20261009T0100Z"]
    assert {(each.source, each.origin, each.link) for each in found} == {
        ("calendar", "bt", "fibre")}
    assert beyond == 0


def test_what_is_over_beyond_the_horizon_or_too_many_is_left_out() -> None:
    far = datetime.fromtimestamp(NOW + HORIZON_S + 60, UTC)
    old = datetime.fromtimestamp(NOW - 86_400 - 7200, UTC)
    hour = timedelta(hours=1)
    told = [Occurrence(far, far + hour, "pew"), Occurrence(old, old + hour, "pew")]
    assert windows_of(BT, told, NOW) == ((), 0)
    told = [Occurrence(datetime(2026, 10, n, 1, tzinfo=UTC), datetime(2026, 10, n, 2, tzinfo=UTC),
                       "pew") for n in range(2, 7)]
    found, beyond = windows_of(BT, told, NOW)
    assert (len(found), beyond) == (3, 2)


def test_nothing_of_an_events_words_gets_into_a_window() -> None:
    told = Occurrence(datetime(2026, 10, 8, 1), datetime(2026, 10, 8, 3), "pew for Mrs Marker")
    (window,), _ = windows_of(BT, (told,), NOW)
    assert "Marker" not in repr(window)
    assert window.rule == "2026-10-08T01:00 Europe/London/2026-10-08T03:00 Europe/London"


def test_one_that_is_just_over_stays_for_a_day_since_its_link_is_distrusted_after_it() -> None:
    old = datetime.fromtimestamp(NOW - 7200, UTC)
    (window,), _ = windows_of(BT, [Occurrence(old, old + timedelta(hours=1), "pew")], NOW)
    assert window.end == NOW - 3600
