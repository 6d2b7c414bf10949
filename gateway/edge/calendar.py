"""iCalendar files: read, unrolled, fetched, and the last good copy kept (RFC 5545).

The only room that knows ``icalendar`` and ``recurring_ical_events``. A calendar is a stranger's
file: its bytes, events and rules are bounded before the libraries see them, since a rule by the
second unrolls for minutes. Reading takes some 0.5 ms an event, so it is done in a thread. What
cannot be read is ``BadCalendar`` with the line and the reason; the copy kept before it stays.
"""

import asyncio
import contextlib
import json
import math
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import icalendar
import recurring_ical_events  # type: ignore[import-untyped]

from gateway.core.calendar import HORIZON_S, Calendar, Occurrence, Read, windows_of
from gateway.core.instant import Wall
from gateway.edge import whole_file
from gateway.errors import GatewayError

A_DAY_MAX: Final = 4
RULES_MAX: Final = 64
"""A rule of every minute cost 340 MB before it was refused by its number, and the unit has 512."""
EVENTS_MAX: Final = 2000
"""VEVENTs in one file: a supplier's year has a few hundred."""
UNROLLED_MAX: Final = 5000
"""Occurrences within the horizon: hourly for 90 days is 2,160."""
FETCH_S: Final = 20.0
"""Seconds for a whole fetch, name and TLS included."""
HEAD_MAX: Final = 16384
TYPES: Final = ("text/calendar", "application/ics", "application/octet-stream", "text/plain")

Dial: TypeAlias = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader,
                                                       asyncio.StreamWriter]]]
"""Open a TCP connection to (host, port) over one link. Raises OSError."""


class BadCalendar(GatewayError):
    """A calendar that cannot be read; ``line`` counts from 1, 0 where no line is to blame."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {why}" if line else why)
        self.line = line
        self.why = why


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetch: ``body`` None is "not modified" (304)."""

    body: bytes | None
    etag: str = ""
    modified: str = ""


def occurrences(body: bytes, wall: Wall) -> tuple[Occurrence, ...]:
    """Return the events of an iCalendar file from a week before ``wall`` to the horizon.

    RRULE, RDATE, EXDATE, RECURRENCE-ID, DURATION, time zones and X-WR-TIMEZONE are unrolled.

    Raises:
        BadCalendar: it is no calendar, or an event cannot be understood.
    """
    _bounded(body)
    now = datetime.fromtimestamp(wall, UTC)
    try:
        query = recurring_ical_events.of(icalendar.Calendar.from_ical(body))
        found = []
        for event in query.between(now - timedelta(days=8), now + timedelta(seconds=HORIZON_S)):
            found.append(_occurrence(event))
            if len(found) > UNROLLED_MAX:
                raise BadCalendar(f"more than {UNROLLED_MAX} events in 90 days")
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError,
            RecursionError) as error:
        raise BadCalendar(_reason(error), _guilty(body)) from None
    return tuple(found)


def _occurrence(event: Any) -> Occurrence:
    categories: tuple[str, ...] = ()
    told = event.get("CATEGORIES")
    for each in told if isinstance(told, list) else [told] if told is not None else []:
        categories += tuple(str(name) for name in getattr(each, "cats", [each]))
    end = event.get("DTEND")
    return Occurrence(event["DTSTART"].dt, None if end is None else end.dt,
                      str(event.get("SUMMARY", "")), categories, str(event.get("STATUS", "")))


def _bounded(body: bytes) -> None:
    """Refuse what would keep the libraries busy for minutes, or is no calendar at all."""
    upper = body.upper()
    if b"BEGIN:VCALENDAR" not in upper[:1024]:
        raise BadCalendar("is no iCalendar file: BEGIN:VCALENDAR is missing", 1)
    if b"END:VCALENDAR" not in upper[-1024:]:
        raise BadCalendar("is cut short: END:VCALENDAR is missing", _lines(body))
    if upper.count(b"BEGIN:VEVENT") > EVENTS_MAX:
        raise BadCalendar(f"more than {EVENTS_MAX} events")
    rules = dates = 0
    for number, line in enumerate(_unfolded(upper), 1):
        if line.startswith(b"RDATE"):
            dates += 1 + line.count(b",")
        if not line.startswith((b"RRULE", b"EXRULE")):
            continue
        rules += 1
        if re.search(rb"FREQ=(SECONDLY|MINUTELY|HOURLY)", line) or _a_day(line) > A_DAY_MAX:
            raise BadCalendar("repeats within a day: that is no maintenance", number)
    if rules > RULES_MAX or dates > UNROLLED_MAX:
        raise BadCalendar(f"more than {RULES_MAX} rules that repeat, or {UNROLLED_MAX} dates")


