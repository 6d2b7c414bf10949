"""Windows by hand survive restarts, and what is no window of ours is counted."""

from pathlib import Path

import pytest

from gateway.core.instant import Wall
from gateway.core.maintenance import Window
from gateway.edge import added_windows
from gateway.edge.added_windows import Added, add, cancel, changed, read
from gateway.errors import GatewayError

NIGHT = Window("CHG1", "fibre", Wall(1000.0), Wall(2000.0), 300.0, "spare", "added", "",
               "2026-11-26T02:00/2026-11-26T04:00")


def test_what_was_added_is_read_again(tmp_path: Path) -> None:
    assert (read(tmp_path), changed(tmp_path)) == (Added(), 0)
    add(tmp_path, NIGHT)
    assert read(tmp_path) == Added((NIGHT,))
    assert changed(tmp_path) > 0
    assert (tmp_path / "maintenance").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "maintenance" / "CHG1.json").stat().st_mode & 0o777 == 0o600


def test_an_added_window_is_taken_away_and_another_is_marked(tmp_path: Path) -> None:
    add(tmp_path, NIGHT)
    cancel(tmp_path, "CHG1")
    assert read(tmp_path) == Added()
    cancel(tmp_path, "from-config")
    assert read(tmp_path).cancelled == {"from-config"}
    add(tmp_path, Window("from-config", "sim", Wall(1.0), Wall(2.0)))
    assert read(tmp_path).cancelled == frozenset()


@pytest.mark.parametrize("id", ["../keys", "", "a b", "x" * 65, ".hidden"])
def test_no_id_leads_out_of_the_folder(tmp_path: Path, id: str) -> None:
    with pytest.raises(GatewayError):
        add(tmp_path, Window(id, "fibre", Wall(1.0), Wall(2.0)))
    with pytest.raises(GatewayError):
        cancel(tmp_path, id)
    assert list(tmp_path.iterdir()) == []


def test_an_id_is_used_once(tmp_path: Path) -> None:
    add(tmp_path, NIGHT)
    with pytest.raises(GatewayError, match="was added before"):
        add(tmp_path, NIGHT)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"link": "fibre"}',
                                  '{"link": "f", "start": "x", "end": 1, "drain_s": 1}'])
def test_a_damaged_file_is_counted_and_the_others_hold(tmp_path: Path, text: str) -> None:
    add(tmp_path, NIGHT)
    (tmp_path / "maintenance" / "bad.json").write_text(text)
    (tmp_path / "maintenance" / "notes.txt").write_text("")
    assert read(tmp_path) == Added((NIGHT,), frozenset(), 2)


def test_as_many_files_as_the_limit_and_one_more(tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(added_windows, "FILES_MAX", 2)
    add(tmp_path, NIGHT)
    cancel(tmp_path, "other")
    with pytest.raises(GatewayError, match="there are 2"):
        add(tmp_path, Window("third", "fibre", Wall(1.0), Wall(2.0)))
    (tmp_path / "maintenance" / "z.json").write_text("{}")
    assert read(tmp_path).unreadable == 1


def test_a_state_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="cannot write"):
        add(tmp_path / "none", NIGHT)
