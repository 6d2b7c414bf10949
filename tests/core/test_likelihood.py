"""What a miss is worth, and how soon the sums find a brown-out."""

from random import Random

import pytest

from gateway.core.likelihood import Sums, after_success, likelihood, miss_weight


@pytest.mark.parametrize(("loss", "weight"), [(0.005, 5.29), (0.03, 3.50)])
def test_a_miss_is_worth_what_the_reference_says(loss: float, weight: float) -> None:
    assert miss_weight(loss) == pytest.approx(weight, abs=0.01)


def test_misses_of_one_burst_count_three_tenths_after_the_first() -> None:
    far = likelihood([0.0, 1.0, 2.0], 0.005, 0.2)
    near = likelihood([0.0, 0.1, 0.2], 0.005, 0.2)
    assert far == pytest.approx(3 * 5.288, abs=0.01)
    assert near == pytest.approx(1.6 * 5.288, abs=0.01)


def test_a_success_takes_back_four_point_six_and_never_more_than_there_is() -> None:
    assert after_success(12.0) == pytest.approx(12.0 - 4.6, abs=0.01)
    assert after_success(12.0, 3) == 0.0


def answers_until_brown(share: float, seed: int, of: int = 4000, loss: float = 0.005) -> int:
    rng, sums = Random(seed), Sums()
    for n in range(of):
        sums = sums.missed(loss) if rng.random() < share else sums.answered(loss, 1.0)
        if sums.is_brown:
            return n + 1
    return of


def test_twenty_percent_loss_is_found_within_a_second_of_busy_traffic_and_five_within_five(
        ) -> None:
    """Busy: 40 signs a second: ten echoes, twenty acknowledgements, and the gates that fired."""
    twenty = sorted(answers_until_brown(0.2, seed) for seed in range(200))
    five = sorted(answers_until_brown(0.05, seed) for seed in range(200))
    assert twenty[180] <= 40
    assert five[140] <= 5 * 40


def test_everyday_loss_is_hardly_ever_taken_for_one() -> None:
    found = [answers_until_brown(0.005, seed, of=20_000) for seed in range(20)]
    assert sum(n < 20_000 for n in found) <= 6


def test_a_burst_that_swallows_everything_is_one_miss() -> None:
    sums = Sums()
    for _ in range(50):
        sums = sums.missed(0.005)
    assert not sums.is_brown


def test_three_times_the_round_trip_is_found_within_ten_echoes_and_its_end_too() -> None:
    sums = Sums()
    for _ in range(10):
        sums = sums.answered(0.005, 3.0)
    assert sums.is_brown
    for _ in range(20):
        sums = sums.answered(0.005, 1.0)
    assert sums.is_clear


def test_a_little_slower_than_usual_is_no_brown_out() -> None:
    rng, sums = Random(1), Sums()
    for _ in range(5000):
        sums = sums.answered(0.005, rng.uniform(0.7, 1.7))
        assert not sums.is_brown


def test_a_quiet_stretch_counts_as_its_answers_would_one_by_one() -> None:
    one = whole = Sums().missed(0.005).answered(0.005, 3.0).missed(0.005)
    for _ in range(7):
        one = one.answered(0.005, 1.0)
    assert whole.quiet(0.005, 7).loss == pytest.approx(one.loss)
    assert whole.quiet(0.005, 7).rtt == pytest.approx(one.rtt)
    assert whole.quiet(0.005, 1000) == Sums()
