"""A door opened on loopback for tests, a ``serve`` that remembers, and a raw client.

``KEY`` is the API key of client ``booking`` of practice B81001, whose one upstream is ``gpc``;
practice Y00001 has a key of its own and the same upstream.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, cast

from gateway.core.access import Client, Tenant
from gateway.core.admission import Priority
from gateway.core.message import Answer, Request, Streamed
from gateway.core.pack import SAFE_METHODS
from gateway.edge.http_in import Door, DoorSettings, Noted
from tests.kit.bad_requests import render, request
from tests.kit.clock import SimClock

ODS: Final = "B81001"
OTHER_ODS: Final = "Y00001"
UPSTREAM: Final = "gpc"
VIA: Final = "practice-gateway-test"
KEY: Final = "pgk_5d1Zmarkedkey"
OTHER_KEY: Final = "pgk_other"

_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n")


def hashed(key: str) -> str:
    """The hash under which a key stands in the config."""
    return hashlib.sha256(key.encode()).hexdigest()


def tenants(requests_max: int = 64, body_bytes_max: int = 32 << 20) -> list[Tenant]:
    """Two practices, one client each; the limits are those of the first."""
    return [
        Tenant(ODS, (Client("booking", hashed(KEY)),), requests_max, body_bytes_max),
        Tenant(OTHER_ODS, (Client("booking", hashed(OTHER_KEY)),)),
    ]


async def hello(request: Request) -> Answer:
    """The plainest answer there is."""
    return Answer(200, "OK", (("Content-Type", "text/plain"),), b"hello")


@dataclass
class Opened:
    """A running door, what reached ``serve`` and what it noted."""

    door: Door
    arrived: list[Request] = field(default_factory=list)
    noted: list[Noted] = field(default_factory=list)

    @property
    def authority(self) -> str:
        """``host:port`` of the listener."""
        return f"127.0.0.1:{self.door.port}"

    def render(self, raw: bytes) -> bytes:
        """Put real names into the markers of ``tests.kit.bad_requests``."""
        return render(raw, ODS, UPSTREAM, KEY, self.authority).replace(b"@VIA@", VIA.encode())

    async def connect(self) -> "Wire":
        """Open a plain connection to the door."""
        return Wire(*await asyncio.open_connection("127.0.0.1", self.door.port))


@asynccontextmanager
async def opened(
    serve: Callable[[Request], Awaitable[Answer]] = hello,
    settings: DoorSettings | None = None,
    who: list[Tenant] | None = None,
    aliases: dict[str, str] | None = None,
    only_reads: Callable[[Request], bool] = lambda request: request.method in SAFE_METHODS,
    priority: Callable[[Request], Priority] = lambda request: "first",
) -> AsyncIterator[Opened]:
    """Open a door on 127.0.0.1 and close it again."""
    arrived: list[Request] = []
    noted: list[Noted] = []

    async def remember(request: Request) -> Answer:
        arrived.append(request)
        return await serve(request)

    door = Door(
        settings or DoorSettings(via=VIA, address="127.0.0.1"), who or tenants(),
        {ODS: frozenset({UPSTREAM}), OTHER_ODS: frozenset({UPSTREAM})}, aliases or {},
        remember, SimClock(), noted.append, only_reads, priority,
    )  # fmt: skip
    await door.start()
    try:
        yield Opened(door, arrived, noted)
    finally:
        await door.close()


@dataclass
class Wire:
    """A raw client connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, raw: bytes) -> None:
        """Write ``raw`` as it is."""
        self.writer.write(raw)
        await self.writer.drain()

    async def head(self) -> bytes:
        """Read one head, with its empty line."""
        async with asyncio.timeout(10):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Read one answer whose body has a length or chunks: (status, head, body)."""
        head = await self.head()
        async with asyncio.timeout(10):
            if b"\r\nTransfer-Encoding: chunked\r\n" in head:
                body = b""
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            else:
                length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
                body = await self.reader.readexactly(int(length[1]) if length else 0)
        return int(head.split(b" ")[1]), head, body

    async def rest(self) -> bytes:
        """Read to the end of the connection.

        Raises:
            ConnectionResetError: it ended by a reset.
            TimeoutError: it did not end.
        """
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def until_reset(self) -> bytes:
        """Read until the connection is reset, and fail where it ends otherwise."""
        data = b""
        async with asyncio.timeout(10):
            try:
                while True:
                    data += await self.reader.readexactly(1)
            except ConnectionResetError:
                return data

    async def until_answers(self, count: int) -> tuple[list[int], bytes, bool]:
        """Read until ``count`` answers or the end: (statuses, all bytes, whether it ended)."""
        data = b""
        async with asyncio.timeout(10):
            while True:
                more = await self.reader.read(65536)
                data += more
                found = [int(status) for status in _STATUS.findall(data)]
                if not more or len(found) > count:
                    return found, data, not more
                if len(found) == count and data.endswith(b"hello"):
                    return found, data, False

    def close(self) -> None:
        """Close our side."""
        self.writer.close()


async def read(body: object) -> bytes:
    """The bytes of a body as serve was given it."""
    if isinstance(body, Streamed):
        return b"".join([part async for part in cast(AsyncIterator[bytes], body.source)])
    assert isinstance(body, bytes)
    return body


def in_chunks(body: bytes, size: int = 7001) -> bytes:
    """``body`` as a chunked body."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def posted(body: bytes, chunked: bool, *fields: bytes) -> bytes:
    """A POST of ``body``, with a length or in chunks."""
    if chunked:
        return request(b"Transfer-Encoding: chunked", *fields, method=b"POST", body=in_chunks(body))
    return request(b"Content-Length: %d" % len(body), *fields, method=b"POST", body=body)


async def flow(data: bytes, size: int = 40_000) -> AsyncIterator[bytes]:
    """A streamed body of ``data``, ``size`` bytes at a time."""
    for at in range(0, len(data), size):
        yield data[at : at + size]
        await asyncio.sleep(0)
