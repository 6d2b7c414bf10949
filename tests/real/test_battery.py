"""The batteries through the whole gateway: raw sockets on both ends, every byte looked at.

Requests: each malformed one has a good one pipelined behind it in the same segment; its own
answer, what the origin saw, and whether the good one was answered are checked. Replies: each has
another reply in the same segment behind it, which must leak into nobody's answer; and what was
kept is asked for after the origin has gone. Promise 9 is checked at the end of each: the marked
NHS number and key are in no log, no metric, no file and no error.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit import bad_replies, bad_requests
from tests.kit.gateway import KEY, Site, one_link_tables
from tests.kit.raw_origin import RawOrigin, Say, Seen

PATIENT = b'{"resourceType":"Patient","id":"1","name":[{"family":"MARKEDSURNAME"}]}'
TYPE = b"Content-Type: application/fhir+json\r\n"
GOOD = b"HTTP/1.1 200 OK\r\n" + TYPE + b"Content-Length: %d\r\n\r\n" % len(PATIENT) + PATIENT
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(PATIENT), PATIENT)
HEX = b"%x" % len(PATIENT)


@contextlib.asynccontextmanager
async def site(folder: Path, origin: RawOrigin) -> AsyncIterator[Site]:
    """A running gateway before ``origin``; its anchors are two listeners of this test."""
    async with contextlib.AsyncExitStack() as stack:
        anchors = [await stack.enter_async_context(await asyncio.start_server(
            lambda reader, writer: writer.close(), "127.0.0.1", 0)) for _ in range(2)]
        ports = tuple(each.sockets[0].getsockname()[1] for each in anchors)
        tables = one_link_tables(origin.port, (ports[0], ports[1]), keep="continuity",
                                 permitted_by="the battery")
        tables["judgement"] = {"upstream_failures": 1000}  # 502s here are no outage
        made = Site(folder, tables)
        yield await stack.enter_async_context(made.running())


async def talk(port: int, raw: bytes, wait_s: float = 5.0) -> bytes:
    """Write ``raw`` in one segment and return all that comes until close or silence."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    got = b""
    with contextlib.suppress(TimeoutError, OSError):
        while True:
            async with asyncio.timeout(wait_s):
                piece = await reader.read(1 << 16)
            if not piece:
                break
            got += piece
            if _is_over(got):
                wait_s = 0.05
    writer.close()
    return got


def _is_over(got: bytes) -> bool:
    """Whether the last answer looks whole: after it only a short silence is waited for."""
    return len(answers(got)) > 0


