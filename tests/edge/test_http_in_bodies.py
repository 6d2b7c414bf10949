"""Bodies through the door: whole, streamed, compressed and chunked, both ways, equal by SHA-256."""

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gateway.core.message import WHOLE_BYTES_MAX, Answer, Ending, Request, Streamed
from gateway.edge.http_in import DoorSettings
from tests.kit.bad_requests import GOOD, PATH, request
from tests.kit.door import ODS, VIA, hello, opened, tenants

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"


def samples() -> list[tuple[str, bytes]]:
    """The published examples where they stand beside the project, and always some like them."""
    found = [(str(path.relative_to(SAMPLES)), path.read_bytes())
             for path in sorted(SAMPLES.rglob("*")) if path.is_file()]
    entry = {"resource": {"resourceType": "Slot", "start": "2026-11-20T08:55:00Z", "comment": "é"}}
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [entry] * 300}
    text = json.dumps(bundle, ensure_ascii=False, indent=1).encode()
    edges = [b"", b"\x00\r\n\r\n0\r\n\r\n", b"x" * WHOLE_BYTES_MAX, b"y" * (WHOLE_BYTES_MAX + 1)]
    return [*found, ("bundle", text), *((f"edge {len(edge)}", edge) for edge in edges)]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def read(body: object) -> bytes:
    """The bytes of a body as serve was given it."""
    if isinstance(body, Streamed):
        return b"".join([part async for part in cast(AsyncIterator[bytes], body.source)])
    assert isinstance(body, bytes)
    return body


def in_chunks(body: bytes, size: int = 7001) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def posted(body: bytes, chunked: bool) -> bytes:
    if chunked:
        return request(b"Transfer-Encoding: chunked", method=b"POST", body=in_chunks(body))
    return request(b"Content-Length: %d" % len(body), method=b"POST", body=body)


async def flow(data: bytes, size: int = 40_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]
        await asyncio.sleep(0)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("squeezed", [False, True], ids=["plain", "gzip"])
async def test_every_sample_passes_both_ways_byte_for_byte(chunked: bool, squeezed: bool) -> None:
    """The reply carries what the request did, whole or streamed, framed as the request was."""
    received: list[str] = []

    async def echo(request: Request) -> Answer:
        body = await read(request.body)
        received.append(digest(body))
        assert request.chunked == chunked
        ending: Ending = "chunked" if chunked else "length"
        if isinstance(request.body, Streamed):
            assert len(body) > WHOLE_BYTES_MAX
            streamed = Streamed(flow(body), None if chunked else len(body))
            return Answer(200, "OK", (("Content-Encoding", "gzip"),), streamed, ending)
        return Answer(200, "OK", (("Content-Encoding", "gzip"),), body, ending)

    async with opened(echo) as gateway:
        wire = await gateway.connect()
        for name, plain in samples():
            body = gzip.compress(plain) if squeezed else plain
            raw = gateway.render(posted(body, chunked))
            async with asyncio.TaskGroup() as group:
                sent = group.create_task(wire.send(raw))
                status, head, back = await wire.answer()
                await sent
            assert status == 200, name
            assert received.pop() == digest(body) == digest(back), name
            assert (b"Transfer-Encoding: chunked" in head) == chunked
        wire.close()


async def test_a_large_body_streams_while_it_still_arrives() -> None:
    first = asyncio.Event()

    async def partly(request: Request) -> Answer:
        assert isinstance(request.body, Streamed)
        assert request.body.length == 3 * WHOLE_BYTES_MAX
        count = 0
        async for part in cast(AsyncIterator[bytes], request.body.source):
            count += len(part)
            first.set()
        return Answer(200, "OK", (), str(count).encode())

    async with opened(partly) as gateway:
        wire = await gateway.connect()
        size = 3 * WHOLE_BYTES_MAX
        raw = gateway.render(request(b"Content-Length: %d" % size, method=b"POST"))
        await wire.send(raw + b"a" * 1000)
        async with asyncio.timeout(5):
            await first.wait()
        await wire.send(b"a" * (size - 1000))

        assert (await wire.answer())[2] == str(size).encode()
        wire.close()


async def test_a_reader_that_rests_holds_its_sender_back() -> None:
    """Back-pressure on the way in: of 30 MiB not one is taken in before it is asked for."""
    finish = asyncio.Event()

    async def resting(request: Request) -> Answer:
        await finish.wait()
        return Answer(200, "OK", (), str(len(await read(request.body))).encode())

    async with opened(resting) as gateway:
        wire = await gateway.connect()
        size = 30 << 20
        wire.writer.write(gateway.render(request(b"Content-Length: %d" % size, method=b"POST")))
        wire.writer.write(b"a" * size)
        await asyncio.sleep(0.3)
        (connection,) = gateway.door._open
        body = connection._payload
        assert body is not None
        assert 0 < body.total_bytes < 1 << 20
        assert len(connection._pending) < 1 << 20
        finish.set()
        await wire.writer.drain()

        assert (await wire.answer())[2] == str(size).encode()
        wire.close()


