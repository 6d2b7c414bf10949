"""Serve, from request to answer on a simulated clock: each test is one request's story."""

from dataclasses import dataclass, field

from gateway.core.budget import Budget
from gateway.core.exchange import UpstreamRules
from gateway.core.message import Answer, NoAnswer, Outcome, Request, Told, first
from gateway.core.pack import Pack, Route
from gateway.core.quota import Use
from gateway.core.route import Standing
from gateway.flow.forward import Forwarder
from gateway.flow.serve import Policy, Serve
from tests.kit.clock import SimClock
from tests.kit.upstream import FakeBoard, FakeStore, Line, answers, silent

READ = Route("slots", "booking_read", ("GET",), "Slot", keep=True, ceiling_s=900, patience_s=3)
BOOK = Route("book", "booking", ("POST",), "Appointment", voids=("slots",))
UP = Standing(("fibre",), (("fibre", "UP"),), "NORMAL", proven=frozenset({"fibre"}))


@dataclass
class World:
    """One tenant, one link with a script, a store, and what was told."""

    script: list[tuple[float, Outcome]]
    store: FakeStore | None = field(default_factory=FakeStore)
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = SimClock()
        self.line = Line(self.clock, "fibre", self.script)
        self.board = FakeBoard(UP)
        forwarder = Forwarder({"fibre": self.line}, self.board, self.clock, Budget(frozenset()))
        records = {} if self.store is None else {"B81001": self.store}
        self.serve = Serve(
            {"gpc": UpstreamRules("gpc", "up", Pack("p", (READ, BOOK)), "continuity")},
            {("B81001", "desk"): Policy(True), ("B81001", "old"): Policy(False)},
            self.board, forwarder, records, self.clock, "pg", self.told.append)

    async def ask(self, client: str = "desk", method: str = "GET", target: str = "/Slot",
                  *headers: tuple[str, str]) -> Answer:
        """Return the answer to one request."""
        request = Request("B81001", client, "gpc", method, target, headers)
        return await self.clock.run(self.serve(request))

    def cut(self) -> None:
        """No path is left."""
        self.board.change(links=(), states=(("fibre", "DOWN"),), mode="STANDALONE",
                          cause="BLACKHOLE")


def mark(answer: Answer) -> str:
    return first(answer.headers, "Continuity") or ""


async def test_what_was_read_before_the_cut_is_answered_marked_after_it() -> None:
    world = World([answers("fibre")])
    live = await world.ask()
    world.cut()
    await world.clock.advance(60.0)

    copy = await world.ask()

    assert mark(live) == "class=live; link=fibre"
    assert mark(copy).startswith("class=as-of;")
    assert (copy.status, first(copy.headers, "Age"), copy.body) == (200, "60", live.body)
    assert [line.answered for line in world.told] == ["live", "copy"]


async def test_a_client_that_did_not_opt_in_is_told_not_now_unless_it_asks_for_stale() -> None:
    world = World([answers("fibre")])
    await world.ask("desk")
    await world.ask("old")
    world.cut()

    assert (await world.ask("old")).status == 503
    asked = await world.ask("old", "GET", "/Slot", ("Cache-Control", "max-stale"))
    assert mark(asked).startswith("class=as-of;")


async def test_what_was_never_read_is_refused() -> None:
    world = World([answers("fibre")])
    await world.ask()
    world.cut()

    assert (await world.ask(target="/Slot?x=1")).status == 503


async def test_a_refusal_over_a_proven_link_removes_the_copy_and_over_an_unproven_one_not() -> None:
    world = World([answers("fibre"), answers("fibre", 404), answers("fibre", 404)])
    await world.ask()
    world.board.change(proven=frozenset())
    await world.ask()
    assert world.store is not None
    assert world.store.drops == []

    world.board.change(proven=frozenset({"fibre"}))
    await world.ask()
    assert len(world.store.drops) == 1


async def test_a_write_voids_before_its_answer_and_tells_the_board() -> None:
    world = World([answers("fibre", 201)])

    answer = await world.ask(method="POST", target="/Appointment")

    assert answer.status == 201
    assert world.store is not None
    assert [drop.routes for drop in world.store.drops] == [("slots",)]
    assert world.board.seen == [("B81001", "gpc", "fibre", 201, 0)]


async def test_a_write_without_answer_is_sent_once_and_told_as_unknown() -> None:
    world = World([(0.1, NoAnswer("fibre", "reset"))])

    answer = await world.ask(method="POST", target="/Appointment")

    assert (answer.status, mark(answer)) == (504, "outcome=unknown")
    assert len(world.line.sent) == 1
    assert world.told[0].answered == "unknown"


async def test_a_silent_path_ends_in_the_copy_after_the_packs_patience() -> None:
    world = World([answers("fibre"), silent("fibre")])
    await world.ask()
    start = world.clock.now()

    answer = await world.ask()

    assert mark(answer).endswith("cause=NO_ANSWER")
    assert round(world.clock.now() - start, 3) == 3.0


async def test_a_store_that_is_full_broken_or_absent_fails_no_live_traffic() -> None:
    for store in (FakeStore(full=True), FakeStore(broken=True), None):
        world = World([answers("fibre"), answers("fibre", 201)], store)

        assert (await world.ask()).status == 200
        assert (await world.ask(method="POST", target="/Appointment")).status == 201
        world.cut()
        assert (await world.ask(target="/Slot?never")).status == 503


async def test_what_is_told_of_a_request_holds_no_path() -> None:
    world = World([answers("fibre")])
    await world.ask(target="/Slot?patient=9990000018")

    assert "9990000018" not in repr(world.told)
    assert world.told[0].route == "slots"


async def test_only_a_read_is_ever_the_one_that_tries_a_faulty_path() -> None:
    world = World([answers("fibre"), answers("fibre", 201)])

    await world.ask()
    assert world.board.trials[0] is True
    world.board.trials.clear()
    await world.ask(method="POST", target="/Appointment")
    assert not any(world.board.trials)


async def test_nothing_is_kept_while_the_wall_clock_is_not_trusted() -> None:
    world = World([answers("fibre")])
    world.clock.trusted = False

    assert (await world.ask()).status == 200
    assert world.store is not None
    assert not world.store.kept
    world.clock.trusted = True
    await world.ask()
    assert world.store.kept


async def test_a_spent_slice_for_hedges_and_a_spent_plan_are_asked_for_each_request() -> None:
    world = World([answers("fibre")])
    asked: list[Use] = []

    def barred(use: Use) -> frozenset[str]:
        asked.append(use)
        return frozenset({"sim"}) if use == "hedges" else frozenset({"dsl"})

    world.serve._barred = barred
    request = Request("B81001", "desk", "gpc", "GET", "/Slot", ())
    facts = world.serve._facts(request, Policy(True))
    assert facts.barred == {"dsl"}
    assert facts.unhedged == {"sim"}
    assert asked[-1] == "hedges"
    assert asked[0] != "hedges"
