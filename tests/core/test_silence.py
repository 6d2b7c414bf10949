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
    TAIL_S,
    Learned,
    SilenceRules,
    figures,
    silence,
    tail,
)

RULES = SilenceRules()
TRIP_S = 0.02


def seen(begins: float, ends: float, interval_s: float, rng: Random, loss: float
         ) -> tuple[list[float], float]:
    """What echoes see of a gap: those lost, and when the first that came back was sent.

    They are ``interval_s`` apart until one is 0.15 s late, then 0.1 s; ``loss`` of those beside
    the gap are lost too. Empty where the gap fell between two of them.
    """
    at, lost = begins - rng.uniform(0.0, interval_s), list[float]()
    while True:
        if begins <= at < ends or rng.random() < loss:
            lost.append(at)
        elif at >= ends:
            return lost, at
        elif lost:
            lost.clear()  # one of everyday's, answered since
        suspect = lost and at - lost[0] >= 0.15
        at += 0.1 if suspect else min(interval_s, lost[0] + 0.17 - at) if lost else interval_s


def lived(mean_s: float, a_day: int, seed: int, interval_s: float = 0.25, days: int = DAYS,
          loss: float = 0.0) -> Learned:
    """A link watched for ``days``: random gaps, and the lone losses and pairs of an everyday
    ``loss`` between them."""
    rng = Random(seed)
    learned = Learned(interval_s=interval_s)
    for _ in range(days):
        for _ in range(a_day):
            begins = 10.0
            lost, healed = seen(begins, begins + rng.expovariate(1 / mean_s), interval_s, rng, loss)
            learned = learned.gap(lost, healed) if lost else learned
        for _ in range(round(loss * DAY_S / interval_s)):
            lost = [10.0]
            while rng.random() < loss:
                lost.append(lost[-1] + (interval_s if len(lost) == 1 else 0.1))
            learned = learned.gap(lost, lost[-1] + 0.1)
        learned = learned.watched(DAY_S)
    return learned


@pytest.mark.parametrize(("mean", "age"), [(0.1, 0.871), (0.2, 1.742), (0.4, 3.484)])
def test_the_formula_gives_what_the_reference_says_at_two_hundred_gaps_a_day(
        mean: float, age: float) -> None:
    found = silence(Learned(), SilenceRules(gap_mean_s=mean, gaps_a_day=200.0))
    assert found.age_s == pytest.approx(age, abs=1e-3)
    assert found.source == "config"


@pytest.mark.parametrize("loss", [0.0, 0.005], ids=["clean", "lossy"])
@pytest.mark.parametrize(("mean", "within"), [(0.1, 0.5), (0.2, 0.15), (0.4, 0.1)])
def test_fourteen_days_of_echoes_teach_the_mean_that_made_the_gaps(
        mean: float, within: float, loss: float) -> None:
    """A tail is rarer the shorter the gaps are: thirty of 0.1 s in 14 days, a thousand of 0.4 s."""
    found = [figures(lived(mean, 200, seed, loss=loss))[0] for seed in range(4)]
    assert found == [pytest.approx(mean, rel=within)] * 4
    assert sum(found) / 4 == pytest.approx(mean, rel=within / 2)


@pytest.mark.parametrize("loss", [0.0, 0.005], ids=["clean", "lossy"])
@pytest.mark.parametrize("mean", [0.1, 0.2, 0.4])
def test_the_age_that_they_teach_is_that_of_the_formula(mean: float, loss: float) -> None:
    right = min(max(mean * math.log(200 / RULES.wrong_a_day), RULES.least_s), RULES.most_s)
    found = [silence(lived(mean, 200, seed, loss=loss), RULES).age_s for seed in range(4)]
    assert found == [pytest.approx(right, rel=0.25)] * 4
    assert sum(found) / 4 == pytest.approx(right, rel=0.1)


@pytest.mark.parametrize("interval", [0.05, 0.25, 1.0])
def test_the_count_is_corrected_for_gaps_that_fell_between_two_echoes(interval: float) -> None:
    m, a_day = figures(lived(0.4, 200, seed=3, interval_s=interval))
    assert m == pytest.approx(0.4, rel=0.15)
    assert a_day == pytest.approx(200, rel=0.3)


def test_without_the_correction_short_gaps_would_pass_for_longer_and_fewer_ones() -> None:
    rng = Random(5)
    lengths = [healed - lost[0] for lost, healed in (
        seen(10.0, 10.0 + rng.expovariate(10.0), 0.25, rng, 0.0) for _ in range(2800)) if lost]
    assert len(lengths) < 0.5 * 2800
    assert sum(lengths) / len(lengths) > 1.5 * 0.1


