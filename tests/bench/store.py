"""What the sealed store costs: ``python -m tests.bench.store [COPIES] [FOLDER]``.

Beside it, in the same run, plain SQLite on the same bodies in one thread, without queue, sealing
or index of people: the ratio is what our promises cost. Prints one line per figure.
"""

import asyncio
import hashlib
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

from gateway.core.instant import Wall
from gateway.core.keeping import Drop
from gateway.edge.clock import SystemClock
from gateway.edge.record_store import RecordStore
from tests.kit.copies import a_keep, a_key, a_safe, searchset_of

SIZES: Final = (2_000, 30_000, 435_000)
LOOKS: Final = 400


def percentiles(seconds: list[float]) -> str:
    """Median and 99th percentile in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1e3:7.3f} ms   p99 {cuts[98] * 1e3:7.3f} ms"


def pss_mb() -> float:
    """Proportional set size of this process."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines()
                if line.startswith("Pss:")) / 1024


async def timed(action: Awaitable[object]) -> float:
    """Seconds that ``action`` took, begun here."""
    began = time.perf_counter()
    await action
    return time.perf_counter() - began


def plain(folder: Path) -> sqlite3.Connection:
    """SQLite as anybody would use it."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL").fetchone()
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE reply (key BLOB PRIMARY KEY, body BLOB)")
    return connection


async def wait_until_kept(store: RecordStore, kept: int) -> None:
    """Poll until ``kept`` copies are committed."""
    while store.figures.kept < kept:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def look_ups(store: RecordStore, other: sqlite3.Connection, rng: random.Random) -> None:
    """Latency of one look-up at a time, by size, beside a plain SELECT."""
    for size in SIZES:
        bodies = [searchset_of(size, rng) for _ in range(20)]
        already = store.figures.kept
        for number, body in enumerate(bodies):
            name = f"{size}-{number}"
            await wait_until_kept(store, already + number)
            store.keep(a_keep(a_key(name, "slots"), body=body, fetched=time.time()))
            other.execute("INSERT INTO reply VALUES (?, ?)", (name.encode(), body))
        await wait_until_kept(store, already + 20)
        ours, theirs = [], []
        for turn in range(LOOKS):
            name = f"{size}-{turn % 20}"
            key = a_key(name, "slots")
            ours.append(await timed(store.look_up(key)))
            began = time.perf_counter()
            (body,) = other.execute("SELECT body FROM reply WHERE key=?",
                                    (name.encode(),)).fetchone()
            hashlib.sha256(body).digest()
            theirs.append(time.perf_counter() - began)
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"look_up {size:7} B   ours {percentiles(ours)}   plain {percentiles(theirs)}   "
              f"ratio {ratio:.1f}")


async def keeps(store: RecordStore, other: sqlite3.Connection, copies: int,
                rng: random.Random) -> None:
    """Throughput of keeps, time that ``keep`` takes on the loop, and memory with all held."""
    bodies = [searchset_of(rng.choice((2_000, 2_000, 30_000)), rng) for _ in range(200)]
    already, on_loop = store.figures.kept, []
    began, before = time.perf_counter(), pss_mb()
    for number in range(copies):
        keep = a_keep(a_key(f"many-{number}", "slots"), body=bodies[number % 200],
                      fetched=time.time(), subjects=(f"Patient/{number % 500}",))
        while True:
            start = time.perf_counter()
            queued = store.keep(keep)
            on_loop.append(time.perf_counter() - start)
            if queued:
                break
            await asyncio.sleep(0.001)
    await wait_until_kept(store, already + copies)
    took = time.perf_counter() - began
    began = time.perf_counter()
    for number in range(copies):
        other.execute("INSERT INTO reply VALUES (?, ?)",
                      (f"many-{number}".encode(), bodies[number % 200]))
    plainly = time.perf_counter() - began
    print(f"keeps   {copies} in {took:.2f} s: {copies / took:.0f}/s   plain "
          f"{copies / plainly:.0f}/s   ratio {took / plainly:.1f}")
    print(f"keep() on the loop   {percentiles(on_loop)}")
    print(f"PSS before {before:.0f} MB, with {store.figures.copies} copies {pss_mb():.0f} MB; "
          f"file {store.figures.bytes / 1e6:.1f} MB")


async def drops(store: RecordStore) -> None:
    """Latency of drops: by key, and about one person on one route."""
    by_key, about = [], []
    for number in range(200):
        now = Wall(time.time())
        by_key.append(await timed(store.drop(
            Drop("gpc", now, key=a_key(f"many-{number}", "slots")))))
        about.append(await timed(store.drop(
            Drop("gpc", now, routes=("slots",), subjects=(f"Patient/{number}",)))))
    print(f"drop by key          {percentiles(by_key)}")
    print(f"drop about a person  {percentiles(about)}")


async def main(copies: int, folder: Path) -> None:
    """Run all of it in ``folder``."""
    rng = random.Random(1)
    path, clock = folder / "records" / "B81001.db", SystemClock("always")
    store = await RecordStore.open(path, a_safe(folder), clock)
    other = plain(folder)
    await look_ups(store, other, rng)
    await keeps(store, other, copies, rng)
    await look_ups_at_once(store)
    await drops(store)
    await store.close()
    began = time.perf_counter()
    store = await RecordStore.open(path, a_safe(folder), clock)
    print(f"open with {store.figures.copies} copies: {(time.perf_counter() - began) * 1e3:.1f} ms")
    await store.close()


async def look_ups_at_once(store: RecordStore) -> None:
    """100 a second while 50 keeps a second are written."""
    took: list[float] = []

    async def one(number: int) -> None:
        took.append(await timed(store.look_up(a_key(f"many-{number}", "slots"))))
    body = searchset_of(30_000, random.Random(2))
    async with asyncio.TaskGroup() as tasks:
        for number in range(300):
            tasks.create_task(one(number))
            if number % 2:
                store.keep(a_keep(a_key(f"busy-{number}", "slots"), body=body,
                                  fetched=time.time()))
            await asyncio.sleep(0.01)
    print(f"look_up under load   {percentiles(took)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000,
                         Path(sys.argv[2] if len(sys.argv) > 2 else made)))
