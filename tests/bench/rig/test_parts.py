"""The load, the origin and the records of the failover bench, against each other on loopback."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.bench.rig.load import Load, Stream, judged, request, write_id
from tests.bench.rig.origin import Ledger, Origin, bundle
from tests.bench.rig.records import Record, read, write
from tests.bench.rig.watch import Watch
from tests.bench.rig.wire import Answer, dechunked

BODY = b'{"resourceType":"Appointment","write":"w_1","comment":"' + b"x" * 500 + b'"}'
WRITE = b"POST /Appointment HTTP/1.1\r\nHost: o\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
CUT = len(WRITE) - len(BODY) + 300


async def origin(ledger: Ledger) -> tuple[asyncio.Server, int]:
    server = await asyncio.get_running_loop().create_server(
        lambda: Origin(ledger), "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def loaded(streams: list[Stream], seconds: float) -> list[Record]:
    load, told = Load(streams), asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, told.set)
    await load.run(told)
    return load.records


async def test_every_request_of_an_open_loop_is_answered_and_recorded(tmp_path: Path) -> None:
    ledger = Ledger(0.02)
    server, port = await origin(ledger)
    async with server:
        streams = [Stream("small", port, ""), Stream("large", port, "", "read"),
                   Stream("book", port, "", "write", 50.0)]
        records = await loaded(streams, 0.6)
    kinds = {(one.stream, one.kind) for one in records}
    assert kinds == {("small", "live"), ("large", "live"), ("book", "live")}
    assert min(one.took_s for one in records) >= 0.019
    assert len(ledger.writes) == sum(one.stream == "book" for one in records)
    assert not [count for count in ledger.writes.values() if count > 1]
    write(tmp_path / "r.tsv", records)
    assert read(tmp_path / "r.tsv") == sorted(records, key=lambda one: one.due)


async def test_the_latency_counts_from_the_schedule_and_a_lost_answer_fails() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        records = await loaded([Stream("gone", server.sockets[0].getsockname()[1], "")], 0.2)
    assert records
    assert {one.kind for one in records} == {"failed"}


def test_only_the_very_bytes_that_were_asked_for_are_live() -> None:
    stream = Stream("ours", 1, "")
    right = bundle(2000, b"ours_7")
    assert b"s2000-ours_7" in request(stream, 7)
    assert judged(stream, 7, Answer(200, {}, right)) == ("live", "")
    for wrong in (Answer(200, {}, bundle(2000, b"ours_8")), Answer(200, {}, right[:-1]),
                  Answer(500, {}, right)):
        assert judged(stream, 7, wrong)[0] == "failed"
    assert judged(stream, 7, Answer(503, {}, b""))[0] == "failed"
    assert judged(stream, 7, Answer(503, {b"continuity": b"class=unknown"}, b""))[0] == "refused"


def test_an_unknown_outcome_is_told_from_a_failure() -> None:
    stream = Stream("w", 1, "", "write")
    said = {b"continuity": b"outcome=unknown; receipt=1"}
    assert judged(stream, 3, Answer(504, said, b""))[0] == "unknown"
    assert judged(stream, 3, Answer(504, {}, b""))[0] == "failed"
    taken = bundle(200, write_id(stream.name, 3).encode())
    assert judged(stream, 3, Answer(201, {}, taken))[0] == "live"


def test_chunks_are_put_together_only_when_all_are_there() -> None:
    raw = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    assert dechunked(raw) == b"abcde"
    assert all(dechunked(raw[:end]) is None for end in range(len(raw)))


def test_a_line_that_is_no_record_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "r.tsv").write_text("ours\t1\n")
    with pytest.raises(ValueError, match="no record"):
        read(tmp_path / "r.tsv")


def test_a_change_of_a_link_is_dated_by_when_it_happened() -> None:
    watch = Watch()
    for at, state, since in ((10.0, "UP", 5.0), (10.1, "UP", 5.1), (11.0, "DOWN", 0.4)):
        watch.note({"links": [{"id": "fibre", "state": state, "since_s": since, "cause": ""}]}, at)
    assert [(change.at, change.state) for change in watch.changes] == [(5.0, "UP"), (10.6, "DOWN")]
    assert watch.first("fibre", frozenset({"DOWN"}), 9.6) == pytest.approx(1.0)
    assert watch.first("fibre", frozenset({"DOWN"}), 12.0) is None


async def test_a_write_that_was_cut_and_sent_again_is_two() -> None:
    ledger = Ledger(0.0)
    server, port = await origin(ledger)
    async with server:
        for sent in (WRITE[:CUT], WRITE):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
    assert ledger.writes == {"w_1": 2}
    assert (ledger.whole, ledger.cut) == ({"w_1"}, 1)


async def test_a_write_whose_cut_nobody_told_of_is_begun() -> None:
    ledger = Ledger(0.0)
    server, port = await origin(ledger)
    async with server:
        _, silent = await asyncio.open_connection("127.0.0.1", port)
        silent.write(WRITE[:CUT])
        await asyncio.sleep(0.05)
        said = json.loads(ledger.told())
        assert (said["writes"], said["whole"], said["cut"], said["duplicates"]) == (1, [], 1, {})
        _, again = await asyncio.open_connection("127.0.0.1", port)
        again.write(WRITE)
        await asyncio.sleep(0.05)
        said = json.loads(ledger.told())
        for writer in (silent, again):
            writer.close()
    assert (said["whole"], said["duplicates"]) == (["w_1"], {"w_1": 2})


def test_standalone_is_when_the_last_upstream_is() -> None:
    watch = Watch()
    for at, first, second in ((10.0, "NORMAL", "NORMAL"), (11.0, "STANDALONE", "NORMAL"),
                              (11.5, "STANDALONE", "STANDALONE")):
        watch.note({"modes": [
            {"tenant": "T", "upstream": name, "mode": mode, "cause": "", "since_s": 0.1}
            for name, mode in (("one", first), ("two", second))]}, at)
    assert watch.became("STANDALONE", 10.5) == pytest.approx(0.9)
    assert watch.became("STANDALONE", 12.0) is None
    assert watch.is_live(12.4)
    assert not watch.is_live(12.6)
