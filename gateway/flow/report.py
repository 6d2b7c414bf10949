"""Reporting: one MQTT session over the active link, snapshots when they change, rows until acked.

Law: nothing here is ever waited for by a request. ``tell``, ``changed`` and ``switched`` return at
once; what has no room is counted and dropped. Everything else runs beside, and a broker that is
gone, frozen or slow costs a bounded wait and a new try.

On a switch of links the new connection is opened first, with the same identity: the broker's
takeover closes the old one and cancels its will (telemetry.md, measured: any other order shows a
practice as offline while it works). A line that is lost while another link is wanted never dials
again, or the two would take the session from each other.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final, TypeAlias

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_never

from gateway.core import telemetry
from gateway.core.backoff import full_jitter
from gateway.core.telemetry import (
    BATCH_MAX,
    Birth,
    ClockQuality,
    Envelope,
    Event,
    Heartbeat,
    High,
    Message,
    PresenceCode,
    Rank,
    ReportRules,
    Row,
    Snapshot,
    State,
    batches,
    ms,
    topic,
    want_topic,
)
from gateway.errors import GatewayError
from gateway.ports import Broker, Clock, Outbox

_log: Final = logging.getLogger(__name__)

Connect: TypeAlias = Callable[[str, Message, tuple[str, ...]], AbstractAsyncContextManager[Broker]]
"""(link, will, topics to hear) -> a session over that link. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where what is reported comes from. ``active`` is ``""`` while no link is usable. ``wanted``
    is told what is heard on ``dn/want``, and never raises."""

    active: Callable[[], str]
    state: Callable[[], State]
    birth: Callable[[], Birth]
    wanted: Callable[[bytes], None] = lambda payload: None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who reports: its name, its starts since enrolment, every id that may stand in a message."""

    gw: str
    boot: int
    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class ReportView:
    """How reporting stands, for ``/status``. ``since_s`` is how long it has stood so."""

    connected: bool
    link: str
    sess: int
    since_s: float
    failures: int
    waiting: int
    sent_rows: int
    dropped: int
    restarts: int


@dataclass(slots=True, eq=False)
class _Line:
    """The task that keeps a connection over one link, ``""`` for whichever answers."""

    link: str
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None

    def stands_on(self, link: str) -> bool:
        return self.task is not None and not self.task.done() and link in ("", self.link)


