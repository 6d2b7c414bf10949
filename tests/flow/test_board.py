"""The board over simulated weather: what is judged dead, how soon, and what never moves a link."""

import asyncio

import pytest

from chaos.weather import (
    CaptivePortal,
    Cut,
    DnsLie,
    Flap,
    Heal,
    OneWay,
    Reset,
    UpstreamGone,
    UpstreamHung,
    UpstreamStatus,
)
from gateway.core.course import Course
from gateway.core.echo import LADDER
from gateway.core.instant import Mono, Wall
from gateway.core.link import Link, LinkRules, Sample
from gateway.core.maintenance import Window
from gateway.core.message import Outbound
from gateway.core.pack import Traffic
from gateway.core.steer import Completion
from gateway.core.verdict import Judged
from gateway.flow.board import EAGER_S, Board
from tests.kit.clock import SimClock
from tests.sim.watched import FIBRE, TENANTS, Watched, watched

TENANT = TENANTS[0]
READ = Outbound(TENANT, "gpc", "GET", "/Slot", ())


async def until_down(it: Watched, *links: str) -> float:
    """Seconds of virtual time until all ``links`` are DOWN."""
    begun = it.clock.now()
    while any(it.board.state(link).state != "DOWN" for link in links):
        await it.clock.advance(0.01)
        assert it.clock.now() - begun < 10.0, "never judged dead"
    return it.clock.now() - begun


async def test_all_links_are_up_within_a_quarter_of_a_second_of_the_start() -> None:
    async with watched() as it:
        for turns in (it.turns("fibre"), it.turns("sim")):
            assert turns in (["UP"], ["VALIDATING", "UP"])
        assert max(t.at for t in it.told) < 1000.4
        assert it.board.standing(TENANT, "gpc").links == ("fibre", "sim")
        assert it.board.standing(TENANT, "gpc").mode == "NORMAL"


@pytest.mark.parametrize("seed", range(6))
async def test_a_black_holed_primary_under_load_is_down_within_two_seconds(seed: int) -> None:
    async with watched(seed=seed, per_s=100) as it:
        await it.clock.advance(0.037 * seed)
        await it.world.apply(Cut("fibre"))
        assert await until_down(it, "fibre") < 2.0
        await it.clock.advance(1.0)
        assert it.turns("sim")[-1:] == ["UP"]
        assert it.switches() == [("fibre", "sim")]
        assert it.modes() == ["BACKUP"]
        assert it.board.standing(TENANT, "gpc").cause == "BLACKHOLE"


@pytest.mark.parametrize("seed", range(6))
async def test_both_links_cut_are_down_within_two_and_a_half_seconds_on_probes_alone(
        seed: int) -> None:
    async with watched(seed=seed) as it:
        await it.clock.advance(7.0 + 0.037 * seed)
        await it.world.apply(Cut("fibre"))
        await it.world.apply(Cut("sim"))
        assert await until_down(it, "fibre", "sim") < 2.4
        standing = it.board.standing(TENANT, "gpc")
        assert (standing.links, standing.mode, standing.cause) == ((), "STANDALONE", "BLACKHOLE")


async def test_the_only_link_is_judged_dead_too_and_its_first_success_brings_it_back() -> None:
    async with watched((FIBRE,)) as it:
        await it.world.apply(Cut("fibre"))
        assert await until_down(it, "fibre") < 2.0
        await it.clock.advance(60.0)
        await it.world.apply(Heal("fibre"))
        await it.clock.advance(0.4)
        assert it.board.state("fibre").state == "UP"
        assert it.modes() == ["STANDALONE", "NORMAL"]


async def test_a_dead_link_is_suspect_and_last_in_order_long_before_it_is_judged() -> None:
    async with watched() as it:
        await it.world.apply(Cut("fibre"))
        await it.clock.advance(0.65)
        standing = it.board.standing(TENANT, "gpc")
        assert dict(standing.states)["fibre"] == "SUSPECT"
        assert standing.links == ("sim", "fibre")
        assert dict(standing.hedge_after_s)["fibre"] == pytest.approx(0.08)
        assert it.switches() == []


async def test_a_healed_link_waits_its_hold_while_another_one_works() -> None:
    async with watched() as it:
        await it.world.apply(Cut("fibre"))
        await until_down(it, "fibre")
        await it.world.apply(Heal("fibre"))
        await it.clock.advance(58.0)
        assert it.board.state("fibre").state == "PROBATION"
        assert it.board.standing(TENANT, "gpc").links == ("sim", "fibre")
        await it.clock.advance(5.0)
        assert it.turns("fibre") == ["UP", "SUSPECT", "DOWN", "PROBATION", "UP"]
        assert it.board.standing(TENANT, "gpc").links == ("sim", "fibre")
        await it.clock.advance(70.0)
        assert it.board.standing(TENANT, "gpc").links == ("fibre", "sim")
        assert it.board.view().switches == 2


