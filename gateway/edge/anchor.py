"""The anchor: answers signed echoes by UDP, and over TLS where datagrams are filtered.

Law: what is not signed with one of our secrets is counted and dropped, and leaves nothing behind:
state exists for signed questions only, ``ORIGINS_MAX`` windows and ``SOURCES_MAX`` rate counters,
the least used going first. A reply is as long as its question, leaves from the address that was
asked (an anchor may have several) and with DF set, so that the ladder tells of both ways. No
address is ever logged or shown.

The rate limit counts signed questions alone: if forged ones counted, anybody could silence a
practice by writing its address on them.
"""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from gateway.core.echo import (
    DATAGRAM_BYTES,
    DATAGRAM_BYTES_MAX,
    SECRET_BYTES_MIN,
    Window,
    key_id,
    read_question,
    reply_bytes,
)
from gateway.edge.clock import SystemClock
from gateway.edge.dial import do_not_fragment
from gateway.errors import GatewayError

ORIGINS_MAX: Final = 65536
SOURCES_MAX: Final = 65536
A_SECOND: Final = 1000
"""Replies per source and second: a site behind one address asks 20 at its busiest."""
STREAMS_MAX: Final = 1024
STREAM_IDLE_S: Final = 90.0
"""Three times the slowest cadence, 30 s on a small SIM."""
AT_ONCE: Final = 256
"""Datagrams read per turn of the loop, so that streams and TERM get theirs."""
HTTP_BODY: Final = "practice-gateway anchor\n"
Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
K = TypeVar("K")
V = TypeVar("V")
_IP_PKTINFO: Final = 8
_BUFFER_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Counters:
    """What the anchor did since its start."""

    answered: int = 0
    dropped: int = 0
    """Forged, foreign, too short or too long."""
    repeated: int = 0
    limited: int = 0
    streams: int = 0


class Answerer:
    """Turns one datagram into its reply, or into nothing."""

    def __init__(self, secrets: tuple[bytes, ...], clock: Callable[[], float],
                 a_second: int = A_SECOND) -> None:
        self._secrets: Mapping[int, bytes] = {key_id(secret): secret for secret in secrets}
        self._clock, self._a_second = clock, a_second
        self._windows: OrderedDict[tuple[int, bytes], Window] = OrderedDict()
        self._sources: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self.counters = Counters()

    @property
    def remembered(self) -> int:
        """How many windows and rate counters are held."""
        return len(self._windows) + len(self._sources)

    def answer(self, datagram: bytes, source: str) -> bytes | None:
        """Return the reply to send back, None for silence."""
        read = read_question(datagram, self._secrets)
        if read is None:
            self.counters.dropped += 1
            return None
        question, secret = read
        if self._is_over(_network(source)):
            self.counters.limited += 1
            return None
        key = (key_id(secret), question.origin)
        window = self._windows.get(key, Window()).take(question.seq)
        if window is None:
            self.counters.repeated += 1
            return None
        _remember(self._windows, key, window, ORIGINS_MAX)
        self.counters.answered += 1
        return reply_bytes(datagram, window, secret)

    def _is_over(self, network: bytes) -> bool:
        second = int(self._clock())
        began, count = self._sources.get(network, (second, 0))
        count = count + 1 if began == second else 1
        _remember(self._sources, network, (second, count), SOURCES_MAX)
        return count > self._a_second


