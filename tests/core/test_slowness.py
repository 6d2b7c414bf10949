"""A slow upstream: five late answers in a row, by its own measure."""

from gateway.core.instant import Mono
from gateway.core.slowness import LASTS_MOST_S, LEARNED_MIN, ROW, Slowness


def learned(usual_ms: float = 60.0) -> Slowness:
    it = Slowness()
    for n in range(100):
        it.saw(usual_ms + n % 5, Mono(n * 0.1))
    return it


def told(it: Slowness, took_ms: float, n: int, since: float) -> Slowness:
    for number in range(n):
        it.saw(took_ms, Mono(since + number * 0.1))
    return it


def test_five_late_answers_in_a_row_are_slow_and_four_are_not() -> None:
    assert told(learned(), 600.0, ROW - 1, 20.0).since is None
    it = told(learned(), 600.0, ROW, 20.0)
    assert it.since == Mono(20.4)
    assert (it.usual_ms, it.last_ms) == (64.0, 600.0)


def test_what_is_late_depends_on_what_is_usual_and_is_half_a_second_at_least() -> None:
    assert told(learned(), 450.0, 50, 20.0).since is None
    assert told(learned(900.0), 2000.0, 50, 20.0).since is None
    assert told(learned(900.0), 2800.0, 50, 20.0).since is not None


def test_two_usual_answers_end_it_and_one_does_not() -> None:
    it = told(learned(), 900.0, 10, 20.0)
    it.saw(60.0, Mono(22.0))
    assert it.since is not None
    it.saw(60.0, Mono(22.1))
    assert it.since is None


def test_slow_answers_far_apart_say_nothing() -> None:
    it = learned()
    for n in range(20):
        it.saw(900.0, Mono(100.0 + n * 20.0))
    assert it.since is None


def test_nothing_is_slow_before_the_usual_is_known() -> None:
    it = told(Slowness(), 5000.0, LEARNED_MIN - 1, 0.0)
    assert it.since is None
    assert it.limit_ms is None


def test_what_lasts_half_an_hour_is_the_usual_now() -> None:
    it = told(learned(), 900.0, 10, 20.0)
    for n in range(int(LASTS_MOST_S) + 20):
        it.saw(900.0, Mono(22.0 + n))
    assert it.since is None
    assert it.usual_ms == 900.0


def test_an_answer_that_a_later_question_overtook_is_late_by_its_way() -> None:
    it = learned()
    it.saw(60.0, Mono(30.0))
    for number in range(50):  # what a hole had swallowed comes all at once
        it.saw(6000.0, Mono(31.0 + number * 0.001))
    assert it.since is None
    told(it, 6000.0, ROW, 50.0)
    assert it.since is not None
