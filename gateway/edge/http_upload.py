"""A request body on its way in: whole up to 1 MiB, streamed beyond, within its limits.

Nothing is read before ``serve`` wants it, beyond one buffer: that is the back-pressure.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from aiohttp.streams import StreamReader
from aiohttp.web_protocol import PayloadAccessError, RequestPayloadError

from gateway.core.message import WHOLE_BYTES_MAX, Body, Streamed
from gateway.core.wire import Refusal, Seen
from gateway.edge.http_connection import BodyBroken

BODY_TOO_LARGE: Final = Refusal(413, "too-long", "The request body is too large.", close=True)
BODY_TOO_SLOW: Final = Refusal(408, "timeout", "The request body took too long.", close=True)
BODY_BROKEN: Final = Refusal(400, "invalid", "The request body breaks its framing.", close=True)

WHOLE_S: Final = 120.0
"""A body that is read whole must be here by then, however steadily it trickles: 1 MiB in two
minutes is 70 kbit/s, slower than any practice's own network."""

STREAM_S: Final = 1800.0
"""And one that streams, in all: 32 MiB in half an hour is 150 kbit/s."""


class Upload:
    """A request's body on its way in: whole up to WHOLE_BYTES_MAX, streamed beyond.

    ``refusal`` is set once the body broke a limit or its framing, also in mid-stream.
    """

    def __init__(
        self,
        content: StreamReader,
        go_on: Callable[[], None],
        seen: Seen,
        bytes_max: int,
        idle_s: float,
    ) -> None:
        self._content = content
        self._go_on = go_on
        self._seen = seen
        self._bytes_max = bytes_max
        self._idle_s = idle_s
        self._count = 0
        self._until = asyncio.get_running_loop().time() + STREAM_S
        self.refusal: Refusal | None = None

    async def body(self) -> Body:
        """Return the body, asking for it first where the client waits to be asked.

        Raises:
            BodyBroken: it ended early, or broke its framing or a limit.
        """
        if not self._seen.has_body:
            return b""
        if self._seen.expects and not self._content.total_bytes:
            self._go_on()
        try:
            async with asyncio.timeout(WHOLE_S):
                return await self._whole_or_streamed()
        except TimeoutError:
            raise self._broken(BODY_TOO_SLOW) from None

    async def _whole_or_streamed(self) -> Body:
        parts: list[bytes] = []
        while (self._seen.length or 0) <= WHOLE_BYTES_MAX and self._count <= WHOLE_BYTES_MAX:
            part = await self._next()
            if not part:
                return b"".join(parts)
            parts.append(part)
        return Streamed(self._stream(parts), self._seen.length)

    async def _stream(self, parts: list[bytes]) -> AsyncIterator[bytes]:
        while parts:
            yield parts.pop(0)
        while part := await self._next():
            yield part

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_s):
                part = await self._content.readany()
        except TimeoutError:
            raise self._broken(BODY_TOO_SLOW) from None
        except (ConnectionError, RequestPayloadError, PayloadAccessError, RuntimeError) as broken:
            raise self._broken(BODY_BROKEN) from broken  # RuntimeError: the client is gone
        self._count += len(part)
        if asyncio.get_running_loop().time() > self._until:
            raise self._broken(BODY_TOO_SLOW)
        if self._count > self._bytes_max:
            raise self._broken(BODY_TOO_LARGE)
        return part

    def _broken(self, refusal: Refusal) -> BodyBroken:
        self.refusal = refusal
        return BodyBroken(refusal.words)
