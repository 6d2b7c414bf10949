"""Row "upstream down or slow on both links": nothing moves, and the backup's bytes stay unspent."""

import asyncio
import time
from typing import Final

from chaos.rig.namespaces import SIM
from tests.bench.acceptance.table import Line, Options, Row, at_most, least
from tests.bench.acceptance.taken import RATE, Open, opened
from tests.bench.rig.ours import Setting
from tests.bench.rig.records import Record

ROW: Final = "upstream"
FULL_S: Final = 600.0
SHORT_S: Final = 30.0
LEAST_S: Final = 20.0  # of one run: both verdicts have come by then
AGAIN_S: Final = 10.0
SLOW_S: Final = 2.0
SETTLED_S: Final = 30.0  # what a start asks over the backup is no part of a calm hour


async def run(options: Options) -> list[Line]:
    """A calm stretch, then as long of 503 from everywhere, then as long of two seconds' delay, each
    of these in ``runs`` parts with a rest between.

    The whole order (``--requests`` set) takes ten minutes each; else half a minute.
    """
    whole = FULL_S if options.requests else SHORT_S
    part = max(LEAST_S, whole / max(1, options.runs))
    async with opened(options.home, Setting(metered=True), ("search",), options.delay) as run:
        await run.load.calm("a", 30.0)
        await asyncio.sleep(SETTLED_S)
        switches = run.watch.switches
        calm, _ = await _carried(whole)
        down, slow = [], []
        for _ in range(max(1, options.runs)):
            down.append(await _ailing(run, part, status=503))
            slow.append(await _ailing(run, part, delay_s=SLOW_S))
        turned = run.watch.switches - switches
    options.say(f"  backup in bytes an hour: calm {calm:.0f}, down "
                f"{', '.join(f'{each:.0f}' for each, _ in down)}, slow "
                f"{', '.join(f'{each:.0f}' for each, _ in slow)}")
    means = [sum(each for each, _ in some) / len(some) for some in (down, slow)]
    records, began = run.load.records, run.began
    asked = (records[-1].due - began) * RATE
    return [at_most(ROW, "switches", turned, 0),
            Line(ROW, "requests recorded, of those due", f"{len(records)} of {asked:.0f}",
                 len(records) >= 0.95 * asked),
            Line(ROW, "named", ", ".join(sorted(run.watch.causes)) or "nothing",
                 {"UPSTREAM_DOWN", "UPSTREAM_SLOW"} <= run.watch.causes),
            _share("told 503 while it is down", records, [each for _, each in down], 503),
            _share("answered while it is slow", records, [each for _, each in slow], 200),
            least(ROW, "extra backup bytes, down", (means[0] - calm) / 1e6, 1.0, "MB/h"),
            least(ROW, "extra backup bytes, slow", (means[1] - calm) / 1e6, 1.0, "MB/h")]


async def _ailing(run: Open, lasts_s: float, status: int = 200, delay_s: float = 0.02
                  ) -> tuple[float, tuple[float, float]]:
    await run.where.set_origin(delay_s=delay_s, status=status)
    found = await _carried(lasts_s)
    await run.where.set_origin()
    await asyncio.sleep(AGAIN_S)
    return found


def _share(must: str, records: list[Record], spans: list[tuple[float, float]], status: int
           ) -> Line:
    """Demand that what was asked a second into the fault, to its end, had that status."""
    due = [one for began, ended in spans for one in records if began + 1.0 <= one.due < ended - 3.0]
    share = sum(one.status == status for one in due) / max(1, len(due))
    return Line(ROW, f"{must} >= 99 %", f"{100 * share:.1f} % of {len(due)}", share >= 0.99)


async def _carried(seconds: float) -> tuple[float, tuple[float, float]]:
    """The bytes an hour that the backup's interface carries, both ways together; and from when to
    when that was."""
    before, began = counters(SIM.device), time.monotonic()
    await asyncio.sleep(seconds)
    ended = time.monotonic()
    return (counters(SIM.device) - before) * 3600.0 / (ended - began), (began, ended)


def counters(device: str) -> int:
    """The bytes that a device carried, both ways, read in the namespace where the caller stands."""
    with open("/proc/thread-self/net/dev", encoding="ascii") as file:
        line = next(line for line in file if line.strip().startswith(device + ":"))
    figures = line.partition(":")[2].split()
    return int(figures[0]) + int(figures[8])


ROWS: Final[dict[str, Row]] = {ROW: run}
