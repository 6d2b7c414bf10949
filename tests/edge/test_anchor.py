"""The anchor: what it answers, what it leaves unanswered, and what it remembers of that."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from gateway.core.echo import Question, origin, question_bytes, read_reply
from gateway.edge.anchor import A_SECOND, Anchor, Answerer, secrets_in
from gateway.errors import GatewayError

SECRET = b"s" * 32


def question(seq: int = 1, length: int = 36, run: bytes = b"run") -> bytes:
    return question_bytes(Question(origin("fibre", run), b"nonc", seq), SECRET, length)


def answerer(a_second: int = A_SECOND) -> Answerer:
    return Answerer((SECRET,), lambda: 0.0, a_second)


def test_a_question_is_answered_once_and_its_repetition_is_not() -> None:
    anchor = answerer()
    reply = anchor.answer(question(), "192.0.2.1")

    assert reply is not None
    assert read_reply(reply, question(), SECRET) is not None
    assert anchor.answer(question(), "192.0.2.1") is None
    assert (anchor.counters.answered, anchor.counters.repeated) == (1, 1)


def test_a_hundred_thousand_forgeries_leave_no_trace() -> None:
    anchor = answerer()
    forged = bytearray(question())
    for n in range(100_000):
        forged[16:20] = n.to_bytes(4)
        address = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
        assert anchor.answer(bytes(forged) if n % 2 else os.urandom(n % 80), address) is None

    assert anchor.remembered == 0
    assert anchor.counters.dropped == 100_000


def test_a_source_gets_so_many_replies_a_second_and_another_one_its_own() -> None:
    anchor = answerer(a_second=3)
    got = [anchor.answer(question(n), "192.0.2.1") is not None for n in range(1, 6)]

    assert got == [True, True, True, False, False]
    assert anchor.answer(question(6), "192.0.2.2") is not None
    assert anchor.answer(question(7), "2001:db8::1") is not None
    assert anchor.counters.limited == 2


def test_windows_and_sources_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.edge.anchor.ORIGINS_MAX", 10)
    monkeypatch.setattr("gateway.edge.anchor.SOURCES_MAX", 10)
    anchor = answerer()
    for n in range(50):
        assert anchor.answer(question(run=bytes([n])), f"192.0.2.{n}") is not None

    assert anchor.remembered == 20


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
async def test_datagrams_are_answered_from_where_they_were_sent_to(host: str) -> None:
    async with Anchor(host, 0, answerer()) as anchor:
        six = host == "::1"
        asked_at = {"0.0.0.0": "127.0.0.2", "::": "127.0.0.2"}.get(host, host)
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.setblocking(False)
            ours.bind(("::1" if six else "127.0.0.1", 0))
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(5):
                await loop.sock_sendto(ours, b"junk", (asked_at, anchor.port))
                await loop.sock_sendto(ours, question(1, 1200), (asked_at, anchor.port))
                reply, source = await loop.sock_recvfrom(ours, 2048)

        assert read_reply(reply, question(1, 1200), SECRET) is not None
        assert source[0] == asked_at


async def test_the_page_for_old_probes_is_exactly_the_expected_one() -> None:
    async with Anchor("127.0.0.1", 0, answerer(), http_port=0) as anchor:
        reader, writer = await asyncio.open_connection("127.0.0.1", anchor.http_port)
        writer.write(b"GET /echo HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(5):
            said = await reader.read()
        writer.close()

    assert said.endswith(b"\r\n\r\npractice-gateway anchor\n")


def test_a_short_or_missing_secret_is_refused_with_its_remedy(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("too short\n")

    with pytest.raises(GatewayError, match="keys anchor"):
        secrets_in([short])
    with pytest.raises(GatewayError, match="cannot be read"):
        secrets_in([tmp_path / "none"])


async def test_the_program_tells_its_port_and_stops_on_term_with_its_counts(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET + b"\n")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "anchor", "--listen", "127.0.0.1:0", "--secret",
        str(secret), "--json", stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        async with asyncio.timeout(20):
            port = json.loads(await child.stdout.readline())["udp"]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
                ours.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendto(ours, question(), ("127.0.0.1", port))
                assert read_reply(await loop.sock_recv(ours, 2048), question(), SECRET)
            child.send_signal(signal.SIGTERM)
            counted = json.loads(await child.stdout.readline())
            assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()

    assert counted["answered"] == 1
