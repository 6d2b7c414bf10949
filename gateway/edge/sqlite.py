"""SQLite at the door: one file, one writer thread with one bounded queue, one reader thread.

Law of a file:
1. Only the writer thread writes. It commits in groups what waits, each job under a savepoint of
   its own, so a poisoned job harms no other. Urgent jobs (a drop, an event) go first, and their
   commit is on the disk before they are done (``synchronous=FULL``).
2. Look-ups have a connection and a thread of their own: WAL lets them pass a busy writer.
3. A migration's record commits with its effect. A file of a later schema, or of another program,
   is not ours and is treated as damaged.
4. A damaged file is set aside (``records.db-damaged-1``, with its WAL), never written over, and a
   new one is begun. The newest ``ASIDE_MAX`` are left; each may be as large as a store's budget.
5. Foreign errors stop here: ``StoreFull``, ``StoreDamaged``, ``StoreBusy`` and no other leave.

Nothing here knows what is stored. Work given to it runs in another thread and must not touch
the event loop.
"""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

from gateway.core.instant import Mono
from gateway.edge.reserve import Reserve
from gateway.errors import GatewayError, StoreBusy, StoreDamaged, StoreFull
from gateway.ports import Clock

Connection: TypeAlias = sqlite3.Connection
T = TypeVar("T")

GROUP_MAX: Final = 64
"""Jobs per commit: on a disk that syncs in 200 ms it still makes 320 a second."""
LINGER_S: Final = 0.005
"""How long a plain job waits for others, see ``_Line.take``."""
ASIDE_MAX: Final = 2
"""Damaged files left for whoever investigates; two of 2 GiB are what a small disk bears."""
REOPEN_S: Final = 2.0
"""Between attempts to open a file for which there was no room."""
BUSY_MS: Final = 2000
"""Wait for another program's lock (a backup, a person's shell) before StoreBusy."""

POISON: Final = (GatewayError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
                 OSError, MemoryError, RecursionError)
"""What one job's own data may raise: handed to its asker, never the end of the thread."""

News: TypeAlias = Literal["set_aside", "full", "room"]
"""Told once each: a damaged file was replaced; no room to write; room again."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One named step of a schema; ``statements`` run in one transaction with their record."""

    name: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileRules:
    """How one file is kept. ``application_id`` marks it as ours (SQLite file format §1.3.19);
    the first migration must set it.

    ``reserve_bytes`` are held on the disk beside the file, given up for urgent work when the disk
    is full, and taken back before any other work is done.

    ``opened`` runs in a transaction of its own whenever a connection to the file was made:
    ``fresh`` tells that the file was just created, ``replaced`` that it stands for a damaged one.
    """

    migrations: tuple[Migration, ...]
    application_id: int
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
    queue_max: int = 256
    queue_bytes_max: int = 32 << 20
    reads_max: int = 512
    reserve_bytes: int = 0
    opened: Callable[[Connection, bool, bool], None] = lambda connection, fresh, replaced: None


@dataclass(slots=True)
class _Job:
    """One piece of work. ``settle`` is called on the loop with its result or its error."""

    work: Callable[[Connection], Any]
    settle: Callable[[Any, BaseException | None], None]
    size: int = 0
    urgent: bool = False


