"""One link's client against an origin that remembers every byte: what leaves, and what comes."""

import asyncio
import gc
import gzip
import hashlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.core.instant import Mono
from gateway.core.link import Sample
from gateway.core.message import Headers, NeverLeft, NoAnswer, Streamed
from gateway.edge.http_out import LinkSender, UpstreamAt
from tests.kit.out import FIBRE, HOST, asking, poured, reply_of, sending, until
from tests.kit.raw_origin import OK, RawOrigin, Say, Seen

SAMPLES = [path.read_bytes() for path in sorted(
    (Path(__file__).parents[2].parent / "shared" / "samples").rglob("*.json"))]
# A clone that stands alone has no samples beside it; these are of the same sizes.
BODIES = SAMPLES or [b'{"resourceType":"Bundle"}' * n for n in (1, 40, 1000, 20_000, 60_000)]


def gpc(origin: RawOrigin, path: str = "/B81001/STU3") -> UpstreamAt:
    return UpstreamAt("gpc", origin.url(path))


@pytest.mark.parametrize("target", [
    "", "?", "/Slot?", "/Slot?start=ge2026-11-24&status=free", "/a|b?x=|", "//double//slash/",
    "/%24gpc.getstructuredrecord", "/$gpc.getstructuredrecord", "/a;b=c,d?q=%2B+%20", "/caf%C3%A9",
    "/café?ü=ß", "/a?b?c", "/a'\"<>\\^`{}", "/%zz%", "/a%2fb"])
async def test_the_target_leaves_byte_for_byte(target: str) -> None:
    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        reply_of(await sender.send(asking(target)))

        assert origin.seen[0].line == f"GET /B81001/STU3{target} HTTP/1.1".encode()


@pytest.mark.parametrize(("target", "line"), [
    ("", b"GET / HTTP/1.1"), ("?x", b"GET /?x HTTP/1.1"), ("//b", b"GET //b HTTP/1.1")])
async def test_a_base_url_without_a_path_still_makes_a_target(target: str, line: bytes) -> None:
    async with RawOrigin() as origin, sending(gpc(origin, "")) as sender:
        reply_of(await sender.send(asking(target)))

        assert origin.seen[0].line == line


async def test_fields_leave_in_their_order_case_and_number_and_none_is_added() -> None:
    headers: Headers = (
        ("accept", "application/fhir+json"), ("Host", "provider.example"), ("X-Trace", "1"),
        ("x-trace", "2"), ("X-TRACE", "3"), ("Cookie", "a=b"), ("Ssp-TraceID", ""),
        ("X-Name", "Zoë"), ("AUTHORIZATION", "Bearer x.y.z"))
    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        for method in ("GET", "DELETE", "POST"):
            reply_of(await sender.send(asking("/x", method, headers)))

        for seen in origin.seen:
            assert seen.fields == [f"{name}: {value}".encode() for name, value in headers]


async def test_a_body_leaves_as_it_was_framed() -> None:
    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        plain = (*HOST, ("content-length", "5"), ("Content-Type", "application/fhir+json"))
        reply_of(await sender.send(asking("/x", "POST", plain, b"hello")))
        reply_of(await sender.send(asking("/x", "POST", HOST, b"hello", chunked=True)))
        reply_of(await sender.send(asking("/x", "POST", HOST, b"", chunked=True)))
        reply_of(await sender.send(asking("/x", "POST", HOST, b"hello")))
        reply_of(await sender.send(asking("/x", "POST", (*HOST, ("Content-Length", "0")))))

        first, second, third, fourth, fifth = origin.seen
        assert first.fields[1:] == [b"content-length: 5", b"Content-Type: application/fhir+json"]
        assert first.body == b"hello"
        assert second.fields == [b"Host: provider.example", b"Transfer-Encoding: chunked"]
        assert second.raw_body == b"5\r\nhello\r\n0\r\n\r\n"
        assert third.raw_body == b"0\r\n\r\n"
        assert fourth.fields[1:] == [b"Content-Length: 5"]
        assert fifth.fields[1:] == [b"Content-Length: 0"]


