"""Sockets that belong to one link: bound to it, and quick to notice that it is gone.

Law (links.md §6): every socket is bound before it connects, by device or by source address. It dies
when its data went unacknowledged for ``tcp_user_timeout_ms``, or after three unanswered keepalives
a second apart. On an idle standby of a metered link keepalives are 300 s apart: at 1 s one idle
connection costs 342 MB a month.

``dial`` is for tunnels, ``dial_socket`` for the MQTT library, which dials in a thread of its own.
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
from typing import Final, Protocol, TypeAlias

from aiohttp.abc import ResolveResult

from gateway.core.link import Link

HEADERS: Final = {socket.AF_INET: (52, 536), socket.AF_INET6: (72, 1220)}
"""IP and TCP with time stamps: what a packet has beside a segment's bytes; and the least segment
that every host must take (RFC 9293 section 3.7.1, RFC 8200 section 5)."""
KEEPALIVE_S: Final = 1
KEEPALIVE_IDLE_METERED_S: Final = 300
KEEPALIVE_PROBES: Final = 3
_IP_BIND_ADDRESS_NO_PORT: Final = 24
"""Linux: choose the port at connect, so that one source address serves more than 28 k sockets."""
_SO_BINDTODEVICE: Final = 25
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3

AddrInfo: TypeAlias = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str,
                            tuple[object, ...]]


def do_not_fragment(made: socket.socket, family: socket.AddressFamily) -> None:
    """Set DF on what ``made`` sends, and ignore what the kernel believes of the path's MTU.

    What is too long for the device itself fails with EMSGSIZE. On an IPv6 socket IPv4 counts too.
    """
    made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)


class Resolver(Protocol):
    """What resolves names on this link; raises OSError."""

    async def resolve(self, host: str, port: int = 0,
                      family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]: ...


class Dialler:
    """Makes sockets for ``link``; must be made inside the running loop.

    ``packet_cap`` is the most bytes of a packet on TCP sockets made from now on, both ways; None
    leaves it to the kernel. It is set where the link swallows large packets (MTU_HOLE).
    """

    def __init__(self, link: Link, resolver: Resolver) -> None:
        self._link, self._resolver = link, resolver
        self._loop = asyncio.get_running_loop()
        self.packet_cap: int | None = None

    def make_socket(self, info: AddrInfo) -> socket.socket:
        """Return a non-blocking socket for the address ``info``, bound to the link.

        Raises:
            OSError: the link's interface or address is gone, or is of the other family.
        """
        family = socket.AddressFamily(info[0])
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            made.setblocking(False)
            self._bind(made, family)
            self._tune(made, family)
        except OSError:
            made.close()
            raise
        return made

    def make_datagram_socket(self, family: socket.AddressFamily) -> socket.socket:
        """Return a non-blocking UDP socket bound to the link, whose packets are never cut up.

        Raises:
            OSError: as ``make_socket``.
        """
        made = socket.socket(family, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
        try:
            made.setblocking(False)
            self._bind(made, family)
            do_not_fragment(made, family)
        except OSError:
            made.close()
            raise
        return made

    async def addresses(self, host: str, port: int) -> list[ResolveResult]:
        """Return where ``host`` is, as this link's resolver says; raises OSError."""
        return await self._resolver.resolve(host, port)

    def _bind(self, made: socket.socket, family: socket.AddressFamily) -> None:
        link = self._link
        if link.interface:
            made.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, link.interface.encode() + b"\0")
        if not link.source:
            return
        if (":" in link.source) is not (family == socket.AF_INET6):
            raise OSError(errno.EADDRNOTAVAIL, "the link's source is of the other family")
        made.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        made.bind((link.source, 0))

    def _tune(self, made: socket.socket, family: socket.AddressFamily) -> None:
        tcp = socket.IPPROTO_TCP
        made.setsockopt(tcp, socket.TCP_NODELAY, 1)
        made.setsockopt(tcp, socket.TCP_USER_TIMEOUT, self._link.tcp_user_timeout_ms)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(tcp, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        made.setsockopt(tcp, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        made.setsockopt(tcp, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        if self.packet_cap is not None:  # before the connect: our SYN tells the peer to keep to it
            headers, least = HEADERS[family]
            made.setsockopt(tcp, socket.TCP_MAXSEG, max(least, self.packet_cap - headers))

    def rest(self, transport: asyncio.BaseTransport | None, idle: bool) -> None:
        """Space the keepalives for a pooled connection (``idle``) or for one at work."""
        used = transport.get_extra_info("socket") if transport and self._link.metered else None
        if used is None:
            return
        every = KEEPALIVE_IDLE_METERED_S if idle else KEEPALIVE_S
        with contextlib.suppress(OSError, ValueError):  # a closed socket (links.md §17)
            used.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, every)

    async def dial(self, host: str, port: int, timeout: float, tls: ssl.SSLContext | None = None,
                   ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to ``host:port`` and hand the connection over raw, or behind ``tls``.

        ``timeout`` seconds bound the name, the connection and the handshake together.

        Raises:
            OSError: no address answered (TimeoutError is one: it took too long), or the handshake
                failed (ssl.SSLError is one too).
        """
        async with asyncio.timeout(timeout):
            made = await self._connect(host, port, timeout)
            try:
                return await asyncio.open_connection(
                    sock=made, ssl=tls, server_hostname=host if tls else None)
            except BaseException:
                made.close()
                raise

    async def _connect(self, host: str, port: int, timeout: float) -> socket.socket:
        if not 0 < port < 65536:
            raise OSError(errno.EINVAL, "no such port")
        started = self._loop.time()
        results = await self._resolver.resolve(host, port)
        trouble: OSError = OSError(errno.EHOSTUNREACH, "no address")
        for number, each in enumerate(results):
            left = timeout - (self._loop.time() - started)
            try:
                return await self._try(each, port, left / (len(results) - number))
            except OSError as exc:
                trouble = exc
        raise trouble

    async def _try(self, each: ResolveResult, port: int, timeout: float) -> socket.socket:
        made = self.make_socket((each["family"], socket.SOCK_STREAM, 0, "", ()))
        try:
            async with asyncio.timeout(timeout):
                await self._loop.sock_connect(made, (each["host"], port))
        except BaseException:
            made.close()
            raise
        return made

    def dial_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """The same from another thread, blocking: a connected socket with ``timeout`` seconds set.

        Never call it on the loop's own thread: a name is looked up by the loop.

        Raises:
            OSError: no address answered in time.
        """
        if not 0 < port < 65536:
            raise OSError(errno.EINVAL, "no such port")
        trouble: OSError = OSError(errno.EHOSTUNREACH, "no address")
        for family, address in self._addresses(host, timeout):
            made = self.make_socket((family, socket.SOCK_STREAM, 0, "", ()))
            try:
                made.settimeout(timeout)
                made.connect((address, port))
            except OSError as exc:
                made.close()
                trouble = exc
            else:
                return made
        raise trouble

    def _addresses(self, host: str, timeout: float) -> list[tuple[int, str]]:
        with contextlib.suppress(ValueError):
            literal = ipaddress.ip_address(host.strip("[]"))
            return [(socket.AF_INET6 if literal.version == 6 else socket.AF_INET, str(literal))]
        asked = asyncio.run_coroutine_threadsafe(self._resolver.resolve(host, 0), self._loop)
        try:
            return [(each["family"], each["host"]) for each in asked.result(timeout)]
        except TimeoutError:
            asked.cancel()
            raise
