"""An answer on its way out: framed for its client, and never complete unless it is.

Where a stream breaks off, or its client takes nothing for too long, the connection is reset: the
last chunk or the missing bytes never come, and even an end by close cannot be mistaken.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.streams import StreamReader
from multidict import CIMultiDict

from gateway.core.fhir import JSON_TYPE, operation_outcome
from gateway.core.message import Answer, Streamed
from gateway.core.wire import Framed, Refusal, Seen, framed
from gateway.edge.http_connection import BodyBroken, Connection

UNWRITABLE: Final = Refusal(502, "exception", "The upstream's reply cannot be passed on.")


@dataclass(frozen=True, slots=True)
class Manners:
    """What every answer of a door shares: its date, whether the door drains (then each answer is
    its connection's last), and how long a client may take nothing before it is let go."""

    date: Callable[[], str]
    is_draining: Callable[[], bool]
    write_s: float


class Spoken(web.StreamResponse):
    """An answer as we write it: neither Server nor Content-Type is ever added."""

    def __init__(
        self,
        manners: Manners,
        connection: Connection | None,
        request: web.BaseRequest | None,
        seen: Seen | Refusal,
    ) -> None:
        super().__init__()
        self._manners = manners
        self._connection = connection
        self._request = request
        self._seen = seen
        self._said = False
        self._stays = False

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow on this connection."""
        return self._stays

    @property
    def content(self) -> StreamReader:
        """The request's body as it comes in."""
        assert self._request is not None
        return self._request.content

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """aiohttp's call: a no-op once said; else the refusal of a head is said now."""
        if not self._said and isinstance(self._seen, Refusal):
            self._connection = cast(Connection, request.protocol)
            self._request = request
            await self.refuse(self._seen)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """aiohttp's call: all has been written."""

    def go_on(self) -> None:
        """Ask for the body (RFC 9110 §10.1.1): our own answer to Expect."""
        assert self._request is not None
        if self._request.transport is not None:
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def refuse(self, refusal: Refusal) -> None:
        """Say ``refusal``; where the answer has begun, cut it off instead."""
        assert self._connection is not None
        if self._said:
            self._connection.cut()
            raise ConnectionResetError("a mistake after the answer had begun")
        close = refusal.close or (isinstance(self._seen, Seen) and self._body_in_doubt(self._seen))
        await self.say(_outcome(refusal, close))
        # A sound body still under way is taken by aiohttp, for ten seconds at most.
        if refusal.close and (self._connection.deaf or self.content.is_eof()):
            await self._connection.linger()

    def _body_in_doubt(self, seen: Seen) -> bool:
        """A client that waits for a 100 may now send its body, or the next request."""
        return seen.expects and not self.content.total_bytes and not self.content.is_eof()

    async def say(self, answer: Answer) -> None:
        """Write ``answer``.

        Raises:
            ConnectionError: the client is gone, or the body could not be written to its end; the
                connection then ends without the last chunk or the missing bytes, or by reset.
        """
        assert self._request is not None
        frame, headers = self._framed(answer)
        writer = self._request.writer
        try:
            await writer.write_headers(f"HTTP/1.1 {answer.status} {answer.reason}", headers)
        except ValueError:  # a control character in a field: a header injection, never passed on
            let_go(answer)
            answer = _outcome(UNWRITABLE, close=False)
            frame, headers = self._framed(answer)
            await writer.write_headers(f"HTTP/1.1 {answer.status} {answer.reason}", headers)
        self._said = True
        self._stays = not frame.close
        if frame.chunked:
            writer.enable_chunking()
        try:
            await self._write_body(writer, answer, frame)
        except ConnectionError:
            raise
        except OSError:  # a timeout: the client takes no more, or the upstream sends no more
            self._cut()
            raise ConnectionResetError("the answer could not be written to its end") from None

    def _framed(self, answer: Answer) -> tuple[Framed, CIMultiDict[str]]:
        assert self._request is not None
        assert self._connection is not None
        asked = self._seen if isinstance(self._seen, Seen) else None
        method = asked.method if asked else self._request.method
        version = asked.version if asked else "HTTP/1.1"
        stays = self._request.keep_alive and not self._connection.closes_next
        close = not stays or self._manners.is_draining()
        frame = framed(answer, method, version, close, self._manners.date())
        return frame, CIMultiDict(frame.headers)

    async def _write_body(
        self, writer: AbstractStreamWriter, answer: Answer, frame: Framed
    ) -> None:
        write_s = self._manners.write_s
        if not frame.has_body or not isinstance(answer.body, Streamed):
            async with asyncio.timeout(write_s):
                await writer.write_eof(answer.body if frame.has_body else b"")  # type: ignore[arg-type]  # bytes here
            return
        writer.send_headers()
        count = 0
        try:
            async for chunk in cast(AsyncIterator[bytes], answer.body.source):
                count += len(chunk)
                if frame.length is not None and count > frame.length:
                    raise BodyBroken("more bytes came than were promised")
                async with asyncio.timeout(write_s):
                    await writer.write(chunk)
            if frame.length is not None and count < frame.length:
                raise BodyBroken("fewer bytes came than were promised")
        except BaseException:  # also when cancelled: what is incomplete never looks complete
            self._cut()
            raise
        async with asyncio.timeout(write_s):
            await writer.write_eof()

    def _cut(self) -> None:
        self._stays = False
        if self._connection is not None:
            self._connection.cut()


def _outcome(refusal: Refusal, close: bool) -> Answer:
    body = operation_outcome(refusal.code, refusal.words)
    headers = (("Content-Type", JSON_TYPE), ("Cache-Control", "no-store"), *refusal.headers)
    return Answer(refusal.status, _REASONS[refusal.status], headers, body, close=close)


_REASONS: Final = {
    400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long",
    417: "Expectation Failed", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
    505: "HTTP Version Not Supported", 508: "Loop Detected",
}  # fmt: skip


def let_go(answer: Answer) -> None:
    """Release what stands behind a streamed answer; harmless where nothing does."""
    if isinstance(answer.body, Streamed):
        answer.body.close()
