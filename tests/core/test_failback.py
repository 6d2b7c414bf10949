"""Coming back to a better link: step by step, back out at once, and nothing left behind."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.failback import (
    FIRST_BOOKINGS,
    FIRST_READS,
    FIRST_WRITES,
    LAST,
    STEPS,
    WARM_MAX_S,
    Clearing,
    Done,
    FailbackRules,
    Flows,
    Moment,
    Ramp,
    RolledBack,
    Trial,
    advance,
    is_surgery,
    may_begin,
    share,
    sweep,
    takes,
    waited,
)
from gateway.core.instant import Mono, Wall
from gateway.core.steer import Figures

RULES = FailbackRules()
WELL = Figures(1000, 2, 0.03, 0.025, 0.060)
FINE = Trial(Figures(100, 0, 0.02, 0.02, 0.04), WELL)


def at(seconds: float) -> Mono:
    return Mono(10_000.0 + seconds)


def ramp(step: int = 0, since: float = 0.0) -> Ramp:
    return Ramp("fibre", "sim", at(0), at(since), step)


# --- the steps

def test_reads_go_back_in_four_steps_then_bookings_then_other_writes() -> None:
    shares = [tuple(share(ramp(step), traffic) for traffic in ("read", "booking", "write"))
              for step in range(len(STEPS))]
    assert shares == [
        (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.01, 0.0, 0.0), (0.1, 0.0, 0.0), (0.5, 0.0, 0.0),
        (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)]
    assert share(ramp(FIRST_BOOKINGS), "tunnel") == share(ramp(FIRST_BOOKINGS), "stream") == 0.0
    assert share(ramp(FIRST_WRITES), "tunnel") == share(ramp(FIRST_WRITES), "stream") == 1.0


@pytest.mark.parametrize(("step", "exact"), [(2, 0.01), (3, 0.1), (4, 0.5), (5, 1.0)])
def test_which_requests_go_is_decided_by_their_number_and_evenly(step: int, exact: float) -> None:
    chosen = [serial for serial in range(10_000) if takes(ramp(step), "read", serial)]
    assert len(chosen) == pytest.approx(exact * 10_000, abs=3)
    assert chosen == [serial for serial in range(10_000) if takes(ramp(step), "read", serial)]
    if exact < 0.5:
        assert min(b - a for a, b in itertools.pairwise(chosen)) >= 0.5 / exact


def test_who_went_at_one_step_goes_at_the_next() -> None:
    """Else a client's reads would jump to and fro between the links as the share grows."""
    for serial in range(1000):
        went = [takes(ramp(step), "read", serial) for step in range(FIRST_READS, LAST + 1)]
        assert went == sorted(went)


def test_a_healthy_ramp_takes_ten_seconds_a_step_and_ends() -> None:
    now, current = 0.0, ramp(1)
    seen: list[tuple[str, float]] = []
    while now < 120:
        after = advance(current, FINE, at(now), RULES)
        if isinstance(after, Done):
            assert (after.ramp.stage, after.at) == ("CLEARING", at(60))
            break
        assert isinstance(after, Ramp)
        if after.step != current.step:
            seen.append((after.stage, now))
        current = after
        now += 0.25
    assert seen == [("READS", 0.0), ("READS", 10.0), ("READS", 20.0), ("READS", 30.0),
                    ("BOOKINGS", 40.0), ("WRITES", 50.0)]


def test_it_waits_for_its_connections_but_not_for_ever() -> None:
    cold = replace(FINE, warm=False)
    assert advance(ramp(1), cold, at(WARM_MAX_S - 0.1), RULES) == ramp(1)
    after = advance(ramp(1), cold, at(WARM_MAX_S), RULES)
    assert isinstance(after, Ramp)
    assert after.stage == "READS"


def test_nothing_is_added_while_something_is_overdue() -> None:
    after = advance(ramp(3), replace(FINE, troubled=True), at(30), RULES)
    assert after == ramp(3, since=30)


# --- rolling back

def test_one_slow_read_or_two_failed_ones_roll_nothing_back() -> None:
    one_slow = Figures(39, 0, 0.2, 0.02, 5.0)
    assert isinstance(advance(ramp(3), Trial(one_slow, WELL), at(1), RULES), Ramp)
    two_failed = Figures(2, 2)
    assert isinstance(advance(ramp(2), Trial(two_failed, WELL), at(1), RULES), Ramp)


def test_three_failed_reads_roll_back_at_once() -> None:
    after = advance(ramp(3), Trial(Figures(20, 3, 0.02, 0.02, 0.03), WELL), at(1), RULES)
    assert isinstance(after, RolledBack)
    assert (after.reason, after.ramp.step, after.at) == ("errors", 3, at(1))


def test_errors_that_the_backup_has_too_roll_nothing_back() -> None:
    bad_upstream = Figures(1000, 100, 0.03, 0.025, 0.06)
    same = Figures(100, 10, 0.03, 0.025, 0.06)
    assert isinstance(advance(ramp(4), Trial(same, bad_upstream), at(1), RULES), Ramp)
    worse = Figures(100, 11, 0.03, 0.025, 0.06)
    assert isinstance(advance(ramp(4), Trial(worse, bad_upstream), at(1), RULES), RolledBack)


