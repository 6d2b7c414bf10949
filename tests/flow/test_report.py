"""Reporting against virtual time: what is said, in which order, and what a dead broker costs."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from gateway.core.instant import Mono, Wall
from gateway.core.telemetry import (
    BATCH_MAX,
    Birth,
    Event,
    High,
    Message,
    ReportRules,
    Row,
    State,
    StoreTold,
    event,
)
from gateway.errors import StoreBusy
from gateway.flow.report import Identity, Report, Sources
from tests.kit.clock import SimClock

GW = "B81001-a"
IDS = frozenset({GW, "fibre", "lte", "1.0"})


@dataclass
class MemoryOutbox:
    """An outbox that loses all with the process; ``busy`` refuses the next calls,
    ``stuck`` takes nothing out."""

    rows: list[Row] = field(default_factory=list)
    given: int = 0
    busy: int = 0
    stuck: bool = False

    async def append(self, event: Event) -> Row | None:
        self._may_refuse()
        self.given += 1
        row = Row(1, "b", self.given, event)
        self.rows.append(row)
        return row

    async def oldest(self, n: int) -> tuple[Row, ...]:
        self._may_refuse()
        return tuple(self.rows[:n])

    async def sent(self, rows: tuple[Row, ...]) -> None:
        if not self.stuck:
            self.rows = [row for row in self.rows if row not in rows]

    def _may_refuse(self) -> None:
        if self.busy:
            self.busy -= 1
            raise StoreBusy


@dataclass
class Air:
    """All that was said over every link, in order, and who may say it.

    ``dead`` links refuse to connect and lose what is connected; ``hung`` ones connect for ever.
    """

    clock: SimClock
    said: list[tuple[float, str, str, dict[str, Any]]] = field(default_factory=list)
    dialled: list[tuple[float, str]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    hung: set[str] = field(default_factory=set)
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    heard: "asyncio.Queue[tuple[str, bytes, bool]]" = field(default_factory=asyncio.Queue)
    poison: bool = False

    @contextlib.asynccontextmanager
    async def connect(self, link: str, will: Message,
                      topics: tuple[str, ...]) -> AsyncIterator["Line"]:
        self.dialled.append((self.clock.now(), link))
        if self.poison:
            self.poison = False
            raise ZeroDivisionError
        if link in self.hung:
            await asyncio.Event().wait()
        if link in self.dead:
            raise ConnectionRefusedError
        self.open.append(link)
        try:
            yield Line(self, link)
        finally:
            self.open.remove(link)

    def kinds(self) -> list[str]:
        """What was said but heartbeats: ``fibre presence:online`` and the like."""
        found = []
        for _, link, kind, body in self.said:
            if kind != "hb":
                st = f":{body['b']['st']}" if kind == "presence" else ""
                found.append(f"{link} {kind}{st}")
        return found

    def rows(self) -> list[int]:
        return [row["seq"] for _, _, kind, body in self.said if kind == "evt"
                for row in body["rows"]]


@dataclass
class Line:
    """One connection through the air."""

    air: Air
    link: str

    async def publish(self, topic: str, payload: bytes, qos: int, retain: bool,
                      expiry_s: int | None) -> None:
        if self.link in self.air.dead:
            raise TimeoutError
        kind = topic.rsplit("/", 1)[-1]
        self.air.said.append((self.air.clock.now(), self.link, kind, json.loads(payload)))

    async def received(self) -> AsyncIterator[tuple[str, bytes, bool]]:
        while True:
            async with asyncio.TaskGroup() as tasks:
                cut = tasks.create_task(self.air.cut.wait())
                got = tasks.create_task(self.air.heard.get())
                await asyncio.wait((cut, got), return_when=asyncio.FIRST_COMPLETED)
                cut.cancel()
                got.cancel()
            if self.link in self.air.dead:
                raise ConnectionResetError
            if not got.cancelled():
                yield got.result()


@dataclass
class Desk:
    """A report with its surroundings; ``active`` is what the board would say."""

    clock: SimClock
    air: Air
    outbox: MemoryOutbox
    active: str = "fibre"
    state: State = field(default_factory=lambda: State("fibre"))
    wanted: list[bytes] = field(default_factory=list)
    report: Report = field(init=False)

    def __post_init__(self) -> None:
        self.make(ReportRules())

    def make(self, rules: ReportRules) -> None:
        sources = Sources(lambda: self.active, lambda: self.state,
                          lambda: Birth("1.0", "", "", (), (), (), 10.0), self.wanted.append)
        self.report = Report(Identity(GW, 7, IDS), ("fibre", "lte"), sources, self.outbox,
                             self.air.connect, self.clock, Random(1), rules, High())

    def switch(self, link: str) -> None:
        self.active = link
        self.report.switched()

    def lose(self, link: str) -> None:
        self.air.dead.add(link)
        self.air.cut.set()

    def tell(self, count: int = 1) -> None:
        for _ in range(count):
            self.report.tell(event(StoreTold("records", "full"), self.clock.wall(),
                                   self.clock.now()))


@pytest.fixture
def desk() -> Desk:
    clock = SimClock()
    return Desk(clock, Air(clock), MemoryOutbox())


@contextlib.asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[Callable[[float], Any]]:
    """Run the report; gives ``advance``."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(desk.report.run())
        await desk.clock.advance(0.1)
        yield desk.clock.advance
        task.cancel()


