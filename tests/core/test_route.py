"""The order of links: preference, then what is wrong now; and how long a read waits on each."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.instant import Mono
from gateway.core.link import CARRIES, Link, LinkMemory, LinkRules, LinkState
from gateway.core.route import Situation, active, hedge_wait, order, preference, steady

RULES = LinkRules()
UP: dict[str, LinkState] = {"fibre": "UP", "sim": "UP"}
BOTH = ("fibre", "sim")


def standing_links(pinned: str = "", *, fibre: LinkState = "UP", sim: LinkState = "UP",
                   silent: tuple[str, ...] = (), faulty: tuple[str, ...] = (),
                   doubtful: tuple[str, ...] = (), ineligible: tuple[str, ...] = ()
                   ) -> tuple[str, ...]:
    states: dict[str, LinkState] = {"fibre": fibre, "sim": sim}
    return order(Situation(BOTH, states, silent, faulty, doubtful, ineligible), pinned)


def test_unmetered_links_come_first_then_priority() -> None:
    links = (Link("sim", 0, metered=True), Link("dsl", 2), Link("fibre", 1))
    assert preference(links) == ("fibre", "dsl", "sim")


def test_links_that_carry_come_in_order_of_preference() -> None:
    assert standing_links() == ("fibre", "sim")
    assert standing_links(fibre="SUSPECT") == ("fibre", "sim")
    assert standing_links(fibre="IMPAIRED") == ("fibre", "sim")
    assert standing_links(fibre="UNKNOWN") == ("sim", "fibre")
    assert standing_links(fibre="SUPPRESSED") == ("sim", "fibre")
    assert standing_links(fibre="QUARANTINED") == ("sim",)
    assert standing_links(fibre="QUARANTINED", sim="DOWN") == ()
    assert standing_links(fibre="DOWN") == ("sim",)
    assert standing_links(fibre="DOWN", sim="DOWN") == ()


def test_what_is_wrong_now_puts_a_link_back_but_not_out() -> None:
    assert standing_links(fibre="SUSPECT", silent=("fibre",)) == ("sim", "fibre")
    assert standing_links(faulty=("fibre",)) == ("sim", "fibre")
    assert standing_links(doubtful=("fibre",)) == ("sim", "fibre")
    assert standing_links(faulty=("fibre",), sim="SUSPECT", silent=("sim",)) == ("sim", "fibre")
    assert standing_links(ineligible=("fibre",)) == ("sim",)


def test_draining_and_probation_come_last_and_first_only_when_all_others_are_silent() -> None:
    assert standing_links(fibre="DRAINING") == ("sim", "fibre")
    assert standing_links(fibre="PROBATION") == ("sim", "fibre")
    assert standing_links(fibre="PROBATION", silent=("fibre",)) == ("sim",)
    assert standing_links(fibre="DRAINING", sim="DOWN") == ("fibre",)
    assert standing_links(fibre="PROBATION", silent=("sim",)) == ("fibre", "sim")
    assert standing_links(fibre="DRAINING", silent=("fibre", "sim")) == ("sim", "fibre")


def test_a_pinned_link_comes_first_while_it_carries() -> None:
    assert standing_links("sim") == ("sim", "fibre")
    assert standing_links("sim", sim="DOWN") == ("fibre",)
    assert standing_links("sim", silent=("sim",)) == ("sim", "fibre")


STATES = st.sampled_from(get_args(LinkState))
SOME = st.sets(st.sampled_from(BOTH)).map(tuple)


@given(fibre=STATES, sim=STATES, silent=SOME, faulty=SOME, doubtful=SOME,
       pinned=st.sampled_from(["", *BOTH]))
def test_no_link_that_carries_is_ever_left_out_and_none_that_is_down_let_in(
        fibre: LinkState, sim: LinkState, silent: tuple[str, ...], faulty: tuple[str, ...],
        doubtful: tuple[str, ...], pinned: str) -> None:
    states: dict[str, LinkState] = {"fibre": fibre, "sim": sim}
    links = order(Situation(BOTH, states, silent, faulty, doubtful), pinned)
    assert len(set(links)) == len(links)
    assert {link for link in BOTH if states[link] in CARRIES} <= set(links)
    assert not any(states[link] == "DOWN" for link in links)


def test_silence_and_doubt_switch_nothing() -> None:
    passing = Situation(BOTH, UP, silent=("fibre",), doubtful=("fibre",))
    assert (order(passing)[0], steady(passing)) == ("sim", "fibre")
    assert active(BOTH, {"fibre": "SUSPECT", "sim": "UP"}) == "fibre"
    assert active(BOTH, {"fibre": "PROBATION", "sim": "UP"}) == "sim"
    assert active(BOTH, {"fibre": "DRAINING", "sim": "DOWN"}) == "fibre"
    assert active(BOTH, {"fibre": "DOWN", "sim": "DOWN"}) == ""


def test_the_hedge_waits_for_the_path_s_own_p99_within_limits() -> None:
    up = LinkMemory("fibre", Mono(0.0), Mono(0.0), "UP")
    suspect = LinkMemory("fibre", Mono(0.0), Mono(0.0), "SUSPECT")
    assert hedge_wait([40.0] * 19, up, False, RULES) == 0.25
    assert hedge_wait([40.0] * 20, up, False, RULES) == 0.12
    assert hedge_wait([40.0] * 98 + [400.0] * 2, up, False, RULES) == 0.4
    assert hedge_wait([40.0] * 99 + [400.0], up, False, RULES) == 0.12
    assert hedge_wait([5000.0] * 100, up, False, RULES) == 1.0
    assert hedge_wait([5000.0] * 100, suspect, False, RULES) == 0.08
    assert hedge_wait([5000.0] * 100, up, True, RULES) == 0.08
