"""The daemon's own ends: how it stops, and how many requests of one practice it takes at once."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from os import kill
from pathlib import Path

import aiohttp

from tests.kit.anchors import two_anchors
from tests.kit.gateway import KEY, Site, one_link_tables
from tests.kit.raw_origin import RawOrigin, Say

HEADERS = {"X-Gateway-Key": KEY}


@contextlib.asynccontextmanager
async def slow_site(folder: Path, answer_s: float, requests_max: int = 64) -> AsyncIterator[Site]:
    """A running gateway whose upstream takes ``answer_s`` for everything."""
    async with RawOrigin(lambda seen: Say(after_s=answer_s)) as origin, two_anchors() as ports:
        tables = one_link_tables(origin.port, ports)
        tables["tenants"][0]["requests_max"] = requests_max
        async with Site(folder, tables).running() as site:
            yield site


async def ask(site: Site, session: aiohttp.ClientSession) -> tuple[int, str | None]:
    async with session.get(f"{site.base}/B81001/up/Patient/1", headers=HEADERS) as reply:
        await reply.read()
        return reply.status, reply.headers.get("Retry-After")


async def ready(site: Site, session: aiohttp.ClientSession) -> int:
    async with session.get(f"http://127.0.0.1:{site.admin}/readyz") as reply:
        return reply.status


async def test_term_says_not_ready_first_and_lets_requests_in_flight_finish(
    tmp_path: Path,
) -> None:
    async with slow_site(tmp_path, 1.5) as site, aiohttp.ClientSession() as session:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(ask(site, session))
            await asyncio.sleep(0.5)
            assert await ready(site, session) == 200
            kill(site.pid, signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert await ready(site, session) == 503
            assert not asked.done()
        assert asked.result()[0] == 200
        assert await site.stop() == 0
        assert (site.state / "links.json").exists()


async def test_what_a_practice_asks_at_once_beyond_its_limit_is_told_to_come_again(
    tmp_path: Path,
) -> None:
    async with slow_site(tmp_path, 1.0, requests_max=2) as site, \
            aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*(ask(site, session) for _ in range(5)))

    assert sorted(status for status, _ in answers) == [200, 200, 503, 503, 503]
    assert all(after == "1" for status, after in answers if status == 503)
