"""The door under requests that try to be read in two ways: raw sockets, one segment, every byte.

Each case of ``tests.kit.bad_requests`` is sent with a good request right behind it; its own
answer, the fate of what follows, and all that reached ``serve`` are checked.
"""

import asyncio
import json
import logging
import select
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from gateway.core.message import Answer, Request
from gateway.edge.http_in import DoorSettings
from gateway.edge.tunnel import reset
from tests.kit.bad_requests import CASES, GOOD, NHS, PATH, Case, render, request
from tests.kit.door import (
    KEY,
    ODS,
    OTHER_KEY,
    OTHER_ODS,
    UPSTREAM,
    VIA,
    Opened,
    Wire,
    hello,
    opened,
)

QUICK = DoorSettings(via=VIA, address="127.0.0.1", head_s=2.0)


def names(case: Case) -> str:
    return case.name


async def tried(gateway: Opened, case: Case, step: int) -> tuple[list[int], bytes]:
    """Send ``case`` and the good request, ``step`` bytes at a time; (statuses, all answered)."""
    raw = gateway.render(case.raw + GOOD)
    wire = await gateway.connect()
    for at in range(0, len(raw), step):
        if wire.writer.is_closing():
            break
        wire.writer.write(raw[at : at + step])
        if step < len(raw):
            await asyncio.sleep(0)
    statuses, data, _ = await wire.until_answers(1 + case.survives)
    wire.close()
    return statuses, data


@pytest.mark.parametrize("case", CASES, ids=names)
async def test_a_request_and_the_good_one_behind_it(case: Case) -> None:
    async with opened(settings=QUICK) as gateway:
        statuses, data = await tried(gateway, case, step=1 << 16)

        assert statuses == [case.status] + [200] * case.survives
        assert len(gateway.arrived) == case.arrives + case.survives
        if case.survives:
            assert gateway.arrived[-1].target == "/metadata?good=1"
        for mark in (NHS, KEY.encode(), b"Patient"):
            assert mark not in data, "an answer repeats what was sent"
        assert not [noted for noted in gateway.noted if noted.fault]


async def test_it_makes_no_difference_how_the_bytes_are_cut() -> None:
    """Byte by byte each case has the same fate as in one segment."""
    async with opened(settings=QUICK) as gateway:
        for case in CASES:
            gateway.arrived.clear()
            statuses, _ = await tried(gateway, case, step=1)
            assert statuses == [case.status] + [200] * case.survives, case.name
            assert len(gateway.arrived) == case.arrives + case.survives, case.name


async def test_each_refusal_is_an_operation_outcome_that_nobody_may_keep() -> None:
    async with opened(settings=QUICK) as gateway:
        for case in [case for case in CASES if not case.arrives]:
            wire = await gateway.connect()
            await wire.send(gateway.render(case.raw + GOOD))
            status, head, body = await wire.answer()
            assert status == case.status
            assert json.loads(body)["resourceType"] == "OperationOutcome"
            assert b"\r\nCache-Control: no-store\r\n" in head
            assert b"\r\nDate: " in head
            assert b"Server" not in head
            assert (b"\r\nConnection: close\r\n" in head) == (not case.survives), case.name
            if status == 405:
                assert b"\r\nAllow: " in head
            wire.close()


async def test_nothing_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(settings=QUICK) as gateway:
        for case in CASES:
            await tried(gateway, case, step=1 << 16)
        shown = repr(gateway.noted) + repr(gateway.arrived) + repr(gateway.door)

    told = caplog.text + shown + "".join(str(record.__dict__) for record in caplog.records)
    for mark in (NHS.decode(), KEY, "Patient", "X-Marked"):
        assert mark not in told


