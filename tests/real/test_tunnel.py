"""CONNECT through the daemon over user-space links: carried whole, refused rightly, never hanging.

Each link has a name server of its own that leads ``far.example`` through that link's relay, so one
``host:port`` goes different ways, as in a building. A cut relay is silent to the kernel, too: no
FIN, no RST, no acknowledgement.
"""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.rig.relay import Forward, Relay
from tests.kit.anchors import two_anchors
from tests.kit.door import Wire
from tests.kit.gateway import KEY, Site, free_port, link, tenant
from tests.kit.name_server import NameServer, name_server

GOOD: Final = base64.b64encode(b"B81001:" + KEY.encode())
WRONG: Final = base64.b64encode(b"B81001:wrong")


@dataclass
class Scene:
    """A daemon with a tunnel port, and the relay of each link."""

    site: Site
    tunnel: int
    target: bytes
    relays: dict[str, Relay]

    async def connect(self, credential: bytes = GOOD, more: bytes = b"",
                      target: bytes = b"") -> Wire:
        """Ask for a tunnel; ``more`` comes in the same segment as the head."""
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.tunnel))
        shown = b"Proxy-Authorization: Basic " + credential + b"\r\n" if credential else b""
        wanted = target or self.target
        await wire.send(b"CONNECT " + wanted + b" HTTP/1.1\r\nHost: " + wanted + b"\r\n" + shown
                        + b"\r\n" + more)
        return wire

    async def established(self, more: bytes = b"") -> Wire:
        """An open tunnel."""
        wire = await self.connect(more=more)
        assert (await wire.head()).startswith(b"HTTP/1.1 200 ")
        return wire


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back all that comes."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def scene(folder: Path, *links: str, user_timeout_ms: int = 1500) -> AsyncIterator[Scene]:
    """Links by name, most preferred first, each behind its relay and with its own name server."""
    async with contextlib.AsyncExitStack() as stack:
        far = await stack.enter_async_context(await asyncio.start_server(echo, "127.0.0.1", 0))
        anchors = await stack.enter_async_context(two_anchors())
        place, tunnel, port = far.sockets[0].getsockname(), free_port(), free_port()
        relays, tables = {}, []
        for number, name in enumerate(links, 1):
            doors = [Forward("far", place, (f"127.0.1.{number}", port)),
                     *(Forward(f"anchor-{n}", ("127.0.0.1", each))
                       for n, each in enumerate(anchors))]
            relay = relays[name] = await stack.enter_async_context(Relay(name, doors))
            names: NameServer = await stack.enter_async_context(
                name_server(far=[f"127.0.1.{number}"]))
            probed = (relay.ports["anchor-0"], relay.ports["anchor-1"])
            tables.append(link(name, number, probed, source=f"127.0.0.{number + 1}",
                               resolvers=[names.address], tcp_user_timeout_ms=user_timeout_ms))
        site = Site(folder, {
            "links": tables, "tenants": [tenant("B81001")],
            "tunnel": {"port": tunnel, "address": "127.0.0.1", "allow": [f"far.example:{port}"]},
            "upstreams": [{"id": "up", "tenants": ["B81001"], "pack": "fhir-r4",
                           "base_url": f"http://127.0.0.1:{anchors[0]}/base"}]})
        await stack.enter_async_context(site.running())
        yield Scene(site, tunnel, b"far.example:%d" % port, relays)


async def ended(wire: Wire, since: float) -> float:
    """Seconds from ``since`` until the tunnel's client is reset; an orderly end fails."""
    await wire.until_reset()
    return time.monotonic() - since


async def test_bytes_that_came_with_the_head_are_carried_and_all_that_follow(
    tmp_path: Path,
) -> None:
    data = bytes(range(256)) * 8192  # 2 MiB
    async with scene(tmp_path, "fibre", "sim") as there:
        wire = await there.established(more=b"with the head")
        assert await wire.reader.readexactly(13) == b"with the head"
        async with asyncio.TaskGroup() as group:
            group.create_task(wire.send(data))
            assert await wire.reader.readexactly(len(data)) == data
        wire.writer.write_eof()
        assert await wire.rest() == b""
        assert there.relays["fibre"].counts["far"].bytes_out == len(data) + 13
        assert there.relays["sim"].counts["far"].connections == 0


async def test_who_shows_no_credential_gets_407_and_no_connection(tmp_path: Path) -> None:
    async with scene(tmp_path, "fibre") as there:
        for credential, target, status in ((b"", b"", 407), (WRONG, b"", 407), (b"!", b"", 407),
                                           (GOOD, b"other.example:443", 403)):
            wire = await there.connect(credential, b"never to arrive", target)
            got, head, _ = await wire.answer()
            wire.close()
            assert got == status
            assert (b"Proxy-Authenticate: Basic" in head) == (status == 407)
        assert there.relays["fibre"].counts["far"].connections == 0
        log = there.site.log.read_bytes()
    assert KEY.encode() not in log


async def test_a_silent_cut_resets_the_tunnel_within_3_s_and_the_next_takes_the_other_link(
    tmp_path: Path,
) -> None:
    """The kernel alone would take the 4 s of TCP_USER_TIMEOUT: the verdict is quicker."""
    async with scene(tmp_path, "fibre", "sim", user_timeout_ms=4000) as there:
        wires = [await there.established(more=b"x") for _ in range(4)]
        for wire in wires:
            assert await wire.reader.readexactly(1) == b"x"
        await asyncio.sleep(0.4)
        there.relays["fibre"].cut()
        cut_at = time.monotonic()
        for wire in wires[:2]:  # the others say nothing
            await wire.send(b"into the void")
        took = [await ended(wire, cut_at) for wire in wires]
        after = await there.established(more=b"on")
        assert await after.reader.readexactly(2) == b"on"
        assert there.relays["sim"].counts["far"].connections == 1
        after.close()
    assert max(took) < 3.0, f"reset after {max(took):.2f} s"


async def test_on_the_only_link_a_silent_cut_resets_the_tunnel_within_5_s(tmp_path: Path) -> None:
    async with scene(tmp_path, "sim", user_timeout_ms=4000) as there:
        idle, busy = await there.established(more=b"x"), await there.established(more=b"x")
        for wire in (idle, busy):
            assert await wire.reader.readexactly(1) == b"x"
        there.relays["sim"].cut()
        cut_at = time.monotonic()
        await busy.send(b"into the void")
        async with asyncio.TaskGroup() as group:
            took = [group.create_task(ended(wire, cut_at)) for wire in (idle, busy)]
    figures = [each.result() for each in took]
    assert max(figures) < 5.0, f"reset after {figures}"
