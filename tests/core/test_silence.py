"""The silence age: the formula, what 14 days of gaps teach, and what the comb would hide."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.silence import (
    DAY_S,
    DAYS,
    GAP_MAX_S,
    LOSS_MAX,
    Learned,
    SilenceRules,
    figures,
    silence,
)

RULES = SilenceRules()


def lived(mean_s: float, a_day: int, seed: int, interval_s: float = 0.25, days: int = DAYS
          ) -> Learned:
    """A link that was watched for ``days`` by echoes ``interval_s`` apart, 0.1 s in trouble."""
    rng = Random(seed)
    learned = Learned(interval_s=interval_s)
    for _ in range(days):
        for _ in range(a_day):
            lasts, until_asked = rng.expovariate(1 / mean_s), rng.uniform(0.0, interval_s)
            if until_asked >= lasts:
                continue  # it fell between two echoes
            asked = [until_asked, until_asked + 0.15]
            while asked[-1] < lasts:
                asked.append(asked[-1] + 0.1)
            lost = [at for at in asked if at < lasts]
            heard = next(at for at in asked if at >= lasts)
            learned = learned.gap(lost[-1] - lost[0], heard - lost[-1])
        learned = learned.watched(DAY_S)
    return learned


@pytest.mark.parametrize(("mean", "age"), [(0.1, 0.871), (0.2, 1.742), (0.4, 3.484)])
def test_the_formula_gives_what_the_reference_says_at_two_hundred_gaps_a_day(
        mean: float, age: float) -> None:
    found = silence(Learned(), SilenceRules(gap_mean_s=mean, gaps_a_day=200.0))
    assert found.age_s == pytest.approx(age, abs=1e-3)
    assert found.source == "config"


@pytest.mark.parametrize("mean", [0.1, 0.2, 0.4])
def test_fourteen_days_of_echoes_teach_the_mean_and_the_count_that_made_them(mean: float) -> None:
    m, a_day = figures(lived(mean, 200, seed=1))
    assert m == pytest.approx(mean, rel=0.12)
    assert a_day == pytest.approx(200, rel=0.15)


def test_without_the_correction_short_gaps_would_pass_for_longer_ones() -> None:
    learned = lived(0.1, 200, seed=2)
    gaps = sum(day.gaps for day in learned.days)
    plain = sum(day.low_s + day.width_s for day in learned.days) / gaps
    assert plain > 1.5 * figures(learned)[0]
    assert gaps < 0.5 * 200 * DAYS


@pytest.mark.parametrize("days", [0, 1, DAYS - 1])
def test_until_fourteen_days_are_learned_the_age_is_the_fresh_one(days: int) -> None:
    found = silence(lived(0.1, 200, seed=3, days=days), RULES)
    assert (found.age_s, found.source) == (1.5, "fresh")


def test_a_learned_age_is_that_of_the_formula_within_the_least_and_the_most() -> None:
    found = silence(lived(0.2, 200, seed=4), RULES)
    assert found.source in ("learned", "quantile")
    assert found.age_s == pytest.approx(1.742, rel=0.3)
    assert silence(lived(0.01, 3, seed=4), RULES).age_s == RULES.least_s
    assert silence(lived(3.0, 200, seed=4), RULES).age_s == RULES.most_s


def test_gaps_with_a_longer_tail_than_an_exponential_have_their_own_quantile() -> None:
    learned = Learned()
    for _ in range(DAYS):
        for n in range(200):
            learned = learned.gap(3.0 if n < 2 else 0.05, 0.1)
        learned = learned.watched(DAY_S)
    found = silence(learned, RULES)
    assert found.source == "quantile"
    assert 3.0 <= found.age_s <= 4.0
    assert found.age_s > found.mean_s * math.log(found.a_day / RULES.wrong_a_day)


def test_an_outage_is_no_gap_and_old_days_are_forgotten() -> None:
    assert Learned().gap(GAP_MAX_S + 1.0, 0.1) == Learned()
    learned = lived(0.4, 200, seed=5)
    for _ in range(DAYS + 1):
        learned = learned.watched(DAY_S)
    assert len(learned.days) <= DAYS + 1
    assert figures(learned) == (0.0, 0.0)
    assert silence(learned, RULES).age_s == RULES.least_s


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0.001, 2)), max_size=50),
       st.floats(0, 2e6))
def test_whatever_was_seen_the_age_lies_between_its_bounds(
        gaps: list[tuple[float, float]], seconds: float) -> None:
    learned = Learned()
    for low, width in gaps:
        learned = learned.gap(low, width).watched(seconds)
    found = silence(learned, RULES)
    assert RULES.least_s <= found.age_s <= RULES.most_s
    assert math.isfinite(found.mean_s)
    assert math.isfinite(found.a_day)


def test_the_everyday_loss_is_learned_slowly_and_bounded() -> None:
    learned = Learned()
    for _ in range(1000):
        learned = learned.asked(3, 100)
    assert learned.loss == pytest.approx(0.03, abs=0.002)
    assert Learned().asked(100, 100).loss < 0.02
    for _ in range(100):
        learned = learned.asked(20_000, 20_000)
    assert learned.loss == LOSS_MAX
