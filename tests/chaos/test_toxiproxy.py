"""The Toxiproxy rig against the real server: each verb does what it says."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from chaos.rig.relay import Forward
from chaos.rig.toxiproxy import Toxiproxies, server_program, why_not
from chaos.weather import (
    Cut,
    DnsLie,
    Flap,
    Heal,
    Lose,
    Reset,
    Slow,
    SwallowReplies,
    UpstreamGone,
    UpstreamHung,
    Verb,
)

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"TOXIPROXY RIG NOT TESTED: {why_not()}")


class Upstream:
    """Echoes each line and counts the lines that it saw."""

    def __init__(self) -> None:
        self.seen = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.seen += 1
                writer.write(line)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def world() -> AsyncIterator[tuple[Toxiproxies, Upstream]]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    doors = [Forward("gpc", ("127.0.0.1", port)), Forward("echo", ("127.0.0.1", port))]
    async with server, Toxiproxies({"fibre": doors, "sim": doors}) as rig:
        yield rig, upstream


class Call:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, within: float = 2.0) -> bool:
        """Tell whether the echo came; an end of stream is False, silence a TimeoutError."""
        self.writer.write(b"hello\n")
        async with asyncio.timeout(within):
            await self.writer.drain()
            return await self.reader.readline() == b"hello\n"


async def dial(rig: Toxiproxies, link: str, door: str = "gpc") -> Call:
    return Call(*await asyncio.open_connection("127.0.0.1", rig.ports[link][door]))


async def _lives(call: Call) -> bool:
    try:
        return await call.ask()
    except ConnectionError:
        return False


async def test_a_cut_is_silence_on_one_link_until_healed() -> None:
    async with world() as (rig, upstream):
        fibre, sim = await dial(rig, "fibre"), await dial(rig, "sim")
        assert await fibre.ask()
        await rig.apply(Cut("fibre"))
        before = upstream.seen
        with pytest.raises(TimeoutError):
            await fibre.ask(0.3)
        new = await dial(rig, "fibre")
        with pytest.raises(TimeoutError):
            await new.ask(0.3)
        assert upstream.seen == before
        assert await sim.ask()
        await rig.apply(Heal("fibre"))
        assert await (await dial(rig, "fibre")).ask()


async def test_swallowed_replies_vanish_though_the_request_arrived() -> None:
    async with world() as (rig, upstream):
        call = await dial(rig, "fibre")
        await rig.apply(SwallowReplies("fibre"))
        with pytest.raises(TimeoutError):
            await call.ask(0.4)
        assert upstream.seen == 1


async def test_a_reset_ends_open_connections_and_refuses_new_ones() -> None:
    async with world() as (rig, _):
        call = await dial(rig, "fibre")
        assert await call.ask()
        await rig.apply(Reset("fibre"))
        assert not await _lives(call)
        with pytest.raises(ConnectionRefusedError):
            await dial(rig, "fibre")
        assert await (await dial(rig, "sim")).ask()
        await rig.apply(Heal("fibre"))
        assert await (await dial(rig, "fibre")).ask()


async def test_a_slow_link_takes_that_much_longer_each_way() -> None:
    async with world() as (rig, _):
        await rig.apply(Slow("fibre", 0.2))
        call = await dial(rig, "fibre")
        began = time.monotonic()
        assert await call.ask()
        assert time.monotonic() - began >= 0.38
        await rig.apply(Heal("fibre"))
        quick = await dial(rig, "fibre")
        assert await quick.ask()


async def test_a_gone_upstream_refuses_on_every_link_and_only_that_upstream() -> None:
    async with world() as (rig, _):
        await rig.apply(UpstreamGone("gpc"))
        for link in ("fibre", "sim"):
            with pytest.raises(ConnectionRefusedError):
                await dial(rig, link)
            assert await (await dial(rig, link, "echo")).ask()
        await rig.apply(UpstreamGone("gpc", gone=False))
        assert await (await dial(rig, "fibre")).ask()


async def test_a_hung_upstream_takes_requests_and_never_answers() -> None:
    async with world() as (rig, upstream):
        await rig.apply(UpstreamHung("gpc"))
        with pytest.raises(TimeoutError):
            await (await dial(rig, "sim")).ask(0.3)
        assert upstream.seen == 1
        await rig.apply(UpstreamHung("gpc", hung=False))
        assert await (await dial(rig, "sim")).ask()


async def test_a_flapping_link_goes_and_comes_until_healed() -> None:
    async with world() as (rig, _):
        await rig.apply(Flap("fibre", 0.4, 0.4))
        seen: set[bool] = set()
        until = time.monotonic() + 10.0
        while seen != {True, False} and time.monotonic() < until:
            try:
                seen.add(await (await dial(rig, "fibre")).ask(0.1))
            except (TimeoutError, ConnectionError):
                seen.add(False)
            await asyncio.sleep(0.05)
        await rig.apply(Heal("fibre"))
        assert seen == {True, False}
        assert await (await dial(rig, "fibre")).ask()


async def test_what_it_cannot_do_it_says_and_refuses() -> None:
    unknown: list[Verb] = [Lose("fibre", 0.1), DnsLie("fibre", ""), UpstreamGone("nobody")]
    async with world() as (rig, _):
        for verb in unknown:
            assert not rig.can(verb)
            with pytest.raises(ValueError, match=type(verb).__name__):
                await rig.apply(verb)
        with pytest.raises(KeyError):
            await rig.apply(Cut("satellite"))


async def test_leaving_ends_the_server() -> None:
    async with world() as (rig, _):
        ports = rig.ports
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", ports["fibre"]["gpc"])


def test_the_server_is_looked_for_in_tools_first(tmp_path: Path) -> None:
    program = tmp_path / ".tools" / "server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    assert server_program(tmp_path) == str(program)
    assert server_program(tmp_path / "nowhere") != str(program)
