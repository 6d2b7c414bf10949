"""Suppliers' files as they come: rules, exceptions, zones, mistakes; fetched with limits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.core.calendar import Calendar, windows_of
from gateway.core.instant import Wall
from gateway.edge import calendar as door
from gateway.edge.calendar import BadCalendar, Fetched, Kept, fetch, occurrences, read_file

BT = Calendar("bt", "fibre")
AUTUMN = Wall(datetime(2026, 10, 12, tzinfo=UTC).timestamp())
SPRING = Wall(datetime(2027, 3, 15, tzinfo=UTC).timestamp())


def ics(*events: str) -> bytes:
    body = "".join(f"BEGIN:VEVENT\nUID:{n}\nDTSTAMP:20260101T000000Z\n{event}\nEND:VEVENT\n"
                   for n, event in enumerate(events))
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//t//t//EN\n{body}END:VCALENDAR\n".replace(
        "\n", "\r\n").encode()


def told(body: bytes, wall: Wall) -> list[tuple[str, str]]:
    windows, _ = windows_of(BT, occurrences(body, wall), wall)
    return [(f"{datetime.fromtimestamp(each.start, UTC):%m-%d %H:%M}",
             f"{datetime.fromtimestamp(each.end, UTC):%m-%d %H:%M}") for each in windows]


def test_a_weekly_window_at_0130_goes_with_the_clock_when_it_goes_back() -> None:
    weekly = ("DTSTART;TZID=Europe/London:20261018T013000\nDTEND;TZID=Europe/London:"
              "20261018T033000\nRRULE:FREQ=WEEKLY;COUNT=3")
    assert told(ics(weekly), AUTUMN) == [
        ("10-18 00:30", "10-18 02:30"),  # BST
        ("10-25 00:30", "10-25 03:30"),  # the first 01:30, until 03:30 GMT
        ("11-01 01:30", "11-01 03:30")]


def test_a_weekly_window_at_0130_goes_with_the_clock_when_it_goes_forward() -> None:
    weekly = ("DTSTART;TZID=Europe/London:20270321T013000\nDTEND;TZID=Europe/London:"
              "20270321T033000\nRRULE:FREQ=WEEKLY;COUNT=3")
    assert told(ics(weekly), SPRING) == [
        ("03-21 01:30", "03-21 03:30"),
        ("03-28 00:30", "03-28 02:30"),  # 01:30 does not exist: the earlier reading
        ("04-04 00:30", "04-04 02:30")]


@pytest.mark.parametrize(("event", "windows"), [
    ("DTSTART:20261120T020000Z\nDTEND:20261120T040000Z", [("11-20 02:00", "11-20 04:00")]),
    ("DTSTART:20261020T020000\nDURATION:PT90M", [("10-20 01:00", "10-20 02:30")]),  # floating
    ("DTSTART;VALUE=DATE:20261025", [("10-24 23:00", "10-26 00:00")]),  # 25 hours
    ("DTSTART;TZID=America/New_York:20261119T220000\nDURATION:PT1H",
     [("11-20 03:00", "11-20 04:00")]),
    ("DTSTART:20261120T020000Z\nDTEND:20261120T040000Z\nSTATUS:CANCELLED", []),
    ("DTSTART:20261120T020000Z", []),  # no length
    ("DTSTART:20261102T020000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3\n"
     "EXDATE:20261103T020000Z", [("11-02 02:00", "11-02 03:00"), ("11-04 02:00", "11-04 03:00")]),
])
def test_what_a_supplier_may_write(event: str, windows: list[tuple[str, str]]) -> None:
    assert told(ics(event), AUTUMN) == windows


def test_one_night_of_a_series_that_was_moved() -> None:
    series = ("UID:s\nDTSTART:20261102T020000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=2")
    moved = ("UID:s\nRECURRENCE-ID:20261103T020000Z\nDTSTART:20261103T040000Z\nDURATION:PT1H")
    body = ics(series, moved).replace(b"UID:0\r\n", b"").replace(b"UID:1\r\n", b"")
    assert told(body, AUTUMN) == [("11-02 02:00", "11-02 03:00"), ("11-03 04:00", "11-03 05:00")]


GOOD = "DTSTART:20261120T020000Z\nDURATION:PT1H"


@pytest.mark.parametrize(("body", "line", "why"), [
    (b"<html>sign in</html>", 1, "no iCalendar"),
    (ics(GOOD)[:-20], 9, "cut short"),
    (ics(GOOD, "DTSTART:soon\nDURATION:PT1H"), 10, "a date or a rule cannot be read"),
    (ics(GOOD, GOOD + "\nRRULE:FREQ=SECONDLY"), 15, "repeats within a day"),
    (ics(GOOD, GOOD + "\nRRULE:FREQ=DAILY;BYHOUR=0,6,12,18;BYMINUTE=0,30"), 15,
     "repeats within a day"),
    (ics(GOOD, GOOD + "\nRRULE:FREQ=NEVER"), 10, "RRULE"),
    (ics(GOOD, "what is this"), 13, "cannot be read"),
])
def test_a_bad_calendar_says_the_line_and_why(body: bytes, line: int, why: str) -> None:
    with pytest.raises(BadCalendar, match=why) as caught:
        occurrences(body, AUTUMN)
    assert caught.value.line == line


def test_as_many_events_as_the_limit_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "EVENTS_MAX", 2)
    assert len(occurrences(ics(GOOD, GOOD), AUTUMN)) == 2
    with pytest.raises(BadCalendar, match="more than 2 events"):
        occurrences(ics(GOOD, GOOD, GOOD), AUTUMN)


async def test_a_file_at_its_limit_and_one_byte_past_it(tmp_path: Path) -> None:
    path = tmp_path / "a.ics"
    path.write_bytes(b"x" * 100)
    assert len(await read_file(path, 100)) == 100
    with pytest.raises(BadCalendar, match="more than 99 bytes"):
        await read_file(path, 99)
    with pytest.raises(BadCalendar, match="cannot be read"):
        await read_file(tmp_path / "none.ics", 99)


@asynccontextmanager
async def server(answer: bytes, seen: list[bytes] | None = None) -> AsyncIterator[Calendar]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        writer.write(answer)
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = running.sockets[0].getsockname()[1]
    try:
        yield Calendar("bt", "fibre", f"http://127.0.0.1:{port}/pew.ics?a=1", bytes_max=1000)
    finally:
        running.close()
        await running.wait_closed()


dial: Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = (
    asyncio.open_connection)


def answered(body: bytes, more: str = "", status: int = 200, kind: str = "text/calendar") -> bytes:
    return (f"HTTP/1.1 {status} X\r\nContent-Type: {kind}; charset=utf-8\r\n{more}\r\n"
            ).encode() + body


async def test_a_calendar_is_fetched_and_asked_for_anew_only_if_it_changed() -> None:
    seen: list[bytes] = []
    async with server(answered(ics(GOOD), 'ETag: "v1"\r\nLast-Modified: yesterday\r\n'),
                      seen) as calendar:
        got = await fetch(calendar, dial)
    assert got == Fetched(ics(GOOD), '"v1"', "yesterday")
    assert seen[0].startswith(b"GET /pew.ics?a=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    async with server(answered(b"", "", 304), seen) as calendar:
        assert (await fetch(calendar, dial, '"v1"', "yesterday")).body is None
    assert b'If-None-Match: "v1"\r\nIf-Modified-Since: yesterday\r\n' in seen[1]


async def test_a_chunked_calendar_is_put_together() -> None:
    body = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    async with server(answered(body, "Transfer-Encoding: chunked\r\n")) as calendar:
        assert (await fetch(calendar, dial)).body == b"abcde"


@pytest.mark.parametrize(("answer", "why"), [
    (answered(b"", "", 404), "answered 404"),
    (answered(b"", "Location: /x\r\n", 302), "answered 302"),
    (answered(b"", "", 304), "answered 304"),  # we asked without a condition
    (answered(b"<html>", "", 200, "text/html"), "another content type"),
    (answered(b"x" * 1001), "more than 1000 bytes"),
    (answered(b"x", "Content-Length: 1001\r\n"), "more than 1000 bytes"),
    (answered(b"x", "Content-Length: 10\r\n"), "broke off"),
    (answered(b"3e9\r\nabc", "Transfer-Encoding: chunked\r\n"), "more than 1000 bytes"),
    (answered(b"zz\r\n", "Transfer-Encoding: chunked\r\n"), "did not answer as HTTP"),
    (b"SSH-2.0-x\r\n\r\n", "did not answer as HTTP"),
    (b"HTTP/1.1 2", "broke off"),
])
async def test_what_is_no_calendar_is_refused_with_its_reason(answer: bytes, why: str) -> None:
    async with server(answer) as calendar:
        with pytest.raises(BadCalendar, match=why):
            await fetch(calendar, dial)


async def test_a_server_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "FETCH_S", 0.05)
    async with server(b"") as calendar:
        async def silent(host: str, port: int
                         ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            await asyncio.sleep(30)
            return await asyncio.open_connection(host, port)

        with pytest.raises(BadCalendar, match="no whole answer"):
            await fetch(calendar, silent)


def test_the_last_good_copy_is_kept_for_this_address_only(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    here = Calendar("bt", "fibre", "http://a.example/x")
    assert kept.read(here) is None
    kept.write(here, Fetched(b"body", '"v1"', "then"))
    assert kept.read(here) == (b"body", '"v1"', "then")
    assert kept.read(Calendar("bt", "fibre", "http://b.example/x")) is None
    (tmp_path / "calendars" / "bt.json").write_text("{")
    assert kept.read(here) is None
