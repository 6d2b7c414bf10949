"""The forward beat on a simulated clock: hedges, rescues, losers, and who is told what."""

import asyncio
import contextlib

from gateway.core.budget import Budget
from gateway.core.exchange import Facts, Forward, UpstreamRules, begin
from gateway.core.hedge import Lost, Won
from gateway.core.instant import Wall
from gateway.core.keeping import Leave
from gateway.core.message import Arrived, NeverLeft, NoAnswer, Outcome, Reply, Request, Streamed
from gateway.core.pack import Matched, Pack, Route
from gateway.core.route import Standing
from gateway.flow.forward import Forwarder
from tests.kit.clock import SimClock
from tests.kit.upstream import FHIR, FakeBoard, Line, answers, refuses, silent

READ = Route("slots", "booking_read", ("GET",), "Slot", keep=True, ceiling_s=900, patience_s=3)
BOOK = Route("book", "booking", ("POST",), "Appointment")
UP = Standing(("fibre", "sim"), (("fibre", "UP"), ("sim", "UP")), "NORMAL",
              proven=frozenset({"fibre", "sim"}),
              hedge_after_s=(("fibre", 0.25), ("sim", 0.25)))


class World:
    """Two scripted links, a board and a clock."""

    def __init__(self, fibre: tuple[float, Outcome], sim: tuple[float, Outcome],
                 route: Route = READ) -> None:
        self.clock = SimClock()
        self.lines = {"fibre": Line(self.clock, "fibre", [fibre]),
                      "sim": Line(self.clock, "sim", [sim])}
        self.board = FakeBoard(UP)
        self.budget = Budget(frozenset())
        self.forwarder = Forwarder(self.lines, self.board, self.clock, self.budget)
        request = Request("B81001", "desk", "gpc", route.methods[0], "/x", ())
        facts = Facts(request, UpstreamRules("gpc", "up", Pack("p", (route,))), Matched(route),
                      Leave(False), "pg", self.clock.now(), Wall(0.0), UP)
        question = begin(facts)
        assert isinstance(question, Forward)
        self.question = question

    async def carry(self) -> tuple[Won | Lost, float]:
        """Return how it ended and after how many virtual seconds."""
        start = self.clock.now()
        end = await self.clock.run(self.forwarder.carry(self.question))
        return end, round(self.clock.now() - start, 3)

    @property
    def sends(self) -> tuple[int, int]:
        """Sends over (fibre, sim)."""
        return len(self.lines["fibre"].sent), len(self.lines["sim"].sent)


async def test_a_healthy_link_answers_and_the_other_is_left_alone() -> None:
    world = World(answers("fibre"), answers("sim"))

    end, took = await world.carry()

    assert isinstance(end, Won)
    assert (end.arrived.link, took, world.sends) == ("fibre", 0.02, (1, 0))
    assert world.board.watchers == 0
    assert world.board.open == 0
    assert world.board.seen == [("B81001", "gpc", "fibre", 200, 0)]


async def test_a_read_on_a_silent_link_is_answered_by_its_hedge_and_the_loser_cancelled() -> None:
    world = World(silent("fibre"), answers("sim"))

    end, took = await world.carry()

    assert isinstance(end, Won)
    assert (end.arrived.link, end.sends, took) == ("sim", 2, 0.27)
    assert world.lines["fibre"].cancelled == 1
    assert world.board.open == 0


async def test_a_refused_connection_costs_no_wait() -> None:
    world = World(refuses("fibre"), answers("sim"))

    end, took = await world.carry()

    assert isinstance(end, Won)
    assert took == 0.021


async def test_a_write_waits_for_its_one_send() -> None:
    world = World(answers("fibre", 201, after=20.0), answers("sim"), BOOK)

    end, took = await world.carry()

    assert isinstance(end, Won)
    assert (took, world.sends) == (20.0, (1, 0))


async def test_a_write_on_a_link_judged_dead_ends_when_the_board_says_so() -> None:
    world = World(silent("fibre"), answers("sim"), BOOK)
    start = world.clock.now()

    async def judge() -> Won | Lost:
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(world.forwarder.carry(world.question))
            await world.clock.sleep(1.5)
            world.board.change(links=("sim",), states=(("fibre", "DOWN"), ("sim", "UP")))
        return carrying.result()

    end = await world.clock.run(judge())

    assert end == Lost(True, "link_down", 1, "fibre")
    assert world.clock.now() - start == 1.5
    assert world.sends == (1, 0)


async def test_a_send_on_a_link_judged_dead_is_ended_then_and_not_with_the_race() -> None:
    world = World(silent("fibre"), answers("sim", after=2.0))

    async def judge() -> tuple[Won | Lost, int]:
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(world.forwarder.carry(world.question))
            await world.clock.sleep(0.5)
            world.board.change(links=("sim",), states=(("fibre", "DOWN"), ("sim", "UP")))
            await world.clock.sleep(0.1)
            cancelled = world.lines["fibre"].cancelled
        return carrying.result(), cancelled

    end, cancelled = await world.clock.run(judge())

    assert isinstance(end, Won)
    assert cancelled == 1


async def test_with_every_link_judged_dead_a_read_ends_at_once() -> None:
    world = World(silent("fibre"), silent("sim"))

    async def judge() -> Won | Lost:
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(world.forwarder.carry(world.question))
            await world.clock.sleep(2.0)
            world.board.change(links=(), states=(("fibre", "DOWN"), ("sim", "DOWN")))
        return carrying.result()

    end = await world.clock.run(judge())

    assert isinstance(end, Lost)
    assert end.cause == "link_down"
    assert world.lines["fibre"].cancelled == world.lines["sim"].cancelled == 1


