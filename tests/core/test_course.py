"""Where traffic goes beside the states of links: classes that left, ramps, backups to clear."""

import math
from dataclasses import replace
from random import Random

import pytest

from gateway.core.course import Course, Look, RampTold, SweepTold, Told, completions, reach_of
from gateway.core.failback import FailbackRules, Flows
from gateway.core.hedge import Attempt, Plan, Race, Won
from gateway.core.instant import Mono, Wall
from gateway.core.link import Layer, LinkState, LinkTurned, Sample
from gateway.core.message import Arrived, NeverLeft, NoAnswer, Outcome, Reply
from gateway.core.steer import ClassMoved, Completion, Reach, SteerRules

BOTH = ("fibre", "sim")
REACHES = {"fibre": Reach(0.02, 0.022), "sim": Reach(0.05, 0.06)}
UP: dict[str, LinkState] = {"fibre": "UP", "sim": "UP"}
LOOK = Look(BOTH, UP, REACHES)
SURGERY = Wall(1_795_000_000.0)  # a Wednesday, 10:26


def at(seconds: float) -> Mono:
    return Mono(1000.0 + seconds)


def course(**rules: float) -> Course:
    return Course(("sim",), SteerRules(), FailbackRules(**{"wait_most_s": 0.0, **rules}), at(0))  # type: ignore[arg-type]


def turned(link: str, before: LinkState, after: LinkState, now: float, cause: str = ""
           ) -> LinkTurned:
    return LinkTurned(link, before, after, cause, at(now), 1.0)


def run(it: Course, begin: float, end: float, look: Look = LOOK, *, load: float = 0.0,
        fails: frozenset[str] = frozenset(), took: dict[str, float] | None = None) -> list[Told]:
    """Look four times a second; ``load`` reads a second go where the course sends them."""
    told: list[Told] = []
    serial = round(begin * 1000)
    for step in range(round((end - begin) * 4)):
        now = begin + step / 4
        for _ in range(round(load / 4)):
            serial += 1
            behind = it.behind("gpc", "read", "slots", serial)
            link = next((each for each in BOTH if each not in behind), "fibre")
            it.completed(link, "gpc", "read", "slots", Completion(
                at(now), 0.1 if link in fails else (took or {}).get(link, 0.02),
                link not in fails, 2000))
        told += it.look(look, at(now))
    return told


def back_from_the_dead(it: Course, now: float = 0.0, look: Look = LOOK) -> None:
    it.turned(turned("fibre", "PROBATION", "UP", now), look)


# --- ramps

def test_a_link_that_has_passed_its_hold_takes_nothing_at_a_stroke() -> None:
    it = course()
    back_from_the_dead(it)
    assert it.held() == it.returning() == {"fibre"}
    assert it.behind("gpc", "read", "slots", 7) == {"fibre"}


def test_it_takes_everything_in_a_minute_and_then_the_backup_is_cleared() -> None:
    it = course()
    back_from_the_dead(it)
    told = [each for each in run(it, 0, 70, replace(LOOK, warm=("fibre",)), load=40)
            if isinstance(each, RampTold)]
    assert [(each.stage, each.share, each.reason) for each in told] == [
        ("WAITING", 0.0, ""), ("WARMING", 0.0, ""), ("READS", 0.01, ""), ("READS", 0.1, ""),
        ("READS", 0.5, ""), ("READS", 1.0, ""), ("BOOKINGS", 1.0, ""), ("WRITES", 1.0, ""),
        ("WRITES", 1.0, "done")]
    assert told[-1].lasted_s == pytest.approx(60.25)
    assert it.held() == it.returning() == it.behind("gpc", "write", "", 1) == frozenset()
    assert [each.link for each in it.clearing()] == ["sim"]


def test_telemetry_follows_with_the_first_step_and_writes_with_the_last() -> None:
    it = course()
    back_from_the_dead(it)
    run(it, 0, 2, replace(LOOK, warm=("fibre",)))
    assert it.held() == frozenset()
    assert it.returning() == {"fibre"}
    assert it.behind("gpc", "write", "", 0) == it.behind("gpc", "booking", "", 0) == {"fibre"}


