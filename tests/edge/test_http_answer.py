"""Answers on the wire: whole, streamed, cut short, held back; nothing incomplete looks complete."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core.message import Answer, Ending, Request, Streamed
from gateway.edge.http_in import DoorSettings
from tests.kit.bad_requests import GOOD, PATH, request
from tests.kit.door import ODS, VIA, flow, opened


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


async def test_an_answer_is_written_as_it_was_given() -> None:
    async def odd(request: Request) -> Answer:
        headers = (("ETAG", "W/\"1\""), ("X-A", "J\u00f6rg"), ("x-a", ""), ("Set-Cookie", "a"),
                   ("Set-Cookie", "b"), ("Content-Length", "2"))
        return Answer(299, "", headers, b"{}")

    async with opened(odd) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD))
        status, head, body = await wire.answer()

        assert (status, body) == (299, b"{}")
        assert head.startswith(
            b"HTTP/1.1 299 \r\nETAG: W/\"1\"\r\nX-A: J\xc3\xb6rg\r\nx-a: \r\n"
            b"Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\nDate: "
        )
        assert b"Content-Type" not in head
        wire.close()


async def test_a_control_character_in_an_answer_is_never_written() -> None:
    async def injecting(request: Request) -> Answer:
        return Answer(200, "OK", (("X-A", "b\r\nX-Injected: 1"),), b"{}")

    async with opened(injecting) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD))
        status, head, _ = await wire.answer()

        assert status == 502
        assert b"Injected" not in head
        wire.close()


async def test_an_old_client_gets_a_length_and_may_keep_its_connection() -> None:
    async def whole(request: Request) -> Answer:
        return Answer(200, "OK", (), b"{}", "chunked")

    keep = request(b"Connection: keep-alive", version=b"HTTP/1.0", host=None)
    async with opened(whole) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(keep + request(version=b"HTTP/1.0")))
        _, first, body = await wire.answer()
        _, second, _ = await wire.answer()

        assert b"\r\nContent-Length: 2\r\n" in first
        assert b"\r\nConnection: keep-alive\r\n" in first
        assert body == b"{}"
        assert b"\r\nConnection: close\r\n" in second
        assert await wire.rest() == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_what_has_no_body_by_rule_gets_none(status: int) -> None:
    async def bodyless(request: Request) -> Answer:
        return Answer(status, "", (), b"not to be sent")

    async with opened(bodyless) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD + GOOD))
        first, second = await wire.head(), await wire.head()

        assert first.endswith(b"\r\n\r\n")
        assert second.startswith(b"HTTP/1.1 ")
        wire.close()


async def test_head_tells_the_length_and_sends_nothing() -> None:
    async def head(request: Request) -> Answer:
        return Answer(200, "OK", (("Content-Length", "77"),), b"", "none")

    async with opened(head) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(request(method=b"HEAD") + request(method=b"HEAD")))

        assert b"\r\nContent-Length: 77\r\n" in await wire.head()
        assert (await wire.head()).startswith(b"HTTP/1.1 200 OK\r\n")
        wire.close()