async def test_a_length_that_is_not_the_bodys_is_our_mistake_and_never_leaves() -> None:
    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        for headers in ((*HOST, ("Content-Length", "4")), (*HOST, ("X", "a\r\nY: b")),
                        (*HOST, ("Content-Length", "5"), ("Content-Length", "5"))):
            with pytest.raises(ValueError, match=r"^(Content-Length is not|a method, target)"):
                await sender.send(asking("/x", "POST", headers, b"hello"))
        with pytest.raises(ValueError, match="may hold"):
            await sender.send(asking("/a b"))

        assert origin.seen == []
        assert sender.in_flight == 0


async def test_a_reply_comes_as_it_was_sent() -> None:
    raw = (b"HTTP/1.1 201 \r\nETag: W/\"1\"\r\nx-a: 1\r\nX-A:2\r\nSet-Cookie: k=v\r\n"
           b"Content-Encoding: gzip\r\nX-Name: Zo\xc3\xab\r\nContent-Length: 4\r\n\r\n\x1f\x8bAB")
    async with RawOrigin(lambda seen: Say(raw)) as origin, sending(gpc(origin)) as sender:
        for _ in range(2):  # a cookie that was set is not sent back
            reply = reply_of(await sender.send(asking()))

        assert (reply.status, reply.reason, reply.ending) == (201, "", "length")
        assert reply.headers == (
            ("ETag", 'W/"1"'), ("x-a", "1"), ("X-A", "2"), ("Set-Cookie", "k=v"),
            ("Content-Encoding", "gzip"), ("X-Name", "Zoë"), ("Content-Length", "4"))
        assert reply.body == b"\x1f\x8bAB"
        assert origin.seen[1].fields == [b"Host: provider.example"]
        assert origin.connections == 1


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    raw = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with RawOrigin(lambda seen: Say(raw)) as origin, sending(gpc(origin)) as sender:
        assert reply_of(await sender.send(asking())).status == 302
        assert len(origin.seen) == 1


async def test_nobody_listening_means_that_it_never_left() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        seen: list[Sample] = []
        at = UpstreamAt("gpc", f"http://127.0.0.1:{taken.getsockname()[1]}")
        async with sending(at, seen=seen) as sender:
            assert await sender.send(asking(method="POST")) == NeverLeft("fibre", "connect")

    (sample,) = seen
    assert (sample.layer, sample.ok, sample.detail) == ("connect", False, "connect")
    assert sample.rtt_ms is not None  # refused: the path to it works


async def test_a_name_without_an_address_means_that_it_never_left() -> None:
    async with sending(UpstreamAt("gpc", "http://no-such-name.invalid")) as sender:
        assert await sender.send(asking(connect_s=4.0)) == NeverLeft("fibre", "resolve")


