"""The budget of hedges: everyday, in an episode, and where hedging does not help."""

from gateway.core.budget import (
    BURST,
    ENDS,
    GRANT_LEAST,
    Budget,
)
from gateway.core.instant import Mono


def at(seconds: float) -> Mono:
    return Mono(1000.0 + seconds)


def spent(budget: Budget, now: Mono, episode: int = 0, onto: str = "sim", most: int = 2000) -> int:
    """How many hedges there are until it says no."""
    return next((n for n in range(most)
                 if not budget.may_hedge("fibre", onto, episode, 0, now)), most)


def test_everyday_there_are_twenty_at_once_and_one_a_second() -> None:
    budget = Budget(frozenset())
    assert spent(budget, at(0)) == BURST
    assert spent(budget, at(0.9)) == 0
    assert spent(budget, at(5)) == 5
    assert spent(budget, at(1000)) == BURST


def test_twenty_reads_earn_one() -> None:
    budget = Budget(frozenset())
    spent(budget, at(0))
    for _ in range(201):
        budget.read("gpc", at(0))
    assert spent(budget, at(0)) == 10


def test_an_episode_grants_fifty_or_two_seconds_of_reads_once() -> None:
    budget = Budget(frozenset())
    spent(budget, at(0))
    assert spent(budget, at(0), episode=1) == GRANT_LEAST
    assert spent(budget, at(0), episode=1) == 0
    for number in range(400):
        budget.read("gpc", at(10 + number / 200))
    spent(budget, at(12), episode=1)
    assert spent(budget, at(12), episode=2) == 400
    assert spent(budget, at(12), episode=2) == 0


def test_a_grant_ends_with_its_bytes_sooner_on_a_metered_link() -> None:
    for metered, most in ((frozenset[str](), 8_000_000), (frozenset({"sim"}), 2_000_000)):
        budget = Budget(metered)
        spent(budget, at(0))
        assert budget.may_hedge("fibre", "sim", 1, 1000, at(0))
        budget.ended("sim", True, most - 1, 1000, at(0))
        assert not budget.may_hedge("fibre", "sim", 1, 2, at(0))
        assert budget.may_hedge("fibre", "sim", 1, 1, at(0))
        assert not budget.may_hedge("fibre", "sim", 1, 1, at(0))


def test_bytes_are_set_aside_as_hedges_begin_not_as_they_end() -> None:
    budget = Budget(frozenset({"sim"}))
    spent(budget, at(0))
    begun = sum(budget.may_hedge("fibre", "sim", 1, 100_000, at(0)) for _ in range(50))
    assert begun == 20
    budget.ended("sim", True, 40_000, 100_000, at(0))
    budget.ended("sim", True, 60_000, 100_000, at(0))
    assert budget.may_hedge("fibre", "sim", 1, 100_000, at(0))
    assert not budget.may_hedge("fibre", "sim", 1, 100_000, at(0))


def test_where_hedges_fail_too_the_everyday_ones_halve() -> None:
    budget = Budget(frozenset())
    spent(budget, at(0))
    for _ in range(ENDS):
        budget.ended("sim", False, 0, 0, at(0))
    assert spent(budget, at(10)) == 5
    for _ in range(200):
        budget.read("gpc", at(10))
    assert spent(budget, at(10)) == 5
    for _ in range(ENDS):
        budget.ended("sim", True, 0, 0, at(10))
    assert spent(budget, at(20)) == 10


def test_each_link_has_a_purse_of_its_own() -> None:
    budget = Budget(frozenset())
    spent(budget, at(0))
    assert spent(budget, at(0), onto="dsl") == BURST


def test_a_fifth_of_an_upstreams_reads_may_go_round_again_and_three_at_least() -> None:
    budget = Budget(frozenset())
    while budget.may_go_round("gpc", at(0)):
        pass
    assert budget.may_go_round("bars", at(0))
    for _ in range(51):
        budget.read("gpc", at(0))
    rounds = sum(budget.may_go_round("gpc", at(0)) for _ in range(100))
    assert rounds == 10
    assert sum(budget.may_go_round("gpc", at(1)) for _ in range(100)) == 3
