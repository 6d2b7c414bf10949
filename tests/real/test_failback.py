"""A healed primary takes its traffic back under load, on a real kernel, and nobody notices.

Order of acceptance: 0 failed; added p99 < 50 ms; from the ramp's last step 0 requests on the
backup, and no HTTP connection there beyond the declared warm ones after 60 s, no tunnel after
5 min. Here the steps take a second and tunnels get four, so that it is over in half a minute.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from chaos.rig.namespaces import Namespaces, visit, why_not
from chaos.weather import Cut, Heal
from tests.bench.rig.left import established, talking_tunnel
from tests.real.daemon import KEY, gateway
from tests.real.steady import Read, Steady
from tests.real.test_blackhole import ADMIN, ORIGIN, PORT, configuration, origin

RATE: Final = 50.0
TUNNEL: Final = 8081
BACK_S: Final = 40.0
MIXED_S: Final = 1.5
"""Of the steps of a second each, reads are shared out in three."""
ADDED_S: Final = 0.15
"""Three times the order's: a busy machine is no failback; the figure itself is printed."""

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"FAILBACK NOT TESTED: {why_not()}")


def with_tunnels(text: str) -> str:
    return text.replace("step_s = 0.2", "step_s = 1.0\ntunnel_drain_s = 4.0\ntunnel_gap_s = 1.0\n"
                        "http_drain_s = 5.0") + (
        f'\n[tunnel]\nport = {TUNNEL}\naddress = "127.0.0.1"\nallow = ["{ORIGIN}:8080"]\n')


async def status() -> dict[str, Any]:
    async with (aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{ADMIN}/status") as reply):
        told: dict[str, Any] = await reply.json()
        return told


async def until_cleared(within_s: float) -> tuple[float, dict[str, Any]]:
    async with asyncio.timeout(within_s):
        while True:
            told = await status()
            if told["steering"]["cleared"]:
                return time.monotonic(), told
            await asyncio.sleep(0.1)


def p99(reads: list[Read]) -> float:
    ranked = sorted(one.took_s for one in reads)
    return ranked[len(ranked) * 99 // 100]


def declared(told: dict[str, Any]) -> int:
    """The warm connections that the backup may hold."""
    return sum(int(row["declared"]) for row in told["warm"] if row["link"] == "sim")


async def test_a_healed_primary_takes_its_traffic_back_and_nothing_stays_on_the_backup(
        tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with Namespaces() as rig, origin(rig):
        with visit(rig.name("edge")):
            text = with_tunnels(configuration(tmp_path))
            async with gateway(text, tmp_path, PORT, ADMIN):
                load = Steady(f"http://127.0.0.1:{PORT}/B81001/r4", RATE)
                async with load.running():
                    await load.back_on("fibre", BACK_S)
                    await rig.apply(Cut("fibre"))
                    await load.back_on("sim", BACK_S)
                    calm_from = time.monotonic()
                    tunnel = asyncio.ensure_future(talking_tunnel(TUNNEL, f"{ORIGIN}:8080", KEY))
                    await asyncio.sleep(2.0)
                    await rig.apply(Heal("fibre"))
                    healed = time.monotonic()
                    ended, told = await until_cleared(BACK_S)
                    async with asyncio.timeout(15.0):
                        tunnel_ended = await tunnel
                    left, told = established("b", f"{ORIGIN}:8080"), await status()
                    for _ in range(40):  # the order wants it within 60 s of the ramp's end
                        clean = told["steering"]["cleared"][0]["clean_s"] is not None
                        if clean and left <= declared(told):
                            break
                        await asyncio.sleep(1.0)
                        left, told = established("b", f"{ORIGIN}:8080"), await status()
    calm = [one for one in load.reads if calm_from <= one.due < healed]
    ramp = [one for one in load.reads if healed <= one.due]
    after = [one for one in ramp if one.due > ended + 0.2]
    warm = declared(told)
    with capfd.disabled():
        sys.stdout.write(f"\n{len(ramp)} reads, p99 {p99(ramp) * 1000:.0f} ms (calm "
                         f"{p99(calm) * 1000:.0f}), {left} connections left, {warm} declared, "
                         f"{json.dumps(told['steering']['cleared'])}\n")
    assert not [one for one in ramp if not one.ok]
    assert p99(ramp) - p99(calm) < ADDED_S
    first = min(one.due for one in ramp if one.link == "fibre")
    last = max(one.due for one in ramp if one.link == "sim")
    mixed = Counter(one.link for one in ramp if first <= one.due <= last)
    assert last - first > MIXED_S, "all came back at a stroke"
    assert min(mixed["fibre"], mixed["sim"]) >= 10
    assert {one.link for one in after} == {"fibre"}
    assert 0.0 < tunnel_ended - ended < 10.0
    assert left <= warm
    (cleared,) = told["steering"]["cleared"]
    assert (cleared["link"], cleared["flows"], cleared["alarmed"]) == ("sim", 0, False)