async def test_an_upstream_is_not_down_while_a_link_on_probation_has_not_failed_it() -> None:
    """Found by tests/sim (seed 14): reads were refused while the healed link worked."""
    async with watched(per_s=20.0, upstreams=("gpc", "bars"), loaded=("gpc",)) as it:
        await it.world.apply(Cut("fibre"))
        await until_down(it, "fibre")
        await it.world.apply(Heal("fibre"))
        await it.clock.advance(5.0)
        assert it.board.state("fibre").state == "PROBATION"

        await it.world.apply(DnsLie("sim", ""))
        for _ in range(50):
            await it.clock.advance(0.1)
            assert not it.board.standing(TENANT, "gpc").upstream_down


async def test_a_link_on_probation_is_taken_at_once_when_the_other_one_dies() -> None:
    async with watched() as it:
        await it.world.apply(Cut("fibre"))
        await until_down(it, "fibre")
        await it.world.apply(Heal("fibre"))
        await it.clock.advance(5.0)
        await it.world.apply(Cut("sim"))
        await it.clock.advance(0.9)
        assert it.board.standing(TENANT, "gpc").links[0] == "fibre"
        await until_down(it, "sim")
        await it.clock.advance(0.1)
        assert it.board.state("fibre").state == "UP"


async def test_a_flapping_primary_is_left_once_and_not_returned_to() -> None:
    async with watched(per_s=20) as it:
        await it.world.apply(Flap("fibre", 2.0, 2.0))
        await it.clock.advance(120.0)
        assert it.switches() == [("fibre", "sim")]
        assert it.turns("sim")[-1:] == ["UP"]


async def test_a_fault_of_one_direction_only_is_a_dead_link() -> None:
    async with watched() as it:
        await it.world.apply(OneWay("fibre", "down"))
        assert await until_down(it, "fibre") < 2.0


async def test_a_link_that_resets_everything_is_left() -> None:
    async with watched(per_s=20) as it:
        await it.world.apply(Reset("fibre"))
        assert await until_down(it, "fibre") < 2.2
        assert it.switches() == [("fibre", "sim")]


@pytest.mark.parametrize("fault", [
    UpstreamStatus("gpc", 503), UpstreamGone("gpc"), UpstreamHung("gpc")], ids=repr)
async def test_an_upstream_at_fault_is_down_and_no_link_is_switched(
        fault: UpstreamStatus | UpstreamGone | UpstreamHung) -> None:
    async with watched(per_s=20, patience_s=1.0, upstreams=("gpc", "bars")) as it:
        await it.world.apply(fault)
        await it.clock.advance(10.0)
        standing = it.board.standing(TENANT, "gpc")
        assert standing.upstream_down
        assert (standing.mode, standing.cause) == ("DEGRADED", "UPSTREAM_DOWN")
        assert not it.board.standing(TENANT, "bars").upstream_down
        assert it.modes("bars") == []
        await it.clock.advance(60.0)
        assert it.switches() == []
        assert {*it.turns("fibre"), *it.turns("sim")} <= {"VALIDATING", "UP"}

        await it.world.apply(UpstreamStatus("gpc", 0))
        await it.world.apply(UpstreamGone("gpc", False))
        await it.world.apply(UpstreamHung("gpc", False))
        await it.clock.advance(2.5)
        assert not it.board.standing(TENANT, "gpc").upstream_down
        assert it.modes() == ["DEGRADED", "NORMAL"]
        said = [t for t in it.told if isinstance(t, Judged) and t.verdict.upstream == "gpc"
                and t.verdict.kind == "UPSTREAM_DOWN"]
        assert [t.over for t in said] == [False, True]
        assert said[1].lasted_s > 60.0


async def test_a_down_upstream_is_sent_one_trial_a_second() -> None:
    async with watched(per_s=20) as it:
        await it.world.apply(UpstreamStatus("gpc", 503))
        await it.clock.advance(5.0)
        it.world.arrivals.clear()
        await it.clock.advance(20.0)
        assert 2 * 18 <= len(it.world.arrivals) <= 2 * 21  # the reader asks both links


async def test_a_down_upstream_that_asked_to_be_left_alone_is_sent_none_meanwhile() -> None:
    async with watched(per_s=20) as it:
        await it.world.apply(UpstreamStatus("gpc", 503))
        await it.clock.advance(5.0)
        it.board.rest(TENANT, "gpc", 10.0)
        tried = []
        for _ in range(12):
            await it.clock.advance(1.1)
            tried.append(it.board.standing(TENANT, "gpc").trial)
        assert tried[:9] == [False] * 9
        assert any(tried[9:])


async def test_looking_uses_up_no_trial() -> None:
    async with watched(per_s=20) as it:
        await it.world.apply(UpstreamStatus("gpc", 503))
        await it.clock.advance(5.0)
        for _ in range(5):
            assert not it.board.standing(TENANT, "gpc", asking=False).trial