def test_a_link_that_fails_one_read_in_ten_is_left_again_and_its_episode_counted() -> None:
    it = course()
    back_from_the_dead(it)
    told = run(it, 0, 40, load=40, fails=frozenset({"fibre"}))
    last = [each for each in told if isinstance(each, RampTold)][-1]
    assert (last.reason, last.back.fails) == ("errors", 3)
    assert it.is_rolled_back("fibre")
    assert it.returning() == frozenset()
    it.turned(turned("fibre", "UP", "PROBATION", 41, "ROLLED_BACK"), LOOK)
    assert not it.is_rolled_back("fibre")
    assert all(isinstance(each, ClassMoved) and each.back for each in it.look(LOOK, at(42)))
    assert it.look(LOOK, at(43)) == ()


def test_a_link_that_is_slower_by_half_is_left_again() -> None:
    it = course()
    back_from_the_dead(it)
    told = run(it, 0, 60, load=100, took={"fibre": 0.2, "sim": 0.05})
    assert [each.reason for each in told if isinstance(each, RampTold) and each.reason] == ["slow"]


def test_a_backup_that_dies_ends_the_ramp_and_nothing_waits() -> None:
    it = course()
    back_from_the_dead(it)
    run(it, 0, 3)
    told = run(it, 3, 4, replace(LOOK, states={"fibre": "UP", "sim": "DOWN"}))
    assert [each.reason for each in told if isinstance(each, RampTold)] == ["needless"]
    assert it.behind("gpc", "write", "", 1) == frozenset()


def test_a_returning_link_that_dies_is_simply_gone() -> None:
    it = course()
    back_from_the_dead(it)
    run(it, 0, 3)
    it.turned(turned("fibre", "SUSPECT", "DOWN", 3, "BLACKHOLE"), LOOK)
    assert it.returning() == frozenset()
    assert [each.reason for each in it.look(LOOK, at(4)) if isinstance(each, RampTold)] == ["lost"]


def test_no_ramp_where_nothing_else_is_steady_or_where_a_better_link_carries() -> None:
    backups: tuple[LinkState, ...] = ("SUSPECT", "DOWN", "PROBATION")
    for backup in backups:
        it = course()
        back_from_the_dead(it, look=replace(LOOK, states={"fibre": "UP", "sim": backup}))
        assert it.returning() == frozenset()
    it = course()
    it.turned(turned("sim", "PROBATION", "UP", 0), LOOK)
    assert it.returning() == frozenset()


def test_in_surgery_a_busy_practice_stays_on_its_healthy_backup_until_a_quiet_minute() -> None:
    look = replace(LOOK, wall=SURGERY, warm=("fibre",),
                   reaches={"fibre": REACHES["sim"], "sim": REACHES["fibre"]})
    it = course(wait_most_s=1800.0)
    run(it, 0, 120, look, load=20)
    back_from_the_dead(it, 120, look)
    run(it, 120, 300, look, load=20)
    assert [ramp.stage for ramp in it.ramps()] == ["WAITING"]
    run(it, 300, 360, look, load=4)
    assert [ramp.stage for ramp in it.ramps()] != ["WAITING"]


def test_what_left_a_link_that_died_comes_back_with_its_ramp_and_not_at_a_stroke() -> None:
    it = course()
    run(it, 0, 60, load=20)
    run(it, 60, 70, LOSSY, load=20, fails=frozenset({"fibre"}))
    assert it.behind("gpc", "read", "slots", 1) == {"fibre"}
    dead: dict[str, LinkState] = {"fibre": "DOWN", "sim": "UP"}
    it.turned(turned("fibre", "IMPAIRED", "DOWN", 70, "BLACKHOLE"), LOOK)
    told = run(it, 70, 130, replace(LOOK, states=dead), load=20)
    assert {(each.kind, each.before, each.after, each.back) for each in told
            if isinstance(each, ClassMoved)} == {
        ("small", "fibre", "fibre", True), ("booking", "fibre", "fibre", True)}
    back_from_the_dead(it, 130)
    run(it, 130, 145, replace(LOOK, warm=("fibre",)), load=20)
    shares = [sum(not it.behind("gpc", "read", "slots", n) for n in range(100))]
    run(it, 145, 200, replace(LOOK, warm=("fibre",)), load=20)
    shares.append(sum(not it.behind("gpc", "read", "slots", n) for n in range(100)))
    assert 1 <= shares[0] <= 12
    assert shares[1] == 100


