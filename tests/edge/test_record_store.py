"""The record store on real files: what is kept comes back exactly, and what is dropped never."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.instant import Wall
from gateway.core.keeping import Drop, Keep, Kept
from gateway.edge.record_store import EVICT_ROWS, MARKS_MAX, RecordStore
from gateway.edge.vault import Vault
from tests.kit.clock import SimClock
from tests.kit.copies import JSON, NAME, NHS_NUMBER, a_keep, a_key, a_safe, bundle, patient

NOW = 1_795_000_000.0


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until it is so: ten seconds at most."""
    for _ in range(10_000):
        if is_so():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to be")



class Shelf:
    """A store, its clock and its file, opened and closed by the fixture."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "records" / "B81001.db"
        self.clock = SimClock(wall=NOW)
        self.news: list[str] = []
        self.store: RecordStore

    async def open(self, **limits: int) -> RecordStore:
        self.store = await RecordStore.open(
            self.path, a_safe(self.folder), self.clock, told=self.news.append, **limits)
        return self.store

    async def settle(self) -> None:
        """Return when all that was queued is committed and counted."""
        await until(lambda: not self.store.figures.waiting)
        # Behind the last plain job, so that its commit is over; its result is told before ours.
        done: list[object] = []
        self.store._database.post(lambda connection: None, 0, lambda *told: done.append(told))
        await until(lambda: bool(done))

    async def keep(self, keep: Keep) -> bool:
        before = self.store.figures.kept
        assert self.store.keep(keep)
        await self.settle()
        return self.store.figures.kept > before

    def refused(self) -> dict[str, int]:
        return dict(self.store.figures.refused)

    def rows(self) -> set[bytes]:
        return {path.read_bytes() for path in self.path.parent.glob("B81001.db*")}


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(tmp_path)
    await shelf.open()
    yield shelf
    await shelf.store.close()


async def test_a_copy_comes_back_byte_for_byte_with_its_headers_and_time(shelf: Shelf) -> None:
    body = b'{ "resourceType":"Patient",\n "id": "2", "birthDate": "1970-01-01T00:00:00Z" }\n'
    headers = (*JSON, ("X-Twice", "a"), ("x-twice", "b"), ("ETag", 'W/"1"'))
    keep = a_keep(body=body, fetched=NOW - 5, headers=headers, ceiling_s=900.0)
    assert await shelf.keep(keep)

    assert await shelf.store.look_up(keep.key) == Kept(
        200, "OK", headers, body, Wall(NOW - 5), 900.0, restricted=False)
    assert await shelf.store.look_up(a_key("another")) is None


async def test_copies_survive_a_restart(shelf: Shelf) -> None:
    await shelf.keep(a_keep(fetched=NOW))
    bytes_before = shelf.store.figures.bytes
    await shelf.store.close()
    await shelf.open()

    assert await shelf.store.look_up(a_key()) is not None
    assert (shelf.store.figures.copies, shelf.store.figures.bytes) == (1, bytes_before)


async def test_a_later_copy_replaces_an_earlier_one_and_never_the_other_way(shelf: Shelf) -> None:
    await shelf.keep(a_keep(fetched=NOW - 10))
    await shelf.keep(a_keep(tree=patient(active=True), fetched=NOW))
    assert not await shelf.keep(a_keep(tree=patient(active=False), fetched=NOW - 1))

    kept = await shelf.store.look_up(a_key())
    assert kept is not None
    assert orjson.loads(kept.body)["active"] is True
    assert shelf.store.figures.copies == 1
    assert shelf.refused() == {"older": 1}


@pytest.mark.parametrize(("keep", "reason"), [
    (a_keep(body=b'{"resourceType":"Patient"', fetched=NOW), "not_whole"),
    (a_keep(body=b"", fetched=NOW), "not_whole"),
    (a_keep(body=b'{"resourceType":"Patient"}{}', fetched=NOW), "not_whole"),
    (a_keep(body=b"<html>Sign in to GuestWiFi</html>", fetched=NOW,
            headers=(("Content-Type", "text/html"),)), "wrong_type"),
    (a_keep(tree={"resourceType": "OperationOutcome"}, fetched=NOW), "wrong_type"),
    (a_keep(tree=[], fetched=NOW), "wrong_type"),
    (a_keep(tree=patient(meta={"security": [{"code": "R"}]}), fetched=NOW), "sensitive"),
    (a_keep(tree=bundle(patient(), patient(meta={"security": [
        {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]})),
        fetched=NOW), "sensitive"),
    (a_keep(fetched=NOW, headers=(*JSON, ("Content-Encoding", "br"))), "coding"),
    (a_keep(fetched=NOW, headers=(*JSON, ("Content-Encoding", "gzip"))), "coding"),
    (a_keep(body=gzip.compress(b"0" * (17 << 20)), fetched=NOW,
            headers=(*JSON, ("Content-Encoding", "gzip"))), "coding"),
    (a_keep(body=gzip.compress(orjson.dumps(patient()))[:-3], fetched=NOW,
            headers=(*JSON, ("Content-Encoding", "gzip"))), "coding"),
])
async def test_what_may_not_be_kept_is_refused_and_counted(
        shelf: Shelf, keep: Keep, reason: str) -> None:
    assert not await shelf.keep(keep)
    assert shelf.refused() == {reason: 1}
    assert await shelf.store.look_up(keep.key) is None


@pytest.mark.parametrize(("coding", "pack"), [
    ("gzip", gzip.compress), ("deflate", zlib.compress),
    ("deflate", lambda body: zlib.compress(body, wbits=-15))])
async def test_a_coded_body_is_judged_decoded_and_kept_as_it_came(
        shelf: Shelf, coding: str, pack: Callable[[bytes], bytes]) -> None:
    body = pack(orjson.dumps(patient()))
    keep = a_keep(body=body, fetched=NOW, headers=(*JSON, ("Content-Encoding", coding)))
    assert await shelf.keep(keep)

    kept = await shelf.store.look_up(keep.key)
    assert kept is not None
    assert kept.body == body
    await shelf.store.drop(Drop("gpc", Wall(NOW), subjects=("nhs/" + NHS_NUMBER,)))
    assert await shelf.store.look_up(keep.key) is None


@pytest.mark.parametrize("mark", ["confidential-items", "data-in-transit",
                                  "data-awaiting-filing", "confidential\\u002ditems"])
async def test_a_list_with_something_left_out_stays_restricted(shelf: Shelf, mark: str) -> None:
    body = (b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"List","extension":'
            b'[{"url":"https://fhir.hl7.org.uk/' + mark.encode() + b'"}]}}]}')
    await shelf.keep(a_keep(body=body, fetched=NOW))

    kept = await shelf.store.look_up(a_key())
    assert kept is not None
    assert kept.restricted


async def test_an_xml_copy_is_kept_whole_and_of_its_type_only(shelf: Shelf) -> None:
    xml = (("Content-Type", "application/fhir+xml;charset=utf-8"),)
    whole = b'<?xml version="1.0"?>\n<Bundle xmlns="http://hl7.org/fhir"><id value="1"/></Bundle>'
    assert await shelf.keep(a_keep(body=whole, fetched=NOW, headers=xml))
    assert not await shelf.keep(a_keep(body=whole[:-3], fetched=NOW + 1e-3, headers=xml))
    assert not await shelf.keep(a_keep(body=whole, fetched=NOW, headers=xml, types=("Slot",)))
    assert not await shelf.keep(a_keep(body=whole, fetched=NOW, headers=xml, identity=True))

    assert shelf.refused() == {"not_whole": 1, "wrong_type": 1, "sensitive": 1}


# Forgetting.

async def held(shelf: Shelf, *names: str) -> set[str]:
    """Which of these keys (``route name``) are still there."""
    found = set()
    for name in names:
        route, logical = name.split()
        if await shelf.store.look_up(a_key(logical, route)) is not None:
            found.add(name)
    return found


async def put(shelf: Shelf, *rows: tuple[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Keep one copy for each ``(route name, subjects)``; return the names."""
    for name, subjects in rows:
        route, logical = name.split()
        assert await shelf.keep(a_keep(a_key(logical, route), {"resourceType": "Bundle"},
                                       fetched=NOW, subjects=subjects))
    return tuple(name for name, _ in rows)


