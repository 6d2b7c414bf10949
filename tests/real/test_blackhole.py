"""The primary link goes silent at 100 reads/s, on a real kernel, at random instants.

Order of acceptance: 0 failed; p99 < 140 ms, max < 300 ms; longest gap between answers < 0.15 s, of
the requests due from 1 s before to 5 s after each onset. Here twice that is allowed, since CI's
machine is busy: still no more than the best peer needs; ``python -m tests.bench.acceptance`` holds
to the order's own limits. The origin answers after 20 ms. ``FULL=1`` makes 20 onsets, otherwise 2.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import pytest

from chaos.rig.namespaces import Namespaces, visit, why_not
from chaos.weather import Cut, Heal
from tests.real.daemon import base_config, gateway
from tests.real.steady import Read, Steady

ONSETS: Final = 20 if os.environ.get("FULL") == "1" else 2
RATE: Final = 100.0
ORIGIN: Final = "10.77.100.1"
BROKER: Final = "10.77.100.2:1883"
ANCHOR: Final = "10.77.100.3:7"
PORT: Final = 8080
ADMIN: Final = 9464
BEFORE_S: Final = 1.0
AFTER_S: Final = 5.0
BACK_S: Final = 40.0

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"BLACKHOLE NOT TESTED: {why_not()}")


@dataclass(frozen=True, slots=True)
class Figures:
    """What the windows round the onsets show, in seconds."""

    requests: int
    failed: int
    stall_p50: float
    stall_p99: float
    stall_max: float
    gap: float


def measure(reads: list[Read], onsets: list[float]) -> Figures:
    """Judge the requests due within each window; stalls are over the calm median."""
    def near(one: Read) -> bool:
        return any(onset - BEFORE_S <= one.due <= onset + AFTER_S for onset in onsets)

    calm = median(one.took_s for one in reads
                  if one.due < onsets[0] - BEFORE_S) if onsets else 0.0
    inside = [one for one in reads if near(one)]
    stalls = sorted(max(0.0, one.took_s - calm) for one in inside)
    gap = 0.0
    for onset in onsets:
        came = sorted(one.due + one.took_s for one in reads if one.ok
                      and onset - BEFORE_S <= one.due + one.took_s <= onset + AFTER_S)
        gap = max([gap, *(after - before for before, after in pairwise(came))])
    return Figures(len(inside), sum(not one.ok for one in inside), median(stalls),
                   stalls[len(stalls) * 99 // 100], stalls[-1], gap)


def configuration(home: Path) -> str:
    """Return a gateway in ``edge``: its links are devices, its hold is short."""
    text = base_config(home / "state", PORT, ADMIN) + "\n[judgement]\nhold_s = 2.0\n"
    text += "[failback]\nstep_s = 0.2\nwait_most_s = 0.0\n"
    for priority, (link, device) in enumerate((("fibre", "a"), ("sim", "b")), 1):
        text += f'\n[[links]]\nid = "{link}"\npriority = {priority}\ninterface = "{device}"\n'
        for name, target in (("broker", BROKER), ("anchor", ANCHOR)):
            text += (f'[[links.probes]]\nid = "{name}"\nkind = "tcp"\n'
                     f'target = "{target}"\n')
    return text + (f'\n[[upstreams]]\nid = "r4"\ntenants = ["B81001"]\n'
                   f'base_url = "http://{ORIGIN}:8080"\npack = "fhir-r4"\n')


@asynccontextmanager
async def origin(rig: Namespaces) -> AsyncIterator[None]:
    child = await asyncio.create_subprocess_exec(
        *rig.inside("up", sys.executable, "-m", "tests.real.slow_origin", ORIGIN, "8080", "0.02",
                    BROKER, ANCHOR), stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"listening\n"
        yield
    finally:
        child.kill()
        await child.wait()


async def test_a_silent_blackhole_of_the_primary_fails_no_read(
        tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dice = Random(20261124)
    onsets: list[float] = []
    async with Namespaces() as rig, origin(rig):
        with visit(rig.name("edge")):  # the gateway, and all sockets of this test, stand in edge
            async with gateway(configuration(tmp_path), tmp_path, PORT, ADMIN):
                load = Steady(f"http://127.0.0.1:{PORT}/B81001/r4", RATE)
                async with load.running():
                    for _ in range(ONSETS):
                        await load.back_on("fibre", BACK_S)
                        await asyncio.sleep(1.0 + BEFORE_S + dice.random())
                        await rig.apply(Cut("fibre"))
                        onsets.append(time.monotonic())
                        await asyncio.sleep(AFTER_S + 0.5)
                        await rig.apply(Heal("fibre"))
                    await asyncio.sleep(0.5)
    found = measure(load.reads, onsets)
    with capfd.disabled():
        sys.stdout.write(f"\n{ONSETS} onsets: {found}\n")  # the figures belong in the note
    assert found.requests >= 0.95 * ONSETS * RATE * (BEFORE_S + AFTER_S)
    assert found.failed == 0
    assert found.stall_p99 < 0.28
    assert found.stall_max < 0.6
    assert found.gap < 0.3


def test_the_measure_sees_a_failure_a_stall_and_a_gap() -> None:
    calm = [Read(n / 100, 0.02, True, "fibre") for n in range(200)]
    after = [Read(2.5 + n / 100, 0.02, True, "sim") for n in range(400)]
    stalled = Read(2.1, 0.92, True, "sim")
    found = measure([*calm, stalled, Read(2.2, 0.1, False, ""), *after], [2.0])
    assert found.failed == 1
    assert found.stall_max == pytest.approx(0.9)
    assert found.gap == pytest.approx(0.51)
