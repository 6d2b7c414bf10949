"""Backoff: spread over the whole span, never over its ceiling."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backoff import CAP_S, FIRST_S, ceiling, full_jitter


def test_the_ceiling_doubles_from_half_a_second_to_a_minute() -> None:
    assert [ceiling(n) for n in range(10)] == [0, 0.5, 1, 2, 4, 8, 16, 32, 60, 60]


@given(failures=st.integers(0, 10_000), seed=st.integers(0, 2**32))
def test_no_wait_is_negative_or_over_its_ceiling(failures: int, seed: int) -> None:
    assert 0.0 <= full_jitter(failures, Random(seed)) <= ceiling(failures) <= CAP_S


def test_a_county_that_returns_together_is_spread_over_the_whole_span() -> None:
    waits = sorted(full_jitter(20, Random(seed)) for seed in range(1000))

    assert waits[50] < CAP_S * 0.1
    assert waits[-50] > CAP_S * 0.9
    assert abs(sum(waits) / len(waits) - CAP_S / 2) < CAP_S * 0.05


def test_the_same_seed_waits_the_same() -> None:
    assert full_jitter(3, Random(7)) == full_jitter(3, Random(7))


def test_the_first_retry_comes_within_half_a_second() -> None:
    assert max(full_jitter(1, Random(seed)) for seed in range(200)) <= FIRST_S