class Report:
    """Reports for one gateway. ``links`` are all link ids, tried in turn while none is usable.

    ``high`` are the newest row numbers that the outbox gave before this start.
    """

    def __init__(self, identity: Identity, links: tuple[str, ...], sources: Sources,
                 outbox: Outbox, connect: Connect, clock: Clock, rng: Random,
                 rules: ReportRules, high: High) -> None:
        self._me = identity
        self._links = links
        self._sources = sources
        self._outbox = outbox
        self._connect = connect
        self._clock = clock
        self._rng = rng
        self._rules = rules
        self._high = high
        self._sess = 0
        self._rev = 0
        self._failures = 0
        self._dropped = 0
        self._sent_rows = 0
        self._restarts = 0
        self._on = ""
        self._since = clock.now()
        self._dark_s = 0.0
        self._acked: tuple[Row, ...] = ()
        self._told: deque[Event] = deque()
        self._intake = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._due = asyncio.Event()
        self._change = asyncio.Event()
        self._turn = asyncio.Event()
        self._leaving = asyncio.Event()
        self._left = asyncio.Event()

    # --- what others call; none of it waits but ``leave``

    def tell(self, event: Event) -> None:
        """Take an event in for the outbox; beyond ``intake_max`` waiting it is only counted."""
        if len(self._told) >= self._rules.intake_max:
            self._dropped += 1
            return
        self._told.append(event)
        self._emptied.clear()
        self._intake.set()

    def changed(self) -> None:
        """Something in the state document changed: it is sent after ``gather_s``."""
        self._change.set()

    def switched(self) -> None:
        """The active link changed: the session follows at once, whatever was being waited for."""
        self._turn.set()
        self._change.set()

    async def leave(self) -> None:
        """Write down what was told and say ``leaving``; ``leave_s`` at most, then give up on it."""
        self._leaving.set()
        waits = [self._emptied.wait(), *([self._left.wait()] if self._on else [])]
        await _race(_all(*waits), self._clock.sleep(self._rules.leave_s))

    def view(self) -> ReportView:
        """Return how reporting stands now."""
        return ReportView(bool(self._on), self._on, self._sess, self._clock.now() - self._since,
                          self._failures, len(self._told), self._sent_rows, self._dropped,
                          self._restarts)

    async def run(self) -> None:
        """Report until cancelled. What nobody foresaw costs one turn of this loop, no more."""
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._take_in())
                    await self._follow(tasks)
            except Exception:  # fence: reporting is beside the practice's work and must not end it
                self._restarts += 1
                self._lost(self._on)
                _log.exception("reporting failed and starts again", extra={"n": self._restarts})
            await self._clock.sleep(full_jitter(max(1, self._restarts), self._rng))

    # --- events, on their way to the disk

    async def _take_in(self) -> None:
        while True:
            self._intake.clear()
            while self._told:
                await self._write(self._told.popleft())
            self._emptied.set()
            await self._intake.wait()

    async def _write(self, event: Event) -> None:
        stamped = replace(event, body=(("boot", self._me.boot), *event.body))
        try:
            row = await self._outbox.append(stamped)
        except GatewayError as error:
            _log.debug("an event was not stored", extra={"why": type(error).__name__})
            row = None
        if row is None:
            self._dropped += 1
            return
        self._note_high((row,))
        self._due.set()

    def _note_high(self, rows: tuple[Row, ...]) -> None:
        for row in rows:
            highest = max(row.seq, getattr(self._high, row.rank))
            changes: dict[Rank, int] = {row.rank: highest}
            self._high = replace(self._high, **changes)

    # --- one session, on the link that is active

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        """Keep a line on the active link; let go of the one before when the new one stands."""
        held = _Line("")
        while True:
            link = self._sources.active()
            if held.stands_on(link):
                await self._moved(held)
                continue
            line = _Line(link)
            line.task = tasks.create_task(self._stay(line))
            await _race(line.opened.wait(), self._moved(line))
            if line.opened.is_set():
                _end(held.task)
                held = line
            else:
                _end(line.task)

    async def _moved(self, line: _Line) -> None:
        """Wait until the active link is no longer this line's, or the line has ended."""
        while line.stands_on(self._sources.active()):
            self._turn.clear()
            await self._turn.wait()

    async def _stay(self, line: _Line) -> None:
        """Connect, and connect again whenever it is lost, until another link is wanted."""
        retrying = AsyncRetrying(
            sleep=self._clock.sleep, wait=self._wait, stop=stop_never, reraise=True,
            retry=retry_if_exception_type(OSError))
        self._failures = 0
        try:
            await retrying(self._hold, line)
        finally:
            self._turn.set()

    def _wait(self, state: RetryCallState) -> float:
        """tenacity's ``wait``: our failures in a row, not its attempts, for a line that stood."""
        return full_jitter(self._failures, self._rng)

    async def _hold(self, line: _Line) -> None:
        """One connection from dial to loss. Returns when it must not be tried again."""
        began = self._clock.now()
        try:
            await self._session(line)
            return
        except* OSError as lost:
            reason = _first(lost)
        if self._clock.now() - began >= self._rules.steady_s:
            self._failures = 0
        self._failures += 1
        self._lost(line.link)
        if line.opened.is_set() and not line.stands_on(self._sources.active()):
            return
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        _log.log(level, "telemetry is not connected", extra={
            "link": line.link, "why": type(reason).__name__, "detail": str(reason)[:160],
            "n": self._failures})
        raise ConnectionError("telemetry line lost")

    async def _session(self, line: _Line) -> None:
        self._sess += 1
        sess = self._sess
        link = line.link or self._links[sess % len(self._links)]
        will = self._presence("lost", sess)
        heard = (topic(self._me.gw, "presence"), want_topic(self._me.gw))
        async with self._connect(link, will, heard) as broker:
            await self._announce(broker, sess)
            self._found(link)
            line.opened.set()
            async with asyncio.TaskGroup() as tasks:
                chores = [tasks.create_task(chore) for chore in (
                    self._listen(broker, sess), self._beat(broker, sess, link),
                    self._show(broker, sess), self._drain(broker, sess))]
                await self._leaving.wait()
                for chore in chores:
                    chore.cancel()
            await _send(broker, self._presence("leaving", sess))
        self._on = ""
        self._left.set()
        await asyncio.Event().wait()  # a stop is under way: no new connection until it is done

    def _found(self, link: str) -> None:
        now = self._clock.now()
        if not self._on:
            self._dark_s = now - self._since
            _log.info("telemetry is connected", extra={"link": link, "after_s": self._dark_s})
            self._since = now
        else:
            self._dark_s = 0.0
        self._on = link

    def _lost(self, link: str) -> None:
        if self._on and link in ("", self._on):
            self._on, self._since = "", self._clock.now()

    # --- what is said over it

    async def _announce(self, broker: Broker, sess: int) -> None:
        """Presence, birth and current state, before anything that waited."""
        await _send(broker, self._presence("online", sess))
        await _send(broker, self._snapshot(self._sources.birth(), sess))
        await self._send_state(broker, sess)

    async def _listen(self, broker: Broker, sess: int) -> None:
        """Hear what is wanted of us, and put our presence over a stale loss; ends by OSError when
        the connection is gone."""
        own, wanted = topic(self._me.gw, "presence"), want_topic(self._me.gw)
        async for heard, payload, _ in broker.received():
            if heard == wanted:
                self._sources.wanted(payload)
            elif heard == own and telemetry.is_stale(payload, self._me.boot, sess):
                _log.warning("a stale presence is put right", extra={"sess": sess})
                await _send(broker, self._presence("online", sess))
                await self._clock.sleep(self._rules.reassert_s)
        raise ConnectionError("nothing more is received")

    async def _beat(self, broker: Broker, sess: int, link: str) -> None:
        rules = self._rules
        every = rules.heartbeat_metered_s if link in rules.metered else rules.heartbeat_s
        while True:
            state = self._sources.state()
            beat = Heartbeat(self._me.boot, sess, self._rev, self._high, state.active,
                             telemetry.worst(state))
            await _send(broker, telemetry.heartbeat(beat, self._me.gw, self._me.ids))
            await self._clock.sleep(every)

    async def _show(self, broker: Broker, sess: int) -> None:
        while True:
            await _race(self._change.wait(), self._clock.sleep(self._rules.state_every_s))
            if self._change.is_set():
                await self._clock.sleep(self._rules.gather_s)
            await self._send_state(broker, sess)

    async def _send_state(self, broker: Broker, sess: int) -> None:
        self._change.clear()
        state = self._sources.state()
        box = replace(state.outbox, dropped=state.outbox.dropped + self._dropped)
        await _send(broker, self._snapshot(replace(state, outbox=box), sess))

    async def _drain(self, broker: Broker, sess: int) -> None:
        """Send rows, oldest first, at most BATCH_MAX unacknowledged; an acked row leaves."""
        if self._dark_s > self._rules.outage_s:
            await self._clock.sleep(self._rng.uniform(0.0, self._rules.drain_jitter_s))
        while True:
            self._due.clear()
            try:
                if not await self._drain_some(broker, sess):
                    await _race(self._due.wait(), self._clock.sleep(self._rules.outbox_look_s))
            except GatewayError as error:  # a row that stays is sent again, under its number
                _log.debug("the outbox is in trouble", extra={"why": type(error).__name__})
                await self._clock.sleep(self._rules.outbox_pause_s)

    async def _drain_some(self, broker: Broker, sess: int) -> bool:
        rows = await self._outbox.oldest(BATCH_MAX)
        if rows and rows == self._acked:  # the disk is full: they could not be taken out
            await self._clock.sleep(self._rules.outbox_pause_s)
        self._note_high(rows)
        for batch in batches(rows):
            await _send(broker, telemetry.events(batch, self._envelope(sess), self._me.ids))
            await self._outbox.sent(batch)
            self._sent_rows += len(batch)
        self._acked = rows
        return bool(rows)

    def _presence(self, st: PresenceCode, sess: int) -> Message:
        return telemetry.presence(st, self._envelope(sess), self._me.ids)

    def _snapshot(self, body: Snapshot, sess: int) -> Message:
        self._rev += 1
        return telemetry.snapshot(body, self._rev, self._high, self._envelope(sess), self._me.ids)

    def _envelope(self, sess: int) -> Envelope:
        wall = ms(self._clock.wall())
        quality = ClockQuality("ntp" if self._clock.wall_is_trusted() else "none")
        return Envelope(self._me.gw, self._me.boot, sess, wall, ms(self._clock.now()), wall,
                        quality)


async def _send(broker: Broker, message: Message) -> None:
    await broker.publish(message.topic, message.payload, message.qos, message.retain,
                         message.expiry_s)


async def _all(*waits: Coroutine[Any, Any, object]) -> None:
    for each in waits:
        await each


async def _race(*works: Coroutine[Any, Any, object]) -> None:
    """Run ``works`` until the first of them ends, then end the others."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in works]
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()


def _end(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first single exception of a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