async def test_an_idle_down_upstream_is_not_forgotten() -> None:
    async with watched() as it:
        await it.world.apply(UpstreamStatus("gpc", 503))
        for _ in range(3):
            await it.clock.run(it.read("gpc"))
        await it.clock.advance(60.0)
        assert it.board.standing(TENANT, "gpc", asking=False).upstream_down
        await it.world.apply(UpstreamStatus("gpc", 0))
        assert await it.clock.run(it.read("gpc"))
        await it.clock.advance(0.05)
        assert not it.board.standing(TENANT, "gpc").upstream_down


async def test_an_upstream_unreachable_over_one_link_moves_alone() -> None:
    async with watched(upstreams=("gpc", "bars")) as it:
        fibre = it.world.sender("fibre", it.board.see)
        for _ in range(3):
            it.world.upstreams["gpc"].gone = True
            await it.clock.run(fibre.send(READ))
            it.world.upstreams["gpc"].gone = False
            await it.clock.advance(0.3)
            await it.clock.run(it.world.sender("sim", it.board.see).send(READ))
        await it.clock.advance(0.6)
        assert ("ROUTE_FAULT", "fibre", "gpc", False) in it.judged()
        assert it.board.standing(TENANT, "gpc").links == ("sim", "fibre")
        assert it.board.standing(TENANT, "gpc").mode == "BACKUP"
        assert it.board.standing(TENANT, "gpc").cause == "ROUTE_FAULT"
        assert it.board.standing(TENANT, "bars").links == ("fibre", "sim")
        assert it.switches() == []

        await it.clock.advance(31.0)
        assert it.board.standing(TENANT, "gpc").links == ("fibre", "sim")  # one request tries
        assert it.board.standing(TENANT, "gpc").links == ("sim", "fibre")
        await it.clock.run(fibre.send(READ))
        await it.clock.advance(0.1)
        assert it.board.standing(TENANT, "gpc").links == ("fibre", "sim")


async def test_a_dead_resolver_moves_upstreams_but_no_link() -> None:
    async with watched(per_s=10) as it:
        await it.world.apply(DnsLie("fibre", ""))
        await it.clock.advance(20.0)
        assert it.switches() == []
        assert it.turns("fibre") == ["UP"]
        assert ("DNS_FAULT", "fibre", "gpc", False) in it.judged()
        assert it.board.standing(TENANT, "gpc").links == ("sim", "fibre")


async def test_a_silent_resolver_is_told_once_and_once_when_it_answers_again() -> None:
    async with watched() as it:
        for ok in (False, False, False, True, True):
            now = it.clock.now()
            it.board.see(Sample("fibre", "own", "dns", ok, now, now, detail="resolve"))
            await it.clock.advance(2.0)
        assert it.judged() == [("DNS_FAULT", "fibre", "", False), ("DNS_FAULT", "fibre", "", True)]
        assert it.board.standing(TENANT, "gpc").links == ("fibre", "sim")
        assert it.switches() == []


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_link_over_which_no_resolver_answers_has_a_fault_if_one_does_over_another(
        elsewhere: bool) -> None:
    async with watched() as it:
        for _ in range(3):
            now = it.clock.now()
            for resolver in ("own", "other"):
                it.board.see(Sample("fibre", resolver, "dns", False, now, now, detail="resolve"))
            it.board.see(Sample("sim", "own", "dns", elsewhere, now, now, detail="resolve"))
            await it.clock.advance(2.0)
        told = [("DNS_FAULT", "fibre", "", False)]
        assert [each for each in it.judged() if each[1] == "fibre"] == (told if elsewhere else [])
        assert it.switches() == []


async def test_a_captive_portal_is_left_and_not_believed() -> None:
    async with watched() as it:
        await it.world.apply(CaptivePortal("fibre"))
        await it.clock.advance(3.0)
        assert it.board.state("fibre").cause == "CAPTIVE"
        assert it.board.standing(TENANT, "gpc").links == ("sim",)
        await it.clock.advance(40.0)
        assert it.board.state("fibre").state == "QUARANTINED"


async def test_a_dead_anchor_moves_nothing() -> None:
    async with watched() as it:
        it.world.anchors_gone.add("echo")
        await it.clock.advance(120.0)
        assert it.switches() == []
        assert it.turns("fibre") == ["UP"]


@pytest.mark.parametrize("stall_s", [0.5, 2.0, 20.0])
async def test_our_own_stall_is_no_fault_of_a_link(stall_s: float) -> None:
    async with watched(per_s=50) as it:
        for _ in range(5):
            await it.clock.jump(stall_s)
            await it.clock.advance(3.0)
        assert it.switches() == []
        assert "DOWN" not in it.turns("fibre") + it.turns("sim")
        assert it.board.view().stalls == 5


