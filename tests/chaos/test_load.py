"""The load sees what a library would smooth over, on real sockets."""

import asyncio
import gzip
import hashlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable

import pytest

from chaos.load import (
    Answer,
    Ask,
    Load,
    is_empty_searchset,
    note,
    percentile,
    without_outcome,
)

ASK = Ask("B81001", "gpc", "gpc:B81001", "desk", "patient", "/Patient/2",
          headers=(("Accept", "application/fhir+json"),))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContinuity: class=live; link=fibre\r\n\r\nhi"


class Scripted:
    """A server whose every answer is a script; it counts connections and remembers heads."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self.port = 0
        self.answer: Callable[[int], bytes | None] = lambda n: OK
        self.stall_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            try:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return
            await asyncio.sleep(self.stall_s)
            said = self.answer(len(self.heads))
            if said is not None:
                writer.write(said)
            if said is None or said != OK:
                writer.close()
                return


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    listening = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = listening.sockets[0].getsockname()[1]
    yield scripted
    listening.close()


@pytest.fixture
async def load(server: Scripted) -> AsyncIterator[Load]:
    made = Load(("127.0.0.1", server.port))
    yield made
    made.close()


async def test_an_answer_is_read_and_its_marks_noted(load: Load, server: Scripted) -> None:
    sent = await load.one(ASK)
    assert (sent.status, sent.whole, sent.answered, sent.link) == (200, True, "live", "fibre")
    assert sent.body_sha == hashlib.sha256(b"hi").hexdigest()
    assert server.heads[0].startswith(b"GET /B81001/gpc/Patient/2 HTTP/1.1\r\n")
    assert sent.token.encode() in server.heads[0]
    await load.one(ASK)
    assert server.connections == 1, "kept alive"


@pytest.mark.parametrize(("reply", "trouble"), [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", "cut short"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "cut short"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "bad chunk"),
    (b"HTTP/1.1 200 OK\r\nContent-", "no head"),
    (b"SSH-2.0-x\r\n\r\n", "no HTTP"),
    (None, "no head")])
async def test_what_is_not_whole_never_looks_whole(load: Load, server: Scripted,
                                                   reply: bytes | None, trouble: str) -> None:
    server.answer = lambda n: reply
    sent = await load.one(ASK)
    assert (sent.whole, sent.answered, sent.trouble) == (False, "failed", trouble)


async def test_an_answer_that_ends_by_close_is_whole(load: Load, server: Scripted) -> None:
    server.answer = lambda n: b"HTTP/1.1 200 \r\n\r\nall of it"
    assert (await load.one(ASK)).whole


async def test_chunks_are_put_together(load: Load, server: Scripted) -> None:
    server.answer = lambda n: (b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"
                               b"1\r\nh\r\n1;x=y\r\ni\r\n0\r\n\r\n")
    assert (await load.one(ASK)).body_sha == hashlib.sha256(b"hi").hexdigest()


async def test_requests_leave_when_due_and_a_stall_shows_in_all_that_it_delayed(
        load: Load, server: Scripted) -> None:
    server.stall_s = 0.3
    began = time.time()
    await load.run(itertools.repeat(ASK), 50.0, began + 0.4)
    assert len(load.sent) == 20
    due = [sent.at - began for sent in sorted(load.sent, key=lambda sent: sent.n)]
    assert all(abs(at - n / 50.0) < 0.05 for n, at in enumerate(due)), "none waited for another"
    assert all(sent.took_s >= 0.3 for sent in load.sent)


async def test_a_refused_connection_is_a_failure_not_an_error(load: Load) -> None:
    nobody = Load(("127.0.0.1", 1))
    sent = await nobody.one(ASK)
    assert (sent.answered, sent.trouble) == ("failed", "ConnectionRefusedError")


async def test_a_write_is_never_tried_twice(load: Load, server: Scripted) -> None:
    await load.one(ASK)
    server.answer = lambda n: None
    write = Ask("B81001", "gpc", "gpc:B81001", "desk", "book", "/Appointment", "POST",
                body=b"{}", is_read=False)
    assert (await load.one(write)).answered == "failed"
    assert sum(head.startswith(b"POST") for head in server.heads) == 1


OUTCOME = (b'{"resource": {"resourceType": "OperationOutcome", "issue": [{"severity": "warning",'
           b' "diagnostics": "Kopie \xc3\xa9"}]}, "search": {"mode": "outcome"}}')


@pytest.mark.parametrize(("original", "served"), [
    (b'{"type":"searchset","entry":[{"a":1}]}', b'{"type":"searchset","entry":[{"a":1},%s]}'),
    (b'{"type":"searchset","entry":[{"a":1} ] }', b'{"type":"searchset","entry":[{"a":1} ,%s] }'),
    (b'{"type":"searchset","total":0}', b'{"type":"searchset","total":0,"entry":[%s]}'),
    (b'{"resourceType":"Patient"}', b'{"resourceType":"Patient"}'),
    ('{"x":"Ø李"}'.encode(), '{"x":"Ø李"}'.encode())])
def test_a_copy_less_its_outcome_entry_is_what_was_stored(original: bytes, served: bytes) -> None:
    if b"%s" in served:
        served = served.replace(b"%s", OUTCOME)
    assert without_outcome(served).replace(b" ]", b"]") == original.replace(b" ]", b"]")


def test_an_outcome_of_the_upstream_itself_in_the_middle_stays() -> None:
    body = b'{"entry":[' + OUTCOME + b',{"a":1}]}'
    assert without_outcome(body) == body


def test_a_gzipped_copy_is_compared_unpacked() -> None:
    body = b'{"resourceType":"Patient","id":"2"}'
    answer = Answer(200, {"content-encoding": "gzip", "age": "60", "cache-control": "no-store",
                          "cache-status": "practice-gateway; hit; ttl=-5",
                          "continuity": 'class=as-of; as-of="2026-11-24T08:00:00Z"; '
                                        "cause=LINK_DOWN"}, gzip.compress(body), True)
    sent = note(ASK, answer, 1, "t", "p", 0.0, 0.1)
    assert sent.body_sha == hashlib.sha256(body).hexdigest()
    assert (sent.answered, sent.marked, sent.age_s, sent.cause) == ("copy", True, 60.0,
                                                                    "LINK_DOWN")


@pytest.mark.parametrize(("tree", "empty"), [
    ({"type": "searchset", "total": 0}, True),
    ({"type": "searchset", "entry": []}, True),
    ({"type": "searchset", "entry": [{"resource": {"resourceType": "OperationOutcome"}}]}, True),
    ({"type": "searchset", "entry": [{"resource": {"resourceType": "Slot"}}]}, False),
    ({"resourceType": "Patient"}, False)])
def test_an_empty_searchset_is_known_for_what_it_says(tree: object, empty: bool) -> None:
    assert is_empty_searchset(json.dumps(tree).encode()) is empty


def test_what_is_noted_holds_no_patient() -> None:
    ask = Ask("B81001", "gpc", "gpc:B81001", "desk", "find", "/Patient?identifier=9990000018")
    sent = note(ask, Answer(200, {}, b"9990000018", True), 1, "t", "p", 0.0, 0.1)
    assert "9990000018" not in repr(sent) + repr(ask)


@pytest.mark.parametrize(("share", "value"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_percentiles_are_nearest_rank(share: float, value: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], share) == value
    assert percentile([], share) is None