PEOPLE = (
    ("slots a", ()),
    ("appointments 2", ("Patient/2",)),
    ("appointments 3", ("Patient/3",)),
    ("appointments clinic", ()),
    ("record n", ("nhs/9990000018",)),
    ("record m", ("nhs/9990000026",)),
)


@pytest.mark.parametrize(("drop", "gone"), [
    ({"key": a_key("2", "appointments")}, {"appointments 2"}),
    ({"routes": ("slots",)}, {"slots a"}),
    ({"routes": ("slots", "appointments")},
     {"slots a", "appointments 2", "appointments 3", "appointments clinic"}),
    ({"routes": ("appointments",), "subjects": ("Patient/2",)},
     {"appointments 2", "appointments clinic"}),
    ({"routes": ("record",), "subjects": ("Patient/2",)}, {"record n", "record m"}),
    ({"subjects": ("Patient/2",)}, {"appointments 2"}),
    ({"subjects": ("nhs/9990000018",)}, {"record n"}),
    ({}, {name for name, _ in PEOPLE}),
])
async def test_a_drop_forgets_what_it_names_and_nothing_else(
        shelf: Shelf, drop: dict[str, Any], gone: set[str]) -> None:
    """With routes and subjects, copies that cannot be compared go too: they may speak of them."""
    names = await put(shelf, *PEOPLE)
    await shelf.store.drop(Drop("another", Wall(NOW), **drop))
    if "key" not in drop:
        assert await held(shelf, *names) == set(names), "another upstream's"

    await shelf.store.drop(Drop("gpc", Wall(NOW), **drop))
    assert set(names) - await held(shelf, *names) == gone
    assert shelf.store.figures.copies == len(names) - len(gone)