async def test_short_bursts_of_loss_seldom_switch() -> None:
    """80 bursts of 0.1 to 0.4 s, nine hours' worth of a bad line, packed into seven minutes."""
    async with watched(seed=5) as it:
        for number in range(80):
            await it.world.apply(Cut("fibre"))
            await it.clock.advance(0.1 + 0.3 * (number % 10) / 9)
            await it.world.apply(Heal("fibre"))
            await it.clock.advance(5.0 + 0.013 * number)
        assert it.switches() == []


async def test_a_window_drains_its_link_before_it_begins_and_holds_it_after_its_end() -> None:
    start = 1_795_000_000.0 + 320.0
    window = Window("w1", "fibre", Wall(start), Wall(start + 100.0))
    async with watched(windows=(window,)) as it:
        await it.clock.advance(16.0)
        assert it.board.state("fibre").state == "UP"
        await it.clock.advance(2.0)
        assert it.board.state("fibre").state == "DRAINING"
        assert it.board.standing(TENANT, "gpc").links == ("sim", "fibre")
        await it.clock.advance(420.0 - 21.0 + 2.0)
        assert it.board.state("fibre").state == "PROBATION"
        await it.clock.advance(61.0)
        assert it.turns("fibre") == ["UP", "DRAINING", "PROBATION", "UP"]
        assert it.modes() == ["BACKUP"]
        await it.clock.advance(66.0)
        assert it.modes() == ["BACKUP", "NORMAL"]


async def test_a_draining_link_is_taken_when_it_is_all_there_is() -> None:
    window = Window("w1", "fibre", Wall(1_795_000_000.0), Wall(1_795_009_000.0))
    async with watched(windows=(window,)) as it:
        await it.world.apply(Cut("sim"))
        await it.clock.advance(15.0)
        assert it.board.standing(TENANT, "gpc").links == ("fibre",)


async def test_a_link_that_broke_in_its_window_comes_back_only_proven() -> None:
    window = Window("w1", "fibre", Wall(1_795_000_010.0), Wall(1_795_000_100.0), drain_s=5.0)
    async with watched(windows=(window,)) as it:
        await it.clock.advance(20.0)
        await it.world.apply(Cut("fibre"))
        await it.clock.advance(150.0)
        assert it.board.state("fibre").state == "DOWN"
        await it.world.apply(Heal("fibre"))
        await it.clock.advance(63.0)
        assert it.board.state("fibre").state == "UP"


async def test_a_pinned_link_comes_first_while_it_works() -> None:
    async with watched() as it:
        assert it.board.standing(TENANT, "gpc", "sim").links == ("sim", "fibre")
        await it.world.apply(Cut("sim"))
        await it.clock.advance(15.0)
        assert it.board.standing(TENANT, "gpc", "sim").links == ("fibre",)


async def test_watchers_hear_each_change_until_they_leave() -> None:
    async with watched() as it:
        heard: list[float] = []
        leave = it.board.watch_state(lambda: heard.append(it.clock.now()))
        await it.world.apply(Cut("fibre"))
        await until_down(it, "fibre")
        assert heard
        leave()
        count = len(heard)
        await it.world.apply(Heal("fibre"))
        await it.clock.advance(70.0)
        assert len(heard) == count


async def test_a_path_is_proven_by_a_success_and_ineligible_by_a_refusal_elsewhere() -> None:
    async with watched() as it:
        it.board.saw_status(TENANT, "gpc", "fhir", "fibre", 200, 1)
        it.board.saw_status(TENANT, "gpc", "fhir", "sim", 403, 1)
        standing = it.board.standing(TENANT, "gpc", root="fhir")
        assert standing.proven == {"fibre"}
        assert standing.ineligible == {"sim"}
        assert standing.links == ("fibre",)
        assert it.board.standing(TENANTS[1], "gpc", root="fhir").links == ("fibre", "sim")
        assert it.board.standing(TENANT, "gpc", root="other").proven == frozenset()
        await it.clock.advance(901.0)
        assert it.board.standing(TENANT, "gpc").links == ("fibre", "sim")


async def test_started_in_the_middle_of_an_outage_the_links_are_soon_known_dead() -> None:
    async with watched(weather=(Cut("fibre"), Cut("sim")), warm_s=0.0) as it:
        assert await until_down(it, "fibre", "sim") < 2.0
        assert it.board.standing(TENANT, "gpc").mode == "STANDALONE"


async def test_an_outage_of_both_links_is_not_blamed_on_the_upstream_afterwards() -> None:
    async with watched(per_s=20) as it:
        for link in ("fibre", "sim"):
            await it.world.apply(Cut(link))
        await it.clock.advance(4.0)
        for link in ("fibre", "sim"):
            await it.world.apply(Heal(link))
        await it.clock.advance(10.0)
        assert "STANDALONE" in it.modes()
        assert it.modes()[-1] in ("NORMAL", "BACKUP")
        assert it.judged() == []


