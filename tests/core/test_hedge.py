"""The race of sends: every rule by direct call, and a seeded walk that no write is doubled."""

from dataclasses import replace
from random import Random
from typing import get_args

import pytest

from gateway.core.hedge import (
    ROUND_PAUSE_S,
    SENDS_MAX,
    UNDER_WAY_MAX,
    Lost,
    Peek,
    Plan,
    Race,
    Start,
    Wait,
    Won,
    begin,
    decide,
)
from gateway.core.instant import Mono
from gateway.core.message import Arrived, Cause, NeverLeft, NoAnswer, Outcome, Reply

T = Mono(100.0)
READ = Plan(("fibre", "sim"), True, 3.0, (("fibre", 0.25), ("sim", 0.25)),
            frozenset({"fibre", "sim"}))
WRITE = Plan(("fibre", "sim"), False, 40.0, (("fibre", 0.25),))


def arrived(link: str, status: int = 200) -> Arrived:
    return Arrived(link, Reply(status, "", ()))


def after(plan: Plan, *outcomes: Outcome, at: Mono = T) -> Race:
    race = begin(plan, T)
    for number, outcome in enumerate(outcomes):
        race = race.started(outcome.link, at).ended(number, outcome)
    return race


def later(seconds: float) -> Mono:
    return Mono(T + seconds)


def test_the_first_send_goes_over_the_best_link() -> None:
    assert decide(begin(READ, T), T) == Start("fibre")


def test_a_whole_reply_wins() -> None:
    assert decide(after(READ, arrived("fibre")), T) == Won(arrived("fibre"), 1)


def test_a_read_is_hedged_when_its_link_has_been_silent_for_the_hedge_time() -> None:
    race = begin(READ, T).started("fibre", T)

    assert decide(race, later(0.1)) == Wait(later(0.25))
    assert decide(race, later(0.25)) == Start("sim")


def test_a_read_that_may_be_doubled_goes_over_two_links_at_once_and_a_write_never() -> None:
    race = begin(replace(READ, duplicate=True), T).started("fibre", T)
    assert decide(race, T) == Start("sim")
    assert decide(race.started("sim", T), T) == Wait(later(3.0))
    write = begin(replace(WRITE, duplicate=True), T).started("fibre", T)
    assert decide(write, T) == Wait(later(40.0))
    one = begin(replace(READ, links=("fibre",), duplicate=True), T).started("fibre", T)
    assert decide(one, T) == Wait(later(3.0))


def test_a_write_is_never_hedged() -> None:
    race = begin(WRITE, T).started("fibre", T)

    assert decide(race, later(20)) == Wait(later(40))


@pytest.mark.parametrize("plan", [READ, WRITE])
def test_what_never_left_goes_over_the_other_link_at_once(plan: Plan) -> None:
    assert decide(after(plan, NeverLeft("fibre", "connect")), T) == Start("sim")


def test_a_read_without_answer_goes_over_the_other_link_at_once() -> None:
    assert decide(after(READ, NoAnswer("fibre", "reset")), T) == Start("sim")


def test_a_write_without_answer_is_lost_and_may_have_arrived() -> None:
    assert decide(after(WRITE, NoAnswer("fibre", "reset")), T) == Lost(True, "reset", 1, "fibre")


def test_a_write_on_a_link_judged_dead_is_given_up_and_may_have_arrived() -> None:
    race = begin(WRITE, T).started("fibre", T).told(("sim",), frozenset({"fibre"}))

    assert decide(race, later(2)) == Lost(True, "link_down", 1, "fibre")


def test_a_read_on_a_link_judged_dead_moves_to_the_other() -> None:
    race = begin(READ, T).started("fibre", T).told(("sim",), frozenset({"fibre"}))

    assert decide(race, later(0.05)) == Start("sim")


def test_a_late_reply_from_a_link_given_up_still_wins() -> None:
    race = begin(READ, T).started("fibre", T).told(("sim",), frozenset({"fibre"}))

    assert decide(race.ended(0, arrived("fibre")), T) == Won(arrived("fibre"), 1)


def test_nothing_that_left_on_no_link_is_a_loss_that_sent_nothing() -> None:
    race = after(WRITE, NeverLeft("fibre", "connect"), NeverLeft("sim", "resolve"))
    assert decide(race, T) == Wait(later(ROUND_PAUSE_S))

    race = race.told((), frozenset())
    assert decide(race, T) == Lost(False, "resolve", 2, "sim")


