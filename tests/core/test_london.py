"""Local time by rule, held against the table of zones."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.core.instant import Wall
from gateway.core.london import local, midnight


@pytest.mark.parametrize("year", range(2024, 2040))
def test_every_hour_of_a_year_reads_as_the_table_of_zones_has_it(year: int) -> None:
    begin = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())

    for wall in range(begin, begin + 366 * 86400, 3600):
        expected = datetime.fromtimestamp(wall, ZoneInfo("Europe/London")).replace(tzinfo=None)
        assert local(Wall(wall)) == expected


def test_a_summer_day_begins_an_hour_before_that_of_utc() -> None:
    assert midnight(2026, 7, 1) == datetime(2026, 6, 30, 23, tzinfo=UTC).timestamp()
    assert midnight(2026, 10, 25) == datetime(2026, 10, 24, 23, tzinfo=UTC).timestamp()
    assert midnight(2026, 10, 26) == datetime(2026, 10, 26, tzinfo=UTC).timestamp()
