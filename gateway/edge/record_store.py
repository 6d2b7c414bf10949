"""One tenant's copies: kept replies, sealed, found by HMAC, forgotten when told (port Records).

Law of the store:
1. ``keep`` never blocks and never raises: it queues, or says False. Judging, squeezing and
   sealing happen in the writer thread.
2. What is not exactly what was sealed is not served: body, headers, times, route and subjects are
   all sealed together, and the columns beside them are only there to find rows by.
3. ``drop`` is on the disk when it returns, and refuses every keep whose fetch began before it,
   however late it arrives (the mark). Where it cannot be written the file is deleted, and where
   not even that can be done nothing of it is served any more: nothing old is ever served as new.
4. Bounded by bytes on disk; the oldest fetch goes first.

On disk in clear are: upstream and route ids of the config, times, sizes. All that could name a
person is an HMAC-SHA256 under the tenant's key.
"""

import asyncio
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal

import orjson

from gateway.core.examine import Examined, examine_json, examine_xml
from gateway.core.instant import Mono, Wall
from gateway.core.keeping import Drop, Keep, Kept, Key
from gateway.core.message import first
from gateway.edge.sqlite import Connection, Database, FileRules, Migration, News
from gateway.edge.vault import Safe
from gateway.errors import StoreBusy, StoreDamaged, StoreFull
from gateway.ports import Clock

SCHEMA: Final = b"reply 1\0"
APPLICATION_ID: Final = 0x50475231  # "PGR1"
DECODED_BYTES_MAX: Final = 16 << 20
"""A body of 1 MiB that undoes to more than 16 MiB is a bomb, not a record."""
FETCH_MAX_S: Final = 120.0
"""No fetch of a body that may be kept lasts longer (patience 30 s, 1 MiB)."""
CLOCK_STEP_S: Final = 0.5
"""A wall clock that moved this much against the monotonic one was set; slewing stays below."""
MARK_LIFE_S: Final = 3600.0
"""A mark guards against fetches under way; after an hour none is left."""
MARKS_MAX: Final = 4096
"""Beyond it all marks become one that covers everything."""
CLOSURE_MAX: Final = 64
"""Names of one person; beyond it the whole upstream is dropped."""
EVICT_ROWS: Final = 8
RESERVE_BYTES: Final = 2 << 20
"""What drops may still write on a full disk: about 500 pages, some hundred drops."""

_KINDS: Final = {"Patient": 1, "nhs": 2}
_OTHER_KIND: Final = 4

MIGRATIONS: Final = (
    Migration("0001-replies", (
        "PRAGMA application_id=1346851377",
        "CREATE TABLE reply (id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE,"
        " upstream TEXT NOT NULL, route TEXT NOT NULL, mask INTEGER NOT NULL,"
        " fetched REAL NOT NULL, expires REAL NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX reply_route ON reply (upstream, route, mask)",
        "CREATE INDEX reply_fetched ON reply (fetched)",
        "CREATE INDEX reply_expires ON reply (expires)",
        "CREATE TABLE subject (subject BLOB NOT NULL,"
        " reply INTEGER NOT NULL REFERENCES reply (id) ON DELETE CASCADE,"
        " PRIMARY KEY (subject, reply)) WITHOUT ROWID",
        "CREATE INDEX subject_reply ON subject (reply)",
        "CREATE TABLE tie (one BLOB NOT NULL, other BLOB NOT NULL,"
        " kind INTEGER NOT NULL, PRIMARY KEY (one, other)) WITHOUT ROWID",
        "CREATE TABLE mark (scope BLOB PRIMARY KEY, before REAL NOT NULL, made REAL NOT NULL)"
        " WITHOUT ROWID",
    )),
)