class _Line:
    """A bounded line of jobs between the loop and one thread; urgent ones stand in front."""

    def __init__(self, items_max: int, bytes_max: int, linger_s: float = 0.0) -> None:
        self._items_max, self._bytes_max = items_max, bytes_max
        self._linger_s, self._lingered = linger_s, False
        self._urgent: deque[_Job] = deque()
        self._plain: deque[_Job] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, job: _Job, bound: bool = True) -> bool:
        """Add ``job``; False where the line is full or closed."""
        with self._changed:
            waiting = len(self._plain) + len(self._urgent)
            # Urgent ones have twice the room: a drop must not be refused because keeps pile up.
            room = self._items_max * (2 if job.urgent else 1)
            if self._closed or (bound and (waiting >= room or (
                    not job.urgent and self._bytes + job.size > self._bytes_max))):
                return False
            (self._urgent if job.urgent else self._plain).append(job)
            self._bytes += job.size
            self._changed.notify()
            return True

    def take(self) -> _Job | None:
        """Wait for the next job; None when closed and empty.

        A plain job waits ``linger_s`` for company: one commit for several, and its work does not
        compete with the answer of the very request that brought it (measured: 0.7 ms at p50).
        """
        with self._changed:
            while not (self._urgent or self._plain or self._closed):
                self._changed.wait()
            # Once only: urgent work that comes in the meantime goes first, but a stream of it,
            # each within the linger of the last, must not put plain work off for ever.
            if self._linger_s and not self._lingered:
                self._lingered = bool(self._plain)
                self._changed.wait_for(self._is_pressing, self._linger_s)
            return self._pop()

    def _is_pressing(self) -> bool:
        return bool(self._urgent) or self._closed or len(self._plain) >= GROUP_MAX

    def more(self, urgent: bool) -> _Job | None:
        """The next job for the same commit, without waiting: none where urgent work came in."""
        with self._changed:
            if bool(self._urgent) != urgent:
                return None
            return self._pop()

    def _pop(self) -> _Job | None:
        line = self._urgent or self._plain
        if not line:
            return None
        job = line.popleft()
        self._lingered = self._lingered and line is self._urgent
        self._bytes -= job.size
        return job

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._plain)


@dataclass(slots=True)
class _Done:
    """What became of one job inside a commit that may still fail."""

    job: _Job
    result: Any = None
    error: BaseException | None = None


