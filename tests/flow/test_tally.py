"""Counts and histograms of what was answered."""

from gateway.core.instant import Mono
from gateway.core.message import Told
from gateway.flow.tally import LE_S, Tally


def told(answered: str, took_s: float) -> Told:
    return Told("B81001", "gpc", "desk", "slots", answered, 200, "fibre",  # type: ignore[arg-type]
                Mono(1.0), took_s, 1)


def test_answers_are_counted_by_tenant_upstream_and_kind() -> None:
    tally = Tally()
    for answered, took in (("live", 0.02), ("live", 0.02), ("copy", 0.001)):
        tally(told(answered, took))

    assert tally.requests() == (("B81001", "gpc", "copy", 1), ("B81001", "gpc", "live", 2))


def test_the_histogram_is_cumulative_and_its_bounds_include_their_own_value() -> None:
    tally = Tally()
    for took in (0.005, 0.0051, 60.0):
        tally(told("live", took))

    latency = tally.latency()
    assert latency.counts[LE_S.index(0.005)] == 1
    assert latency.counts[LE_S.index(0.01)] == 2
    assert latency.counts[-1] == 2
    assert latency.count == 3
    assert latency.sum == 60.0101