async def test_a_client_that_rests_holds_the_upstream_back() -> None:
    taken = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(600):
            yield b"a" * 65536
            taken += 65536

    async def large(request: Request) -> Answer:
        return Answer(200, "OK", (), Streamed(source(), 600 * 65536))

    async with opened(large) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD))
        await asyncio.sleep(0.3)
        early = taken
        _, _, body = await wire.answer()

        assert early < 20 << 20
        assert len(body) == taken == 600 * 65536
        wire.close()


@pytest.mark.parametrize(
    ("ending", "length", "version", "raises"),
    [("length", 9000, b"HTTP/1.1", True), ("length", 9000, b"HTTP/1.1", False),
     ("chunked", None, b"HTTP/1.1", True), ("close", None, b"HTTP/1.1", True),
     ("chunked", None, b"HTTP/1.0", True)],
)  # fmt: skip
async def test_a_stream_that_was_cut_never_looks_complete(
    ending: Ending, length: int | None, version: bytes, raises: bool
) -> None:
    let_go: list[bool] = []

    async def cut() -> AsyncIterator[bytes]:
        yield b"a" * 4000
        if raises:
            raise ConnectionResetError("the upstream is gone")

    async def broken(request: Request) -> Answer:
        return Answer(200, "OK", (), Streamed(cut(), length, lambda: let_go.append(True)), ending)

    async with opened(broken) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(request(version=version)))
        data = await wire.until_reset()

        assert not data.endswith(b"0\r\n\r\n")
        assert let_go == [True]
        assert gateway.door.in_flight(ODS) == 0


async def test_a_stream_longer_than_promised_is_cut() -> None:
    async def broken(request: Request) -> Answer:
        return Answer(200, "OK", (), Streamed(flow(b"a" * 100), 50))

    async with opened(broken) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD))
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await wire.answer()


async def test_a_reply_that_ended_by_close_ends_by_close() -> None:
    async def closing(request: Request) -> Answer:
        body: bytes | Streamed = b"abc"
        if request.target == "/stream":
            body = Streamed(flow(b"abc", 1))
        return Answer(200, "OK", (), body, "close")

    async with opened(closing) as gateway:
        for target in (PATH + b"/whole", PATH + b"/stream"):
            wire = await gateway.connect()
            await wire.send(gateway.render(request(target=target)))
            data = await wire.rest()
            assert data.endswith(b"\r\n\r\nabc")
            assert b"Content-Length" not in data
            assert b"\r\nConnection: close\r\n" in data


async def test_expect_is_answered_here_and_only_when_the_body_is_wanted() -> None:
    async with opened() as gateway:
        wire = await gateway.connect()
        expecting = request(b"Expect: 100-continue", b"Content-Length: 3", method=b"POST")
        await wire.send(gateway.render(expecting))
        assert await wire.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(b"abc")
        assert (await wire.answer())[0] == 200
        assert gateway.arrived[0].body == b"abc"

        await wire.send(gateway.render(expecting.replace(b"@UPSTREAM@", b"nowhere")))
        status, head, _ = await wire.answer()
        assert status == 404
        assert b"\r\nConnection: close\r\n" in head
        wire.close()


async def test_no_100_is_sent_where_the_body_is_already_here() -> None:
    async with opened() as gateway:
        wire = await gateway.connect()
        raw = request(b"Expect: 100-continue", b"Content-Length: 3", method=b"POST", body=b"abc")
        await wire.send(gateway.render(raw))

        assert (await wire.answer())[0] == 200
        wire.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "counted"])
async def test_a_body_at_the_limit_passes_and_one_past_it_does_not(chunked: bool) -> None:
    async with opened(who=tenants(body_bytes_max=1000)) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(posted(b"a" * 1000, chunked)))
        assert (await wire.answer())[0] == 200
        await wire.send(gateway.render(posted(b"a" * 1001, chunked) + GOOD))
        status, head, _ = await wire.answer()
        assert status == 413
        assert b"\r\nConnection: close\r\n" in head
        assert await wire.rest() == b""
        assert len(gateway.arrived) == 1


async def test_a_stream_past_the_limit_is_413_and_its_reader_is_told() -> None:
    told: list[str] = []

    async def reading(request: Request) -> Answer:
        try:
            await read(request.body)
        except ConnectionError as broken:
            told.append(type(broken).__name__)
        return await hello(request)

    limit = 2 << 20
    async with opened(reading, who=tenants(body_bytes_max=limit)) as gateway:
        wire = await gateway.connect()
        wire.writer.write(gateway.render(posted(b"a" * (limit + 100_000), chunked=True)))

        assert (await wire.answer())[0] == 413
        assert told == ["BodyBroken"]
        wire.close()


async def test_a_body_that_stalls_is_408() -> None:
    settings = DoorSettings(via=VIA, address="127.0.0.1", body_idle_s=0.2)
    async with opened(settings=settings) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(request(b"Content-Length: 9", method=b"POST", body=b"abc")))

        assert (await wire.answer())[0] == 408
        assert not gateway.arrived
        wire.close()


async def test_a_client_that_takes_nothing_is_let_go() -> None:
    let_go = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"a" * 65536

    async def large(request: Request) -> Answer:
        return Answer(200, "OK", (), Streamed(endless(), None, let_go.set), "chunked")

    settings = DoorSettings(via=VIA, address="127.0.0.1", write_s=0.3)
    async with opened(large, settings=settings) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD))
        async with asyncio.timeout(5):
            await let_go.wait()
        wire.close()
