"""CONNECT tunnels: a port of their own, the best link for each, and a prompt end for the dead.

A tunnel's bytes are nobody's to repeat, so all we can do for one on a dead link is to say so at
once: both ends get a reset, and the client's next tunnel takes the good link (links.md target 5;
in the field such clients hung for 15 minutes).
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.core.access import PROXY_FIELD, Tenant, credentials, identify
from gateway.core.fhir import JSON_TYPE, operation_outcome
from gateway.core.message import Headers, every
from gateway.core.wire import Refusal, is_authority

CHUNK_BYTES: Final = 1 << 16  # read at once, and held at most per direction beside the kernel's

LINGER_S: Final = 1.0  # for what a refused client still sends

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial: TypeAlias = Callable[
    [str, int, str], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter, str] | None]
]
"""``dial(host, port, tenant)`` opens a connection over the best link; None: no path, or refused."""


def reset(transport: asyncio.BaseTransport) -> None:
    """End ``transport`` with a TCP reset; ``abort`` alone sends FIN, which looks complete."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):  # closed: asyncio says OSError, uvloop both
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
    else:
        transport.close()


def listening_socket(address: str, port: int) -> socket.socket:
    """Return a bound TCP socket. ``::`` takes IPv4 too (asyncio by itself would not), and falls
    back to ``0.0.0.0`` on a machine without IPv6."""
    if address == "::" and not socket.has_dualstack_ipv6():
        address = "0.0.0.0"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server(
        (address, port), family=family, backlog=512, dualstack_ipv6=address == "::"
    )


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    """``[tunnel]`` of practice.toml. ``allow`` holds ``host:port`` in lower case.

    ``tls`` is the listener's TLS context, None for plain TCP.
    """

    address: str = "::"
    port: int = 0
    allow: frozenset[str] = frozenset()
    tunnels_max: int = 64
    line_bytes_max: int = 2048
    head_bytes_max: int = 16384
    head_s: float = 10.0
    write_s: float = 60.0
    tls: ssl.SSLContext | None = None


@dataclass(slots=True, eq=False)
class _Tunnel:
    link: str
    client: asyncio.StreamWriter
    upstream: asyncio.StreamWriter
    spoke: float  # the loop's time of the last byte either way

    def reset(self) -> None:
        reset(self.upstream.transport)
        reset(self.client.transport)


