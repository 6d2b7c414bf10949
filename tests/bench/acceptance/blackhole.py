"""Row "silent blackhole of the primary"."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from chaos.weather import Cut
from tests.bench.acceptance.table import Line, Options, least, none_failed
from tests.bench.rig.figures import measure, near, quantile, slowest
from tests.bench.rig.ours import GAPS, Setting, ours, stream
from tests.bench.rig.place import loaded, place
from tests.bench.rig.records import Record
from tests.bench.rig.runs import Fault, Onsets, repeat
from tests.bench.rig.watch import Watch, watching

ROW: Final = "silent-blackhole"
FAULT: Final = Fault(ROW, (Cut("fibre"),))
DEAD: Final = frozenset({"DOWN"})


async def run(options: Options) -> list[Line]:
    """Measure with m and R set by hand, then the verdict's time on a fresh device."""
    records, onsets, watch = await measured(options, options.home / "set", GAPS, options.onsets)
    found = measure(records, onsets.began)
    tell_slowest(options, records, onsets)
    lines = [
        none_failed(ROW, found.failed, found.requests, options.requests),
        least(ROW, "p99", found.p99_ms, 140), least(ROW, "max", found.max_ms, 300),
        least(ROW, "longest gap between answers", found.gap_ms, 150),
        verdict(ROW, "verdict p99, m and R set", watch, onsets, 1500)]
    _, fresh, seen = await measured(options, options.home / "fresh", None,
                                    max(2, options.onsets // 2))
    return [*lines, verdict(ROW, "verdict p99, fresh", seen, fresh, 2200)]


async def measured(options: Options, home: Path, gaps: tuple[float, float] | None,
                   count: int) -> tuple[list[Record], Onsets, Watch]:
    """One run of ours in the row's fault; until ``options.requests`` were asked at least."""
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(place(home))
        site = await stack.enter_async_context(ours(home / "ours", Setting(gaps)))
        watch = await stack.enter_async_context(watching(site.admin))
        async with loaded(home, [stream(site)]) as load:
            onsets = await repeat(where.rig, load, FAULT, count, options.dice, options.say)
            await asyncio.sleep(0.5)
        return load.records, onsets, watch


def verdict(row: str, must: str, watch: Watch, onsets: Onsets, limit_ms: float) -> Line:
    """Demand that each onset's verdict came in time; one that never came counts as ten seconds."""
    took = [(watch.first("fibre", DEAD, began) if found is None else found)
            for began in onsets.began for found in (within(watch, began),)]
    figures = [10_000.0 if each is None else each * 1000 for each in took]
    return least(row, must, quantile(figures, 0.99), limit_ms)


def within(watch: Watch, began: float) -> float | None:
    """How long after ``began`` the primary was judged dead, if within ten seconds."""
    found = watch.first("fibre", DEAD, began)
    return found if found is not None and found < 10.0 else None


def tell_slowest(options: Options, records: list[Record], onsets: Onsets) -> None:
    """Say which requests were slowest, and how long after which onset they were due."""
    for one in slowest(near(records, onsets.began), options.slowest):
        onset = max((each for each in onsets.began if each <= one.answered),
                    default=onsets.began[0])
        options.say(f"  {one.stream} {one.number}: due {one.due - onset:+.3f} s, took "
                    f"{one.took_s * 1000:.0f} ms, {one.kind} by {one.link or '-'} {one.detail}")
