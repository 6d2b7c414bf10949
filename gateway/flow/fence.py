"""The third fence: what nobody foresaw in an auxiliary loop costs its turn, and not the process.

A loop beside the requests (canaries, names, windows, readiness, quota ...) that meets a mistake of
ours is begun again after a pause that doubles; ``/status`` shows it under ``loops``. On a lone box
one bad calendar must not become a crash loop that takes the practice's reads with it.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.core.backoff import ceiling
from gateway.core.instant import Mono
from gateway.core.status import Broken
from gateway.ports import Clock

LOG: Final = logging.getLogger(__name__)

PAUSE_S: Final = 1.0
PAUSE_MOST_S: Final = 300.0
HEALED_S: Final = 600.0
"""A loop that ran so long after its last mistake is well, and its next pause is short again."""


class Fences:
    """Runs loops, each by its name, and remembers which of them broke lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._broken: dict[str, tuple[int, str, Mono]] = {}

    async def run(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run ``loop`` until it returns or is cancelled; begin it again after each mistake."""
        while True:
            began = self._clock.now()
            try:
                await loop()
            except Exception as mistake:  # fence: one turn of an auxiliary loop
                pause = self._note(name, mistake, began)
            else:
                return
            await self._clock.sleep(pause)

    def _note(self, name: str, mistake: Exception, began: Mono) -> float:
        now = self._clock.now()
        times = 1 if now - began >= HEALED_S else self._broken.get(name, (0, "", now))[0] + 1
        kind = type(_first(mistake)).__name__
        self._broken[name] = times, kind, now
        pause = ceiling(times, PAUSE_S, PAUSE_MOST_S)
        LOG.error("the loop %s met a mistake of ours (%s); begun again in %.0f s", name, kind,
                  pause, exc_info=mistake)  # edge.log tells type and places only
        return pause

    def view(self) -> tuple[Broken, ...]:
        """Return the loops that broke and have not run well for ``HEALED_S`` since."""
        now = self._clock.now()
        return tuple(Broken(name, times, kind, round(now - at, 1))
                     for name, (times, kind, at) in sorted(self._broken.items())
                     if now - at < HEALED_S + PAUSE_MOST_S)


def _first(mistake: BaseException) -> BaseException:
    """What a task group wrapped."""
    while isinstance(mistake, BaseExceptionGroup):
        mistake = mistake.exceptions[0]
    return mistake
