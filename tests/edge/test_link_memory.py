"""Links remembered over a restart: a hint that can be lost and never harms."""

import json
from pathlib import Path

import pytest

from gateway.core.silence import DAY_S, Learned
from gateway.edge.link_memory import read, read_learned, write, write_learned


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "links.json", {"fibre": ("DOWN", "BLACKHOLE"), "sim": ("UP", "")})

    assert read(tmp_path / "links.json") == {"fibre": ("DOWN", "BLACKHOLE"), "sim": ("UP", "")}
    assert [path.name for path in tmp_path.iterdir()] == ["links.json"]
    assert (tmp_path / "links.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"fibre": 1}', b'{"fibre": ["DOWN"]}',
                                     b"\xff\xfe", b"null"])
def test_a_damaged_file_remembers_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "links.json").write_bytes(content)

    assert read(tmp_path / "links.json") == {}


def test_a_place_that_is_gone_is_no_error(tmp_path: Path) -> None:
    write(tmp_path / "gone" / "links.json", {"fibre": ("DOWN", "")})

    assert read(tmp_path / "gone" / "links.json") == {}


def taught() -> Learned:
    learned = Learned(loss=0.02)
    for _ in range(3):
        learned = learned.gap([0.0, 0.3], 0.4).gap([0.0, 1.0, 2.0], 2.1).watched(DAY_S)
    return learned


def test_what_gaps_taught_is_read_back_to_the_last_figure(tmp_path: Path) -> None:
    write_learned(tmp_path / "gaps.json", {"fibre": taught(), "sim": Learned()})

    assert read_learned(tmp_path / "gaps.json") == {"fibre": taught(), "sim": Learned()}
    assert (tmp_path / "gaps.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("key", "value"), [
    ("days", []), ("days", [{}]), ("loss", 7), ("loss", "x"), ("interval_s", 0), ("days", None)])
def test_a_link_whose_entry_is_damaged_begins_anew_and_the_others_do_not(
        tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "gaps.json"
    write_learned(path, {"fibre": taught(), "sim": taught()})
    told = json.loads(path.read_text())
    told["fibre"][key] = value
    path.write_text(json.dumps(told))

    assert read_learned(path) == {"sim": taught()}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null", b'{"fibre": 3}'])
def test_a_damaged_file_of_gaps_has_taught_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gaps.json").write_bytes(content)

    assert read_learned(tmp_path / "gaps.json") == {}