def _a_day(line: bytes) -> int:
    """How often a rule happens on each of its days: BYHOUR times BYMINUTE times BYSECOND."""
    found = re.findall(rb"BY(?:HOUR|MINUTE|SECOND)=([0-9,]*)", line)
    return math.prod(1 + part.count(b",") for part in found)


def _unfolded(body: bytes) -> list[bytes]:
    """Lines with their continuations joined on; those keep their places, empty."""
    lines: list[bytes] = []
    head = 0
    for line in body.splitlines():
        if line[:1] in (b" ", b"\t") and lines:
            lines[head] += line[1:]
            lines.append(b"")
        else:
            head = len(lines)
            lines.append(line)
    return lines


def _lines(body: bytes) -> int:
    return len(body.splitlines())


def _guilty(body: bytes) -> int:
    """Return the line at which the first event begins that cannot be read alone, else 0."""
    lines = body.splitlines()
    begin = 0
    for number, line in enumerate(lines, 1):
        word = line.strip().upper()
        if word and word[:1].isalnum() and not line[:1].isspace() and b":" not in line:
            return number
        if word == b"BEGIN:VEVENT":
            begin = number
        elif word == b"END:VEVENT" and begin:
            alone = b"\r\n".join((b"BEGIN:VCALENDAR", *lines[begin - 1:number], b"END:VCALENDAR",
                                  b""))
            try:
                event = icalendar.Calendar.from_ical(alone)
                recurring_ical_events.of(event).at(datetime(2026, 1, 1, tzinfo=UTC))
            except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError,
                    RecursionError):
                return begin
    return 0


def _reason(error: Exception) -> str:
    """The kind of mistake; the library's own words may repeat what stood in the event."""
    return {"BrokenCalendarProperty": "a date or a rule cannot be read",
            "BadRuleStringFormat": "a repeat rule (RRULE) cannot be read",
            "PeriodEndBeforeStart": "an event ends before it begins",
            "InvalidCalendar": "an event breaks RFC 5545"}.get(
                type(error).__name__, "cannot be read as iCalendar (RFC 5545)")


async def read_file(path: Path, bytes_max: int) -> bytes:
    """Return a calendar file's bytes.

    Raises:
        BadCalendar: it cannot be read, or is larger than ``bytes_max``.
    """
    try:
        with path.open("rb") as file:
            body = await asyncio.to_thread(file.read, bytes_max + 1)
    except OSError as error:
        raise BadCalendar(f"cannot be read: {error.strerror}") from None
    if len(body) > bytes_max:
        raise BadCalendar(f"more than {bytes_max} bytes")
    return body


async def fetch(calendar: Calendar, dial: Dial, etag: str = "", modified: str = "") -> Fetched:
    """Fetch ``calendar.url`` over the link behind ``dial``, unless it is as ``etag`` says.

    Raises:
        BadCalendar: no answer in time, another status than 200 or 304, no calendar's content
            type, a body too large or cut short. Redirects are not followed: the configuration
            says where a calendar is.
    """
    try:
        async with asyncio.timeout(FETCH_S):
            return await _fetch(calendar, dial, etag, modified)
    except TimeoutError:
        raise BadCalendar(f"no whole answer within {FETCH_S:.0f} s") from None
    except ssl.SSLError:
        raise BadCalendar("its certificate could not be verified") from None
    except (OSError, asyncio.IncompleteReadError):
        raise BadCalendar("could not be reached, or broke off") from None
    except (ValueError, asyncio.LimitOverrunError):
        raise BadCalendar("did not answer as HTTP") from None


