"""A watched world: board and watch over a simulated world, with simple readers, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from chaos.weather import Verb
from gateway.core.blackbox import Recording
from gateway.core.link import Link, LinkRules, LinkTurned, Probe
from gateway.core.maintenance import Window
from gateway.core.message import Arrived, Outbound
from gateway.core.mode import ModeTurned, Transition
from gateway.core.route import Switched
from gateway.core.verdict import Judged
from gateway.flow.board import Board
from gateway.flow.watch import Watch
from tests.kit.clock import SimClock
from tests.sim.world import World

ANCHORS = (Probe("echo", "http", "192.0.2.1:80"), Probe("broker", "tls", "192.0.2.2:8883"))
FIBRE = Link("fibre", 1, probes=ANCHORS)
SIM = Link("sim", 2, metered=True, probes=ANCHORS)
TENANTS = ("B81001", "B81002")


@dataclass
class Watched:
    """What a test needs in its hand. ``told`` is every transition, in order."""

    clock: SimClock
    world: World
    board: Board
    told: list[Transition] = field(default_factory=list)

    def turns(self, link: str) -> list[str]:
        """The states that ``link`` went through, in order."""
        return [t.after for t in self.told if isinstance(t, LinkTurned) and t.link == link]

    def switches(self) -> list[tuple[str, str]]:
        """The switches told: (from, to)."""
        return [(t.before, t.after) for t in self.told if isinstance(t, Switched)]

    def modes(self, upstream: str = "gpc") -> list[str]:
        """The modes that the first tenant met at ``upstream``."""
        return [t.after for t in self.told if isinstance(t, ModeTurned)
                and (t.tenant, t.upstream) == (TENANTS[0], upstream)]

    def judged(self) -> list[tuple[str, str, str, bool]]:
        """Verdicts on upstreams and paths: (kind, link, upstream, over)."""
        return [(t.verdict.kind, t.verdict.link, t.verdict.upstream, t.over)
                for t in self.told if isinstance(t, Judged)]

    async def read(self, upstream: str, patience_s: float = 3.0) -> bool:
        """One read over the board's links in order: NeverLeft and NoAnswer go to the next one."""
        standing = self.board.standing(TENANTS[0], upstream)
        if standing.upstream_down and not standing.trial:
            return False
        for link in standing.links:
            sender = self.world.sender(link, self.board.see)
            outcome = await sender.send(Outbound(
                TENANTS[0], upstream, "GET", "/Slot", (), patience_s=patience_s))
            if isinstance(outcome, Arrived) and outcome.reply.status < 500:
                return True
        return False

    async def load(self, upstream: str, per_s: float, patience_s: float = 3.0) -> None:
        """Reads at a steady rate, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self.read(upstream, patience_s))
                await self.clock.sleep(1.0 / per_s)


@asynccontextmanager
async def watched(links: tuple[Link, ...] = (FIBRE, SIM), *, upstreams: tuple[str, ...] = ("gpc",),
                  rules: LinkRules | None = None, windows: tuple[Window, ...] = (),
                  seed: int = 1, per_s: float = 0.0, loaded: tuple[str, ...] | None = None,
                  patience_s: float = 3.0, weather: tuple[Verb, ...] = (),
                  warm_s: float = 3.0,
                  recorded: Callable[[Recording], None] = lambda _: None) -> AsyncIterator[Watched]:
    """Run a board and its watch over a world; with ``per_s`` each ``loaded`` upstream is read."""
    clock = SimClock()
    told: list[Transition] = []
    world = World(clock, links, upstreams, seed)
    for verb in weather:
        await world.apply(verb)
    board = Board(links, dict.fromkeys(upstreams, TENANTS), rules or LinkRules(), windows, clock,
                  told.append, recorded=recorded)
    watch = Watch(board, {link.id: world.prober(link.id) for link in links}, links, clock,
                  Random(seed))
    it = Watched(clock, world, board, told)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch.run())]
        if per_s:
            tasks += [group.create_task(it.load(name, per_s, patience_s))
                      for name in loaded or upstreams]
        await clock.advance(warm_s)
        yield it
        for task in tasks:
            task.cancel()
