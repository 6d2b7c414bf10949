"""The namespace rig against the real kernel: each verb does what it says, and nothing is left."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from chaos.rig.namespaces import LIAR, RUN_DIR, Namespaces, NeedsRoot, enter, sweep, visit, why_not
from chaos.weather import (
    Bursts,
    CaptivePortal,
    Cut,
    DnsLie,
    Flap,
    Heal,
    Intercept,
    Lose,
    MtuHole,
    OneWay,
    Reset,
    Slow,
    SwallowReplies,
    Unplug,
    UpstreamGone,
    UpstreamStatus,
    Verb,
)

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"NAMESPACE RIG NOT TESTED: {why_not()}")

ORIGIN = "10.77.100.1"
HEARD = [0]  # datagrams that reached the far side
DEVICES = {"fibre": "a", "sim": "b"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig() -> AsyncIterator[Namespaces]:
    async with Namespaces(upstreams={"gpc": ORIGIN}) as built:
        with visit(built.name("up")):
            listener = socket.create_server((ORIGIN, 8080), backlog=64)
            names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            names.bind(("10.77.100.53", 53))
        server = await asyncio.start_server(_shout, sock=listener)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(_Honest, sock=names)
        yield built
        server.close()


class _Honest(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        HEARD[0] += 1
        self._transport.sendto(b"honest", addr)


async def _shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while line := await reader.readline():
            writer.write(line.upper() * 10)
            await writer.drain()
    writer.close()


def _runs(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text("ascii")[:60]
    except FileNotFoundError:
        return False


def sh(*argv: str) -> str:
    return subprocess.run(argv, text=True, capture_output=True, check=True).stdout


class Call:
    """One TCP connection over one link, bound to its device as the gateway binds."""

    def __init__(self, rig: Namespaces, link: str) -> None:
        with visit(rig.name("edge")):
            self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE,
                               DEVICES[link].encode())
        self.socket.setblocking(False)

    async def dial(self, within: float = 2.0) -> "Call":
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(self.socket, (ORIGIN, 8080)), within)
        return self

    async def ask(self, within: float = 2.0) -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.socket, b"hello\n")
        got = b""
        async with asyncio.timeout(within):
            while len(got) < 60:
                more = await loop.sock_recv(self.socket, 4096)
                if not more:
                    break
                got += more
        return got


async def reaches(rig: Namespaces, link: str, within: float = 0.4) -> bool:
    call = Call(rig, link)
    try:
        await call.dial(within)
        return await call.ask(within) == b"HELLO\n" * 10
    except OSError:  # TimeoutError is one
        return False
    finally:
        call.socket.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_both_links_lead_to_the_upstream(rig: Namespaces) -> None:
    assert await reaches(rig, "fibre", 2.0)
    assert await reaches(rig, "sim", 2.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cut_is_silent_on_one_link_and_the_open_connection_lives_on(
        rig: Namespaces) -> None:
    call = await Call(rig, "fibre").dial()
    assert await call.ask() == b"HELLO\n" * 10
    await rig.apply(Cut("fibre"))
    try:
        with pytest.raises(TimeoutError):  # neither a reset nor an ICMP error, which are OSErrors
            await call.ask(0.5)
        assert not await reaches(rig, "fibre")
        assert await reaches(rig, "sim")
    finally:
        await rig.apply(Heal("fibre"))
    assert await call.ask(3.0) != b""  # retransmission brings the same connection back
    call.socket.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_reset_ends_open_connections_and_refuses_new_ones(rig: Namespaces) -> None:
    call = await Call(rig, "fibre").dial()
    await rig.apply(Reset("fibre"))
    try:
        with pytest.raises(ConnectionResetError):
            await call.ask()
        with pytest.raises(ConnectionRefusedError):
            await Call(rig, "fibre").dial()
        assert await reaches(rig, "sim")
    finally:
        await rig.apply(Heal("fibre"))
    assert await reaches(rig, "fibre")


@pytest.mark.asyncio(loop_scope="module")
async def test_one_way_loses_one_direction_only(rig: Namespaces) -> None:
    """A datagram reaches the far side while its answer is lost, or the far side hears nothing."""
    for lost, heard in (("down", 5), ("up", 0)):
        before = HEARD[0]
        await rig.apply(OneWay("fibre", "down" if lost == "down" else "up"))
        try:
            assert (await _pings(rig, 5))[1] == 0, lost
            assert HEARD[0] - before == heard, lost
        finally:
            await rig.apply(Heal("fibre"))
    assert await reaches(rig, "fibre", 3.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_swallowed_replies_vanish_though_the_request_arrived(rig: Namespaces) -> None:
    await rig.apply(SwallowReplies("fibre"))
    try:
        call = await Call(rig, "fibre").dial()  # the handshake passes
        with pytest.raises(TimeoutError):
            await call.ask(0.4)
        with visit(rig.name("edge")):
            unacked = call.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24]
        assert unacked == 0  # the upstream's kernel has the request
        call.socket.close()
    finally:
        await rig.apply(Heal("fibre"))


@pytest.mark.asyncio(loop_scope="module")
async def test_loss_loses_about_its_share(rig: Namespaces) -> None:
    await rig.apply(Lose("fibre", 0.5))
    try:
        sent, back = await _pings(rig, 200)
    finally:
        await rig.apply(Heal("fibre"))
    # Both ways at 0.5: a quarter returns. Binomial(200, 0.25) leaves 20..80 less than once in 10^6.
    assert sent == 200
    assert 20 <= back <= 80


async def _pings(rig: Namespaces, n: int, size: int = 1) -> tuple[int, int]:
    """Send ``n`` datagrams that the name server's address echoes; count those that come back."""
    loop = asyncio.get_running_loop()
    with visit(rig.name("edge")):
        asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"a")
    asker.setblocking(False)
    for _ in range(n):
        await loop.sock_sendto(asker, b"?" * size, ("10.77.100.53", 53))
        await asyncio.sleep(0.001)
    back = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while True:
                await loop.sock_recv(asker, 100)
                back += 1
    asker.close()
    return n, back


