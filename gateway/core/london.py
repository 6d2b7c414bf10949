"""Local time in the United Kingdom by its summer time rule, without a table of zones.

From the last Sunday of March to that of October, both at 01:00 UTC, the clock is an hour ahead.
"""

from datetime import UTC, datetime, timedelta

from gateway.core.instant import Wall


def local(wall: Wall) -> datetime:
    """Return what a clock on the wall shows at ``wall``, without a zone."""
    utc = datetime.fromtimestamp(wall, UTC)
    ahead = timedelta(hours=1) if is_summer(utc) else timedelta()
    return (utc + ahead).replace(tzinfo=None)


def midnight(year: int, month: int, day: int) -> Wall:
    """Return the instant at which that local day begins: the clocks never change at midnight."""
    utc = datetime(year, month, day, tzinfo=UTC)
    return Wall((utc - (timedelta(hours=1) if is_summer(utc) else timedelta())).timestamp())


def is_summer(utc: datetime) -> bool:
    """Whether summer time holds at ``utc``."""
    return _last_sunday(utc.year, 3) <= utc < _last_sunday(utc.year, 10)


def _last_sunday(year: int, month: int) -> datetime:
    last = datetime(year, month, 31, 1, tzinfo=UTC)
    return last - timedelta(days=(last.weekday() + 1) % 7)
