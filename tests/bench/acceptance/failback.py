"""Row "failback under load": the healed primary takes its traffic back, and nothing stays behind.

A tunnel speaks over the backup in the first run, whose end is awaited: the shipped five minutes.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from chaos.rig.namespaces import SIM
from chaos.weather import Cut, Heal
from tests.bench.acceptance.table import Line, Options, Row, at_most, least, none_failed
from tests.bench.acceptance.taken import Open, opened
from tests.bench.rig.figures import quantile
from tests.bench.rig.left import established, talking_tunnel
from tests.bench.rig.ours import Setting
from tests.bench.rig.place import ORIGIN, PORT
from tests.kit.gateway import KEY, free_port

ROW: Final = "failback"
CALM_S: Final = 60.0
RAMPED_S: Final = 180.0  # after a brown-out, whose classes come back a minute later
LEFT_S: Final = 60.0
TUNNEL_S: Final = 300.0
PLACE: Final = f"{ORIGIN}:{PORT}"


@dataclass(frozen=True, slots=True)
class Found:
    """One run: ``over`` connections beyond the declared, after 60 s; ``late`` requests on the
    backup after the ramp's last step; ``tunnel_s`` is 0 where none was held."""

    failed: int
    requests: int
    added_ms: float
    late: int
    over: int
    tunnel_s: float
    swept: bool


async def run(options: Options) -> list[Line]:
    """Cut, wait, heal, and look for a minute; once for five."""
    found = [await _once(options, number) for number in range(max(1, options.runs))]
    tunnels = [each.tunnel_s for each in found if each.tunnel_s]
    swept = sum(each.swept for each in found)
    return [
        Line(ROW, "each ramp ended with a sweep of the backup", f"{swept} of {len(found)}",
             swept == len(found)),
        none_failed(ROW, sum(each.failed for each in found),
                    sum(each.requests for each in found), options.requests),
        least(ROW, "added p99", max(each.added_ms for each in found), 50),
        at_most(ROW, "requests on the backup from the ramp's last step",
                sum(each.late for each in found), 0),
        at_most(ROW, "connections beyond the declared after 60 s",
                max(each.over for each in found), 0),
        at_most(ROW, "a speaking tunnel lived on", round(max(tunnels)), TUNNEL_S, "s")]


async def _once(options: Options, number: int) -> Found:
    port = free_port()
    async with opened(options.home / str(number), Setting(tunnel_port=port), ("search",),
                      options.delay) as run:
        await run.load.calm("a", CALM_S)
        await run.where.rig.apply(Cut("fibre"))
        await run.load.calm("b", CALM_S)
        calm_from = time.monotonic()
        tunnel = None if number else asyncio.ensure_future(talking_tunnel(port, PLACE, KEY, 1.0))
        await asyncio.sleep(5.0)
        await run.where.rig.apply(Heal("fibre"))
        healed = time.monotonic()
        ended, swept = await _ramped(run)
        await asyncio.sleep(LEFT_S)
        over = established(SIM.device, PLACE) - _declared(run.watch.said) - (tunnel is not None)
        lived = await asyncio.wait_for(tunnel, TUNNEL_S + 60.0) - ended if tunnel else 0.0
    records = run.load.records
    calm = [one.took_s * 1000 for one in records if calm_from <= one.due < healed]
    ramp = [one.took_s * 1000 for one in records if healed <= one.due < ended + 5.0]
    late = sum(one.link == "b" for one in records if one.due > ended + 0.01)
    added = quantile(ramp, 0.99) - quantile(calm, 0.99)
    options.say(f"  run {number + 1}: ramp p99 {quantile(ramp, 0.99):.0f} ms, calm "
                f"{quantile(calm, 0.99):.0f} ms, {late} late, {over} connections over, tunnel "
                f"{lived:.0f} s")
    return Found(sum(one.kind != "live" for one in records), len(records), added, late, over,
                 lived, swept)


async def _ramped(run: Open) -> tuple[float, bool]:
    """Wait for the ramp's last step; return when it was taken (monotonic seconds), and whether a
    sweep of the backup began with it. One that never does is given up after ``RAMPED_S``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(RAMPED_S):
            while not run.watch.said["steering"]["cleared"]:  # noqa: ASYNC110  # a daemon is polled
                await asyncio.sleep(0.05)
        since_s = float(run.watch.said["steering"]["cleared"][0]["since_s"])
        return time.monotonic() - since_s, True
    return time.monotonic(), False


def _declared(said: dict[str, Any]) -> int:
    return sum(int(row["declared"]) for row in said["warm"] if row["link"] == "sim")


ROWS: Final[dict[str, Row]] = {ROW: run}