async def test_a_short_gap_on_both_links_is_not_blamed_on_the_upstream_afterwards() -> None:
    async with watched(per_s=50, patience_s=0.6) as it:
        for _ in range(5):
            for link in ("fibre", "sim"):
                await it.world.apply(Cut(link))
            await it.clock.advance(1.0)
            for link in ("fibre", "sim"):
                await it.world.apply(Heal(link))
            await it.clock.advance(1.0)
        assert it.modes() == []
        assert it.judged() == []


async def test_the_view_shows_links_modes_verdicts_and_switches() -> None:
    async with watched() as it:
        await it.world.apply(Cut("fibre"))
        await it.clock.advance(5.0)
        view = it.board.view()
        fibre, sim = view.links
        assert (fibre.state, fibre.cause, sim.state) == ("DOWN", "BLACKHOLE", "UP")
        assert view.active == "sim"
        assert (view.switches, view.last_switch is not None) == (1, True)
        (verdict,) = view.verdicts
        assert verdict.kind == "BLACKHOLE"
        assert dict(verdict.evidence)["targets"] == 2
        assert sim.rtt_ms == pytest.approx(30.0)
        assert len(view.modes) == 2


async def test_tasks_end_when_the_watch_is_cancelled() -> None:
    before = len(asyncio.all_tasks())
    async with watched(per_s=10) as it:
        await it.clock.advance(1.0)
    assert len(asyncio.all_tasks()) == before


async def test_links_that_were_dead_when_the_last_run_ended_are_not_waited_for() -> None:
    clock = SimClock()
    links = (Link("fibre", 1), Link("sim", 2))
    dead = {"fibre": ("DOWN", "BLACKHOLE"), "sim": ("PROBATION", "BLACKHOLE")}
    board = Board(links, {"gpc": ("B81001",)}, LinkRules(), (), clock, lambda told: None, dead)

    board.tick()
    assert board.standing("B81001", "gpc").links == ()
    assert board.standing("B81001", "gpc").mode == "STANDALONE"

    await clock.advance(0.1)
    sent = clock.now()
    await clock.advance(0.05)
    board.see(Sample("sim", "anchor", "http", True, sent, clock.now(), anchor=True, rtt_ms=50.0))
    board.tick()
    assert board.standing("B81001", "gpc").links == ("sim",)
    assert board.view().switches == 0


async def test_a_metered_standby_that_just_died_is_asked_fast_and_later_seldom() -> None:
    clock, rules = SimClock(), LinkRules()
    links = (Link("fibre", 1), Link("sim", 2, metered=True))
    board = Board(links, {"gpc": ("B81001",)}, rules, (), clock, lambda told: None,
                  {"sim": ("DOWN", "BLACKHOLE")})

    def fibre_is_well() -> None:
        board.see(Sample("fibre", "anchor", "http", True, clock.now(), clock.now(), anchor=True,
                         rtt_ms=9.0))
        board.tick()

    await clock.advance(1.0)
    fibre_is_well()
    assert board.pace("sim") == "busy"
    await clock.advance(EAGER_S)
    fibre_is_well()
    assert board.pace("sim") == "idle"


async def test_a_returning_link_takes_its_reads_by_number_and_the_mode_follows_last() -> None:
    async with watched() as it:
        await it.world.apply(Cut("fibre"))
        await until_down(it, "fibre")
        await it.world.apply(Heal("fibre"))
        while it.board.state("fibre").state != "UP":
            await it.clock.advance(0.25)

        def first(serial: int, traffic: Traffic = "read") -> str:
            return it.board.standing(TENANT, "gpc", serial=serial, traffic=traffic,
                                     asking=False).links[0]

        def share() -> int:
            return sum(first(serial) == "fibre" for serial in range(1, 1001))

        assert (it.board.active(), share()) == ("sim", 0)
        assert it.board.returning() == {"fibre"}
        await it.clock.advance(6.0)
        assert it.board.active() == "fibre"
        assert share() == pytest.approx(10, abs=1)
        await it.clock.advance(10.0)
        assert share() == pytest.approx(100, abs=1)
        await it.clock.advance(20.0)
        assert (share(), first(1, "booking"), first(1, "write")) == (1000, "sim", "sim")
        await it.clock.advance(10.0)
        assert (first(1, "booking"), first(1, "write")) == ("fibre", "sim")
        assert it.board.links("tunnel") == ("sim", "fibre")
        assert it.modes() == ["BACKUP"]
        await it.clock.advance(23.0)
        assert first(1, "write") == "fibre"
        assert it.board.links("tunnel") == ("fibre", "sim")
        assert it.modes() == ["BACKUP", "NORMAL"]
        assert [each.link for each in it.board.clearing()] == ["sim"]


