"""CONNECT tunnels between raw sockets: who may, what passes, and how a dead link ends them."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import uvloop

from gateway.edge.tunnel import Tunnels, TunnelSettings, reset
from tests.kit.door import KEY, ODS, OTHER_KEY, OTHER_ODS, Wire, tenants

TARGET = "remote.example:443"
SETTINGS = TunnelSettings(
    address="127.0.0.1", allow=frozenset({TARGET, "[2001:db8::1]:443"}), head_s=0.3, tunnels_max=3
)


def basic(user: str = ODS, key: str = KEY) -> bytes:
    return b"Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{key}".encode())


def connect(target: str = TARGET, *fields: bytes) -> bytes:
    lines = (b"CONNECT %s HTTP/1.1" % target.encode(), b"Host: " + target.encode(), *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n"


GOOD = connect(TARGET, basic())


@dataclass
class Beyond:
    """What stands behind the gateway: an echo by default, and who dialled it."""

    tunnels: Tunnels
    dialled: list[tuple[str, int, str]] = field(default_factory=list)
    accepted: list[Wire] = field(default_factory=list)
    link: str = "fibre"
    no_path: bool = False

    async def client(self) -> Wire:
        return Wire(*await asyncio.open_connection("127.0.0.1", self.tunnels.port))


async def echo(wire: Wire) -> None:
    while data := await wire.reader.read(65536):
        await wire.send(data)
    wire.writer.write_eof()


@asynccontextmanager
async def beyond(
    behave: Callable[[Wire], Awaitable[None]] = echo, settings: TunnelSettings = SETTINGS
) -> AsyncIterator[Beyond]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        world.accepted.append(wire)
        try:
            await behave(wire)
        except ConnectionError:
            world.accepted.remove(wire)

    origin = await asyncio.start_server(accept, "127.0.0.1", 0)

    async def dial(
        host: str, port: int, tenant: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str] | None:
        world.dialled.append((host, port, tenant))
        if world.no_path:
            return None
        reader, writer = await asyncio.open_connection(*origin.sockets[0].getsockname()[:2])
        return reader, writer, world.link

    tunnels = Tunnels(settings, tenants(), dial)
    world = Beyond(tunnels)
    await tunnels.start()
    try:
        yield world
    finally:
        await tunnels.close()
        origin.close()


async def open_tunnel(world: Beyond, after: bytes = b"") -> Wire:
    client = await world.client()
    await client.send(GOOD + after)
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    return client


async def test_a_tunnel_carries_bytes_and_loses_none_that_came_with_the_head() -> None:
    async with beyond() as world:
        client = await open_tunnel(world, after=b"early \x00\r\n\r\n")
        await client.send(b"late")
        client.writer.write_eof()

        assert await client.rest() == b"early \x00\r\n\r\nlate"
        assert world.dialled == [("remote.example", 443, ODS)]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (connect(), 407),
        (connect(TARGET, basic(key="wrong")), 407),
        (connect(TARGET, basic(OTHER_ODS)), 407),
        (connect(TARGET, basic(), basic(OTHER_ODS, OTHER_KEY)), 407),
        (connect(TARGET, b"Proxy-Authorization: Bearer x"), 407),
        (connect(TARGET, b"X-Gateway-Key: " + KEY.encode()), 407),
        (connect("other.example:443", basic()), 403),
        (connect("remote.example:444", basic()), 403),
        (connect("remote.example", basic()), 400),
        (connect("http://remote.example:443", basic()), 400),
        (connect("remote.example:443 ", basic()), 400),
        (GOOD.replace(b"CONNECT", b"GET"), 405),
        (GOOD.replace(b"HTTP/1.1", b"HTTP/2.0"), 400),
        (GOOD.replace(b"Host: ", b"Host : "), 400),
        (GOOD.replace(b"Host: ", b" Host: "), 400),
        (GOOD.replace(b"Host: ", b"Host: \xff"), 400),
        (GOOD.replace(b"Host: ", b"Host: a\nb"), 400),
        (connect("a" * 3000 + ":443", basic()), 414),
        (connect(TARGET, basic(), b"X: " + b"a" * 20_000), 431),
        (connect(TARGET, basic(), b"X: " + b"a" * 200_000), 431),
        (GOOD[:-4], 408),
    ],
)
async def test_who_may_not_gets_no_connection(raw: bytes, status: int) -> None:
    async with beyond() as world:
        client = await world.client()
        await client.send(raw)
        answered, head, body = await client.answer()

        assert answered == status
        assert (b"\r\nProxy-Authenticate: Basic " in head) == (status == 407)
        assert KEY.encode() not in head + body
        assert not world.dialled


async def test_the_name_on_the_list_is_compared_without_case_and_an_ipv6_literal_works() -> None:
    async with beyond() as world:
        for target in ("Remote.Example:443", "[2001:DB8::1]:443"):
            client = await world.client()
            await client.send(connect(target, basic()))
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        assert world.dialled == [("Remote.Example", 443, ODS), ("2001:DB8::1", 443, ODS)]


async def test_no_path_is_503() -> None:
    async with beyond() as world:
        world.no_path = True
        client = await world.client()
        await client.send(GOOD)

        status, head, _ = await client.answer()
        assert status == 503
        assert b"\r\nRetry-After: " in head


async def test_one_tunnel_past_the_limit_is_503_until_one_ends() -> None:
    async with beyond() as world:
        held = [await open_tunnel(world) for _ in range(3)]
        client = await world.client()
        await client.send(GOOD)
        assert (await client.answer())[0] == 503
        held[0].writer.write_eof()
        assert await held[0].rest() == b""
        await open_tunnel(world)


async def test_a_dead_link_resets_its_tunnels_at_both_ends_and_no_others() -> None:
    async with beyond() as world:
        lost = [await open_tunnel(world, b"x") for _ in range(2)]
        for client in lost:
            assert await client.reader.readexactly(1) == b"x"
        world.link = "lte"
        kept = await open_tunnel(world)
        assert (world.tunnels.count("fibre"), world.tunnels.count()) == (2, 3)

        assert world.tunnels.reset_link("fibre") == 2

        for client in lost:
            assert await client.until_reset() == b""
        await kept.send(b"still")
        assert await kept.reader.readexactly(5) == b"still"
        assert world.tunnels.count() == 1
        assert len(world.accepted) == 1, "the upstream's end was reset too"


async def test_a_tunnel_in_which_nobody_speaks_may_be_ended_early_and_no_other() -> None:
    async with beyond() as world:
        quiet = await open_tunnel(world)
        talking = await open_tunnel(world)
        await asyncio.sleep(0.3)
        await talking.send(b"x")
        assert await talking.reader.readexactly(1) == b"x"

        assert world.tunnels.reset_idle("lte", 0.0) == 0
        assert world.tunnels.reset_idle("fibre", 0.25) == 1

        assert await quiet.until_reset() == b""
        await talking.send(b"still")
        assert await talking.reader.readexactly(5) == b"still"


async def test_a_reset_by_the_upstream_is_a_reset_to_the_client() -> None:
    async def resetting(wire: Wire) -> None:
        await wire.reader.readexactly(1)
        reset(wire.writer.transport)

    async with beyond(resetting) as world:
        client = await open_tunnel(world, b"x")
        assert await client.until_reset() == b""
        assert world.tunnels.count() == 0


async def test_a_reset_by_the_client_is_a_reset_to_the_upstream() -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def waiting(wire: Wire) -> None:
        try:
            await wire.reader.read(100)
            await wire.reader.read(100)
            ended.set_result("closed")
        except ConnectionResetError:
            ended.set_result("reset")

    async with beyond(waiting) as world:
        client = await open_tunnel(world, b"x")
        await asyncio.sleep(0.05)
        reset(client.writer.transport)
        async with asyncio.timeout(5):
            assert await ended == "reset"


async def test_one_way_may_end_before_the_other() -> None:
    async def late(wire: Wire) -> None:
        assert await wire.reader.read() == b"question"
        await wire.send(b"a" * 1_000_000)
        wire.writer.write_eof()

    async with beyond(late) as world:
        client = await open_tunnel(world, b"question")
        client.writer.write_eof()
        assert await client.rest() == b"a" * 1_000_000


async def test_a_client_that_takes_nothing_holds_the_upstream_back_and_is_let_go() -> None:
    async def flooding(wire: Wire) -> None:
        while True:
            await wire.send(b"a" * 65536)

    async with beyond(flooding, replace(SETTINGS, write_s=0.3)) as world:
        client = await world.client()
        client.reader._limit = 1  # type: ignore[attr-defined]  # else asyncio reads on by itself
        await client.send(GOOD)
        await asyncio.sleep(0.2)
        assert world.tunnels.count() == 1
        (tunnel,) = world.tunnels._open
        assert tunnel.client.transport.get_write_buffer_size() < 1 << 20
        for _ in range(500):
            if world.tunnels.count() == 0:
                break
            await asyncio.sleep(0.02)
        assert world.tunnels.count() == 0


async def test_a_flood_past_the_limit_is_ended_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.edge.tunnel.LINGER_S", 30.0)
    async with beyond() as world:
        held = [await open_tunnel(world) for _ in range(3)]
        turned_away = [await world.client() for _ in range(3)]
        for client in turned_away:
            assert (await client.answer())[0] == 503
        last = await world.client()
        assert await last.until_reset() == b""
        for client in held:
            await client.send(b"x")
            assert await client.reader.readexactly(1) == b"x"


async def test_closing_resets_what_is_open() -> None:
    async with beyond() as world:
        client = await open_tunnel(world)
        await world.tunnels.close()
        assert await client.until_reset() == b""


def test_a_reset_is_a_reset_on_uvloop_too() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_a_dead_link_resets_its_tunnels_at_both_ends_and_no_others())
        runner.run(test_a_reset_by_the_upstream_is_a_reset_to_the_client())
