"""The size ladder: when a link comes up, and now and then, packets of several lengths are asked
back by an anchor of ours, so that an MTU hole is found before users meet it (links.md section 3).
A link that works badly is asked at once, since its echoes are small; one with a hole each minute.

What the rungs mean is decided in ``core/verdict.py`` (MTU_HOLE); here they are only asked.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from gateway.core.cadence import Ask, CadenceRules
from gateway.core.echo import LADDER
from gateway.core.instant import Mono
from gateway.core.link import CARRIES, Link, LinkMemory, Probe, Sample
from gateway.core.verdict import VerdictKind
from gateway.ports import Clock

LOOK_S: Final = 1.0
NEVER: Final = Mono(float("-inf"))
BAD_S: Final = 10.0
HOLED_S: Final = 60.0
METERED_TIMES: Final = 10.0
"""A link that goes on working badly is asked so often at most, 8 kB each time, and one with a hole,
25 kB: 3 and 1.5 MB an hour, a tenth of it where bytes cost."""


class Climbs(Protocol):
    """A link's prober, as far as the ladder goes: nothing for probes that have none."""

    async def ladder(self, probe: Probe, sizes: tuple[int, ...]) -> tuple[Sample, ...]: ...


class Board(Protocol):
    """What the ladder asks of, and tells, the board."""

    def state(self, link: str) -> LinkMemory: ...
    def browned_at(self, link: str) -> Mono | None: ...
    def ails(self, link: str, kind: VerdictKind) -> bool: ...
    def climbed(self, rungs: Iterable[Sample]) -> None: ...
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
        self._times = {link.id: METERED_TIMES if link.metered else 1.0 for link in links}
        self._asked: dict[str, tuple[Mono, int]] = {}
        self._rushed: dict[str, Mono] = {}  # when it was asked for working badly

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
        if link not in self._asked:
            return True
        asked, epoch = self._asked[link]
        now, browned = self._clock.now(), self._board.browned_at(link)
        if browned is not None and browned > asked and now - self._rushed.get(
                link, NEVER) >= BAD_S * self._times[link]:
            self._rushed[link] = now
            return True
        every = self._every[link]
        if self._board.ails(link, "MTU_HOLE"):
            every = min(every, HOLED_S * self._times[link])
        return epoch != memory.epoch or now - asked >= every

    async def _climb(self, link: str, probe: Probe) -> None:
        self._asked[link] = self._clock.now(), self._board.state(link).epoch
        self._board.counted(link, "size")
        self._board.climbed(await self._probers[link].ladder(probe, LADDER))