async def test_a_ramp_that_fails_goes_back_to_probation_as_an_episode() -> None:
    async with watched() as it:
        await it.world.apply(Cut("fibre"))
        await until_down(it, "fibre")
        await it.world.apply(Heal("fibre"))
        while it.board.active() != "fibre":
            await it.clock.advance(0.25)
        episodes = len(it.board.state("fibre").episodes)
        for _ in range(3):
            it.board.completed("fibre", "gpc", "read", "slots",
                               Completion(it.clock.now(), 0.2, False))
        await it.clock.advance(0.5)
        assert it.board.state("fibre").state == "PROBATION"
        assert it.board.state("fibre").cause == "ROLLED_BACK"
        assert len(it.board.state("fibre").episodes) == episodes + 1
        assert it.board.active() == "sim"


async def test_a_ramp_ends_at_once_when_its_backup_dies() -> None:
    async with watched() as it:
        await it.world.apply(Cut("fibre"))
        await until_down(it, "fibre")
        await it.world.apply(Heal("fibre"))
        while it.board.state("fibre").state != "UP":
            await it.clock.advance(0.25)
        await it.world.apply(Cut("sim"))
        await until_down(it, "sim")
        assert it.board.standing(TENANT, "gpc", traffic="write").links == ("fibre",)
        assert it.board.active() == "fibre"


async def test_a_class_leaves_a_link_that_fails_it_and_the_link_is_impaired() -> None:
    async with watched() as it:
        for step in range(60):
            for link in ("fibre", "sim"):
                it.board.completed(link, "gpc", "read", "slots", Completion(
                    it.clock.now(), 0.02 if step % 3 else 0.1,
                    link == "sim" or step % 3 > 0, 2000))
            await it.clock.advance(0.25)
        assert it.board.state("fibre").state == "IMPAIRED"
        assert it.board.standing(TENANT, "gpc", route="slots").links == ("sim", "fibre")
        assert it.board.standing(TENANT, "gpc", traffic="stream").links == ("fibre", "sim")
        assert it.board.active() == "fibre"
        assert it.switches() == []
        assert it.modes() == []


async def test_an_upstream_that_is_down_costs_no_link_its_class() -> None:
    async with watched(per_s=20.0) as it:
        await it.world.apply(UpstreamGone("gpc", True))
        for step in range(120):
            it.board.completed("fibre", "gpc", "read", "slots", Completion(
                it.clock.now(), 0.1, step < 8, 2000))
            await it.clock.advance(0.25)
        assert it.board.state("fibre").state == "UP"
        assert it.board.standing(TENANT, "gpc", route="slots").links[0] == "fibre"


async def test_each_trouble_of_a_link_is_an_episode_and_a_brown_out_one_a_second() -> None:
    async with watched() as it:
        assert it.board.episode("fibre") == 0
        await it.world.apply(Cut("fibre"))
        await it.clock.advance(0.8)
        assert it.board.episode("fibre") == 1
        await it.world.apply(Heal("fibre"))
        await it.clock.advance(5.0)
        assert it.board.episode("fibre") == 1
        await it.world.apply(Cut("fibre"))
        await it.clock.advance(0.8)
        assert it.board.episode("fibre") == 2
        assert it.board.episode("sim") == 0


async def test_sends_that_fail_while_the_link_is_heard_are_episodes_until_their_class_has_left(
        ) -> None:
    async with watched() as it:
        await it.clock.advance(2.0)
        told: list[float] = []
        it.board.watch_state(lambda: told.append(it.clock.now()))
        for step in range(100):
            lost = step % 4 == 0
            it.board.completed("fibre", "gpc", "read", "slots", Completion(
                it.clock.now(), 0.1 if lost else 0.02, not lost, 2000))
            it.board.completed("sim", "gpc", "read", "slots", Completion(
                it.clock.now(), 0.02, True, 2000))
            await it.clock.advance(0.05)
            if it.board.standing(TENANT, "gpc", route="slots").links[0] == "sim":
                break
        browned = it.board.browned_at("fibre")
        assert browned is not None
        assert it.board.episode("fibre") >= 2  # one while it lasts, one for what it leaves behind
        assert told
        after = it.board.episode("fibre")
        await it.clock.advance(5.0)
        assert it.board.episode("fibre") == after
        assert it.board.browned_at("sim") is None


def ladder(it: Watched, passes: int) -> list[Sample]:
    now = it.clock.now()
    return [Sample("fibre", "echo", "size", size <= passes, now, now, True, size=size)
            for size in LADDER]


async def test_a_ladder_is_judged_whole_so_that_death_and_return_are_no_hole() -> None:
    async with watched() as it:
        for passes in (1500, 0, 1500, 0, 1500):
            await it.clock.advance(1.0)
            it.board.climbed(ladder(it, passes))
        assert not [each for each in it.judged() if each[0] == "MTU_HOLE"]
        await it.clock.advance(1.0)
        it.board.climbed(ladder(it, 1200))
        assert it.board.ails("fibre", "MTU_HOLE")
        assert not it.board.ails("sim", "MTU_HOLE")


