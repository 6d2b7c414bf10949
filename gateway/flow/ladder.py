"""The size ladder: when a link comes up, and now and then, packets of several lengths are asked
back by an anchor of ours, so that an MTU hole is found before users meet it (links.md section 3).

What the rungs mean is decided in ``core/verdict.py`` (MTU_HOLE); here they are only asked.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from gateway.core.cadence import Ask, CadenceRules
from gateway.core.echo import LADDER
from gateway.core.instant import Mono
from gateway.core.link import CARRIES, Link, LinkMemory, Probe, Sample
from gateway.ports import Clock

LOOK_S: Final = 1.0


class Climbs(Protocol):
    """A link's prober, as far as the ladder goes: nothing for probes that have none."""

    async def ladder(self, probe: Probe, sizes: tuple[int, ...]) -> tuple[Sample, ...]: ...


class Board(Protocol):
    """What the ladder asks of, and tells, the board."""

    def state(self, link: str) -> LinkMemory: ...
    def see(self, sample: Sample) -> None: ...
    def counted(self, link: str, ask: Ask) -> None: ...


class Ladder:
    """Asks the rungs of each of ``links`` that has an echo probe."""

    def __init__(self, board: Board, probers: Mapping[str, Climbs], links: tuple[Link, ...],
                 clock: Clock, cadence: CadenceRules | None = None) -> None:
        self._board, self._probers, self._clock = board, probers, clock
        self._probes = {link.id: each for link in links for each in link.probes
                        if each.kind == "echo"}
        rules = cadence or CadenceRules()
        self._every = {link.id: rules.size_metered_s if link.metered else rules.size_s
                       for link in links}
        self._asked: dict[str, tuple[Mono, int]] = {}

    async def run(self) -> None:
        """Look once a second which link is due, until cancelled."""
        while True:
            for link, probe in self._probes.items():
                if self._is_due(link):
                    await self._climb(link, probe)
            await self._clock.sleep(LOOK_S)

    def _is_due(self, link: str) -> bool:
        memory = self._board.state(link)
        if memory.state not in CARRIES | {"VALIDATING", "PROBATION"}:
            return False
        asked = self._asked.get(link)
        return asked is None or asked[1] != memory.epoch or (
            self._clock.now() - asked[0] >= self._every[link])

    async def _climb(self, link: str, probe: Probe) -> None:
        self._asked[link] = self._clock.now(), self._board.state(link).epoch
        self._board.counted(link, "size")
        for sample in await self._probers[link].ladder(probe, LADDER):
            self._board.see(sample)
