"""The forward beat: races the sends of one request, as ``core/hedge.py`` decides.

It starts sends, listens for their outcomes, for the board and for the clock, and tells the race
what it heard. It decides nothing: each turn of the loop asks ``decide`` anew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from gateway.core.budget import Budget
from gateway.core.course import completions
from gateway.core.deadline import rest_s
from gateway.core.exchange import Facts, Forward, is_evidence, unbarred, vet
from gateway.core.gate import Progress
from gateway.core.hedge import Lost, Peek, Race, Sort, Start, Wait, Won, begin, decide
from gateway.core.instant import Mono
from gateway.core.keeping import speaks
from gateway.core.message import WHOLE_BYTES_MAX, Arrived, NoAnswer, Outcome, Streamed
from gateway.core.pack import Traffic
from gateway.core.quota import Use, bytes_of
from gateway.core.route import Standing
from gateway.core.steer import Completion
from gateway.ports import Clock, Sender


class Standings(Protocol):
    """How upstreams stand, and word of changes. ``asking=False`` uses up no trial."""

    def standing(self, tenant: str, upstream: str, pinned: str = "", root: str = "",
                 asking: bool = True, traffic: Traffic = "read", serial: int = 0,
                 route: str = "") -> Standing: ...
    def watch_state(self, callback: Callable[[], None]) -> Callable[[], None]: ...


class Sends(Protocol):
    """What the board is told of sends: an open question is evidence once it is overdue."""

    def asked(self, link: str, target: str) -> int: ...
    def answered(self, link: str, token: int) -> None: ...
    def saw_status(self, tenant: str, upstream: str, root: str, link: str, status: int,
                   serial: int) -> None: ...
    def saw_foreign(self, link: str, upstream: str, sent_at: Mono) -> None: ...
    def completed(self, link: str, upstream: str, traffic: Traffic, route: str,
                  completion: Completion) -> None: ...
    def episode(self, link: str) -> int: ...
    def rest(self, tenant: str, upstream: str, seconds: float) -> None: ...
    def expected_bytes(self, upstream: str, route: str) -> int: ...


class Board(Standings, Sends, Protocol):
    """What the race asks of, and tells, the board."""


News: TypeAlias = tuple[int, Outcome | Progress] | None
"""A send's number and outcome, or how far its bytes got; None: look again (the board changed, or
a wait is over)."""


async def nothing_kept() -> bool:
    """There is no copy."""
    return False


class Forwarder:
    """Performs ``Forward`` questions over the senders of all links."""

    def __init__(self, senders: Mapping[str, Sender], board: Board, clock: Clock, budget: Budget,
                 spent: Callable[[str, Use, int], None] = lambda *_: None) -> None:
        self._budget = budget
        self._senders = senders
        self._spent = spent
        self._board = board
        self._clock = clock

    async def carry(self, question: Forward, pinned: str = "",
                    peek: Callable[[], Awaitable[bool]] = nothing_kept) -> Won | Lost:
        """Return how the race ended. Losers are cancelled before it returns.

        ``peek`` tells whether there is a copy, asked once when no path answers.
        """
        news: asyncio.Queue[News] = asyncio.Queue()
        forget = self._board.watch_state(lambda: news.put_nowait(None))
        try:
            async with asyncio.TaskGroup() as group:
                return await self._run(group, news, question, pinned, peek)
        finally:
            forget()
            while not news.empty():
                _let_go(news.get_nowait())

    async def _run(
        self, group: asyncio.TaskGroup, news: asyncio.Queue[News], question: Forward, pinned: str,
        peek: Callable[[], Awaitable[bool]],
    ) -> Won | Lost:
        race = begin(question.plan, self._clock.now())
        tasks: list[asyncio.Task[None]] = []
        try:
            while True:
                match decide(race, self._clock.now()):
                    case Start(link, sort):
                        if not self._may(race, question, link, sort):
                            race = race.refused(sort, self._clock.now())
                            continue
                        sending = self._send(len(tasks), link, question, news)
                        tasks.append(group.create_task(sending))
                        race = race.started(link, self._clock.now(), sort)
                    case Wait(until):
                        heard = await self._hear(news, until)
                        race = self._told(race, question.facts, heard, pinned)
                        _give_up(tasks, race)
                    case Peek():
                        race = race.peeked(await peek(), self._clock.now())
                    case Won() | Lost() as end:
                        for task in tasks:
                            task.cancel()
                        _close_losers(race, end)
                        self._tell_ends(race, end, question.facts)
                        return end
        except asyncio.CancelledError:  # its client has left: nobody reads what has come
            _close_losers(race, None)
            raise

    def _may(self, race: Race, question: Forward, link: str, sort: Sort) -> bool:
        """Whether the budget allows a send of that sort; what it allows is spent."""
        now = self._clock.now()
        if sort == "hedge":
            leaves = race.leaves
            return self._budget.may_hedge(leaves, link, self._board.episode(leaves),
                                          self._expected(question.facts), now)
        if sort == "round":
            return self._budget.may_go_round(question.facts.request.upstream, now)
        if not race.attempts and question.plan.is_read:
            self._budget.read(question.facts.request.upstream, now)
        return True

    def _expected(self, facts: Facts) -> int:
        return self._board.expected_bytes(facts.request.upstream, facts.matched.route.id)

    async def _send(
        self, number: int, link: str, question: Forward, news: asyncio.Queue[News]
    ) -> None:
        request = question.facts.request
        token, sent_at = self._board.asked(link, request.upstream), self._clock.now()
        try:
            outcome = await self._senders[link].send(
                question.outbound, lambda progress: news.put_nowait((number, progress)))
        finally:
            self._board.answered(link, token)
        if isinstance(outcome, Arrived) and is_evidence(outcome, question.facts):
            self._board.saw_status(request.tenant, request.upstream, "", link,
                                   outcome.reply.status, request.serial)
        if isinstance(outcome, Arrived) and speaks(question.facts.upstream.pack, outcome.reply):
            pause = rest_s(outcome.reply)  # a portal's page asks for nothing
            if pause:
                self._board.rest(request.tenant, request.upstream, pause)
        vetted = vet(outcome, question.facts)
        if isinstance(vetted, NoAnswer) and vetted.cause == "not_the_api":
            self._board.saw_foreign(link, request.upstream, sent_at)
        news.put_nowait((number, vetted))

    def _tell_ends(self, race: Race, end: Won | Lost, facts: Facts) -> None:
        """Say what each send of a race cost on its link."""
        won = end if isinstance(end, Won) else None
        arrived = None if won is None else won.arrived
        for link, use, size in bytes_of(facts.matched, facts.request, arrived,
                                        [each.link for each in race.attempts]):
            self._spent(link, use, size)
        for attempt in race.attempts:
            if attempt.hedge and attempt.outcome is not None:  # a loser keeps what it was granted
                outcome = attempt.outcome
                body = outcome.reply.body if isinstance(outcome, Arrived) else b""
                size = len(body) if isinstance(body, bytes) else WHOLE_BYTES_MAX
                self._budget.ended(attempt.link, isinstance(outcome, Arrived), size,
                                   self._expected(facts), self._clock.now())
        for link, completion in completions(race, won, self._clock.now()):
            self._board.completed(link, facts.request.upstream, facts.traffic,
                                  facts.matched.route.id, completion)

    async def _hear(self, news: asyncio.Queue[News], until: Mono) -> News:
        """The next piece of news, or None once it is ``until``.

        No task waits for the clock: its end would be one more turn of the loop before an answer,
        and where both links die a hundred requests take that turn one after the other.
        """
        if not news.empty():
            return news.get_nowait()
        call_off = self._clock.ring(max(0.0, until - self._clock.now()),
                                    lambda: news.put_nowait(None))
        try:
            return await news.get()
        finally:
            call_off()

    def _told(self, race: Race, facts: Facts, heard: News, pinned: str) -> Race:
        if heard is not None:
            number, told = heard
            return race.moved(number, told) if isinstance(told, str) else race.ended(number, told)
        request = facts.request
        standing = self._board.standing(
            request.tenant, request.upstream, pinned, asking=False, traffic=facts.traffic,
            serial=request.serial, route=facts.matched.route.id)
        dead = frozenset(link for link, state in standing.states if state == "DOWN")
        return race.told(unbarred(facts, standing.links), dead, standing.mute)


def _give_up(tasks: list[asyncio.Task[None]], race: Race) -> None:
    """End what the race waits for no more: a link judged dead answers nobody. At once, and not when
    the race ends: with both links dead that is when everybody wants to be told."""
    for task, attempt in zip(tasks, race.attempts, strict=True):
        if attempt.outcome is not None:
            task.cancel()


def _close_losers(race: Race, end: Won | Lost | None) -> None:
    won = end.arrived if isinstance(end, Won) else None
    for number, attempt in enumerate(race.attempts):
        if attempt.outcome is not None and attempt.outcome is not won:
            _let_go((number, attempt.outcome))


def _let_go(news: News) -> None:
    """Close the stream of a reply that nobody will read."""
    outcome = news[1] if news is not None else None
    if isinstance(outcome, Arrived) and isinstance(outcome.reply.body, Streamed):
        outcome.reply.body.close()
