"""What we bend in aiohttp's client: the bytes that leave, their connection, and its replies.

Three subclasses, used by ``edge/http_out`` alone, and the start-up assertion that holds them to
the aiohttp they were written against (3.14, links.md §17):

- ``PlainRequest`` sends exactly the fields it is given, in their order and case, and adds none.
- ``LinkConnector`` sets the flag that divides ``NeverLeft`` from ``NoAnswer`` at the one moment
  that counts, when it hands a connection over, and tells which step of connecting is under way.
- ``TappedConnection`` shows each reply's raw bytes to ``core/framing`` before aiohttp's lenient
  parser sees them, and withholds all that comes after a reply's end: bytes that nobody asked for
  are never the next request's answer. They, and any reply with two readings, end the connection.
"""

import asyncio
import inspect
import select
import ssl
from typing import Any, Final, Literal, TypeAlias

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.payload import AsyncIterablePayload, BytesPayload
from aiohttp.tracing import Trace
from multidict import CIMultiDict

from gateway.core.framing import Scanner
from gateway.core.instant import Mono
from gateway.core.message import Headers
from gateway.edge.dial import Dialler
from gateway.edge.resolver import LinkResolver
from gateway.ports import Clock

Step: TypeAlias = Literal["resolve", "connect", "tls", "secured", "sent"]

POOLED_S: Final = 50.0
"""How long an idle connection is kept: a real provider closes its own after 60 s (domain.md)."""


class Attempt:
    """One send as far as it got: written by the connector and the tap, read by ``http_out``.

    ``handed_over`` is the flag: False means that not a byte was given to any connection.
    ``reused`` tells that the connection came from the pool, ``heard`` that a byte of a reply came,
    ``lost`` that the connection ended and ``trouble`` with what (None: it was closed in order).
    ``steps`` are the steps of connecting with the time each began. ``issuer``, if any, is who must
    have issued the certificate that is shown.
    """

    def __init__(self, method: str, issuer: str = "") -> None:
        self.issuer = issuer
        self.steps: list[tuple[Step, Mono]] = []
        self.handed_over = False
        self.reused = False
        self.heard = False
        self.lost = False
        self.trouble: BaseException | None = None
        self.scanner = Scanner(method)
        self.tap: TappedConnection | None = None

    @property
    def step(self) -> Step | None:
        """The step under way, None before the first."""
        return self.steps[-1][0] if self.steps else None

    def began(self, step: Step) -> Mono | None:
        """When ``step`` began the last time, None if it never did."""
        return next((when for each, when in reversed(self.steps) if each == step), None)


class TappedConnection(ResponseHandler):
    """One connection to an upstream; between requests it accepts no byte."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._attempt: Attempt | None = None
        self._kept: asyncio.Transport | None = None
        self.used = False

    def begin(self, attempt: Attempt) -> None:
        """From now until ``rest`` what comes belongs to ``attempt``."""
        self._attempt, self._kept = attempt, self.transport
        attempt.tap, self.used = self, True

    def rest(self) -> None:
        """Nothing is asked for any more."""
        self._attempt = None

    def cut(self) -> None:
        """End the connection at once, whatever still waits in its buffers."""
        self.force_close()
        transport = self.transport or self._kept  # aiohttp's close() forgets it, and may linger
        if transport is not None:
            transport.abort()

    def raw_socket(self) -> Any:
        """The socket below, also just after aiohttp let go of it; None if there never was one."""
        transport = self.transport or self._kept
        return transport.get_extra_info("socket") if transport is not None else None

    def is_readable(self) -> bool:
        """True when the kernel holds something that the loop has not read yet, an end included."""
        used = self.raw_socket()
        if used is None or used.fileno() < 0:
            return True
        look = select.poll()
        look.register(used.fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(look.poll(0))

    def data_received(self, data: bytes) -> None:
        """Let the scanner read ``data`` first; pass on what belongs to the reply and no more."""
        attempt = self._attempt
        if not data:  # aiohttp resumes its own parser with nothing
            super().data_received(data)
            return
        if attempt is None:
            self.cut()
            return
        attempt.heard = True
        scanner = attempt.scanner
        belongs = scanner.feed(data)
        if not scanner.unambiguous:
            self.force_close()
        if scanner.overgrown:
            self.cut()
        elif belongs:
            super().data_received(data[:belongs] if belongs < len(data) else data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the attempt how it ended before aiohttp tells whoever reads."""
        attempt, payload = self._attempt, self._payload
        if attempt is not None:
            attempt.lost, attempt.trouble = True, exc
            if exc is None:
                attempt.scanner.finish()
        super().connection_lost(exc)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            # after an error in a later segment aiohttp leaves the reader waiting for ever (measured
            # with a Content-Length among the trailers)
            payload.set_exception(aiohttp.ClientPayloadError("the connection ended"))