async def test_a_drop_reaches_whoever_an_identity_copy_ties_together(shelf: Shelf) -> None:
    names = await put(shelf, *PEOPLE)
    await shelf.keep(a_keep(a_key("who", "find"), bundle(patient("2", "999 000 0018")),
                            fetched=NOW, identity=True))

    await shelf.store.drop(Drop("gpc", Wall(NOW), routes=("record",), subjects=("Patient/2",)))
    assert set(names) - await held(shelf, *names) == {"record n"}, "not the other patient's"
    await shelf.store.drop(Drop("gpc", Wall(NOW), subjects=("nhs/9990000018",)))
    assert set(names) - await held(shelf, *names) == {"record n", "appointments 2"}
    assert not await held(shelf, "find who")


async def test_a_tie_outlives_the_copy_that_taught_it(shelf: Shelf) -> None:
    await shelf.keep(a_keep(a_key("who", "find"), fetched=NOW, identity=True))
    names = await put(shelf, *PEOPLE)
    await shelf.store.drop(Drop("gpc", Wall(NOW), key=a_key("who", "find")))

    await shelf.store.drop(Drop("gpc", Wall(NOW), subjects=("Patient/2",)))
    assert set(names) - await held(shelf, *names) == {"appointments 2", "record n"}


async def test_two_patients_in_one_answer_are_not_tied_together(shelf: Shelf) -> None:
    names = await put(shelf, *PEOPLE)
    await shelf.keep(a_keep(a_key("both", "find"), bundle(
        patient("2", "9990000018"), patient("3", "9990000026")), fetched=NOW, identity=True))

    await shelf.store.drop(Drop("gpc", Wall(NOW), subjects=("Patient/2",)))
    assert set(names) - await held(shelf, *names) == {"appointments 2"}
    assert not await held(shelf, "find both")


@pytest.mark.parametrize("drop", [
    {"key": a_key("2", "find")}, {"routes": ("find",)}, {"subjects": ("Patient/2",)}, {},
    {"routes": ("find",), "subjects": ("nhs/" + NHS_NUMBER,)},
    {"routes": ("find",), "subjects": ("other/1",)}])
async def test_a_fetch_that_began_before_a_drop_is_never_kept_however_late_it_comes(
        shelf: Shelf, drop: dict[str, Any]) -> None:
    await shelf.store.drop(Drop("gpc", Wall(NOW), **drop))
    early = a_keep(a_key("2", "find"), fetched=NOW - 0.001)
    assert not await shelf.keep(early)
    await shelf.store.close()
    await shelf.open()
    assert not await shelf.keep(early), "the mark outlives a restart"

    assert await shelf.keep(a_keep(a_key("3", "other"), patient("3", "9990000026"), fetched=NOW))
    assert await shelf.keep(a_keep(a_key("2", "find"), fetched=NOW))


