"""The bench's own statistics, against records written by hand."""

import pytest

from tests.bench.rig.figures import (
    longest_gap,
    measure,
    moved_after,
    near,
    quantile,
    share_by,
    slowest,
    spread,
    was_carrying,
    within,
)
from tests.bench.rig.records import Kind, Record


def one(number: int, due: float, took_s: float = 0.02, kind: Kind = "live",
        link: str = "a") -> Record:
    return Record("ours", number, due, 0.0, took_s, kind, link)


def calm(first: float, last: float, number: int = 0, link: str = "a") -> list[Record]:
    """Ten requests a second, each answered after 20 ms."""
    return [one(number + n, first + n / 10, link=link) for n in range(round((last - first) * 10))]


def test_a_quantile_is_a_figure_that_was_measured() -> None:
    assert quantile([], 0.99) == 0.0
    assert quantile([5.0], 0.5) == 5.0
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile(range(1, 101), 1.0) == 100
    assert quantile(range(1, 100), 0.99) == 99
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_the_window_is_a_second_before_to_five_after_and_takes_those_in_flight() -> None:
    early, in_flight = one(1, 8.0, 0.5), one(2, 8.0, 1.5)
    first, last, late = one(3, 9.0), one(4, 15.0), one(5, 15.01)
    assert within([early, in_flight, first, last, late], 10.0) == [in_flight, first, last]


def test_a_request_near_two_onsets_counts_once() -> None:
    assert len(near([one(1, 11.0), one(2, 40.0)], [10.0, 12.0])) == 1


def test_the_measure_sees_a_failure_a_stall_and_a_gap() -> None:
    records = [*calm(0.0, 10.0), one(900, 10.0, 0.9), *calm(11.0, 20.0, 200, "b"),
               one(901, 12.0, 10.0, "failed", "")]
    found = measure(records, [10.0])
    assert (found.requests, found.failed) == (192, 1)
    assert found.max_ms == pytest.approx(10_000)
    assert found.p50_ms == pytest.approx(20)
    assert found.p99_ms == pytest.approx(10_000)  # 53 near: the p99 is the worst
    assert found.gap_ms == pytest.approx(980)  # 9.92 to 10.90


def test_a_failure_outside_every_window_counts_too() -> None:
    assert measure([*calm(0.0, 20.0), one(900, 19.0, 1.0, "failed")], [10.0]).failed == 1


def test_what_is_good_depends_on_what_was_asked() -> None:
    refused = [one(1, 10.0, kind="refused", link="")]
    assert measure(refused, [10.0]).failed == 1
    assert measure(refused, [10.0], frozenset({"live", "refused"})).failed == 0


def test_a_failure_ends_no_gap_and_silence_to_the_end_is_one() -> None:
    records = [*calm(5.0, 10.0), one(900, 11.0, 0.5, "failed", "")]
    assert longest_gap(records, 10.0) == pytest.approx(15.0 - 9.92)


def test_the_move_is_dated_by_the_last_request_that_did_not_go_there() -> None:
    before = calm(9.0, 10.0)
    lost = [one(100, 10.01, 0.08, link="b"), one(101, 10.03, 0.02, "failed", "")]
    there = [one(200 + n, 10.05 + n / 100, link="b") for n in range(60)]
    assert moved_after([*before, *lost, *there], 10.0, "b") == pytest.approx(0.03)
    assert moved_after([*before, *there[:49]], 10.0, "b") is None
    assert moved_after(there, 10.0, "b") == 0.0


def test_the_slowest_come_worst_first() -> None:
    assert [each.number for each in slowest([one(1, 0, 1.0), one(2, 0, 3.0), one(3, 0, 2.0)], 2)] \
        == [2, 3]


def test_a_spread_shows_the_median_and_both_ends() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2 (1-3)"
    assert spread([4.0, 4.0]) == "4"
    assert spread([]) == "-"


def test_no_record_of_one_run_hides_another_runs() -> None:
    bad = [one(1, 10.0, 0.5)]
    good = [one(1, 110.0)]
    assert len(near(bad + good, [10.0, 110.0])) == 2
    assert measure(bad + good, [10.0, 110.0]).max_ms == pytest.approx(500.0)


def test_a_share_of_nothing_is_the_worst() -> None:
    records = calm(10.0, 12.0) + calm(12.0, 20.0, 20, "b")
    assert share_by(records, "a", 10.0, 20.0) == pytest.approx(0.2)
    assert share_by(records, "a", 12.0, 20.0) == 0.0
    assert share_by(records, "a", 30.0, 40.0) == 1.0


def test_an_idle_link_and_one_that_was_left_were_not_carrying() -> None:
    assert was_carrying(calm(8.0, 10.0), "a", 10.0)
    assert not was_carrying(calm(8.0, 10.0, link="b"), "a", 10.0)
    assert not was_carrying(calm(8.0, 8.5), "a", 10.0)
    assert was_carrying(calm(8.0, 9.8) + calm(9.9, 11.0, 50, ""), "a", 10.0)
