"""Events on disk until the broker has them (telemetry.md, Outbox rules; port Outbox).

Law of the outbox:
1. A number is given in the transaction that writes the row: dense within (box, rank), never used
   twice, whether the row was sent, dropped or lost since.
2. ``box`` is the boot at which this file was made. A file that had to be set aside is replaced by
   one with a new box, numbers from 1, and a rank-A gap record that says so.
3. Bounded in bytes. Ranks B and C never touch the 8 MiB reserved for A; when they are full the
   oldest C go, then the oldest B, and a rank-A gap record names the numbers that will not come.
4. Each row carries a checksum: one that was altered on disk becomes a gap, not a false report.

Bodies are codes and figures without patient data (core.telemetry), so they stand in clear.
"""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from gateway.core.instant import Mono, Wall
from gateway.core.telemetry import Event, Gap, High, Rank, Row, event
from gateway.edge.sqlite import Connection, Database, FileRules, Migration, News, free_bytes
from gateway.errors import StoreBusy, StoreDamaged, StoreFull
from gateway.ports import Clock

APPLICATION_ID: Final = 0x50474F31  # "PGO1"
RESERVE_BYTES: Final = 8 << 20
"""Kept for rank A: a fifth of the whole, whichever is less (a small disk has a small budget)."""
FREE_SHARE: Final = 10
"""At most a tenth of what is free on the disk at start, whatever the config grants."""
BYTES_MIN: Final = 1 << 20
ROW_BYTES: Final = 160
"""What a row takes beside its body, index included (measured: 150 to 165)."""
DROP_SHARE: Final = 64
"""Rows are dropped in steps of a 64th of the budget, so that gap records stay few."""

MIGRATIONS: Final = (
    Migration("0001-rows", (
        "PRAGMA application_id=1346850609",
        "CREATE TABLE row (id INTEGER PRIMARY KEY AUTOINCREMENT, rank TEXT NOT NULL,"
        " seq INTEGER NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL, mono REAL NOT NULL,"
        " body TEXT NOT NULL, size INTEGER NOT NULL, crc INTEGER NOT NULL)",
        "CREATE UNIQUE INDEX row_number ON row (rank, seq)",
        "CREATE INDEX row_first ON row (id) WHERE rank<>'c'",
        "CREATE TABLE box (box INTEGER NOT NULL)",
        "CREATE TABLE number (rank TEXT PRIMARY KEY, high INTEGER NOT NULL,"
        " rows INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO number (rank, high, rows, bytes)"
        " VALUES ('a', 0, 0, 0), ('b', 0, 0, 0), ('c', 0, 0, 0)",
    )),
)
_RANKS: Final[tuple[Rank, ...]] = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class OutboxFigures:
    """What ``/status``, metrics and the state message show; ``oldest`` is None when empty."""

    box: int = 0
    high: High = field(default_factory=High)
    rows: int = 0
    bytes: int = 0
    bytes_max: int = 0
    oldest: Wall | None = None
    dropped: int = 0
    refused: int = 0
    set_aside: int = 0
    full: bool = False


@dataclass(frozen=True, slots=True)
class _Stand:
    """The file's counters after a job."""

    row: Row | None = None
    box: int = 0
    high: tuple[int, ...] = (0, 0, 0)
    rows: int = 0
    bytes: int = 0
    oldest: Wall | None = None
    dropped: int = 0


