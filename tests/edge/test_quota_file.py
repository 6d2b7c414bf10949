"""The count of a month over a restart: whole, or as if it had never been."""

import json
import os
from pathlib import Path

import pytest

from gateway.core.instant import Wall
from gateway.core.quota import Reading, Used
from gateway.edge.quota_file import read, write

USED = Used(Wall(1e9), 700, (("clinical", 400), ("hedges", 20)), ((739000, 300), (739001, 400)),
            (277, 30), Reading(9000, "boot/3"), True, Wall(1e9 + 5.0))


async def test_what_is_written_comes_back_as_it_was(tmp_path: Path) -> None:
    await write(tmp_path / "quota.json", {"sim": USED, "new": Used(Wall(1e9))})

    assert read(tmp_path / "quota.json") == {"sim": USED, "new": Used(Wall(1e9))}
    assert os.listdir(tmp_path) == ["quota.json"]


@pytest.mark.parametrize("damage", [
    "", "{", "[]", "null", '{"sim": 7}', '{"sim": {"month": 1}}', '{"sim": {"total": -1}}'])
def test_a_damaged_file_is_no_file(tmp_path: Path, damage: str) -> None:
    (tmp_path / "quota.json").write_text(damage)

    assert read(tmp_path / "quota.json") == {}
    assert read(tmp_path / "none.json") == {}


async def test_one_damaged_link_costs_only_its_own_count(tmp_path: Path) -> None:
    path = tmp_path / "quota.json"
    await write(path, {"sim": USED, "sat": USED})
    told = json.loads(path.read_text())
    told["sim"]["total"] = -5
    path.write_text(json.dumps(told))

    assert read(path) == {"sat": USED}


async def test_a_disk_without_room_is_survived(tmp_path: Path) -> None:
    await write(tmp_path / "no" / "quota.json", {"sim": USED})
