"""The outbox on real files: numbers without holes, bounds by rank, and gaps that say which."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.core.instant import Mono, Wall
from gateway.core.telemetry import Event, Rank, Row
from gateway.edge.outbox_store import BYTES_MIN, OutboxStore
from gateway.edge.vault import Vault
from tests.kit.clock import SimClock


class Post:
    """An outbox, opened and closed by the fixture."""

    def __init__(self, folder: Path) -> None:
        Vault.init(folder, ())
        self.folder, self.path, self.clock = folder, folder / "outbox.db", SimClock()
        self.news: list[str] = []
        self.store: OutboxStore

    async def open(self, **limits: int) -> OutboxStore:
        vault = Vault.open(self.folder)
        self.store = await OutboxStore.open(self.path, vault.boot, vault.next_box, self.clock,
                                            told=self.news.append, **limits)
        return self.store

    async def edit(self, statement: str) -> None:
        await self.store._database.submit(
            lambda connection: connection.execute(statement).rowcount)

    async def all(self) -> tuple[Row, ...]:
        return await self.store.oldest(1_000_000)


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    post = Post(tmp_path)
    await post.open()
    yield post
    await post.store.close()


def an_event(rank: Rank = "b", note: int = 0, width: int = 0) -> Event:
    return Event(rank, "link", Wall(1_795_000_000.0 + note), Mono(5.0),
                 (("link", "fibre"), ("n", note), ("rtt_ms", 1.5), ("x", None), ("w", "x" * width)))


async def test_a_row_comes_back_as_it_was_written_with_its_number(post: Post) -> None:
    row = await post.store.append(an_event())
    assert row == Row(1, "b", 1, an_event())
    assert await post.all() == (row,)


async def test_numbers_are_dense_within_each_rank(post: Post) -> None:
    ranks: tuple[Rank, ...] = ("a", "b", "b", "c", "a", "b")
    rows = [await post.store.append(an_event(rank)) for rank in ranks]
    assert [(row.rank, row.seq) for row in rows if row] == [
        ("a", 1), ("b", 1), ("b", 2), ("c", 1), ("a", 2), ("b", 3)]
    high = post.store.high
    assert (high.a, high.b, high.c) == (2, 3, 1)


async def test_a_and_b_leave_in_the_order_written_and_c_after_them(post: Post) -> None:
    for note, rank in enumerate(("c", "b", "a", "c", "b")):
        await post.store.append(an_event(cast(Rank, rank), note))
    rows = await post.all()
    assert [row.event.body[1][1] for row in rows] == [1, 2, 4, 0, 3]
    assert await post.store.oldest(4) == rows[:4]
    assert await post.store.oldest(2) == rows[:2]


async def test_rows_wait_until_they_were_sent_and_their_numbers_are_not_used_again(
        post: Post) -> None:
    for note in range(5):
        await post.store.append(an_event(note=note))
    rows = await post.store.oldest(3)
    await post.store.sent(rows)
    await post.store.sent(rows)

    assert [row.seq for row in await post.all()] == [4, 5]
    assert (post.store.figures.rows, post.store.figures.high.b) == (2, 5)
    await post.store.sent(await post.all())
    await post.store.close()
    await post.open()
    row = await post.store.append(an_event())
    assert row is not None
    assert (row.box, row.seq) == (1, 6)


async def test_the_file_keeps_its_box_over_restarts(post: Post) -> None:
    await post.store.append(an_event())
    await post.store.close()
    await post.open()
    assert [row.box for row in await post.all()] == [1]
    assert Vault.open(post.folder).boot == 3


async def test_concurrent_appends_get_each_number_once(post: Post) -> None:
    rows = await asyncio.gather(*(post.store.append(an_event(note=n)) for n in range(300)))
    assert sorted(row.seq for row in rows if row) == list(range(1, 301))


def named(rows: tuple[Row, ...]) -> dict[str, set[int]]:
    """Every number that a gap record among ``rows`` gives up, by rank."""
    gone: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row.event.kind == "gap":
            body = cast(dict[str, Any], dict(row.event.body))
            numbers = set(range(body["first"], body["last"] + 1))
            assert len(numbers) == body["n"]
            gone[body["of"]] |= numbers
    return gone


def every_number_is_stored_or_named(post: Post, rows: tuple[Row, ...]) -> None:
    gone = named(rows)
    high = post.store.high
    for rank, top in (("a", high.a), ("b", high.b), ("c", high.c)):
        stored = [row.seq for row in rows if row.rank == rank]
        assert all(one < other for one, other in pairwise(stored)), "in order"
        assert not gone[rank] & set(stored)
        assert gone[rank] | set(stored) == set(range(1, top + 1)), rank


async def test_when_full_the_oldest_c_go_first_then_the_oldest_b_and_each_is_named(
        post: Post) -> None:
    await post.store.close()
    await post.open(bytes_max=BYTES_MIN)
    for note in range(300):
        await post.store.append(an_event("c", note, 1000))
    a = await post.store.append(an_event("a", width=1000))
    first_c = await post.all()
    assert not named(first_c)["c"]
    for note in range(400):
        await post.store.append(an_event("b", note, 1000))
    rows = await post.all()
    assert named(rows)["c"]
    assert not named(rows)["b"]
    every_number_is_stored_or_named(post, rows)

    await asyncio.gather(*(post.store.append(an_event("b", note, 1000)) for note in range(1500)))
    rows = await post.all()
    assert not [row for row in rows if row.rank == "c"]
    assert a in rows
    assert named(rows)["b"]
    every_number_is_stored_or_named(post, rows)
    figures = post.store.figures
    assert figures.bytes <= BYTES_MIN
    assert figures.dropped == len(named(rows)["b"]) + len(named(rows)["c"])
    assert post.path.stat().st_size < 2 * BYTES_MIN


async def test_rank_a_has_a_reserve_that_the_others_never_touch(post: Post) -> None:
    await post.store.close()
    await post.open(bytes_max=BYTES_MIN)
    await asyncio.gather(*(post.store.append(an_event("b", n, 1000)) for n in range(400)))
    await asyncio.gather(*(post.store.append(an_event("b", n, 1000)) for n in range(400)))
    kept_b = [row for row in await post.all() if row.rank == "b"]
    for note in range(100):
        assert await post.store.append(an_event("a", note, 1000))
    assert [row for row in await post.all() if row.rank == "b"] == kept_b


async def test_when_rank_a_fills_everything_nothing_more_is_numbered(post: Post) -> None:
    await post.store.close()
    await post.open(bytes_max=BYTES_MIN)
    rows = []
    for chunk in range(8):
        rows += await asyncio.gather(
            *(post.store.append(an_event("a", chunk, 2000)) for _ in range(100)))
    refused = rows.count(None)
    assert refused
    assert post.store.figures.refused == refused
    assert await post.store.append(an_event("c")) is not None, "small ones fit in their own part"
    every_number_is_stored_or_named(post, await post.all())


async def test_c_does_not_push_out_b(post: Post) -> None:
    await post.store.close()
    await post.open(bytes_max=BYTES_MIN)
    await asyncio.gather(*(post.store.append(an_event("b", n, 1000)) for n in range(500)))
    await asyncio.gather(*(post.store.append(an_event("b", n, 1000)) for n in range(500)))
    before = [row for row in await post.all() if row.rank == "b"]
    assert await post.store.append(an_event("c", width=60_000)) is None
    assert [row for row in await post.all() if row.rank == "b"] == before


@pytest.mark.parametrize("statement", [
    "UPDATE row SET body = replace(body, 'fibre', 'fibra') WHERE seq = 2",
    "UPDATE row SET kind = X'FF' WHERE seq = 2",
    "UPDATE row SET at = at + 1 WHERE seq = 2",
    "UPDATE row SET mono = 'then' WHERE seq = 2",
])
async def test_a_row_altered_on_disk_becomes_a_gap_and_not_a_false_report(
        post: Post, statement: str) -> None:
    for note in range(3):
        await post.store.append(an_event(note=note))
    await post.edit(statement)

    assert [row.seq for row in await post.all()] == [1, 3]
    rows = await post.all()
    assert named(rows) == {"b": {2}}
    every_number_is_stored_or_named(post, rows)


async def test_a_damaged_outbox_is_set_aside_and_the_new_one_says_so(post: Post) -> None:
    await post.store.append(an_event())
    await post.store.close()
    post.path.write_bytes(b"rot" * 3000)
    await post.open()

    (row,) = await post.all()
    assert (row.box, row.rank, row.seq, row.event.kind) == (2, "a", 1, "gap")
    assert post.news == ["set_aside"]
    assert (post.folder / "outbox.db-damaged-1").read_bytes().startswith(b"rot")


async def test_an_outbox_damaged_under_way_begins_a_box_that_never_was(post: Post) -> None:
    await post.store.append(an_event())
    await post.edit("DROP TABLE number")
    row = await post.store.append(an_event())

    assert row is not None
    assert (row.box, row.seq) == (2, 1), "boot 1 made the first box, so this one cannot be 1"
    gap = (await post.all())[0]
    assert dict(gap.event.body)["lost_box"] == 1
    assert Vault.open(post.folder).boot == 3
