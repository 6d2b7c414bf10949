"""Kent, played by the command that a person types; and its figures, from known requests."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.observed import Move
from chaos.stories.kent import both_dead, left_before, phase_figures
from tests.chaos.test_observed import sent

ROOT = Path(__file__).parents[2]


def test_figures_of_a_phase_count_each_request_once() -> None:
    live = sent(status=200, whole=True, answer_class="live", phase="normal")
    copy = replace(live, answer_class="as-of", took_s=0.3)
    found = phase_figures("normal", 1.0, [live, copy, replace(live, status=0, whole=False),
                                          replace(live, phase="other")])
    assert (found["sent"], found["live"], found["copy"], found["failed"]) == (3, 1, 1, 1)
    assert (found["p50_ms"], found["longest_stall_ms"]) == (100.0, 300.0)


def test_a_read_was_seen_before_only_if_no_booking_came_after_it() -> None:
    live = sent(status=200, whole=True, answer_class="live", at=1.0, key="old")
    booking = replace(live, at=2.0, is_read=False, key="book")
    kept = replace(live, at=3.0, key="new")
    dead = [replace(live, at=11.0, phase="both-dead", key="new", answer_class="as-of",
                    marked=True),
            replace(live, at=14.0, phase="both-dead", key="old", status=503, transient=True)]
    found = both_dead([live, booking, kept, *dead], cut_at=10.0)
    assert (found["seen_before"]["sent"], found["seen_before"]["not_marked"]) == (1, 0)
    assert (found["never_seen"]["sent"], found["never_seen"]["not_refused"]) == (1, 0)
    assert found["seen_before"]["earlier_than_2500_ms_after_the_cut"]["sent"] == 1
    assert found["never_seen"]["later_than_2500_ms"]["sent"] == 1


def test_kent_demands_that_traffic_left_before_the_fibre_died() -> None:
    left = Move(9.0, "switch", "fibre", "sim", cause="MAINTENANCE")

    assert left_before([left], cut_at=10.0)
    assert not left_before([left], cut_at=8.0)
    assert not left_before([replace(left, cause="BLACKHOLE")], cut_at=10.0)
    assert not left_before([], cut_at=10.0)


@pytest.fixture(scope="module")
def played() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--story", "kent", "--json"], cwd=ROOT,
        capture_output=True, text=True, timeout=120, env=dict(os.environ), check=False)


def test_every_promise_that_kent_exercises_is_held(
        played: subprocess.CompletedProcess[str]) -> None:
    told = json.loads(played.stdout)
    broken = {number: one for number, one in told["promises"].items() if one["held"] is False}
    assert not broken
    assert {number for number, one in told["promises"].items()
            if one["held"] == "not exercised"} == {"3", "7", "8", "10"}
    assert played.returncode == 0, told
    assert told["bookings"] is None


def test_what_was_seen_before_is_answered_and_what_was_not_is_refused(
        played: subprocess.CompletedProcess[str]) -> None:
    dead = json.loads(played.stdout)["both_links_dead"]
    assert dead["seen_before"]["sent"] > 100
    assert dead["seen_before"]["not_marked"] == 0
    assert dead["never_seen"]["sent"] > 10
    assert dead["never_seen"]["not_refused"] == 0


def test_nothing_fails_but_while_the_gateway_is_dead_and_bookings_whose_answer_was_lost(
        played: subprocess.CompletedProcess[str]) -> None:
    told = json.loads(played.stdout)
    failed = {one["phase"]: one["failed"] for one in told["phases"] if one["failed"]}
    assert failed.pop("replies-lost") == told["bookings_of_unknown_outcome"] > 0
    assert set(failed) <= {"crash"}
    assert told["left_before_the_window"]
    assert told["upstream_down_switches"] == 0
    assert told["crash"][0]["rows_lost"] == 0


def test_a_client_that_takes_no_copies_is_refused_and_not_counted_among_the_others() -> None:
    live = sent(status=200, whole=True, answer_class="live", at=1.0)
    strict = replace(live, at=12.0, phase="both-dead", opted_in=False, status=503, transient=True)
    found = both_dead([live, strict], cut_at=10.0)
    assert found["seen_before"]["sent"] == 0
    assert found["not_opted_in"] == {"sent": 1, "not_refused": 0}


def test_clients_that_take_no_copies_got_none(played: subprocess.CompletedProcess[str]) -> None:
    found = json.loads(played.stdout)["both_links_dead"]["not_opted_in"]
    assert found["sent"] > 10
    assert found["not_refused"] == 0