async def test_a_connection_that_nobody_accepts_never_left_and_is_dated_when_it_was_due() -> None:
    """A full backlog: the kernel drops the SYN, as a dead path would."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        seen: list[Sample] = []
        at = UpstreamAt("gpc", f"http://127.0.0.1:{full.getsockname()[1]}")
        async with sending(at, seen=seen) as sender:
            outcome = await sender.send(asking(connect_s=0.3))

    assert outcome == NeverLeft("fibre", "connect")
    (sample,) = seen
    assert sample.rtt_ms is None
    assert sample.at == pytest.approx(sample.sent_at + 0.3)


async def test_no_answer_in_time_is_no_answer_and_the_miss_is_dated_when_it_was_due() -> None:
    seen: list[Sample] = []
    async with RawOrigin(lambda request: Say(b"", "hang")) as origin, \
            sending(gpc(origin), seen=seen) as sender:
        outcome = await sender.send(asking(patience_s=0.2))

        assert outcome == NoAnswer("fibre", "timeout")
        assert [each.layer for each in seen] == ["connect", "request"]
        assert seen[1].at == pytest.approx(seen[1].sent_at + 0.2)
        await until(lambda: origin.open_now == 0)


async def test_cancelling_a_send_drops_its_connection_at_once() -> None:
    async with RawOrigin(lambda request: Say(b"", "hang")) as origin, \
            sending(gpc(origin)) as sender, asyncio.TaskGroup() as group:
        send = group.create_task(sender.send(asking()))
        await until(lambda: origin.seen)
        send.cancel()
        await until(lambda: origin.open_now == 0)
        assert sender.in_flight == 0


@pytest.mark.parametrize("stage", ["connecting", "waiting"])
async def test_a_cancelled_send_leaves_nothing_to_the_collector(stage: str) -> None:
    """When both links die, hundreds are cancelled at once: what they left in cycles, some 230
    objects each, was collected in stops of 40 to 80 ms."""
    async with RawOrigin(lambda request: Say(b"", "hang")) as origin:
        with full_listener() as port:
            at = gpc(origin) if stage == "waiting" else UpstreamAt(
                "gpc", f"http://127.0.0.1:{port}")
            async with sending(at) as sender:
                assert await left_by_cancelling(sender) < 200


async def left_by_cancelling(sender: LinkSender, sends: int = 10) -> int:
    """Cancel ``sends`` after the first, which warms up; return what the collector found then."""
    found = 0
    gc.disable()
    try:
        for number in range(sends + 1):
            send = asyncio.ensure_future(sender.send(asking()))
            await asyncio.sleep(0.05)
            send.cancel()
            await asyncio.wait([send])
            del send
            await asyncio.sleep(0)
            left = gc.collect()
            found += left if number else 0
    finally:
        gc.enable()
    return found


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose backlog is full: what calls it waits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        callers = [socket.socket() for _ in range(3)]
        for each in callers:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        time.sleep(0.05)
        yield port
        for each in callers:
            each.close()


async def test_a_pooled_connection_that_the_upstream_closed_says_nothing_against_the_link() -> None:
    """The close races the next request: the origin reads it and closes without a byte."""
    turns = iter([Say(), Say(b"", "close"), Say(), Say(b"", "reset")])
    seen: list[Sample] = []
    async with RawOrigin(lambda request: next(turns)) as origin, \
            sending(gpc(origin), seen=seen) as sender:
        for _ in range(2):
            reply_of(await sender.send(asking()))
            before = len(seen)
            assert await sender.send(asking()) == NoAnswer("fibre", "reset", fresh=False)
            assert len(seen) == before

        assert len(origin.seen) == 4


async def test_a_close_while_idle_is_noticed_and_the_next_request_has_a_new_connection() -> None:
    """Also by a write in the same turn of the loop in which the end arrived: we look first."""
    async with RawOrigin(lambda request: Say(OK, "close")) as origin, \
            sending(gpc(origin)) as sender:
        for _ in range(30):
            reply_of(await sender.send(asking()))
            await until(lambda: origin.open_now == 0)

        assert origin.connections == 30


async def test_a_fresh_connection_that_dies_before_its_reply_does_speak_against_the_path() -> None:
    seen: list[Sample] = []
    async with RawOrigin(lambda request: Say(b"", "reset")) as origin, \
            sending(gpc(origin), seen=seen) as sender:
        assert await sender.send(asking()) == NoAnswer("fibre", "reset", fresh=True)
        assert [(each.layer, each.ok) for each in seen] == [("connect", True), ("request", False)]


async def test_no_connection_is_shared_by_two_tenants_or_two_links_epochs() -> None:
    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        for tenant in ("B81001", "B81002", "B81001", "B81002"):
            reply_of(await sender.send(asking(tenant=tenant)))
        assert [seen.connection for seen in origin.seen] == [1, 2, 1, 2]

        sender.renew()
        await until(lambda: origin.open_now == 0)
        reply_of(await sender.send(asking()))
        assert origin.seen[-1].connection == 3
        assert sender.epoch == 2


async def test_renewing_lets_what_is_at_work_finish_and_keeps_it_no_longer() -> None:
    async with RawOrigin(lambda request: Say(after_s=0.2)) as origin, \
            sending(gpc(origin)) as sender, asyncio.TaskGroup() as group:
        write = group.create_task(sender.send(asking(method="POST")))
        await until(lambda: origin.seen)
        sender.renew()
        assert reply_of(await write).status == 200
        await until(lambda: origin.open_now == 0)


async def test_standby_connections_are_opened_ahead_and_used_first() -> None:
    seen: list[Sample] = []
    async with RawOrigin() as origin, sending(gpc(origin), seen=seen) as sender:
        assert await sender.warm("B81001", "gpc", 3) == 3
        assert await sender.warm("B81001", "gpc", 3) == 3
        await until(lambda: origin.connections == 3)

        reply_of(await sender.send(asking()))
        assert origin.connections == 3
        assert [each.layer for each in seen] == ["connect", "connect", "connect", "request"]


async def test_idle_connections_beyond_the_declared_ones_are_closed() -> None:
    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        await sender.warm("B81001", "gpc", 5)
        await sender.warm("B81002", "gpc", 2)
        await until(lambda: origin.open_now == 7)

        assert sender.trim("B81001", "gpc", 2) == 5
        await until(lambda: origin.open_now == 4)
        assert sender.trim("B81001", "gpc", 2) == 2
        assert sender.trim("B81002", "gpc", 2) == 2
        reply_of(await sender.send(asking()))
        assert origin.connections == 7, "what was kept is used"


async def test_it_tells_how_many_sends_began_before_a_moment_and_the_most_at_once() -> None:
    def script(request: Seen) -> Say:
        return Say(b"", "hang") if b"/hang" in request.line else Say()

    async with RawOrigin(script) as origin, sending(gpc(origin)) as sender, \
            asyncio.TaskGroup() as group:
        hung = [group.create_task(sender.send(asking("/hang"))) for _ in range(3)]
        await until(lambda: len(origin.seen) == 3)
        moment = Mono(time.monotonic())
        late = group.create_task(sender.send(asking("/hang")))
        await until(lambda: len(origin.seen) == 4)

        assert sender.begun_before(moment) == 3
        assert sender.peak("B81001", "gpc") == 4
        for each in (*hung, late):
            each.cancel()
        await until(lambda: not sender.in_flight)
        assert sender.begun_before(Mono(time.monotonic())) == 0
        assert sender.peak("B81001", "gpc") == 4, "it counts from the last look"
        assert sender.peak("B81001", "gpc") == 0
        assert sender.peak("B81002", "gpc") == 0


async def test_warming_what_does_not_listen_counts_none() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        at = UpstreamAt("gpc", f"http://127.0.0.1:{taken.getsockname()[1]}")
        async with sending(at) as sender:
            assert await sender.warm("B81001", "gpc", 2) == 0


async def test_beyond_the_limit_a_request_is_refused_at_once_and_another_tenants_goes_on() -> None:
    def script(request: Seen) -> Say:
        return Say(b"", "hang") if b"/hang" in request.line else Say()

    async with RawOrigin(script) as origin, \
            sending(gpc(origin), connections_max=4, path_connections_max=2) as sender:
        async with asyncio.TaskGroup() as group:
            hung = [group.create_task(sender.send(asking("/hang"))) for _ in range(2)]
            await until(lambda: len(origin.seen) == 2)
            assert await sender.send(asking()) == NeverLeft("fibre", "busy")
            assert reply_of(await sender.send(asking(tenant="B81002"))).status == 200
            for each in hung:
                each.cancel()
        assert reply_of(await sender.send(asking())).status == 200


async def test_sockets_leave_from_the_links_source_address() -> None:
    link = type(FIBRE)("fibre", 1, source="127.0.0.7")
    async with RawOrigin() as origin, sending(gpc(origin), link=link) as sender:
        reply_of(await sender.send(asking()))
        assert origin.peers == ["127.0.0.7"]


async def test_an_upstream_may_be_an_ipv6_address() -> None:
    async with RawOrigin(host="::1") as origin, sending(gpc(origin)) as sender:
        reply_of(await sender.send(asking()))
        assert origin.peers == ["::1"]


async def test_tunnels_and_mqtt_get_raw_sockets_of_this_link() -> None:
    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        reader, writer = await sender.dial("localhost", origin.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await reader.readexactly(len(OK)) == OK
        writer.close()
        used = await asyncio.to_thread(sender.dial_socket, "localhost", origin.port, 2.0)
        assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500
        used.close()
        with pytest.raises(OSError):
            await sender.dial("localhost", 1, 1.0)


async def pieces_of(body: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at:at + size]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_streamed_request_body_leaves_whole(chunked: bool) -> None:
    body = bytes(range(256)) * 10_000
    length = None if chunked else len(body)
    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        streamed = Streamed(pieces_of(body), length)
        reply_of(await sender.send(asking("/x", "POST", HOST, streamed, chunked=chunked)))

        assert hashlib.sha256(origin.seen[0].body).digest() == hashlib.sha256(body).digest()


async def test_a_streamed_body_is_untouched_when_the_send_never_left() -> None:
    touched = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal touched
        touched = True
        yield b"x"

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        at = UpstreamAt("gpc", f"http://127.0.0.1:{taken.getsockname()[1]}")
        source = body()
        async with sending(at) as sender:
            outcome = await sender.send(asking("/x", "POST", HOST, Streamed(source, 1)))

        assert isinstance(outcome, NeverLeft)
        assert not touched
        assert await anext(source) == b"x"


async def test_a_client_that_vanishes_mid_upload_never_looks_whole_to_the_upstream() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise ConnectionResetError

    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        outcome = await sender.send(asking("/x", "POST", HOST, Streamed(body()), chunked=True))

        assert isinstance(outcome, NoAnswer)
        await until(lambda: origin.open_now == 0)
        assert b"0\r\n\r\n" not in origin.seen[0].raw_body


async def test_a_slow_upload_that_progresses_outlives_the_patience_and_a_stalled_one_does_not(
        ) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(6):
            await asyncio.sleep(0.1)
            yield b"x" * 100

    async with RawOrigin() as origin, sending(gpc(origin)) as sender:
        patient = asking("/x", "POST", HOST, Streamed(slow()), chunked=True, patience_s=0.4,
                         idle_s=0.4)
        assert reply_of(await sender.send(patient)).status == 200
        hurried = asking("/x", "POST", HOST, Streamed(slow()), chunked=True, patience_s=0.05,
                         idle_s=0.05)
        assert await sender.send(hurried) == NoAnswer("fibre", "timeout")


@pytest.mark.parametrize("coding", ["plain", "gzip", "chunked"])
async def test_every_sample_passes_as_request_and_as_reply(coding: str) -> None:
    def script(seen: Seen) -> Say:
        if coding == "chunked":
            framed = b"".join(b"%x\r\n%b\r\n" % (len(seen.body[at:at + 7001]),
                                               seen.body[at:at + 7001])
                              for at in range(0, len(seen.body), 7001))
            return Say(b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n" + framed
                       + b"0\r\n\r\n")
        return Say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(seen.body) + seen.body)

    async with RawOrigin(script) as origin, sending(gpc(origin)) as sender:
        for number, sample in enumerate(BODIES):
            body = gzip.compress(sample) if coding == "gzip" else sample
            outcome = await sender.send(
                asking("/x", "POST", HOST, body if len(body) <= 1 << 20 else
                       Streamed(pieces_of(body), len(body)), chunked=coding == "chunked"))
            reply = reply_of(outcome)
            wanted = hashlib.sha256(body).digest()
            assert hashlib.sha256(origin.seen[-1].body).digest() == wanted, number
            assert hashlib.sha256(await poured(reply.body)).digest() == wanted, number
            assert reply.unambiguous


async def test_an_abandoned_send_speaks_against_the_path_only_if_its_bytes_were_never_taken(
        ) -> None:
    """A peer that reads nothing stands in for a dead path: bytes stay with our kernel."""
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(5)

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen: list[Sample] = []
    big = Streamed(pieces_of(b"x" * 30_000_000, 1_000_000), 30_000_000)
    async with sending(UpstreamAt("gpc", f"http://127.0.0.1:{port}"), seen=seen) as sender:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await sender.send(asking("/x", "POST", HOST, big))
    assert [(each.layer, each.ok, each.detail) for each in seen] == [
        ("request", False, "abandoned")]
    server.close()

    async with RawOrigin(lambda request: Say(b"", "hang")) as origin:
        seen.clear()
        async with sending(gpc(origin), seen=seen) as sender:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await sender.send(asking())
        assert seen == []  # taken, and slow: that is the upstream's affair


async def test_half_a_head_on_a_pooled_connection_does_speak_against_the_path() -> None:
    turns = iter([Say(), Say(OK[:9], "close")])
    async with RawOrigin(lambda request: next(turns)) as origin, \
            sending(gpc(origin)) as sender:
        reply_of(await sender.send(asking()))
        assert await sender.send(asking()) == NoAnswer("fibre", "reset", fresh=True)


async def test_a_miss_that_we_notice_late_is_still_dated_when_it_was_due() -> None:
    """Our own loop stands still for half a second just before the patience ends."""
    seen: list[Sample] = []
    async with RawOrigin(lambda request: Say(b"", "hang")) as origin, \
            sending(gpc(origin), seen=seen) as sender:
        asyncio.get_running_loop().call_later(0.2, time.sleep, 0.5)
        assert await sender.send(asking(patience_s=0.3)) == NoAnswer("fibre", "timeout")

    assert seen[-1].at - seen[-1].sent_at == pytest.approx(0.3)
