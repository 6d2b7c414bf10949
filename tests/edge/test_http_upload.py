"""Request bodies on their way in: their limits, back-pressure, and the 100 that asks for one."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from gateway.core.message import WHOLE_BYTES_MAX, Answer, Request, Streamed
from gateway.edge.http_in import DoorSettings
from tests.kit.bad_requests import GOOD, request
from tests.kit.door import VIA, hello, opened, posted, read, tenants


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


async def test_a_whole_body_that_trickles_is_408_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.edge.http_upload.WHOLE_S", 0.3)
    async with opened() as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(request(b"Content-Length: 999", method=b"POST")))
        async with asyncio.TaskGroup() as group:
            answered = group.create_task(wire.answer())
            while not answered.done():
                wire.writer.write(b"a")
                await asyncio.sleep(0.05)

        assert answered.result()[0] == 408
        assert not gateway.arrived


async def test_an_answer_before_the_end_of_a_stream_is_the_connections_last() -> None:
    async def hasty(request: Request) -> Answer:
        return Answer(413, "", (), b"too much for me")

    async with opened(hasty) as gateway:
        wire = await gateway.connect()
        size = 5 << 20
        raw = gateway.render(request(b"Content-Length: %d" % size, method=b"POST"))
        await wire.send(raw + b"a" * 1000)
        status, head, _ = await wire.answer()
        assert status == 413
        assert b"\r\nConnection: close\r\n" in head
        await wire.send(b"a" * (size - 1000) + gateway.render(GOOD))
        assert await wire.rest() == b""
        assert len(gateway.arrived) == 1
