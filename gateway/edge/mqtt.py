"""MQTT 5 over one link: a door to ``aiomqtt``, with the dialling taken out of paho's hands.

paho dials by itself, from whatever address the kernel picks and with its own resolver; over a
dead link that is the wrong way out (links.md section 17). So the socket is dialled here, bound to
the link, with the TLS handshake done, and given to paho by replacing ``_create_socket_connection``;
paho itself is told of a host that does not exist, so that it fails where it would dial.
``assert_libraries_are_as_known`` and a test hold that on upgrades.

One identity whatever the link, the session resumed, the will delayed: anything else shows a
practice as offline while it works (telemetry.md, measured). Everything here is bounded: the dial
and handshake by ``connect_s``, each publish by ``ack_s``, what comes in by ``incoming_max``.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import aiomqtt
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.core.link import Link
from gateway.core.telemetry import Message

Addresses: TypeAlias = Callable[[str], Awaitable[tuple[str, ...]]]
"""A link's own name service: host name -> IP addresses, empty where there are none."""
Dial: TypeAlias = Callable[[str, int], Awaitable[socket.socket]]
"""Return a connected, non-blocking TCP socket over one link. Raises OSError."""

NOWHERE: Final = "dialled-by-the-link.invalid"
BROKER_SILENCE_MS: Final = 15_000
"""TCP_USER_TIMEOUT: beyond the usual keep-alive's half, so a slow broker is not hung up on."""
GOODBYE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How we speak to the broker. Durations in seconds; ``tls`` None is plain MQTT, loopback only.

    ``client_id`` is ``""`` but in tests that show what another identity does.
    """

    host: str
    port: int
    gw: str
    tls: ssl.SSLContext | None = None
    keep_alive_s: int = 20
    will_delay_s: int = 30
    session_expiry_s: int = 900
    receive_max: int = 20
    topic_alias_max: int = 8
    incoming_max: int = 64
    payload_max: int = 262_144
    connect_s: float = 10.0
    ack_s: float = 15.0
    client_id: str = ""


def tls_context(ca_file: str, certificate: str, key: str) -> ssl.SSLContext:
    """Return a client context: TLS 1.2 or later, broker verified by ``ca_file``, our certificate.

    Raises:
        OSError: a file cannot be read or holds no certificate or key (``ssl.SSLError`` is one).
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def link_dial(link: Link, addresses: Addresses) -> Dial:
    """Return a dialler over ``link``: its name service, its interface or source address.

    An address that fails or does not fit the source's family leaves the next one to be tried; the
    whole is bounded by whoever calls.
    """

    async def dial(host: str, port: int) -> socket.socket:
        failure: OSError = OSError("the broker's name has no address on this link")
        for address in await addresses(host):
            try:
                return await _connect(link, address, port)
            except OSError as error:
                failure = error
        raise failure

    return dial


