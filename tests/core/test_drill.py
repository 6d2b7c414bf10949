"""Drills: when one may begin, what is quiet, and what counts as felt."""

from dataclasses import replace

import pytest

from gateway.core import drill
from gateway.core.course import CourseView
from gateway.core.drill import WORDS, Count, Felt, Report, Why, felt, is_quiet, promises, refusal
from gateway.core.failback import Clearing
from gateway.core.instant import Mono
from gateway.core.link import LinkState
from gateway.core.mode import BoardView, LinkView
from gateway.core.proof import PathProof
from gateway.core.status import Latency
from gateway.core.verdict import Verdict

NOW = Mono(100.0)


def link(name: str, state: LinkState = "UP") -> LinkView:
    return LinkView(name, name, name == "sim", state, Mono(0.0), "", False, 0.1, 9.0, 0.0)


def view(**more: object) -> BoardView:
    plain = BoardView(NOW, (link("fibre"), link("sim")), (), (), "fibre", 0, None, 0,
                      paths=(PathProof("sim", "gpc", 60.0, None),))
    return replace(plain, **more)  # type: ignore[arg-type]


def count(*requests: tuple[str, int], below: tuple[int, ...] = (0, 0), n: int = 0) -> Count:
    return Count(tuple(("B81001", "gpc", kind, many) for kind, many in requests),
                 Latency((0.1, 1.0), below, 0.0, n))


def test_a_drill_may_begin_where_the_backup_is_well_and_proven() -> None:
    assert refusal(view(), ()) == ""
    assert drill.backup_of(view()) == "sim"


@pytest.mark.parametrize(("seen", "spent", "why"), [
    (view(links=(link("fibre"),)), (), "one_link"),
    (view(active="sim"), (), "on_backup"),
    (view(links=(link("fibre", "DRAINING"), link("sim"))), (), "on_backup"),
    (view(links=(link("fibre"), link("sim", "SUSPECT"))), (), "backup_not_well"),
    (view(links=(link("fibre"), link("sim", "DOWN"))), (), "backup_not_well"),
    (view(paths=(PathProof("sim", "gpc", 4000.0, 100.0),)), (), "backup_unproven"),
    (view(paths=(PathProof("sim", "gpc", None, None),)), (), "backup_unproven"),
    (view(), ("sim",), "quota"),
    (view(course=CourseView(clearings=(Clearing("sim", Mono(90.0)),))), (), "returning")])
def test_it_is_refused_where_it_would_cost_what_it_tests(
        seen: BoardView, spent: tuple[str, ...], why: Why) -> None:
    assert refusal(seen, spent) == why
    assert WORDS[why]


def test_an_upstream_that_is_down_anyway_is_no_reason() -> None:
    lapsed = (PathProof("sim", "gpc", 4000.0, 100.0),)
    down = (Verdict("UPSTREAM_DOWN", "", "gpc", Mono(50.0)),)
    assert refusal(view(paths=lapsed, verdicts=down), ()) == ""


def test_quiet_is_half_of_the_usual_and_nothing_is_known_at_first() -> None:
    busy = list(range(0, 6000, 20))  # twenty a second
    assert not is_quiet(busy[:8])
    assert not is_quiet(busy)
    assert is_quiet([*busy, *(busy[-1] + 2 * n for n in range(1, 12))])
    assert is_quiet([7] * 20)


def test_what_was_felt_is_the_difference_of_two_counts() -> None:
    before = count(("live", 5), ("failed", 1), below=(5, 6), n=6)
    after = count(("live", 100), ("failed", 2), ("copy", 1), below=(95, 102), n=103)
    told = felt(before, after)
    assert told == Felt(97, 1, 0, 1, 0, 0.1, None, None)
    assert felt(before, count(below=(100, 103), n=103)).p99_s == 1.0
    assert felt(before, before) == Felt(0, 0, 0, 0, 0, None, None, None)


def test_what_a_down_upstream_answers_is_not_the_drills_doing() -> None:
    before, after = count(), count(("copy", 3), n=3, below=(3, 3))
    assert felt(before, after).copies == 3
    assert felt(before, after, {"gpc"}).copies == 0
    assert drill.down(view(verdicts=(Verdict("UPSTREAM_DOWN", "", "gpc", NOW),))) == {"gpc"}


def test_a_path_without_a_canary_refuses_no_drill() -> None:
    silent = (PathProof("sim", "gpc", None, 500.0, provable=False),)
    assert refusal(view(paths=silent), ()) == ""


def test_a_promise_breaks_by_one_request_that_failed_or_one_flow_that_stayed() -> None:
    good = Felt(97, 0, 0, 0, 0, 0.1, 0.1, 0.1)
    assert promises(good, 0) == ((1, True), (2, True), (7, True))
    for bad in ("failed", "refused", "copies"):
        assert dict(promises(replace(good, **{bad: 1}), 0))[1] is False
    assert dict(promises(replace(good, unknown=1), 0))[2] is False
    assert dict(promises(good, 1))[7] is False


def test_only_a_drill_that_ended_well_is_good() -> None:
    done = Report("a" * 16, "done", felt=None, promises=((1, True),))
    assert done.is_good
    assert done.is_over
    assert not replace(done, promises=((1, False),)).is_good
    assert not replace(done, why="not_back").is_good
    assert not replace(done, stage="aborted", why="backup_lost").is_good
    assert not replace(done, stage="moved").is_over
