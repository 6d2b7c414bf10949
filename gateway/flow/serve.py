"""One request, from question to question: the straight path as one ``match``.

Whoever wants to know what may happen to a request reads ``core/exchange.py``; here it is only
asked. One ``await`` a beat is where the world may change between two decisions.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from gateway.core.admission import Priority, priority_of
from gateway.core.exchange import (
    Done,
    Facts,
    Forget,
    Forward,
    LookUp,
    Question,
    Store,
    UpstreamRules,
    begin,
    may_serve,
)
from gateway.core.keeping import Drop, Kept, Key, key_of, leave
from gateway.core.message import Answer, Request, Told
from gateway.core.pack import match, traffic_of
from gateway.core.quota import Use, use_of
from gateway.errors import GatewayError
from gateway.flow.forward import Forwarder, Standings
from gateway.ports import Clock, Records

LOG: Final = logging.getLogger("gateway.serve")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the config says of one client: whether it takes copies, and the link it is pinned to."""

    takes_copies: bool = False
    pinned_link: str = ""


class Serve:
    """Answers admitted requests. ``records`` has an entry for each tenant whose copy is open."""

    def __init__(
        self, upstreams: Mapping[str, UpstreamRules], policies: Mapping[tuple[str, str], Policy],
        board: Standings, forwarder: Forwarder, records: Mapping[str, Records], clock: Clock,
        via: str, told: Callable[[Told], None],
        barred: Callable[[Use], frozenset[str]] = lambda _: frozenset(),
    ) -> None:
        self._barred = barred
        self._upstreams = upstreams
        self._policies = policies
        self._board = board
        self._forwarder = forwarder
        self._records = records
        self._clock = clock
        self._via = via
        self._told = told

    async def __call__(self, request: Request) -> Answer:
        """Return the answer to ``request``: theirs, a marked copy, or a refusal of ours."""
        policy = self._policies[request.tenant, request.client]
        facts = self._facts(request, policy)
        question: Question = begin(facts)
        while True:
            match question:
                case Forward():
                    question = await self._forward(question, policy.pinned_link)
                case LookUp():
                    kept = await self._look_up(request.tenant, question.key)
                    question = question.next(
                        kept, self._clock.wall(), self._clock.wall_is_trusted())
                case Store():
                    self._keep(request.tenant, question)
                    question = question.next()
                case Forget():
                    await self._forget(request.tenant, question.drop)
                    question = question.next()
                case Done():
                    self._tell(facts, question)
                    return question.answer
                case _:
                    assert_never(question)

    def only_reads(self, request: Request) -> bool:
        """Whether ``request`` changes nothing, by its pack: nobody is owed its end."""
        return match(self._upstreams[request.upstream].pack, request).route.is_read

    def priority(self, request: Request) -> Priority:
        """How urgent ``request`` is where its practice asks more at once than it may."""
        return priority_of(match(self._upstreams[request.upstream].pack, request), request)

    def _facts(self, request: Request, policy: Policy) -> Facts:
        upstream = self._upstreams[request.upstream]
        matched = match(upstream.pack, request)
        standing = self._board.standing(  # only a read may be the one that tries a faulty path
            request.tenant, request.upstream, policy.pinned_link, asking=matched.route.is_read,
            traffic=traffic_of(matched, request), serial=request.serial, route=matched.route.id)
        return Facts(request, upstream, matched, leave(policy.takes_copies, request), self._via,
                     self._clock.now(), self._clock.wall(), standing,
                     self._clock.wall_is_trusted(), self._barred(use_of(matched, request)),
                     self._barred("hedges"))

    async def _forward(self, question: Forward, pinned: str) -> Question:
        request = question.facts.request
        ended = await self._forwarder.carry(question, pinned,
                                            lambda: self._is_kept(question.facts))
        standing = self._board.standing(
            request.tenant, request.upstream, pinned, asking=False,
            traffic=question.facts.traffic, serial=request.serial,
            route=question.facts.matched.route.id)
        return question.next(ended, standing, self._clock.wall())

    async def _is_kept(self, facts: Facts) -> bool:
        key = key_of(facts.upstream.pack, facts.matched, facts.request)
        kept = await self._look_up(facts.request.tenant, key)
        return may_serve(facts, kept, self._clock.wall(), self._clock.wall_is_trusted())

    async def _look_up(self, tenant: str, key: Key) -> Kept | None:
        records = self._records.get(tenant)
        return await records.look_up(key) if records is not None else None

    def _keep(self, tenant: str, question: Store) -> None:
        records = self._records.get(tenant)
        if records is not None and not records.keep(question.keep):
            LOG.debug("a reply was not kept: the store's queue is full")

    async def _forget(self, tenant: str, drop: Drop) -> None:
        """A store that cannot forget must not go on serving: it says so and closes itself."""
        records = self._records.get(tenant)
        if records is None:
            return
        try:
            await records.drop(drop)
        except GatewayError:
            LOG.error("copies could not be dropped: the store is closed",
                      extra={"tenant": tenant})

    def _tell(self, facts: Facts, done: Done) -> None:
        request, now = facts.request, self._clock.now()
        self._told(Told(request.tenant, request.upstream, request.client,
                        facts.matched.route.id, done.answered, done.answer.status, done.link,
                        now, now - facts.begun, done.sends))