def test_a_flapping_link_is_tried_a_second_time_after_a_pause() -> None:
    race = after(READ, NoAnswer("fibre", "reset"), NoAnswer("sim", "reset"))

    assert decide(race, T) == Wait(later(ROUND_PAUSE_S))
    assert decide(race, later(ROUND_PAUSE_S)) == Start("fibre")


def test_a_request_that_only_finds_out_makes_no_second_round() -> None:
    plan = Plan(("fibre", "sim"), True, 3.0, again=False)

    assert decide(after(plan, NeverLeft("fibre", "connect"), NeverLeft("sim", "connect")), T) == (
        Lost(False, "connect", 2, "sim"))


def test_a_pooled_connection_that_the_peer_had_closed_is_tried_again_on_the_same_link() -> None:
    race = after(READ, NoAnswer("fibre", "reset", fresh=False))

    assert decide(race, T) == Start("fibre")


def test_without_budget_for_a_hedge_the_first_send_goes_on_or_the_copy_is_given() -> None:
    race = begin(replace(READ, may_copy=True), T).started("fibre", T).refused("hedge", T)

    assert decide(race, later(0.5)) == Wait(later(1.0))  # then it is asked for again
    assert decide(race.moved(0, "unacked"), later(0.5)) == Start("sim")  # ask anew: a dead path
    assert decide(race.moved(0, "acked").refused("hedge", T), later(0.5)) == Wait(later(1.0))
    assert decide(race.moved(0, "unacked").refused("hedge", T), later(0.5)) == Peek()
    assert decide(race.told(("fibre", "sim"), frozenset()), later(0.5)) == Start("sim")
    failed = race.ended(0, NoAnswer("fibre", "reset"))
    assert decide(failed, later(0.5)) == Start("sim")


def test_each_start_says_what_sort_it_is() -> None:
    first = decide(begin(READ, T), T)
    hedge = decide(begin(READ, T).started("fibre", T), later(0.25))
    rescue = decide(after(READ, NoAnswer("fibre", "reset")), T)
    both = after(READ, NoAnswer("fibre", "timeout"), NoAnswer("sim", "timeout"))
    again = decide(both, later(ROUND_PAUSE_S))
    assert [step.sort for step in (first, hedge, rescue, again) if isinstance(step, Start)] == [
        "first", "hedge", "first", "round"]
    assert begin(READ, T).started("fibre", T).leaves == "fibre"
    assert isinstance(decide(both.refused("round", T), later(ROUND_PAUSE_S)), Lost)


def test_our_own_limit_on_a_link_spends_no_bytes_of_a_metered_one() -> None:
    busy = NeverLeft("fibre", "busy")
    metered = replace(READ, metered=frozenset({"sim"}), again=False)

    assert decide(after(metered, busy), T) == Lost(False, "busy", 1, "fibre")
    assert decide(after(READ, busy), T) == Start("sim")
    assert decide(after(metered, NeverLeft("fibre", "connect")), T) == Start("sim")


def test_our_own_limit_met_twice_ends_a_read_and_a_write_and_breaks_nothing() -> None:
    busy = NeverLeft("fibre", "busy")
    for plan in (READ, WRITE):
        metered = replace(plan, metered=frozenset({"sim"}))
        assert isinstance(decide(after(metered, busy, busy), later(1.0)), Lost)
        assert decide(after(metered, busy), later(1.0)) == Start("fibre")


def test_with_one_link_left_a_second_send_over_it_is_a_round_unless_it_was_stale() -> None:
    alone = replace(READ, links=("fibre",))
    again = decide(after(alone, NoAnswer("fibre", "reset")), later(1.0))
    stale = decide(after(alone, NoAnswer("fibre", "reset", fresh=False)), later(1.0))
    assert isinstance(again, Start)
    assert isinstance(stale, Start)
    assert (again.sort, stale.sort) == ("round", "first")


def test_no_more_than_two_are_under_way_and_four_in_all() -> None:
    many = replace(READ, links=("a", "b", "c", "d", "e"),
                   hedge_after_s=tuple((link, 0.1) for link in "abcde"))
    race = begin(many, T).started("a", T).started("b", later(0.1))
    assert decide(race, later(1.0)) == Wait(later(3.0))
    failed = after(many, *(NoAnswer(link, "reset") for link in "abcd"))
    assert isinstance(decide(failed, later(1.0)), Lost)


