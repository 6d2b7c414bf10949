"""HTTP/1.1 as the load speaks it: one connection, one request at a time, answers whole or not.

It parses just enough to know where an answer ends, so that 400 requests a second cost a tenth of
a core. It never retries: what a party loses must show.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

HEAD_BYTES_MAX: Final = 65536
IDLE_MAX: Final = 256  # connections kept per place


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. ``head`` is its lines as they came, names in lower case."""

    status: int
    head: dict[bytes, bytes]
    body: bytes


class Broken(Exception):
    """The connection ended, or spoke no HTTP, before the answer was whole."""


class Connection(asyncio.Protocol):
    """One connection to a party; ``lost`` is called with it when it ends."""

    def __init__(self, lost: Callable[["Connection"], None]) -> None:
        self._lost = lost
        self._buffer = bytearray()
        self._waiting: asyncio.Future[Answer] | None = None
        self._head: tuple[int, dict[bytes, bytes], int] | None = None  # status, head, body's start
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no asyncio class
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._lost(self)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Broken(f"connection lost: {exc or 'end'}"))

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send ``request``; return the future of its answer (Broken if there is none)."""
        self._buffer.clear()
        self._head = None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    def end(self) -> None:
        """Close at once."""
        self.open = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._waiting is None or self._waiting.done():
            self.end()
            return
        try:
            answer = self._parsed()
        except (ValueError, IndexError) as error:
            self._waiting.set_exception(Broken(f"no HTTP: {error}"))
            self.end()
            return
        if answer is not None:
            if answer.head.get(b"connection", b"").lower() == b"close":
                self.end()
            self._waiting.set_result(answer)

    def _parsed(self) -> Answer | None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > HEAD_BYTES_MAX:
                    raise ValueError("head too long")
                return None
            first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
            head = {name.strip().lower(): value.strip()
                    for name, _, value in (line.partition(b":") for line in lines)}
            self._head = int(first.split(b" ", 2)[1]), head, end + 4
        status, head, start = self._head
        if b"chunked" in head.get(b"transfer-encoding", b"").lower():
            body = dechunked(bytes(self._buffer[start:]))
            return None if body is None else Answer(status, head, body)
        length = int(head[b"content-length"]) if b"content-length" in head else 0
        if len(self._buffer) < start + length:
            return None
        return Answer(status, head, bytes(self._buffer[start:start + length]))


def dechunked(raw: bytes) -> bytes | None:
    """Return the body of whole chunks, ``None`` while they are not all there.

    Raises:
        ValueError: no chunk size where one must stand.
    """
    body, at = bytearray(), 0
    while (end := raw.find(b"\r\n", at)) >= 0:
        size = int(raw[at:end].partition(b";")[0], 16)
        if len(raw) < end + 2 + size + 2:
            return None
        if size == 0:
            return bytes(body)
        body += raw[end + 2:end + 2 + size]
        at = end + 2 + size + 2
    return None


class Pool:
    """Kept-alive connections to one place; the one used last is used next."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._idle: list[Connection] = []

    async def take(self) -> Connection:
        """Return an idle connection, or dial one.

        Raises:
            OSError: nobody answers there.
        """
        while self._idle:
            held = self._idle.pop()
            if held.open:
                return held
        _, made = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._forget), *self._place)
        return made

    def give(self, connection: Connection) -> None:
        """Keep ``connection`` for the next request, if it is still open."""
        if connection.open and len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        elif connection.open:
            connection.end()

    def _forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
