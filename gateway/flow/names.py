"""Names: now and then each link's resolvers are asked for a name that matters, so that a dead
resolver is known before a new connection needs it (links.md sections 3 and 14).

What the answers mean is decided in ``core/verdict.py`` (DNS_FAULT, which moves nothing).
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from gateway.core.cadence import CadenceRules, Pace, every_s
from gateway.core.instant import Mono
from gateway.core.link import LinkMemory, LinkRules
from gateway.ports import Clock

LOOK_S: Final = 1.0
NOT_ASKED: Final = frozenset({"DOWN", "QUARANTINED"})


class Checks(Protocol):
    """A link's resolver, as far as probes go: False where the name needs no lookup."""

    async def check(self, host: str) -> bool: ...


class Board(Protocol):
    """What names ask of the board."""

    def state(self, link: str) -> LinkMemory: ...
    def pace(self, link: str) -> Pace: ...


class Names:
    """Asks the resolvers of each link for ``hosts``, one at a time and in turn."""

    def __init__(self, board: Board, resolvers: Mapping[str, Checks], hosts: tuple[str, ...],
                 cadence: CadenceRules, rules: LinkRules, clock: Clock,
                 counted: Callable[[str], None] = lambda link: None) -> None:
        self._board, self._resolvers, self._hosts = board, resolvers, hosts
        self._cadence, self._rules, self._clock = cadence, rules, clock
        self._counted = counted
        self._asked: dict[str, Mono] = {}
        self._turns = dict.fromkeys(resolvers, 0)

    async def run(self) -> None:
        """Look once a second which link is due, until cancelled; without hosts there is nothing
        to ask."""
        while self._hosts:
            for link in self._resolvers:
                if self._is_due(link):
                    await self._ask(link)
            await self._clock.sleep(LOOK_S)

    def _is_due(self, link: str) -> bool:
        if self._board.state(link).state in NOT_ASKED:
            return False
        asked = self._asked.get(link)
        every = every_s("names", self._board.pace(link), self._cadence, self._rules)
        return asked is None or self._clock.now() - asked >= every

    async def _ask(self, link: str) -> None:
        self._asked[link] = self._clock.now()
        host = self._hosts[self._turns[link] % len(self._hosts)]
        self._turns[link] += 1
        if await self._resolvers[link].check(host):
            self._counted(link)