class Tunnels:
    """The CONNECT listener. ``dial`` chooses the link; we carry bytes and end what it lost."""

    def __init__(
        self, settings: TunnelSettings, tenants: Iterable[Tenant], dial: Dial
    ) -> None:
        self._settings = settings
        self._tenants = tuple(tenants)
        self._dial = dial
        self._open: set[_Tunnel] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._turned_away = 0
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen; ``port`` then tells where."""
        sock = listening_socket(self._settings.address, self._settings.port)
        self.port = sock.getsockname()[1]
        self._server = await asyncio.start_server(
            self._serve, sock=sock, limit=CHUNK_BYTES, ssl=self._settings.tls
        )

    async def close(self) -> None:
        """Stop listening and reset every tunnel."""
        if self._server is not None:
            self._server.close()
        for tunnel in tuple(self._open):
            tunnel.reset()
        for client in tuple(self._clients):
            reset(client.transport)

    def reset_link(self, link: str) -> int:
        """Reset all tunnels on ``link``, both ends; return how many there were."""
        lost = [tunnel for tunnel in self._open if tunnel.link == link]
        for tunnel in lost:
            tunnel.reset()
        return len(lost)

    def reset_idle(self, link: str, gap_s: float) -> int:
        """Reset the tunnels on ``link`` that carried nothing for ``gap_s``; return how many."""
        now = asyncio.get_running_loop().time()
        idle = [tunnel for tunnel in self._open
                if tunnel.link == link and now - tunnel.spoke >= gap_s]
        for tunnel in idle:
            tunnel.reset()
        return len(idle)

    def count(self, link: str | None = None) -> int:
        """How many tunnels stand open, on ``link`` or in all."""
        return sum(1 for tunnel in self._open if link in (None, tunnel.link))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= self._settings.tunnels_max:
            await self._turn_away(reader, writer)
            return
        self._clients.add(writer)
        try:
            await self._admit(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            reset(writer.transport)
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _turn_away(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Say that all are in use; under a flood, where even that would pile up, just end."""
        if self._turned_away >= self._settings.tunnels_max:
            reset(writer.transport)
            return
        self._turned_away += 1
        try:
            await self._say(reader, writer, BUSY)
        finally:
            self._turned_away -= 1

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await self._asked(reader, writer)
        if isinstance(asked, Refusal):
            await self._say(reader, writer, asked)
            return
        host, port, ods = asked
        dialled = await self._dial(host, port, ods)
        if dialled is None:
            await self._say(reader, writer, NO_PATH)
            return
        upstream_reader, upstream, link = dialled
        tunnel = _Tunnel(link, writer, upstream, asyncio.get_running_loop().time())
        self._open.add(tunnel)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self._carry(tunnel, (reader, writer), (upstream_reader, upstream))
        finally:
            self._open.discard(tunnel)
            upstream.close()

    async def _carry(self, tunnel: _Tunnel, client: Streams, upstream: Streams) -> None:
        """Carry both ways until both have ended; trouble on either side resets both."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(tunnel, client[0], upstream[1]))
                group.create_task(self._pump(tunnel, upstream[0], client[1]))
        except* (OSError, TimeoutError):
            tunnel.reset()

    async def _pump(self, tunnel: _Tunnel, reader: asyncio.StreamReader,
                    writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(CHUNK_BYTES):
            tunnel.spoke = loop.time()
            writer.write(data)
            async with asyncio.timeout(self._settings.write_s):
                await writer.drain()
        if writer.transport.is_closing():
            raise ConnectionResetError("the other end of the tunnel is gone")
        if writer.can_write_eof():
            writer.write_eof()
        else:  # TLS cannot be closed one way: its end is the tunnel's
            writer.close()

    async def _asked(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int, str] | Refusal:
        try:
            async with asyncio.timeout(self._settings.head_s):
                raw = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return Refusal(408, "timeout", "The request head took too long.")
        except asyncio.LimitOverrunError:
            return TOO_LARGE
        peer = writer.get_extra_info("peername")
        found = connect_head(raw, self._settings)
        if isinstance(found, Refusal):
            return found
        authority, headers = found
        if not every(headers, PROXY_FIELD):
            return UNKNOWN
        who = identify(self._tenants, None, credentials(headers, "", peer[0] if peer else ""))
        if isinstance(who, Refusal):
            return UNKNOWN
        if authority.lower() not in self._settings.allow:
            return Refusal(403, "forbidden", "That address is not on the list for tunnels.")
        host, _, port = authority.rpartition(":")
        return host.strip("[]"), int(port), who[0].ods

    async def _say(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refusal: Refusal
    ) -> None:
        """Answer, then take what still comes for a moment: bytes left unread at a close turn it
        into a reset, and the client's kernel throws the answer away."""
        body = operation_outcome(refusal.code, refusal.words)
        fields = (
            ("Content-Type", JSON_TYPE), ("Cache-Control", "no-store"),
            ("Content-Length", str(len(body))), ("Connection", "close"), *refusal.headers,
        )  # fmt: skip
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(f"HTTP/1.1 {refusal.status} \r\n{lines}\r\n".encode() + body)
            async with asyncio.timeout(self._settings.write_s):
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                while await reader.read(CHUNK_BYTES):
                    continue
        writer.close()


BUSY: Final = Refusal(
    503, "transient", "All tunnels are in use.", headers=(("Retry-After", "5"),)
)
NO_PATH: Final = Refusal(
    503, "transient", "No path to that address.", headers=(("Retry-After", "5"),)
)
UNKNOWN: Final = Refusal(
    407, "login", "A tunnel needs the practice's credential.",
    headers=(("Proxy-Authenticate", 'Basic realm="practice-gateway", charset="UTF-8"'),),
)  # fmt: skip
TOO_LARGE: Final = Refusal(431, "too-long", "The header fields are too large.")

_REQUEST_LINE: Final = re.compile(r"([A-Z]+) ([\x21-\x7e]+) HTTP/1\.[01]")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")


def connect_head(raw: bytes, settings: TunnelSettings) -> tuple[str, Headers] | Refusal:
    """Read the head of a CONNECT: (``host:port``, fields), or why not. Nothing lenient."""
    line, _, rest = raw.partition(b"\r\n")
    if len(line) > settings.line_bytes_max:
        return Refusal(414, "too-long", "The request line is too long.")
    if len(rest) > settings.head_bytes_max:
        return TOO_LARGE
    bad = Refusal(400, "invalid", "The request is not HTTP as we read it.")
    try:
        found = _REQUEST_LINE.fullmatch(line.decode("ascii"))
        fields = [_FIELD.fullmatch(text) for text in rest.decode("utf-8").split("\r\n")[:-2]]
    except UnicodeDecodeError:
        return bad
    if found is None or None in fields:
        return bad
    if found[1] != "CONNECT":
        return Refusal(405, "not-supported", "This port only opens tunnels.",
                       headers=(("Allow", "CONNECT"),))
    if not is_authority(found[2]) or not found[2].rpartition(":")[2].isdigit():
        return bad
    return found[2], tuple((each[1], each[2].rstrip(" \t")) for each in fields if each)
