"""The limits of one connection: lines, heads, times, numbers. Each at its limit and one past it."""

import asyncio
from dataclasses import replace

import pytest

from gateway.core.admission import Priority
from gateway.core.message import Answer, Request
from gateway.edge.http_connection import FIELDS_MAX, PIPELINE_MAX
from gateway.edge.http_in import DoorSettings
from tests.kit.bad_requests import GOOD, PATH, request
from tests.kit.door import ODS, OTHER_KEY, OTHER_ODS, VIA, Wire, hello, opened, tenants

SMALL = DoorSettings(
    via=VIA, address="127.0.0.1", line_bytes_max=200, head_bytes_max=1000
)
HASTY = replace(SMALL, head_s=0.3, idle_s=0.4)


def line_of(size: int) -> bytes:
    """A GET whose request line, without its end, has ``size`` bytes once rendered."""
    path = b"/B81001/gpc/"
    return request(target=path + b"a" * (size - len(b"GET  HTTP/1.1") - len(path)))


async def test_a_line_at_the_limit_passes_and_one_past_it_is_414() -> None:
    async with opened(settings=SMALL) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(line_of(200)))
        assert (await wire.answer())[0] == 200
        await wire.send(gateway.render(line_of(201) + GOOD))
        assert (await wire.answer())[0] == 414
        assert await wire.rest() == b""


async def test_an_endless_line_is_414_before_it_ends() -> None:
    async with opened(settings=SMALL) as gateway:
        wire = await gateway.connect()
        await wire.send(b"GET /" + b"a" * 100_000)

        assert (await wire.answer())[0] == 414


async def test_a_head_at_the_limit_passes_and_one_past_it_is_431() -> None:
    async with opened(settings=SMALL) as gateway:
        bare = gateway.render(request(b"X-Fill: "))
        fill = 1000 - (bare.index(b"\r\n\r\n") - bare.index(b"\r\n"))
        wire = await gateway.connect()
        await wire.send(gateway.render(request(b"X-Fill: " + b"a" * fill)))
        assert (await wire.answer())[0] == 200
        await wire.send(gateway.render(request(b"X-Fill: " + b"a" * (fill + 1)) + GOOD))
        assert (await wire.answer())[0] == 431
        assert await wire.rest() == b""


async def test_an_endless_head_is_431_before_it_ends() -> None:
    async with opened(settings=SMALL) as gateway:
        wire = await gateway.connect()
        await wire.send(b"GET / HTTP/1.1\r\n" + b"X-A: " + b"a" * 100_000)

        assert (await wire.answer())[0] == 431


async def test_too_many_fields_are_431() -> None:
    settings = replace(SMALL, head_bytes_max=65536)
    async with opened(settings=settings) as gateway:
        wire = await gateway.connect()
        room = FIELDS_MAX - 3
        await wire.send(gateway.render(request(*[b"a: b"] * room)))
        assert (await wire.answer())[0] == 200
        await wire.send(gateway.render(request(*[b"a: b"] * (room + 1))))
        assert (await wire.answer())[0] == 431


async def test_a_head_that_trickles_is_408_as_a_whole() -> None:
    async with opened(settings=HASTY) as gateway:
        wire = await gateway.connect()
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            answered = group.create_task(wire.answer())
            while not answered.done():
                wire.writer.write(b"G" if loop.time() == began else b"E")
                await asyncio.sleep(0.05)

        assert answered.result()[0] == 408
        assert loop.time() - began >= 0.3


async def test_a_head_that_stalls_behind_another_request_is_408_too() -> None:
    async with opened(settings=HASTY) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD) + b"GET /")
        assert (await wire.answer())[0] == 200
        assert (await wire.answer())[0] == 408


@pytest.mark.parametrize("before", [b"", b"\r\n", GOOD])
async def test_an_idle_connection_is_closed_without_a_word(before: bytes) -> None:
    async with opened(settings=replace(HASTY, head_s=10.0)) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(before))
        if before == GOOD:
            assert (await wire.answer())[0] == 200
        assert await wire.rest() == b""


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\nHost: a\n", b"GET / HTTP/1.1\r\nA: b\rc",
                                  b"\x16\x03\x01\x00\xf5\x01\x00", b"GET / HTTP/1.1\r\nA: \x00"])
async def test_what_can_never_become_a_head_is_refused_at_once(head: bytes) -> None:
    async with opened() as gateway:
        wire = await gateway.connect()
        await wire.send(head)
        async with asyncio.timeout(5):
            assert (await wire.answer())[0] == 400


