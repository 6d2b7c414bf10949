"""The door: HTTP clients on one side, ``serve`` on the other.

It admits what ``core/wire`` and ``core/access`` admit, holds each tenant to its limits, reads
small bodies whole and streams large ones, and writes the answer so that nothing incomplete ever
looks complete. Whatever goes wrong unforeseen costs one request: 500 (the first of four fences).
"""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Final, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import PayloadAccessError, RequestPayloadError
from multidict import CIMultiDict

from gateway.core.access import Tenant, credentials, identify
from gateway.core.fhir import JSON_TYPE, operation_outcome
from gateway.core.message import WHOLE_BYTES_MAX, Answer, Body, Request, Streamed
from gateway.core.wire import Framed, Head, Names, Refusal, Seen, examine, framed, normal_url
from gateway.edge.http_connection import (
    BodyBroken,
    Connection,
    Rules,
    Server,
    assert_parser,
)
from gateway.edge.tunnel import listening_socket
from gateway.ports import Clock

UNKNOWN_UPSTREAM: Final = Refusal(404, "not-found", "No such upstream for this practice.")
TOO_MANY: Final = Refusal(
    503, "throttled", "Too many requests at once.", headers=(("Retry-After", "1"),)
)
TOO_MANY_CONNECTIONS: Final = Refusal(
    503, "throttled", "Too many connections.", True, (("Retry-After", "5"),)
)
BODY_TOO_LARGE: Final = Refusal(413, "too-long", "The request body is too large.", close=True)
BODY_TOO_SLOW: Final = Refusal(408, "timeout", "The request body took too long.", close=True)
BODY_BROKEN: Final = Refusal(400, "invalid", "The request body breaks its framing.", close=True)
MISTAKE: Final = Refusal(500, "exception", "The gateway made a mistake; it has been logged.", True)
UNWRITABLE: Final = Refusal(502, "exception", "The upstream's reply cannot be passed on.")


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """``[listen]`` of practice.toml, with files already resolved to paths.

    ``via`` is our pseudonym (``practice-gateway-B81001-a``). ``client_ca`` is a PEM file and
    ``client_certificates`` PEM texts of single clients; either makes the listener ask for a
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
        context.load_verify_locations(cadata=pem)
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
    ) -> None:
        self._settings = settings
        self._tenants = tuple(tenants)
        self._upstreams = upstreams
        self._aliases = {normal_url(url).rstrip("/"): name for url, name in aliases.items()}
        self._serve = serve
        self._clock = clock
        self._note = note
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
        self._listener = await loop.create_server(
            self._server, sock=sock, ssl=context, ssl_handshake_timeout=handshake_s
        )

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
        """At the limit the connection that has been idle longest makes room."""
        self._open.add(connection)
        self._empty.clear()
        if self._draining or len(self._open) > 2 * self._settings.connections_max:
            connection.force_close()
        elif len(self._open) > self._settings.connections_max:
            idle = [each for each in self._open if each.is_idle and each is not connection]
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
        spoken = _Spoken(self, connection, request, seen)
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
        self, spoken: "_Spoken", seen: Seen | Refusal, connection: Connection
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
        self._in_flight[tenant.ods] += 1
        try:
            await self._served(spoken, seen, tenant, client.id)
        finally:
            self._in_flight[tenant.ods] -= 1

    def _over_a_limit(self, tenant: Tenant, seen: Seen) -> Refusal | None:
        if seen.upstream not in self._upstreams.get(tenant.ods, frozenset()):
            return UNKNOWN_UPSTREAM
        if (seen.length or 0) > tenant.body_bytes_max:
            return BODY_TOO_LARGE
        if self._in_flight[tenant.ods] >= tenant.requests_max:
            return TOO_MANY
        return None

    async def _served(
        self, spoken: "_Spoken", seen: Seen, tenant: Tenant, client: str
    ) -> None:
        upload = _Upload(spoken, seen, tenant.body_bytes_max, self._settings.body_idle_s)
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
        try:
            answer = await self._serve(request)
        except OSError as fault:  # not to be taken for the client's own connection
            raise ServeRaised from fault
        if upload.refusal is not None:  # its client must learn why, whatever the upstream said
            _let_go(answer)
            await self._refused(spoken, upload.refusal, tenant.ods)
            return
        if isinstance(body, Streamed) and not spoken.content.is_eof():
            answer = replace(answer, close=True)  # the rest of the body may still be under way
        try:
            await spoken.say(answer)
        finally:
            _let_go(answer)

    async def _refused(self, spoken: "_Spoken", refusal: Refusal, tenant: str = "") -> None:
        self._note(Noted(refusal.status, refusal.code, tenant))
        await spoken.refuse(refusal)

    def _spoken_refusal(self, refusal: Refusal) -> web.StreamResponse:
        """For a head that never became a request; aiohttp then calls ``prepare``."""
        self._note(Noted(refusal.status, refusal.code))
        return _Spoken(self, None, None, refusal)

    def date(self) -> str:
        """Now, as HTTP writes it (RFC 9110 §5.6.7)."""
        return formatdate(self._clock.wall(), usegmt=True)

    @property
    def is_draining(self) -> bool:
        """Whether each answer is now its connection's last."""
        return self._draining

    @property
    def settings(self) -> DoorSettings:
        """As given."""
        return self._settings