async def test_presence_birth_and_state_are_said_before_what_waited(desk: Desk) -> None:
    desk.tell(3)
    async with running(desk):
        assert desk.air.kinds() == [
            "fibre presence:online", "fibre birth", "fibre state", "fibre evt"]
        assert desk.air.rows() == [1, 2, 3]
        assert desk.outbox.rows == []


async def test_what_is_told_later_follows_at_once_and_in_order(desk: Desk) -> None:
    async with running(desk) as advance:
        for _ in range(5):
            desk.tell()
            await advance(0.0)

        assert desk.air.rows() == [1, 2, 3, 4, 5]


async def test_no_message_holds_more_than_twenty_rows(desk: Desk) -> None:
    desk.tell(3 * BATCH_MAX + 1)
    async with running(desk):
        sizes = [len(body["rows"]) for _, _, kind, body in desk.air.said if kind == "evt"]

        assert max(sizes) == BATCH_MAX
        assert desk.air.rows() == list(range(1, 3 * BATCH_MAX + 2))


async def test_changes_of_one_second_make_one_state(desk: Desk) -> None:
    async with running(desk) as advance:
        for _ in range(8):
            desk.report.changed()
            await advance(0.1)
        await advance(2.0)

        assert desk.air.kinds().count("fibre state") == 2


async def test_an_unchanged_state_is_said_again_every_five_minutes(desk: Desk) -> None:
    async with running(desk) as advance:
        await advance(901.0)

        assert desk.air.kinds().count("fibre state") == 1 + 3


async def test_the_heart_beats_every_ten_seconds_and_every_sixty_on_a_metered_link(
        desk: Desk) -> None:
    desk.make(ReportRules(metered=frozenset({"lte"})))
    async with running(desk) as advance:
        await advance(299.0)
        desk.switch("lte")
        await advance(299.0)
        beats = [link for _, link, kind, _ in desk.air.said if kind == "hb"]

        assert (beats.count("fibre"), beats.count("lte")) == (30, 5)


async def test_on_a_switch_the_new_connection_is_open_before_the_old_one_goes(desk: Desk) -> None:
    async with running(desk) as advance:
        desk.air.hung.add("lte")
        desk.switch("lte")
        await advance(5.0)
        assert desk.air.open == ["fibre"]

        desk.air.hung.clear()
        desk.switch("fibre")
        await advance(0.1)
        assert desk.air.dialled[-1][1] == "lte", "a connection that stands is not made again"
        desk.switch("lte")
        await advance(0.1)
        assert desk.air.open == ["lte"]
        assert desk.air.kinds()[-3:] == ["lte presence:online", "lte birth", "lte state"]


