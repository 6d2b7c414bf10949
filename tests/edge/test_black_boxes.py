"""Recordings on disk: squeezed, bounded in size and number, private, and never in the way."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.blackbox import BlackBox, Chunk, Recording, Site
from gateway.core.detector import Detector
from gateway.core.instant import Mono
from gateway.core.link import Link, LinkMemory, LinkRules, LinkTurned, Probe, Sample
from gateway.edge import black_boxes
from gateway.edge.black_boxes import FILE_BYTES_MAX, FILES_MAX, WAITING_MAX, BlackBoxes, read, write

FIBRE = Link("fibre", 1, "fibre", probes=(Probe("near", "echo", ""),))
BEGUN = Mono(1000.0)


def recording() -> Recording:
    detector = Detector(FIBRE, ("gpc",), LinkRules(), LinkMemory("fibre", BEGUN, BEGUN))
    box = BlackBox(Site((FIBRE,), ("gpc",), LinkRules()), lambda: {"fibre": detector.frame()},
                   BEGUN)
    for n in range(40):
        at = Mono(1000.0 + n / 4)
        box.saw(Sample("fibre", "near", "echo", True, at, at, True, 20.0), at)
    box.turned(LinkTurned("fibre", "SUSPECT", "DOWN", "BLACKHOLE", Mono(1009.0), 1.0))
    found, = box.due(Mono(1040.0))
    return found


def test_what_was_written_is_read_back_and_only_we_may_read_it(tmp_path: Path) -> None:
    kept = recording()
    path = write(tmp_path / "blackbox", kept)

    assert path is not None
    assert path.name == "000001-fibre-down.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    back = read(path)
    assert list(back.rows()) == list(kept.rows())
    assert back.turned == kept.turned


def test_the_newest_two_hundred_are_kept_and_numbers_go_on(tmp_path: Path) -> None:
    kept = recording()
    for _ in range(FILES_MAX):
        write(tmp_path, kept)
    assert len(list(tmp_path.iterdir())) == FILES_MAX
    write(tmp_path, kept)

    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == FILES_MAX
    assert (names[0], names[-1]) == ("000002-fibre-down.gz", f"{FILES_MAX + 1:06d}-fibre-down.gz")


def test_one_that_is_too_large_loses_its_oldest_chunks(tmp_path: Path) -> None:
    kept = recording()
    noise = [Chunk(Mono(1000.0 + n), kept.chunks[0].frames,
                   bytearray(os.urandom(FILE_BYTES_MAX // 30 * 30 // 5))) for n in range(9)]
    path = write(tmp_path, replace(kept, chunks=tuple(noise)))

    assert path is not None
    assert path.stat().st_size <= FILE_BYTES_MAX
    assert read(path).begins > 1003.0
    assert read(path).chunks[-1].begins == 1008.0


def test_where_the_chunk_of_the_turn_alone_is_too_large_nothing_is_written(tmp_path: Path) -> None:
    kept = recording()
    noise = Chunk(BEGUN, kept.chunks[0].frames, bytearray(os.urandom(30 * FILE_BYTES_MAX // 20)))
    assert write(tmp_path, replace(kept, chunks=(noise,))) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"{}", b"\x1f\x8b\x08\x00" + b"\x00" * 40])
def test_a_damaged_file_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "000001-fibre-down.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read(tmp_path / "000001-fibre-down.gz")


async def test_they_are_written_beside_the_loop_before_it_closes(tmp_path: Path) -> None:
    boxes = BlackBoxes(tmp_path)
    assert boxes.keep(recording())
    assert boxes.keep(recording())
    await boxes.close()
    assert len(list((tmp_path / "blackbox").glob("*.gz"))) == 2


async def test_a_place_that_takes_nothing_costs_the_recording_and_is_said_once(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "blackbox").write_bytes(b"in the way")
    boxes = BlackBoxes(tmp_path)
    for _ in range(3):
        boxes.keep(recording())
    await boxes.close()
    assert len([each for each in caplog.records if each.levelname == "ERROR"]) == 1


async def test_no_more_wait_than_a_bad_minute_makes(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = BlackBoxes(tmp_path)
    monkeypatch.setattr(boxes._thread, "submit", lambda *_: None)
    kept = recording()
    assert [boxes.keep(kept) for _ in range(WAITING_MAX + 1)] == [True] * WAITING_MAX + [False]
    monkeypatch.undo()
    await boxes.close()
    assert black_boxes.LOG.name == "gateway.edge.black_boxes"