@dataclass(frozen=True, slots=True)
class RecordFigures:
    """What ``/status`` and metrics show. ``copies`` counts what is committed, never what waits.

    ``state``: ``ok``; ``full`` (the last write found no room); ``unsure`` (a drop could neither
    be written nor the file deleted: nothing is served). ``refused`` counts by reason.
    """

    tenant: str
    state: Literal["ok", "full", "unsure"]
    copies: int
    bytes: int
    kept: int
    dropped: int
    evicted: int
    pruned: int
    unreadable: int
    set_aside: int
    waiting: int
    refused: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Effect:
    """What one committed job changed."""

    kept: int = 0
    dropped: int = 0
    evicted: int = 0
    pruned: int = 0
    replaced: int = 0
    refused: str = ""
    bytes: int | None = None

    @property
    def copies(self) -> int:
        return self.kept - self.replaced - self.dropped - self.evicted - self.pruned


@dataclass(frozen=True, slots=True)
class _Filed:
    """A judged keep, ready to be written: what it is filed under, and its names: (HMAC, kind)."""

    keep: Keep
    key: bytes
    names: tuple[tuple[bytes, int], ...]
    mask: int
    restricted: bool
    tied: bool


@dataclass
class _Marks:
    """Refusals for fetches that began too early, by HMAC of what they cover. Writer thread only."""

    before: dict[bytes, tuple[float, float]] = field(default_factory=dict)
    floor: float = float("-inf")

    def refuses(self, scopes: Iterable[bytes], fetched: float) -> bool:
        return fetched < self.floor or any(
            fetched < self.before[scope][0] for scope in scopes if scope in self.before)