@pytest.mark.asyncio(loop_scope="module")
async def test_dead_dns_leaves_the_rest_of_the_link_alone(rig: Namespaces) -> None:
    assert (await _pings(rig, 5))[1] == 5
    await rig.apply(DnsLie("fibre", ""))
    try:
        assert (await _pings(rig, 5))[1] == 0
        assert await reaches(rig, "fibre")
    finally:
        await rig.apply(Heal("fibre"))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_portal_answers_what_was_meant_for_the_upstream(rig: Namespaces) -> None:
    await rig.apply(CaptivePortal("sim"))
    try:
        call = await Call(rig, "sim").dial()
        assert (await call.ask()).startswith(b"HTTP/1.1 200 OK")
        call.socket.close()
        assert await reaches(rig, "fibre")
    finally:
        await rig.apply(Heal("sim"))
    assert await reaches(rig, "sim")


async def _claim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"I am the clinical system".ljust(60))
    writer.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_an_interceptor_gets_the_connections_of_its_link_and_no_others(
        rig: Namespaces) -> None:
    with visit(rig.name("up")):
        listener = socket.create_server((LIAR, 8080))
    before = await Call(rig, "fibre").dial()
    async with await asyncio.start_server(_claim, sock=listener):
        await rig.apply(Intercept("fibre", LIAR))
        try:
            call = await Call(rig, "fibre").dial()
            assert (await call.ask()).startswith(b"I am the clinical system")
            call.socket.close()
            with pytest.raises(ConnectionResetError):
                await before.ask()
            assert await reaches(rig, "sim")
        finally:
            await rig.apply(Heal("fibre"))
            before.socket.close()
    assert await reaches(rig, "fibre")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_hole_swallows_what_is_larger_than_it_and_nothing_else(rig: Namespaces) -> None:
    await rig.apply(MtuHole("fibre", 1000))
    try:
        assert (await _pings(rig, 5, 972))[1] == 5  # and 28 bytes of heads
        assert (await _pings(rig, 5, 973))[1] == 0
        assert await reaches(rig, "sim")
    finally:
        await rig.apply(Heal("fibre"))
    assert (await _pings(rig, 5, 1400))[1] == 5


@pytest.mark.asyncio(loop_scope="module")
async def test_bursts_of_silence_end_with_the_heal(rig: Namespaces) -> None:
    await rig.apply(Bursts("fibre", a_minute=600.0, mean_s=0.3, seed=2))
    await asyncio.sleep(1.5)
    await rig.apply(Heal("fibre"))
    assert await reaches(rig, "fibre", within=2.0)
    await asyncio.sleep(0.5)
    assert await reaches(rig, "fibre")