class PlainRequest(aiohttp.ClientRequest):
    """A request that leaves as it was given: nothing added, nothing reordered, nothing decoded."""

    attempt: Attempt
    tenant = 0

    def dress(self, attempt: Attempt, method: str, headers: Headers, tenant: int) -> None:
        """Give it its own fields. ``tenant`` keeps pools of different tenants apart."""
        self.attempt, self.method, self.tenant = attempt, method, tenant
        self.headers = CIMultiDict(headers)

    def carry(self, body: bytes | AsyncIterablePayload, chunked: bool) -> None:
        """Give it its body, framed by the Content-Length among its fields or as chunks."""
        self.chunked = True if chunked else None
        if isinstance(body, bytes):
            self._body = BytesPayload(body) if body else None
        else:
            self._body = body

    @property
    def connection_key(self) -> ConnectionKey:
        """The pool's key: by tenant too, so that no two ever speak on one connection."""
        return super().connection_key._replace(proxy_headers_hash=self.tenant)

    def update_headers(self, headers: Any) -> None:
        """Nothing yet: ``dress`` gives them, where repeats in another case survive."""
        self.headers = CIMultiDict()

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        """None: the provider answers 415 to an ``Accept: */*`` (domain.md)."""
        self._skip_auto_headers = CIMultiDict({"Content-Type": None})

    def update_cookies(self, cookies: Any) -> None:
        """None but the client's own."""

    def update_content_encoding(self, data: Any) -> None:
        """The body is already as it should be."""
        self.compress = None

    def update_transfer_encoding(self) -> None:
        """``carry`` says how the body is framed."""

    def update_auth(self, auth: Any, trust_env: bool = False) -> None:
        """None but the client's own."""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """``carry`` gives it."""
        self._body = None

    def update_expect_continue(self, expect: bool = False) -> None:
        """``Expect`` was answered at the front door."""


class LinkConnector(aiohttp.TCPConnector):
    """The pool of one link and epoch. It waits for no slot: ``http_out`` counts, and refuses."""

    def __init__(self, dialler: Dialler, resolver: LinkResolver, clock: Clock,
                 idle_s: float = POOLED_S) -> None:
        super().__init__(
            resolver=resolver, use_dns_cache=False, limit=0, limit_per_host=0,
            keepalive_timeout=idle_s, timeout_ceil_threshold=float("inf"),
            socket_factory=dialler.make_socket)
        self._dialler, self._link_resolver, self._clock = dialler, resolver, clock
        self._retired = False

    async def connect(self, req: aiohttp.ClientRequest, traces: list[Trace],
                      timeout: aiohttp.ClientTimeout) -> Connection:
        """Hand a connection to ``req``: before this returns nothing left, after it anything may."""
        assert isinstance(req, PlainRequest)
        connection = await super().connect(req, traces, timeout)
        tap = connection.protocol
        assert isinstance(tap, TappedConnection)
        attempt = req.attempt
        if not tap.used and not req.is_ssl() and tap.is_readable():
            # it ended, or spoke, before it was asked: an answer to nobody (TLS has its tickets)
            connection.close()
            raise aiohttp.ClientConnectionError("the connection ended before its use")
        attempt.reused = tap.used
        tap.begin(attempt)
        self._dialler.rest(tap.transport, idle=False)
        attempt.steps.append(("sent", self._clock.now()))
        attempt.handed_over = True
        return connection

    async def open_standby(self, req: PlainRequest, timeout: aiohttp.ClientTimeout) -> None:
        """Open one connection, TLS included, straight into the pool.

        Raises:
            aiohttp.ClientError, OSError: it could not be opened in time.
        """
        async with asyncio.timeout(timeout.connect):
            tap = await self._create_connection(req, [], timeout)
        assert isinstance(tap, TappedConnection)
        tap.used = True
        self._acquired.add(tap)
        self._release(req.connection_key, tap)

    def idle(self, key: ConnectionKey) -> int:
        """How many connections wait in the pool under ``key``."""
        return sum(tap.is_connected() for tap, _ in self._conns.get(key, ()))

    def trim(self, key: ConnectionKey, keep: int) -> int:
        """Close idle connections under ``key`` beyond ``keep``; return how many there were."""
        waiting = [tap for tap, _ in self._conns.get(key, ()) if tap.is_connected()]
        for tap in waiting[:max(0, len(waiting) - keep)]:
            tap.abort()
        return len(waiting)

    def retire(self) -> None:
        """Drop what is idle now, and pool nothing any more: what is at work may finish."""
        self._retired = True
        for waiting in self._conns.values():
            for tap, _ in waiting:
                tap.abort()
        self._conns.clear()

    def shut(self) -> None:
        """End every connection at once, those at work too."""
        self.retire()
        for tap in tuple(self._acquired):
            tap.abort()
        self._close(abort_ssl=True)

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """From the pool, but never one on which something already waits to be read.

        On an idle connection that is its end, which the loop has not told us yet, or bytes that
        nobody asked for. A write handed to it would be in doubt for nothing.
        """
        while (connection := await super()._get(key, traces)) is not None:
            tap = connection.protocol
            assert isinstance(tap, TappedConnection)
            if not tap.is_readable():
                return connection
            connection.close()
        return None

    async def _create_direct_connection(self, req: aiohttp.ClientRequest, *args: Any,
                                        **kwargs: Any) -> tuple[asyncio.Transport, ResponseHandler]:
        assert isinstance(req, PlainRequest)
        req.attempt.steps.append(("resolve", self._clock.now()))
        return await super()._create_direct_connection(req, *args, **kwargs)

    async def _wrap_create_connection(self, *args: Any, req: aiohttp.ClientRequest,
                                      **kwargs: Any) -> tuple[asyncio.Transport, ResponseHandler]:
        """asyncio calls the factory once TCP stands and returns once TLS does: so we see both."""
        assert isinstance(req, PlainRequest)
        attempt, clock = req.attempt, self._clock
        attempt.steps.append(("connect", clock.now()))

        def made() -> ResponseHandler:
            attempt.steps.append(("tls", clock.now()))
            return TappedConnection(self._loop)

        transport, tap = await super()._wrap_create_connection(
            made, *args[1:], req=req, **kwargs)
        if req.is_ssl() and attempt.issuer and attempt.issuer not in issuers(transport):
            transport.abort()
            raise aiohttp.ClientConnectorCertificateError(
                req.connection_key, ssl.CertificateError("another issuer"))
        attempt.steps.append(("secured", clock.now()))
        if req.is_ssl():
            peer = transport.get_extra_info("peername")
            if peer:
                self._link_resolver.proved(req.host, str(peer[0]))
        return transport, tap

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *,
                 should_close: bool = False) -> None:
        assert isinstance(protocol, TappedConnection)
        protocol.rest()
        self._dialler.rest(protocol.transport, idle=True)
        super()._release(key, protocol, should_close=should_close or self._retired)


