"""The battery of replies: each is answered as it should be, and what follows it leaks nowhere."""

import asyncio
import contextlib
import socket
import threading

import pytest

from gateway.core.message import Arrived, NeverLeft, NoAnswer, Outcome
from gateway.edge.http_out import UpstreamAt
from tests.kit.bad_replies import BODY, CASES, FOLLOWED, GOOD, SECOND, Case
from tests.kit.out import asking, reply_of, sending, until
from tests.kit.raw_origin import RawOrigin, Say, Seen, Then

NEXT = GOOD.replace(b"Bundle", b"Second")


def check(case: Case, outcome: Outcome) -> None:
    """Hold ``outcome`` against what the case expects."""
    if case.outcome == "whole":
        reply = reply_of(outcome)
        assert (reply.status, reply.body) == (case.status, case.body)
        assert reply.unambiguous is case.unambiguous
    elif case.outcome == "cut":
        assert isinstance(outcome, NoAnswer)
        assert outcome.cause in ("truncated", "reset")
    elif case.outcome == "refused":
        assert outcome == NoAnswer("fibre", "bad_reply")
    elif isinstance(outcome, Arrived):
        assert not outcome.reply.unambiguous
    else:
        assert isinstance(outcome, NoAnswer)


def origin_of(case: Case, follow: bytes, pieces: int = 1, then: Then = "close") -> RawOrigin:
    """An origin whose first answer is ``case`` with ``follow`` in the same segment."""
    raw = case.raw + follow
    step = -(-len(raw) // pieces)
    parts = tuple(raw[at:at + step] for at in range(0, len(raw), step))

    def script(seen: Seen) -> Say:
        if b"/first" in seen.line:
            return Say(then=then, pieces=parts) if pieces > 1 else Say(raw, then)
        return Say(NEXT)

    return RawOrigin(script)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_each_reply_comes_to_what_it_should(case: Case, pieces: int) -> None:
    then: Then = "close" if case.close or case.outcome == "either" else "keep"
    async with origin_of(case, b"", pieces, then) as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        check(case, await sender.send(asking("/first", case.method, patience_s=3.0)))
        assert origin.seen[0].line.endswith(b"/first HTTP/1.1")

        after = reply_of(await sender.send(asking("/next")))
        assert after.body == BODY.replace(b"Bundle", b"Second")
        assert after.unambiguous


@pytest.mark.parametrize("case", FOLLOWED, ids=lambda case: case.name)
async def test_another_reply_in_the_same_segment_is_never_the_next_requests_answer(
        case: Case) -> None:
    async with origin_of(case, SECOND, then="keep") as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        first = await sender.send(asking("/first", case.method, patience_s=1.0))
        if isinstance(first, Arrived):
            assert not first.reply.unambiguous
            if case.outcome == "whole":
                assert first.reply.body == case.body

        second = reply_of(await sender.send(asking("/next")))
        assert second.body == BODY.replace(b"Bundle", b"Second")
        assert second.unambiguous
        assert [seen.connection for seen in origin.seen] == [1, 2]


async def test_a_reply_that_nobody_asked_for_ends_an_idle_connection() -> None:
    """It comes 20 ms after the first answer, when the connection waits in the pool."""
    def script(seen: Seen) -> Say:
        if b"/first" in seen.line:
            return Say(pieces=(GOOD, b"", b"", b"", b"", SECOND))
        return Say(NEXT)

    async with RawOrigin(script) as origin, sending(UpstreamAt("gpc", origin.url())) as sender:
        assert reply_of(await sender.send(asking("/first"))).body == BODY
        await until(lambda: origin.open_now == 0)
        second = reply_of(await sender.send(asking("/next")))

        assert second.body == BODY.replace(b"Bundle", b"Second")
        assert origin.connections == 2


async def test_what_an_origin_says_before_it_is_asked_is_nobodys_answer() -> None:
    greeted = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        with contextlib.suppress(OSError):
            writer.write(SECOND)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with sending(UpstreamAt("gpc", f"http://127.0.0.1:{port}")) as sender:
        assert await sender.warm("B81001", "gpc", 2) <= 2
        await asyncio.sleep(0.05)
        assert await sender.warm("B81001", "gpc", 0) == 0  # they spoke, so they were dropped
        assert greeted == 2
    server.close()


async def test_a_connection_that_ends_as_soon_as_it_is_accepted_never_left() -> None:
    """A relay whose far side is gone accepts, then closes: a write may safely go elsewhere."""
    def serve(listener: socket.socket, turns: int) -> None:
        for _ in range(turns):
            listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        closing = threading.Thread(target=serve, args=(listener, 20), daemon=True)
        closing.start()
        async with sending(UpstreamAt("gpc", f"http://127.0.0.1:{port}")) as sender:
            outcomes = [await sender.send(asking(method="POST")) for _ in range(20)]

    assert all(isinstance(each, NeverLeft | NoAnswer) for each in outcomes)
    assert any(isinstance(each, NeverLeft) for each in outcomes)


async def test_a_close_delimited_reply_that_is_reset_is_not_whole() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhalf of i"
    async with RawOrigin(lambda seen: Say(then="reset", pieces=(raw, b""))) as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        assert await sender.send(asking()) == NoAnswer("fibre", "truncated")