async def test_patience_bounds_two_silent_links() -> None:
    world = World(silent("fibre"), silent("sim"))

    end, took = await world.carry()

    assert (end, took) == (Lost(True, "timeout", 2, "sim"), 3.0)


async def test_a_portals_page_sends_the_read_over_the_other_link() -> None:
    page = Arrived("fibre", Reply(200, "OK", (("Content-Type", "text/html"),), b"<p>"))
    world = World((0.01, page), answers("sim"))

    end, _ = await world.carry()

    assert isinstance(end, Won)
    assert end.arrived.link == "sim"
    assert [seen[2] for seen in world.board.seen] == ["sim"], "a page proves no path"
    assert [link for link, _ in world.board.foreign] == ["fibre"]


async def test_the_stream_of_a_loser_is_closed() -> None:
    closed: list[str] = []
    refused = Arrived("fibre", Reply(503, "", FHIR, Streamed(
        None, close=lambda: closed.append("fibre"))))
    world = World((0.3, refused), answers("sim", after=0.3))

    end, _ = await world.carry()

    assert isinstance(end, Won)
    assert end.arrived.link == "sim"
    assert closed == ["fibre"]


async def test_the_stream_of_a_loser_is_closed_although_its_client_has_left() -> None:
    closed: list[str] = []
    refused = Arrived("fibre", Reply(503, "", FHIR, Streamed(
        None, close=lambda: closed.append("fibre"))))
    world = World((0.3, refused), silent("sim"))

    waits = asyncio.ensure_future(world.forwarder.carry(world.question))
    await world.clock.advance(0.6)
    assert closed == []
    waits.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waits
    assert closed == ["fibre"]


async def test_what_each_send_cost_is_told() -> None:
    world = World(silent("fibre"), answers("sim"))

    await world.carry()

    assert [(link, upstream, traffic, told.ok) for link, upstream, traffic, _, told
            in world.board.ends] == [
        ("fibre", "gpc", "read", False), ("sim", "gpc", "read", True)]


async def test_when_all_fails_it_says_whether_anything_left() -> None:
    never = World(refuses("fibre"), refuses("sim"), BOOK)
    some = World((0.1, NoAnswer("fibre", "reset")), refuses("sim"), BOOK)

    end, _ = await never.carry()
    assert isinstance(end, Lost)
    assert end.left is False

    end, _ = await some.carry()
    assert isinstance(end, Lost)
    assert end.left is True
    assert some.sends == (1, 0)


async def test_an_episode_grants_a_hedge_that_everyday_has_not() -> None:
    world = World(silent("fibre"), answers("sim"))
    while world.budget.may_hedge("fibre", "sim", 0, 0, world.clock.now()):
        pass
    world.board.episodes = 1

    end, took = await world.carry()

    assert isinstance(end, Won)
    assert took < 0.5


async def test_rescue_after_a_failure_needs_no_budget() -> None:
    world = World((0.01, NoAnswer("fibre", "reset")), answers("sim"))
    while world.budget.may_hedge("fibre", "sim", 0, 0, world.clock.now()):
        pass

    end, _ = await world.carry()

    assert isinstance(end, Won)
    assert end.arrived.link == "sim"


async def test_a_second_round_needs_budget() -> None:
    refused = (0.01, NeverLeft("fibre", "connect")), (0.01, NeverLeft("sim", "connect"))
    world = World(*refused)
    await world.carry()
    assert world.sends == (2, 2)
    while world.budget.may_go_round("gpc", world.clock.now()):
        pass
    await world.carry()
    assert world.sends == (3, 3)


async def test_an_upstreams_retry_after_is_told_to_the_board() -> None:
    busy = Reply(503, "", (*FHIR, ("Retry-After", "7")))
    world = World((0.01, Arrived("fibre", busy)), answers("sim"))

    end, _ = await world.carry()

    assert isinstance(end, Won)
    assert world.sends == (1, 0)
    assert world.board.rests == [("B81001", "gpc", 7.0)]


async def test_a_portals_retry_after_is_nobodys_wish() -> None:
    page = Reply(503, "", (("Content-Type", "text/html"), ("Retry-After", "300")))
    world = World((0.01, Arrived("fibre", page)), answers("sim"))

    await world.carry()

    assert world.board.rests == []


async def test_hedges_are_counted_and_their_bytes_settled() -> None:
    world = World(silent("fibre"), answers("sim"))
    told: list[tuple[str, bool, int, int]] = []
    world.budget.ended = (  # type: ignore[method-assign]
        lambda onto, arrived, size, expected, now: told.append((onto, arrived, size, expected)))
    reads: list[str] = []
    world.budget.read = lambda upstream, now: reads.append(upstream)  # type: ignore[method-assign]

    await world.carry()

    assert reads == ["gpc"]
    assert [(onto, arrived, expected) for onto, arrived, _, expected in told] == [
        ("sim", True, 2000)]


async def test_a_read_that_was_acknowledged_and_forgotten_is_tried_elsewhere_in_the_end() -> None:
    world = World(silent("fibre"), answers("sim"))
    while world.budget.may_hedge("fibre", "sim", 0, 0, world.clock.now()):
        pass

    end, took = await world.carry()

    assert isinstance(end, Won)
    assert end.arrived.link == "sim"
    assert took < 2.5
