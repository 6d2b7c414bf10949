"""The anchor and the portal: one is told from the other by its body."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

from chaos.rig import echo, portal

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


async def ask(handler: Handler, *requests: bytes) -> list[bytes]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        got = []
        for request in requests:
            writer.write(request)
            async with asyncio.timeout(5.0):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                got.append(await reader.readexactly(length))
        writer.close()
    return got


async def test_an_anchor_says_its_words_again_and_again_on_one_connection() -> None:
    asked = b"GET /echo HTTP/1.1\r\nHost: anchor\r\n\r\n"
    assert await ask(echo.answer, asked, asked) == [echo.ANCHOR.encode()] * 2


async def test_a_portal_says_something_else_to_the_same_question() -> None:
    (said,) = await ask(portal.answer, b"GET /echo HTTP/1.1\r\nHost: anchor\r\n\r\n")
    assert said == portal.PAGE
    assert said != echo.ANCHOR.encode()


async def test_a_head_without_end_is_hung_up_on() -> None:
    server = await asyncio.start_server(echo.answer, "127.0.0.1", 0, limit=echo.HEAD_BYTES_MAX)
    port = server.sockets[0].getsockname()[1]
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * (echo.HEAD_BYTES_MAX * 4))
        said = b""
        with suppress(ConnectionResetError):  # hung up on with bytes unread: a reset
            async with asyncio.timeout(5.0):
                said = await reader.read()
        assert said == b""
        writer.close()
