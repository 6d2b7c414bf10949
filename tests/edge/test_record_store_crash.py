"""Kills, rot and full disks, for real: nothing acknowledged is lost, nothing wrong is served."""

import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest

from gateway.core.instant import Wall
from gateway.core.keeping import Drop, Keep
from gateway.edge.clock import SystemClock
from gateway.edge.outbox_store import OutboxStore
from gateway.edge.record_store import RecordStore
from gateway.edge.vault import Vault, records_path
from tests.kit.copies import a_keep, a_key, a_safe, searchset_of
from tests.kit.keeper import ODS, a_copy

FULL = os.environ.get("FULL") == "1"
ROOT = Path(__file__).resolve().parents[2]


async def open_store(folder: Path, news: list[str] | None = None, **limits: int) -> RecordStore:
    told: list[str] = [] if news is None else news
    return await RecordStore.open(records_path(folder, ODS), a_safe(folder), SystemClock("always"),
                                  told=told.append, **limits)


async def settle(store: RecordStore) -> None:
    """Return when all that was queued is committed and counted."""
    told = asyncio.Event()
    for _ in range(1000):
        if store._database.post(lambda connection: None, 0, lambda *result: told.set()):
            break
        await asyncio.sleep(0.01)
    await asyncio.wait_for(told.wait(), 30)


async def put(store: RecordStore, numbers: Iterable[int]) -> None:
    """Keep these copies, waiting where the queue is full."""
    for number in numbers:
        for _ in range(1000):
            if store.keep(copy_of(number)):
                break
            await asyncio.sleep(0.01)
    await settle(store)


class Witness:
    """What killed keepers had said: these copies are committed, these dropped, these events."""

    def __init__(self) -> None:
        self.kept: set[int] = set()
        self.dropped: set[int] = set()
        self.rows: set[tuple[int, int]] = set()
        self.next = 0

    def hear(self, said: bytes) -> int:
        """Take in one keeper's output; return how many copies it had acknowledged."""
        acknowledged = 0
        for line in said.decode().splitlines():
            kind, *figures = line.split()
            if kind == "k":
                acknowledged = int(figures[0])
            elif kind == "d":
                self.dropped.add(int(figures[0]))
            else:
                self.rows.add((int(figures[0]), int(figures[1])))
        self.kept |= set(range(self.next, self.next + acknowledged))
        self.next += 10_000
        return acknowledged


def kill_a_keeper(folder: Path, first: int, after_s: float) -> bytes:
    """Run a keeper, kill -9 it ``after_s`` after its first word, and return what it said."""
    keeper = subprocess.Popen([sys.executable, "-m", "tests.kit.keeper", str(folder), str(first),
                               "400"], stdout=subprocess.PIPE, cwd=ROOT)
    assert keeper.stdout is not None
    said = os.read(keeper.stdout.fileno(), 1 << 20)
    time.sleep(after_s)
    keeper.kill()
    rest, _ = keeper.communicate()
    return said + rest


@pytest.mark.parametrize("seed", [3])
async def test_kill_9_at_random_instants_loses_no_acknowledged_copy_drop_or_event(
        tmp_path: Path, seed: int) -> None:
    """10 kills (50 with FULL=1) in one folder; each time it opens at once and is read back."""
    rng, witness = random.Random(seed), Witness()
    Vault.init(tmp_path, (ODS,))
    acknowledged = 0
    for _ in range(50 if FULL else 10):
        said = await asyncio.to_thread(
            kill_a_keeper, tmp_path, witness.next, rng.uniform(0.05, 0.6))
        acknowledged += witness.hear(said)

        began = time.monotonic()
        store = await open_store(tmp_path)
        assert time.monotonic() - began < 5.0
        await read_back(store, witness)
        await store.close()
        vault = Vault.open(tmp_path)
        outbox = await OutboxStore.open(tmp_path / "outbox.db", vault.boot, vault.next_box,
                                        SystemClock("always"))
        rows = {(row.box, row.seq) for row in await outbox.oldest(1_000_000)}
        await outbox.close()
        assert witness.rows <= rows
        assert sorted(seq for _, seq in rows) == list(range(1, len(rows) + 1))
    assert acknowledged > 50
    assert not list((tmp_path / "records").glob("*damaged*"))


