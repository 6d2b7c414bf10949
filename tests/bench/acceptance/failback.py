"""Row "failback under load": the healed primary takes its traffic back, and nothing stays behind.

The ramp is the shipped one, whose steps take a minute. A tunnel speaks over the backup in the first
run, whose end is awaited: the shipped five minutes.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from chaos.rig.namespaces import SIM
from chaos.weather import Cut, Heal
from tests.bench.acceptance.table import Line, Options, Row, at_most, least, none_failed
from tests.bench.acceptance.taken import RATE, Open, opened
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
RAMP_S: Final = 40.0  # the shipped steps take 50 s and more
BACKUP: Final = "10.77.2.2"
HEDGED: Final = 0.02  # of a calm minute's reads: rescue goes on, steering does not
PLACE: Final = f"{ORIGIN}:{PORT}"


@dataclass(frozen=True, slots=True)
class Found:
    """One run: ``over`` connections beyond the declared, after 60 s; ``late`` requests that the
    backup answered after the ramp's last step, and ``behind`` those that the origin got by it then:
    hedges of reads that waited for the primary. ``tunnel_s`` is 0 where none was held."""

    failed: int
    requests: int
    ramp_s: float
    added_ms: float
    late: int
    behind: int
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
        Line(ROW, "seconds of the shortest ramp >= 40",
             f"{min(each.ramp_s for each in found):.0f}",
             min(each.ramp_s for each in found) >= RAMP_S),
        at_most(ROW, "requests on the backup from the ramp's last step",
                sum(each.late for each in found), 0),
        least(ROW, "second sends by the backup then",
              max(each.behind for each in found) / (LEFT_S * RATE), HEDGED, "of all"),
        at_most(ROW, "connections beyond the declared after 60 s",
                max(each.over for each in found), 0),
        at_most(ROW, "a speaking tunnel lived on", round(max(tunnels)), TUNNEL_S, "s")]


async def _once(options: Options, number: int) -> Found:
    port = free_port()
    async with opened(options.home / str(number), Setting(tunnel_port=port, ramped=True),
                      ("search",), options.delay) as run:
        await run.load.calm("a", CALM_S)
        await run.where.rig.apply(Cut("fibre"))
        await run.load.calm("b", CALM_S)
        calm_from = time.monotonic()
        tunnel = None if number else asyncio.ensure_future(talking_tunnel(port, PLACE, KEY, 1.0))
        await asyncio.sleep(5.0)
        await run.where.rig.apply(Heal("fibre"))
        healed = time.monotonic()
        ended, swept = await _ramped(run, healed)
        asked = await _asked(run)
        await asyncio.sleep(LEFT_S)
        behind = await _asked(run) - asked
        left, held = established(SIM.device, PLACE), tunnel is not None and not tunnel.done()
        over = left - _declared(run.watch.said) - held
        lived = await asyncio.wait_for(tunnel, TUNNEL_S + 60.0) - ended if tunnel else 0.0
    records = run.load.records
    calm = [one.took_s * 1000 for one in records if calm_from <= one.due < healed]
    began = min((one.due for one in records if one.link == "a" and one.due > healed), default=ended)
    ramp = [one.took_s * 1000 for one in records if began <= one.due < ended]
    late = sum(one.link == "b" for one in records if one.due > ended + 0.01)
    added = quantile(ramp, 0.99) - quantile(calm, 0.99)
    options.say(f"  run {number + 1}: ramp of {ended - began:.0f} s, p99 "
                f"{quantile(ramp, 0.99):.0f} ms, calm {quantile(calm, 0.99):.0f} ms, {late} late, "
                f"{behind} behind, {left} connections, {over} over, tunnel {lived:.0f} s")
    return Found(sum(one.kind != "live" for one in records), len(records), ended - began,
                 added, late, behind, over, lived, swept)


async def _ramped(run: Open, healed: float) -> tuple[float, bool]:
    """Wait for the ramp's last step; return when it was taken (monotonic seconds), and whether a
    sweep of the backup began with it. One that never does is given up after ``RAMPED_S``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(RAMPED_S):
            while (at := _cleared(run)) < healed:  # noqa: ASYNC110  # a daemon is polled
                await asyncio.sleep(0.05)
        return at, True
    return time.monotonic(), False


def _cleared(run: Open) -> float:
    """When the last sweep began, as of the newest look; -inf if none has."""
    return max((run.watch.looked - float(row["since_s"])
                for row in run.watch.said["steering"]["cleared"]), default=float("-inf"))


async def _asked(run: Open) -> int:
    """What the origin was asked by the backup until now, canaries apart."""
    return int((await run.where.ledger())["asked"].get(BACKUP, 0))


def _declared(said: dict[str, Any]) -> int:
    return sum(int(row["declared"]) for row in said["warm"] if row["link"] == "sim")


ROWS: Final[dict[str, Row]] = {ROW: run}
