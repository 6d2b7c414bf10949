"""The gate on a real kernel: a path that is cut under a request, and an upstream that is slow."""

import asyncio
import socket
import subprocess
import sys
import time

import pytest

from chaos.rig.namespaces import Namespaces, visit, why_not
from chaos.weather import Cut
from gateway.core.gate import Progress
from gateway.core.link import Link, Sample
from gateway.core.message import Arrived
from gateway.edge.gate import tcp_info
from gateway.edge.http_out import UpstreamAt
from tests.kit.out import asking, sending, until

ORIGIN = "10.77.100.1"
FIBRE_A = Link("fibre", 1, interface="a", tcp_user_timeout_ms=2000)


@pytest.mark.skipif(bool(why_not()), reason=f"GATE ON A CUT LINK NOT TESTED: {why_not()}")
async def test_bytes_into_a_cut_link_fire_it_and_those_to_a_slow_upstream_do_not() -> None:
    heard: list[tuple[float, Progress]] = []
    seen: list[Sample] = []
    async with Namespaces() as rig:
        origin = await asyncio.create_subprocess_exec(
            *rig.inside("up", sys.executable, "-m", "tests.real.slow_origin", ORIGIN, "8080",
                        "0.4"), stdout=subprocess.PIPE)
        try:
            assert origin.stdout is not None
            assert await origin.stdout.readline() == b"listening\n"
            with visit(rig.name("edge")):
                at = UpstreamAt("gpc", f"http://{ORIGIN}:8080")
                async with sending(at, link=FIBRE_A, seen=seen, acks=True) as sender:
                    outcome = await sender.send(asking("/Patient/1"),
                                                lambda told: heard.append((0.0, told)))
                    assert isinstance(outcome, Arrived)
                    assert [told for _, told in heard] == ["acked"]
                    heard.clear()

                    await rig.apply(Cut("fibre"))
                    began = time.monotonic()
                    send = asyncio.ensure_future(sender.send(
                        asking("/Patient/2", patience_s=3.0),
                        lambda told: heard.append((time.monotonic() - began, told))))
                    await until(lambda: heard, 2.0)
                    send.cancel()
                    await asyncio.gather(send, return_exceptions=True)
        finally:
            origin.kill()
            await origin.wait()
    after_s, told = heard[0]
    assert told == "unacked"
    assert 0.05 < after_s < 0.5
    acks = [(each.ok, each.detail) for each in seen if each.layer == "ack"]
    assert acks == [(True, "acked"), (False, "unacked")]


def test_a_socket_that_is_gone_tells_nothing() -> None:
    with socket.socket() as used:
        info = tcp_info(used)
    assert info is not None
    assert not info.is_outstanding
    assert tcp_info(used) is None


async def test_nothing_is_watched_any_more_once_a_send_has_ended() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sending(UpstreamAt("gpc", f"http://127.0.0.1:{port}")) as sender:
        for _ in range(120):
            await sender.send(asking())
        assert not sender.gates._sends
        assert sender.gates._timer is None
        assert 0.06 <= sender.gates.wait_s("gpc") < 0.4
