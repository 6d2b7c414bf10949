"""Two listeners of loopback that accept and hang up: the probe targets of a link in a test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def two_anchors(host: str = "127.0.0.1") -> AsyncIterator[tuple[int, int]]:
    """Listen on two free ports of ``host``; both are given."""
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with (await asyncio.start_server(hang_up, host, 0) as one,
                await asyncio.start_server(hang_up, host, 0) as two):
        yield one.sockets[0].getsockname()[1], two.sockets[0].getsockname()[1]
