"""Warm standby: a rescue over the other link finds its connection already made.

``core/standby.py`` says how many each link should hold and when one may be opened; here they are
made, and the most sends at once of each path are remembered for five minutes.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

from gateway.core.instant import Mono
from gateway.core.link import LinkMemory
from gateway.core.standby import COLD, Standing, burst, may_open, warm
from gateway.ports import Clock

EVERY_S: Final = 2.0
"""An upstream that closes idle connections after 60 s leaves a gap of two seconds at most."""

PEAKS_MAX: Final = 150
"""Looks whose peaks count: five minutes of them."""


class Warms(Protocol):
    """A link's sender, as far as standby goes."""

    async def warm(self, tenant: str, upstream: str, n: int, connect_s: float = 1.5) -> int: ...
    def peak(self, tenant: str, upstream: str) -> int: ...
    def trim(self, tenant: str, upstream: str, keep: int) -> int: ...


class Board(Protocol):
    """What standby asks of the board, and tells it."""

    def state(self, link: str) -> LinkMemory: ...
    def active(self) -> str: ...
    def returning(self) -> frozenset[str]: ...
    def warmed(self, link: str, is_warm: bool) -> None: ...


class Standby:
    """Keeps warm connections on every usable link for each (tenant, upstream) of ``paths``.

    ``small`` are metered links on a small plan, ``most`` the connections per path.
    """

    def __init__(self, board: Board, senders: Mapping[str, Warms],
                 paths: tuple[tuple[str, str], ...], metered: frozenset[str], clock: Clock,
                 most: int = 8, small: frozenset[str] = frozenset()) -> None:
        self._board = board
        self._senders = senders
        self._paths = paths
        self._metered = metered
        self._clock = clock
        self._most = most
        self._small = small
        self._opened: set[str] = set()
        self._peaks: dict[tuple[str, str], deque[int]] = {
            path: deque(maxlen=PEAKS_MAX) for path in paths}

    def declared(self, link: str) -> tuple[tuple[tuple[str, str], int], ...]:
        """Return the (tenant, upstream) paths and how many idle connections each may hold."""
        needs = tuple(burst(list(self._peaks[path])) for path in self._paths)
        return tuple(zip(self._paths, warm(self._standing(link), needs, self._most), strict=True))

    async def run(self) -> None:
        """Go round for ever, each link by itself: a dead one holds up no other."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._note_peaks())
            for link in self._senders:
                group.create_task(self._keep_warm(link))

    def _standing(self, link: str) -> Standing:
        doubt = any(self._board.state(other).state == "SUSPECT"
                    for other in self._senders if other != link)
        busy = link == self._board.active() or link in self._board.returning()
        return Standing(self._board.state(link).state, link in self._metered, busy, doubt,
                        link in self._small)

    async def _note_peaks(self) -> None:
        while True:
            await self._clock.sleep(EVERY_S)
            for path, peaks in self._peaks.items():
                peaks.append(sum(sender.peak(*path) for sender in self._senders.values()))

    async def _keep_warm(self, link: str) -> None:
        tried: Mono | None = None
        while True:
            standing, now = self._standing(link), self._clock.now()
            if standing.state in COLD:
                self._opened.discard(link)
                self._board.warmed(link, False)
                tried = None
            elif may_open(standing, link in self._opened, None if tried is None else now - tried):
                is_warm = True
                for path, wanted in self.declared(link):
                    if wanted:
                        is_warm &= await self._senders[link].warm(*path, wanted) >= wanted
                    if not standing.busy:  # a canary was under way when the last was opened
                        self._senders[link].trim(*path, wanted)
                (self._opened.add if is_warm else self._opened.discard)(link)
                self._board.warmed(link, is_warm)
                tried = None if is_warm else now
            await self._clock.sleep(EVERY_S)