async def test_each_connect_has_a_number_of_its_own(desk: Desk) -> None:
    async with running(desk) as advance:
        desk.switch("lte")
        await advance(0.1)
        told = [(body["boot"], body["sess"]) for _, _, kind, body in desk.air.said
                if kind == "presence"]

        assert told == [(7, 1), (7, 2)]


async def test_a_line_that_was_taken_over_does_not_dial_again(desk: Desk) -> None:
    async with running(desk) as advance:
        desk.air.hung.add("lte")
        desk.switch("lte")
        await advance(0.1)
        desk.lose("fibre")  # as the broker does when it takes the session over
        await advance(60.0)

        assert [link for _, link in desk.air.dialled] == ["fibre", "lte"]


async def test_a_dead_broker_is_tried_again_ever_more_rarely_and_found_within_a_minute(
        desk: Desk) -> None:
    desk.air.dead.add("fibre")
    async with running(desk) as advance:
        await advance(3600.0)
        times = [at for at, _ in desk.air.dialled]
        waits = [later - sooner for sooner, later in itertools.pairwise(times)]

        assert 60 < len(times) < 240  # half a minute in the mean, once the ceiling is reached
        assert max(waits) <= 60.0
        assert not desk.report.view().connected

        desk.air.dead.clear()
        await advance(60.0)
        assert desk.report.view().connected


async def test_a_switch_does_not_wait_for_the_end_of_a_pause(desk: Desk) -> None:
    desk.air.dead.add("fibre")
    async with running(desk) as advance:
        await advance(600.0)
        desk.switch("lte")
        await advance(0.0)

        assert desk.report.view().link == "lte"


async def test_with_no_usable_link_every_link_is_tried_in_turn(desk: Desk) -> None:
    desk.active = ""
    desk.air.dead |= {"fibre", "lte"}
    async with running(desk) as advance:
        await advance(600.0)

        assert {link for _, link in desk.air.dialled} == {"fibre", "lte"}


async def test_a_connection_is_kept_when_the_board_has_no_link_left(desk: Desk) -> None:
    async with running(desk) as advance:
        desk.switch("")
        await advance(30.0)

        assert desk.air.open == ["fibre"]


async def test_rows_wait_for_the_broker_and_leave_only_when_acknowledged(desk: Desk) -> None:
    async with running(desk) as advance:
        desk.lose("fibre")
        desk.tell(2)
        await advance(20.0)
        assert len(desk.outbox.rows) == 2

        desk.air.dead.clear()
        desk.air.cut.clear()
        await advance(61.0)
        assert desk.air.rows() == [1, 2]
        assert desk.outbox.rows == []


async def test_after_a_long_outage_each_gateway_waits_its_own_while_before_it_drains(
        desk: Desk) -> None:
    async with running(desk) as advance:
        desk.lose("fibre")
        await advance(0.0)
        desk.tell()
        await advance(300.0)
        desk.air.dead.clear()
        desk.air.cut.clear()
        await advance(200.0)
        online = max(at for at, _, kind, _ in desk.air.said if kind == "presence")
        drained = next(at for at, _, kind, _ in desk.air.said if kind == "evt")
        history = next(body for _, _, kind, body in desk.air.said if kind == "evt")

        assert 1.0 < drained - online <= 120.0
        assert history["rows"][0]["h"] == 1


async def test_what_is_told_faster_than_the_disk_takes_it_is_bounded_and_counted(
        desk: Desk) -> None:
    desk.make(ReportRules(intake_max=10))
    desk.tell(25)
    assert (desk.report.view().waiting, desk.report.view().dropped) == (10, 15)

    async with running(desk) as advance:
        desk.report.changed()
        await advance(2.0)
        last = [body for _, _, kind, body in desk.air.said if kind == "state"][-1]

        assert last["b"]["outbox"]["dropped"] == 15
        assert desk.air.rows() == list(range(1, 11))