class RecordStore:
    """One tenant's record store. Make it with ``await RecordStore.open(...)``."""

    def __init__(self, safe: Safe, clock: Clock, bytes_max: int) -> None:
        self._safe, self._clock, self._bytes_max = safe, clock, bytes_max
        self._marks = _Marks()
        self._copies = self._bytes = 0
        self._counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._offset = clock.wall() - clock.now()
        self._steady_from = Mono(float("-inf"))
        self._database: Database

    @classmethod
    async def open(cls, path: Path, safe: Safe, clock: Clock, *, bytes_max: int = 2 << 30,
                   queue_max: int = 256, queue_bytes_max: int = 32 << 20,
                   told: Callable[[News], None] = lambda news: None) -> "RecordStore":
        """Open or begin the tenant's file; ``safe`` names the tenant.

        ``bytes_max`` bounds the file (its log takes up to 8 MiB more, its reserve 2),
        ``queue_max`` and ``queue_bytes_max`` what waits in memory. ``told`` hears of a file set
        aside and of a full disk, on the loop. Never raises for the state of file or disk.
        """
        store = cls(safe, clock, bytes_max)
        rules = FileRules(MIGRATIONS, APPLICATION_ID, "NORMAL", queue_max, queue_bytes_max,
                          reserve_bytes=RESERVE_BYTES, opened=store._opened)
        store._database = await Database.open(path, rules, clock, told)
        return store

    async def close(self) -> None:
        """Write what waits and close the file."""
        await self._database.close()

    @property
    def figures(self) -> RecordFigures:
        """Counters since start, and what stands now."""
        state: Literal["ok", "full", "unsure"] = (
            "unsure" if self._database.erasing else "full" if self._database.full else "ok")
        count = self._counts
        return RecordFigures(
            self._safe.tenant, state, self._copies, self._bytes, count["kept"], count["dropped"],
            count["evicted"], count["pruned"], count["unreadable"], self._database.set_aside,
            self._database.waiting, tuple(sorted(self._refused.items())))

    # Keeping.

    def keep(self, keep: Keep) -> bool:
        """Queue ``keep``. False: not kept (queue full, clock just set, dated in the future)."""
        if not self._is_steady() or keep.fetched > self._clock.wall() + CLOCK_STEP_S:
            self._refused["clock"] += 1
            return False
        size = len(keep.body) + 1024
        queued = self._database.post(partial(self._store, keep), size, self._settle)
        if not queued:
            self._refused["busy"] += 1
        return queued

    def _is_steady(self) -> bool:
        """Whether fetch times can be compared: the wall clock was not set since they began."""
        now, wall = self._clock.now(), self._clock.wall()
        if abs(wall - now - self._offset) > CLOCK_STEP_S:
            self._steady_from = Mono(now + FETCH_MAX_S)
        self._offset = wall - now
        return now >= self._steady_from

    def _settle(self, effect: _Effect | None, error: BaseException | None) -> None:
        if effect is None:
            reason = {StoreFull: "full", StoreDamaged: "damaged", StoreBusy: "locked"}
            self._refused[reason.get(type(error), "mistake")] += 1  # type: ignore[arg-type]
            return
        self._copies += effect.copies
        for name in ("kept", "dropped", "evicted", "pruned"):
            self._counts[name] += getattr(effect, name)
        if effect.refused:
            self._refused[effect.refused] += 1
        if effect.bytes is not None:
            self._bytes = effect.bytes

    def _store(self, keep: Keep, connection: Connection) -> _Effect:
        """In the writer thread: judge, seal and write one keep, then make room."""
        examined = _examine(keep)
        if not isinstance(examined, Examined):
            return _Effect(refused=examined)
        filed = self._filed(keep, examined)
        if self._marks.refuses(self._scopes(filed), keep.fetched):
            return _Effect(refused="voided")
        held = connection.execute("SELECT fetched FROM reply WHERE key=?", (filed.key,)).fetchone()
        if held is not None and isinstance(held[0], float) and held[0] > keep.fetched:
            return _Effect(refused="older")
        sealed = self._safe.seal(SCHEMA + filed.key, _payload(filed))
        if len(sealed) > self._bytes_max // 4:
            return _Effect(refused="too_big")
        replaced = connection.execute("DELETE FROM reply WHERE key=?", (filed.key,)).rowcount
        self._insert(connection, filed, sealed)
        evicted, used = _make_room(connection, self._bytes_max)
        return _Effect(kept=1, replaced=replaced, evicted=evicted, bytes=used)

    def _filed(self, keep: Keep, examined: Examined) -> _Filed:
        names = tuple(sorted((self._name(keep.key.upstream, name), _mask((name,)))
                             for name in examined.subjects))
        return _Filed(keep, self._key(keep.key), names, _mask(examined.subjects),
                      examined.restricted, examined.tied)

    def _insert(self, connection: Connection, filed: _Filed, sealed: bytes) -> None:
        keep = filed.keep
        row = connection.execute(
            "INSERT INTO reply (key, upstream, route, mask, fetched, expires, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (filed.key, keep.key.upstream, keep.key.route, filed.mask, keep.fetched,
             keep.fetched + keep.ceiling_s, sealed)).lastrowid
        connection.executemany("INSERT INTO subject (subject, reply) VALUES (?, ?)",
                               [(name, row) for name, _ in filed.names])
        if filed.tied:
            connection.executemany(
                "INSERT OR REPLACE INTO tie (one, other, kind) VALUES (?, ?, ?)",
                [(one, other, kind) for one, _ in filed.names for other, kind in filed.names
                 if one != other])

    # Looking up.

    async def look_up(self, key: Key) -> Kept | None:
        """Return what is kept under ``key``, exactly as it came; None where that cannot be had."""
        if self._database.erasing:
            return None
        digest = self._key(key)
        try:
            found = await self._database.read(partial(self._fetch, key, digest))
        except (StoreBusy, StoreFull, StoreDamaged):
            return None
        if isinstance(found, int):
            self._counts["unreadable"] += 1
            self._database.post(partial(_remove_row, found), 0, self._settle)
            return None
        return None if self._database.erasing else found

    def _fetch(self, key: Key, digest: bytes, connection: Connection) -> Kept | int | None:
        """In the reader thread: the copy; or the number of a row that is not what was sealed."""
        row = connection.execute(
            "SELECT id, upstream, route, mask, body FROM reply WHERE key=?", (digest,)).fetchone()
        if row is None:
            return None
        number, *columns, sealed = row
        plain = self._safe.open(SCHEMA + digest, sealed) if isinstance(sealed, bytes) else None
        if plain is None:
            return int(number)
        names = [found[0].hex() if isinstance(found[0], bytes) else "" for found in
                 connection.execute("SELECT subject FROM subject WHERE reply=? ORDER BY subject",
                                    (number,))]
        return _opened_payload(plain, [*columns, names]) or int(number)

    # Dropping.

    async def drop(self, drop: Drop) -> None:
        """Forget, durably; see ``Drop``. With neither key, routes nor subjects: all the upstream's.

        With routes *and* subjects it also forgets those copies of the routes that cannot be
        compared with the subjects (filed under another kind of name, or under none).

        Never raises for the state of the disk: rule 3 of this module.
        """
        self._is_steady()
        made = self._clock.wall()
        for _ in range(3):
            try:
                await self._do(partial(self._forget, drop, made), drop.before)
            except StoreDamaged:
                continue  # a new file was begun; the mark must be in it too
            except StoreFull:
                continue  # the reserve was given up: there is room now
            except StoreBusy:
                break
            else:
                return
        self._give_up(drop.before)
        await self._database.erase()

    async def _do(self, work: Callable[[Connection], _Effect], before: Wall | None = None) -> None:
        """Run ``work`` and count its effect, also where whoever asked for it has gone away.

        ``before`` is that of a drop: one that fails with nobody left to try again is given up.
        """
        future = self._database.submit(work)
        gone = False

        def count(done: "asyncio.Future[_Effect]") -> None:
            if done.exception() is None:
                self._settle(done.result(), None)
            elif gone and before is not None:
                self._give_up(before)

        future.add_done_callback(count)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            gone = True
            raise

    def _give_up(self, before: Wall) -> None:
        """A drop could not be written: nothing is served until the file has been deleted."""
        # In memory at once, so that nothing under way is kept, whatever the disk does.
        self._marks.floor = max(self._marks.floor, before)
        self._database.erasing = True

    def _forget(self, drop: Drop, made: Wall, connection: Connection) -> _Effect:
        """In the writer thread: delete, and mark what is under way."""
        upstream = drop.upstream
        scopes: list[bytes] = []
        gone = 0
        if drop.key is not None:
            digest = self._key(drop.key)
            scopes.append(self._scope("key", digest))
            gone += connection.execute("DELETE FROM reply WHERE key=?", (digest,)).rowcount
        people, mask = self._closed(connection, upstream, drop.subjects)
        whole = not (drop.key or drop.routes or drop.subjects)
        if whole or len(people) > CLOSURE_MAX + len(drop.subjects):
            scopes.append(self._scope("upstream", upstream))
            gone += connection.execute("DELETE FROM reply WHERE upstream=?", (upstream,)).rowcount
        elif drop.routes and people:
            for route in drop.routes:
                gone += _delete_about(connection, upstream, route, people, mask)
                scopes += [self._scope("about", upstream, route, name) for name in people]
                scopes.append(self._scope("mask", upstream, route, bytes([mask])))
        elif drop.routes:
            for route in drop.routes:
                gone += connection.execute("DELETE FROM reply WHERE upstream=? AND route=?",
                                           (upstream, route)).rowcount
                scopes.append(self._scope("route", upstream, route))
        elif people:
            for name in people:
                gone += connection.execute(
                    "DELETE FROM reply WHERE upstream=? AND id IN"
                    " (SELECT reply FROM subject WHERE subject=?)", (upstream, name)).rowcount
                scopes.append(self._scope("subject", upstream, name))
        self._mark(connection, scopes, drop.before, made)
        return _Effect(dropped=gone, bytes=_used(connection))

    def _closed(self, connection: Connection, upstream: str, subjects: tuple[str, ...]
                ) -> tuple[set[bytes], int]:
        """All names of these people as far as identity copies tie them, and the kinds they have."""
        people = {self._name(upstream, subject) for subject in subjects}
        mask = _mask(subjects)
        ahead = list(people)
        while ahead and len(people) <= CLOSURE_MAX + len(subjects):
            for other, kind in connection.execute("SELECT other, kind FROM tie WHERE one=?",
                                                  (ahead.pop(),)).fetchall():
                if other not in people:
                    people.add(other)
                    ahead.append(other)
                    mask |= kind
        return people, mask

    # Marks.

    def _mark(self, connection: Connection, scopes: list[bytes], before: Wall, made: Wall) -> None:
        for scope in scopes:
            until = max(before, self._marks.before.get(scope, (before, made))[0])
            self._marks.before[scope] = (until, made)
            connection.execute("INSERT OR REPLACE INTO mark (scope, before, made) VALUES (?, ?, ?)",
                               (scope, until, made))
        if len(self._marks.before) > MARKS_MAX:
            self._marks.floor = max(until for until, _ in self._marks.before.values())
            self._marks.before.clear()
            connection.execute("DELETE FROM mark")
            connection.execute("INSERT INTO mark (scope, before, made) VALUES (?, ?, ?)",
                               (b"floor", self._marks.floor, made))

    def _scopes(self, filed: _Filed) -> list[bytes]:
        """Every mark that would refuse this keep."""
        upstream, route = filed.keep.key.upstream, filed.keep.key.route
        scopes = [self._scope("key", filed.key), self._scope("upstream", upstream),
                  self._scope("route", upstream, route)]
        for name, _ in filed.names:
            scopes.append(self._scope("subject", upstream, name))
            scopes.append(self._scope("about", upstream, route, name))
        scopes += [self._scope("mask", upstream, route, bytes([mask]))
                   for mask in range(1, 8) if not mask & filed.mask]
        return scopes

    def _opened(self, connection: Connection, fresh: bool, replaced: bool) -> None:
        """In the writer thread, whenever the file was opened: what stands in it, and its marks."""
        found = connection.execute("SELECT scope, before, made FROM mark").fetchall()
        for scope, before, made in found:
            if scope == b"floor":
                self._marks.floor = max(self._marks.floor, before)
            else:
                self._marks.before.setdefault(scope, (before, made))
        if fresh:
            connection.executemany(
                "INSERT INTO mark (scope, before, made) VALUES (?, ?, ?)",
                [(scope, *mark) for scope, mark in self._marks.before.items()])
        copies = connection.execute("SELECT count(*) FROM reply").fetchone()[0]
        used = _used(connection)

        def count() -> None:
            self._copies, self._bytes = copies, used
        # In the order of the commits, as the effects of those are told on the loop too.
        self._loop.call_soon_threadsafe(count)

    # Time.

    async def prune(self, now: Wall) -> None:
        """Delete copies past their ceiling at ``now``, old marks, and ties of nobody kept.

        ``now`` must be trusted time. At most 1000 copies a call, so that no call is long.
        """
        try:
            await self._do(partial(self._prune, now))
        except (StoreBusy, StoreFull, StoreDamaged) as trouble:
            self._settle(None, trouble)

    def _prune(self, now: Wall, connection: Connection) -> _Effect:
        gone = connection.execute(
            "DELETE FROM reply WHERE id IN (SELECT id FROM reply WHERE expires<=? LIMIT 1000)",
            (now,)).rowcount
        connection.execute("DELETE FROM mark WHERE abs(made - ?) > ?", (now, MARK_LIFE_S))
        self._marks.before = {scope: mark for scope, mark in self._marks.before.items()
                              if abs(mark[1] - now) <= MARK_LIFE_S}
        if self._marks.floor < now - MARK_LIFE_S:
            self._marks.floor = float("-inf")
        connection.execute(
            "DELETE FROM tie WHERE NOT EXISTS (SELECT 1 FROM subject WHERE subject=tie.one)"
            " AND NOT EXISTS (SELECT 1 FROM subject WHERE subject=tie.other)")
        return _Effect(pruned=gone, bytes=_used(connection))

    # Names.

    def _key(self, key: Key) -> bytes:
        return self._safe.digest("key", key.upstream, key.route, key.content)

    def _name(self, upstream: str, subject: str) -> bytes:
        return self._safe.digest("subject", upstream, subject)

    def _scope(self, kind: str, *parts: str | bytes) -> bytes:
        return self._safe.digest("scope", kind, *parts)


