"""The door: HTTP clients on one side, ``serve`` on the other.

It admits what ``core/wire`` and ``core/access`` admit, holds each tenant to its limits, reads
small bodies whole and streams large ones, and writes the answer so that nothing incomplete ever
looks complete. Whatever goes wrong unforeseen costs one request: 500 (the first of four fences).
"""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Final, cast

from aiohttp import web

from gateway.core.access import Tenant, credentials, identify
from gateway.core.admission import Priority, places
from gateway.core.message import Answer, Request, Streamed
from gateway.core.pack import SAFE_METHODS
from gateway.core.wire import Head, Names, Refusal, Seen, examine, normal_url
from gateway.edge.http_answer import Manners, Spoken, let_go
from gateway.edge.http_connection import (
    BodyBroken,
    Connection,
    Rules,
    Server,
    Slot,
    assert_parser,
)
from gateway.edge.http_upload import BODY_BROKEN, BODY_TOO_LARGE, Upload
from gateway.edge.tunnel import listening_socket
from gateway.ports import Clock

BACKLOG_LEAST: Final = 128

UNKNOWN_UPSTREAM: Final = Refusal(404, "not-found", "No such upstream for this practice.")
TOO_MANY: Final = Refusal(
    503, "throttled", "Too many requests at once.", headers=(("Retry-After", "1"),)
)
TOO_MANY_CONNECTIONS: Final = Refusal(
    503, "throttled", "Too many connections.", True, (("Retry-After", "5"),)
)
MISTAKE: Final = Refusal(500, "exception", "The gateway made a mistake; it has been logged.", True)


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """``[listen]`` of practice.toml, with files already resolved to paths.

    ``via`` is our pseudonym (``practice-gateway-B81001-a``). ``client_ca`` is a PEM file and
    ``client_certificates`` PEM files of single clients; either makes the listener ask for a
    certificate, which a client may decline. Times in seconds.
    """

    via: str
    address: str = "::"
    port: int = 0
    hosts: tuple[str, ...] = ()
    certificate: str = ""
    key: str = field(default="", repr=False)
    client_ca: str = ""
    client_certificates: tuple[str, ...] = field(default=(), repr=False)
    line_bytes_max: int = 16384
    head_bytes_max: int = 65536
    head_s: float = 10.0
    idle_s: float = 75.0
    body_idle_s: float = 30.0  # between two reads of a request body
    write_s: float = 60.0  # a client that takes nothing for this long is let go
    connections_max: int = 512


@dataclass(frozen=True, slots=True)
class Noted:
    """What the door did by itself: a refusal (``fault`` None) or a mistake of ours.

    Nothing of the request is in it; whoever logs ``fault`` logs its type and place alone.
    """

    status: int
    code: str
    tenant: str = ""
    fault: BaseException | None = field(default=None, repr=False)


def server_context(settings: DoorSettings) -> ssl.SSLContext | None:
    """Return the listener's TLS context, None where no certificate is set.

    A client certificate is verified against ``client_ca`` and ``client_certificates``; who it is
    follows from its fingerprint (``core/access``).
    """
    if not settings.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(settings.certificate, settings.key or None)
    if settings.client_ca:
        context.load_verify_locations(cafile=settings.client_ca)
    for pem in settings.client_certificates:
        context.load_verify_locations(cafile=pem)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a leaf may be its own anchor
    if settings.client_ca or settings.client_certificates:
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class ServeRaised(Exception):
    """``serve`` raised, which it never should: its cause tells."""