async def test_a_portal_that_answers_for_one_upstream_moves_that_one_and_no_read_goes_there(
        ) -> None:
    async with watched(upstreams=("gpc", "bars")) as it:
        it.board._shown.provable = frozenset({"gpc"})
        await it.clock.advance(2.0)
        for _ in range(5):
            sent_at = it.clock.now()
            await it.clock.advance(0.05)
            it.board.saw_foreign("fibre", "gpc", sent_at)
            it.board.see(Sample("sim", "gpc", "request", True, sent_at, it.clock.now(),
                                rtt_ms=50.0, detail="200"))
        await it.clock.advance(1.0)
        assert ("CAPTIVE", "fibre", "gpc", False) in it.judged()
        for _ in range(40):
            assert it.board.standing(TENANT, "gpc").links == ("sim", "fibre")
            await it.clock.advance(1.0)
        assert it.board.standing(TENANT, "bars").links[0] == "fibre"
        assert it.switches() == []


async def test_an_upstream_that_asked_for_it_is_left_alone_until_then() -> None:
    async with watched() as it:
        assert not it.board.standing(TENANT, "gpc").resting
        it.board.rest(TENANT, "gpc", 7.0)
        it.board.rest(TENANT, "gpc", 2.0)
        assert it.board.standing(TENANT, "gpc").resting
        assert not it.board.standing("B81002", "gpc").resting
        await it.clock.advance(6.0)
        assert it.board.standing(TENANT, "gpc").resting
        await it.clock.advance(2.1)
        assert not it.board.standing(TENANT, "gpc").resting
        it.board.rest(TENANT, "gpc", 300.0)
        it.board.saw_status(TENANT, "gpc", "", "fibre", 200, 1)  # a limit on a rate lets most pass
        assert it.board.standing(TENANT, "gpc").resting


async def test_a_slow_upstream_is_named_moves_nothing_and_degrades_its_mode() -> None:
    async with watched(per_s=10.0) as it:
        await it.clock.advance(10.0)
        it.world.upstreams["gpc"].work_s = 1.5
        await it.clock.advance(6.0)
        assert ("UPSTREAM_SLOW", "", "gpc", False) in it.judged()
        assert it.modes() == ["DEGRADED"]
        standing = it.board.standing(TENANT, "gpc")
        assert (standing.mode, standing.cause) == ("DEGRADED", "UPSTREAM_SLOW")
        assert not standing.upstream_down
        assert standing.links[0] == "fibre"
        it.world.upstreams["gpc"].work_s = 0.02
        await it.clock.advance(5.0)
        assert it.modes() == ["DEGRADED", "NORMAL"]
        assert it.switches() == []


def wrong_peer(it: Watched, link: str, upstream: str, ok: bool = False) -> None:
    """One handshake with an upstream just now: with a wrong certificate, or a whole answer."""
    now = it.clock.now()
    layer, detail = ("http", "") if ok else ("tls", "certificate")
    it.board.see(Sample(link, upstream, layer, ok, now, now, detail=detail))  # type: ignore[arg-type]


async def test_an_interceptor_who_spares_the_anchors_stays_out_until_the_right_certificate_shows(
        ) -> None:
    async with watched(upstreams=("gpc", "bars")) as it:
        it.board._shown.provable = frozenset({"gpc", "bars"})
        for upstream in ("gpc", "bars"):
            wrong_peer(it, "sim", upstream)
        await it.clock.advance(60.0)
        assert it.board.state("sim").state == "QUARANTINED"
        assert it.turns("sim").count("QUARANTINED") == 1
        for upstream in ("gpc", "bars"):
            wrong_peer(it, "sim", upstream, ok=True)
        await it.clock.advance(3.0)
        assert it.board.state("sim").state == "PROBATION"
        assert it.switches() == []


async def test_no_read_is_the_one_that_tries_a_path_with_a_wrong_certificate_again() -> None:
    async with watched(upstreams=("gpc", "bars")) as it:
        wrong_peer(it, "fibre", "gpc")
        await it.clock.advance(1.0)
        for _ in range(40):
            assert it.board.standing(TENANT, "gpc").links == ("sim", "fibre")
            await it.clock.advance(1.0)
        assert it.board.standing(TENANT, "bars").links[0] == "fibre"


def canary(it: Watched, link: str, upstream: str) -> None:
    """One canary just came back over ``link``."""
    now = it.clock.now()
    it.board.see(Sample(link, upstream, "http", True, now, now, rtt_ms=20.0))


async def probation(it: Watched) -> None:
    await it.world.apply(Cut("fibre"))
    await it.clock.advance(5.0)
    await it.world.apply(Heal("fibre"))
    await it.clock.advance(5.0)
    assert it.board.state("fibre").state == "PROBATION"


