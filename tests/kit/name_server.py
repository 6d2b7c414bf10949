"""A name server on a loopback UDP port: it answers, lies, is slow or dead, and remembers.

It speaks just enough of RFC 1035 for A and AAAA questions. ``names`` maps a name to addresses;
a name that is not there does not exist (NXDOMAIN).
"""

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

A, AAAA = 1, 28


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Its mood may be changed while it runs."""

    names: dict[str, list[str]] = field(default_factory=dict)
    ttl_s: int = 60
    dead: bool = False
    slow_s: float = 0.0
    asked: list[tuple[str, int]] = field(default_factory=list)
    port: int = 0
    transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, kind, end = _question(data)
        self.asked.append((name, kind))
        if self.dead:
            return
        reply = self._reply(data, name, kind, end)
        if self.transport is not None:
            asyncio.get_running_loop().call_later(self.slow_s, self.transport.sendto, reply, addr)

    def _reply(self, data: bytes, name: str, kind: int, end: int) -> bytes:
        addresses = self.names.get(name)
        packed = [ipaddress.ip_address(each).packed for each in addresses or ()]
        wanted = [each for each in packed if len(each) == (4 if kind == A else 16)]
        code = 3 if addresses is None else 0
        head = data[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(wanted), 0, 0)
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, self.ttl_s, len(each))
                           + each for each in wanted)
        return head + data[12:end] + records


def _question(data: bytes) -> tuple[str, int, int]:
    """Return the name, the kind asked for, and where the question ends."""
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1:at + 1 + data[at]].decode().lower())
        at += 1 + data[at]
    return ".".join(labels), struct.unpack_from(">H", data, at + 1)[0], at + 5


@contextlib.asynccontextmanager
async def name_server(**names: list[str]) -> AsyncIterator[NameServer]:
    """Serve ``names`` under ``.example`` on a free port."""
    server = NameServer({f"{name}.example": addresses for name, addresses in names.items()})
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, local_addr=("127.0.0.1", 0))
    server.transport = transport
    server.port = transport.get_extra_info("sockname")[1]
    try:
        yield server
    finally:
        transport.close()