class Door:
    """The proxy port: ``/{ods}/{upstream}{target}`` to ``serve``, and its answer back.

    ``upstreams`` says which upstreams each practice has, by ODS code. ``aliases`` maps a URL
    prefix to an upstream for clients that use us as their HTTP proxy. ``serve`` raises nothing
    for trouble; what it raises is a mistake of ours and costs that one request.
    """

    def __init__(
        self,
        settings: DoorSettings,
        tenants: Iterable[Tenant],
        upstreams: Mapping[str, frozenset[str]],
        aliases: Mapping[str, str],
        serve: Callable[[Request], Awaitable[Answer]],
        clock: Clock,
        note: Callable[[Noted], None] = lambda noted: None,
        only_reads: Callable[[Request], bool] = lambda request: request.method in SAFE_METHODS,
        priority: Callable[[Request], Priority] = lambda request: "first",
    ) -> None:
        self._settings = settings
        self._tenants = tuple(tenants)
        self._upstreams = upstreams
        self._aliases = {normal_url(url).rstrip("/"): name for url, name in aliases.items()}
        self._serve = serve
        self._note = note
        self._only_reads = only_reads
        self._priority = priority
        self._manners = Manners(
            lambda: formatdate(clock.wall(), usegmt=True),  # RFC 9110 §5.6.7
            lambda: self._draining,
            settings.write_s,
        )
        self._open: set[Connection] = set()
        self._in_flight: Counter[str] = Counter()
        self._serial = 0
        self._names = Names(frozenset(), settings.via)
        self._server: Server | None = None
        self._listener: asyncio.Server | None = None
        self._scheme = "https" if settings.certificate else "http"
        self._draining = False
        self._empty = asyncio.Event()
        self.port = 0

    async def start(self) -> None:
        """Listen; ``port`` then tells where.

        Raises:
            OSError: the address or port is not to be had, or a certificate file not readable.
            RuntimeError: aiohttp runs without its C parser.
        """
        assert_parser()
        loop = asyncio.get_running_loop()
        context = server_context(self._settings)
        sock = listening_socket(self._settings.address, self._settings.port)
        self.port = sock.getsockname()[1]
        self._names = Names(frozenset(self._own_names()), self._settings.via, self._aliases)
        rules = Rules(
            examine=self._examine, refuse=self._spoken_refusal,
            opened=self._opened, closed=self._closed,
            line_bytes_max=self._settings.line_bytes_max,
            head_bytes_max=self._settings.head_bytes_max,
            head_s=self._settings.head_s, idle_s=self._settings.idle_s,
        )  # fmt: skip
        self._server = Server(self._handle, rules)
        handshake_s = self._settings.head_s if context else None
        # All who may connect may wait: asyncio's 100 are full after a stall of a second at 100
        # requests a second, and a SYN that is dropped comes again after 1, 3 and 7 s.
        self._listener = await loop.create_server(
            self._server, sock=sock, ssl=context, ssl_handshake_timeout=handshake_s,
            backlog=max(BACKLOG_LEAST, self._settings.connections_max),
        )  # fmt: skip

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let what is in flight finish for at most ``seconds``, then close."""
        self._draining = True
        if self._listener is not None:
            self._listener.close()
        await asyncio.sleep(0)  # a connection taken just now has begun to wait
        for connection in tuple(self._open):
            connection.retire()
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
        await self.close()

    async def close(self) -> None:
        """Stop at once: what is in flight is cut."""
        self._draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self._open):
            connection.cut()
        if self._server is not None:
            await self._server.shutdown(0.1)

    def in_flight(self, ods: str) -> int:
        """How many requests of a practice are in work now."""
        return self._in_flight[ods]

    # Connections

    def _own_names(self) -> Iterable[str]:
        default = 443 if self._scheme == "https" else 80
        for host in self._settings.hosts:
            yield f"{host.lower()}:{self.port}"
            if self.port == default:
                yield host.lower()

    def _examine(self, head: Head, connection: Connection) -> Seen | Refusal:
        """The address at which a client reached us is always one of our names."""
        names = self._names
        if not head.target.startswith("/") and connection.sockname is not None:
            host = _bare(str(connection.sockname[0]))
            literal = f"[{host}]" if ":" in host else host
            own = {f"{literal}:{self.port}"}
            if self.port == (443 if self._scheme == "https" else 80):
                own.add(literal)
            names = Names(names.authorities | own, names.via, names.aliases)
        return examine(head, names)

    def _opened(self, connection: Connection) -> None:
        """At the limit whoever waits longest without an admitted request makes room.

        That is idle clients, and those without a credential that never end what they began.
        """
        self._open.add(connection)
        self._empty.clear()
        if self._draining or len(self._open) > 2 * self._settings.connections_max:
            connection.force_close()
        elif len(self._open) > self._settings.connections_max:
            idle = [each for each in self._open if each.slot is None and each is not connection]
            if idle:
                min(idle, key=lambda each: each.idle_since).force_close()
            else:
                connection.refuse(TOO_MANY_CONNECTIONS)

    def _closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._empty.set()

    # One request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        seen = connection.examined.popleft()
        spoken = Spoken(self._manners, connection, request, seen)
        try:
            await self._answered(spoken, seen, connection)
        except ConnectionError:
            raise  # the client is gone or was cut; its connection ends
        except Exception as fault:  # fence: what nobody foresaw costs one request
            told = fault.__cause__ if isinstance(fault, ServeRaised) else fault
            self._note(Noted(500, "exception", fault=told))
            await spoken.refuse(MISTAKE)
        return spoken

    async def _answered(
        self, spoken: Spoken, seen: Seen | Refusal, connection: Connection
    ) -> None:
        if isinstance(seen, Refusal):
            await self._refused(spoken, seen)
            return
        peer = _bare(str(connection.peername[0])) if connection.peername else ""
        shown = credentials(seen.headers, connection.certificate, peer)
        who = identify(self._tenants, seen.ods, shown)
        if isinstance(who, Refusal):
            await self._refused(spoken, who)
            return
        tenant, client = who
        refusal = self._over_a_limit(tenant, seen)
        if refusal is not None:
            await self._refused(spoken, refusal, tenant.ods)
            return
        connection.slot = slot = Slot(self._in_flight, tenant.ods)
        try:
            await self._served(spoken, seen, tenant, client.id, slot)
        finally:
            connection.slot = None
            slot.give_back()

    def _over_a_limit(self, tenant: Tenant, seen: Seen) -> Refusal | None:
        if seen.upstream not in self._upstreams.get(tenant.ods, frozenset()):
            return UNKNOWN_UPSTREAM
        if (seen.length or 0) > tenant.body_bytes_max:
            return BODY_TOO_LARGE
        if self._in_flight[tenant.ods] >= tenant.requests_max:
            return TOO_MANY
        return None

    async def _served(
        self, spoken: Spoken, seen: Seen, tenant: Tenant, client: str, slot: Slot
    ) -> None:
        upload = Upload(
            spoken.content, spoken.go_on, seen, tenant.body_bytes_max, self._settings.body_idle_s
        )
        try:
            body = await upload.body()
        except BodyBroken:
            await self._refused(spoken, upload.refusal or BODY_BROKEN, tenant.ods)
            return
        self._serial += 1
        request = Request(
            tenant=tenant.ods, client=client, upstream=seen.upstream, method=seen.method,
            target=seen.target, headers=seen.headers, body=body, chunked=seen.chunked,
            version=seen.version, serial=self._serial,
            forwarded=(seen.authority, self._scheme, seen.prefix),
        )  # fmt: skip
        taken, most = self._in_flight[tenant.ods], tenant.requests_max  # this one is among them
        if taken > places(self._priority(request), most, tenant.shares):
            await self._refused(spoken, TOO_MANY, tenant.ods)
            return
        slot.is_read = self._only_reads(request)
        try:
            answer = await self._serve(request)
        except OSError as fault:  # not to be taken for the client's own connection
            raise ServeRaised from fault
        if upload.refusal is not None:  # its client must learn why, whatever the upstream said
            let_go(answer)
            await self._refused(spoken, upload.refusal, tenant.ods)
            return
        if isinstance(body, Streamed) and not spoken.content.is_eof():
            answer = replace(answer, close=True)  # the rest of the body may still be under way
        try:
            await spoken.say(answer)
        finally:
            let_go(answer)

    async def _refused(self, spoken: Spoken, refusal: Refusal, tenant: str = "") -> None:
        self._note(Noted(refusal.status, refusal.code, tenant))
        await spoken.refuse(refusal)

    def _spoken_refusal(self, refusal: Refusal) -> web.StreamResponse:
        """For a head that never became a request; aiohttp then calls ``prepare``."""
        self._note(Noted(refusal.status, refusal.code))
        return Spoken(self._manners, None, None, refusal)


def _bare(host: str) -> str:
    """An IPv4 address that came in through a dual-stack socket, without its IPv6 dress."""
    return host.removeprefix("::ffff:") if "." in host else host.partition("%")[0]
