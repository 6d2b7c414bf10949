"""What a run of the acceptance leaves, judged a second time: without the rig."""

from pathlib import Path
from random import Random

import pytest

from tests.bench.acceptance.table import Options
from tests.bench.acceptance.taken import Taken, kept, struck
from tests.bench.rig.records import Record, write
from tests.bench.rig.runs import Onsets
from tests.bench.rig.watch import Change, Watch


def taken(link: str = "a") -> Taken:
    records = [Record("search", n, n / 100, 0.0, 0.02, "live", link) for n in range(1000)]
    watch = Watch([Change(5.8, "fibre", "DOWN", "BLACKHOLE")], {"BLACKHOLE"}, {"switches": 1},
                  [Change(6.0, "T/up", "BACKUP", "BLACKHOLE")])
    return Taken(records, Onsets([5.0], [9.0], [9.1], 0), watch, {"writes": 3, "whole": ["w_1"]})


def options(onsets: int) -> Options:
    return Options(onsets, 1, 0, Path(), Random(1))


def test_a_run_that_was_kept_is_the_same_run(tmp_path: Path) -> None:
    run = taken()
    write(tmp_path / "records.tsv", run.records)
    run.keep(tmp_path)
    assert kept(tmp_path) == run


def test_nothing_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"taken\.json"):
        kept(tmp_path)


def test_a_row_is_not_met_where_the_fault_met_no_work() -> None:
    assert struck("row", options(1), taken()).met
    assert not struck("row", options(1), taken("b")).met
    assert not struck("row", options(2), taken()).met
    assert struck("row", options(2), taken(), taken()).met
