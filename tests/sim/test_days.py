"""Simulated days: skipping quiet stretches changes no turn, and bursts move no link for nothing."""

from dataclasses import replace

import pytest

from gateway.core.link import LinkRules
from gateway.core.silence import DAYS, Day
from tests.sim.days import DAY_S, TICK_S, Days, Found, grid, is_fast, is_good, live, table

HOUR_S = 3600.0


@pytest.mark.parametrize(("seed", "mean"), [(1, 0.1), (2, 0.4), (3, 1.5)])
def test_skipping_quiet_stretches_gives_the_same_turns_at_the_same_instants(
        seed: int, mean: float) -> None:
    whole = Days(seed, mean, a_day=600.0, skipping=False).run(3 * HOUR_S)
    skipped = Days(seed, mean, a_day=600.0).run(3 * HOUR_S)
    one = [(round(t.at, 3), t.link, t.before, t.after) for t in whole.turned]
    assert len(one) > 50
    assert [(round(t.at, 3), t.link, t.before, t.after) for t in skipped.turned] == one
    assert skipped.samples < 0.8 * whole.samples


@pytest.mark.parametrize(("seed", "mean"), [(6, 0.1), (7, 0.4)])
def test_skipping_changes_nothing_of_a_link_that_has_learned_and_teaches_it_the_same(
        seed: int, mean: float) -> None:
    """Fourteen days of the same weather behind it, so that A* is the learned one."""
    day = Days(seed, mean).run(DAY_S + HOUR_S).lines[0].detector.learned
    past = replace(day, days=(day.days[0],) * DAYS + (Day(),))
    whole = Days(seed, mean, a_day=1200.0, skipping=False, learned=past).run(2 * HOUR_S)
    skipped = Days(seed, mean, a_day=1200.0, learned=past).run(2 * HOUR_S)
    one = [(round(t.at, 3), t.link, t.before, t.after) for t in whole.turned]
    assert len(one) > 50
    assert [(round(t.at, 3), t.link, t.before, t.after) for t in skipped.turned] == one
    assert skipped.samples < 0.8 * whole.samples
    for line, other in zip(whole.lines, skipped.lines, strict=True):
        played, left_out = line.detector.silence, other.detector.silence
        assert played.source == left_out.source == "learned"
        assert left_out.age_s == pytest.approx(played.age_s, rel=0.01)
        assert line.detector.learned.days[-1].tails == other.detector.learned.days[-1].tails
        assert other.detector.learned.interval_s == pytest.approx(
            line.detector.learned.interval_s, rel=0.02)


def test_ticks_move_time_on_after_a_month_as_on_the_first_day() -> None:
    """A tick that lands on itself is played for ever: after five days one in six did."""
    for day in range(45):
        at = grid(day * DAY_S + 0.37)
        for _ in range(500):
            after = grid(at + TICK_S)
            assert 0.9 * TICK_S < after - at < 1.1 * TICK_S
            at = after


def test_a_day_of_short_bursts_switches_no_link_and_teaches_their_length() -> None:
    found = live(seed=4, mean_s=0.2, learn_days=0.0, days=1.0)
    assert found.wrong == 0
    assert found.mean_learned_s == pytest.approx(0.2, rel=0.3)
    assert found.gaps_a_day > 150


def test_a_detector_without_patience_switches_all_day() -> None:
    """Three misses at 100 ms are no death: what this bench must be able to see."""
    hasty = LinkRules(probe_suspect_every_s=0.1, site_jitter_s=0.0, fresh_s=0.2, least_s=0.2,
                      likelihood_min=1.0, misses_min=3)
    played = Days(5, 0.4, rules=hasty).run(DAY_S / 4)
    assert len(played.wrong) >= 3


def test_the_verdict_on_a_month_is_a_mean_of_one_and_no_seed_above_four() -> None:
    def seen(*wrong: int) -> list[Found]:
        return [Found(n, 0.1, 0, each, 1.0, 0.1, 200.0, "learned", 1, 1.0, 1.0)
                for n, each in enumerate(wrong)]

    assert is_good(seen(0, 2, 1))
    assert not is_good([])
    assert is_fast(seen(0), 2, whole=False) is False, "an hour in a second is 120 a minute"
    assert is_fast(seen(0), 10, whole=True)
    assert not is_good(seen(0, 2, 2))
    assert not is_good(seen(*[0] * 9, 5))
    assert "0.1" in "\n".join(table(seen(0, 1), 2))
