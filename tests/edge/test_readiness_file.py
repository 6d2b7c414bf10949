"""Readiness runs on disk: the newest thirty, signed, and none that breaks the start."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.instant import Wall
from gateway.core.readiness import Check, Found, Report
from gateway.edge.readiness_file import FILE, KEPT, keep, last

REPORT = Report("2026-11-26", "opening", Wall(5.0), 1.5, (Check("tls", "sim", "gpc", "fail"),),
                (Found("dead_link", "sim"),))


def test_the_newest_report_comes_back_whole_and_signed(tmp_path: Path) -> None:
    keep(tmp_path, REPORT, lambda text: f"{len(text)}")
    keep(tmp_path, replace(REPORT, day="2026-11-27"))
    assert last(tmp_path) == replace(REPORT, day="2026-11-27")
    first, second = json.loads((tmp_path / FILE).read_text())
    assert first["signature"] == str(len(first["report"]))
    assert second["signature"] == ""
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_months_reports_are_kept_and_no_more(tmp_path: Path) -> None:
    for n in range(KEPT + 5):
        keep(tmp_path, replace(REPORT, at=Wall(float(n))))
    assert len(json.loads((tmp_path / FILE).read_text())) == KEPT
    assert last(tmp_path) == replace(REPORT, at=Wall(float(KEPT + 4)))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"report": "{}"}]'])
def test_a_damaged_file_means_that_there_was_no_run(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert last(tmp_path) is None
    keep(tmp_path, REPORT)
    assert last(tmp_path) == REPORT