def test_lone_losses_are_no_gaps_however_many_there_are() -> None:
    """0.5 % of four echoes a second is 1,700 a day: taken for gaps they would halve the age."""
    learned = lived(0.4, 200, seed=6, loss=0.005)
    gaps = sum(day.gaps for day in learned.days) / DAYS
    assert gaps > 1500
    assert figures(learned)[1] == pytest.approx(200, rel=0.35)


@pytest.mark.parametrize("days", [0, 1, DAYS - 1])
def test_until_fourteen_days_are_learned_the_age_is_the_fresh_one(days: int) -> None:
    found = silence(lived(0.1, 200, seed=3, days=days), RULES)
    assert (found.age_s, found.source) == (1.5, "fresh")


def test_an_age_lies_between_the_least_and_the_most() -> None:
    assert silence(lived(0.01, 3, seed=4), RULES).age_s == RULES.least_s
    assert silence(lived(2.0, 200, seed=4), RULES).age_s == RULES.most_s


def gap_of(seconds: float) -> list[float]:
    return [n / 10 for n in range(1 + round(seconds * 10))]


def test_gaps_with_a_longer_tail_than_an_exponential_have_their_own_quantile() -> None:
    learned = Learned()
    for _ in range(DAYS):
        for n in range(200):
            lost = gap_of(3.0 if n < 2 else 0.4)
            learned = learned.gap(lost, lost[-1] + 0.1)
        learned = learned.watched(DAY_S)
    found = silence(learned, RULES)
    assert found.source == "quantile"
    assert 3.0 <= found.age_s <= 4.0
    assert found.age_s > found.mean_s * math.log(found.a_day / RULES.wrong_a_day)


def test_one_long_gap_in_a_fortnight_is_what_an_exponential_has_too() -> None:
    learned = lived(0.1, 200, seed=7)
    lost = gap_of(4.0)
    found = silence(learned.gap(lost, 4.1), RULES)
    assert found.source == "learned"
    assert found.age_s < silence(learned, RULES).age_s + 0.35


def test_an_outage_is_no_gap_and_old_days_are_forgotten() -> None:
    assert Learned().gap(gap_of(GAP_MAX_S + 1.0), GAP_MAX_S + 1.1) == Learned()
    learned = lived(0.4, 200, seed=5)
    for _ in range(DAYS + 1):
        learned = learned.watched(DAY_S)
    assert len(learned.days) <= DAYS + 1
    assert figures(learned) == (0.0, 0.0)
    assert silence(learned, RULES).age_s == RULES.least_s


def test_a_tail_begins_with_the_first_question_that_was_lost_late_enough() -> None:
    assert tail([5.0]) is None
    assert tail([5.0, 5.0 + TAIL_S - 0.01]) is None
    assert tail([5.0, 5.2, 5.01 + TAIL_S, 5.6]) == 5.01 + TAIL_S


def test_of_flapping_only_the_first_tail_is_learned() -> None:
    flapped = Learned()
    for n in range(150):
        flapped = flapped.gap(gap_of(2.0), 2.1, apart=n == 0)
    assert (flapped.days[-1].gaps, flapped.days[-1].tails) == (150, 1)


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0.0, 2)), max_size=50),
       st.floats(0, 2e6), st.integers(0, 10**9))
def test_whatever_was_seen_the_age_lies_between_its_bounds(
        gaps: list[tuple[float, float]], seconds: float, signs: int) -> None:
    learned = Learned()
    for low, width in gaps:
        learned = learned.gap([0.0, low], low + width).watched(seconds, signs)
    found = silence(learned, RULES)
    assert RULES.least_s <= found.age_s <= RULES.most_s
    assert math.isfinite(found.mean_s)
    assert math.isfinite(found.a_day)


def test_the_comb_is_learned_from_the_signs_of_life() -> None:
    learned = Learned()
    for _ in range(5 * 1440):
        learned = learned.watched(60.0, 60 * 100)
    assert learned.interval_s == pytest.approx(0.01, abs=0.005)
    assert Learned().watched(60.0).interval_s == 0.25


def test_the_everyday_loss_is_learned_slowly_and_bounded() -> None:
    learned = Learned()
    for _ in range(1000):
        learned = learned.asked(3, 100)
    assert learned.loss == pytest.approx(0.03, abs=0.002)
    assert Learned().asked(100, 100).loss < 0.02
    for _ in range(100):
        learned = learned.asked(20_000, 20_000)
    assert learned.loss == LOSS_MAX
