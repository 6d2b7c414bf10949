"""A file is there as a whole, as it was or as it is, and only its owner reads it."""

import errno
import os
import stat
from pathlib import Path

import pytest

from gateway.edge.whole_file import replace


def test_it_is_replaced_as_a_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    replace(path, "one")
    replace(path, b"two", synced=False)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["kept.json"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_what_was_there_and_nothing_beside(
        failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.json"
    replace(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if failing == "fsync" else Path, failing, full)
    with pytest.raises(OSError, match="No space"):
        replace(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept.json"]


def test_what_is_synced_is_synced_before_it_takes_the_place(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, move = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        done.append("sync")
        sync(handle)

    def note_move(self: Path, to: Path) -> Path:
        done.append("move")
        return move(self, to)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_move)
    replace(tmp_path / "a", "x")
    replace(tmp_path / "b", "x", synced=False)
    assert done == ["sync", "move", "move"]


def test_a_file_that_was_left_half_written_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "kept.json.new").write_text("half")
    replace(tmp_path / "kept.json", "whole")
    assert (tmp_path / "kept.json").read_text() == "whole"
    assert os.listdir(tmp_path) == ["kept.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="OWNER NOT CHANGED: needs root")
def test_root_gives_it_to_whom_the_state_belongs_to(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    replace(tmp_path / "kept.json", "x", like=tmp_path)
    owner = (tmp_path / "kept.json").stat()
    assert (owner.st_uid, owner.st_gid) == (12345, 12346)
    replace(tmp_path / "other.json", "x")
    assert (tmp_path / "other.json").stat().st_uid == 0