async def test_a_hold_does_not_end_before_the_canaries_came_over_the_link_too() -> None:
    async with watched(upstreams=("gpc", "bars", "pds", "mesh")) as it:
        for upstream in ("gpc", "bars", "mesh"):
            canary(it, "sim", upstream)
        canary(it, "fibre", "gpc")  # before it died
        await probation(it)
        await it.clock.advance(120.0)
        assert it.board.state("fibre").state == "PROBATION"
        canary(it, "fibre", "gpc")
        await it.clock.advance(2.0)
        assert it.board.state("fibre").state == "PROBATION", "one of two"
        canary(it, "fibre", "bars")
        await it.clock.advance(2.0)
        assert it.board.state("fibre").state == "UP", "nobody brings pds, and mesh is the fourth"


async def test_a_canary_that_never_comes_keeps_no_link_out_for_ever() -> None:
    async with watched() as it:
        canary(it, "sim", "gpc")
        await probation(it)
        await it.clock.advance(590.0)
        assert it.board.state("fibre").state == "PROBATION"
        await it.clock.advance(10.0)
        assert it.board.state("fibre").state == "UP"


async def test_a_path_whose_fault_is_named_keeps_its_link_out_no_longer() -> None:
    async with watched() as it:
        canary(it, "sim", "gpc")
        await probation(it)
        await it.clock.advance(60.0)
        for _ in range(4):
            sent_at = it.clock.now()
            await it.clock.advance(1.0)
            it.board.see(Sample("fibre", "gpc", "request", False, sent_at, it.clock.now(),
                                detail="reset"))
            canary(it, "sim", "gpc")
        await it.clock.advance(3.0)
        assert ("ROUTE_FAULT", "fibre", "gpc", False) in it.judged()
        await it.clock.advance(60.0)
        assert it.board.state("fibre").state == "UP"


async def test_where_no_canary_looks_the_anchors_alone_let_a_link_come_back() -> None:
    async with watched(upstreams=("gpc", "bars")) as it:
        for upstream in ("gpc", "bars"):
            wrong_peer(it, "sim", upstream)
        await it.clock.advance(30.0)
        assert it.turns("sim")[-2:] == ["QUARANTINED", "PROBATION"]


async def test_upstreams_that_show_a_wrong_certificate_everywhere_condemn_no_link() -> None:
    async with watched(upstreams=("gpc", "bars", "pds")) as it:
        for link in ("sim", "fibre"):
            for upstream in ("gpc", "bars"):
                wrong_peer(it, link, upstream)
        await it.clock.advance(120.0)
        assert it.board.state("fibre").state == "UP"
        assert it.switches() == []
        assert ("TLS_INTERCEPT", "fibre", "gpc", False) in it.judged()


async def test_a_link_that_left_the_order_is_told_as_mute_too() -> None:
    """A send may still be under way over it."""
    async with watched() as it:
        await it.world.apply(Cut("sim"))
        await it.clock.advance(10.0)
        it.board.see(Sample("sim", "gpc", "ack", False, Mono(it.clock.now() - 0.09),
                            it.clock.now(), detail="unacked"))
        await it.clock.advance(1.0)
        standing = it.board.standing(TENANT, "gpc", asking=False)
        assert (standing.links, standing.mute) == (("fibre",), frozenset({"sim"}))


async def test_a_read_in_flight_is_told_when_the_last_link_goes_mute() -> None:
    """A gate turns before the board judges: who compared from there on was never told."""
    async with watched() as it:
        await it.world.apply(Cut("fibre"))
        await it.world.apply(Cut("sim"))
        await it.clock.advance(0.4)  # echoes are overdue on both, which was told
        heard: list[frozenset[str]] = []
        it.board.watch_state(
            lambda: heard.append(it.board.standing(TENANT, "gpc", asking=False).mute))
        for link in ("fibre", "sim"):
            sent = Mono(it.clock.now() - 0.09)
            it.board.see(Sample(link, "gpc", "ack", False, sent, it.clock.now(),
                                detail="unacked"))
            await it.clock.advance(0.03)
        assert frozenset({"fibre", "sim"}) in heard


async def test_what_the_course_doubles_is_doubled_in_the_standing_its_race_begins_with(
        monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def doubles(_: Course, *told: object) -> bool:
        asked.append(told)
        return told[2] == "read" and told[4] == 7

    monkeypatch.setattr(Course, "doubles", doubles)
    async with watched() as it:
        def double(traffic: Traffic, serial: int) -> bool:
            return it.board.standing("B81001", "gpc", traffic=traffic, serial=serial,
                                     route="slots").double

        assert [double("read", 7), double("read", 8), double("write", 7)] == [True, False, False]
    assert asked[0] == (("fibre", "sim"), "gpc", "read", "slots", 7)
