"""Bodies over 1 MiB: passed on as they come, no faster than they are taken, never whole if cut."""

import asyncio
import gc
import hashlib
from collections.abc import AsyncIterator

import pytest

from gateway.core.link import Sample
from gateway.core.message import WHOLE_BYTES_MAX, NoAnswer, Reply, Streamed
from gateway.edge.http_out import UpstreamAt
from tests.kit.out import asking, poured, reply_of, sending, until
from tests.kit.raw_origin import RawOrigin, Say, Then

BIG = bytes(range(256)) * (3 * 4096)  # 3 MiB


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", *lines)) + b"\r\n\r\n"


def plain(body: bytes) -> bytes:
    return head(b"Content-Length: %d" % len(body)) + body


def chunked(body: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    return head(b"Transfer-Encoding: chunked") + b"".join(
        b"%x\r\n%b\r\n" % (len(body[at:at + 30_011]), body[at:at + 30_011])
        for at in range(0, len(body), 30_011)) + last


def stream_of(reply: Reply) -> Streamed:
    assert isinstance(reply.body, Streamed)
    return reply.body


@pytest.mark.parametrize(("size", "streams"), [(WHOLE_BYTES_MAX, False), (WHOLE_BYTES_MAX + 1,
                                                                          True)])
@pytest.mark.parametrize("framed", [plain, chunked])
async def test_a_body_is_whole_up_to_the_limit_and_streamed_one_byte_past_it(
        framed: object, size: int, streams: bool) -> None:
    assert callable(framed)
    body = BIG[:size]
    async with RawOrigin(lambda seen: Say(framed(body))) as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        reply = reply_of(await sender.send(asking()))

        assert isinstance(reply.body, Streamed) is streams
        assert await poured(reply.body) == body
        await until(lambda: sender.in_flight == 0)


async def test_a_stream_is_the_same_by_digest_and_its_connection_is_used_again() -> None:
    async with RawOrigin(lambda seen: Say(plain(BIG))) as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        for _ in range(3):
            reply = reply_of(await sender.send(asking()))
            assert stream_of(reply).length == len(BIG)
            whole = await poured(reply.body)
            assert hashlib.sha256(whole).digest() == hashlib.sha256(BIG).digest()

        assert origin.connections == 1


async def test_a_stream_that_ends_by_close_has_no_length_and_says_so() -> None:
    async with RawOrigin(lambda seen: Say(head() + BIG, "close")) as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        reply = reply_of(await sender.send(asking()))

        assert (reply.ending, stream_of(reply).length) == ("close", None)
        assert await poured(reply.body) == BIG


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("raw", [plain(BIG)[:2_000_000], chunked(BIG)[:2_000_000],
                                 chunked(BIG, b"")])
async def test_a_stream_that_is_cut_raises_and_is_a_miss(raw: bytes, then: Then) -> None:
    seen: list[Sample] = []
    async with RawOrigin(lambda request: Say(raw, then)) as origin, \
            sending(UpstreamAt("gpc", origin.url()), seen=seen) as sender:
        outcome = await sender.send(asking())
        if isinstance(outcome, NoAnswer):  # the reset overtook what was on its way
            assert then == "reset"
            return
        with pytest.raises(OSError, match="ended early"):
            await poured(reply_of(outcome).body)

        assert (seen[-1].ok, seen[-1].layer) == (False, "request")
        assert sender.in_flight == 0


async def test_a_close_delimited_stream_that_is_reset_raises_too() -> None:
    async with RawOrigin(lambda request: Say(then="reset", pieces=(head() + BIG, b""))) as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        outcome = await sender.send(asking())
        if not isinstance(outcome, NoAnswer):
            with pytest.raises(OSError, match="ended early"):
                await poured(reply_of(outcome).body)


async def test_a_stream_that_stands_still_raises_when_its_idle_time_is_over() -> None:
    async with RawOrigin(lambda request: Say(plain(BIG)[:2_000_000], "hang")) as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        reply = reply_of(await sender.send(asking(idle_s=0.2)))
        with pytest.raises(OSError, match="timeout"):
            await poured(reply.body)
        await until(lambda: origin.open_now == 0)


async def test_a_stream_nobody_takes_holds_the_origin_back() -> None:
    """40 MB are offered; while we take nothing, only what the kernel and our 128 kB hold goes."""
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(b"Content-Length: 41943040"))
        for _ in range(640):
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with sending(UpstreamAt("gpc", f"http://127.0.0.1:{port}")) as sender:
        reply = reply_of(await sender.send(asking()))
        await asyncio.sleep(0.3)
        held, total = written, 0
        assert held < 20_000_000
        source = stream_of(reply).source
        assert isinstance(source, AsyncIterator)
        async for piece in source:
            assert len(piece) <= 4_000_000
            total += len(piece)
        assert total == 41943040
    server.close()


async def test_letting_go_of_a_stream_drops_its_connection_and_may_be_done_twice() -> None:
    async with RawOrigin(lambda request: Say(plain(BIG * 8))) as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        body = stream_of(reply_of(await sender.send(asking())))
        assert sender.in_flight == 1
        body.close()
        body.close()
        assert sender.in_flight == 0
        await until(lambda: origin.open_now == 0)

        source = body.source
        assert isinstance(source, AsyncIterator)
        with pytest.raises(OSError, match="ended early"):
            _ = [piece async for piece in source]
        gc.collect()
