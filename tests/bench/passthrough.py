"""What a pass-through costs: our gateway, a bare aiohttp proxy and the origin itself, in one run.

50 requests/s to each, in turn, TLS on both sides, keeping on, bodies of 2 and 30 kB; latencies
from the scheduled send time. "Added" is the quantile less the origin's own of the same run: on a
noisy machine only that comparison says something. Then memory: PSS idle and with 10,000 copies,
and the seconds from start until ready.
"""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp

from tests.bench.parts import Latencies, Target, even_load
from tests.kit.gateway import KEY, ROOT, Site, free_port, one_link_tables
from tests.kit.pki import Leaf, issue, make_ca

EACH_PER_S: Final = 50.0
SIZES: Final = (2_000, 30_000)
COPIES: Final = 10_000
HEADERS: Final = (("X-Gateway-Key", KEY),)


@contextlib.asynccontextmanager
async def part(*argv: str) -> AsyncIterator[None]:
    """Run one of ``tests.bench.parts`` as a process and wait until it listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.parts", *argv, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        process.kill()
        await process.wait()


def tables(origin_port: int, ca: Path, leaf: Leaf, anchors: tuple[int, int]) -> dict[str, Any]:
    """Our gateway's configuration: TLS both sides, continuity keeping on."""
    made = one_link_tables(origin_port, anchors, keep="continuity", permitted_by="the bench",
                           ca_file=str(ca))
    url = f"https://127.0.0.1:{origin_port}"
    made["upstreams"][0] |= {"base_url": url, "base_urls": {"fibre": url}}
    made["listen"] = {"certificate": str(leaf.cert), "key": f"file:{leaf.key}"}
    return made


def pss_mb(pid: int) -> float:
    """Return the proportional set size of a process in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextlib.asynccontextmanager
async def world(folder: Path, ca: Path, leaf: Leaf) -> AsyncIterator[tuple[Site, int, int]]:
    """Origin, bare proxy and gateway, each a process: (site, origin's port, bare proxy's port)."""
    origin, bare = free_port(), free_port()
    tls = ("--certificate", str(leaf.cert), "--key", str(leaf.key))
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(part("origin", "--port", str(origin), *tls))
        await stack.enter_async_context(part(
            "bare", "--port", str(bare), *tls, "--ca", str(ca),
            "--upstream", f"https://127.0.0.1:{origin}"))
        anchors = [await stack.enter_async_context(await asyncio.start_server(
            lambda reader, writer: writer.close(), "127.0.0.1", 0)) for _ in range(2)]
        ports = [each.sockets[0].getsockname()[1] for each in anchors]
        site = Site(folder, tables(origin, ca, leaf, (ports[0], ports[1])))
        yield await stack.enter_async_context(site.running()), origin, bare


def targets(site: Site, origin: int, bare: int, size: int) -> list[Target]:
    """The three under load; each path is another patient, so everything is kept anew."""
    return [
        Target("origin", f"https://127.0.0.1:{origin}/Patient/s{size}-{{n}}"),
        Target("bare proxy", f"https://127.0.0.1:{bare}/Patient/s{size}-{{n}}"),
        Target("gateway", f"{site.base}/B81001/up/Patient/s{size}-{{n}}", HEADERS),
    ]


def row(name: str, seen: Latencies, base: Latencies) -> str:
    """One line of the table."""
    return (f"{name:<12} {len(seen.ms):>6} {seen.failed:>6} {seen.p50:>8.2f} "
            f"{seen.at(0.99):>8.2f} {seen.p50 - base.p50:>+9.2f} "
            f"{seen.at(0.99) - base.at(0.99):>+9.2f}")


async def fill(site: Site, count: int, ca: str) -> None:
    """Read ``count`` different patients of 2 kB, 20 at once, waiting until each batch is kept."""
    at_once = asyncio.Semaphore(20)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca), limit=20)

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with at_once, session.get(f"{site.base}/B81001/up/Patient/s2000-m{number}",
                                        headers=dict(HEADERS)) as reply:
            await reply.read()

    async with aiohttp.ClientSession(connector=connector) as session:
        for first in range(0, count, 200):
            async with asyncio.TaskGroup() as group:
                for number in range(first, min(count, first + 200)):
                    group.create_task(one(session, number))
            await site.stored()


async def run(seconds: float = 20.0) -> None:
    """Measure and print."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        ca = make_ca(folder / "pki")
        leaf = issue(ca, "localhost")
        async with world(folder / "site", ca.cert, leaf) as (site, origin, bare):
            await asyncio.sleep(2.0)
            idle = pss_mb(site.pid)
            for size in SIZES:
                three = targets(site, origin, bare, size)
                await even_load(three, EACH_PER_S, 2.0, str(ca.cert))  # warm-up, not counted
                seen = await even_load(three, EACH_PER_S, seconds, str(ca.cert))
                print(f"\npass-through {size} bytes, {EACH_PER_S:.0f}/s each, TLS both sides, "
                      "keeping on (ms)")
                print(f"{'':<12} {'n':>6} {'failed':>6} {'p50':>8} {'p99':>8} "
                      f"{'added p50':>9} {'added p99':>9}")
                for target in three:
                    print(row(target.name, seen[target.name], seen["origin"]))
            await fill(site, COPIES, str(ca.cert))
            await site.stored()
            held = (await site.status())["stores"][0]["copies"]
            print(f"\nready after {site.ready_after_s:.2f} s   PSS idle {idle:.0f} MB   "
                  f"with {held} copies {pss_mb(site.pid):.0f} MB")


if __name__ == "__main__":
    asyncio.run(run(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0))