def issuers(transport: asyncio.BaseTransport) -> frozenset[str]:
    """Return the common name and organisation of who issued the certificate that was shown."""
    shown = transport.get_extra_info("peercert") or {}
    return frozenset(value for part in shown.get("issuer", ()) for name, value in part
                     if name in ("commonName", "organizationName"))


def assert_aiohttp_is_the_one_we_know(session: aiohttp.ClientSession) -> None:
    """Hold the seams that we reach through; call it once for each session.

    Raises:
        RuntimeError: aiohttp changed below us. Without these a request could be sent twice behind
            our back (promise 2) or a reply pass unread; so the gateway does not start.
    """
    seams: dict[str, bool] = {
        "ClientSession._retry_connection": session._retry_connection is False,
        "TCPConnector._create_direct_connection": _takes(
            aiohttp.TCPConnector._create_direct_connection, "req", "traces", "timeout"),
        "TCPConnector._wrap_create_connection": _takes(
            aiohttp.TCPConnector._wrap_create_connection, "addr_infos", "req", "timeout"),
        "TCPConnector._get": _takes(aiohttp.TCPConnector._get, "key", "traces"),
        "TCPConnector._release": _takes(
            aiohttp.TCPConnector._release, "key", "protocol", "should_close"),
        "TCPConnector._close": _takes(aiohttp.TCPConnector._close, "abort_ssl"),
        "ConnectionKey.proxy_headers_hash": "proxy_headers_hash" in ConnectionKey._fields,
        "ClientRequest._body": hasattr(aiohttp.ClientRequest, "_body"),
        "ResponseHandler.data_received": _takes(ResponseHandler.data_received, "data"),
    } | {f"ClientRequest.{name}": name in vars(aiohttp.ClientRequest)
         for name in vars(PlainRequest) if name.startswith("update_")}
    gone = [name for name, stands in seams.items() if not stands]
    if gone:
        raise RuntimeError(f"this aiohttp ({aiohttp.__version__}) is not the one we know: "
                           + ", ".join(gone))


def _takes(function: Any, *names: str) -> bool:
    return set(names) <= set(inspect.signature(function).parameters)
