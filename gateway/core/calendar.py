"""A supplier's calendar: which of its events are windows, and when they are in UTC.

``edge/calendar`` reads iCalendar (RFC 5545) and unrolls its rules; here is what we make of an
event. Law: a window is never shorter than was meant. A time without a zone, and a whole day, is
Europe/London's. Where the clocks change, a local time has two readings (in October it occurs
twice, in March it does not exist and both neighbours are possible): a beginning takes the earlier
one, an end the later one. That costs at most an hour more on the backup.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from gateway.core.instant import Wall
from gateway.core.london import local
from gateway.core.maintenance import Window

HORIZON_S: Final = 90 * 86_400.0
"""How far ahead events are unrolled: suppliers announce weeks before, rules go on for ever."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """One announced calendar. ``url`` or ``file``; ``match`` is sought in summary and categories.

    ``match`` is a plain word or several parted by ``|``, letter case aside; empty takes all.
    """

    id: str
    link: str
    url: str = ""
    file: str = ""
    match: str = ""
    ca_file: str = ""
    refresh_s: float = 3600.0
    bytes_max: int = 1 << 20
    windows_max: int = 100
    drain_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One event of a calendar after its rules were unrolled; ``end`` None is "not said".

    A time is aware (UTC or a zone of its own), naive (floating), or a whole day.
    """

    start: datetime | date
    end: datetime | date | None
    summary: str = ""
    categories: tuple[str, ...] = ()
    status: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """What one reading of a calendar gave: ``trouble`` says why it is only what was kept before,
    ``left_out`` how many windows were too many."""

    windows: tuple[Window, ...]
    left_out: int = 0
    trouble: str = ""


def readings(told: datetime) -> tuple[Wall, ...]:
    """Return every instant at which a clock in London shows ``told``, earliest first.

    In the hour that the clocks skip no clock does: then the two that its neighbours would give.
    """
    naive = told.replace(tzinfo=UTC).timestamp()
    both = (Wall(naive - 3600.0), Wall(naive))
    shown = tuple(wall for wall in both if local(wall).replace(tzinfo=None) == told)
    return shown or both


def instant(told: datetime | date, which: Literal["start", "end"]) -> Wall:
    """Return the instant that ``told`` means, as a beginning or as an end."""
    if not isinstance(told, datetime):
        told = datetime(told.year, told.month, told.day)
    if told.tzinfo is None:
        found = readings(told)
    else:
        found = (Wall(told.replace(fold=0).timestamp()), Wall(told.replace(fold=1).timestamp()))
    return min(found) if which == "start" else max(found)


def is_meant(calendar: Calendar, occurrence: Occurrence) -> bool:
    """Whether the event counts: not cancelled, and of the kind that the calendar's rule names."""
    if occurrence.status.upper() == "CANCELLED":
        return False
    words = [word.strip().lower() for word in calendar.match.split("|") if word.strip()]
    told = " ".join((occurrence.summary, *occurrence.categories)).lower()
    return not words or any(word in told for word in words)


def windows_of(calendar: Calendar, occurrences: Iterable[Occurrence], wall: Wall
               ) -> tuple[tuple[Window, ...], int]:
    """Return the windows that ``calendar`` announces around ``wall``, and how many were too many.

    One that is over stays for a day: its link is distrusted after it. Events without length
    announce nothing. An id is made from calendar and beginning: an event's
    own may hold a person's address, and travels nowhere.
    """
    found: list[Window] = []
    for each in occurrences:
        if not is_meant(calendar, each):
            continue
        start = instant(each.start, "start")
        end = instant(_end(each), "end")
        if end <= start or end < wall - 86_400.0 or start > wall + HORIZON_S:
            continue
        found.append(Window(_id(calendar, start), calendar.link, start, end, calendar.drain_s, "",
                            "calendar", calendar.id, f"{_said(each.start)}/{_said(_end(each))}"))
    found.sort(key=lambda window: (window.start, window.end))
    unique = tuple({(each.start, each.end): each for each in found}.values())
    return unique[:calendar.windows_max], max(0, len(unique) - calendar.windows_max)


def _end(occurrence: Occurrence) -> datetime | date:
    if occurrence.end is not None:
        return occurrence.end
    if isinstance(occurrence.start, datetime):
        return occurrence.start
    return occurrence.start + timedelta(days=1)  # RFC 5545 section 3.6.1: a day without an end


def _id(calendar: Calendar, start: Wall) -> str:
    return f"{calendar.id}-{datetime.fromtimestamp(start, UTC):%Y%m%dT%H%M}Z"[:64]


def _said(told: datetime | date) -> str:
    text = told.isoformat()
    if isinstance(told, datetime) and told.tzinfo is not None:
        zone = re.sub(r"[^A-Za-z0-9_+/:-]", "", str(told.tzinfo))[:40]
        return f"{text[:16]} {zone}"
    return f"{text[:16]} Europe/London"
