"""What is remembered of announced work over a restart."""

from pathlib import Path

import pytest

from gateway.core.instant import Wall
from gateway.edge.maintenance_memory import FILE, read, write


def test_what_was_done_comes_back_after_a_restart(tmp_path: Path) -> None:
    write(tmp_path, frozenset({"fibre/1/2/page"}), {"fibre": Wall(3.5)})
    assert read(tmp_path) == (frozenset({"fibre/1/2/page"}), {"fibre": 3.5})
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"done": 1}', '{"done": [], "passed": {"a": "x"}}'])
def test_a_damaged_file_means_that_nothing_was_done(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert read(tmp_path) == (frozenset(), {})


def test_a_disk_that_refuses_costs_the_memory_only(tmp_path: Path) -> None:
    write(tmp_path / "nowhere", frozenset({"x"}), {})
    assert read(tmp_path / "nowhere") == (frozenset(), {})