async def read_back(store: RecordStore, witness: Witness) -> None:
    newest = [number for number in witness.kept if number >= witness.next - 20_000]
    for number in newest:
        kept = await store.look_up(a_key(str(number), "slots"))
        if number in witness.dropped:
            assert kept is None, number
        elif kept is None:
            # Dropped in the instant of the kill: done, but not yet said.
            assert (number + 20) % 25 == 0, number
        else:
            assert kept.body == a_copy(number, 0).body, number
    assert store.figures.copies >= len(witness.kept - witness.dropped) - 50
    assert store.figures.set_aside == 0


# Rot.

COPIES = 120


def copy_of(number: int) -> Keep:
    rng = random.Random(number)
    return a_keep(a_key(str(number), "slots"), body=searchset_of(rng.choice(
        (500, 3_000, 40_000)), rng), fetched=1_790_000_000.0, subjects=(f"Patient/{number}",))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a kill leaves it: some copies in the file, the rest in its log."""
    folder = tmp_path_factory.mktemp("sound")
    live = tmp_path_factory.mktemp("live")

    async def fill() -> None:
        store = await open_store(live)
        await put(store, range(COPIES))
        shutil.copytree(live, folder, dirs_exist_ok=True)
        await store.close()
    asyncio.run(fill())
    assert (folder / "records" / f"{ODS}.db-wal").stat().st_size > 0
    return folder


def spoil(path: Path, rng: random.Random, how: str) -> None:
    size = path.stat().st_size
    if how == "cut":
        os.truncate(path, rng.randrange(size))
        return
    with path.open("r+b") as file:
        for _ in range(rng.choice((1, 8, 64))):
            place = rng.randrange(size)
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << rng.randrange(8)]))


@pytest.mark.parametrize("seed", range(25 if FULL else 6))
@pytest.mark.parametrize("which", ["", "-wal"])
@pytest.mark.parametrize("how", ["cut", "flipped"])
async def test_a_spoilt_file_serves_exact_bytes_or_nothing_and_goes_on(
        tmp_path: Path, sound: Path, which: str, how: str, seed: int) -> None:
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    spoil(tmp_path / "records" / f"{ODS}.db{which}", random.Random(f"{seed}{which}{how}"), how)
    news: list[str] = []
    store = await open_store(tmp_path, news)

    served = 0
    for number in range(COPIES):
        kept = await store.look_up(a_key(str(number), "slots"))
        if kept is not None:
            assert kept.body == copy_of(number).body
            served += 1
    fresh = a_keep(a_key("fresh", "slots"), fetched=1_790_000_001.0)
    for _ in range(2):  # the first may be what finds the damage
        if store.keep(fresh):
            await settle(store)
    await store.drop(Drop("gpc", Wall(1_790_000_000.0), routes=("slots",)))
    for number in range(COPIES):
        assert await store.look_up(a_key(str(number), "slots")) is None
    assert store.keep(a_keep(a_key("later", "slots"), fetched=1_790_000_002.0))
    await settle(store)
    assert await store.look_up(a_key("later", "slots")) is not None
    await store.close()
    aside = list((tmp_path / "records").glob(f"{ODS}.db-damaged-[0-9]"))
    assert len(aside) == news.count("set_aside"), news
    if not aside and which == "":
        assert served or how == "cut"


async def test_a_file_of_another_program_is_set_aside_and_not_touched(tmp_path: Path) -> None:
    path = records_path(tmp_path, ODS)
    a_safe(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"%PDF-1.7 somebody's letter" * 300)
    news: list[str] = []
    store = await open_store(tmp_path, news)
    assert news == ["set_aside"]
    assert path.with_name(path.name + "-damaged-1").read_bytes().startswith(b"%PDF")
    assert store.keep(copy_of(1))
    await store.close()


# A full disk.

@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 6 MiB."""
    if os.geteuid() != 0:
        pytest.skip("NEEDS ROOT: no small disk can be mounted, so a full one is not tested")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)],
                             capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("NEEDS MOUNT: no small disk can be mounted, so a full one is not tested")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill_up(disk: Path) -> Path:
    """Take every free byte of ``disk``."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"\0" * size):
                    continue
            except OSError:
                continue
    return ballast


@pytest.fixture
async def on_small_disk(small_disk: Path) -> AsyncIterator[tuple[RecordStore, Path, list[str]]]:
    news: list[str] = []
    store = await open_store(small_disk, news)
    yield store, small_disk, news
    await store.close()


async def test_on_a_full_disk_keeps_fail_quietly_and_copies_are_still_served(
        on_small_disk: tuple[RecordStore, Path, list[str]]) -> None:
    store, disk, news = on_small_disk
    await put(store, range(10))
    ballast = fill_up(disk)
    await put(store, range(10, 200))

    assert store.figures.state == "full"
    assert dict(store.figures.refused)["full"] > 0
    assert news == ["full"]
    for number in range(10):
        kept = await store.look_up(a_key(str(number), "slots"))
        assert kept is not None
        assert kept.body == copy_of(number).body

    ballast.unlink()
    assert store.keep(copy_of(500))
    await settle(store)
    assert await store.look_up(a_key("500", "slots")) is not None
    assert (store.figures.state, news) == ("ok", ["full", "room"])


def test_a_full_disk_keeps_no_start_from_being_counted(small_disk: Path) -> None:
    Vault.init(small_disk, (ODS,))
    assert Vault.open(small_disk).boot == 1
    fill_up(small_disk)
    assert Vault.open(small_disk).boot == 2
    assert Vault.open(small_disk).boot == 3
    assert [path.name for path in (small_disk / "keys").glob("boot*")] == ["boot"]


async def test_a_drop_on_a_full_disk_holds_over_a_restart_and_costs_no_other_copy(
        on_small_disk: tuple[RecordStore, Path, list[str]]) -> None:
    store, disk, _ = on_small_disk
    await put(store, range(10))
    fill_up(disk)
    await store.drop(Drop("gpc", Wall(1_790_000_001.0), key=a_key("3", "slots")))
    assert await store.look_up(a_key("3", "slots")) is None
    assert store.figures.copies == 9
    assert store.keep(copy_of(20))
    await settle(store)
    assert await store.look_up(a_key("20", "slots")) is None, "the reserve is for drops alone"

    await store.close()
    again = await open_store(disk)
    held = [number for number in range(10)
            if await again.look_up(a_key(str(number), "slots")) is not None]
    assert held == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    await again.close()


async def test_a_drop_that_fails_with_its_asker_gone_leaves_nothing_to_serve(
        small_disk: Path) -> None:
    store = await open_store(small_disk)
    await put(store, range(10))
    await store.close()
    records_path(small_disk, ODS).with_name(f"{ODS}.db-reserve").unlink()
    fill_up(small_disk)
    store = await open_store(small_disk)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(store.drop(
            Drop("gpc", Wall(1_790_000_001.0), key=a_key("3", "slots"))))
        await asyncio.sleep(0)
        task.cancel()
    await settle(store)
    assert await store.look_up(a_key("3", "slots")) is None
    await store.close()
    again = await open_store(small_disk)
    assert await again.look_up(a_key("3", "slots")) is None
    await again.close()


async def test_a_start_on_a_full_disk_serves_what_is_held(small_disk: Path) -> None:
    store = await open_store(small_disk)
    await put(store, range(10))
    await store.close()
    fill_up(small_disk)
    store = await open_store(small_disk)
    kept = await store.look_up(a_key("3", "slots"))
    assert kept is not None
    assert kept.body == copy_of(3).body
    await store.close()


async def test_a_drop_that_cannot_be_written_at_all_costs_the_whole_copy_and_not_its_truth(
        small_disk: Path) -> None:
    """Its reserve was taken too: no log can be made, so nothing can be written."""
    store = await open_store(small_disk)
    await put(store, range(10))
    await store.close()
    records_path(small_disk, ODS).with_name(f"{ODS}.db-reserve").unlink()
    fill_up(small_disk)
    store = await open_store(small_disk)
    early = copy_of(3)
    await store.drop(Drop("gpc", Wall(early.fetched + 1), key=early.key))

    assert await store.look_up(early.key) is None
    assert store.keep(early)
    await settle(store)
    assert await store.look_up(early.key) is None, "a mark stands though none could be written"
    await store.close()
    again = await open_store(small_disk)
    assert await again.look_up(early.key) is None
    await again.close()