def _mask(subjects: Iterable[str]) -> int:
    """The kinds of name among ``subjects`` as bits: ``Patient/`` 1, ``nhs/`` 2, others 4."""
    mask = 0
    for subject in subjects:
        mask |= _KINDS.get(subject.partition("/")[0], _OTHER_KIND)
    return mask


def _examine(keep: Keep) -> Examined | str:
    """Undo the coding on the side, parse, and judge; the bytes that are kept stay as they came."""
    text = _decoded(keep.body, first(keep.headers, "Content-Encoding") or "")
    if text is None:
        return "coding"
    kind = (first(keep.headers, "Content-Type") or "").lower()
    if "xml" in kind:
        return examine_xml(text, keep)
    if "json" not in kind:
        return "wrong_type" if keep.types else Examined(subjects=keep.subjects)
    try:
        tree = orjson.loads(text)
        if b"\\u" in text:
            text = orjson.dumps(tree)
    except (ValueError, TypeError):
        return "not_whole"
    return examine_json(tree, text, keep)


def _decoded(body: bytes, coding: str) -> bytes | None:
    """``body`` without its gzip or deflate coding; None for others, cut ones, and bombs."""
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return body
    windows = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}.get(coding, ())
    for window in windows:
        unpacker = zlib.decompressobj(window)
        try:
            text = unpacker.decompress(body, DECODED_BYTES_MAX)
        except zlib.error:
            continue
        return text if unpacker.eof and not unpacker.unused_data else None
    return None


