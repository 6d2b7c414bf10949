"""Maintenance windows are written in local time; core knows UTC only.

In October an hour occurs twice and in March one does not exist: a window that begins in the
doubled hour begins with the first, one that ends in it ends with the second (so it is never
shorter than meant), and a time in the missing hour is a mistake.
"""

from datetime import UTC, datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from gateway.core.instant import Wall

LONDON: Final = ZoneInfo("Europe/London")


def to_wall(text: str, which: Literal["start", "end"]) -> Wall:
    """Return the instant that ``text`` (ISO 8601, local unless it has an offset) names.

    Raises:
        ValueError: it is no such time, or no clock in London ever shows it.
    """
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError('must be a time such as "2026-11-26T02:00"') from None
    if told.tzinfo is not None:
        return Wall(told.timestamp())
    local = told.replace(tzinfo=LONDON, fold=0 if which == "start" else 1)
    back = local.astimezone(UTC).astimezone(LONDON)
    if back.replace(tzinfo=None) != told:
        raise ValueError("does not exist: the clocks go forward over it in Europe/London")
    return Wall(local.timestamp())