def test_a_backup_that_carried_until_the_better_link_was_up_is_not_cleared() -> None:
    it = course()
    early: dict[str, LinkState] = {"fibre": "VALIDATING", "sim": "UP"}
    run(it, 0, 5, replace(LOOK, states=early), load=20)
    told = run(it, 5, 30, load=20)
    assert it.clearing() == ()
    assert told == []


def test_a_backup_that_a_brown_out_filled_is_cleared_when_the_classes_are_back() -> None:
    it = course()
    run(it, 0, 60, load=20)
    run(it, 60, 70, LOSSY, load=20, fails=frozenset({"fibre"}))
    back_from_the_dead(it, 70)  # a ramp that is done while the classes are away
    run(it, 70, 130, replace(LOSSY, warm=("fibre",)))
    assert it.clearing() == ()
    assert it.behind("gpc", "read", "slots", 1) == {"fibre"}
    told = run(it, 130, 500, load=20)
    assert [each.after for each in told if isinstance(each, ClassMoved)] == ["fibre"] * 2
    assert [each.link for each in it.clearing()] == ["sim"]


# --- classes

LOSSY = Look(BOTH, UP, {"fibre": Reach(0.02, 0.03, 0.2), "sim": REACHES["sim"]},
             browned=("fibre",))


def test_small_reads_leave_a_lossy_link_within_five_seconds() -> None:
    it = course()
    run(it, 0, 60, load=100)
    told: list[Told] = []
    for tenth in range(50):
        now = 60 + tenth / 10
        for number in range(10):
            behind = it.behind("gpc", "read", "slots", 1)
            link = "sim" if "fibre" in behind else "fibre"
            it.completed(link, "gpc", "read", "slots",
                         Completion(at(now), 0.1, link == "sim" or number > 2, 2000))
        told += it.look(LOSSY, at(now))
    moves = [each for each in told if isinstance(each, ClassMoved)]
    assert moves[0].kind == "small"
    assert moves[0].at <= at(65)
    assert it.is_costly("fibre")
    assert it.behind("gpc", "read", "slots", 1) == {"fibre"}


def test_small_reads_leave_a_lossy_link_although_being_doubled_they_hide_its_loss() -> None:
    it = course()
    run(it, 0, 60, load=100)
    told = run(it, 60, 65, LOSSY, load=100)
    moves = [each for each in told if isinstance(each, ClassMoved)]
    assert [(each.kind, each.cause) for each in moves] == [
        ("small", "BROWNOUT"), ("booking", "BROWNOUT")]


def test_one_read_in_four_is_not_doubled_so_that_loss_shows_and_its_class_leaves() -> None:
    it = course()
    run(it, 0, 60, load=100)
    told, dice, doubled = list[Told](), Random(4), 0
    for number in range(500):
        now, lost = 60 + number / 100, dice.random() < 0.2
        both = it.doubles(BOTH, "gpc", "read", "slots", number)
        doubled += both
        if not both:  # the first of two that left together says nothing: see ``completions``
            it.completed("fibre", "gpc", "read", "slots", Completion(
                at(now), 0.1 if lost else 0.02, not lost, 2000))
        if both or lost:
            it.completed("sim", "gpc", "read", "slots", Completion(at(now), 0.02, True, 2000))
        told += it.look(LOOK, at(now))
    assert doubled > 200
    moves = [each for each in told if isinstance(each, ClassMoved)]
    assert [each.kind for each in moves] == ["small", "booking"]
    assert moves[0].at < at(64)


def test_a_lossy_link_without_echoes_is_left_within_five_seconds_by_what_its_sends_say() -> None:
    it = course()
    run(it, 0, 60, load=100)
    told: list[Told] = []
    for number in range(500):
        now = 60 + number / 100
        lost = number % 4 == 0
        it.completed("fibre", "gpc", "read", "slots", Completion(
            at(now), 0.1 if lost else 0.02, not lost, 2000))
        if lost:
            it.completed("sim", "gpc", "read", "slots", Completion(at(now), 0.02, True, 2000))
        told += it.look(LOOK, at(now))
    moves = [each for each in told if isinstance(each, ClassMoved)]
    assert [(each.kind, each.cause) for each in moves] == [
        ("small", "BROWNOUT"), ("booking", "BROWNOUT")]
    assert moves[0].at < at(63.5)


