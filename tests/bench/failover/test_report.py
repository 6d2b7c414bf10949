"""The three files of a comparison, and how a request is drawn."""

import json
from pathlib import Path

import pytest

from tests.bench.failover.__main__ import main
from tests.bench.failover.cases import CASES
from tests.bench.failover.report import Compared, mark_of
from tests.bench.failover.table import Sitting
from tests.bench.rig.records import Record


def records(party: str) -> list[Record]:
    return [Record(party, n, 8.0 + n / 100, 0.0, 0.02, "live", "a" if n < 200 else "b", 200)
            for n in range(800)]


@pytest.mark.parametrize("name", CASES)
def test_text_figures_and_picture_tell_of_every_party(name: str, tmp_path: Path) -> None:
    compared = Compared(["ours", "envoy"], ["2 cores"])
    sitting = Sitting((*records("ours"), *records("envoy")), (10.0,), (15.0,))
    said = compared.add(CASES[name], [sitting])
    assert said[1].endswith("(1 onsets)")
    text, figures, picture = compared.write(tmp_path / "out", "both", {"seed": 4})
    assert [each.name for each in (text, figures, picture)] == [
        "both.txt", "both.json", "both.svg"]
    assert text.read_text("utf-8").count("\nours ") == 1
    assert "Two cores carry everything" in text.read_text("utf-8")
    told = json.loads(figures.read_text("utf-8"))
    assert told["seed"] == 4
    assert [each["party"] for each in told["faults"][name]] == ["ours", "envoy"]
    assert picture.read_text("utf-8").startswith("<svg ")


def test_the_picture_tells_the_link_and_a_no_is_none_while_a_link_works() -> None:
    live = Record("envoy", 1, 0.0, 0.0, 0.02, "live", "b", 200)
    refused = Record("envoy", 1, 0.0, 0.0, 0.02, "failed", "", 503)
    silent = Record("envoy", 1, 0.0, 0.0, 10.0, "failed", "", 0)
    assert [mark_of(each, dark=True) for each in (live, refused, silent)] == ["b", "no", "failed"]
    assert mark_of(refused, dark=False) == "failed"


@pytest.mark.parametrize(("argv", "words"), [
    (["--onsets", "0"], "--onsets 0: must be 1 to 1000"),
    (["--faults", "rain"], "invalid choice: 'rain'"),
    (["--parties", "squid"], "invalid choice: 'squid'")])
def test_a_wrong_argument_is_refused_in_words(
        argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    assert words in capsys.readouterr().err
