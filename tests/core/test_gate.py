"""The gate: what is acknowledged in time never fires it, what is not fires it once."""

import pytest

from gateway.core.gate import WAIT_LEAST_S, WAIT_MOST_S, Gate, TcpInfo, Watched
from gateway.core.instant import Mono

OUT = TcpInfo(1, 0, 100, 0.01)
IN = TcpInfo(0, 0, 400, 0.01)


def test_bytes_without_acknowledgement_fire_it_once_after_the_wait() -> None:
    sent = Watched(Mono(10.0))
    assert sent.look(OUT, 0.08, Mono(10.01)) is None
    assert sent.look(OUT, 0.08, Mono(10.079)) is None
    assert sent.look(OUT, 0.08, Mono(10.081)) == "unacked"
    assert sent.look(OUT, 0.08, Mono(10.2)) is None


def test_what_is_acknowledged_is_told_once_and_never_fires() -> None:
    sent = Watched(Mono(10.0))
    assert sent.look(IN, 0.08, Mono(10.03)) == "acked"
    assert sent.age_s == pytest.approx(0.03)
    assert sent.look(IN, 0.08, Mono(12.0)) is None


def test_an_upload_that_progresses_never_fires_and_one_that_stops_does() -> None:
    sent = Watched(Mono(0.0))
    for n in range(100):
        step = TcpInfo(4, 9000, 1000 * n, 0.01)
        assert sent.look(step, 0.08, Mono(n * 0.05)) is None
    stuck = TcpInfo(4, 9000, 99_000, 0.01)
    assert sent.look(stuck, 0.08, Mono(5.2)) == "unacked"


def test_bytes_that_wait_unsent_are_outstanding_too() -> None:
    assert Watched(Mono(0.0)).look(TcpInfo(0, 50, 0, 0.01), 0.08, Mono(0.1)) == "unacked"


def learned(*ages: float, least: float = 0.015) -> Gate:
    gate = Gate()
    for age in ages:
        gate.learn(age, least)
    return gate


def test_the_wait_of_a_new_path_is_its_round_trip_and_ninety_milliseconds() -> None:
    assert Gate().wait_s == pytest.approx(0.09)
    assert learned(0.02).wait_s == pytest.approx(0.105)


def test_a_learned_wait_is_above_what_nearly_all_took_and_within_its_bounds() -> None:
    assert learned(*[0.058] * 128).wait_s == pytest.approx(0.083)
    assert learned(*[0.002] * 128, least=0.0005).wait_s == WAIT_LEAST_S
    assert learned(*[0.002] * 128, least=0.1).wait_s == pytest.approx(0.3)
    assert learned(*[0.9] * 128).wait_s == WAIT_MOST_S