def answers(raw: bytes) -> list[tuple[int, bytes, bytes]]:
    """Split what came into (status, head, body); a body that never ends is given as it is."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status == 100:
            raw = rest
            continue
        lower = head.lower()
        if b"\r\ntransfer-encoding: chunked" in lower:
            body, raw = _unchunked(rest)
        elif b"\r\ncontent-length: " in lower:
            length = int(lower.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
            body, raw = rest[:length], rest[length:]
        else:
            body, raw = rest, b""
        found.append((status, head, body))
    return found


def _unchunked(raw: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, _, rest = raw.partition(b"\r\n")
        size = int(line or b"0", 16)
        if size == 0:
            return body, rest[2:]
        body, raw = body + rest[:size], rest[size + 2:]


def assert_nothing_marked(made: Site, *texts: bytes) -> None:
    """Promise 9: marked number, name and key are nowhere on disk, in no log and in no ``texts``."""
    marks = (bad_requests.NHS, b"MARKEDSURNAME", KEY.encode())
    for path in (each for each in made.folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        for mark in marks:
            assert mark not in content, f"{path.name} holds {mark!r}"
            assert mark.decode() not in path.name
    for text in texts:
        for mark in marks:
            assert mark not in text


async def test_malformed_requests_are_refused_and_good_ones_behind_them_are_not_confused(
    tmp_path: Path,
) -> None:
    assert len(bad_requests.CASES) >= 60
    wrong: list[str] = []
    errors: list[bytes] = []
    async with RawOrigin(lambda seen: Say(GOOD)) as origin, site(tmp_path, origin) as made:
        authority = f"127.0.0.1:{made.port}"

        def real(raw: bytes) -> bytes:
            shown = bad_requests.render(raw, "B81001", "up", KEY, authority)
            return shown.replace(b"@VIA@", b"practice-gateway-B81001-a")

        for case in bad_requests.CASES:
            before = len(origin.seen)
            got = answers(await talk(made.port, real(case.raw) + real(bad_requests.GOOD)))
            statuses = [status for status, _, _ in got]
            expected = [case.status] + ([200] if case.survives else [])
            if statuses != expected:
                wrong.append(f"{case.name}: answered {statuses}, not {expected}")
            reached = len(origin.seen) - before
            if reached != case.arrives + case.survives:
                wrong.append(f"{case.name}: {reached} requests reached the origin")
            errors += [head + body for status, head, body in got if status >= 400]
            wrong += [f"{case.name}: {status} is no OperationOutcome" for status, _, body in got
                      if status >= 400 and b'"OperationOutcome"' not in body]
        for seen in origin.seen:
            assert KEY.encode() not in seen.head
            assert b"x-gateway-key" not in seen.head.lower()
        metrics = await _metrics(made)
        status = json.dumps(await made.status()).encode()
    assert not wrong, "\n".join(wrong)
    assert_nothing_marked(made, metrics, status, *errors)


async def _metrics(made: Site) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(
            f"http://127.0.0.1:{made.admin}/metrics") as reply:
        return await reply.read()


def get(target: str) -> bytes:
    return (f"GET /B81001/up{target} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Gateway-Key: {KEY}\r\n"
            "\r\n").encode()


async def test_bad_replies_never_look_whole_and_what_is_behind_them_leaks_into_nothing(
    tmp_path: Path,
) -> None:
    assert len(bad_replies.CASES) >= 30
    assert len(bad_replies.CUTS) >= 22
    cases = {f"/odd/{number}": case for number, case in enumerate(bad_replies.CASES)}

    def script(seen: Seen) -> Say:
        path = seen.line.split(b" ")[1].decode().removeprefix("/base")
        case = cases.get(path)
        if case is None:
            return Say(GOOD)
        behind = b"" if case.close else bad_replies.SECOND
        return Say(case.raw + behind, "close" if case.close else "keep")

    wrong: list[str] = []
    async with RawOrigin(script) as origin, site(tmp_path, origin) as made:
        for path, case in cases.items():
            raw = get(path).replace(b"GET", case.method.encode())
            reader_got = await talk(made.port, raw)
            wrong += _judged(case, reader_got)
            behind = answers(await talk(made.port, get("/Patient/1")))
            if [(status, body) for status, _, body in behind] != [(200, PATIENT)]:
                wrong.append(f"{case.name}: the next request got {behind}")
        status = await made.status()
    assert not wrong, "\n".join(wrong)
    assert status["stores"][0]["copies"] == 1, "only the good reply behind them is kept"
    assert_nothing_marked(made)


def _judged(case: bad_replies.Case, raw: bytes) -> list[str]:
    """What is wrong about the answer that a client got to one reply of the battery."""
    wrong = []
    if b"leaked" in raw:
        wrong.append(f"{case.name}: a reply behind it leaked")
    head, _, body = raw.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if case.outcome in ("cut", "refused") and status != 502:
        wrong.append(f"{case.name}: answered {status}, not 502")
    if case.outcome == "whole":
        plain = body if case.method == "HEAD" else answers(raw)[0][2]
        if (status, plain) != (case.status, case.body):
            wrong.append(f"{case.name}: answered {status} {plain[:60]!r}")
    if case.outcome == "either" and status not in (200, 502):
        wrong.append(f"{case.name}: answered {status}")
    return wrong


FRAMED = {
    "length": (GOOD, True),
    "chunked": (
        b"HTTP/1.1 200 \r\n" + TYPE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED, True),
    "bare LF": (GOOD.replace(b"\r\n", b"\n"), False),
    "bare LF once": (GOOD.replace(TYPE, TYPE[:-2] + b"\n"), False),
    "a chunk size with a space": (
        b"HTTP/1.1 200 \r\n" + TYPE + b"Transfer-Encoding: chunked\r\n\r\n"
        + CHUNKED.replace(HEX + b"\r\n", HEX + b" \r\n"), False),
    "two lengths alike": (GOOD.replace(TYPE, TYPE + b"Content-Length: %d\r\n" % len(PATIENT)),
                          False),
    "a folded field": (GOOD.replace(TYPE, TYPE + b"X: 1\r\n 2\r\n"), False),
    "more than its length": (GOOD + b"X", False),
    "a length and chunked": (
        b"HTTP/1.1 200 \r\n" + TYPE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNKED, False),
    "HTTP/1.0 chunked": (
        b"HTTP/1.0 200 \r\n" + TYPE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED, False),
    "another resource than was asked for": (GOOD.replace(b"Patient", b"Practit"), False),
    "no JSON": (GOOD.replace(b"]}", b"]]"), False),
    "a page": (GOOD.replace(b"application/fhir+json", b"text/html; padding=xx"), False),
}


async def test_only_replies_with_one_reading_are_kept(tmp_path: Path) -> None:
    def script(seen: Seen) -> Say:
        name = list(FRAMED)[int(seen.line.split(b"/")[-2].split(b" ")[0])]
        return Say(FRAMED[name][0])

    async with RawOrigin(script) as origin, site(tmp_path, origin) as made:
        for number in range(len(FRAMED)):
            await talk(made.port, get(f"/Patient/{number}"))
        await talk(made.port, get(f"/Patient/{len(FRAMED)}"))  # nothing answers: an error
        await made.stored()
        origin.script = lambda seen: Say(b"", "close")
        kept = {}
        for number, name in enumerate(FRAMED):
            status, head, body = answers(await talk(made.port, get(f"/Patient/{number}")))[0]
            kept[name] = status == 200 and b"class=as-of" in head and body == PATIENT
    assert kept == {name: whole for name, (_, whole) in FRAMED.items()}
    assert_nothing_marked(made)


@pytest.mark.parametrize("ending", ["length", "close"])
async def test_a_stream_cut_in_the_middle_never_looks_complete(
    tmp_path: Path, ending: str
) -> None:
    body = b'{"resourceType":"Binary","data":"' + b"A" * (3 << 20)
    head = b"HTTP/1.1 200 OK\r\n" + TYPE + (
        b"Content-Length: %d\r\n\r\n" % (len(body) + 10) if ending == "length"
        else b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (len(body) + 10))
    async with RawOrigin(lambda seen: Say(head + body, "reset")) as origin, \
            site(tmp_path, origin) as made:
        got = await talk(made.port, get("/Binary/1"))
    assert got.startswith((b"HTTP/1.1 200", b"HTTP/1.1 502"))
    assert not got.endswith(b"0\r\n\r\n")
    assert len(got) < len(head) + len(body) + 400