def test_a_third_of_its_patience_over_a_read_is_tried_elsewhere_whatever_the_budget_says() -> None:
    """A box on the way may acknowledge for a path that is dead behind it (promise 1)."""
    race = begin(READ, T).started("fibre", T).moved(0, "acked").refused("hedge", later(0.25))

    assert decide(race, later(0.9)) == Wait(later(1.0))
    step = decide(race, later(1.0))
    assert isinstance(step, Start)
    assert (step.link, step.sort) == ("sim", "first")
    unhedged = begin(replace(READ, hedge_after_s=()), T).started("fibre", T)
    assert decide(unhedged, later(0.5)) == Wait(later(1.0))
    assert decide(unhedged, later(1.0)) == Start("sim")
    spared = begin(replace(READ, hedge_after_s=(), metered=frozenset({"sim"})), T)
    assert decide(spared.started("fibre", T), later(2.0)) == Wait(later(3.0))


def test_where_every_link_is_mute_the_copy_is_given_before_anything_is_sent() -> None:
    mute = replace(READ, may_copy=True, mute=frozenset({"fibre", "sim"}))
    race = begin(mute, T)

    assert decide(race, T) == Peek()
    assert decide(race.peeked(True, T), T) == Lost(False, "link_down", 0, "")
    assert decide(race.peeked(False, T), T) == Start("fibre")
    assert decide(begin(replace(mute, mute=frozenset({"fibre"})), T), T) == Start("fibre")
    assert decide(begin(replace(mute, may_copy=False), T), T) == Start("fibre")
    assert decide(begin(replace(mute, links=()), T), T) == Lost(False, "link_down", 0, "")


def test_a_read_acknowledged_before_both_links_fell_mute_gets_its_copy_from_others_gates() -> None:
    """Acknowledged on one, it has no gate there that could fire (16 of 50 cuts), and that link may
    have left the order since."""
    race = begin(replace(READ, may_copy=True), T).started("fibre", T).started("sim", T)
    race = race.moved(0, "unacked").moved(1, "acked")

    assert decide(race, later(0.06)) == Wait(later(READ.patience_s))
    for usable in (("fibre", "sim"), ("fibre",)):
        told = race.told(usable, frozenset(), frozenset({"fibre", "sim"}))
        assert decide(told, later(0.06)) == Peek()


def test_a_read_whose_gate_fired_goes_to_a_mute_link_when_that_is_heard_or_at_last() -> None:
    race = begin(replace(READ, mute=frozenset({"sim"})), T).started("fibre", T)
    race = race.moved(0, "unacked")

    assert decide(race, later(0.3)) == Wait(later(1.0))
    assert decide(race, later(1.0)) == Start("sim")
    assert decide(race.told(("fibre", "sim"), frozenset()), later(0.3)) == Start("sim")
    dead = race.told(("sim",), frozenset({"fibre"}), race.mute)
    assert decide(dead, later(0.3)) == Wait(later(1.0))
    assert decide(dead, later(1.0)) == Start("sim")
    assert decide(dead.told(("sim",), frozenset({"fibre"})), later(0.3)) == Start("sim")


def test_a_write_that_never_left_goes_to_the_next_link_mute_or_not() -> None:
    race = after(replace(WRITE, mute=frozenset({"sim"})), NeverLeft("fibre", "connect"))

    assert decide(race, later(0.1)) == Start("sim")


def test_a_read_cut_off_while_all_that_is_left_is_mute_waits_for_the_verdict() -> None:
    """Its first link is judged dead some ms before the other, over which its send failed already
    and the budget allows no more: it was told 504 and not why."""
    race = begin(READ, T).started("fibre", T).started("sim", T)
    race = race.ended(1, NeverLeft("sim", "connect")).refused("round", T)
    race = race.told(("sim",), frozenset({"fibre"}), frozenset({"sim"}))

    assert decide(race, later(1.0)) == Wait(later(READ.patience_s))
    dead = race.told((), frozenset({"fibre", "sim"}))
    assert decide(dead, later(1.1)) == Lost(True, "connect", 2, "sim")
    assert decide(race.told(("sim",), frozenset({"fibre"})), later(1.1)) == Start("sim")
    assert decide(race, later(READ.patience_s)) == Lost(True, "connect", 2, "sim")


@pytest.mark.parametrize("cause", ["busy", "certificate", "bad_reply"])
def test_what_no_waiting_mends_is_told_at_once(cause: Cause) -> None:
    race = after(replace(READ, links=("sim",), mute=frozenset({"sim"})), NeverLeft("sim", cause))

    assert isinstance(decide(race.refused("round", T), later(1.0)), Lost)