@pytest.mark.asyncio(loop_scope="module")
async def test_an_unplugged_link_loses_its_carrier(rig: Namespaces) -> None:
    await rig.apply(Unplug("fibre"))
    try:
        with visit(rig.name("edge")):
            said = sh("ip", "-br", "link", "show", "dev", "a")
        assert "NO-CARRIER" in said
    finally:
        await rig.apply(Heal("fibre"))
    assert await reaches(rig, "fibre", 3.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_flapping_link_goes_and_comes_until_healed(rig: Namespaces) -> None:
    await rig.apply(Flap("fibre", 0.6, 0.6))
    seen: list[bool] = []
    until = time.monotonic() + 10.0
    while not {True, False} <= set(seen) and time.monotonic() < until:
        seen.append(await reaches(rig, "fibre", 0.1))
        await asyncio.sleep(0.1)
    await rig.apply(Heal("fibre"))
    assert set(seen) == {True, False}
    assert all([await reaches(rig, "fibre", 3.0) for _ in range(3)])


@pytest.mark.asyncio(loop_scope="module")
async def test_a_gone_upstream_refuses_over_both_links(rig: Namespaces) -> None:
    await rig.apply(UpstreamGone("gpc"))
    try:
        for link in DEVICES:
            with pytest.raises(ConnectionRefusedError):
                await Call(rig, link).dial()
    finally:
        await rig.apply(UpstreamGone("gpc", gone=False))
    assert await reaches(rig, "fibre")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_it_cannot_do_it_says_and_refuses(rig: Namespaces) -> None:
    unknown: list[Verb] = [UpstreamStatus("gpc", 503), UpstreamGone("nobody")]
    if not rig.can(Slow("fibre", 0.1)):
        unknown.append(Slow("fibre", 0.1))
    for verb in unknown:
        assert not rig.can(verb)
        with pytest.raises(ValueError, match=type(verb).__name__):
            await rig.apply(verb)
    with pytest.raises(KeyError):
        await rig.apply(Cut("satellite"))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_program_runs_inside_and_sees_only_that_place(rig: Namespaces) -> None:
    child = await asyncio.create_subprocess_exec(
        *rig.inside("wan_a", "ip", "-br", "-4", "addr"), stdout=subprocess.PIPE)
    out, _ = await child.communicate()
    assert b"10.77.1.1/24" in out
    assert b"10.77.2" not in out


async def test_leaving_removes_every_namespace() -> None:
    async with Namespaces() as short:
        made = [short.name(place) for place in ("edge", "wan_a", "wan_b", "up")]
        assert all((RUN_DIR / name).exists() for name in made)
    assert not any((RUN_DIR / name).exists() for name in made)


async def test_what_a_killed_run_left_is_swept_and_others_are_left_alone() -> None:
    code = ("import asyncio, os, signal\n"
            "from chaos.rig.namespaces import Namespaces\n"
            "async def main():\n"
            "    async with Namespaces() as rig:\n"
            "        left = await asyncio.create_subprocess_exec(\n"
            "            *rig.inside('up', 'sleep', '600'), stdout=asyncio.subprocess.DEVNULL)\n"
            "        await asyncio.sleep(0.2)\n"
            "        print(rig.name('edge'), left.pid, flush=True)\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "asyncio.run(main())\n")
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code,
                                                 stdout=subprocess.PIPE)
    said, _ = await child.communicate()
    orphan, pid = said.decode().split()
    stranger = f"pgx-{os.getpid()}-1-edge"
    sh("ip", "netns", "add", stranger)
    try:
        assert (RUN_DIR / orphan).exists()
        assert orphan in sweep()
        assert not (RUN_DIR / orphan).exists()
        assert not _runs(int(pid))
        assert (RUN_DIR / stranger).exists()
    finally:
        sh("ip", "netns", "del", stranger)


def test_entering_a_place_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        enter("pgw-0-0-nowhere")


async def test_without_root_it_refuses_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NeedsRoot, match="need root"):
        async with Namespaces():
            raise AssertionError("built without root")
