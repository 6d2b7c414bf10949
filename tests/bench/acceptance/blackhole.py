"""Row "silent blackhole of the primary", and beside it what 14 simulated days teach a link."""

from typing import Final

from chaos.weather import Cut
from tests.bench.acceptance.table import Line, Options, least, none_failed
from tests.bench.acceptance.taken import struck, take, tell_slowest, verdict
from tests.bench.rig.figures import measure
from tests.bench.rig.ours import GAPS, Setting
from tests.bench.rig.runs import Fault
from tests.sim.days import live

ROW: Final = "silent-blackhole"
FAULT: Final = Fault(ROW, (Cut("fibre"),))


async def run(options: Options) -> list[Line]:
    """Measure with m and R set by hand, then the verdict's time on a fresh device."""
    taken = await take(options, options.home / "set", FAULT, options.onsets)
    tell_slowest(options, taken.records, taken.onsets)
    fresh = await take(options, options.home / "fresh", FAULT, options.onsets, Setting(None),
                       requests=0)
    tell_slowest(options, fresh.records, fresh.onsets)
    found = measure(taken.records, taken.onsets.began)
    unlearned = measure(fresh.records, fresh.onsets.began)
    learned = live(1, GAPS[0], learn_days=14.1, days=0.0, a_day=GAPS[1])
    options.say(f"  14 simulated days of {GAPS[1]:.0f} bursts a day, mean {GAPS[0]} s, teach: "
                f"A* {learned.age_s:.2f} s, m {learned.mean_learned_s:.3f} s, R "
                f"{learned.gaps_a_day:.0f}; wrong switches meanwhile: {learned.learning}")
    return [
        struck(ROW, options, taken), struck(ROW, options, fresh),
        none_failed(ROW, found.failed + unlearned.failed, found.requests + unlearned.requests,
                    options.requests),
        least(ROW, "p99", found.p99_ms, 140), least(ROW, "max", found.max_ms, 300),
        least(ROW, "longest gap between answers", found.gap_ms, 150),
        verdict(ROW, "verdict p99, m and R set", taken, 1500),
        least(ROW, "p99, fresh", unlearned.p99_ms, 140),
        least(ROW, "max, fresh", unlearned.max_ms, 300),
        least(ROW, "longest gap between answers, fresh", unlearned.gap_ms, 150),
        verdict(ROW, "verdict p99, fresh", fresh, 2200)]
