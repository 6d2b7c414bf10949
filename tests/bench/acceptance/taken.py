"""One measured run of our gateway: a place, the daemon, a load, and a fault again and again.

What a run gave is kept beside its records, so that it can be judged again without being run again.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.acceptance.table import Line, Options, least
from tests.bench.rig.figures import near, quantile, slowest, was_carrying
from tests.bench.rig.load import Asking
from tests.bench.rig.ours import Setting, ours, stream
from tests.bench.rig.place import Loaded, Place, child, loaded, place
from tests.bench.rig.records import Record, read
from tests.bench.rig.runs import Fault, Onsets, repeat
from tests.bench.rig.watch import Change, Watch, watching
from tests.kit.gateway import Site

DEAD: Final = frozenset({"DOWN"})
RATE: Final = 100.0
RECORDS: Final = "records.tsv"
BESIDE: Final = "taken.json"


@dataclass(slots=True)
class Open:
    """A run under way."""

    where: Place
    site: Site
    watch: Watch
    load: Loaded
    began: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What one run gave: ``ledger`` is the origin's last word, asked for ``at`` that moment while
    the load went on."""

    records: list[Record]
    onsets: Onsets
    watch: Watch
    ledger: dict[str, Any]

    def of(self, asking: str) -> list[Record]:
        """The records of one stream; streams are named by what they ask."""
        return [one for one in self.records if one.stream == asking]

    def keep(self, home: Path) -> None:
        """Write all but the records, which the load has written, into ``home``."""
        (home / BESIDE).write_text(json.dumps({
            "onsets": asdict(self.onsets), "ledger": self.ledger, "said": self.watch.said,
            "changes": [asdict(each) for each in self.watch.changes],
            "modes": [asdict(each) for each in self.watch.modes],
            "causes": sorted(self.watch.causes)}), "utf-8")


def kept(home: Path) -> Taken:
    """Return what an earlier run left in ``home``.

    Raises:
        OSError: no run was kept there.
    """
    told = json.loads((home / BESIDE).read_text("utf-8"))
    changes, modes = ([Change(**each) for each in told[name]] for name in ("changes", "modes"))
    return Taken(read(home / RECORDS), Onsets(**told["onsets"]),
                 Watch(changes, set(told["causes"]), told["said"], modes), told["ledger"])


@asynccontextmanager
async def opened(home: Path, setting: Setting, asking: tuple[Asking, ...], far: bool = False,
                 beside: Sequence[tuple[str, ...]] = (), head: str = "") -> AsyncIterator[Open]:
    """Build everything and load it: ``RATE`` requests a second, shared by the kinds asked.

    ``beside`` are modules with their arguments that run in ``up`` first; ``head`` is sent too.
    """
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(place(home, far=far))
        for command in beside:
            await stack.enter_async_context(child(*where.rig.inside(
                "up", sys.executable, "-m", *command)))
        site = await stack.enter_async_context(ours(home / "ours", setting))
        watch = await stack.enter_async_context(watching(site.admin))
        streams = [stream(site, each, asking=each, rate=RATE / len(asking), head=head)
                   for each in asking]
        load = await stack.enter_async_context(loaded(home, streams))
        yield Open(where, site, watch, load, time.monotonic())
        assert watch.is_live(time.monotonic()), "the gateway has not told its status for a second"


async def take(options: Options, home: Path, fault: Fault, count: int,
               setting: Setting | None = None, asking: tuple[Asking, ...] = ("search",),
               requests: int | None = None) -> Taken:
    """Strike ``count`` times, then go on until ``requests`` were asked (default: the order's)."""
    if options.again:
        return kept(home)
    wanted = options.requests if requests is None else requests
    async with opened(home, setting or Setting(), asking, options.delay) as run:
        onsets = await repeat(run.where.rig, run.load, fault, count, options.dice, options.say)
        left = wanted / RATE - (time.monotonic() - run.began)
        await asyncio.sleep(max(0.5, left))
        asked = time.monotonic()
        ledger = await run.where.ledger() | {"at": asked}
    taken = Taken(run.load.records, onsets, run.watch, ledger)
    taken.keep(home)
    return taken


def struck(row: str, options: Options, *runs: Taken) -> Line:
    """Demand that every onset met a link at work, and that there were as many as asked for."""
    begun = [(taken.records, began) for taken in runs for began in taken.onsets.began]
    found = sum(was_carrying(records, "a", began) for records, began in begun)
    return Line(row, f"struck while the primary carried, of {len(begun)}", f"{found}",
                found == len(begun) >= options.onsets)


def verdict(row: str, must: str, taken: Taken, limit_ms: float) -> Line:
    """Demand that each onset's verdict came in time; one that never came counts as ten seconds."""
    took = [death(taken.watch, began) for began in taken.onsets.began]
    figures = [10_000.0 if each is None else each * 1000 for each in took]
    return least(row, must, quantile(figures, 0.99), limit_ms)


def death(watch: Watch, began: float, link: str = "fibre") -> float | None:
    """How long after ``began`` the link was judged dead, if within ten seconds."""
    found = watch.first(link, DEAD, began)
    return found if found is not None and found < 10.0 else None


def tell_slowest(options: Options, records: list[Record], onsets: Onsets) -> None:
    """Say which requests were slowest, and how long after which onset they were due; then which
    failed."""
    worst = slowest(near(records, onsets.began), options.slowest)
    failed = [one for one in records if one.kind == "failed"][:options.slowest]
    for one in dict.fromkeys((*worst, *failed)):
        onset = max((each for each in onsets.began if each <= one.answered),
                    default=onsets.began[0])
        options.say(f"  {one.stream} {one.number}: due {one.due - onset:+.3f} s, took "
                    f"{one.took_s * 1000:.0f} ms, {one.kind} by {one.link or '-'} {one.detail}")
