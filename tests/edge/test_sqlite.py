"""One file, one writer: order, groups, bounds, migrations, damage; on real files."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.edge.sqlite import (
    ASIDE_MAX,
    GROUP_MAX,
    Connection,
    Database,
    FileRules,
    Migration,
    translate,
)
from gateway.errors import StoreBusy, StoreDamaged, StoreFull
from tests.kit.clock import SimClock

FIRST = Migration("0001", ("PRAGMA application_id=77", "CREATE TABLE t (n INTEGER NOT NULL)"))
SECOND = Migration("0002", ("ALTER TABLE t ADD COLUMN note TEXT DEFAULT 'old'",))


class File:
    """A Database in a folder, with what it told."""

    def __init__(self, folder: Path) -> None:
        self.path, self.news = folder / "t.db", list[str]()
        self.clock = SimClock()
        self.database: Database

    async def open(self, *migrations: Migration, queue_max: int = 256,
                   queue_bytes_max: int = 1 << 20, reads_max: int = 64) -> Database:
        rules = FileRules(migrations or (FIRST,), 77, "NORMAL", queue_max, queue_bytes_max,
                          reads_max)
        self.database = await Database.open(self.path, rules, self.clock, self.news.append)
        return self.database


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[File]:
    file = File(tmp_path)
    await file.open()
    yield file
    await file.database.close()


def insert(n: int) -> Callable[[Connection], int]:
    return lambda connection: connection.execute("INSERT INTO t (n) VALUES (?)", (n,)).rowcount


def rows(connection: Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM t ORDER BY rowid")]


class Gate:
    """Holds the writer inside a job until opened, so that a test knows what waits."""

    def __init__(self) -> None:
        self._entered, self._open = threading.Event(), threading.Event()

    def __call__(self, connection: Connection) -> None:
        self._entered.set()
        assert self._open.wait(30)

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, 30)

    def open(self) -> None:
        self._open.set()


async def test_what_was_written_is_seen_by_the_next_look_and_after_a_restart(file: File) -> None:
    await file.database.submit(insert(1))
    assert await file.database.read(rows) == [1]
    await file.database.close()
    await file.open()
    assert await file.database.read(rows) == [1]


async def test_the_file_is_for_its_owner_only_and_so_is_its_log(file: File) -> None:
    await file.database.submit(insert(1))
    assert {path.stat().st_mode & 0o777 for path in file.path.parent.glob("t.db*")} == {0o600}


async def test_urgent_work_overtakes_what_waits_and_the_rest_keeps_its_order(file: File) -> None:
    gate = Gate()
    held = file.database.submit(gate)
    await gate.entered()
    for n in range(5):
        assert file.database.post(insert(n), 0, lambda result, error: None)
    urgent = file.database.submit(insert(100))
    gate.open()
    await asyncio.gather(held, urgent)
    await file.database.submit(lambda connection: None)
    await file.database.close()
    await file.open()
    assert await file.database.read(rows) == [100, 0, 1, 2, 3, 4]


async def test_a_stream_of_urgent_work_does_not_put_off_the_rest_for_ever(file: File) -> None:
    """One urgent job after another, each asked for when the last was done."""
    done: list[object] = []
    assert file.database.post(insert(1), 0, lambda *told: done.append(told))
    for _ in range(50):
        await file.database.submit(lambda connection: None)
    assert done


async def test_a_look_does_not_wait_for_the_writer(file: File) -> None:
    gate = Gate()
    held = file.database.submit(gate)
    await gate.entered()
    assert await asyncio.wait_for(file.database.read(rows), 5) == []
    gate.open()
    await held


async def test_what_waits_is_committed_in_groups(file: File) -> None:
    gate = Gate()
    said: list[str] = []
    await file.database.submit(lambda connection: connection.set_trace_callback(said.append))
    held = file.database.submit(gate)
    await gate.entered()
    futures = [file.database.submit(insert(n)) for n in range(3 * GROUP_MAX)]
    gate.open()
    await asyncio.gather(held, *futures)
    # The gate opens a group of its own; 3 x 64 jobs behind it fill that and three more at most.
    assert said.count("BEGIN IMMEDIATE") <= 4
    assert len(await file.database.read(rows)) == 3 * GROUP_MAX


async def test_one_poisoned_job_harms_no_other_of_its_group(file: File) -> None:
    gate = Gate()
    held = file.database.submit(gate)
    await gate.entered()

    def poisoned(connection: Connection) -> None:
        insert(666)(connection)
        raise ValueError("a poisoned row")
    before, after = file.database.submit(insert(1)), file.database.submit(insert(2))
    bad = file.database.submit(poisoned)
    last = file.database.submit(insert(3))
    gate.open()
    await asyncio.gather(held, before, after, last)
    with pytest.raises(ValueError, match="poisoned"):
        await bad
    assert await file.database.read(rows) == [1, 2, 3]


@pytest.mark.parametrize(("items", "size", "fit"), [(8, 0, 8), (256, 100, 10)])
async def test_the_line_is_bounded_by_items_and_by_bytes(
        tmp_path: Path, items: int, size: int, fit: int) -> None:
    file = File(tmp_path)
    await file.open(queue_max=items, queue_bytes_max=1000)
    gate = Gate()
    held = file.database.submit(gate)
    await gate.entered()
    took = [file.database.post(insert(n), size, lambda result, error: None) for n in range(fit + 1)]
    assert took == [True] * fit + [False]
    assert file.database.waiting == fit
    gate.open()
    await held
    await file.database.close()


async def test_urgent_work_has_room_where_keeps_fill_the_line_and_a_bound_of_its_own(
        tmp_path: Path) -> None:
    file = File(tmp_path)
    await file.open(queue_max=4)
    gate = Gate()
    held = file.database.submit(gate)
    await gate.entered()
    for n in range(4):
        file.database.post(insert(n), 0, lambda result, error: None)
    urgent = [file.database.submit(insert(10 + n)) for n in range(4)]
    with pytest.raises(StoreBusy):
        file.database.submit(insert(99))
    gate.open()
    await asyncio.gather(held, *urgent)
    await file.database.close()


async def test_closing_finishes_what_waits(file: File) -> None:
    for n in range(100):
        file.database.post(insert(n), 0, lambda result, error: None)
    await file.database.close()
    assert not file.database.post(insert(0), 0, lambda result, error: None)
    with pytest.raises(StoreBusy):
        file.database.submit(insert(0))
    await file.open()
    assert await file.database.read(rows) == list(range(100))


# Schemas.

async def test_an_older_file_is_brought_up_with_its_rows(file: File) -> None:
    await file.database.submit(insert(1))
    await file.database.close()
    await file.open(FIRST, SECOND)
    assert await file.database.read(
        lambda connection: connection.execute("SELECT n, note FROM t").fetchall()) == [(1, "old")]
    assert file.news == []


async def test_a_migration_that_fails_leaves_neither_its_effect_nor_its_record(
        tmp_path: Path) -> None:
    file = File(tmp_path)
    await file.open()
    await file.database.submit(insert(1))
    await file.database.close()
    broken = Migration("0002", ("ALTER TABLE t ADD COLUMN half TEXT", "SELECT * FROM nowhere"))
    await file.open(FIRST, broken)
    await file.database.close()
    aside = sqlite3.connect(tmp_path / "t.db-damaged-1")
    assert aside.execute("SELECT name FROM migration").fetchall() == [("0001",)]
    assert [column[1] for column in aside.execute("PRAGMA table_info(t)")] == ["n"]
    assert aside.execute("SELECT n FROM t").fetchall() == [(1,)]
    aside.close()


async def test_a_file_of_a_later_version_is_set_aside_whole(file: File) -> None:
    await file.database.close()
    await file.open(FIRST, SECOND)
    await file.database.submit(insert(1))
    await file.database.close()
    await file.open(FIRST)
    assert file.news == ["set_aside"]
    assert await file.database.read(rows) == []
    aside = sqlite3.connect(file.path.with_name("t.db-damaged-1"))
    assert aside.execute("SELECT n FROM t").fetchall() == [(1,)]
    aside.close()


async def test_a_sound_database_that_is_not_ours_is_set_aside(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "t.db")
    other.executescript("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")
    other.close()
    file = File(tmp_path)
    await file.open()
    assert file.news == ["set_aside"]
    await file.database.close()


async def test_a_file_that_died_while_it_was_made_is_simply_made(tmp_path: Path) -> None:
    half = sqlite3.connect(tmp_path / "t.db")
    half.execute("PRAGMA journal_mode=WAL").fetchone()
    half.close()
    file = File(tmp_path)
    await file.open()
    assert file.news == []
    await file.database.submit(insert(1))
    await file.database.close()


# Damage.

async def damage(file: File) -> None:
    """Overwrite every page behind the first of a file that is open, and empty its caches."""
    await file.database.submit(
        lambda connection: connection.executemany("INSERT INTO t (n) VALUES (?)",
                                                  [(n,) for n in range(20_000)]).rowcount)
    await file.database.close()
    await file.open()
    size = file.path.stat().st_size
    with file.path.open("r+b") as raw:
        raw.seek(8192)
        raw.write(b"\xff" * (size - 8192))


async def test_damage_found_by_the_writer_ends_in_a_new_file_and_is_told(file: File) -> None:
    await damage(file)
    with pytest.raises(StoreDamaged, match=r"t\.db"):
        await file.database.submit(
            lambda connection: connection.execute("DELETE FROM t").rowcount)
    await file.database.submit(insert(1))
    assert await file.database.read(rows) == [1]
    assert file.news == ["set_aside"]
    assert file.database.set_aside == 1


async def test_damage_found_by_a_look_ends_in_a_new_file_once(file: File) -> None:
    await damage(file)
    looks = [file.database.read(rows) for _ in range(20)]
    results = await asyncio.gather(*looks, return_exceptions=True)
    assert any(isinstance(result, StoreDamaged) for result in results)
    await file.database.submit(insert(1))
    assert await file.database.read(rows) == [1]
    assert file.news == ["set_aside"]


async def test_only_the_newest_damaged_files_are_left(tmp_path: Path) -> None:
    for turn in range(ASIDE_MAX + 2):
        (tmp_path / "t.db").write_bytes(b"rot %d" % turn * 1000)
        file = File(tmp_path)
        await file.open()
        await file.database.close()
    left = await asyncio.to_thread(lambda: {
        path.name: path.read_bytes()[:5] for path in tmp_path.glob("t.db-damaged-*")})
    assert left == {"t.db-damaged-3": b"rot 2", "t.db-damaged-4": b"rot 3"}


async def test_a_file_cut_to_nothing_beside_its_log_is_damage_and_not_a_new_file(
        file: File, tmp_path: Path) -> None:
    await file.database.submit(insert(1))
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "t.db").touch()
    (copy / "t.db-wal").write_bytes((tmp_path / "t.db-wal").read_bytes())
    other = File(copy)
    await other.open()
    assert other.news == ["set_aside"]
    await other.database.close()


async def test_where_no_file_can_be_made_all_work_is_refused_and_tried_again_later(
        tmp_path: Path) -> None:
    (tmp_path / "records").write_text("a file where the folder should be")
    file = File(tmp_path)
    file.path = tmp_path / "records" / "t.db"
    await file.open()
    with pytest.raises(StoreFull):
        await file.database.submit(insert(1))
    with pytest.raises(StoreFull):
        await file.database.read(rows)
    (tmp_path / "records").unlink()
    with pytest.raises(StoreFull):
        await file.database.submit(insert(1))
    await file.clock.advance(3)
    await file.database.submit(insert(1))
    assert file.news == ["full", "room"]
    await file.database.close()


async def test_a_file_locked_by_another_program_is_busy_and_not_damaged(file: File) -> None:
    other = sqlite3.connect(file.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        await file.database.submit(insert(1))
    other.execute("ROLLBACK")
    other.close()
    await file.database.submit(insert(1))
    assert file.news == []


async def test_erasing_deletes_the_file_and_begins_anew(file: File) -> None:
    await file.database.submit(insert(1))
    await file.database.erase()
    assert not file.database.erasing
    assert await file.database.read(rows) == []
    assert file.news == []


def an_error(code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("words that could quote a statement")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


@pytest.mark.parametrize(("code", "ours"), [
    (sqlite3.SQLITE_FULL, StoreFull), (sqlite3.SQLITE_IOERR_WRITE, StoreFull),
    (sqlite3.SQLITE_IOERR_FSYNC, StoreFull), (sqlite3.SQLITE_READONLY, StoreFull),
    (sqlite3.SQLITE_CANTOPEN, StoreFull), (sqlite3.SQLITE_BUSY, StoreBusy),
    (sqlite3.SQLITE_LOCKED, StoreBusy), (sqlite3.SQLITE_CORRUPT, StoreDamaged),
    (sqlite3.SQLITE_NOTADB, StoreDamaged), (sqlite3.SQLITE_IOERR_SHORT_READ, StoreDamaged),
    (sqlite3.SQLITE_ERROR, StoreDamaged), (sqlite3.SQLITE_CONSTRAINT, StoreDamaged)])
def test_each_foreign_error_becomes_one_of_ours_without_its_words(
        code: int, ours: type[Exception]) -> None:
    error = translate(an_error(code, "SQLITE_X"), "t.db")
    assert type(error) is ours
    assert "statement" not in str(error)


def test_a_misuse_of_the_library_is_our_mistake_and_is_raised() -> None:
    with pytest.raises(sqlite3.ProgrammingError):
        translate(sqlite3.ProgrammingError("You can only execute one statement"), "t.db")