async def test_a_busy_outbox_costs_the_event_but_never_the_connection(desk: Desk) -> None:
    async with running(desk) as advance:
        desk.outbox.busy = 2
        desk.tell(2)
        await advance(0.1)
        desk.tell()
        await advance(30.0)

        assert desk.report.view().dropped == 2
        assert desk.air.rows() == [1]
        assert len(desk.air.dialled) == 1


async def test_rows_that_cannot_be_taken_out_of_a_full_outbox_are_sent_again_only_now_and_then(
        desk: Desk) -> None:
    desk.outbox.stuck = True
    desk.tell()
    async with running(desk) as advance:
        await advance(60.0)
        assert 6 <= len(desk.air.rows()) <= 8
        assert set(desk.air.rows()) == {1}

        desk.outbox.stuck = False
        await advance(11.0)
        assert desk.outbox.rows == []


async def test_a_stale_loss_read_back_is_overruled(desk: Desk) -> None:
    async with running(desk) as advance:
        stale = json.dumps({"b": {"st": "lost"}, "boot": 7, "sess": 0}).encode()
        desk.air.heard.put_nowait((f"gpgw/1/{GW}/up/presence", stale, True))
        await advance(1.0)
        newer = json.dumps({"b": {"st": "lost"}, "boot": 8, "sess": 1}).encode()
        desk.air.heard.put_nowait((f"gpgw/1/{GW}/up/presence", newer, True))
        await advance(20.0)

        assert desk.air.kinds().count("fibre presence:online") == 2


async def test_an_orderly_stop_writes_down_what_was_told_and_says_that_it_leaves(
        desk: Desk) -> None:
    async with running(desk):
        desk.tell()
        await desk.clock.run(desk.report.leave())

        assert desk.air.kinds()[-1] == "fibre presence:leaving"
        assert desk.air.open == []
        assert desk.outbox.given == 1


async def test_an_orderly_stop_waits_three_seconds_for_the_broker_at_most(desk: Desk) -> None:
    async with running(desk):
        desk.lose("fibre")
        desk.air.cut.clear()
        began = desk.clock.now()
        await desk.clock.run(desk.report.leave())

        assert desk.clock.now() - began <= 3.0


async def test_what_nobody_foresaw_costs_one_turn_and_is_counted(desk: Desk) -> None:
    desk.air.poison = True
    async with running(desk) as advance:
        await advance(61.0)

        assert desk.report.view().restarts == 1
        assert desk.report.view().connected


async def test_a_rank_a_row_raises_its_own_high_water_mark(desk: Desk) -> None:
    desk.outbox.rows.append(Row(1, "a", 4, Event("a", "gap", Wall(0.0), Mono(0.0),
                                                 (("of", "b"), ("n", 3)))))
    async with running(desk) as advance:
        desk.tell()
        await advance(11.0)
        beat = [body for _, _, kind, body in desk.air.said if kind == "hb"][-1]

        assert beat["high"] == {"a": 4, "b": 1, "c": 0}


async def test_a_switch_changes_the_state_that_is_told(desk: Desk) -> None:
    async with running(desk) as advance:
        desk.state = replace(desk.state, active="lte")
        desk.switch("lte")
        await advance(5.0)
        last = [body for _, _, kind, body in desk.air.said if kind == "state"][-1]

        assert last["b"]["active"] == "lte"


async def test_what_is_wanted_of_us_is_heard_and_of_nobody_else(desk: Desk) -> None:
    async with running(desk) as advance:
        for name, payload in ((GW, b"ours"), ("other", b"theirs"), (GW, b"{")):
            desk.air.heard.put_nowait((f"gpgw/1/{name}/dn/want", payload, True))
        await advance(1.0)
        assert desk.wanted == [b"ours", b"{"]
