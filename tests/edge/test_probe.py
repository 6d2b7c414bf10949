"""Probes against real sockets: what answers rightly, wrongly, late, or not at all."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.link import Link, Probe
from gateway.edge.dial import Dialler
from gateway.edge.probe import REPLY_BYTES_MAX, LinkProber
from gateway.edge.resolver import LinkResolver
from tests.edge.test_http_out_tls import context
from tests.kit.out import LoopClock
from tests.kit.pki import issue, make_ca
from tests.kit.raw_origin import RawOrigin, Say, Then

ECHO = "practice-gateway anchor\n"


@contextlib.asynccontextmanager
async def probing(link: Link | None = None, timeout_s: float = 2.0) -> AsyncIterator[LinkProber]:
    link = link or Link("fibre", 1)
    resolver = LinkResolver(link, LoopClock(), lambda sample: None)
    try:
        yield LinkProber(link, Dialler(link, resolver), LoopClock(), timeout_s)
    finally:
        await resolver.close()


def probe(kind: str, port: int, host: str = "127.0.0.1", ca_file: str = "") -> Probe:
    assert kind in ("tcp", "tls", "http")
    return Probe("anchor", kind, f"{host}:{port}", "/echo", ECHO, ca_file)  # type: ignore[arg-type]


def answered(body: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", *lines)) + b"\r\n\r\n" + body


async def test_a_connection_is_a_tcp_probes_success_and_its_time_is_told() -> None:
    async with RawOrigin() as origin, probing() as prober:
        sample = await prober.ask(probe("tcp", origin.port, "localhost"))

        assert (sample.link, sample.target, sample.layer) == ("fibre", "anchor", "connect")
        assert sample.ok
        assert sample.anchor
        assert sample.rtt_ms is not None
        assert sample.rtt_ms == pytest.approx((sample.at - sample.sent_at) * 1000)


@pytest.mark.parametrize(("raw", "then"), [
    (answered(ECHO.encode()), "close"),
    (answered(ECHO.encode(), b"Content-Length: 24"), "hang"),
    (answered(ECHO.encode(), b"content-length:24", b"Server: x"), "close"),
    (b"HTTP/1.0 200\r\n\r\n" + ECHO.encode(), "close"),
])
async def test_exactly_the_expected_body_is_an_http_probes_success(raw: bytes, then: Then) -> None:
    async with RawOrigin(lambda seen: Say(raw, then)) as origin, probing() as prober:
        sample = await prober.ask(probe("http", origin.port))

        assert sample.ok, sample
        assert sample.layer == "http"
        assert origin.seen[0].line == b"GET /echo HTTP/1.0"


@pytest.mark.parametrize(("raw", "detail"), [
    (answered(b"<html>Pay for your SIM</html>"), "not_the_api"),
    (answered(ECHO.encode() + b"x"), "not_the_api"),
    (answered(ECHO.encode()[:-1]), "not_the_api"),
    (answered(ECHO.encode() + b"more", b"Content-Length: 24"), "not_the_api"),
    (answered(b""), "not_the_api"),
    (b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n" + ECHO.encode(), "not_the_api"),
    (b"HTTP/1.1 2000 OK\r\n\r\n" + ECHO.encode(), "not_the_api"),
    (answered(b"y" * (REPLY_BYTES_MAX + 1)), "not_the_api"),
    (b"", "reset"),
    (b"HTTP/1.1 200 OK\r\n", "reset"),
])
async def test_anything_else_is_a_miss(raw: bytes, detail: str) -> None:
    """A portal answers 200 to everything."""
    async with RawOrigin(lambda seen: Say(raw, "close")) as origin, probing() as prober:
        sample = await prober.ask(probe("http", origin.port))

        assert not sample.ok
        assert sample.anchor
        assert sample.detail == detail


async def test_silence_is_a_miss_dated_when_the_answer_was_due() -> None:
    async with RawOrigin(lambda seen: Say(b"", "hang")) as origin, probing(
            timeout_s=0.2) as prober:
        sample = await prober.ask(probe("http", origin.port))

        assert (sample.ok, sample.detail, sample.rtt_ms) == (False, "timeout", None)
        assert sample.at == pytest.approx(sample.sent_at + 0.2)
        for _ in range(200):
            if origin.open_now == 0:
                break
            await asyncio.sleep(0.01)
        assert origin.open_now == 0


async def test_a_refusal_is_a_miss_that_was_heard_and_a_name_unknown_one_that_was_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with probing() as prober:
            refused = await prober.ask(probe("tcp", taken.getsockname()[1]))
            unknown = await prober.ask(probe("tcp", 80, "no-such-name.invalid"))

    assert (refused.ok, refused.detail) == (False, "connect")
    assert refused.rtt_ms is not None
    assert (unknown.ok, unknown.rtt_ms) == (False, None)


async def test_a_tls_probe_is_a_verified_handshake(tmp_path: Path) -> None:
    ca, stranger = make_ca(tmp_path, "ours"), make_ca(tmp_path, "theirs")
    async with RawOrigin(tls=context(issue(ca, "broker"))) as origin, \
            RawOrigin() as plain:
        async with probing() as prober:
            good = await prober.ask(probe("tls", origin.port, ca_file=str(ca.cert)))
            bad = await prober.ask(probe("tls", origin.port, ca_file=str(stranger.cert)))
            name = await prober.ask(probe("tls", origin.port, "127.0.0.2", str(ca.cert)))
        async with probing(timeout_s=0.3) as prober:
            mute = await prober.ask(probe("tls", plain.port, ca_file=str(ca.cert)))

    assert (good.ok, good.layer) == (True, "tls")
    assert (bad.ok, bad.detail) == (False, "certificate")
    assert not name.ok
    assert (mute.ok, mute.detail) == (False, "timeout")


@pytest.mark.parametrize("target", ["", "host", "host:", ":1", "::1:80", "a:b:1", "[::1]:99999",
                                    "host:0x1"])
async def test_a_target_that_is_no_host_and_port_is_a_miss_and_no_crash(target: str) -> None:
    async with probing(timeout_s=0.5) as prober:
        assert not (await prober.ask(Probe("anchor", "tcp", target))).ok


async def test_an_ipv6_target_is_written_in_brackets() -> None:
    async with RawOrigin(host="::1") as origin, probing() as prober:
        assert (await prober.ask(Probe("anchor", "tcp", f"[::1]:{origin.port}"))).ok


async def test_a_probe_leaves_over_its_own_link_and_a_link_that_is_gone_is_a_miss() -> None:
    async with RawOrigin() as origin:
        async with probing(Link("fibre", 1, source="127.0.0.6")) as prober:
            assert (await prober.ask(probe("tcp", origin.port))).ok
        assert origin.peers == ["127.0.0.6"]
        async with probing(Link("gone", 1, interface="no-such-dev")) as prober:
            assert not (await prober.ask(probe("tcp", origin.port))).ok
