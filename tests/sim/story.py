"""A seeded story: the whole gateway's core and flow in one process, in weather, observed.

The truth of the world says when "a path works", for promise 1: a link counts as working while no
fault at all lies on it (no silence, loss, delay, reset, portal or lie of names). A read is promised
if at each instant from its start to its end such a link was there, its upstream was well, and the
gateway ran (not crashed, not standing still). A link that came back counts ``NOTICE_S`` later; one
that dies gives the gateway no grace. For promises 6 and 12 a link must also have been back for
``hold_s`` and be outside of every maintenance window, and an upstream that came back counts as
ill for ``NOTICE_S``: else a failback would be blamed on the
upstream that happened to be ill at that moment.
"""

import asyncio
import hashlib
import json
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, TypeAlias

from chaos.observed import Crash, Move, Observed, Seen, Sent, Weather
from chaos.promises import Broken, judge
from chaos.weather import (
    CaptivePortal,
    Cut,
    DnsLie,
    Flap,
    Heal,
    Lose,
    Reset,
    Slow,
    SwallowReplies,
    UpstreamGone,
    UpstreamHung,
    UpstreamStatus,
    Verb,
)
from gateway.core.budget import Budget
from gateway.core.exchange import UpstreamRules
from gateway.core.failback import WARM_MAX_S, FailbackRules
from gateway.core.instant import Wall
from gateway.core.link import Link, LinkRules, Sample
from gateway.core.maintenance import Window
from gateway.core.message import Answer, Outbound, Reply, Request, Told, first
from gateway.core.mode import Transition
from gateway.core.pack import Pack, Route
from gateway.core.route import Switched, preference
from gateway.flow.board import Board
from gateway.flow.forward import Forwarder
from gateway.flow.serve import Policy, Serve
from gateway.flow.standby import Standby
from gateway.flow.watch import Watch
from tests.kit.clock import SimClock
from tests.sim.store import SimStore
from tests.sim.watched import ANCHORS, TENANTS
from tests.sim.world import SimSender, World

UPSTREAMS: Final = ("gpc", "bars")
CEILING_S: Final = 40.0
"""Short, so that copies grow too old within a story."""

HOLD_S: Final = 5.0
LENGTH_S: Final = 90.0
SLOTS: Final = 6
PER_S: Final = 6.0
READY_S: Final = 0.5

RULES: Final = LinkRules(hold_s=HOLD_S)
RETURNING: Final = FailbackRules(step_s=0.2, wait_most_s=0.0)

PACK: Final = Pack("sim", (
    Route("slots", "booking_read", ("GET",), "Slot", keep=True, ceiling_s=CEILING_S, patience_s=8),
    Route("book", "booking", ("POST",), "Appointment", voids=("slots",))))


@dataclass(frozen=True, slots=True)
class Stall:
    """The gateway's process stands still for ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ClockOff:
    """The wall clock is off by ``seconds`` and not trusted; 0: mended and trusted again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class StoreTrouble:
    """A tenant's store is ``full`` or ``broken``; "" mends a full one."""

    tenant: str
    what: str


@dataclass(frozen=True, slots=True)
class Kill:
    """The gateway is killed, and started again ``down_s`` later."""

    down_s: float


Happens: TypeAlias = Verb | Stall | ClockOff | StoreTrouble | Kill


@dataclass(frozen=True)
class Script:
    """All that a seed decides beforehand: links, windows, and what happens when (in seconds)."""

    seed: int
    links: tuple[Link, ...]
    windows: tuple[tuple[str, float, float], ...]
    events: tuple[tuple[float, Happens], ...]


def script_of(seed: int) -> Script:
    """Return the script of ``seed``."""
    rng = Random(seed)
    links = tuple(Link(name, place, metered=name == "sim" and rng.random() < 0.7, probes=ANCHORS)
                  for place, name in enumerate(("fibre", "sim", "dsl")[:rng.choice((2, 2, 3))], 1))
    start = rng.uniform(20, 60)
    windows = (("fibre", start, start + rng.uniform(5, 15)),) if rng.random() < 0.3 else ()
    events: list[tuple[float, Happens]] = []
    at = 8.0
    while (at := at + rng.uniform(1.0, 9.0)) < LENGTH_S - 5:
        lasts = rng.uniform(0.3, 12.0)
        begins, ends = _trouble(rng, tuple(link.id for link in links))
        events.append((at, begins))
        events += [(at + lasts, ends)] if ends is not None else []
    return Script(seed, links, windows, tuple(sorted(events, key=lambda event: event[0])))