def test_a_write_waits_for_no_verdict() -> None:
    race = after(replace(WRITE, links=("sim",), mute=frozenset({"sim"})), NoAnswer("sim", "reset"))

    assert decide(race, later(1.0)) == Lost(True, "reset", 1, "sim")


def test_a_link_whose_pooled_connections_all_died_is_left_after_the_second() -> None:
    """A reset closes every warm connection at once: four of them were all sends of a read."""
    stale = NoAnswer("fibre", "reset", fresh=False)
    alone = replace(READ, links=("fibre",))

    assert decide(after(READ, stale, stale), T) == Start("sim")
    assert decide(after(alone, stale, stale), T) == Start("fibre")


def test_a_write_on_a_pooled_connection_that_died_is_still_in_doubt() -> None:
    race = after(WRITE, NoAnswer("fibre", "reset", fresh=False))

    assert decide(race, T) == Lost(True, "reset", 1, "fibre")


def test_a_server_error_waits_for_the_hedge_that_is_under_way() -> None:
    race = begin(READ, T).started("fibre", T).started("sim", T).ended(0, arrived("fibre", 503))

    assert decide(race, later(0.3)) == Wait(later(3.0))
    assert decide(race.ended(1, arrived("sim")), later(0.3)) == Won(arrived("sim"), 2)


def test_a_server_error_alone_is_the_answer_and_is_not_asked_of_the_other_link() -> None:
    assert decide(after(READ, arrived("fibre", 503)), T) == Won(arrived("fibre", 503), 1)


@pytest.mark.parametrize("status", [401, 403, 407])
def test_a_refusal_over_a_link_without_proof_asks_the_other_link_first(status: int) -> None:
    plan = Plan(("fibre", "sim"), True, 3.0, proven=frozenset({"fibre"}))
    race = after(Plan(("sim", "fibre"), True, 3.0, proven=plan.proven), arrived("sim", status))

    assert decide(race, T) == Start("fibre")
    granted = race.started("fibre", T).ended(1, arrived("fibre"))
    assert decide(granted, T) == Won(arrived("fibre"), 2)


def test_when_no_link_grants_it_the_first_refusal_is_the_answer() -> None:
    plan = Plan(("sim", "fibre"), True, 3.0)
    race = after(plan, arrived("sim", 403), arrived("fibre", 401))

    assert decide(race, T) == Won(arrived("sim", 403), 2)


def test_a_refusal_stands_when_the_other_link_stays_silent_to_the_end() -> None:
    race = after(Plan(("sim", "fibre"), True, 3.0), arrived("sim", 403)).started("fibre", T)

    assert decide(race, later(3)) == Won(arrived("sim", 403), 2)


def test_a_refusal_over_a_proven_link_is_the_answer() -> None:
    assert decide(after(READ, arrived("fibre", 403)), T) == Won(arrived("fibre", 403), 1)


def test_a_reply_that_we_refuse_is_not_asked_for_a_second_time_on_the_same_link() -> None:
    race = after(READ, NoAnswer("fibre", "bad_reply"), NoAnswer("sim", "bad_reply"))

    assert decide(race, T) == Lost(True, "bad_reply", 2, "sim")


def test_a_body_that_can_be_read_once_is_sent_once() -> None:
    plan = Plan(("fibre", "sim"), True, 3.0, (("fibre", 0.1),), once=True)

    assert decide(begin(plan, T).started("fibre", T), later(1)) == Wait(later(3))
    assert decide(after(plan, NeverLeft("fibre", "connect")), T) == Start("sim")
    assert decide(after(plan, NoAnswer("fibre", "reset")), T) == Lost(True, "reset", 1, "fibre")


def test_patience_ends_the_race() -> None:
    race = begin(READ, T).started("fibre", T).started("sim", later(0.25))

    assert decide(race, later(3)) == Lost(True, "timeout", 2, "sim")


def test_a_bad_certificate_is_named_even_when_the_other_link_failed_otherwise() -> None:
    race = after(WRITE, NeverLeft("fibre", "certificate"), NeverLeft("sim", "connect"))

    assert decide(race.told((), frozenset()), T) == Lost(False, "certificate", 2, "sim")


def _random_outcome(dice: Random, link: str) -> Outcome:
    cause: Cause = dice.choice(get_args(Cause))
    status = dice.choice([200, 201, 403, 404, 409, 429, 500, 503])
    choices: list[Outcome] = [
        NeverLeft(link, cause), NoAnswer(link, cause, dice.random() < 0.5),
        Arrived(link, Reply(status, "", ()))]
    return dice.choice(choices)