@pytest.mark.parametrize(("burst", "silent"), [(True, True), (True, False), (False, True)])
def test_a_burst_of_silence_is_no_brown_out(burst: bool, silent: bool) -> None:
    it = course()
    run(it, 0, 60, load=100)
    browned: set[str] = set()
    for number in range(200):
        now = 60 + number / 100
        lost = 50 <= number < 57 if burst else number % 4 == 0  # what a hedge outlived, or all
        it.completed("fibre", "gpc", "read", "slots", Completion(
            at(now), 0.1 if lost else 0.02, not lost, 2000), silent)
        it.completed("sim", "gpc", "read", "slots", Completion(at(now), 0.02, True, 2000))
        it.look(LOOK, at(now))
        browned |= it.browned
    assert browned == set()
    for number in range(200, 300):
        now = 60 + number / 100
        it.completed("fibre", "gpc", "read", "slots", Completion(
            at(now), 0.02 if number % 4 else 0.1, number % 4 > 0, 2000))
        it.look(LOOK, at(now))
    assert it.browned == {"fibre"}


@pytest.mark.parametrize("per_s", [2, 3, 5, 20])
def test_a_practice_that_reads_little_is_told_of_a_hole_too(per_s: int) -> None:
    it = course()
    run(it, 0, 60, load=20)
    found = None
    for number in range(10 * per_s):
        now = 60 + number / per_s
        it.completed("fibre", "gpc", "read", "slots", Completion(at(now), 0.1, False))
        it.completed("sim", "gpc", "read", "slots", Completion(at(now), 0.02, True, 2000))
        for step in range(4):
            it.look(LOOK, at(now + step / (4 * per_s)))
        if it.browned and found is None:
            found = now - 60
    assert found is not None
    assert found <= 5.0


def test_loss_that_spares_a_moment_is_a_brown_out_still_and_a_second_is_its_end() -> None:
    it = course()
    run(it, 0, 60, load=100)
    seen: list[tuple[float, bool]] = []
    for number in range(400):
        now = 60 + number / 100
        lost = number % 4 == 0 and number < 150
        it.completed("fibre", "gpc", "read", "slots", Completion(
            at(now), 0.1 if lost else 0.02, not lost, 2000))
        it.completed("sim", "gpc", "read", "slots", Completion(at(now), 0.02, True, 2000))
        it.look(LOOK, at(now))
        seen.append((now, "fibre" in it.browned))
    flagged = [now for now, is_browned in seen if is_browned]
    assert flagged == [now for now, _ in seen if flagged[0] <= now <= flagged[-1]]
    assert flagged[0] < 60.8
    assert 62.5 < flagged[-1] < 63.6


def test_the_class_comes_back_a_minute_after_the_loss_is_over() -> None:
    it = course()
    run(it, 0, 60, load=20)
    run(it, 60, 70, LOSSY, load=20, fails=frozenset({"fibre"}))
    assert it.behind("gpc", "read", "slots", 1) == {"fibre"}
    told = run(it, 70, 500, load=20)
    moves = [each for each in told if isinstance(each, ClassMoved)]
    assert [(each.kind, each.before, each.after, each.back) for each in moves] == [
        ("small", "sim", "fibre", True), ("booking", "sim", "fibre", True)]
    assert at(130) <= moves[0].at <= at(135)  # what it cost in the loss is no measure any more
    assert not it.is_costly("fibre")


def test_a_gap_of_half_a_second_is_no_brown_out() -> None:
    it = course()
    run(it, 0, 60, load=100)
    told: list[Told] = []
    for number in range(500):
        now = 60 + number / 100
        lost = 100 <= number < 150
        it.completed("fibre", "gpc", "read", "slots", Completion(
            at(now), 0.1 if lost else 0.02, not lost, 2000))
        if lost:
            it.completed("sim", "gpc", "read", "slots", Completion(at(now), 0.02, True, 2000))
        told += it.look(LOOK, at(now))
    assert told == []


def test_a_slow_upstream_moves_no_class() -> None:
    it = course()
    run(it, 0, 60, load=100)
    told = run(it, 60, 180, load=100, took={"fibre": 2.0, "sim": 2.0})
    assert told == []
    assert not it.is_costly("fibre")