async def test_what_reaches_serve_is_what_was_sent() -> None:
    raw = (b"POST /@ODS@/@UPSTREAM@//a%20b?c|d=%24&& HTTP/1.1\r\nx-b: 1\r\nHOST:@AUTHORITY@\r\n"
           b"X-Gateway-Key: @KEY@\r\nX-B:  2\t\r\nX-Empty:\r\nContent-Length: 3\r\n\r\n\x00\xff\n")
    async with opened() as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(raw))
        await wire.answer()

        (seen,) = gateway.arrived
        assert (seen.tenant, seen.client, seen.upstream) == (ODS, "booking", UPSTREAM)
        assert (seen.method, seen.target) == ("POST", "//a%20b?c|d=%24&&")
        assert seen.headers == (
            ("x-b", "1"), ("HOST", gateway.authority), ("X-Gateway-Key", KEY), ("X-B", "2"),
            ("X-Empty", ""), ("Content-Length", "3"),
        )  # fmt: skip
        assert seen.body == b"\x00\xff\n"
        assert seen.forwarded == (gateway.authority, "http", f"/{ODS}/{UPSTREAM}")
        wire.close()


@pytest.mark.parametrize("raised", [ValueError(NHS.decode()), ConnectionError("x"), KeyError("y")])
async def test_a_mistake_of_ours_costs_one_request(raised: Exception) -> None:
    async def mistaken(request: Request) -> Answer:
        if request.target == "/bad":
            raise raised
        return await hello(request)

    async with opened(mistaken) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(request(target=PATH + b"/bad")))
        status, _, body = await wire.answer()
        other = await gateway.connect()
        await other.send(gateway.render(GOOD))

        assert status == 500
        assert json.loads(body)["issue"][0]["code"] == "exception"
        assert NHS not in body
        assert [noted.fault for noted in gateway.noted] == [raised]
        assert (await other.answer())[0] == 200
        assert gateway.door.in_flight(ODS) == 0
        wire.close()
        other.close()


@pytest.mark.parametrize("hang_up", [lambda wire: wire.close(),
                                     lambda wire: reset(wire.writer.transport)])
async def test_a_client_that_hangs_up_cancels_no_write(hang_up: Callable[[Wire], None]) -> None:
    began, finish, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Answer:
        began.set()
        await finish.wait()
        ended.set()
        return await hello(request)

    async with opened(slow) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(request(
            b"Content-Length: 2", method=b"POST", body=b"{}")))
        await began.wait()
        hang_up(wire)
        await asyncio.sleep(0.05)
        finish.set()
        async with asyncio.timeout(5):
            await ended.wait()


@pytest.mark.parametrize("hang_up", [lambda wire: wire.close(),
                                     lambda wire: reset(wire.writer.transport)])
@pytest.mark.parametrize(("method", "reads"), [(b"GET", True), (b"POST", True), (b"POST", False)])
async def test_a_read_whose_client_hangs_up_gives_its_place_back_and_a_write_keeps_it(
    hang_up: Callable[[Wire], None], method: bytes, reads: bool
) -> None:
    began, finish = asyncio.Event(), asyncio.Event()

    async def hung(request: Request) -> Answer:
        began.set()
        await finish.wait()
        return await hello(request)

    async with opened(hung, only_reads=lambda request: reads) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(request(b"Content-Length: 2", method=method, body=b"{}")))
        await began.wait()
        assert gateway.door.in_flight(ODS) == 1
        hang_up(wire)
        await asyncio.sleep(0.1)
        assert gateway.door.in_flight(ODS) == (0 if reads else 1)
        finish.set()
        await asyncio.sleep(0.1)
        assert gateway.door.in_flight(ODS) == 0
        assert [noted.fault for noted in gateway.noted] == []


async def test_who_comes_while_the_loop_stands_still_waits_in_line_and_not_for_a_second_syn(
        ) -> None:
    async with opened(settings=QUICK) as gateway:
        with ExitStack() as stack:
            waiting = [stack.enter_context(socket.socket()) for _ in range(400)]
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", gateway.door.port))
            watch, done, until = select.poll(), set[int](), time.monotonic() + 0.5
            for each in waiting:
                watch.register(each, select.POLLOUT)
            while len(done) < len(waiting) and time.monotonic() < until:  # nobody accepts
                for handle, _ in watch.poll(50):
                    watch.unregister(handle)
                    done.add(handle)
            assert len(done) == len(waiting)