class OutboxStore:
    """The outbox of this device. Make it with ``await OutboxStore.open(...)``."""

    def __init__(self, clock: Clock, boot: int, next_box: Callable[[], int],
                 bytes_max: int) -> None:
        self._clock, self._boot, self._next_box = clock, boot, next_box
        self._bytes_max = bytes_max
        self._reserve = min(RESERVE_BYTES, bytes_max // 5)
        self._stand = _Stand()
        self._box: int | None = None  # writer thread only
        self._made_one = False  # writer thread only
        self._dropped = self._refused = 0
        self._database: Database

    @classmethod
    async def open(cls, path: Path, boot: int, next_box: Callable[[], int], clock: Clock, *,
                   bytes_max: int = 64 << 20, queue_max: int = 512,
                   told: Callable[[News], None] = lambda news: None) -> "OutboxStore":
        """Open or begin ``outbox.db``. Never raises for the state of the file or the disk.

        ``boot`` numbers the first file made in this run; ``next_box`` raises the boot counter for
        any later one (``Vault.next_box``), so that no box comes twice.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        budget = max(BYTES_MIN, min(bytes_max, free_bytes(path) // FREE_SHARE))
        store = cls(clock, boot, next_box, budget)
        rules = FileRules(MIGRATIONS, APPLICATION_ID, "FULL", queue_max, opened=store._opened)
        store._database = await Database.open(path, rules, clock, told)
        await store._do(store._look)
        return store

    async def close(self) -> None:
        """Finish what waits and close the file."""
        await self._database.close()

    @property
    def figures(self) -> OutboxFigures:
        """Counters since start, and what stands now."""
        stand = self._stand
        return OutboxFigures(
            stand.box, High(*stand.high), stand.rows, stand.bytes, self._bytes_max, stand.oldest,
            self._dropped, self._refused, self._database.set_aside, self._database.full)

    @property
    def high(self) -> High:
        """The newest number given, per rank."""
        return High(*self._stand.high)

    async def append(self, event: Event) -> Row | None:
        """Number ``event`` and write it; return its row once it is on the disk.

        None: it could not be written (disk full, writer swamped, or rank A over the whole
        budget, or C while B fills all). It had no number then, so nothing is missing later.
        """
        stand = await self._do(partial(self._append, event))
        if stand is None or stand.row is None:
            self._refused += 1
            return None
        return stand.row

    async def oldest(self, n: int) -> tuple[Row, ...]:
        """Return at most ``n`` rows, A and B in the order written, then C.

        Rows stay until ``sent``; those under way come again. An unreadable file gives none.
        """
        try:
            rows, spoilt = await self._database.read(partial(_oldest, n))
        except (StoreBusy, StoreFull, StoreDamaged):
            return ()
        if spoilt:
            await self._do(partial(self._spoil, spoilt))
        return rows

    async def sent(self, rows: tuple[Row, ...]) -> None:
        """Delete ``rows``: the broker has them. Rows of another box or gone already are no error.

        Where it cannot be written they come again: consumers know them by number.
        """
        await self._do(partial(self._delete, rows))

    async def _do(self, work: Callable[[Connection], _Stand]) -> _Stand | None:
        """Run ``work``, once more where its file had to be replaced; None where it cannot be."""
        for _ in range(2):
            try:
                stand = await self._database.submit(work)
            except StoreDamaged:
                continue
            except (StoreFull, StoreBusy):
                return None
            self._stand = stand
            self._dropped += stand.dropped
            return stand
        return None

    # In the writer thread.

    def _opened(self, connection: Connection, fresh: bool, replaced: bool) -> None:
        if not fresh:
            row = connection.execute("SELECT box FROM box").fetchone()
            if row is None or not isinstance(row[0], int):
                raise StoreDamaged("outbox.db: has no box")
            self._box = row[0]
            return
        lost, self._box = self._box, self._next_box() if self._made_one else self._boot
        self._made_one = True
        connection.execute("INSERT INTO box (box) VALUES (?)", (self._box,))
        if replaced:
            self._gap(connection, Gap("a", 0, lost_box=lost))

    def _append(self, event: Event, connection: Connection) -> _Stand:
        body = json.dumps(event.body)
        dropped = self._make_room(connection, event.rank, len(body) + ROW_BYTES)
        if dropped is None:
            return self._look(connection)
        row = self._insert(connection, event, body)
        return self._look(connection, row, dropped)

    def _insert(self, connection: Connection, event: Event, body: str) -> Row:
        size = len(body) + ROW_BYTES
        (seq,) = connection.execute(
            "UPDATE number SET high=high+1, rows=rows+1, bytes=bytes+? WHERE rank=? RETURNING high",
            (size, event.rank)).fetchone()
        connection.execute(
            "INSERT INTO row (rank, seq, kind, at, mono, body, size, crc)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (event.rank, seq, event.kind, event.at, event.mono, body, size,
             _crc(event.rank, seq, event.kind, event.at, event.mono, body)))
        return Row(self._box or 0, event.rank, seq, event)

    def _make_room(self, connection: Connection, rank: Rank, size: int) -> int | None:
        """Drop what must go so that ``size`` more of ``rank`` fit; None: they cannot."""
        used = dict(connection.execute("SELECT rank, bytes FROM number").fetchall())
        if set(used) != set(_RANKS):
            raise StoreDamaged("outbox.db: its counters are spoilt")
        if rank == "a":
            over = sum(used.values()) + size - self._bytes_max
        else:
            over = used["b"] + used["c"] + size - (self._bytes_max - self._reserve)
        dropped = 0
        for victim in ("c",) if rank == "c" else ("c", "b"):
            if over > 0 and used[victim]:
                freed, rows = self._drop_oldest(
                    connection, victim, max(over, self._bytes_max // DROP_SHARE))
                over -= freed
                dropped += rows
        return None if over > 0 else dropped

    def _drop_oldest(self, connection: Connection, rank: str, wanted: int) -> tuple[int, int]:
        """Drop rows of ``rank`` until ``wanted`` bytes are free, and name them in gap records."""
        freed, gone = 0, []
        for number, seq, size in connection.execute(
                "SELECT id, seq, size FROM row WHERE rank=? ORDER BY seq", (rank,)):
            if freed >= wanted:
                break
            freed += size
            gone.append((number, seq))
        connection.executemany("DELETE FROM row WHERE id=?", [(number,) for number, _ in gone])
        connection.execute("UPDATE number SET rows=rows-?, bytes=bytes-? WHERE rank=?",
                           (len(gone), freed, rank))
        self._name_gaps(connection, rank, [seq for _, seq in gone])
        return freed, len(gone)

    def _name_gaps(self, connection: Connection, rank: str, numbers: list[int]) -> None:
        """One gap record for each run of ``numbers`` without a hole."""
        begin = 0
        of: Rank = next(known for known in _RANKS if known == rank)
        for place in range(1, len(numbers) + 1):
            if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
                self._gap(connection, Gap(of, place - begin, numbers[begin], numbers[place - 1]))
                begin = place

    def _gap(self, connection: Connection, gap: Gap) -> None:
        told = event(gap, self._clock.wall(), self._clock.now())
        self._insert(connection, told, json.dumps(told.body))

    def _delete(self, rows: tuple[Row, ...], connection: Connection) -> _Stand:
        for row in rows:
            if row.box == self._box:
                _take_out(connection, row.rank, row.seq)
        return self._look(connection)

    def _spoil(self, spoilt: tuple[int, ...], connection: Connection) -> _Stand:
        """Remove rows that are not what was written; name those whose number can be believed."""
        for number in spoilt:
            found = connection.execute("SELECT rank, seq FROM row WHERE id=?", (number,)).fetchone()
            if found is None:
                continue
            rank, seq = found
            if rank in _RANKS and isinstance(seq, int):
                _take_out(connection, rank, seq)
                self._name_gaps(connection, rank, [seq])
            else:
                connection.execute("DELETE FROM row WHERE id=?", (number,))
        return self._look(connection, dropped=len(spoilt))

    def _look(self, connection: Connection, row: Row | None = None, dropped: int = 0) -> _Stand:
        counts = connection.execute("SELECT high, rows, bytes FROM number ORDER BY rank").fetchall()
        oldest = connection.execute("SELECT at FROM row ORDER BY id LIMIT 1").fetchone()
        return _Stand(row, self._box or 0, tuple(high for high, _, _ in counts),
                      sum(rows for _, rows, _ in counts), sum(size for _, _, size in counts),
                      None if oldest is None else Wall(oldest[0]), dropped)


def _take_out(connection: Connection, rank: str, seq: int) -> None:
    found = connection.execute("DELETE FROM row WHERE rank=? AND seq=? RETURNING size",
                               (rank, seq)).fetchone()
    if found is not None:
        connection.execute("UPDATE number SET rows=rows-1, bytes=bytes-? WHERE rank=?",
                           (found[0], rank))


def _oldest(n: int, connection: Connection) -> tuple[tuple[Row, ...], tuple[int, ...]]:
    """In the reader thread: rows as they were written, and the ids of those that are not."""
    (box,) = connection.execute("SELECT box FROM box").fetchone()
    found = connection.execute(
        "SELECT id, rank, seq, kind, at, mono, body, crc FROM row WHERE rank<>'c'"
        " ORDER BY id LIMIT ?", (n,)).fetchall()
    found += connection.execute(
        "SELECT id, rank, seq, kind, at, mono, body, crc FROM row WHERE rank='c'"
        " ORDER BY seq LIMIT ?", (n - len(found),)).fetchall()
    rows, spoilt = [], []
    for number, rank, seq, kind, at, mono, body, crc in found:
        if rank not in _RANKS or crc != _crc(rank, seq, kind, at, mono, body):
            spoilt.append(number)
            continue
        pairs = tuple((name, value) for name, value in json.loads(body))
        rows.append(Row(box, rank, seq, Event(rank, kind, Wall(at), Mono(mono), pairs)))
    return tuple(rows), tuple(spoilt)


def _crc(*columns: object) -> int:
    return zlib.crc32(repr(columns).encode("utf-8", "replace"))