async def test_a_keep_that_waits_in_the_queue_is_refused_by_a_drop_that_overtakes_it(
        shelf: Shelf) -> None:
    """Drops go first; the keeps that they overtook began earlier."""
    for number in range(50):
        assert shelf.store.keep(a_keep(a_key(str(number), "find"), fetched=NOW - 0.01))
    await shelf.store.drop(Drop("gpc", Wall(NOW), routes=("find",)))
    await shelf.settle()

    assert shelf.store.figures.copies == 0
    assert await held(shelf, *(f"find {number}" for number in range(50))) == set()


async def test_a_drop_whose_asker_went_away_is_done_and_counted_all_the_same(
        shelf: Shelf) -> None:
    """A client may hang up while its write is answered; what it voids is void."""
    await put(shelf, *PEOPLE)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(shelf.store.drop(Drop("gpc", Wall(NOW), routes=("slots",))))
        await asyncio.sleep(0)
        task.cancel()
    await shelf.settle()

    assert task.cancelled()
    assert await held(shelf, "slots a") == set()
    assert (shelf.store.figures.copies, shelf.store.figures.dropped) == (len(PEOPLE) - 1, 1)


async def test_another_patients_fetch_under_way_is_kept_all_the_same(shelf: Shelf) -> None:
    await shelf.store.drop(Drop("gpc", Wall(NOW), subjects=("Patient/2",)))
    await shelf.store.drop(Drop("gpc", Wall(NOW), routes=("find",), subjects=("Patient/2",)))
    assert await shelf.keep(a_keep(a_key("3", "find"), patient("3", "9990000026"),
                                   fetched=NOW - 1))


async def test_so_many_marks_become_one_that_covers_all(shelf: Shelf) -> None:
    routes = tuple(f"route-{number}" for number in range(MARKS_MAX + 1))
    await shelf.store.drop(Drop("gpc", Wall(NOW), routes=routes))
    assert not await shelf.keep(a_keep(a_key("2", "route-7"), fetched=NOW - 1))
    assert not await shelf.keep(a_keep(a_key("2", "elsewhere"), fetched=NOW - 1))
    assert len(shelf.store._marks.before) == 0
    assert await shelf.keep(a_keep(a_key("2", "route-7"), fetched=NOW))


# Clocks.

async def test_a_copy_dated_in_the_future_is_not_kept(shelf: Shelf) -> None:
    assert not shelf.store.keep(a_keep(fetched=NOW + 1))
    assert shelf.refused() == {"clock": 1}


@pytest.mark.parametrize("step", [-30.0, 30.0, -3600.0])
async def test_after_the_wall_clock_was_set_nothing_is_kept_until_old_fetches_are_over(
        shelf: Shelf, step: float) -> None:
    """A fetch that began before a write could otherwise look as if it began after it."""
    began = shelf.clock.wall()
    shelf.clock.step_wall(step)
    await shelf.store.drop(Drop("gpc", shelf.clock.wall(), routes=("patient-read",)))
    await shelf.clock.advance(60)
    assert not shelf.store.keep(a_keep(fetched=began))
    await shelf.clock.advance(61)
    assert await shelf.keep(a_keep(fetched=shelf.clock.wall()))


async def test_pruning_forgets_what_passed_its_ceiling(shelf: Shelf) -> None:
    await shelf.keep(a_keep(a_key("1"), fetched=NOW - 100, ceiling_s=100.0))
    await shelf.keep(a_keep(a_key("2"), fetched=NOW - 100, ceiling_s=101.0))
    await shelf.store.prune(Wall(NOW))

    assert await shelf.store.look_up(a_key("1")) is None
    assert await shelf.store.look_up(a_key("2")) is not None
    assert (shelf.store.figures.pruned, shelf.store.figures.copies) == (1, 1)


async def test_marks_are_forgotten_an_hour_after_they_were_made(shelf: Shelf) -> None:
    await shelf.store.drop(Drop("gpc", Wall(NOW), routes=("find",)))
    await shelf.store.prune(Wall(NOW + 3599))
    assert len(shelf.store._marks.before) == 1
    await shelf.store.prune(Wall(NOW + 3601))
    assert len(shelf.store._marks.before) == 0