class _Upload:
    """A request's body on its way in: whole up to WHOLE_BYTES_MAX, streamed beyond.

    ``refusal`` is set once the body broke a limit or its framing, also in mid-stream.
    """

    def __init__(self, spoken: "_Spoken", seen: Seen, bytes_max: int, idle_s: float) -> None:
        self._spoken = spoken
        self._content: StreamReader = spoken.content
        self._seen = seen
        self._bytes_max = bytes_max
        self._idle_s = idle_s
        self._count = 0
        self.refusal: Refusal | None = None

    async def body(self) -> Body:
        """Return the body, asking for it first where the client waits to be asked.

        Raises:
            BodyBroken: it ended early, or broke its framing or a limit.
        """
        if not self._seen.has_body:
            return b""
        if self._seen.expects and not self._content.total_bytes:
            self._spoken.go_on()
        parts: list[bytes] = []
        while (self._seen.length or 0) <= WHOLE_BYTES_MAX and self._count <= WHOLE_BYTES_MAX:
            part = await self._next()
            if not part:
                return b"".join(parts)
            parts.append(part)
        return Streamed(self._stream(parts), self._seen.length)

    async def _stream(self, parts: list[bytes]) -> AsyncIterator[bytes]:
        while parts:
            yield parts.pop(0)
        while part := await self._next():
            yield part

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_s):
                part = await self._content.readany()
        except TimeoutError:
            raise self._broken(BODY_TOO_SLOW) from None
        except (ConnectionError, RequestPayloadError, PayloadAccessError, RuntimeError) as broken:
            raise self._broken(BODY_BROKEN) from broken  # RuntimeError: the client is gone
        self._count += len(part)
        if self._count > self._bytes_max:
            raise self._broken(BODY_TOO_LARGE)
        return part

    def _broken(self, refusal: Refusal) -> BodyBroken:
        self.refusal = refusal
        return BodyBroken(refusal.words)


