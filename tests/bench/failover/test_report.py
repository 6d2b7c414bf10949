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
    assert ('"no" p99 ms' in said[2]) is (name == "both-dead")
    assert ("answered in the dark" in said[2]) is (name == "both-dead-seen")
    text, figures, picture = compared.write(tmp_path / "out", "both", {"seed": 4})
    assert [each.name for each in (text, figures, picture)] == [
        "both.txt", "both.json", "both.svg"]
    assert text.read_text("utf-8").count("\nours ") == 1
    assert "The same cores carry everything" in text.read_text("utf-8")
    told = json.loads(figures.read_text("utf-8"))
    assert told["seed"] == 4
    assert [each["party"] for each in told["faults"][name]] == ["ours", "envoy"]
    assert picture.read_text("utf-8").startswith("<svg ")


def test_a_no_is_none_while_a_link_works_and_an_answer_in_the_dark_is_old() -> None:
    live = Record("nginx", 1, 12.0, 0.0, 0.02, "live", "b", 200)
    copy = Record("ours", 1, 12.0, 0.0, 0.02, "copy", "", 200)
    refused = Record("envoy", 1, 12.0, 0.0, 0.02, "failed", "", 503)
    silent = Record("haproxy", 1, 12.0, 0.0, 3.0, "failed", "", 0)
    flying = Record("nginx", 2, 10.01, 0.0, 0.02, "live", "a", 200)
    waited = Record("nginx", 3, 17.9, 0.0, 0.2, "live", "b", 200)  # for the heal
    asked = (live, copy, refused, silent, flying)
    assert [mark_of(each, 10.0, 18.0) for each in asked] == ["old", "copy", "no", "failed", "a"]
    assert mark_of(waited, 10.0, 18.0) == "b"
    assert [mark_of(each, 10.0, None) for each in asked] == ["b", "copy", "failed", "failed", "a"]


@pytest.mark.parametrize(("argv", "words"), [
    (["--onsets", "0"], "--onsets 0: must be 1 to 1000"),
    (["--faults", "rain"], "invalid choice: 'rain'"),
    (["--parties", "squid"], "invalid choice: 'squid'")])
def test_a_wrong_argument_is_refused_in_words(
        argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    assert words in capsys.readouterr().err