def test_large_reads_stay_where_small_ones_leave() -> None:
    it = course()
    for _ in range(30):
        it.completed("fibre", "gpc", "read", "record", Completion(at(0), 0.1, True, 400_000))
    run(it, 0.5, 60, load=100)
    run(it, 60, 70, LOSSY, load=100, fails=frozenset({"fibre"}))
    assert it.behind("gpc", "read", "slots", 1) == {"fibre"}
    assert it.behind("gpc", "read", "record", 1) == frozenset()
    assert it.behind("gpc", "tunnel", "", 1) == frozenset()


def test_a_read_is_doubled_only_while_its_own_link_works_badly() -> None:
    it = course()
    run(it, 0, 1, load=100)
    assert not it.doubles(BOTH, "gpc", "read", "slots", 1)
    it.look(LOSSY, at(1))
    assert it.doubles(BOTH, "gpc", "read", "slots", 1)
    assert not it.doubles(("sim", "fibre"), "gpc", "read", "slots", 1)
    assert not it.doubles(BOTH, "gpc", "read", "never-seen", 1)
    it.look(replace(LOSSY, spent=("sim",)), at(2))
    assert not it.doubles(BOTH, "gpc", "read", "slots", 1)


# --- the sweep

def cleared(it: Course) -> None:
    back_from_the_dead(it)
    run(it, 0, 70, replace(LOOK, warm=("fibre",)))
    assert it.clearing()


def test_a_clean_backup_is_told_once() -> None:
    it = course()
    cleared(it)
    assert it.swept("sim", Flows(), at(71)) == "none"
    it.swept("sim", Flows(), at(72))
    assert it.look(LOOK, at(73)) == (SweepTold("sim", 0, at(71), 10.75),)


def test_flows_that_stay_are_told_once_and_once_when_they_are_gone() -> None:
    it = course()
    cleared(it)
    for seconds in (71, 125, 126):
        assert it.swept("sim", Flows(1, 2, 1), at(seconds)) == "idle"
    told = it.look(LOOK, at(127))
    assert [(each.wrong, each.at) for each in told if isinstance(each, SweepTold)] == [
        (4, at(125))]
    it.swept("sim", Flows(), at(130))
    assert [each.wrong for each in it.look(LOOK, at(131)) if isinstance(each, SweepTold)] == [0]


def test_a_backup_that_carries_again_is_not_swept() -> None:
    it = course()
    cleared(it)
    run(it, 70, 71, replace(LOOK, states={"fibre": "DOWN", "sim": "UP"}))
    assert it.clearing() == ()
    assert it.swept("sim", Flows(5, 5, 5), at(900)) == "none"


# --- reading what was seen

def sample(layer: Layer, age: float, rtt_ms: float | None, anchor: bool = True) -> Sample:
    return Sample("fibre", "a", layer, rtt_ms is not None, at(-age - 0.1), at(-age), anchor, rtt_ms)


def test_a_links_reach_is_what_its_echoes_say_of_the_last_ten_seconds() -> None:
    newest_first = [sample("echo", 0.1, 20), sample("tls", 0.2, 900), sample("echo", 0.3, None),
                    sample("request", 0.4, 5, anchor=False), sample("echo", 0.5, 30),
                    *(sample("echo", 0.6, 20) for _ in range(7)), sample("echo", 11, 500)]
    assert reach_of(newest_first, 0.0, at(0)) == Reach(0.02, 0.03, 1 / 30)
    assert reach_of([sample("connect", 1, 40)], 0.0, at(0)) == Reach(0.04, 0.04, 0.0)
    assert reach_of([sample("echo", 1, None)], 0.0, at(0)) is None


def test_a_dead_anchor_is_no_loss_of_its_link() -> None:
    both = [replace(sample("echo", n / 10, 20 if n % 2 else None), target=str(n % 2))
            for n in range(60)]
    told = reach_of(both, 0.0, at(0))
    assert told == Reach(0.02, 0.02, 0.0)


def test_a_standby_that_is_asked_every_half_minute_has_a_reach_all_the_same() -> None:
    seldom = [sample("echo", 30.0 * n, 50 if n != 3 else None) for n in range(1, 20)]
    told = reach_of(seldom, 0.03, at(0))
    assert told == Reach(0.05, 0.05, (1 + 20 * 0.03) / 30)


