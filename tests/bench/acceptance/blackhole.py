"""Row "silent blackhole of the primary"."""

from typing import Final

from chaos.weather import Cut
from tests.bench.acceptance.table import Line, Options, least, none_failed
from tests.bench.acceptance.taken import take, tell_slowest, verdict
from tests.bench.rig.figures import measure
from tests.bench.rig.ours import Setting
from tests.bench.rig.runs import Fault

ROW: Final = "silent-blackhole"
FAULT: Final = Fault(ROW, (Cut("fibre"),))


async def run(options: Options) -> list[Line]:
    """Measure with m and R set by hand, then the verdict's time on a fresh device."""
    taken = await take(options, options.home / "set", FAULT, options.onsets)
    found = measure(taken.records, taken.onsets.began)
    tell_slowest(options, taken.records, taken.onsets)
    lines = [
        none_failed(ROW, found.failed, found.requests, options.requests),
        least(ROW, "p99", found.p99_ms, 140), least(ROW, "max", found.max_ms, 300),
        least(ROW, "longest gap between answers", found.gap_ms, 150),
        verdict(ROW, "verdict p99, m and R set", taken, 1500)]
    fresh = await take(options, options.home / "fresh", FAULT, max(2, options.onsets // 2),
                       Setting(None), requests=0)
    return [*lines, verdict(ROW, "verdict p99, fresh", fresh, 2200)]