async def _connect(link: Link, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, BROKER_SILENCE_MS)
        if link.interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.interface.encode())
        if link.source:
            sock.bind((link.source, 0))
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _handshake(sock: socket.socket, host: str, tls: ssl.SSLContext) -> ssl.SSLSocket:
    """Do the TLS handshake on the loop: no thread stands still for a broker that does."""
    secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                secured.do_handshake()
                return secured
            except ssl.SSLWantReadError:
                await _until(secured.fileno(), loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await _until(secured.fileno(), loop.add_writer, loop.remove_writer)
    except BaseException:
        secured.close()
        raise


async def _until(fd: int, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    add(fd, tell)
    try:
        await ready
    finally:
        remove(fd)


def assert_libraries_are_as_known() -> None:
    """Refuse to start on a paho or aiomqtt whose insides no longer are what we rely on.

    Raises:
        RuntimeError: a private method is gone. Pin the versions of the lock file again.
    """
    needed = ((paho.Client, "_create_socket_connection"), (paho.Client, "_sock_close"),
              (aiomqtt.Client, "_client_connect"), (aiomqtt.Client, "_wait_for"))
    for library, name in needed:
        if not callable(getattr(library, name, None)):
            raise RuntimeError(f"{library.__module__} has no {name}; see gateway/edge/mqtt.py")


class Session:
    """One MQTT connection over one link: a ``ports.Broker``. Made by ``connected``."""

    def __init__(self, client: aiomqtt.Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    async def publish(self, topic: str, payload: bytes, qos: int, retain: bool,
                      expiry_s: int | None) -> None:
        """Publish and wait: QoS 1 for the PUBACK, QoS 0 for the socket; ``ack_s`` at most.

        Raises:
            OSError: refused, the connection is gone, or no PUBACK came (the broker is stuck).
        """
        expiry = {} if expiry_s is None else {"MessageExpiryInterval": expiry_s}
        properties = _properties(PacketTypes.PUBLISH, **expiry)
        with _translated():
            await self._client.publish(topic, payload, qos, retain, properties,
                                       timeout=self._settings.ack_s)

    async def received(self) -> AsyncIterator[tuple[str, bytes, bool]]:
        """Yield (topic, payload, was retained) until the connection is gone.

        Raises:
            OSError: the connection is gone, taken over by another of the same identity included.
        """
        with _translated():
            async for message in self._client.messages:
                payload = message.payload
                if isinstance(payload, bytes) and len(payload) <= self._settings.payload_max:
                    yield message.topic.value, payload, bool(message.retain)


@contextlib.asynccontextmanager
async def connected(settings: Settings, dial: Dial, will: Message,
                    subscriptions: tuple[str, ...] = ()) -> AsyncIterator[Session]:
    """Connect over the link behind ``dial``, subscribe, and give a Session.

    Left in good order it says DISCONNECT, so the broker forgets the will; left by an exception or
    cancellation (a link switch) it drops the socket without a word: over a dead link no word
    passes, and where the session was taken over there is nobody to say it to.

    Raises:
        OSError: no connection, a broker's refusal, or no answer within ``connect_s``.
    """
    sock = await _dialled(settings, dial)
    client = _client(settings, will)
    try:
        async with asyncio.timeout(settings.connect_s):
            await _greet(client, sock)
            with _translated():
                for topic in subscriptions:
                    await client.subscribe(topic, qos=1)
        yield Session(client, settings)
        with contextlib.suppress(OSError), _translated():
            async with asyncio.timeout(GOODBYE_S):
                await client.__aexit__(None, None, None)
    finally:
        _drop(client, sock)


async def _greet(client: aiomqtt.Client, sock: socket.socket) -> None:
    """CONNECT over ``sock`` and wait for the CONNACK.

    aiomqtt would call ``_client_connect`` in the shared thread pool because it dials; ours does
    not, so it is called here and a thread pool jammed by others cannot hold telemetry up.
    """
    inner = client._client
    inner._create_socket_connection = lambda: sock  # type: ignore[method-assign]
    readers_gone = inner.on_socket_close

    def closed(*about: Any) -> None:
        if readers_gone is not None:
            readers_gone(*about)
        if not client._connected.done():  # a refused certificate shows only now (TLS 1.3)
            client._connected.set_exception(ConnectionError("MQTT: closed before CONNACK"))

    inner.on_socket_close = closed
    with _translated():
        client._client_connect()
        if inner.socket() is not sock:
            raise RuntimeError("paho dialled by itself; see gateway/edge/mqtt.py")
        await client._wait_for(client._connected, timeout=None)


async def _dialled(settings: Settings, dial: Dial) -> socket.socket:
    async with asyncio.timeout(settings.connect_s):
        sock = await dial(settings.host, settings.port)
        if settings.tls is None:
            return sock
        return await _handshake(sock, settings.host, settings.tls)


def _properties(packet: int, **values: int) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho has no types there
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _client(settings: Settings, will: Message) -> aiomqtt.Client:
    connect = _properties(
        PacketTypes.CONNECT, SessionExpiryInterval=settings.session_expiry_s,
        ReceiveMaximum=settings.receive_max, TopicAliasMaximum=settings.topic_alias_max,
        MaximumPacketSize=settings.payload_max + 1024)
    last = _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=settings.will_delay_s)
    return aiomqtt.Client(
        NOWHERE, settings.port, identifier=settings.client_id or settings.gw,
        protocol=aiomqtt.ProtocolVersion.V5, clean_start=False, properties=connect,
        keepalive=settings.keep_alive_s, timeout=settings.connect_s,
        will=aiomqtt.Will(will.topic, will.payload, will.qos, will.retain, last),
        max_queued_incoming_messages=settings.incoming_max,
        max_queued_outgoing_messages=settings.receive_max,
        max_inflight_messages=settings.receive_max)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn aiomqtt's errors into OSError, the words of the broker left out of them."""
    try:
        yield
    except aiomqtt.MqttError as error:
        code = getattr(error, "rc", None)
        raise ConnectionError(f"MQTT: {type(error).__name__} {code}") from error


def _drop(client: aiomqtt.Client, sock: socket.socket) -> None:
    """Let go of the socket at once, whatever state paho is in, and of its readers."""
    client._client._sock_close()
    sock.close()
    for gone in (client._connected, client._disconnected):
        if gone.done() and not gone.cancelled():
            gone.exception()  # fetched, so that asyncio does not report it as never retrieved


assert_libraries_are_as_known()  # at the start, not in the middle of an outage