@pytest.mark.parametrize("seed", range(200))
def test_no_weather_doubles_a_write_or_lets_a_race_run_past_its_limits(seed: int) -> None:
    dice = Random(seed)
    links = ("fibre", "sim", "mast")[: dice.randint(1, 3)]
    is_read = dice.random() < 0.5
    plan = Plan(links, is_read, 3.0, tuple((link, 0.2) for link in links),
                frozenset(link for link in links if dice.random() < 0.5))
    race, now = begin(plan, T), T
    for _ in range(200):
        step = decide(race, now)
        if isinstance(step, Start):
            doubt = [a for a in race.attempts if not isinstance(a.outcome, NeverLeft)]
            assert is_read or not doubt, "a write was sent again without proof"
            race = race.started(step.link, now)
        elif isinstance(step, Wait):
            assert step.until > now
            waiting = [n for n, a in enumerate(race.attempts) if a.outcome is None]
            if waiting and dice.random() < 0.5:
                number = dice.choice(waiting)
                race = race.ended(number, _random_outcome(dice, race.attempts[number].link))
            elif dice.random() < 0.2:
                dead = frozenset(link for link in links if dice.random() < 0.3)
                race = race.told(tuple(x for x in links if x not in dead), dead)
            else:
                now = step.until
        else:
            break
        assert len(race.attempts) <= SENDS_MAX
        assert sum(a.outcome is None for a in race.attempts) <= UNDER_WAY_MAX
    else:
        pytest.fail("the race did not end")


# --- the gate (core/gate.py)


def test_a_read_whose_bytes_nobody_acknowledged_goes_to_the_other_link_at_once() -> None:
    race = begin(READ, T).started("fibre", T)

    assert decide(race.moved(0, "unacked"), later(0.07)) == Start("sim")


def test_a_write_whose_bytes_nobody_acknowledged_goes_nowhere() -> None:
    race = begin(WRITE, T).started("fibre", T)

    assert isinstance(decide(race.moved(0, "unacked"), later(0.07)), Wait)


def test_a_slow_upstream_is_not_hedged_onto_a_metered_link_and_a_dead_path_is() -> None:
    race = begin(replace(READ, metered=frozenset({"sim"})), T).started("fibre", T)

    assert decide(race.moved(0, "acked"), later(0.5)) == Wait(later(3.0))
    assert decide(race, later(0.5)) == Start("sim")
    assert decide(race.moved(0, "unacked"), later(0.5)) == Start("sim")
    unmetered = begin(READ, T).started("fibre", T).moved(0, "acked")
    assert decide(unmetered, later(0.5)) == Start("sim")


def both_unacked(plan: Plan) -> Race:
    race = begin(plan, T).started("fibre", T).started("sim", later(0.06))
    return race.moved(0, "unacked").moved(1, "unacked")


def test_where_no_path_answers_a_copy_is_looked_for_once_and_given_at_once() -> None:
    race = both_unacked(replace(READ, may_copy=True))

    assert decide(race, later(0.13)) == Peek()
    assert decide(race.peeked(True, T), later(0.13)) == Lost(True, "timeout", 2, "sim")
    assert isinstance(decide(race.peeked(False, T), later(0.13)), Wait)


def test_who_looked_for_a_copy_a_moment_ago_need_not_look_again_when_all_is_lost() -> None:
    race = both_unacked(replace(READ, may_copy=True)).peeked(False, T)
    dead = race.told((), frozenset({"fibre", "sim"}))

    assert decide(dead, later(1.9)) == Lost(True, "link_down", 2, "sim", no_copy=True)
    assert decide(dead, later(2.1)) == Lost(True, "link_down", 2, "sim")
    seen = race.peeked(True, T).told((), frozenset({"fibre", "sim"}))
    assert decide(seen, later(1.9)) == Lost(True, "link_down", 2, "sim")


def test_a_client_that_takes_no_copies_waits_and_so_does_one_whose_second_link_may_answer(
        ) -> None:
    assert isinstance(decide(both_unacked(READ), later(0.13)), Wait)
    may = begin(replace(READ, may_copy=True), T).started("fibre", T).started("sim", later(0.06))
    assert isinstance(decide(may.moved(0, "unacked"), later(0.1)), Wait)
    assert isinstance(decide(may.moved(0, "unacked").moved(1, "acked"), later(0.1)), Wait)


def test_a_small_read_on_a_lossy_link_leaves_over_two_links_at_once() -> None:
    race = begin(replace(READ, duplicate=True), T).started("fibre", T)

    assert decide(race, T) == Start("sim")