# Bounds.

async def test_the_oldest_copies_go_so_that_the_file_stays_within_its_budget(shelf: Shelf) -> None:
    """Bodies that do not squeeze: 100 of 30 kB into 1 MiB."""
    await shelf.store.close()
    await shelf.open(bytes_max=1 << 20)
    safe = a_safe(shelf.folder)
    for number in range(100):
        noise = b"".join(safe.digest(str(number), str(part)) for part in range(470)).hex()
        await shelf.keep(a_keep(a_key(str(number)), patient(text=noise),
                                fetched=NOW - 500 + number))
    figures = shelf.store.figures

    assert figures.evicted >= 100 - 64
    assert figures.evicted % EVICT_ROWS == 0
    assert figures.copies == 100 - figures.evicted
    assert await held(shelf, "patient-read 99", "patient-read 0") == {"patient-read 99"}
    assert shelf.path.stat().st_size <= (1 << 20) + (128 << 10)


async def test_a_full_queue_says_no_by_items_and_by_bytes(shelf: Shelf) -> None:
    await shelf.store.close()
    await shelf.open(queue_max=10, queue_bytes_max=1 << 20)
    took = [shelf.store.keep(a_keep(a_key(str(number)), fetched=NOW)) for number in range(200)]
    assert not all(took)
    await shelf.settle()
    assert shelf.refused()["busy"] == took.count(False)
    assert shelf.store.figures.kept == took.count(True)
    big = a_keep(body=b'{"resourceType":"Patient","a":"' + b"x" * (1 << 20) + b'"}', fetched=NOW)
    assert not shelf.store.keep(big)


# What stands on the disk.

async def test_nothing_about_a_patient_is_in_clear_on_disk(shelf: Shelf) -> None:
    await shelf.keep(a_keep(a_key(NHS_NUMBER, "find"), fetched=NOW, identity=True,
                            subjects=("nhs/" + NHS_NUMBER, "Patient/marked-id")))
    await shelf.store.drop(Drop("gpc", Wall(NOW), subjects=("nhs/9990000026",)))
    for place in (shelf.rows(), {path.name.encode() for path in shelf.folder.rglob("*")}):
        for content in place:
            for mark in (NHS_NUMBER, NAME, "marked-id"):
                assert mark.encode() not in content
    await shelf.store.close()
    assert not any(mark.encode() in content for mark in (NAME, NHS_NUMBER)
                   for content in shelf.rows())


async def test_the_store_of_one_tenant_opens_nothing_with_anothers_keys(shelf: Shelf) -> None:
    await shelf.keep(a_keep(fetched=NOW))
    await shelf.store.close()
    Vault.init(shelf.folder, ("B81002",))
    other = await RecordStore.open(shelf.path, Vault.open(shelf.folder).safe("B81002"),
                                   shelf.clock)
    assert await other.look_up(a_key()) is None
    await other.close()


async def edit(shelf: Shelf, statement: str, *values: object) -> None:
    """Change the file behind the store's back, as rot or a hand would."""
    await shelf.store._database.submit(
        lambda connection: connection.execute(statement, values).rowcount)


@pytest.mark.parametrize("statement", [
    "UPDATE reply SET body = (SELECT body FROM reply AS other WHERE other.id<>reply.id)",
    "UPDATE reply SET route = 'slots'",
    "UPDATE reply SET upstream = X'FFFE'",
    "UPDATE reply SET mask = 0",
    "UPDATE reply SET body = 7",
    "UPDATE reply SET body = X'00'",
    "DELETE FROM subject WHERE 1",
    "UPDATE OR IGNORE subject SET reply = 2 WHERE reply = 1",
])
async def test_a_row_that_is_not_what_was_sealed_is_not_served_and_goes(
        shelf: Shelf, statement: str) -> None:
    """Bodies swapped, or filed where a drop would miss them: None, and the row is removed."""
    for name in ("1", "2"):
        await shelf.keep(a_keep(a_key(name), fetched=NOW, subjects=("Patient/" + name,)))
    await edit(shelf, statement)

    assert await shelf.store.look_up(a_key("1")) is None
    await shelf.settle()
    assert shelf.store.figures.unreadable == 1
    assert shelf.store.figures.copies == 1
    assert shelf.news == []