async def test_who_has_no_credential_and_never_ends_makes_room_for_who_has_one() -> None:
    limits = DoorSettings(via=VIA, address="127.0.0.1", connections_max=4)
    async with opened(settings=limits) as gateway:
        keyless = b"POST /B81001/gpc/x HTTP/1.1\r\nHost: %s\r\nContent-Length: 50\r\n\r\nx" % (
            gateway.authority.encode())
        crowd = []
        for _ in range(4):
            crowd.append(await gateway.connect())
            await crowd[-1].send(keyless)
        await asyncio.sleep(0.05)

        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD))
        assert (await wire.answer())[0] == 200
        for each in (*crowd, wire):
            each.close()


async def test_a_client_that_shuts_its_side_still_gets_its_answers() -> None:
    async with opened() as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD + GOOD))
        wire.writer.write_eof()
        data = await wire.rest()

        assert data.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert data.count(b"Connection: close") == 1


async def test_a_practice_reaches_its_own_path_alone() -> None:
    async with opened() as gateway:
        wire = await gateway.connect()
        raw = request(target=b"/%s/gpc/x" % OTHER_ODS.encode())
        await wire.send(render(raw, ODS, UPSTREAM, OTHER_KEY, gateway.authority))
        assert (await wire.answer())[0] == 200
        await wire.send(gateway.render(raw))
        assert (await wire.answer())[0] == 403
        wire.close()

        assert [seen.tenant for seen in gateway.arrived] == [OTHER_ODS]


async def test_an_alias_leads_to_the_upstream_of_whoever_asks() -> None:
    async with opened(aliases={"http://Provider.example:80/base/": UPSTREAM}) as gateway:
        wire = await gateway.connect()
        raw = request(target=b"http://provider.example/base/Patient?_page=2",
                      host=b"Host: provider.example")
        await wire.send(gateway.render(raw))
        assert (await wire.answer())[0] == 200
        wire.close()

        (seen,) = gateway.arrived
        assert (seen.tenant, seen.upstream, seen.target) == (ODS, UPSTREAM, "/Patient?_page=2")
        assert seen.forwarded == ("provider.example", "http", "/base")


async def test_draining_finishes_what_is_in_flight_and_takes_nothing_new() -> None:
    began, finish = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Answer:
        began.set()
        await finish.wait()
        return await hello(request)

    async with opened(slow) as gateway:
        idle, busy = await gateway.connect(), await gateway.connect()
        await busy.send(gateway.render(GOOD))
        await began.wait()
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(gateway.door.drain(10))
            assert await idle.rest() == b""
            with pytest.raises(OSError):
                await gateway.connect()
            assert not drained.done()
            finish.set()
        status, head, _ = await busy.answer()

        assert status == 200
        assert b"\r\nConnection: close\r\n" in head


async def test_draining_ends_in_time() -> None:
    began = asyncio.Event()

    async def endless(request: Request) -> Answer:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async with opened(endless) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD))
        await began.wait()
        async with asyncio.timeout(5):
            await gateway.door.drain(0.1)
        with pytest.raises(ConnectionResetError):
            await wire.rest()


async def test_both_families_reach_a_door_on_the_unspecified_address() -> None:
    async with opened(settings=DoorSettings(via=VIA, address="::")) as gateway:
        for host in ("127.0.0.1", "::1"):
            wire = Wire(*await asyncio.open_connection(host, gateway.door.port))
            literal = f"[{host}]" if ":" in host else host
            own = request(target=b"http://" + literal.encode() + b":%d" % gateway.door.port + PATH)
            await wire.send(gateway.render(own))
            assert (await wire.answer())[0] == 200
            wire.close()
