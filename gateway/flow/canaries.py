"""Canaries: now and then a whole request to each upstream over each link, so that a standby is
known to work before it is needed (links.md section 13).

``core/canary.py`` says what is asked and what its answer proves, ``core/cadence.py`` how often,
``core/proof.py`` which paths count as proven; here they are sent, one at a time per link.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from gateway.core.cadence import Ask, CadenceRules, Pace, every_s
from gateway.core.canary import Found, judged
from gateway.core.deadline import rest_s
from gateway.core.instant import Mono
from gateway.core.link import LinkMemory, LinkRules, Sample
from gateway.core.message import Arrived, Outbound, Streamed
from gateway.core.pack import Pack
from gateway.ports import Clock, Sender

LOOK_S: Final = 1.0
JITTER: Final = 0.1
"""Share by which a wait is shorter, never longer: a proof must not lapse for a throw of dice."""

AGAIN_S: Final = 15.0
AGAIN_IDLE_S: Final = 300.0
"""After a failure it is asked again so soon; on a metered standby a failing upstream would else
cost more than a working one."""

FAULTY_S: Final = 2.0
"""A path with a verdict against it is asked so often, so that it is not left alone for the half
minute after which a client's own request would try it; on a metered standby ``AGAIN_IDLE_S``."""

NOT_ASKED: Final = frozenset({"DOWN", "QUARANTINED", "UNKNOWN"})
"""But on a link with an interceptor only a handshake with the right certificate tells that he is
gone, and none but the right one gets a byte of ours."""


class Board(Protocol):
    """What canaries ask of the board, and tell it."""

    def state(self, link: str) -> LinkMemory: ...
    def pace(self, link: str) -> Pace: ...
    def is_faulty(self, link: str, upstream: str) -> bool: ...
    def proof_age(self, link: str, upstream: str) -> float | None: ...
    def see(self, sample: Sample) -> None: ...
    def counted(self, link: str, ask: Ask) -> None: ...


@dataclass(slots=True)
class _Path:
    """One path, and when it was asked last. ``jitter`` is drawn anew each time; the upstream asked
    to be left alone over it until ``rests``."""

    link: str
    upstream: str
    outbound: Outbound
    pack: Pack
    jitter: float = 1.0
    asked: Mono | None = None
    epoch: int = -1
    found: Found = field(default="proved")
    rests: Mono | None = None


class Canaries:
    """Sends the canary of each upstream (``outbounds``, with its pack) over each of ``links``."""

    def __init__(self, board: Board, senders: Mapping[str, Sender],
                 outbounds: Mapping[str, tuple[Outbound, Pack]], links: Iterable[str],
                 cadence: CadenceRules, rules: LinkRules, clock: Clock, rng: Random,
                 looked: Callable[[], None] = lambda: None) -> None:
        self._board, self._senders, self._clock, self._rng = board, senders, clock, rng
        self._cadence, self._rules, self._looked = cadence, rules, looked
        self._paths = {(link, upstream): _Path(link, upstream, outbound, pack)
                       for link in links for upstream, (outbound, pack) in outbounds.items()}

    async def run(self) -> None:
        """Look once a second which path is due, until cancelled; no link waits for another."""
        async with asyncio.TaskGroup() as group:
            for link in dict.fromkeys(path.link for path in self._paths.values()):
                group.create_task(self._watch(link))
            while True:
                self._looked()
                await self._clock.sleep(LOOK_S)

    async def _watch(self, link: str) -> None:
        paths = [path for path in self._paths.values() if path.link == link]
        while True:
            for path in paths:
                if self._is_due(path):
                    await self._ask(path)
            await self._clock.sleep(LOOK_S)

    async def ask(self, link: str, upstream: str) -> Found | None:
        """Send one path's canary now; None where its pack has none."""
        path = self._paths.get((link, upstream))
        return None if path is None else await self._ask(path)

    def _is_due(self, path: _Path) -> bool:
        memory = self._board.state(path.link)
        if memory.state in NOT_ASKED and memory.cause != "TLS_INTERCEPT":
            return False
        if path.rests is not None and self._clock.now() < path.rests:
            return False
        if path.asked is None or (memory.epoch != path.epoch and path.found == "proved"):
            return True
        pace = self._board.pace(path.link)
        since = self._clock.now() - path.asked
        if self._board.is_faulty(path.link, path.upstream):
            return since >= (AGAIN_IDLE_S if pace == "idle" else FAULTY_S)
        every = every_s("canary", pace, self._cadence, self._rules) * path.jitter
        if path.found != "proved":
            return since >= min(every, AGAIN_IDLE_S if pace == "idle" else AGAIN_S)
        age = self._board.proof_age(path.link, path.upstream)
        return since >= every and (age is None or age >= every)

    async def _ask(self, path: _Path) -> Found:
        path.asked, path.epoch = self._clock.now(), self._board.state(path.link).epoch
        path.jitter = self._rng.uniform(1.0 - JITTER, 1.0)
        sent_at = self._clock.now()
        self._board.counted(path.link, "canary")
        outcome = await self._senders[path.link].send(path.outbound)
        path.found = judged(path.pack, outcome)
        if isinstance(outcome, Arrived):
            path.rests = Mono(self._clock.now() + rest_s(outcome.reply))
        if isinstance(outcome, Arrived) and isinstance(outcome.reply.body, Streamed):
            outcome.reply.body.close()
        if path.found in ("proved", "foreign"):  # of all else the send itself has told
            now = self._clock.now()
            good = path.found == "proved"
            self._board.see(Sample(path.link, path.upstream, "http", good, sent_at, now,
                                   rtt_ms=(now - sent_at) * 1000,
                                   detail="" if good else "not_the_api"))
        return path.found