async def test_requests_at_once_are_limited_for_each_practice_alone() -> None:
    finish, both = asyncio.Event(), asyncio.Barrier(3)

    async def slow(request: Request) -> Answer:
        if request.tenant == ODS and not finish.is_set():
            await both.wait()
            await finish.wait()
        return await hello(request)

    async with opened(slow, who=tenants(requests_max=2)) as gateway:
        busy = [await gateway.connect() for _ in range(2)]
        for wire in busy:
            await wire.send(gateway.render(GOOD))
        await both.wait()
        assert gateway.door.in_flight(ODS) == 2
        third = await gateway.connect()
        await third.send(gateway.render(GOOD))
        status, head, _ = await third.answer()
        assert status == 503
        assert b"\r\nRetry-After: 1\r\n" in head

        other = GOOD.replace(b"@ODS@", OTHER_ODS.encode()).replace(b"@KEY@", OTHER_KEY.encode())
        await third.send(gateway.render(other))
        assert (await third.answer())[0] == 200
        finish.set()
        for wire in busy:
            assert (await wire.answer())[0] == 200
        await third.send(gateway.render(GOOD))
        assert (await third.answer())[0] == 200


async def test_where_a_practice_has_few_places_left_the_less_urgent_is_told_to_come_again() -> None:
    finish = asyncio.Event()
    asked: list[Priority] = ["first", "first", "first", "other", "reads", "reads", "first"]

    async def slow(request: Request) -> Answer:
        await finish.wait()
        return await hello(request)

    async with opened(slow, who=tenants(requests_max=4),
                      priority=lambda request: asked[request.serial - 1]) as gateway:
        async def ask() -> Wire:
            wire = await gateway.connect()
            await wire.send(gateway.render(GOOD))
            return wire

        async def refused(wire: Wire) -> bool:
            status, head, body = await wire.answer()
            return (status == 503 and b"\r\nRetry-After: 1\r\n" in head
                    and b"throttled" in body)

        busy = []
        for number in range(3):
            busy.append(await ask())
            async with asyncio.timeout(5):
                while gateway.door.in_flight(ODS) <= number:  # noqa: ASYNC110  # the door's own count
                    await asyncio.sleep(0.01)
        other = await ask()  # the fourth place is not for what no pack names
        assert await refused(other)
        assert gateway.door.in_flight(ODS) == 3
        busy.append(await ask())  # nine tenths of four, rounded up: a read may have it
        async with asyncio.timeout(5):
            while gateway.door.in_flight(ODS) < 4:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)
        assert await refused(await ask())
        finish.set()
        for wire in busy:
            assert (await wire.answer())[0] == 200


async def test_one_connection_too_many_takes_the_place_of_the_longest_idle() -> None:
    settings = DoorSettings(via=VIA, address="127.0.0.1", connections_max=2)
    async with opened(settings=settings) as gateway:
        old, new = await gateway.connect(), await gateway.connect()
        for wire in (old, new):
            await wire.send(gateway.render(GOOD))
            assert (await wire.answer())[0] == 200
        third = await gateway.connect()
        await third.send(gateway.render(GOOD))
        assert (await third.answer())[0] == 200
        assert await old.rest() == b""
        await new.send(gateway.render(GOOD))
        assert (await new.answer())[0] == 200


async def test_one_connection_too_many_is_503_where_all_are_busy() -> None:
    began, finish = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Answer:
        began.set()
        await finish.wait()
        return await hello(request)

    settings = DoorSettings(via=VIA, address="127.0.0.1", connections_max=1)
    async with opened(slow, settings=settings) as gateway:
        busy = await gateway.connect()
        await busy.send(gateway.render(GOOD))
        await began.wait()
        late = await gateway.connect()
        status, head, _ = await late.answer()
        assert status == 503
        assert b"\r\nRetry-After: 5\r\n" in head
        finish.set()
        assert (await busy.answer())[0] == 200


async def test_a_long_pipeline_is_answered_in_order_and_held_back() -> None:
    waiting: list[Request] = []
    finish = asyncio.Event()

    async def slow(request: Request) -> Answer:
        waiting.append(request)
        await finish.wait()
        return Answer(200, "OK", (), request.target.encode())

    count = 20 * PIPELINE_MAX
    async with opened(slow) as gateway:
        wire = await gateway.connect()
        wire.writer.write(
            b"".join(
                gateway.render(request(b"Content-Length: 2", target=PATH + b"/%d" % at, body=b"{}"))
                for at in range(count)
            )
        )
        await asyncio.sleep(0.1)
        (connection,) = gateway.door._open
        assert len(connection.examined) <= PIPELINE_MAX
        assert len(waiting) == 1
        finish.set()
        assert [(await wire.answer())[2] for _ in range(count)] == [
            b"/%d" % at for at in range(count)
        ]
        wire.close()


async def test_a_refused_head_reaches_a_client_that_still_sends() -> None:
    """Unread bytes at a close would turn it into a reset that throws the answer away."""
    async with opened(settings=SMALL) as gateway:
        wire = await gateway.connect()
        wire.writer.write(b"GET /" + b"a" * 5_000_000)
        status, _, _ = await wire.answer()
        assert status == 414
