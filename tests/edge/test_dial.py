"""Sockets of one link: bound before they connect, and quick to notice that it is gone."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.core.link import Link
from gateway.edge.dial import KEEPALIVE_IDLE_METERED_S, Dialler
from gateway.edge.resolver import LinkResolver
from tests.kit.out import LoopClock
from tests.kit.raw_origin import OK, RawOrigin

IPV4 = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
IPV6 = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", 1))


@contextlib.asynccontextmanager
async def dialling(link: Link) -> AsyncIterator[Dialler]:
    resolver = LinkResolver(link, LoopClock(), lambda sample: None)
    try:
        yield Dialler(link, resolver)
    finally:
        await resolver.close()


async def test_a_socket_notices_a_dead_path_as_its_link_says() -> None:
    async with dialling(Link("4g", 2, tcp_user_timeout_ms=4000)) as dialler:
        with dialler.make_socket(IPV4) as made:
            tcp = socket.IPPROTO_TCP
            assert made.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 4000
            assert made.getsockopt(tcp, socket.TCP_NODELAY)
            assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert [made.getsockopt(tcp, option) for option in (
                socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)] == [1, 1, 3]


@pytest.mark.parametrize(("info", "cap", "segment"), [
    (IPV4, 1400, 1348), (IPV6, 1400, 1328), (IPV4, 64, 536), (IPV6, 64, 1220)])
async def test_packets_stay_below_a_cap_whatever_the_family(
        info: tuple[socket.AddressFamily, int, int, str, tuple[str, int]], cap: int,
        segment: int) -> None:
    async with dialling(Link("fibre", 1)) as dialler:
        dialler.packet_cap = cap
        with dialler.make_socket(info) as made:
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) == segment


async def test_a_socket_is_bound_to_the_interface() -> None:
    async with dialling(Link("fibre", 1, interface="lo")) as dialler:
        with dialler.make_socket(IPV4) as made:
            assert made.getsockopt(socket.SOL_SOCKET, 25, 16).rstrip(b"\0") == b"lo"


async def test_an_interface_or_source_that_is_not_there_is_an_os_error() -> None:
    for link in (Link("gone", 1, interface="no-such-dev"), Link("gone", 1, source="192.0.2.1")):
        async with dialling(link) as dialler:
            with pytest.raises(OSError):
                dialler.make_socket(IPV4)


async def test_a_source_of_the_other_family_never_leaves_unbound() -> None:
    async with dialling(Link("fibre", 1, source="127.0.0.9")) as dialler:
        with pytest.raises(OSError, match="other family"):
            dialler.make_socket(IPV6)
    async with dialling(Link("fibre", 1, source="::1")) as dialler:
        with pytest.raises(OSError, match="other family"):
            dialler.make_socket(IPV4)
        with dialler.make_socket(IPV6) as made:
            assert made.getsockname()[0] == "::1"


async def test_keepalives_are_spaced_on_an_idle_standby_of_a_metered_link_only() -> None:
    async with RawOrigin() as origin:
        for metered, idle_s in ((True, KEEPALIVE_IDLE_METERED_S), (False, 1)):
            async with dialling(Link("4g", 2, metered=metered)) as dialler:
                _, writer = await dialler.dial("127.0.0.1", origin.port, 2.0)
                used = writer.get_extra_info("socket")
                dialler.rest(writer.transport, idle=True)
                assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle_s
                dialler.rest(writer.transport, idle=False)
                assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 1
                writer.close()
                await writer.wait_closed()
                dialler.rest(writer.transport, idle=True)  # closed: nothing happens


async def test_dialling_tries_each_address_of_a_name_and_says_when_none_answers() -> None:
    async with RawOrigin(host="127.0.0.1") as origin, dialling(Link("fibre", 1)) as dialler:
        _, writer = await dialler.dial("localhost", origin.port, 2.0)
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()
        with pytest.raises(OSError):
            await dialler.dial("localhost", 1, 1.0)
        with pytest.raises(OSError):
            await dialler.dial("no-such-name.invalid", 80, 3.0)


async def test_dialling_a_path_that_swallows_everything_ends_in_time() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):  # a full backlog: the kernel drops the SYN
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with dialling(Link("fibre", 1)) as dialler:
            port = full.getsockname()[1]
            started = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError):
                await dialler.dial("127.0.0.1", port, 0.3)
            assert asyncio.get_running_loop().time() - started < 3.0
            with pytest.raises(OSError):
                await asyncio.to_thread(dialler.dial_socket, "127.0.0.1", port, 0.2)


async def test_another_thread_gets_a_blocking_socket_with_its_timeout() -> None:
    async with RawOrigin() as origin, dialling(Link("fibre", 1, source="127.0.0.5")) as dialler:
        for host in ("localhost", "127.0.0.1"):
            used = await asyncio.to_thread(dialler.dial_socket, host, origin.port, 2.0)
            with used:
                assert used.gettimeout() == 2.0
                await asyncio.to_thread(used.sendall, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert await asyncio.to_thread(used.recv, 4096) == OK
        assert set(origin.peers) == {"127.0.0.5"}
        with pytest.raises(OSError):
            await asyncio.to_thread(dialler.dial_socket, "no-such-name.invalid", 80, 3.0)
