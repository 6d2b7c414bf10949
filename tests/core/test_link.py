"""A link's states: the table, what each reading means in each state, and what hysteresis keeps."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.instant import Mono
from gateway.core.link import (
    CARRIES,
    EPISODES_S,
    TURNS,
    Circumstances,
    LinkMemory,
    LinkRules,
    LinkState,
    News,
    Reading,
    news_of,
    resumed,
    turn,
)
from gateway.errors import ImpossibleTurn

RULES = LinkRules()
NOW = Mono(100.0)
WELL = Reading(heard=Mono(99.9), in_row=5, signed=Mono(99.9), pinned=Mono(99.9))
OVERDUE = Reading(heard=Mono(99.0), overdue=True, silence_s=0.9, unanswered=2, targets=2)
DEAD = Reading(heard=Mono(97.0), overdue=True, silence_s=1.6, unanswered=6, targets=2,
               dead="BLACKHOLE")
PORTAL = Reading(heard=Mono(99.9), in_row=5, dead="CAPTIVE")
QUIET_ROOM = Circumstances()
ALONE = Circumstances(alone=True)
WINDOW = Circumstances(windowed=True, locked=True)


def memory(state: LinkState, clean: float = 0.0, since: float = 0.0) -> LinkMemory:
    return LinkMemory("fibre", Mono(since), Mono(clean), state)


@pytest.mark.parametrize("news", get_args(News))
@pytest.mark.parametrize("state", get_args(LinkState))
def test_every_pair_is_a_row_or_an_error(state: LinkState, news: News) -> None:
    if news in TURNS[state]:
        assert turn(memory(state), news, "", NOW).state == TURNS[state][news]
    else:
        with pytest.raises(ImpossibleTurn, match=f"fibre: {news} cannot follow {state}"):
            turn(memory(state), news, "", NOW)


def test_from_every_state_a_link_can_be_lost_and_come_back_up() -> None:
    for state in get_args(LinkState):
        assert state in ("DOWN", "QUARANTINED") or TURNS[state]["DEAD"] == "DOWN"
        assert state == "QUARANTINED" or TURNS[state]["FOREIGN"] == "QUARANTINED"
        reached = {state}
        for _ in TURNS:
            reached |= {after for each in reached for after in TURNS[each].values()}
        assert reached >= {"UP", "DOWN", "QUARANTINED", "PROBATION"}


def test_only_our_own_proof_ends_a_quarantine() -> None:
    assert TURNS["QUARANTINED"] == {"OURS": "PROBATION"}


@given(state=st.sampled_from(get_args(LinkState)), heard=st.none() | st.floats(0.0, 100.0),
       in_row=st.integers(0, 5), overdue=st.booleans(), gap=st.booleans(),
       dead=st.sampled_from(["", "BLACKHOLE", "LINK_DOWN", "CAPTIVE", "TLS_INTERCEPT"]),
       flags=st.tuples(*[st.booleans()] * 6), clean=st.floats(0.0, 100.0),
       penalty=st.floats(0.0, 9000.0), valid=st.booleans(), held=st.booleans())
def test_no_reading_asks_for_an_impossible_turn(
        state: LinkState, heard: float | None, in_row: int, overdue: bool, gap: bool, dead: str,
        flags: tuple[bool, ...], clean: float, penalty: float, valid: bool, held: bool) -> None:
    at = None if heard is None else Mono(heard)
    reading = Reading(at, in_row, overdue, dead=dead, signed=at, pinned=at, valid=valid,
                      good_hold=held, gap=gap)
    before = replace(memory(state, clean), penalty=penalty, penalty_at=Mono(50.0))
    around = Circumstances(*flags)
    news = news_of(before, reading, around, RULES, NOW)
    if news is not None:
        after = turn(before, news, dead, NOW)
        assert not (dead and after.state in CARRIES)
        assert not (around.windowed and not around.alone and after.state in CARRIES
                    and state not in CARRIES)
        assert not (state == "QUARANTINED" and dead)


@pytest.mark.parametrize(("state", "reading", "news"), [
    ("UNKNOWN", WELL, "HEARD"),
    ("UNKNOWN", OVERDUE, None),
    ("UNKNOWN", DEAD, "DEAD"),
    ("UNKNOWN", PORTAL, "FOREIGN"),
    ("VALIDATING", WELL, "VALIDATED"),
    ("VALIDATING", WELL._replace(valid=False), None),
    ("VALIDATING", DEAD, "DEAD"),
    ("UP", WELL, None),
    ("UP", OVERDUE, "MISSED"),
    ("UP", DEAD, "DEAD"),
    ("UP", PORTAL, "FOREIGN"),
    ("SUSPECT", WELL, "QUIET"),
    ("SUSPECT", OVERDUE, "MISSED"),
    ("SUSPECT", DEAD, "DEAD"),
    ("IMPAIRED", WELL, "MENDED"),
    ("IMPAIRED", OVERDUE, "MISSED"),
    ("IMPAIRED", DEAD, "DEAD"),
    ("DOWN", WELL, "HEALED"),
    ("DOWN", WELL._replace(in_row=4), None),
    ("DOWN", OVERDUE, None),
    ("DOWN", DEAD, None),
    ("DOWN", PORTAL, "FOREIGN"),
    ("PROBATION", WELL, "HELD"),
    ("PROBATION", WELL._replace(good_hold=False), None),
    ("PROBATION", OVERDUE, "MISSED"),
    ("PROBATION", OVERDUE._replace(gap=True), "DEAD"),
    ("PROBATION", DEAD, "DEAD"),
    ("QUARANTINED", WELL, "OURS"),
    ("QUARANTINED", WELL._replace(signed=None), None),
    ("QUARANTINED", PORTAL, None),
    ("QUARANTINED", DEAD, None),
    ("DRAINING", WELL, "RELEASED"),
    ("DRAINING", OVERDUE, "MISSED"),
    ("DRAINING", DEAD, "DEAD"),
    ("SUPPRESSED", WELL, "CALMED"),
    ("SUPPRESSED", OVERDUE, "MISSED"),
    ("SUPPRESSED", DEAD, "DEAD"),
])
def test_what_a_reading_means_depends_on_the_state(
        state: LinkState, reading: Reading, news: News | None) -> None:
    assert news_of(memory(state), reading, QUIET_ROOM, RULES, NOW) == news


@pytest.mark.parametrize(("state", "news"), [
    ("UNKNOWN", "DRAIN"), ("UP", "DRAIN"), ("SUSPECT", "DRAIN"), ("PROBATION", "DRAIN"),
    ("IMPAIRED", "DRAIN"), ("SUPPRESSED", "DRAIN"), ("DRAINING", None), ("DOWN", "HEALED")])
def test_inside_a_window_everything_alive_drains_and_nothing_comes_back(
        state: LinkState, news: News | None) -> None:
    assert news_of(memory(state), WELL, WINDOW, RULES, NOW) == news


@pytest.mark.parametrize("state", ["UNKNOWN", "VALIDATING", "DOWN", "PROBATION"])
def test_the_last_link_needs_neither_row_nor_hold_but_one_signed_answer(state: LinkState) -> None:
    once = Reading(heard=Mono(99.99), in_row=1, signed=Mono(99.99), valid=False, good_hold=False)
    assert news_of(memory(state, 99.9, 99.9), once, ALONE, RULES, NOW) == "NEEDED"
    assert news_of(memory(state, 99.9, 99.9), once, QUIET_ROOM, RULES, NOW) != "NEEDED"
    unsigned = once._replace(signed=None)
    assert news_of(memory(state, 99.9, 99.9), unsigned, ALONE, RULES, NOW) != "NEEDED"


def test_a_quarantined_link_is_not_taken_even_where_it_is_all_there_is() -> None:
    since = memory("QUARANTINED", 99.0, 99.0)
    assert news_of(since, WELL._replace(dead="CAPTIVE"), ALONE, RULES, NOW) is None
    pinned = Circumstances(alone=True, may_pin=True)
    assert news_of(since, WELL._replace(pinned=None), pinned, RULES, NOW) is None
    assert news_of(since, WELL, pinned, RULES, NOW) == "OURS"


@pytest.mark.parametrize(("state", "wait_s"), [("SUSPECT", 2.0), ("PROBATION", 60.0)])
def test_quiet_and_hold_are_exact(state: LinkState, wait_s: float) -> None:
    well = Reading(heard=NOW, in_row=5)
    assert news_of(memory(state, NOW - wait_s), well, QUIET_ROOM, RULES, NOW) is not None
    assert news_of(memory(state, NOW - wait_s + 0.01), well, QUIET_ROOM, RULES, NOW) is None


def test_what_was_heard_before_it_died_brings_no_link_back() -> None:
    down = memory("DOWN", since=99.95)
    assert news_of(down, WELL, ALONE, RULES, NOW) is None


def test_a_link_that_serves_dearer_than_another_is_impaired_until_that_is_over() -> None:
    costly = Circumstances(costly=True)
    assert news_of(memory("UP"), WELL, costly, RULES, NOW) == "COSTLY"
    assert news_of(memory("IMPAIRED"), WELL, costly, RULES, NOW) is None


def test_a_hold_is_locked_while_a_window_or_a_missing_proof_says_so() -> None:
    assert news_of(memory("PROBATION"), WELL, Circumstances(locked=True), RULES, NOW) is None


def died(times: list[float]) -> LinkMemory:
    """A link that died at each of ``times``, and was UP again each time."""
    it = memory("UP")
    for at in times:
        it = replace(turn(it, "DEAD", "BLACKHOLE", Mono(at)), state="UP")
    return it


def test_the_hold_doubles_with_each_earlier_episode_of_an_hour_up_to_half_an_hour() -> None:
    holds = [died([float(n) for n in range(number)]).hold_s(RULES, NOW)
             for number in range(1, 9)]
    assert holds == [60.0, 120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0, 1800.0]
    assert died([0.0, 1.0, 2.0]).hold_s(RULES, Mono(EPISODES_S + 1.5)) == 60.0


def test_three_episodes_in_ninety_seconds_suppress_a_link_and_two_do_not() -> None:
    three, two = died([10.0, 55.0, 100.0]), died([10.0, 55.0])
    assert news_of(three, WELL, QUIET_ROOM, RULES, NOW) == "DAMPED"
    assert news_of(three, WELL, ALONE, RULES, NOW) is None
    assert news_of(two, WELL, QUIET_ROOM, RULES, NOW) is None
    suppressed = replace(three, state="SUPPRESSED", since=NOW)
    assert news_of(suppressed, WELL, QUIET_ROOM, RULES, Mono(NOW + 500)) is None
    assert news_of(suppressed, WELL, QUIET_ROOM, RULES, Mono(NOW + 600)) == "CALMED"


def test_an_end_of_probation_is_the_same_episode_still() -> None:
    once = died([10.0])
    again = turn(replace(once, state="PROBATION"), "DEAD", "BLACKHOLE", Mono(20.0))
    assert again.episodes == once.episodes
    assert again.penalty == once.penalty


def test_each_return_from_death_begins_a_new_epoch() -> None:
    down = turn(memory("UP"), "DEAD", "BLACKHOLE", NOW)
    assert down.epoch == 0
    assert turn(down, "HEALED", "", NOW).epoch == turn(down, "NEEDED", "", NOW).epoch == 1


def test_a_miss_on_probation_begins_the_hold_anew_and_tells_no_new_state() -> None:
    before = memory("PROBATION", clean=50.0, since=40.0)
    after = turn(before, "MISSED", "", NOW)
    assert (after.state, after.since, after.clean_since) == ("PROBATION", 40.0, NOW)


def test_a_lone_miss_on_probation_leaves_the_hold_and_a_second_one_begins_it_anew() -> None:
    before = memory("PROBATION", clean=30.0, since=20.0)
    for unanswered, news in ((1, None), (2, "MISSED")):
        reading = Reading(heard=Mono(99.5), overdue=True, unanswered=unanswered, targets=1)
        assert news_of(before, reading, QUIET_ROOM, RULES, NOW) == news
    lone = Reading(heard=Mono(99.5), overdue=True, unanswered=1, targets=1)
    assert news_of(memory("UP"), lone, QUIET_ROOM, RULES, NOW) == "MISSED"


def test_distrust_outlives_a_restart_unless_nothing_else_is_there() -> None:
    locked = Circumstances(locked=True)
    assert news_of(memory("VALIDATING"), WELL, QUIET_ROOM, RULES, NOW) == "VALIDATED"
    assert news_of(memory("VALIDATING"), WELL, locked, RULES, NOW) is None
    alone = Circumstances(locked=True, alone=True)
    assert news_of(memory("VALIDATING"), WELL, alone, RULES, NOW) == "NEEDED"


def test_a_hold_waits_for_canaries_that_another_link_brings() -> None:
    held = memory("PROBATION", clean=1.0, since=1.0)
    assert news_of(held, WELL, QUIET_ROOM, RULES, NOW) == "HELD"
    assert news_of(held, WELL, Circumstances(unproven=True), RULES, NOW) is None


def test_whoever_shows_a_wrong_certificate_again_and_again_is_held_longer_each_time() -> None:
    at, memory_ = 0.0, memory("UP")
    holds = []
    for _ in range(3):
        memory_ = turn(memory_, "FOREIGN", "TLS_INTERCEPT", Mono(at))
        holds.append(memory_.hold_s(RULES, Mono(at)))
        memory_ = turn(turn(memory_, "OURS", "", Mono(at + 1)), "HELD", "", Mono(at + 61))
        at += 70.0
    assert holds == [RULES.hold_s, 2 * RULES.hold_s, 4 * RULES.hold_s]


def test_the_cause_is_kept_until_the_link_is_up_again() -> None:
    down = turn(memory("SUSPECT"), "DEAD", "BLACKHOLE", NOW)
    waiting = turn(down, "HEALED", "", NOW)
    assert (down.cause, waiting.cause) == ("BLACKHOLE", "BLACKHOLE")
    assert turn(waiting, "HELD", "", NOW).cause == ""
    assert turn(waiting, "DRAIN", "MAINTENANCE", NOW).cause == "MAINTENANCE"


@pytest.mark.parametrize(("state", "after"), [
    ("DOWN", "DOWN"), ("PROBATION", "DOWN"), ("UP", "UNKNOWN"), ("SUSPECT", "UNKNOWN"),
    ("DRAINING", "UNKNOWN"), ("UNKNOWN", "UNKNOWN"), ("", "UNKNOWN"), ("nonsense", "UNKNOWN"),
    ("SUPPRESSED", "DOWN"), ("QUARANTINED", "QUARANTINED"), ("IMPAIRED", "UNKNOWN")])
def test_a_link_that_was_out_of_use_begins_so_after_a_restart(state: str, after: str) -> None:
    memory = resumed("fibre", state, "BLACKHOLE", Mono(5.0))

    assert memory.state == after
    assert memory.cause == ("BLACKHOLE" if after in ("DOWN", "QUARANTINED") else "")