def _remember(table: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > most:
        table.popitem(last=False)


def _network(source: str) -> bytes:
    """An IPv4 address, or the /64 of an IPv6 one: a site has a whole such network."""
    if ":" not in source:
        return socket.inet_pton(socket.AF_INET, source)
    raw = socket.inet_pton(socket.AF_INET6, source.partition("%")[0])
    return raw[12:] if raw[:12] == bytes(10) + b"\xff\xff" else raw[:8]


class Anchor:
    """The service: enter it to listen, leave it to stop. Ports may be 0: ``port`` tells which.

    Raises on entering:
        OSError: a port is taken, or the address is not ours.
    """

    def __init__(self, host: str, port: int, answerer: Answerer, tls_port: int = -1,
                 tls: ssl.SSLContext | None = None, http_port: int = -1) -> None:
        self._host, self.port, self._answerer = host, port, answerer
        self.tls_port, self._tls, self.http_port = tls_port, tls, http_port
        self._stack = contextlib.AsyncExitStack()
        self._streams = 0

    async def __aenter__(self) -> "Anchor":
        try:
            self._listen()
            if self._tls is not None:
                self.tls_port = await self._serve(self._frames, self.tls_port, self._tls)
            if self.http_port >= 0:
                self.http_port = await self._serve(self._http, self.http_port, None)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _listen(self) -> None:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM)
        self._stack.callback(made.close)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        do_not_fragment(made, family)
        made.bind((self._host, self.port))
        self.port = made.getsockname()[1]
        loop = asyncio.get_running_loop()
        loop.add_reader(made.fileno(), self._readable, made)
        self._stack.callback(loop.remove_reader, made.fileno())

    def _readable(self, made: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                datagram, asked_at, _, source = made.recvmsg(DATAGRAM_BYTES_MAX + 1, 128)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier reply
            reply = self._answerer.answer(datagram, source[0])
            if reply is not None:
                with contextlib.suppress(OSError):  # a full buffer, or no way back: as if lost
                    made.sendmsg([reply], _from_there(asked_at), 0, source)

    async def _serve(self, talk: Talk, port: int, tls: ssl.SSLContext | None) -> int:
        server = await asyncio.start_server(self._bounded(talk), self._host, port, ssl=tls,
                                            limit=8192)
        self._stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    def _bounded(self, talk: Talk) -> Talk:
        async def bounded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._streams += 1
            self._answerer.counters.streams += 1
            try:
                if self._streams <= STREAMS_MAX:
                    await talk(reader, writer)
            except (OSError, EOFError, asyncio.LimitOverrunError):
                return  # gone, idle for too long, or not of our kind
            finally:
                self._streams -= 1
                writer.transport.abort()

        return bounded

    async def _frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer datagrams with two bytes of length before each; a wrong one ends the stream."""
        source = writer.get_extra_info("peername")[0]
        while True:
            async with asyncio.timeout(STREAM_IDLE_S):
                length = int.from_bytes(await reader.readexactly(2))
                if not DATAGRAM_BYTES <= length <= DATAGRAM_BYTES_MAX:
                    return
                reply = self._answerer.answer(await reader.readexactly(length), source)
                if reply is None:
                    return
                writer.write(len(reply).to_bytes(2) + reply)
                await writer.drain()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The fixed answer that probes of kind "http" expect."""
        async with asyncio.timeout(STREAM_IDLE_S / 9):
            await reader.readuntil(b"\r\n\r\n")
            body = HTTP_BODY.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
                         b"Connection: close\r\n\r\n%s" % (len(body), body))
            await writer.drain()
            writer.write_eof()
            await reader.read(1)


def _from_there(asked_at: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The control message that makes the reply leave from the address that was asked."""
    back = []
    for level, kind, data in asked_at:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:  # ifindex, local, destination
            back.append((level, kind, bytes(4) + data[4:8] + bytes(4)))
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            back.append((level, kind, data))
    return back


def secrets_in(paths: list[Path]) -> tuple[bytes, ...]:
    """Return the secret in each file.

    Raises:
        GatewayError: one cannot be read or is shorter than 32 bytes.
    """
    found = []
    for path in paths:
        try:
            secret = path.read_bytes().strip()
        except OSError as error:
            raise GatewayError(f"{path}: cannot be read: {error.strerror}") from None
        if len(secret) < SECRET_BYTES_MIN:
            raise GatewayError(f"{path}: a secret has at least {SECRET_BYTES_MIN} bytes; make "
                               "one with: practice-gateway keys anchor")
        found.append(secret)
    return tuple(found)


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the listener's TLS; raises GatewayError where the files do not serve."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise GatewayError(f"{certificate}: no certificate with that key: "
                           f"{error.strerror or error}") from None
    return made


async def run(anchor: Anchor, answerer: Answerer, started: Callable[[str], None]) -> Counters:
    """Serve until TERM or INT; ``started`` is told the ports as JSON. Returns the counters.

    Raises:
        GatewayError: the address or a port cannot be had.
    """
    stopping = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stopping.set)
    try:
        async with anchor:
            ports = {"udp": anchor.port, "tls": anchor.tls_port, "http": anchor.http_port}
            started(json.dumps({name: port for name, port in ports.items() if port > 0}))
            await stopping.wait()
    except OSError as error:
        raise GatewayError(f"cannot listen: {error.strerror or error}") from error
    return answerer.counters


def serve(host: str, port: int, secrets: tuple[bytes, ...], tls_port: int,
          tls: ssl.SSLContext | None, http_port: int, started: Callable[[str], None],
          ) -> dict[str, int]:
    """Run an anchor on a loop of its own until TERM; return what it counted."""
    answerer = Answerer(secrets, SystemClock("always").now)
    anchor = Anchor(host, port, answerer, tls_port, tls, http_port)
    return asdict(asyncio.run(run(anchor, answerer, started)))
