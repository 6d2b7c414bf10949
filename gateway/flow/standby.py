"""Warm standby: a rescue over the other link finds its connection already made.

A cold hedge pays TCP and TLS first, some 300 ms at p99 (links.md section 5). ``warm_wanted`` says
how many each link should hold; they are made here, and nothing is decided.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from gateway.core.hedge import warm_wanted
from gateway.core.link import LinkMemory
from gateway.ports import Clock

EVERY_S: Final = 2.0
"""An upstream that closes idle connections after 60 s leaves a gap of two seconds at most."""


class Warms(Protocol):
    """A link's sender, as far as standby goes."""

    async def warm(self, tenant: str, upstream: str, n: int, connect_s: float = 1.5) -> int: ...


class Board(Protocol):
    """What standby asks of the board."""

    def state(self, link: str) -> LinkMemory: ...
    def active(self) -> str: ...


class Standby:
    """Keeps warm connections on every usable link for each (tenant, upstream)."""

    def __init__(self, board: Board, senders: Mapping[str, Warms],
                 paths: tuple[tuple[str, str], ...], metered: frozenset[str], clock: Clock) -> None:
        self._board = board
        self._senders = senders
        self._paths = paths
        self._metered = metered
        self._clock = clock

    async def run(self) -> None:
        """Go round for ever, each link by itself: a dead one holds up no other."""
        async with asyncio.TaskGroup() as group:
            for link in self._senders:
                group.create_task(self._keep_warm(link))

    async def _keep_warm(self, link: str) -> None:
        while True:
            for tenant, upstream in self._paths:
                wanted = warm_wanted(self._board.state(link).state, link in self._metered,
                                     self._board.active() == link)
                if wanted:
                    await self._senders[link].warm(tenant, upstream, wanted)
            await self._clock.sleep(EVERY_S)