def test_a_p95_half_as_slow_again_rolls_back_if_enough_reads_say_so() -> None:
    slow = Figures(40, 0, 0.1, 0.1, 0.2)
    assert isinstance(advance(ramp(4), Trial(slow, WELL), at(1), RULES), RolledBack)
    few = replace(slow, n=39)
    assert isinstance(advance(ramp(4), Trial(few, WELL), at(1), RULES), Ramp)
    slow_backup = replace(WELL, p95_s=0.14)
    assert isinstance(advance(ramp(4), Trial(slow, slow_backup), at(1), RULES), Ramp)
    milliseconds = Trial(Figures(100, 0, 0.002, 0.002, 0.009), replace(WELL, p95_s=0.004))
    assert isinstance(advance(ramp(4), milliseconds, at(1), RULES), Ramp)


@given(fails=st.integers(0, 50), of=st.integers(0, 500), backup=st.integers(0, 50),
       p95=st.floats(0.001, 5.0), step=st.integers(FIRST_READS, LAST - 1),
       now=st.floats(0.0, 30.0))
def test_a_ramp_goes_one_step_at_most_and_never_back_without_reason(
        fails: int, of: int, backup: int, p95: float, step: int, now: float) -> None:
    trial = Trial(Figures(max(of, fails), fails, 0.02, 0.02, p95),
                  Figures(500, backup, 0.02, 0.02, 0.05))
    match advance(ramp(step), trial, at(now), RULES):
        case RolledBack():
            assert fails >= RULES.errors_min or p95 >= 0.05 + RULES.slow_least_s
        case Done() as done:
            assert step == LAST - 1
            assert now >= RULES.step_s
            assert done.ramp.step == LAST
        case Ramp() as after:
            assert after.step in (step, step + 1)
            assert after.step == step or now >= RULES.step_s


# --- when to begin

BUSY = Moment(True, True, 10.0, 10.0)


def test_in_a_busy_surgery_with_a_healthy_backup_waiting_is_right() -> None:
    assert not may_begin(ramp(), BUSY, at(60), RULES)


@pytest.mark.parametrize("moment", [
    replace(BUSY, in_hours=False), replace(BUSY, backup_is_well=False), replace(BUSY, rate=5.0),
    Moment(True, True, 0.0, 0.0)])
def test_it_goes_at_once_out_of_hours_from_a_bad_backup_or_in_a_quiet_minute(
        moment: Moment) -> None:
    assert may_begin(ramp(), moment, at(0), RULES)


def test_it_waits_half_an_hour_at_most() -> None:
    assert not may_begin(ramp(), BUSY, at(1799), RULES)
    assert may_begin(ramp(), BUSY, at(1800), RULES)
    assert may_begin(ramp(), BUSY, at(0), FailbackRules(wait_most_s=0.0))


def test_it_goes_when_staying_has_cost_more_than_switching_may() -> None:
    """10 reads/s that each wait 20 ms longer: 0.2 s a second; the ramp may cost 18 s."""
    dear = replace(BUSY, stay_cost=0.2)
    current, seconds = ramp(), 0
    while current.stage == "WAITING":
        seconds += 1
        current = waited(current, dear, 1.0, at(seconds), RULES)
    assert seconds == 91
    assert (current.stage, current.since) == ("WARMING", at(91))


def wall(text: str) -> Wall:
    return Wall(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(("utc", "expected"), [
    ("2026-11-26T08:00", True), ("2026-11-26T07:59", False), ("2026-11-26T18:29", True),
    ("2026-11-26T18:30", False), ("2026-11-28T10:00", False),  # a Saturday
    ("2026-07-01T07:00", True), ("2026-07-01T17:30", False),  # summer time
    ("2026-03-27T07:30", False), ("2026-03-30T07:30", True),  # the Friday and Monday around
    ("2026-10-23T17:45", False), ("2026-10-26T17:45", True)])
def test_surgery_hours_follow_the_clocks_of_the_united_kingdom(utc: str, expected: bool) -> None:
    assert is_surgery(wall(utc), RULES) is expected


# --- the sweep

def swept(flows: Flows, seconds: float, clearing: Clearing | None = None) -> tuple[Clearing, str]:
    told = sweep(clearing or Clearing("sim", at(0)), flows, at(seconds), RULES)
    return told.clearing, told.tunnels


def test_a_backup_without_flows_is_clean_at_once() -> None:
    clearing, ends = swept(Flows(), 0)
    assert (clearing.wrong, clearing.clean_at, clearing.alarmed, ends) == (0, at(0), None, "none")


def test_flows_have_their_time_before_they_are_an_alarm() -> None:
    assert swept(Flows(2, 3, 0), 59)[0].alarmed is None
    assert swept(Flows(2, 3, 0), 60)[0].alarmed == at(60)
    assert swept(Flows(2, 3, 0), 60)[0].wrong == 5
    assert swept(Flows(tunnels=1), 309)[0].alarmed is None
    assert swept(Flows(tunnels=1), 310)[0].alarmed == at(310)


def test_tunnels_are_reset_in_a_gap_and_all_of_them_after_five_minutes() -> None:
    assert swept(Flows(tunnels=2), 1)[1] == "idle"
    assert swept(Flows(tunnels=2), 295)[1] == "all"


def test_an_alarm_ends_when_the_last_wrong_flow_has() -> None:
    alarmed, _ = swept(Flows(requests=1), 61)
    assert swept(Flows(requests=1), 90, alarmed)[0].alarmed == at(61)
    ended = swept(Flows(), 91, alarmed)[0]
    assert (ended.alarmed, ended.clean_at) == (None, at(91))
