"""The relay against real sockets: each verb does to a connection what its line says."""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from chaos.rig.relay import PORTAL, SILENT, Forward, Relay, RelayRig
from chaos.weather import (
    Bursts,
    CaptivePortal,
    Cut,
    DnsLie,
    Flap,
    Heal,
    Lose,
    Reset,
    Slow,
    SwallowReplies,
    UpstreamStatus,
    Verb,
    bursts,
)

only_silent = pytest.mark.skipif(not SILENT, reason="packet filters on sockets are Linux's")


class Echo:
    """A server that sends back what it gets, and remembers all of it."""

    def __init__(self) -> None:
        self.heard = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    kept = Echo()
    server = await asyncio.start_server(kept.serve, "127.0.0.1", 0)
    kept.port = server.sockets[0].getsockname()[1]
    yield kept
    server.close()


@pytest.fixture
async def relay(echo: Echo) -> AsyncIterator[Relay]:
    async with Relay("fibre", [Forward("echo", ("127.0.0.1", echo.port))]) as made:
        yield made


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes,
              within_s: float = 5.0) -> bytes:
    writer.write(data)
    async with asyncio.timeout(within_s):
        return await reader.readexactly(len(data))


async def dial(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", relay.ports["echo"])


async def test_bytes_pass_both_ways_and_are_counted(relay: Relay) -> None:
    reader, writer = await dial(relay)
    data = bytes(range(256)) * 4096
    assert await ask(reader, writer, data) == data
    count = relay.counts["echo"]
    assert (count.connections, count.open) == (1, 1)
    assert (count.bytes_out, count.bytes_back) == (len(data), len(data))
    writer.close()


async def test_a_half_closed_connection_still_brings_the_rest_back(relay: Relay) -> None:
    reader, writer = await dial(relay)
    writer.write(b"all of it")
    writer.write_eof()
    async with asyncio.timeout(5):
        assert await reader.read() == b"all of it"
    writer.close()


async def test_a_cut_is_silence_and_what_was_sent_arrives_after_healing(
        relay: Relay, echo: Echo) -> None:
    reader, writer = await dial(relay)
    await ask(reader, writer, b"before")
    relay.cut()
    with pytest.raises(TimeoutError):
        await ask(reader, writer, b"during", within_s=0.3)
    assert echo.heard == b"before"
    assert not reader.at_eof()
    relay.heal()
    async with asyncio.timeout(5):
        assert await reader.readexactly(6) == b"during"
    writer.close()


@only_silent
async def test_a_cut_answers_no_handshake(relay: Relay) -> None:
    relay.cut()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await dial(relay)
    assert time.monotonic() - began >= 0.35


@only_silent
async def test_a_cut_acknowledges_nothing_so_user_timeout_ends_the_socket(relay: Relay) -> None:
    reader, writer = await dial(relay)
    await ask(reader, writer, b"before")
    writer.get_extra_info("socket").setsockopt(
        socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
    relay.cut()
    writer.write(b"during")
    with pytest.raises((TimeoutError, ConnectionError)) as ended:
        async with asyncio.timeout(6):
            await reader.readexactly(6)
    assert ended.value.errno is not None, "the kernel ended it, not our own patience"
    writer.close()


async def test_a_reset_ends_what_is_open_and_refuses_what_is_new(relay: Relay) -> None:
    reader, writer = await dial(relay)
    await ask(reader, writer, b"before")
    relay.reset()
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(2):
            await reader.readexactly(1)
    with pytest.raises(ConnectionRefusedError):
        await dial(relay)
    writer.close()
    port = relay.ports["echo"]
    relay.heal()
    assert relay.ports["echo"] == port
    again = await dial(relay)
    assert await ask(*again, b"after") == b"after"
    again[1].close()


async def test_a_slow_link_delays_each_way_without_throttling(relay: Relay) -> None:
    reader, writer = await dial(relay)
    await ask(reader, writer, b"warm")
    relay.slow(0.15)
    began = time.monotonic()
    await ask(reader, writer, b"ping")
    assert time.monotonic() - began >= 0.3
    began = time.monotonic()
    await ask(reader, writer, b"x" * 2_000_000, within_s=15)
    chunks = 2_000_000 / 65536
    assert time.monotonic() - began < chunks * 0.15, "each chunk waited for the one before"
    writer.close()


async def test_swallowed_replies_still_reach_the_upstream(relay: Relay, echo: Echo) -> None:
    reader, writer = await dial(relay)
    await ask(reader, writer, b"before")
    relay.swallow_replies()
    with pytest.raises(TimeoutError):
        await ask(reader, writer, b"booking", within_s=0.3)
    assert echo.heard == b"beforebooking"
    writer.close()


async def test_a_captive_portal_answers_for_everyone(relay: Relay, echo: Echo) -> None:
    relay.portal()
    reader, writer = await dial(relay)
    writer.write(b"GET /Slot HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        assert await reader.read() == PORTAL
    assert echo.heard == b""
    assert (relay.asked, relay.told) == (1, 0)
    writer.close()


@pytest.mark.parametrize(("head", "told"), [
    (b"GET /Slot HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n", 1),
    (b"GET /Slot HTTP/1.1\r\nSSP-From: 20", 1), (b"\x16\x03\x01\x00\xf5", 0)])
async def test_a_portal_counts_what_gives_a_client_away(
        relay: Relay, head: bytes, told: int) -> None:
    relay.portal()
    reader, writer = await dial(relay)
    writer.write(head)
    if writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(5):
        await reader.read()
    assert (relay.asked, relay.told) == (1, told)
    writer.close()


async def test_bursts_of_silence_come_and_go_until_healed(relay: Relay) -> None:
    relay.burst(Bursts("fibre", a_minute=600.0, mean_s=0.1, seed=1))
    reader, writer = await dial_patiently(relay)
    for _ in range(5):
        await ask(reader, writer, b"through the gaps")
        await asyncio.sleep(0.1)
    relay.heal()
    await asyncio.sleep(0.5)
    assert await ask(reader, writer, b"steady", within_s=2) == b"steady"
    writer.close()


def test_bursts_are_the_same_for_the_same_seed_and_as_long_and_many_as_said() -> None:
    verb = Bursts("fibre", a_minute=30.0, mean_s=0.2, seed=5)
    drawn = list(itertools.islice(bursts(verb), 2000))
    assert drawn == list(itertools.islice(bursts(verb), 2000))
    assert drawn != list(itertools.islice(bursts(replace(verb, seed=6)), 2000))
    assert sum(calm for calm, _ in drawn) / 2000 == pytest.approx(2.0, rel=0.1)
    assert sum(silent for _, silent in drawn) / 2000 == pytest.approx(0.2, rel=0.1)


async def test_flapping_goes_down_and_up_until_healed(relay: Relay) -> None:
    relay.flap(0.17, 0.2)  # a period of 0.4 s would be in step with TCP: 0.2, 0.6, 1.4
    reader, writer = await dial_patiently(relay)
    for _ in range(3):
        await ask(reader, writer, b"through the gaps")
        await asyncio.sleep(0.21)
    relay.heal()
    await asyncio.sleep(0.5)
    assert await ask(reader, writer, b"steady", within_s=2) == b"steady"
    writer.close()


async def dial_patiently(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(8):  # a SYN lost in a gap comes again after a second
        return await dial(relay)


@only_silent
async def test_loss_makes_the_kernel_send_again_and_everything_comes_through(
        relay: Relay) -> None:
    reader, writer = await dial(relay)
    await ask(reader, writer, b"warm")
    relay.lose(0.2)
    for n in range(30):
        message = b"%d." % n
        assert await ask(reader, writer, message, within_s=20) == message
    tcp_info = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    total_retransmits = int.from_bytes(tcp_info[100:104], "little")
    assert total_retransmits > 0
    writer.close()


async def test_an_unreachable_target_is_a_reset_and_harms_no_other_forward(echo: Echo) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = Forward("dead", ("127.0.0.1", nobody.getsockname()[1]))
        alive = Forward("echo", ("127.0.0.1", echo.port))
        async with Relay("fibre", [dead, alive]) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.ports["dead"])
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                async with asyncio.timeout(2):
                    await reader.readexactly(1)
            writer.close()
            other = await dial(relay)
            assert await ask(*other, b"fine") == b"fine"
            other[1].close()


@pytest.mark.parametrize("verb", [
    Cut("fibre"), Heal("fibre"), Reset("fibre"), Slow("fibre", 0.1), Flap("fibre", 1.0, 1.0),
    SwallowReplies("fibre"), CaptivePortal("fibre")])
async def test_the_rig_applies_what_it_says_it_can(relay: Relay, verb: Verb) -> None:
    rig = RelayRig([relay])
    assert rig.can(verb)
    await rig.apply(verb)
    assert relay.weather == verb


@pytest.mark.parametrize("verb", [
    Cut("sim"), DnsLie("fibre", ""), UpstreamStatus("gpc", 503), Lose("sim", 0.1)])
async def test_the_rig_refuses_what_is_not_its_own(relay: Relay, verb: Verb) -> None:
    rig = RelayRig([relay])
    assert not rig.can(verb)
    with pytest.raises(ValueError, match="cannot make"):
        await rig.apply(verb)


async def test_a_mistake_in_the_block_comes_out_as_it_is(echo: Echo) -> None:
    with pytest.raises(KeyError):  # noqa: PT012 - the block is what raises
        async with Relay("fibre", [Forward("echo", ("127.0.0.1", echo.port))]) as relay:
            _, writer = await dial(relay)
            writer.close()
            raise KeyError
