"""A broker that freezes or falls silent costs the practice's requests nothing.

The whole daemon, a real mosquitto with client certificates behind a link that can fall silent, an
origin in a process of its own, and a load with a schedule: latencies run from the scheduled send
time, so a stall of the gateway is felt by every request that it delayed.
"""

import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from chaos.rig.relay import Forward, Relay
from tests.kit.broker import Mosquitto, free_port, mosquitto
from tests.kit.gateway import KEY, ROOT, Site, one_link_tables

FULL: Final = os.environ.get("FULL") == "1"
RUNS: Final = 5 if FULL else 3
RATE: Final = 50
SECONDS: Final = 6.0 if FULL else 3.0
NOTICED_S: Final = 12.0 if FULL else 0.0
"""With a keep-alive of 5 s the line is lost after 10: FULL measures among new dials, too."""
GW: Final = "B81001-a"
HEADERS: Final = {"X-Gateway-Key": KEY, "Accept": "application/fhir+json"}


@dataclass
class Scene:
    """The daemon, its broker, and the way to the broker."""

    site: Site
    broker: Mosquitto
    relay: Relay

    async def p99_ms(self) -> float:
        """The 99th percentile of a load of RATE reads a second; any failure is an error."""
        took: list[float] = []
        async with aiohttp.ClientSession(headers=HEADERS) as session, asyncio.TaskGroup() as tasks:
            begun = time.monotonic()
            for n in range(int(RATE * SECONDS)):
                due = begun + n / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                tasks.create_task(self._read(session, n, due, took))
        return sorted(took)[int(len(took) * 0.99)] * 1000

    async def _read(self, session: aiohttp.ClientSession, n: int, due: float,
                    took: list[float]) -> None:
        url = f"{self.site.base}/B81001/up/Patient/{n % 50}"
        async with session.get(url) as reply:
            await reply.read()
        assert reply.status == 200
        took.append(time.monotonic() - due)

    async def is_connected(self) -> bool:
        status = await self.site.status()
        return bool(status["mqtt"]["connected"])

    async def connected(self) -> None:
        for _ in range(900):
            if await self.is_connected():
                return
            await asyncio.sleep(0.1)
        raise AssertionError("telemetry does not come back within 90 s")


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Everything started, telemetry connected."""
    origin, anchors = free_port(), (free_port(), free_port())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.real.slow_origin", "127.0.0.1", str(origin), "0.002",
        *(f"127.0.0.1:{port}" for port in anchors), cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        (folder / "broker").mkdir()
        async with mosquitto(folder / "broker") as broker:
            door = Forward("broker", ("127.0.0.1", broker.port))
            async with Relay("fibre", [door]) as relay:
                leaf = broker.leaf(GW)
                tables = one_link_tables(origin, anchors)
                tables["mqtt"] = {
                    "host": "127.0.0.1", "port": relay.ports["broker"],
                    "ca_file": str(broker.ca.cert), "certificate": str(leaf.cert),
                    "key": f"file:{leaf.key}", "heartbeat_s": 1.0, "keep_alive_s": 5}
                async with Site(folder / "site", tables).running() as site:
                    there = Scene(site, broker, relay)
                    await there.connected()
                    yield there
    finally:
        process.kill()
        await process.wait()


async def compared(there: Scene, trouble: Callable[[], None], relief: Callable[[], None]
                   ) -> tuple[float, float]:
    """The medians of RUNS pairs of p99, in ms: without the trouble, and in it."""
    calm: list[float] = []
    rough: list[float] = []
    await there.p99_ms()  # warm
    for _ in range(RUNS):
        calm.append(await there.p99_ms())
        trouble()
        try:
            await asyncio.sleep(NOTICED_S)
            rough.append(await there.p99_ms())
        finally:
            relief()
        await there.connected()
    return statistics.median(calm), statistics.median(rough)


def judge(what: str, calm: float, rough: float) -> None:
    """Promise: within 20 % or 3 ms. On a machine with other work only a stall of ours is judged:
    one wait for the broker on the request path would cost its whole patience, seconds.
    """
    sys.stderr.write(f"\n{what}: p99 {calm:.2f} ms before, {rough:.2f} ms in it\n")
    slack = max(0.2 * calm, 3.0) if FULL else max(calm, 50.0)
    assert rough <= calm + slack


async def test_a_frozen_broker_costs_no_request_anything(tmp_path: Path) -> None:
    async with scene(tmp_path) as there:
        calm, rough = await compared(there, there.broker.freeze, there.broker.thaw)

    judge("broker frozen", calm, rough)


async def test_a_black_holed_broker_costs_no_request_anything(tmp_path: Path) -> None:
    async with scene(tmp_path) as there:
        calm, rough = await compared(there, there.relay.cut, there.relay.heal)

    judge("broker black-holed", calm, rough)