REPLY = Reply(200, "OK", (), b"x" * 500)


@pytest.mark.parametrize(("outcome", "waited_s"), [
    (None, 0.25),  # it lost its race
    (NoAnswer("fibre", "reset"), math.inf),
    (NoAnswer("fibre", "reset", fresh=False), None),
    (NoAnswer("fibre", "link_down"), None),
    (NeverLeft("fibre", "connect"), math.inf),
    (NeverLeft("fibre", "busy"), None)])
def test_each_send_of_a_race_is_told_with_how_long_it_was_waited_for(
        outcome: Outcome | None, waited_s: float | None) -> None:
    won = Arrived("sim", REPLY, 0.1)
    race = Race(Plan(BOTH, True, 3.0), at(0), BOTH,
                (Attempt("fibre", at(0), outcome), Attempt("sim", at(0.1), won)))
    told = completions(race, Won(won, 2), at(0.25))
    lost = [] if waited_s is None else [("fibre", waited_s, False)]
    assert [(link, each.took_s, each.ok) for link, each in told] == [*lost, ("sim", 0.1, True)]
    assert told[-1][1].size == 500


def test_the_first_of_two_sends_that_left_together_is_told_only_if_it_failed() -> None:
    won = Arrived("sim", REPLY, 0.02)
    for outcome, told_of in ((Arrived("fibre", REPLY, 0.02), ["sim"]), (None, ["sim"]),
                             (NoAnswer("fibre", "reset"), ["fibre", "sim"])):
        race = Race(Plan(BOTH, True, 3.0, duplicate=True), at(0), BOTH, (
            Attempt("fibre", at(0), outcome), Attempt("sim", at(0), won)))
        assert [link for link, _ in completions(race, Won(won, 2), at(0.25))] == told_of
    alone = Race(Plan(BOTH, True, 3.0, duplicate=True), at(0), BOTH, (
        Attempt("sim", at(0), won),))
    assert [link for link, _ in completions(alone, Won(won, 1), at(0.25))] == ["sim"]


def test_a_loser_counts_if_it_had_the_time_that_its_class_usually_takes() -> None:
    it = course()
    run(it, 0, 10, load=20)
    for waited_s in (0.02, 0.03, 0.05, 0.25):
        it.completed("sim", "gpc", "read", "slots", Completion(at(10), waited_s, False))
    (figures,) = [row.recent for row in it.view(BOTH, at(10)).classes
                  if (row.link, row.kind) == ("sim", "small")]
    assert (figures.n, figures.fails) == (2, 2)


def test_an_upstream_that_is_slow_now_and_then_moves_nothing() -> None:
    """One read in ten takes 0.3 s, wherever it goes; each is hedged after 0.25 s."""
    it = course()
    run(it, 0, 60, load=100)
    told: list[Told] = []
    for number in range(6000):
        now = 60 + number / 100
        if number % 10:
            it.completed("fibre", "gpc", "read", "slots", Completion(at(now), 0.02, True, 2000))
        elif number % 100:  # the hedge is quick, and wins
            it.completed("fibre", "gpc", "read", "slots", Completion(at(now), 0.27, False))
            it.completed("sim", "gpc", "read", "slots", Completion(at(now), 0.02, True, 2000))
        else:  # the hedge is slow too
            it.completed("fibre", "gpc", "read", "slots", Completion(at(now), 0.3, True, 2000))
            it.completed("sim", "gpc", "read", "slots", Completion(at(now), 0.05, False))
        told += it.look(LOOK, at(now))
    assert told == []
    assert not it.is_costly("fibre")


def test_who_still_waits_when_nobody_won_says_nothing() -> None:
    race = Race(Plan(BOTH, True, 3.0), at(0), BOTH, (Attempt("fibre", at(0)),))
    assert completions(race, None, at(3)) == ()


def test_an_upstream_that_nobody_reached_says_nothing_of_a_link() -> None:
    """Found by Kent: with the supplier gone, its refusals rolled a ramp back."""
    race = Race(Plan(BOTH, True, 3.0), at(0), BOTH, (
        Attempt("fibre", at(0), NeverLeft("fibre", "connect")),
        Attempt("sim", at(0.1), NeverLeft("sim", "connect"))))
    assert completions(race, None, at(0.2)) == ()
