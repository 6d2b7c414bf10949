"""Row "upstream down or slow on both links": nothing moves, and the backup's bytes stay unspent."""

import asyncio
from typing import Final

from chaos.rig.namespaces import SIM
from tests.bench.acceptance.table import Line, Options, Row, at_most, least
from tests.bench.acceptance.taken import opened
from tests.bench.rig.ours import Setting

ROW: Final = "upstream"
FULL_S: Final = 600.0
SHORT_S: Final = 30.0
SLOW_S: Final = 2.0


async def run(options: Options) -> list[Line]:
    """A calm stretch, then as long of 503 from everywhere, then as long of two seconds' delay.

    The whole order (``--requests`` set) takes ten minutes each; else half a minute.
    """
    lasts = FULL_S if options.requests else SHORT_S
    async with opened(options.home, Setting(metered=True), ("search",)) as run:
        await run.load.calm("a", 30.0)
        await asyncio.sleep(10.0)
        switches = run.watch.switches
        calm = await _carried(lasts)
        await run.where.set_origin(status=503)
        down = await _carried(lasts)
        await run.where.set_origin()
        await asyncio.sleep(5.0)
        await run.where.set_origin(delay_s=SLOW_S)
        slow = await _carried(lasts)
        await run.where.set_origin()
        turned = run.watch.switches - switches
    options.say(f"  backup in bytes an hour: calm {calm:.0f}, down {down:.0f}, slow {slow:.0f}")
    return [at_most(ROW, "switches", turned, 0),
            least(ROW, "extra backup bytes, down", (down - calm) / 1e6, 1.0, "MB/h"),
            least(ROW, "extra backup bytes, slow", (slow - calm) / 1e6, 1.0, "MB/h")]


async def _carried(seconds: float) -> float:
    """The bytes an hour that the backup's interface carries, both ways together."""
    before = counters(SIM.device)
    await asyncio.sleep(seconds)
    return (counters(SIM.device) - before) * 3600.0 / seconds


def counters(device: str) -> int:
    """The bytes that a device carried, both ways, read in the namespace where the caller stands."""
    with open("/proc/thread-self/net/dev", encoding="ascii") as file:
        line = next(line for line in file if line.strip().startswith(device + ":"))
    figures = line.partition(":")[2].split()
    return int(figures[0]) + int(figures[8])


ROWS: Final[dict[str, Row]] = {ROW: run}
