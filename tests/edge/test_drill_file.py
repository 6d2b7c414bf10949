"""The two files of a drill: an order is taken once, and a report is read as it was signed."""

import json
import os
from pathlib import Path

import pytest

from gateway.core.drill import Report
from gateway.core.instant import Wall
from gateway.edge import drill_file
from gateway.errors import GatewayError

WALL = Wall(1_795_000_000.0)


def test_an_order_is_taken_once_and_only_one_waits(tmp_path: Path) -> None:
    name = drill_file.give(tmp_path, 60.0, 300.0)
    with pytest.raises(GatewayError, match="an order waits already"):
        drill_file.give(tmp_path, 60.0, 300.0)
    order = drill_file.take(tmp_path)
    assert order is not None
    assert (order.id, order.seconds, order.wait_s) == (name, 60.0, 300.0)
    assert drill_file.take(tmp_path) is None
    assert not drill_file.withdraw(tmp_path, name)


def test_only_ones_own_order_is_withdrawn(tmp_path: Path) -> None:
    name = drill_file.give(tmp_path, 60.0, 300.0)
    assert not drill_file.withdraw(tmp_path, "0" * 16)
    assert drill_file.withdraw(tmp_path, name)
    assert drill_file.take(tmp_path) is None


@pytest.mark.parametrize(("seconds", "wait_s"), [(0.0, 1.0), (3601.0, 1.0), (1.0, -1.0)])
def test_an_order_beyond_reason_is_not_given(tmp_path: Path, seconds: float, wait_s: float
                                             ) -> None:
    with pytest.raises(GatewayError, match="lasts up to 3600 s"):
        drill_file.give(tmp_path, seconds, wait_s)
    assert not (tmp_path / "drill").exists()


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"id": "x", "seconds": 1, "wait_s": 1}',
    '{"id": "%s", "seconds": 1e9, "wait_s": 1}' % ("a" * 16),
    '{"id": "%s", "seconds": "x", "wait_s": 1}' % ("a" * 16), "x" * 5000,
    "[" * 4000, '{"id": "' + "a" * 16 + '", "seconds": 1' + "0" * 400 + ', "wait_s": 1}'])
def test_an_order_that_cannot_be_read_is_gone_and_drills_nothing(tmp_path: Path, text: str
                                                                 ) -> None:
    (tmp_path / "drill").mkdir()
    (tmp_path / "drill" / "order.json").write_text(text)
    assert drill_file.take(tmp_path) is None


def test_a_report_is_kept_signed_over_its_very_text_and_replaced_by_the_next(tmp_path: Path
                                                                             ) -> None:
    moved = Report("a" * 16, "moved", link="fibre", backup="sim", modes=(("gpc", "BACKUP"),))
    drill_file.keep(tmp_path, moved, WALL, lambda text: str(len(text)))
    told = drill_file.read(tmp_path, "a" * 16)
    assert told is not None
    assert (told["stage"], told["backup"], told["over"]) == ("moved", "sim", False)
    whole = json.loads((tmp_path / "drill" / ("a" * 16 + ".report.json")).read_text())
    assert whole["signature"] == str(len(whole["report"])) == told["signature"]
    assert os.stat(tmp_path / "drill" / ("a" * 16 + ".report.json")).st_mode & 0o077 == 0
    drill_file.keep(tmp_path, Report("a" * 16, "done", promises=((1, True),)), WALL)
    told = drill_file.read(tmp_path, "a" * 16)
    assert told is not None
    assert (told["good"], told["promises"], told["signature"]) == (True, {"1": True}, "")
    assert drill_file.read(tmp_path, "b" * 16) is None


def test_the_oldest_reports_go(tmp_path: Path) -> None:
    for number in range(drill_file.KEPT + 3):
        drill_file.keep(tmp_path, Report(f"{number:016x}", "done"), WALL)
        path = tmp_path / "drill" / f"{number:016x}.report.json"
        os.utime(path, (number, number))
    assert len(list((tmp_path / "drill").glob("*.report.json"))) == drill_file.KEPT
    assert drill_file.read(tmp_path, f"{0:016x}") is None
