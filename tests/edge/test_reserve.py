"""The reserve: really allocated, given up once, and taken back only when there is room."""

import os
import subprocess
from pathlib import Path

import pytest

from gateway.core.instant import Mono
from gateway.edge.reserve import RETRY_S, Reserve


def test_its_bytes_are_really_allocated_and_given_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "r", 1 << 20)
    assert not reserve.held
    assert reserve.stands(Mono(0))
    assert (tmp_path / "r").stat().st_blocks * 512 >= 1 << 20
    assert reserve.release()
    assert not (tmp_path / "r").exists()
    assert not reserve.release(), "there is nothing left to give"


def test_one_that_stands_from_an_earlier_run_is_taken_as_it_is(tmp_path: Path) -> None:
    Reserve(tmp_path / "r", 1 << 20).stands(Mono(0))
    made = (tmp_path / "r").stat().st_ino
    assert Reserve(tmp_path / "r", 1 << 20).stands(Mono(0))
    assert (tmp_path / "r").stat().st_ino == made


def test_a_reserve_of_nothing_always_stands(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "r", 0)
    assert reserve.stands(Mono(0))
    assert not reserve.release()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_gives_none_and_is_asked_again_only_later(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("NEEDS ROOT: no small disk can be mounted, so a full one is not tested")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        reserve = Reserve(disk / "r", 2 << 20)
        assert not reserve.stands(Mono(0))
        assert not list(disk.iterdir()), "nothing half made is left"
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert not reserve.stands(Mono(RETRY_S / 2))
        assert reserve.stands(Mono(RETRY_S))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
