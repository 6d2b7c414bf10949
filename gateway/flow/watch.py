"""The watch: asks every probe of every link at the cadence that the board gives, and ticks.

One loop wakes every ``TICK_S``, starts what is due and lets the board judge. A loop that wakes
late is the sensor of our own stalls (``Board.tick``). Probes run beside each other: on a dead
link one is asked long before the last one times out.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from gateway.core.cadence import Ask, CadenceRules, every_s
from gateway.core.instant import Mono
from gateway.core.link import Link, LinkRules, Probe
from gateway.flow.board import TICK_S, Board
from gateway.ports import Clock, Prober

JITTER: Final = 0.1
"""Share by which each wait varies, so that 6,000 practices do not ask in step."""

UNDER_WAY_MAX: Final = 16
"""Probes of one link at once: at one per 0.1 s and 0.8 s each they are eight."""


@dataclass(frozen=True, slots=True)
class _Target:
    """One probe; ``upstream`` is set for a connect to one."""

    probe: Probe
    upstream: str = ""


@dataclass(slots=True)
class _Round:
    """The targets of one link, asked in turn, so that their questions never bunch.

    Each is asked every ``every_s``; so one of them is, every ``every_s / len(targets)``.
    """

    link: str
    targets: tuple[_Target, ...]
    jitter: float
    asked: Mono | None = None
    turn: int = 0
    under_way: int = 0

    def is_due(self, every_s: float, now: Mono) -> bool:
        """A cadence that quickens brings the next question forward: it counts from the last."""
        if self.under_way >= UNDER_WAY_MAX:
            return False
        wait = every_s / len(self.targets) * self.jitter
        return self.asked is None or now - self.asked >= wait

    def take(self, jitter: float, now: Mono) -> _Target:
        """Return the target whose turn it is."""
        self.asked, self.jitter = now, jitter
        self.turn = (self.turn + 1) % len(self.targets)
        return self.targets[self.turn]


class Watch:
    """Runs the probes. ``connects`` are probes of upstreams: link -> upstream -> probe.

    ``beat`` is called at each turn of the loop (the service manager's watchdog). ``small`` are
    metered links on a small plan.
    """

    def __init__(self, board: Board, probers: Mapping[str, Prober], links: Iterable[Link],
                 clock: Clock, rng: Random,
                 connects: Mapping[str, Mapping[str, Probe]] | None = None,
                 beat: Callable[[], None] = lambda: None,
                 cadence: CadenceRules | None = None, rules: LinkRules | None = None,
                 small: frozenset[str] = frozenset()) -> None:
        self._cadence = cadence or CadenceRules()
        self._rules = rules or LinkRules()
        self._small = small
        self._board = board
        self._probers = probers
        self._clock = clock
        self._rng = rng
        self._beat = beat
        self._rounds: list[_Round] = []
        for link in links:
            anchors = tuple(_Target(probe) for probe in link.probes)
            named = (connects or {}).get(link.id, {})
            paths = tuple(_Target(probe, upstream) for upstream, probe in named.items())
            self._rounds += [_Round(link.id, targets, self._jitter())
                             for targets in (anchors, paths) if targets]

    async def run(self) -> None:
        """Watch until cancelled. Probes under way are cancelled with it."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._board.tick()
                self._beat()
                now = self._clock.now()
                for turn in self._rounds:
                    if turn.is_due(self._every_s(turn), now):
                        target = turn.take(self._jitter(), now)
                        group.create_task(self._ask(turn, target))
                await self._clock.sleep(TICK_S)

    def _every_s(self, turn: _Round) -> float:
        link, pace = turn.link, self._board.pace(turn.link)
        is_path = bool(turn.targets[0].upstream)
        kind: Ask = "connect" if is_path and not self._board.is_troubled(link) else "anchor"
        every = every_s(kind, pace, self._cadence, self._rules, small=link in self._small)
        return every * len(turn.targets) if pace == "idle" and kind == "anchor" else every

    def _jitter(self) -> float:
        return self._rng.uniform(1.0 - JITTER, 1.0 + JITTER)

    async def _ask(self, turn: _Round, target: _Target) -> None:
        name = target.upstream or target.probe.id
        token = self._board.asked(turn.link, name)
        turn.under_way += 1
        self._board.counted(turn.link, "connect" if target.upstream else "anchor")
        try:
            sample = await self._probers[turn.link].ask(target.probe)
        finally:
            turn.under_way -= 1
            self._board.answered(turn.link, token)
        # A connect's sample is about its upstream, an anchor's about the link alone.
        self._board.see(replace(sample, link=turn.link, target=name,
                                anchor=not target.upstream))
