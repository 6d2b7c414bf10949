"""A link's states: the table, what each reading means in each state, and what hysteresis keeps."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.instant import Mono
from gateway.core.link import (
    CARRIES,
    TURNS,
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
WELL = Reading(heard=Mono(99.9), in_row=3)
OVERDUE = Reading(heard=Mono(99.0), overdue=True, silence_s=0.9, unanswered=2, targets=2)
DEAD = Reading(heard=Mono(97.0), overdue=True, silence_s=1.6, unanswered=6, targets=2,
               dead="BLACKHOLE")


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


def test_from_every_state_a_link_can_die_and_come_back_up() -> None:
    for state in get_args(LinkState):
        assert state == "DOWN" or TURNS[state]["DEAD"] == "DOWN"
    reached: set[LinkState] = {"DOWN"}
    for _ in TURNS:
        reached |= {after for state in reached for after in TURNS[state].values()}
    assert reached >= {"UP", "SUSPECT", "PROBATION", "DRAINING"}


@given(state=st.sampled_from(get_args(LinkState)), heard=st.none() | st.floats(0.0, 100.0),
       in_row=st.integers(0, 3), overdue=st.booleans(),
       dead=st.sampled_from(["", "BLACKHOLE", "LINK_DOWN", "CAPTIVE"]), windowed=st.booleans(),
       alone=st.booleans(), clean=st.floats(0.0, 100.0))
def test_no_reading_asks_for_an_impossible_turn(
        state: LinkState, heard: float | None, in_row: int, overdue: bool, dead: str,
        windowed: bool, alone: bool, clean: float) -> None:
    reading = Reading(None if heard is None else Mono(heard), in_row, overdue, dead=dead)
    before = memory(state, clean)
    news = news_of(before, reading, windowed, alone, RULES, NOW)
    if news is not None:
        after = turn(before, news, dead, NOW)
        assert not (dead and after.state in CARRIES)
        assert not (windowed and not alone and after.state in CARRIES
                    and state not in CARRIES)


@pytest.mark.parametrize(("state", "reading", "news"), [
    ("UNKNOWN", WELL, "HEARD"),
    ("UNKNOWN", OVERDUE, None),
    ("UNKNOWN", DEAD, "DEAD"),
    ("UP", WELL, None),
    ("UP", OVERDUE, "MISSED"),
    ("UP", DEAD, "DEAD"),
    ("SUSPECT", WELL, "QUIET"),
    ("SUSPECT", OVERDUE, "MISSED"),
    ("SUSPECT", DEAD, "DEAD"),
    ("DOWN", WELL, "HEALED"),
    ("DOWN", OVERDUE, None),
    ("DOWN", DEAD, None),
    ("PROBATION", WELL, "HELD"),
    ("PROBATION", OVERDUE, "MISSED"),
    ("PROBATION", DEAD, "DEAD"),
    ("DRAINING", WELL, "RELEASED"),
    ("DRAINING", OVERDUE, "MISSED"),
    ("DRAINING", DEAD, "DEAD"),
])
def test_what_a_reading_means_depends_on_the_state(
        state: LinkState, reading: Reading, news: News | None) -> None:
    assert news_of(memory(state), reading, False, False, RULES, NOW) == news


@pytest.mark.parametrize(("state", "news"), [
    ("UNKNOWN", "DRAIN"), ("UP", "DRAIN"), ("SUSPECT", "DRAIN"), ("PROBATION", "DRAIN"),
    ("DRAINING", None), ("DOWN", "HEALED")])
def test_inside_a_window_everything_alive_drains_and_nothing_comes_back(
        state: LinkState, news: News | None) -> None:
    assert news_of(memory(state), WELL, True, False, RULES, NOW) == news


@pytest.mark.parametrize("state", ["DOWN", "PROBATION"])
def test_the_last_link_needs_neither_row_nor_hold(state: LinkState) -> None:
    once = Reading(heard=Mono(99.99), in_row=1)
    assert news_of(memory(state, 99.9, 99.9), once, False, True, RULES, NOW) == "NEEDED"
    assert news_of(memory(state, 99.9, 99.9), once, False, False, RULES, NOW) is None


@pytest.mark.parametrize(("state", "wait_s"), [("SUSPECT", 2.0), ("PROBATION", 60.0)])
def test_quiet_and_hold_are_exact(state: LinkState, wait_s: float) -> None:
    well = Reading(heard=NOW, in_row=3)
    assert news_of(memory(state, NOW - wait_s), well, False, False, RULES, NOW) is not None
    assert news_of(memory(state, NOW - wait_s + 0.01), well, False, False, RULES, NOW) is None


def test_what_was_heard_before_it_died_brings_no_link_back() -> None:
    down = memory("DOWN", since=99.95)
    assert news_of(down, WELL, False, True, RULES, NOW) is None


def test_a_miss_on_probation_begins_the_hold_anew_and_tells_no_new_state() -> None:
    before = memory("PROBATION", clean=50.0, since=40.0)
    after = turn(before, "MISSED", "", NOW)
    assert (after.state, after.since, after.clean_since) == ("PROBATION", 40.0, NOW)


def test_the_cause_is_kept_until_the_link_is_up_again() -> None:
    down = turn(memory("SUSPECT"), "DEAD", "BLACKHOLE", NOW)
    waiting = turn(down, "HEALED", "", NOW)
    assert (down.cause, waiting.cause) == ("BLACKHOLE", "BLACKHOLE")
    assert turn(waiting, "HELD", "", NOW).cause == ""
    assert turn(waiting, "DRAIN", "MAINTENANCE", NOW).cause == "MAINTENANCE"


@pytest.mark.parametrize(("state", "after"), [
    ("DOWN", "DOWN"), ("PROBATION", "DOWN"), ("UP", "UNKNOWN"), ("SUSPECT", "UNKNOWN"),
    ("DRAINING", "UNKNOWN"), ("UNKNOWN", "UNKNOWN"), ("", "UNKNOWN"), ("nonsense", "UNKNOWN")])
def test_a_link_that_was_out_of_use_begins_so_after_a_restart(state: str, after: str) -> None:
    memory = resumed("fibre", state, "BLACKHOLE", Mono(5.0))

    assert memory.state == after
    assert memory.cause == ("BLACKHOLE" if after == "DOWN" else "")