def _trouble(rng: Random, links: tuple[str, ...]) -> tuple[Happens, Happens | None]:
    """Return something that happens, and what ends it."""
    link, upstream = rng.choice(links), rng.choice(UPSTREAMS)
    mends: dict[Happens, Happens | None] = {
        UpstreamStatus(upstream, 503): UpstreamStatus(upstream, 0),
        UpstreamGone(upstream): UpstreamGone(upstream, False),
        UpstreamHung(upstream): UpstreamHung(upstream, False),
        Stall(rng.choice((0.2, 1.0, 4.0))): None,
        ClockOff(rng.choice((-3600.0, -30.0, 30.0, 3600.0))): ClockOff(0.0),
        StoreTrouble(rng.choice(TENANTS), "full"): StoreTrouble("*", ""),
        StoreTrouble(rng.choice(TENANTS), "broken"): None,
        Kill(rng.uniform(0.2, 3.0)): None}
    on_links: tuple[Happens, ...] = (
        Cut(link), Cut(link), Cut(link), SwallowReplies(link), Reset(link), Slow(link, 0.4),
        Lose(link, 0.3), Flap(link, 0.7, 1.5), CaptivePortal(link), DnsLie(link, ""))
    what = rng.choice((*on_links, *mends))
    return what, Heal(link) if what in on_links else mends[what]


class WarmSender(SimSender):
    """A sender that can hold a connection ready, as the real one."""

    async def warm(self, tenant: str, upstream: str, n: int, connect_s: float = 1.5) -> int:
        """Return how many connections stand ready."""
        request = Outbound(tenant, upstream, "GET", "", (), connect_s=connect_s)
        return 0 if await self._connect(request, self._world.clock.now()) else n

    def trim(self, tenant: str, upstream: str, keep: int) -> int:
        return keep

    def peak(self, tenant: str, upstream: str) -> int:
        """Return what a quiet practice needs at once."""
        return 1