async def _fetch(calendar: Calendar, dial: Dial, etag: str, modified: str) -> Fetched:
    parts = urlsplit(calendar.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    reader, writer = await dial(host, port)
    try:
        if parts.scheme == "https":
            await writer.start_tls(ssl.create_default_context(cafile=calendar.ca_file or None),
                                   server_hostname=host)
        asked = [f"GET {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1",
                 f"Host: {parts.netloc}", "Accept: text/calendar", "Accept-Encoding: identity",
                 "User-Agent: practice-gateway", "Connection: close"]
        asked += [f"If-None-Match: {etag}"] if etag else []
        asked += [f"If-Modified-Since: {modified}"] if modified else []
        writer.write(("\r\n".join(asked) + "\r\n\r\n").encode("latin-1"))
        await writer.drain()
        status, head = await _head(reader)
        if status == 304 and (etag or modified):
            return Fetched(None, etag, modified)
        if status != 200:
            raise BadCalendar(f"answered {status}")
        kind = head.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in TYPES:
            raise BadCalendar("is of another content type than text/calendar")
        body = await _body(reader, head, calendar.bytes_max)
        return Fetched(body, _plain(head.get("etag", "")), _plain(head.get("last-modified", "")))
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    raw = await reader.readuntil(b"\r\n\r\n")
    if len(raw) > HEAD_MAX:
        raise ValueError("head too long")
    first, *lines = raw.decode("latin-1").split("\r\n")
    told = re.fullmatch(r"HTTP/1\.[01] (\d{3})( .*)?", first)
    if told is None:
        raise ValueError("no status line")
    pairs = (line.partition(":") for line in lines if line)
    return int(told[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, head: dict[str, str], bytes_max: int) -> bytes:
    if "chunked" in head.get("transfer-encoding", "").lower():
        return await _chunks(reader, bytes_max)
    if "content-length" in head:
        length = int(head["content-length"])
        if length > bytes_max:
            raise BadCalendar(f"more than {bytes_max} bytes")
        return await reader.readexactly(length)
    return await _rest(reader, bytes_max)


async def _rest(reader: asyncio.StreamReader, bytes_max: int) -> bytes:
    body = bytearray()
    while piece := await reader.read(65536):
        body += piece
        if len(body) > bytes_max:
            raise BadCalendar(f"more than {bytes_max} bytes")
    return bytes(body)


async def _chunks(reader: asyncio.StreamReader, bytes_max: int) -> bytes:
    body = bytearray()
    while True:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0].strip(), 16)
        if size < 0 or len(body) + size > bytes_max:
            raise BadCalendar(f"more than {bytes_max} bytes")
        if size == 0:
            return bytes(body)
        body += await reader.readexactly(size)
        await reader.readexactly(2)


def _plain(text: str) -> str:
    """A validator that is safe to send back: printable, short, else none."""
    return text if len(text) <= 200 and text.isprintable() and text.isascii() else ""


class Kept:
    """The last good copy of each calendar, under ``state_dir/calendars``."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "calendars"

    def read(self, calendar: Calendar) -> tuple[bytes, str, str] | None:
        """Return (body, etag, last modified) of the copy of this very address, None without."""
        try:
            about = json.loads((self._folder / f"{calendar.id}.json").read_text())
            if about["from"] != (calendar.url or calendar.file):
                return None
            body = (self._folder / f"{calendar.id}.ics").read_bytes()
            return body, str(about["etag"]), str(about["modified"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, calendar: Calendar, fetched: Fetched) -> None:
        """Keep a good copy; a disk without room costs the copy after a restart, no more."""
        about = {"from": calendar.url or calendar.file, "etag": fetched.etag,
                 "modified": fetched.modified}
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, data in ((f"{calendar.id}.ics", fetched.body or b""),
                               (f"{calendar.id}.json", json.dumps(about).encode())):
                whole_file.replace(self._folder / name, data, synced=False)


class Reader:
    """Reads calendars whole: file or fetch, unrolled, and the last good copy where that fails.

    ``dials`` gives the ways out that work now, best first; each is tried until one answers.
    """

    def __init__(self, state_dir: Path, dials: Callable[[], tuple[Dial, ...]]) -> None:
        self._kept = Kept(state_dir)
        self._dials = dials

    async def read(self, calendar: Calendar, wall: Wall) -> Read:
        """Return what ``calendar`` announces as of ``wall``; trouble is said, never raised."""
        try:
            body, news = await self._body(calendar)
            found = await asyncio.to_thread(occurrences, body, wall)
        except BadCalendar as bad:
            return await self._again(calendar, wall, str(bad))
        if news is not None:
            await asyncio.to_thread(self._kept.write, calendar, news)
        return Read(*windows_of(calendar, found, wall))

    async def _body(self, calendar: Calendar) -> tuple[bytes, Fetched | None]:
        if calendar.file:
            body = await read_file(Path(calendar.file), calendar.bytes_max)
            return body, Fetched(body)
        kept = self._kept.read(calendar)
        trouble = BadCalendar("no link works now")
        for dial in self._dials():
            try:
                told = await fetch(calendar, dial, *(kept[1:] if kept else ()))
            except BadCalendar as bad:
                trouble = bad
                continue
            if told.body is not None:
                return told.body, told
            if kept is not None:
                return kept[0], None
        raise trouble

    async def _again(self, calendar: Calendar, wall: Wall, trouble: str) -> Read:
        """What the copy that was kept says, since nothing newer can be read."""
        kept = self._kept.read(calendar)
        if kept is None:
            return Read((), 0, trouble)
        try:
            found = await asyncio.to_thread(occurrences, kept[0], wall)
        except BadCalendar:
            return Read((), 0, trouble)
        return Read(*windows_of(calendar, found, wall), trouble)
