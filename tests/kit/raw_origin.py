"""An origin on a raw socket: it remembers every byte it saw, and says exactly what it is told to.

No HTTP library stands in it, so what a test reads in ``seen`` is what was on the wire. A script is
called with each request and returns ``Say``: the bytes to write and what to do then.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal

OK: Final = (b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 2\r\n"
             b"\r\n{}")

Then = Literal["keep", "close", "reset", "hang"]


@dataclass(frozen=True)
class Say:
    """What to write (in ``pieces``, each its own segment) and what to do then."""

    data: bytes = OK
    then: Then = "keep"
    pieces: tuple[bytes, ...] = ()
    after_s: float = 0.0


@dataclass
class Seen:
    """One request as it stood on the wire. ``connection`` counts from 1."""

    connection: int
    head: bytes
    body: bytes = b""
    raw_body: bytes = b""

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def fields(self) -> list[bytes]:
        return self.head.split(b"\r\n")[1:]


@dataclass
class RawOrigin:
    """``async with RawOrigin(script) as origin``: serves on ``127.0.0.1:origin.port``."""

    script: Callable[[Seen], Say] = lambda seen: Say()
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    port: int = 0
    peers: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)

    async def __aenter__(self) -> "RawOrigin":
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls,
                                                  limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                        trace: TracebackType | None) -> None:
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def __post_init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()

    def url(self, path: str = "") -> str:
        """The base URL of this origin."""
        scheme = "https" if self.tls else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_now += 1
        number = self.connections
        self._writers.add(writer)
        self.peers.append(writer.get_extra_info("peername")[0])
        certificate = writer.get_extra_info("peercert") or {}
        self.subjects.append(
            "".join(value for entry in certificate.get("subject", ()) for _, value in entry))
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._turn(number, reader, writer):
                    continue
        finally:
            self.open_now -= 1
            self._writers.discard(writer)
            writer.close()

    async def _turn(self, number: int, reader: asyncio.StreamReader,
                    writer: asyncio.StreamWriter) -> bool:
        """Take one request and say what the script says; True to go on."""
        head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
        seen = Seen(number, head)
        self.seen.append(seen)
        async for piece, raw in _body(head, reader):
            seen.body += piece
            seen.raw_body += raw
        say = self.script(seen)
        await asyncio.sleep(say.after_s)
        for piece in say.pieces or (say.data,):
            writer.write(piece)
            await writer.drain()
            if say.pieces:
                await asyncio.sleep(0.005)
        if say.then == "reset":
            _reset_on_close(writer)
            writer.transport.abort()
            return False
        if say.then == "hang":
            await reader.read()
            return False
        return say.then == "keep"


async def _body(head: bytes, reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bytes]]:
    """The body's pieces: (as content, as on the wire)."""
    fields = {name.strip().lower(): value.strip() for name, _, value in
              (line.partition(b":") for line in head.split(b"\r\n")[1:])}
    if b"transfer-encoding" in fields:
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line, 16)
            piece = await reader.readexactly(size + 2)
            yield piece[:-2], line + piece
            if not size:
                return
    left = int(fields.get(b"content-length", b"0"))
    while left:
        piece = await reader.read(min(left, 65536))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece, piece


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    """Make the end a reset: SO_LINGER with no time (transport.abort alone sends FIN)."""
    used = writer.get_extra_info("socket")
    used.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
