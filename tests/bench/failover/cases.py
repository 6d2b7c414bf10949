"""The faults that all parties meet together, and one sitting of such a fault."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from chaos.weather import Cut, Flap, Lose, Reset, Unplug
from tests.bench.failover.peers import PEERS, running
from tests.bench.failover.table import LOOK_S, Sitting
from tests.bench.rig.figures import AFTER_S
from tests.bench.rig.load import Asking, Stream
from tests.bench.rig.ours import Setting, ours, stream
from tests.bench.rig.place import loaded, place
from tests.bench.rig.runs import CALM_S, WARM_S, Fault, Onsets, calm_down, strike

OURS: Final = "ours"
PARTIES: Final = (OURS, *PEERS)
LOSS_S: Final = 12.0
FLAP_S: Final = 20.0
DARK_S: Final = 8.0
TAIL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """One fault. ``steps`` are its onsets within one strike, in seconds; ``fresh``: each strike
    finds everybody started anew; ``damped``: ours keeps all its own holds; in the ``dark`` nobody
    can answer but from what is kept, with ``keep``."""

    fault: Fault
    words: str
    asking: Asking = "search"
    steps: tuple[float, ...] = (0.0,)
    fresh: bool = False
    damped: bool = False
    dark: bool = False
    keep: bool = False


CASES: Final[dict[str, Case]] = {each.fault.name: each for each in (
    Case(Fault("blackhole", (Cut("fibre"),)), "silent blackhole of A, 2 kB searches"),
    # Fresh: ours distrusts a lossy link for longer than a bench can wait.
    Case(Fault("loss-2k", (Lose("fibre", 0.2),), LOSS_S), "20 % loss on A, 2 kB searches",
         fresh=True),
    Case(Fault("loss-30k", (Lose("fibre", 0.2),), LOSS_S), "20 % loss on A, 30 kB reads", "read",
         fresh=True),
    Case(Fault("flapping", (Flap("fibre", 2.0, 2.0),), FLAP_S), "A down 2 s, up 2 s, for 20 s",
         steps=tuple(4.0 * n for n in range(int(FLAP_S / 4.0))),
         fresh=True, damped=True),
    Case(Fault("reset", (Reset("fibre"),)), "TCP reset on A"),
    Case(Fault("carrier", (Unplug("fibre"),)), "A loses its carrier"),
    Case(Fault("both-dead", (Cut("fibre"), Cut("sim")), DARK_S),
         "both links dead for 8 s, then healed; no search comes twice", dark=True),
    Case(Fault("both-dead-seen", (Cut("fibre"), Cut("sim")), DARK_S),
         "the same, 200 searches that come again every 2 s, kept by who can", "seen", dark=True,
         keep=True),
)}


async def sat(case: Case, parties: Sequence[str], count: int, home: Path, dice: Random,
              say: Callable[[str], None], far: bool = False) -> list[Sitting]:
    """Strike ``count`` times with all ``parties`` under one load; return what became of it.

    ``far``: with the relay's 10 ms each way on A and 30 ms on B.
    """
    if not case.fresh:
        return [await _sitting(case, parties, count, home, dice, say, far)]
    return [await _sitting(case, parties, 1, home / str(number), dice, say, far)
            for number in range(count)]


async def _sitting(case: Case, parties: Sequence[str], count: int, home: Path, dice: Random,
                   say: Callable[[str], None], far: bool) -> Sitting:
    onsets = Onsets()
    strayed: list[frozenset[str]] = []
    async with AsyncExitStack() as stack:
        where = await stack.enter_async_context(place(home, far=far))
        streams: list[Stream] = []
        for party in parties:
            if party == OURS:
                site = await stack.enter_async_context(
                    ours(home / party, Setting(damped=case.damped, keep=case.keep)))
                streams.append(stream(site, party, asking=case.asking))
            else:
                made = await stack.enter_async_context(
                    running(PEERS[party], home / party, case.keep))
                streams.append(Stream(made.name, made.port, made.prefix, case.asking))
        async with loaded(home, streams) as load:
            await load.calm("a", CALM_S)
            await asyncio.sleep(WARM_S)
            for number in range(count):
                await calm_down(load, dice)
                strayed.append(_strayed(load.links, parties))
                if strayed[-1]:
                    say(f"onset {number + 1}: not on A: {', '.join(sorted(strayed[-1]))}")
                await strike(where.rig, case.fault, onsets)
            await asyncio.sleep(_tail_s(case))
        return Sitting(tuple(load.records), tuple(onsets.began), tuple(onsets.healed),
                       tuple(strayed))


def _tail_s(case: Case) -> float:
    """How long the load goes on after the last heal: the last window must be whole."""
    window = case.steps[-1] + AFTER_S - case.fault.lasts_s
    return TAIL_S + max(LOOK_S if case.dark else 0.0, window)


def _strayed(links: Mapping[str, str], parties: Sequence[str]) -> frozenset[str]:
    """Who is not on the primary: whatever befalls it now is no trial of theirs."""
    return frozenset(party for party in parties if links.get(party) != "a")