class Database:
    """One SQLite file. Make it with ``await Database.open(...)``; close it with ``await close()``.

    ``told`` is called on the event loop with a ``News``. Public methods are the loop's to call.
    ``full`` says that the last write found no room; ``set_aside`` counts damaged files replaced.
    """

    def __init__(self, path: Path, rules: FileRules, clock: Clock,
                 told: Callable[[News], None]) -> None:
        self.path, self.full, self.erasing, self.set_aside = path, False, False, 0
        self._rules, self._clock, self._told = rules, clock, told
        self._loop = asyncio.get_running_loop()
        self._jobs = _Line(rules.queue_max, rules.queue_bytes_max, LINGER_S)
        self._asks = _Line(rules.reads_max, rules.queue_bytes_max)
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._reading = threading.Lock()
        self._generation = 0
        self._level = ""
        self._tried: Mono | None = None
        self._reserve = Reserve(_beside(path, "-reserve"), rules.reserve_bytes)
        self._threads = (
            threading.Thread(target=self._write, name=f"{path.stem}-writer", daemon=True),
            threading.Thread(target=self._read, name=f"{path.stem}-reader", daemon=True))

    @classmethod
    async def open(cls, path: Path, rules: FileRules, clock: Clock,
                   told: Callable[[News], None]) -> "Database":
        """Open or begin the file at ``path`` (mode 0600, its folder 0700).

        A damaged file is set aside. Where there is no room the Database stands all the same:
        its jobs fail with StoreFull, and it tries again by itself.
        """
        database = cls(path, rules, clock, told)
        for thread in database._threads:
            thread.start()
        for _ in range(2):  # on a full disk the second attempt has the reserve to live on
            with contextlib.suppress(StoreFull, StoreBusy):
                await database.submit(lambda connection: None)
                break
        return database

    def submit(self, work: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Run ``work`` as urgent: when the future is done, what it wrote is on the disk.

        Raises:
            StoreBusy: the line is full; also through the future: StoreFull, StoreDamaged, and
                whatever of ``POISON`` the work itself raised.
        """
        return self._ask(self._jobs, work, urgent=True)

    def post(self, work: Callable[[Connection], T], size: int,
             settle: Callable[[T | None, BaseException | None], None]) -> bool:
        """Queue ``work`` behind all that is urgent. False: the line is full, nothing will be done.

        ``size`` is the bytes of memory it holds; ``settle`` is called on the loop after commit.
        """
        return self._jobs.put(_Job(work, settle, size))

    def read(self, work: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Run ``work`` on the reading connection, which sees every commit before this call.

        Raises:
            StoreBusy: too many wait; through the future also StoreFull and StoreDamaged.
        """
        return self._ask(self._asks, work, urgent=False)

    async def erase(self) -> None:
        """Delete the file and begin anew, now or, where that cannot be done, before any other work.

        For work that takes away and cannot be written: losing all of a copy is better than
        serving what was taken back. ``erasing`` says that it still stands.
        """
        self.erasing = True
        with contextlib.suppress(StoreFull, StoreBusy, StoreDamaged):
            await self.submit(lambda connection: None)

    @property
    def waiting(self) -> int:
        """Jobs that wait for the writer."""
        return len(self._jobs)

    async def close(self) -> None:
        """Finish what waits (bounded by the queue), write the WAL back, and close the file."""
        closed: asyncio.Future[None] = self._loop.create_future()
        self._asks.close()
        self._jobs.close()
        threading.Thread(target=self._join, args=(closed,), daemon=True).start()
        await asyncio.shield(closed)

    def _join(self, closed: "asyncio.Future[None]") -> None:
        for thread in self._threads:
            thread.join()
        self._on_loop(lambda: None if closed.done() else closed.set_result(None))

    def _ask(self, line: _Line, work: Callable[[Connection], T], urgent: bool
             ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self._loop.create_future()

        def settle(result: T, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        if not line.put(_Job(work, settle, urgent=urgent)):
            raise StoreBusy(f"{self.path.name}: too much is waiting to be done")
        return future

    def _on_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to tell
            self._loop.call_soon_threadsafe(call)

    def _settle(self, done: list[_Done]) -> None:
        def tell() -> None:
            for one in done:
                one.job.settle(one.result, one.error)
        self._on_loop(tell)

    # The writer thread.

    def _write(self) -> None:
        try:
            while (job := self._jobs.take()) is not None:
                self._commit(job)
        finally:
            # Orderly, nothing is left; after a mistake of ours nobody may wait for ever.
            self._jobs.close()
            while (job := self._jobs.take()) is not None:
                self._settle([_Done(job, error=StoreBusy(f"{self.path.name}: closed"))])
            with self._reading:
                self._shut()

    def _commit(self, first: _Job) -> None:
        """One transaction: ``first`` and what else waits, all of it or, on trouble, none."""
        done: list[_Done] = []
        try:
            if self.erasing:
                self._erase()
            connection = self._connected()
            if not first.urgent and not self._reserve.stands(self._clock.now()):
                raise StoreFull(f"{self.path.name}: no room for its reserve")
            self._set_level(connection, "FULL" if first.urgent else self._rules.synchronous)
            connection.execute("BEGIN IMMEDIATE")
            for job in self._group(first):
                done.append(_Done(job))
                self._one(connection, done[-1])
            connection.execute("COMMIT")
        except (sqlite3.Error, StoreDamaged, StoreFull, StoreBusy) as trouble:
            self._fail(first, done, self._undo(trouble, first.urgent))
        else:
            self._say_full(self.full and not self._reserve.held)
            self._settle(done)

    def _group(self, first: _Job) -> Iterator[_Job]:
        yield first
        for _ in range(GROUP_MAX - 1):
            job = self._jobs.more(first.urgent)
            if job is None:
                return
            yield job

    def _one(self, connection: Connection, done: _Done) -> None:
        connection.execute("SAVEPOINT job")
        try:
            done.result = done.job.work(connection)
        except (StoreDamaged, StoreFull):
            raise
        except POISON as mistake:
            connection.execute("ROLLBACK TO job")
            done.error = mistake
        connection.execute("RELEASE job")

    def _fail(self, first: _Job, done: list[_Done], error: GatewayError) -> None:
        for one in done or [_Done(first)]:
            one.result, one.error = None, one.error or error
            self._settle([one])

    def _undo(self, trouble: sqlite3.Error | GatewayError, urgent: bool) -> GatewayError:
        """Roll back after ``trouble`` and mend what can be mended; return it as one of ours."""
        error = translate(trouble, self.path.name) if isinstance(trouble, sqlite3.Error) \
            else trouble
        with contextlib.suppress(sqlite3.Error):
            if self._writer is not None and self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        if isinstance(error, StoreDamaged):
            self._replace()
        elif isinstance(error, StoreFull):
            self._say_full(True)
            if urgent and self._reserve.release():
                self._tried = None  # there is room now: open at once
        return error

    def _say_full(self, full: bool) -> None:
        if full != self.full:
            self.full = full
            self._on_loop(lambda: self._told("full" if full else "room"))

    def _set_level(self, connection: Connection, level: str) -> None:
        if level != self._level:
            connection.execute(
                "PRAGMA synchronous=FULL" if level == "FULL" else "PRAGMA synchronous=NORMAL")
            self._level = level

    def _connected(self) -> Connection:
        if self._writer is None:
            now = self._clock.now()
            if self._tried is not None and now - self._tried < REOPEN_S:
                raise StoreFull(f"{self.path.name}: cannot be opened for now")
            self._tried = now
            try:
                self._connect(replaced=False)
            except (sqlite3.Error, GatewayError, OSError) as trouble:
                self._after_failed_opening(trouble)
        if self._writer is None:
            raise StoreFull(f"{self.path.name}: cannot be opened for now")
        return self._writer

    def _after_failed_opening(self, trouble: sqlite3.Error | GatewayError | OSError) -> None:
        error = translate(trouble, self.path.name) if isinstance(trouble, sqlite3.Error) \
            else trouble
        if isinstance(error, StoreDamaged):
            self._replace()
            return
        self._shut()
        if isinstance(error, OSError):
            raise StoreFull(f"{self.path.name}: {error.strerror}") from error
        raise error

    def _connect(self, replaced: bool) -> None:
        """Open both connections; bring the schema up; let the store look at it."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if self.path.stat().st_size == 0 and _beside(self.path, "-wal").exists():
            raise StoreDamaged(f"{self.path.name}: cut to nothing, yet it has a log")
        self._writer = connection = _plain_connection(self.path)
        fresh = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not fresh and connection.execute("PRAGMA application_id").fetchone()[0] \
                != self._rules.application_id:
            raise StoreDamaged(f"{self.path.name}: not a file of ours")
        connection.execute("PRAGMA journal_mode=WAL").fetchone()
        # FAST: what is sealed need not be overwritten as well where that costs writes of its own;
        # ON would write every page of a dropped route to the log before the drop is done.
        connection.execute("PRAGMA secure_delete=FAST").fetchone()
        connection.execute("PRAGMA foreign_keys=ON")
        # 8 MiB: what the WAL may keep after it was written back, of what a large drop made it.
        connection.execute("PRAGMA journal_size_limit=8388608").fetchone()
        self._level = ""
        self._set_level(connection, "FULL")
        connection.execute("BEGIN IMMEDIATE")
        _migrate(connection, self._rules.migrations, self.path.name)
        self._rules.opened(connection, fresh, replaced)
        connection.execute("COMMIT")
        self._generation += 1
        self._reader = _plain_connection(self.path)
        self._reader.execute("PRAGMA query_only=ON")

    def _replace(self) -> None:
        """Set the damaged file aside and begin a new one; loudly, by ``told``."""
        with self._reading:
            self._shut()
            try:
                _rename_aside(self.path)
                self.set_aside += 1
                self._on_loop(lambda: self._told("set_aside"))
                self._connect(replaced=True)
            except (sqlite3.Error, GatewayError, OSError):
                self._shut()  # no room for a new one yet: tried again after REOPEN_S
                self._say_full(True)

    def _erase(self) -> None:
        with self._reading:
            self._shut()
            try:
                for suffix in ("", "-wal", "-shm"):
                    _beside(self.path, suffix).unlink(missing_ok=True)
                self.erasing = False
                self._connect(replaced=True)
            except OSError as trouble:
                self._shut()
                raise StoreFull(f"{self.path.name}: {trouble.strerror}") from trouble

    def _shut(self) -> None:
        """Close both connections. The caller holds ``_reading`` if the reader may be at work."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        self._reader = self._writer = None

    # The reader thread.

    def _read(self) -> None:
        while (job := self._asks.take()) is not None:
            done = _Done(job)
            with self._reading:
                generation = self._generation
                try:
                    if self._reader is None:
                        raise StoreFull(f"{self.path.name}: cannot be opened for now")
                    done.result = job.work(self._reader)
                except sqlite3.Error as trouble:
                    done.error = translate(trouble, self.path.name)
                except POISON as mistake:
                    done.error = mistake
            if isinstance(done.error, StoreDamaged):
                self._report_damage(generation, done.error)
            self._settle([done])

    def _report_damage(self, generation: int, damage: StoreDamaged) -> None:
        """What the reader finds damaged the writer sets aside, unless it has been already."""
        def work(connection: Connection) -> None:
            if generation == self._generation:
                raise damage
        self._jobs.put(_Job(work, lambda result, error: None, urgent=True), bound=False)


def _plain_connection(path: Path) -> Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False,
                                 timeout=BUSY_MS / 1000, cached_statements=64)
    # A flipped bit in a text column must spoil its row, not raise for the whole file.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def _migrate(connection: Connection, migrations: tuple[Migration, ...], name: str) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY)")
    done = {row[0] for row in connection.execute("SELECT name FROM migration")}
    if not done <= {migration.name for migration in migrations}:
        raise StoreDamaged(f"{name}: its schema is of a later version")
    for migration in migrations:
        if migration.name not in done:
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migration (name) VALUES (?)", (migration.name,))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _rename_aside(path: Path) -> None:
    """Rename the file with its WAL; leave the newest ASIDE_MAX of those set aside."""
    taken = sorted((int(number), found) for found in path.parent.glob(path.name + "-damaged-*")
                   if (number := found.name.removeprefix(path.name + "-damaged-")).isdigit())
    next_number = (taken[-1][0] if taken else 0) + 1
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            _beside(path, suffix).rename(_beside(path, f"-damaged-{next_number}{suffix}"))
    for _, old in taken[:max(0, len(taken) + 1 - ASIDE_MAX)]:
        for suffix in ("", "-wal", "-shm"):
            _beside(old, suffix).unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Free bytes of the disk under ``path``'s folder, 0 where that cannot be told."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(path.parent).free
    return 0


_DAMAGED: Final = frozenset({
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT})
_UNREADABLE: Final = frozenset({
    sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS,
    sqlite3.SQLITE_IOERR_DATA})


def translate(trouble: sqlite3.Error, name: str) -> GatewayError:
    """Return ``trouble`` as one of ours (sqlite.org/rescode.html).

    Our statements are fixed, so an unknown table or a broken constraint is damage as much as a
    malformed page. What cannot be written for any reason (full, read-only, an I/O error) is full.
    A misuse of the library is our mistake and is raised again.
    """
    code = getattr(trouble, "sqlite_errorcode", None)
    if code is None:
        if isinstance(trouble, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise trouble
        return StoreDamaged(f"{name}: cannot be read")
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"{name}: locked by another program")
    if code in _UNREADABLE or code & 0xFF in _DAMAGED:
        return StoreDamaged(f"{name}: damaged ({trouble.sqlite_errorname})")
    return StoreFull(f"{name}: cannot be written ({trouble.sqlite_errorname})")
