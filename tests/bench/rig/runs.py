"""One run: parties under the same load, the same faults at the same random instants."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from chaos.rig.namespaces import Namespaces
from chaos.weather import Heal, Verb
from tests.bench.rig.figures import AFTER_S, BEFORE_S
from tests.bench.rig.place import Loaded

CALM_S: Final = 60.0  # a party that is not back by then is measured as it stands
WARM_S: Final = 4.0  # by then each search of a stream of "seen" was asked once, at 50 a second


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at an onset: ``verbs``, for ``lasts_s``, then healing."""

    name: str
    verbs: tuple[Verb, ...]
    lasts_s: float = AFTER_S + 0.3


@dataclass
class Onsets:
    """When each fault began, began to be healed, and was (monotonic seconds); ``uncalm`` counts
    those that began when not everybody was back on the primary."""

    began: list[float] = field(default_factory=list)
    healing: list[float] = field(default_factory=list)
    healed: list[float] = field(default_factory=list)
    uncalm: int = 0


async def heal(rig: Namespaces) -> None:
    """Undo everything on both links."""
    for link in rig.links:
        await rig.apply(Heal(link))


async def calm_down(load: Loaded, dice: Random, calm_s: float = CALM_S) -> bool:
    """Wait until everybody is back on the primary, then for the window's lead and a while."""
    calm = await load.calm("a", calm_s)
    await asyncio.sleep(BEFORE_S + 0.2 + dice.random())
    return calm


async def strike(rig: Namespaces, fault: Fault, onsets: Onsets,
                 after: Callable[[], Awaitable[None]] | None = None) -> None:
    """Make the fault once, let it last, and heal. The onset is dated before the first verb."""
    onsets.began.append(time.monotonic())
    for verb in fault.verbs:
        await rig.apply(verb)
    if after:
        await after()
    await asyncio.sleep(max(0.0, onsets.began[-1] + fault.lasts_s - time.monotonic()))
    onsets.healing.append(time.monotonic())
    await heal(rig)
    onsets.healed.append(time.monotonic())


async def repeat(rig: Namespaces, load: Loaded, fault: Fault, count: int, dice: Random,
                 say: Callable[[str], None] = lambda words: None) -> Onsets:
    """Strike ``count`` times, each time from calm."""
    onsets = Onsets()
    await load.calm("a", CALM_S)
    await asyncio.sleep(WARM_S)
    for number in range(count):
        if not await calm_down(load, dice):
            onsets.uncalm += 1
            say(f"onset {number + 1}: not calm: {load.links}")
        await strike(rig, fault, onsets)
    await load.calm("a", CALM_S)
    return onsets


def every(onsets: Sequence[Onsets]) -> list[float]:
    """All beginnings of several runs."""
    return [moment for each in onsets for moment in each.began]
