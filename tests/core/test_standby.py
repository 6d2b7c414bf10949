"""How many warm connections a link holds, and when one that is missing may be opened."""

from dataclasses import replace

import pytest

from gateway.core.standby import Standing, burst, may_open, warm

FIBRE = Standing("UP", metered=False, busy=False, wanted=False)
SIM = replace(FIBRE, metered=True)


def test_a_link_whose_bytes_are_free_holds_what_a_burst_needs_within_limits() -> None:
    assert warm(FIBRE, (0, 5, 30), 8) == (2, 5, 8)


def test_an_idle_metered_link_holds_two_a_path_and_five_in_all_and_two_on_a_small_plan() -> None:
    assert warm(SIM, (30, 30, 30, 30), 8) == (2, 2, 1, 0)
    assert warm(replace(SIM, small_plan=True), (30, 30), 8) == (2, 0)


@pytest.mark.parametrize("standing", [replace(SIM, busy=True), replace(SIM, wanted=True)])
def test_a_metered_link_that_is_needed_holds_as_many_as_any(standing: Standing) -> None:
    assert warm(standing, (5, 0), 8) == (5, 2)
    assert may_open(standing, opened=True, tried_s=0.0)


def test_a_dead_or_foreign_link_holds_none() -> None:
    assert warm(replace(FIBRE, state="DOWN"), (5,), 8) == (0,)
    assert warm(replace(FIBRE, state="QUARANTINED"), (5,), 8) == (0,)
    assert warm(replace(FIBRE, state="PROBATION"), (5,), 8) == (5,)


def test_on_an_idle_metered_link_what_the_upstream_closed_is_not_opened_again() -> None:
    assert may_open(SIM, opened=False, tried_s=None)
    assert not may_open(SIM, opened=True, tried_s=None)
    assert may_open(FIBRE, opened=True, tried_s=1.0)


def test_an_idle_metered_link_whose_upstream_is_down_is_tried_every_quarter_of_an_hour() -> None:
    assert not may_open(SIM, opened=False, tried_s=899.0)
    assert may_open(SIM, opened=False, tried_s=900.0)
    assert not may_open(replace(FIBRE, state="DOWN"), opened=False, tried_s=None)


def test_a_burst_is_the_ninetieth_percentile_of_the_peaks() -> None:
    assert burst([]) == 0
    assert burst([1] * 135 + [9] * 15) == 9
    assert burst([1] * 140 + [9] * 10) == 1