def _payload(filed: _Filed) -> bytes:
    """What is sealed: 4 bytes of length, a JSON head, the body."""
    keep = filed.keep
    head = orjson.dumps({
        "status": keep.status, "reason": keep.reason, "headers": keep.headers,
        "fetched": keep.fetched, "ceiling_s": keep.ceiling_s, "restricted": filed.restricted,
        "columns": [keep.key.upstream, keep.key.route, filed.mask,
                    [name.hex() for name, _ in filed.names]],
        "sha256": hashlib.sha256(keep.body).hexdigest()})
    return len(head).to_bytes(4, "big") + head + keep.body


def _opened_payload(plain: bytes, columns: list[object]) -> Kept | None:
    """The copy in ``plain``; None where the row's columns are not those that were sealed."""
    length = int.from_bytes(plain[:4], "big")
    body = plain[4 + length:]
    try:
        head = orjson.loads(plain[4:4 + length])
        if head["columns"] != columns or head["sha256"] != hashlib.sha256(body).hexdigest():
            return None
        return Kept(head["status"], head["reason"],
                    tuple((name, value) for name, value in head["headers"]), body,
                    Wall(head["fetched"]), head["ceiling_s"], head["restricted"])
    except (ValueError, KeyError, TypeError):
        return None


def _delete_about(connection: Connection, upstream: str, route: str, people: set[bytes],
                  mask: int) -> int:
    gone = connection.execute("DELETE FROM reply WHERE upstream=? AND route=? AND (mask & ?)=0",
                              (upstream, route, mask)).rowcount
    for name in people:
        gone += connection.execute(
            "DELETE FROM reply WHERE upstream=? AND route=? AND id IN"
            " (SELECT reply FROM subject WHERE subject=?)", (upstream, route, name)).rowcount
    return gone


def _remove_row(number: int, connection: Connection) -> _Effect:
    gone = connection.execute("DELETE FROM reply WHERE id=?", (number,)).rowcount
    return _Effect(dropped=gone, bytes=_used(connection))


def _used(connection: Connection) -> int:
    """Bytes of the file's pages that are in use."""
    pages, = connection.execute("PRAGMA page_count").fetchone()
    free, = connection.execute("PRAGMA freelist_count").fetchone()
    size, = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def _make_room(connection: Connection, bytes_max: int) -> tuple[int, int]:
    """Delete the oldest copies until the file fits; return how many, and bytes in use."""
    evicted = 0
    used = _used(connection)
    while used > bytes_max:
        gone = connection.execute(
            "DELETE FROM reply WHERE id IN (SELECT id FROM reply ORDER BY fetched LIMIT ?)",
            (EVICT_ROWS,)).rowcount
        evicted += gone
        used = _used(connection)
        if not gone:
            break
    return evicted, used
