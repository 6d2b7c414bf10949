"""The whole gateway under kill -9 and on a sick disk: copies stay true and live traffic goes on.

Each reply is made from its path, so that what the origin sent is known by arithmetic: a copy is
right or wrong by digest, with no bookkeeping that could be wrong in the same way.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.kit.gateway import KEY, Site, one_link_tables
from tests.kit.raw_origin import RawOrigin, Say, Seen

FULL: Final = os.environ.get("FULL") == "1"
KILLS: Final = 50 if FULL else 10
TYPE: Final = b"Content-Type: application/fhir+json\r\n"
HEADERS: Final = {"X-Gateway-Key": KEY}


def body_of(number: int) -> bytes:
    """The resource that the origin sends for ``/Patient/{number}``: 1 to 4 kB, never alike."""
    filler = hashlib.sha256(str(number).encode()).hexdigest() * (16 + number % 48)
    return json.dumps({"resourceType": "Patient", "id": str(number), "x": filler}).encode()


def script(seen: Seen) -> Say:
    """Answer ``/base/Patient/{number}``."""
    body = body_of(int(seen.line.split(b" ")[1].rsplit(b"/", 1)[1]))
    return Say(b"HTTP/1.1 200 \r\n" + TYPE + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[tuple[Site, RawOrigin]]:
    """A site that is configured and not started, before its origin."""
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(RawOrigin(script))
        anchors = [await stack.enter_async_context(await asyncio.start_server(
            lambda reader, writer: writer.close(), "127.0.0.1", 0)) for _ in range(2)]
        ports = tuple(each.sockets[0].getsockname()[1] for each in anchors)
        tables = one_link_tables(origin.port, (ports[0], ports[1]), keep="continuity",
                                 permitted_by="the crash test")
        tables["judgement"] = {"upstream_trial_s": 0.5}
        site = Site(folder, tables)
        await site.init_keys()
        try:
            yield site, origin
        finally:
            await site.stop()


async def read_many(site: Site, first: int, count: int, per_s: float) -> list[int]:
    """Read ``count`` new patients at an even pace; return those answered live and whole."""
    live: list[int] = []

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        await asyncio.sleep((number - first) / per_s)
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with session.get(f"{site.base}/B81001/up/Patient/{number}",
                                   headers=HEADERS) as reply:
                if await reply.read() == body_of(number) and reply.status == 200:
                    live.append(number)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            group.create_task(one(session, number))
    return live


async def copies(site: Site, numbers: range) -> tuple[int, int]:
    """Ask for each while the origin is gone; return (right copies, wrong answers)."""
    told: list[tuple[bool, bool]] = []
    at_once = asyncio.Semaphore(30)

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with at_once, session.get(f"{site.base}/B81001/up/Patient/{number}",
                                        headers=HEADERS) as reply:
            body = await reply.read()
            if reply.status == 200:
                is_right = "class=as-of" in reply.headers["Continuity"] and body == body_of(number)
                told.append((is_right, not is_right))

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one(session, number))
    return sum(right for right, _ in told), sum(wrong for _, wrong in told)


@contextlib.asynccontextmanager
async def gone(origin: RawOrigin, site: Site) -> AsyncIterator[None]:
    """The origin answers nothing for a while; afterwards it is back, and known to be."""
    origin.script = lambda seen: Say(b"", "close")
    try:
        yield
    finally:
        origin.script = script
    for _ in range(50):
        if await read_many(site, 1_000_000, 1, per_s=1) and not (await site.status())["verdicts"]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the upstream is not taken back")


async def test_kill_9_loses_no_counted_copy_and_alters_none(tmp_path: Path) -> None:
    dice = random.Random(20261124)
    first, slowest = 0, 0.0
    async with world(tmp_path) as (site, origin):
        for _ in range(KILLS):
            await site.start()
            counted = 0
            async with asyncio.TaskGroup() as group:
                load = group.create_task(read_many(site, first, 120, per_s=80))
                await asyncio.sleep(dice.uniform(0.3, 1.4))
                counted = (await site.status())["stores"][0]["copies"]
                await site.kill()
            await site.start()
            slowest = max(slowest, site.ready_after_s)
            assert (await site.status())["stores"][0]["copies"] >= counted
            async with gone(origin, site):
                right, wrong = await copies(site, range(first, first + 120))
            assert wrong == 0
            assert right >= len(load.result()) * 0.5, "hardly anything was kept"
            await site.kill()
            first += 120
    assert slowest < 5.0
    print(f"kills {KILLS}, slowest start {slowest:.2f} s")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "overwritten"])
async def test_a_damaged_store_costs_copies_and_no_live_answer(tmp_path: Path, damage: str) -> None:
    dice = random.Random(damage)
    async with world(tmp_path) as (site, origin):
        await site.start()
        await read_many(site, 0, 100, per_s=200)
        await site.stored()
        await site.stop()
        path = next((site.state / "records").glob("*.db"))
        content = bytearray(path.read_bytes())
        if damage == "truncated":
            del content[dice.randrange(5000, len(content)):]
        elif damage == "flipped":
            for _ in range(200):
                content[dice.randrange(100, len(content))] ^= 1 << dice.randrange(8)
        elif damage == "overwritten":
            content[:4096] = dice.randbytes(4096)
        else:
            content.clear()
        path.write_bytes(bytes(content))
        await site.start()
        async with gone(origin, site):
            _, wrong = await copies(site, range(100))
        assert wrong == 0
        assert len(await read_many(site, 0, 100, per_s=200)) == 100
        await site.stored()
        async with gone(origin, site):
            right, wrong = await copies(site, range(100))
        assert (right > 90, wrong) == (True, 0), "the new store keeps again"


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A disk of 3 MB in memory at ``place``."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs takes root")
async def test_a_full_disk_fails_no_live_traffic(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk):
        async with world(tmp_path / "site") as (site, origin):
            site.tables["gateway"]["state_dir"] = str(disk / "state")
            await site.init_keys()
            await site.start()
            (disk / "ballast").write_bytes(bytes(1 << 20))
            live = await read_many(site, 0, 2000, per_s=250)
            assert len(live) == 2000
            async with gone(origin, site):
                _, wrong = await copies(site, range(0, 2000, 20))
            assert wrong == 0
            store = (await site.status())["stores"][0]
            assert store["copies"] < 2000, "the disk was not full"
            await site.stop()


async def test_keys_missing_beside_a_store_cost_the_copy_and_no_live_answer(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (site, origin):
        await site.start()
        await read_many(site, 0, 10, per_s=200)
        await site.stop()
        for key in (site.state / "keys").rglob("*.key"):
            key.unlink()
        code, said = await site.run_verb("keys", "init", "--config", str(site.config))
        assert code == 1
        assert "restore" in said
        await site.start()
        assert (await site.status())["stores"][0]["state"] == "keys_missing"
        assert len(await read_many(site, 0, 10, per_s=200)) == 10
        async with gone(origin, site):
            assert await copies(site, range(10)) == (0, 0)
        assert not list((site.state / "keys").rglob("*.key")), "keys were re-made"