class _Spoken(web.StreamResponse):
    """An answer as we write it: neither Server nor Content-Type is ever added."""

    def __init__(
        self,
        door: Door,
        connection: Connection | None,
        request: web.BaseRequest | None,
        seen: Seen | Refusal,
    ) -> None:
        super().__init__()
        self._door = door
        self._connection = connection
        self._request = request
        self._seen = seen
        self._said = False
        self._stays = False

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow on this connection."""
        return self._stays

    @property
    def content(self) -> StreamReader:
        """The request's body as it comes in."""
        assert self._request is not None
        return self._request.content

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """aiohttp's call: a no-op once said; else the refusal of a head is said now."""
        if not self._said and isinstance(self._seen, Refusal):
            self._connection = cast(Connection, request.protocol)
            self._request = request
            await self.refuse(self._seen)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """aiohttp's call: all has been written."""

    def go_on(self) -> None:
        """Ask for the body (RFC 9110 §10.1.1): our own answer to Expect."""
        assert self._request is not None
        if self._request.transport is not None:
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def refuse(self, refusal: Refusal) -> None:
        """Say ``refusal``; where the answer has begun, cut it off instead."""
        assert self._connection is not None
        if self._said:
            self._connection.cut()
            raise ConnectionResetError("a mistake after the answer had begun")
        close = refusal.close or (isinstance(self._seen, Seen) and self._body_in_doubt(self._seen))
        await self.say(_outcome(refusal, close))
        # A sound body still under way is taken by aiohttp, for ten seconds at most.
        if refusal.close and (self._connection.deaf or self.content.is_eof()):
            await self._connection.linger()

    def _body_in_doubt(self, seen: Seen) -> bool:
        """A client that waits for a 100 may now send its body, or the next request."""
        return seen.expects and not self.content.total_bytes and not self.content.is_eof()

    async def say(self, answer: Answer) -> None:
        """Write ``answer``.

        Raises:
            ConnectionError: the client is gone, or the body could not be written to its end; the
                connection then ends without the last chunk or the missing bytes, or by reset.
        """
        assert self._request is not None
        frame, headers = self._framed(answer)
        writer = self._request.writer
        try:
            await writer.write_headers(f"HTTP/1.1 {answer.status} {answer.reason}", headers)
        except ValueError:  # a control character in a field: a header injection, never passed on
            _let_go(answer)
            answer = _outcome(UNWRITABLE, close=False)
            frame, headers = self._framed(answer)
            await writer.write_headers(f"HTTP/1.1 {answer.status} {answer.reason}", headers)
        self._said = True
        self._stays = not frame.close
        if frame.chunked:
            writer.enable_chunking()
        try:
            await self._write_body(writer, answer, frame)
        except ConnectionError:
            raise
        except OSError:  # a timeout: the client takes no more, or the upstream sends no more
            self._cut()
            raise ConnectionResetError("the answer could not be written to its end") from None

    def _framed(self, answer: Answer) -> tuple[Framed, CIMultiDict[str]]:
        assert self._request is not None
        assert self._connection is not None
        asked = self._seen if isinstance(self._seen, Seen) else None
        method = asked.method if asked else self._request.method
        version = asked.version if asked else "HTTP/1.1"
        stays = self._request.keep_alive and not self._connection.closes_next
        close = not stays or self._door.is_draining
        frame = framed(answer, method, version, close, self._door.date())
        return frame, CIMultiDict(frame.headers)

    async def _write_body(
        self, writer: AbstractStreamWriter, answer: Answer, frame: Framed
    ) -> None:
        write_s = self._door.settings.write_s
        if not frame.has_body or not isinstance(answer.body, Streamed):
            async with asyncio.timeout(write_s):
                await writer.write_eof(answer.body if frame.has_body else b"")  # type: ignore[arg-type]  # bytes here
            return
        writer.send_headers()
        count = 0
        try:
            async for chunk in cast(AsyncIterator[bytes], answer.body.source):
                count += len(chunk)
                if frame.length is not None and count > frame.length:
                    raise BodyBroken("more bytes came than were promised")
                async with asyncio.timeout(write_s):
                    await writer.write(chunk)
            if frame.length is not None and count < frame.length:
                raise BodyBroken("fewer bytes came than were promised")
        except BaseException:  # also when cancelled: what is incomplete never looks complete
            self._cut()
            raise
        async with asyncio.timeout(write_s):
            await writer.write_eof()

    def _cut(self) -> None:
        self._stays = False
        if self._connection is not None:
            self._connection.cut()


def _outcome(refusal: Refusal, close: bool) -> Answer:
    body = operation_outcome(refusal.code, refusal.words)
    headers = (("Content-Type", JSON_TYPE), ("Cache-Control", "no-store"), *refusal.headers)
    return Answer(refusal.status, _REASONS[refusal.status], headers, body, close=close)


_REASONS: Final = {
    400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long",
    417: "Expectation Failed", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
    505: "HTTP Version Not Supported", 508: "Loop Detected",
}  # fmt: skip


def _let_go(answer: Answer) -> None:
    if isinstance(answer.body, Streamed):
        answer.body.close()


def _bare(host: str) -> str:
    """An IPv4 address that came in through a dual-stack socket, without its IPv6 dress."""
    return host.removeprefix("::ffff:") if "." in host else host.partition("%")[0]
