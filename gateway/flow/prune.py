"""The loop that forgets: once an hour every store lets go of what is past its ceiling.

It decides nothing: what is past is the store's own arithmetic on the time it is told, and it is
told none while the wall clock cannot be trusted (a clock years ahead would forget everything).
"""

import logging
from collections.abc import Sequence
from typing import Final, Protocol

from gateway.core.instant import Wall
from gateway.ports import Clock

LOG: Final = logging.getLogger(__name__)
EVERY_S: Final = 3600.0
"""Ceilings are hours to weeks; served copies are checked against theirs each time anyway."""


class Forgets(Protocol):
    """A store that can forget."""

    async def prune(self, now: Wall) -> None:
        """Forget what is past its ceiling at ``now``, a bounded amount per call."""


async def prune(stores: Sequence[Forgets], clock: Clock, every_s: float = EVERY_S) -> None:
    """Prune ``stores`` in turn, at once and then every ``every_s``, until cancelled.

    A store's trouble costs its turn only; it is told once when it breaks and once when it heals.
    """
    broken: dict[int, bool] = {}
    while True:
        if clock.wall_is_trusted():
            for place, store in enumerate(stores):
                broken[place] = await _one(store, clock.wall(), place, broken.get(place, False))
        await clock.sleep(every_s)


async def _one(store: Forgets, now: Wall, place: int, was_broken: bool) -> bool:
    """Prune one store; return whether that failed."""
    try:
        await store.prune(now)
    except Exception as mistake:  # fence: one store's turn; the next one is pruned all the same
        if not was_broken:
            LOG.error("store %d cannot be pruned (%s); tried again every turn", place,
                      type(mistake).__name__)
        return True
    if was_broken:
        LOG.info("store %d is pruned again", place)
    return False