@dataclass
class Story:
    """One run; ``write_share`` of its requests are writes.

    ``timeline`` is what a person reads; its digest tells two runs apart.
    """

    script: Script
    write_share: float = 0.1
    clock: SimClock = field(default_factory=SimClock)
    timeline: list[str] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    weather: list[Weather] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.script.seed + 1)
        self.world = World(self.clock, self.script.links, UPSTREAMS, self.script.seed,
                           self.answer)
        self.stores = {tenant: SimStore(self.clock) for tenant in TENANTS}
        self.versions = dict.fromkeys(TENANTS, 0)
        self.begun, self.off, self.runs = self.clock.now(), 0.0, True
        self.in_flight: set[asyncio.Task[Answer]] = set()
        self.board: Board | None = None
        self.serve: Serve | None = None
        self.number = 0

    # --- the clinical system

    def answer(self, outbound: Outbound) -> Reply:
        """Answer one request, and remember it: each write makes a new version of all slots."""
        token = first(outbound.headers, "X-Request-ID") or ""
        if outbound.method == "POST":
            return Reply(201, "Created", (("Content-Length", "0"),))
        body = json.dumps({"resourceType": "Slot", "id": outbound.target[-1:],
                           "comment": f"{outbound.tenant} {outbound.upstream}",
                           "meta": {"versionId": str(self.versions[outbound.tenant])}}).encode()
        self.seen.append(Seen(self.clock.now(), "", outbound.upstream, outbound.tenant, "GET",
                              token, 200, sha(body)))
        return Reply(200, "OK", (("Content-Type", "application/fhir+json"), ("ETag", 'W/"1"'),
                                 ("Content-Length", str(len(body)))), body)

    # --- the gateway

    async def gateway(self) -> None:
        """Run one life of the gateway until cancelled."""
        links, clock = self.script.links, self.clock
        wall = clock.wall() - (clock.now() - self.begun) - self.off
        windows = tuple(Window(str(n), link, Wall(wall + start), Wall(wall + end), 3.0)
                        for n, (link, start, end) in enumerate(self.script.windows))
        board = Board(links, dict.fromkeys(UPSTREAMS, TENANTS), RULES, windows, clock,
                      self.transition, returning=RETURNING)

        def see(sample: Sample) -> None:
            board.see(sample)

        senders = {link.id: WarmSender(self.world, link.id, see) for link in links}
        watch = Watch(board, {link.id: self.world.prober(link.id) for link in links}, links,
                      clock, Random(self.script.seed))
        standby = Standby(board, senders, tuple((t, u) for t in TENANTS for u in UPSTREAMS),
                          frozenset(link.id for link in links if link.metered), clock)
        rules = {name: UpstreamRules(name, f"{name}.example", PACK, "continuity")
                 for name in UPSTREAMS}
        policies = {(t, c): Policy(c == "desk") for t in TENANTS for c in ("desk", "old")}
        self.board = board
        forwarder = Forwarder(senders, board, clock, Budget(frozenset()))
        self.serve = Serve(rules, policies, board, forwarder, self.stores, clock, "pg", self.told)
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.run())
            group.create_task(standby.run())

    def told(self, told: Told) -> None:
        """Counters are not judged here."""

    def transition(self, transition: Transition) -> None:
        """Write down what the board tells."""
        self.say(f"told {type(transition).__name__} {getattr(transition, 'link', '')} "
                 f"{getattr(transition, 'before', '')}>{getattr(transition, 'after', '')}")
        if isinstance(transition, Switched) and not self._is_failback(transition):
            self.moves.append(Move(self.clock.now(), "switch", transition.before,
                                   transition.after, cause=transition.cause))

    def _is_failback(self, switched: Switched) -> bool:
        """Whether it leads back to a link that is preferred: that is due when the hold and the
        ramp are over, minutes after the fault, whatever an upstream does in that moment."""
        ranked = preference(self.script.links)
        return "" not in (switched.before, switched.after) and (
            ranked.index(switched.after) < ranked.index(switched.before))

    # --- the clients

    async def ask(self, serve: Serve) -> Answer:
        """Send one request of some client, and observe its answer."""
        rng, n = self.rng, self.number
        self.number += 1
        tenant, upstream = rng.choice(TENANTS), rng.choice(UPSTREAMS)
        client, is_read = rng.choice(("desk", "desk", "old")), rng.random() >= self.write_share
        target = f"/Slot?d={rng.randrange(SLOTS)}" if is_read else "/Appointment"
        token = f"{self.script.seed}-{n}"
        sent = Sent(n, self.clock.now(), 0.0, "sim", tenant, upstream, f"{upstream}:{tenant}",
                    client, "slots" if is_read else "book", target, token, is_read,
                    client == "desk", ceiling_s=CEILING_S if is_read else None)
        request = Request(tenant, client, upstream, "GET" if is_read else "POST", target,
                          (("X-Request-ID", token),), b"" if is_read else token.encode(),
                          serial=n + 1)
        if not is_read:
            self.versions[tenant] += 1
        try:
            answer = await serve(request)
        except asyncio.CancelledError:
            self.sent.append(replace(sent, took_s=self.clock.now() - sent.at, trouble="killed"))
            raise
        self.sent.append(self._answered(sent, answer))
        return answer

    def _answered(self, sent: Sent, answer: Answer) -> Sent:
        body = answer.body if isinstance(answer.body, bytes) else b""
        mark = first(answer.headers, "Continuity") or ""
        age = first(answer.headers, "Age")
        done = replace(
            sent, took_s=self.clock.now() - sent.at, status=answer.status, whole=True,
            answer_class=mark.partition(";")[0].removeprefix("class="),
            age_s=float(age) if age else None, body_sha=sha(body), marked=bool(mark),
            transient=b"transient" in body, has_etag=first(answer.headers, "ETag") is not None,
            no_store=first(answer.headers, "Cache-Control") == "no-store")
        self.say(f"{done.n} {done.tenant} {done.upstream} {done.kind} {done.client} "
                 f"{done.answered} {done.status} {mark} age={age} took={done.took_s:.3f}")
        return done

    # --- the run

    def say(self, words: str) -> None:
        """Add one line to the timeline."""
        self.timeline.append(f"{self.clock.now() - self.begun:8.3f} {words}")

    def note(self, words: str) -> None:
        """Note which links and upstreams work from now on."""
        good = frozenset(name for name, it in self.world.links.items() if not (
            it.cut_up or it.cut_down or it.resets or it.loss or it.flap or it.portal
            or not it.dns or it.extra_s))
        down = frozenset(name for name, it in self.world.upstreams.items()
                         if it.gone or it.hung or it.status)
        self.weather.append(Weather(self.clock.now(), good, down, self.runs, words))
        self.say(f"weather {words} links={sorted(good)} down={sorted(down)} runs={self.runs}")

    async def happen(self, what: Happens, group: asyncio.TaskGroup,
                     life: "asyncio.Task[None]") -> "asyncio.Task[None]":
        """Let ``what`` happen; return the gateway's life, a new one after a kill."""
        match what:
            case Stall(seconds):
                self.runs = False
                self.note(repr(what))
                await self.clock.jump(seconds)
                self.runs = True
            case ClockOff(seconds):
                self.clock.step_wall(seconds - self.off)
                self.off, self.clock.trusted = seconds, seconds == 0.0
            case StoreTrouble(tenant, trouble):
                for name, store in self.stores.items():
                    store.full = trouble == "full" and name == tenant
                    store.broken |= trouble == "broken" and name == tenant
            case Kill(down_s):
                return await self.kill(down_s, group, life)
            case _:
                await self.world.apply(what)
        self.note(repr(what))
        return life

    async def kill(self, down_s: float, group: asyncio.TaskGroup,
                   life: "asyncio.Task[None]") -> "asyncio.Task[None]":
        """Kill the gateway and start it again on what its stores had committed."""
        self.runs = False
        self.note("killed")
        before = tuple((tenant, store.crash()) for tenant, store in self.stores.items())
        for task in (life, *self.in_flight):
            task.cancel()
        await self.clock.advance(down_s)
        after = tuple((tenant, len(store.committed)) for tenant, store in self.stores.items())
        self.crashes.append(Crash(self.clock.now(), before, after))
        life = group.create_task(self.gateway())
        await self.clock.advance(READY_S)
        self.runs = True
        self.note("started")
        return life

    async def run(self) -> Observed:
        """Play the script to its end and return all that was observed."""
        events = list(self.script.events)
        async with asyncio.TaskGroup() as group:
            life = group.create_task(self.gateway())
            await self.clock.advance(3.0)
            self.note("begun")
            while self.clock.now() - self.begun < LENGTH_S:
                while events and events[0][0] <= self.clock.now() - self.begun:
                    life = await self.happen(events.pop(0)[1], group, life)
                if self.serve is not None:
                    task = group.create_task(self.ask(self.serve))
                    self.in_flight.add(task)
                    task.add_done_callback(self.in_flight.discard)
                await self.clock.advance(self.rng.expovariate(PER_S))
            await self.clock.advance(45.0)
            life.cancel()
        writes = tuple(Seen(a.at, a.link, a.upstream, a.tenant, a.method, a.body.decode(), 0, "")
                       for a in self.world.arrivals if a.method == "POST")
        return Observed(tuple(self.sent), (*self.seen, *writes), tuple(self.weather),
                        tuple(self.moves), crashes=tuple(self.crashes))

    def settled(self, observed: Observed) -> Observed:
        """Return ``observed`` as promises 6 and 12 see it: links count once they carry again."""
        changes = {part.at for part in observed.weather}
        back = HOLD_S + WARM_MAX_S + observed.notice_s  # an ill upstream cannot be warmed
        changes |= {part.at + late for part in observed.weather
                    for late in (back, observed.notice_s)}
        spans = [(self.begun + start - 3.0, self.begun + end + back)
                 for _, start, end in self.script.windows]
        changes |= {edge for span in spans for edge in span}
        parts: list[Weather] = []
        for at in sorted(at for at in changes if at >= observed.weather[0].at):
            recent = [p for p in observed.weather if at - back < p.at <= at]
            now = [p for p in observed.weather if p.at <= at][-1]
            old = [p for p in observed.weather if p.at <= at - back][-1:]
            calm = frozenset.intersection(*(p.links for p in (*old, *recent, now)))
            ill = frozenset[str]().union(*(
                p.down for p, after in zip(observed.weather, (*observed.weather[1:], None),
                                           strict=True)
                if p.at <= at and (after is None or after.at > at - observed.notice_s)))
            runs = all(p.gateway for p in (*old, *recent, now))
            if any(start <= at < end for start, end in spans):
                calm = frozenset()
            parts.append(replace(now, at=at, links=calm, down=ill, gateway=runs))
        # The first entry names every link, so that "all links well" keeps its meaning.
        every = frozenset(link.id for link in self.script.links)
        head = Weather(observed.weather[0].at - 1.0, every)
        return replace(observed, weather=(head, *parts))

    def digest(self) -> str:
        """Return the timeline's digest."""
        return sha("\n".join(self.timeline).encode())


def sha(data: bytes) -> str:
    """Return the hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def broken(story: Story, observed: Observed) -> dict[int, Broken]:
    """Return the promises that ``observed`` breaks, each judged on its own view of the truth."""
    judged = judge(observed)
    settled = judge(story.settled(observed))
    judged |= {number: settled[number] for number in (6, 12)}
    return {number: one for number, one in judged.items() if isinstance(one, Broken)}
