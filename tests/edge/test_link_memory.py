"""Links remembered over a restart: a hint that can be lost and never harms."""

from pathlib import Path

import pytest

from gateway.edge.link_memory import read, write


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
