"""The report: a broken promise shows on the page, in JUnit and in the exit code."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import pytest

from chaos.picture import Mark, Span, Told
from chaos.report import PROMISES, Judged, Telling, exit_code, figures_of, junit, page, write

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
TOLD = Told(10.0, (), (Span("fibre", 2, 5, "cut"),), (Span("fibre link", 0, 10, "UP"),),
            tuple(Mark(n / 10, 20.0 + n, "live", "fibre") for n in range(100)))
WHOLE = Telling("silent-blackhole", "The fibre dies without a word.", "relay", TOLD,
                (Judged(1, "held", 100), Judged(3, "not exercised", 0)), frozenset({1}))
BROKEN = replace(WHOLE, name="broken-one", promises=(
    Judged(1, "broken", 100, "request 17 failed while sim worked"), Judged(4, "held", 3)))


def test_a_whole_run_exits_0_and_says_so() -> None:
    assert exit_code([WHOLE]) == 0
    assert "All promises held in all 1 stories" in page([WHOLE], NOW)


def test_a_broken_promise_shows_in_page_junit_and_exit_code(tmp_path: Path) -> None:
    assert write([WHOLE, BROKEN], tmp_path, NOW) == 3
    text = (tmp_path / "index.html").read_text("utf-8")
    assert "1 of 2 stories broke a promise" in text
    assert "✗ BROKEN" in text
    assert "request 17 failed while sim worked" in text
    suites = ET.fromstring((tmp_path / "junit.xml").read_bytes()).findall("testsuite")  # noqa: S314  # our own
    assert [suite.get("failures") for suite in suites] == ["0", "1"]
    failure = suites[1].find(".//failure")
    assert failure is not None
    assert failure.get("message") == "request 17 failed while sim worked"


def test_a_wanted_promise_that_was_never_observed_is_broken() -> None:
    unseen = replace(WHOLE, promises=(Judged(1, "held", 0),))
    assert exit_code([unseen]) == 3
    assert b"never observed" in junit([unseen])
    assert "never observed" in page([unseen], NOW)


def test_a_story_that_stopped_early_fails_without_a_broken_promise() -> None:
    stopped = replace(WHOLE, trouble="the broker did not start")
    assert exit_code([stopped]) == 1
    assert "the broker did not start" in page([stopped], NOW)
    assert b"the broker did not start" in junit([stopped])


def test_what_was_not_exercised_is_skipped_in_junit() -> None:
    suite = ET.fromstring(junit([WHOLE])).find("testsuite")  # noqa: S314  # our own
    assert suite is not None
    assert (suite.get("tests"), suite.get("skipped")) == ("3", "1")


def test_the_page_needs_nothing_from_outside() -> None:
    text = page([WHOLE, BROKEN], NOW).replace("http://www.w3.org/2000/svg", "")
    for outside in ("http:", "https:", "<script", "@import", "url(http"):
        assert outside not in text


def test_figures_tell_the_longest_gap_between_answers() -> None:
    marks = (Mark(0.0, 20, "live"), Mark(1.0, 20, "failed"), Mark(2.0, 520, "live"))
    assert dict(figures_of(marks))["longest gap between answers"] == "2.50 s"
    assert dict(figures_of(()))["requests"] == "0"


@pytest.mark.parametrize("promise", sorted(PROMISES))
def test_every_promise_has_its_sentence(promise: int) -> None:
    telling = replace(WHOLE, promises=(Judged(promise, "held", 1),), wanted=frozenset())
    assert escape(PROMISES[promise]) in page([telling], NOW)


def test_evidence_with_what_xml_cannot_hold_is_still_a_report() -> None:
    odd = replace(BROKEN, promises=(Judged(1, "broken", 1, "bytes \x00\x1b<&>"),))
    ET.fromstring(junit([odd]))  # noqa: S314  # our own
    assert "<&>" not in page([odd], NOW)
