"""The sweep: counts what still stands on a backup whose traffic has gone back, and ends it.

``core/failback.py`` says what should be there no more and when it is an alarm; here it is counted,
idle connections beyond the declared warm ones are closed, and tunnels are reset when told.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeAlias

from gateway.core.failback import Clearing, Flows, TunnelEnd
from gateway.core.instant import Mono
from gateway.ports import Clock

EVERY_S: Final = 2.0
"""A flow that went astray is seen within two seconds."""

Declared: TypeAlias = Callable[[str], tuple[tuple[tuple[str, str], int], ...]]
"""link -> ((tenant, upstream), idle connections that it may hold)."""


class Board(Protocol):
    """Which backups are cleared, and what is done about what was counted there."""

    def clearing(self) -> tuple[Clearing, ...]: ...
    def swept(self, link: str, flows: Flows) -> TunnelEnd: ...


class Flowing(Protocol):
    """A link's sender, as far as the sweep goes."""

    def trim(self, tenant: str, upstream: str, keep: int) -> int: ...
    def begun_before(self, at: Mono) -> int: ...


class Tunnels(Protocol):
    """The tunnels of all links."""

    def count(self, link: str | None = None) -> int: ...
    def reset_link(self, link: str) -> int: ...
    def reset_idle(self, link: str, gap_s: float) -> int: ...


class Sweep:
    """Sweeps for ever. ``tunnels`` is asked each time: the port opens later, or never."""

    def __init__(self, board: Board, senders: Mapping[str, Flowing],
                 tunnels: Callable[[], Tunnels | None], declared: Declared, gap_s: float,
                 clock: Clock) -> None:
        self._board = board
        self._senders = senders
        self._tunnels = tunnels
        self._declared = declared
        self._gap_s = gap_s
        self._clock = clock
        self._beyond: dict[str, int] = {}

    async def run(self) -> None:
        """Look every ``EVERY_S``."""
        while True:
            for clearing in self._board.clearing():
                self._look(clearing)
            await self._clock.sleep(EVERY_S)

    def _look(self, clearing: Clearing) -> None:
        link, sender = clearing.link, self._senders[clearing.link]
        beyond = sum(max(0, sender.trim(*path, keep) - keep)
                     for path, keep in self._declared(link))
        # A rescue may leave one behind at any time; only what a look did not end counts.
        stayed, self._beyond[link] = min(beyond, self._beyond.get(link, 0)), beyond
        tunnels = self._tunnels()
        flows = Flows(sender.begun_before(clearing.since), stayed,
                      tunnels.count(link) if tunnels is not None else 0)
        ends = self._board.swept(link, flows)
        if tunnels is not None and ends == "all":
            tunnels.reset_link(link)
        elif tunnels is not None and ends == "idle":
            tunnels.reset_idle(link, self._gap_s)
