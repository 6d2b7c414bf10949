"""Echoes against the real anchor over loopback: believed, forged, late, lost, and over TLS."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

from gateway.core.echo import DATAGRAM_BYTES_MAX, LADDER
from gateway.core.link import Link, Probe, Sample
from gateway.edge.anchor import Anchor, Answerer, server_tls
from gateway.edge.dial import Dialler
from gateway.edge.probe import LinkProber
from gateway.edge.resolver import LinkResolver
from tests.kit.out import LoopClock
from tests.kit.pki import issue, make_ca

SECRET = b"s" * 32


@contextlib.asynccontextmanager
async def echoing(tmp_path: Path, port: int, timeout_s: float = 5.0, secret: bytes = SECRET,
                  late: Callable[[Sample], None] = lambda sample: None, tls_port: int = 0,
                  ca_file: str = "", source: str = "127.0.0.1",
                  ) -> AsyncIterator[tuple[LinkProber, Probe]]:
    file = tmp_path / "secret"
    file.write_bytes(secret + b"\n")
    probe = Probe("anchor", "echo", f"127.0.0.1:{port}", ca_file=ca_file, secret=str(file),
                  tls_target=f"localhost:{tls_port}" if tls_port else "")
    link = Link("fibre", 1, source=source, probes=(probe,))
    resolver = LinkResolver(link, LoopClock(), lambda sample: None)
    prober = LinkProber(link, Dialler(link, resolver), LoopClock(), timeout_s, late)
    try:
        yield prober, probe
    finally:
        prober.close()
        await resolver.close()


def answerer(secret: bytes = SECRET) -> Answerer:
    return Answerer((secret,), lambda: 0.0)


class Relay(asyncio.DatagramProtocol):
    """Stands where the anchor should be; ``fate`` turns a question into answers with delays."""

    def __init__(self, fate: Callable[[bytes], list[tuple[float, bytes]]]) -> None:
        self._fate = fate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # On 3.11 asyncio's own datagram transport is no subclass of DatagramTransport.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for delay_s, answer in self._fate(data):
            asyncio.get_running_loop().call_later(delay_s, self._transport.sendto, answer, addr)


@contextlib.asynccontextmanager
async def relaying(fate: Callable[[bytes], list[tuple[float, bytes]]]) -> AsyncIterator[int]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Relay(fate), local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def test_our_anchors_reply_is_a_numbered_success_of_layer_echo(tmp_path: Path) -> None:
    async with Anchor("127.0.0.1", 0, answerer()) as anchor, \
            echoing(tmp_path, anchor.port) as (prober, probe):
        samples = [await prober.ask(probe) for _ in range(3)]

        assert [(each.layer, each.ok, each.seq, each.anchor) for each in samples] == [
            ("echo", True, n, True) for n in (1, 2, 3)]
        assert all(each.rtt_ms is not None and each.rtt_ms < 5000 for each in samples)
        assert prober.losses()["anchor"].sent == 3
        assert prober.losses()["anchor"].up == 0


async def test_silence_and_a_wrong_secret_are_a_miss_dated_when_it_was_due(tmp_path: Path) -> None:
    other = answerer(b"o" * 32)
    async with Anchor("127.0.0.1", 0, other) as anchor, \
            echoing(tmp_path, anchor.port, timeout_s=0.2) as (prober, probe):
        sample = await prober.ask(probe)

        assert (sample.ok, sample.layer, sample.detail) == (False, "echo", "timeout")
        assert sample.at - sample.sent_at <= 0.2 + 1e-6
        assert other.counters.dropped == 1


async def test_whoever_answers_without_the_secret_is_told_as_forged(tmp_path: Path) -> None:
    liar = answerer(b"o" * 32)
    old: list[bytes] = []

    def repeat(data: bytes) -> list[tuple[float, bytes]]:
        """The true answer to the first question, again and again."""
        if not old:
            old.append(answerer().answer(data, "127.0.0.1") or b"")
        return [(0.0, old[0])]

    portals: list[Callable[[bytes], list[tuple[float, bytes]]]] = [
        lambda data: [(0.0, b"HTTP/1.1 200 OK\r\n\r\nPay for your SIM")],
        lambda data: [(0.0, data)],
        lambda data: [(0.0, b"\0")],
        lambda data: [(0.0, b"x" * (DATAGRAM_BYTES_MAX + 40))],
        lambda data: [(0.0, (answerer().answer(data, "127.0.0.1") or b"")[:-1] + b"\xff")],
        lambda data: [(0.0, (answerer().answer(data, "127.0.0.1") or b"")[:20])],
    ]
    assert liar.answer(b"", "127.0.0.1") is None
    for portal in portals:
        async with relaying(portal) as port, \
                echoing(tmp_path, port, timeout_s=0.3) as (prober, probe):
            sample = await prober.ask(probe)
            assert (sample.ok, sample.detail) == (False, "forged")
    async with relaying(repeat) as port, echoing(tmp_path, port, timeout_s=0.3) as (prober, probe):
        assert (await prober.ask(probe)).ok
        assert not (await prober.ask(probe)).ok


async def test_junk_before_the_true_answer_changes_nothing(tmp_path: Path) -> None:
    ours = answerer()

    def noisy(data: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, b"junk"), (0.05, ours.answer(data, "127.0.0.1") or b"")]

    async with relaying(noisy) as port, echoing(tmp_path, port) as (prober, probe):
        assert (await prober.ask(probe)).ok


async def test_a_late_reply_is_told_and_is_no_loss(tmp_path: Path) -> None:
    ours, late = answerer(), list[Sample]()
    seen = asyncio.Event()

    def told(sample: Sample) -> None:
        late.append(sample)
        seen.set()

    def slow(data: bytes) -> list[tuple[float, bytes]]:
        return [(0.5, ours.answer(data, "127.0.0.1") or b"")]

    async with relaying(slow) as port, \
            echoing(tmp_path, port, timeout_s=0.1, late=told) as (prober, probe):
        assert not (await prober.ask(probe)).ok
        async with asyncio.timeout(5):
            await seen.wait()

        assert late[0].ok
        assert late[0].rtt_ms is not None
        assert late[0].rtt_ms > 400
        assert (prober.losses()["anchor"].up, prober.losses()["anchor"].down) == (0, 0)


async def test_each_loss_is_told_by_its_way(tmp_path: Path) -> None:
    ours, count = answerer(), iter(range(100))

    def lossy(data: bytes) -> list[tuple[float, bytes]]:
        number = next(count)
        if number == 1:
            return []  # lost up
        reply = ours.answer(data, "127.0.0.1") or b""
        return [] if number in (2, 3) else [(0.0, reply)]

    async with relaying(lossy) as port, echoing(tmp_path, port, timeout_s=0.2) as (prober, probe):
        for _ in range(5):
            await prober.ask(probe)
        found = prober.losses()["anchor"]

    assert (found.sent, found.up, found.down, found.untold) == (5, 1, 2, 0)


async def test_the_ladder_tells_each_rung_and_tries_three_times(tmp_path: Path) -> None:
    ours, heard = answerer(), list[int]()

    def hole(data: bytes) -> list[tuple[float, bytes]]:
        heard.append(len(data) + 28)
        reply = ours.answer(data, "127.0.0.1") or b""
        return [(0.0, reply)] if len(data) + 28 < 1400 else []

    async with relaying(hole) as port, echoing(tmp_path, port, timeout_s=0.3) as (prober, probe):
        rungs = await prober.ladder(probe, LADDER)

        assert [(rung.layer, rung.size, rung.ok) for rung in rungs] == [
            ("size", 64, True), ("size", 1200, True), ("size", 1400, False), ("size", 1472, False),
            ("size", 1500, False)]
        assert sorted(heard) == [64, 1200, *[1400] * 3, *[1472] * 3, *[1500] * 3]
        assert await prober.ladder(Probe("broker", "tcp", "127.0.0.1:1"), LADDER) == ()


async def test_the_socket_is_opened_anew_after_misses(tmp_path: Path) -> None:
    ours, ports = answerer(), set[int]()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anchor:
        anchor.bind(("127.0.0.1", 0))
        anchor.setblocking(False)
        async with echoing(tmp_path, anchor.getsockname()[1], timeout_s=0.1) as (prober, probe):
            for _ in range(5):
                await prober.ask(probe)
                _, source = anchor.recvfrom(2048)
                ports.add(source[1])
    assert ours.counters.answered == 0
    assert len(ports) == 2


async def test_without_its_address_the_link_misses_and_comes_back_with_it(tmp_path: Path) -> None:
    async with Anchor("127.0.0.1", 0, answerer()) as anchor, \
            echoing(tmp_path, anchor.port, 0.3, source="203.0.113.9") as (prober, probe):
        sample = await prober.ask(probe)

        assert (sample.ok, sample.detail) == (False, "connect")


async def test_where_datagrams_are_filtered_the_same_goes_over_tls(tmp_path: Path) -> None:
    ca = make_ca(tmp_path)
    leaf = issue(ca, "localhost")
    tls = server_tls(leaf.cert, leaf.key)
    async with relaying(lambda data: []) as port, \
            Anchor("127.0.0.1", 0, answerer(), 0, tls) as anchor, \
            echoing(tmp_path, port, 0.5, tls_port=anchor.tls_port,
                    ca_file=str(ca.cert)) as (prober, probe):
        samples = [await prober.ask(probe) for _ in range(6)]

        assert [each.ok for each in samples] == [False, False, False, True, True, True]
        assert {each.layer for each in samples} == {"echo"}
