"""A steady load of reads for measurements: open loop, latencies from the scheduled send."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from tests.real.daemon import GATEWAY_KEY, KEY

CLIENT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Read:
    """One read: due at ``due`` (monotonic), answered after ``took_s``, by ``link``."""

    due: float
    took_s: float
    ok: bool
    link: str


class Steady:
    """Open-loop reads: each is sent when due, whatever became of those before."""

    def __init__(self, url: str, a_second: float, key: str = KEY) -> None:
        self.reads: list[Read] = []
        self._url = url
        self._a_second = a_second
        self._key = key

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Steady"]:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(CLIENT_S)
        async with (aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                    asyncio.TaskGroup() as group):
            driver = group.create_task(self._drive(session, group))
            try:
                yield self
            finally:
                driver.cancel()

    async def _drive(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        began = time.monotonic()
        n = 0
        while True:
            due = began + n / self._a_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(self._read(session, due, n))
            n += 1

    async def _read(self, session: aiohttp.ClientSession, due: float, n: int) -> None:
        ok, link = False, ""
        try:
            async with session.get(f"{self._url}/Patient/{n}",
                                   headers={GATEWAY_KEY: self._key}) as reply:
                body = await reply.read()
                ok = reply.status == 200 and b'"id":"%d"' % n in body
                said = reply.headers.get("Continuity", "")
                link = said.partition("link=")[2].partition(";")[0]
        except (aiohttp.ClientError, TimeoutError):
            ok = False
        self.reads.append(Read(due, time.monotonic() - due, ok, link))

    async def back_on(self, link: str, within_s: float) -> None:
        """Wait until all of the last half second was answered over ``link``."""
        async with asyncio.timeout(within_s):
            while True:
                await asyncio.sleep(0.1)
                half = int(self._a_second / 2)
                last = [one.link for one in self.reads[-half:]]
                if len(last) == half and set(last) == {link}:
                    return
