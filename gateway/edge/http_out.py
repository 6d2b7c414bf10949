"""One link's HTTP client: a request goes out as it is, and one of three outcomes comes back.

Law: ``send`` returns ``Arrived``, ``NeverLeft`` or ``NoAnswer`` and raises only cancellation.
Which of the last two it is, our own flag decides, set where the connector hands a connection over
(``edge/http_wire``), never an exception's class: aiohttp ends a request that was sent and cut as a
*connection* timeout if it may retry (links.md §17). It may not here, and nothing here retries: a
second send is a decision, so it is made in ``core``.

Bytes pass untouched both ways. A reply is read whole up to ``WHOLE_BYTES_MAX`` and streamed beyond;
one that we refuse, or that was cut, is no answer at all. Connections belong to one link, one epoch
and one tenant. Each send says what it saw as Samples; a pooled connection that the upstream had
closed says nothing (domain.md: a real provider closes after a 400, each 100th answer and 60 s).
"""

import asyncio
import contextlib
import errno
import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.payload import AsyncIterablePayload
from yarl import URL

from gateway.core.gate import Progress
from gateway.core.instant import Mono
from gateway.core.link import Layer, Link, Sample
from gateway.core.message import (
    WHOLE_BYTES_MAX,
    Arrived,
    Cause,
    Ending,
    Headers,
    NeverLeft,
    NoAnswer,
    Outbound,
    Outcome,
    Reply,
    Streamed,
    every,
    first,
)
from gateway.edge.dial import Dialler
from gateway.edge.gate import Gates
from gateway.edge.http_wire import (
    POOLED_S,
    Attempt,
    LinkConnector,
    PlainRequest,
    Step,
    assert_aiohttp_is_the_one_we_know,
)
from gateway.edge.resolver import LinkResolver
from gateway.ports import Clock

POOLED_METERED_S: Final = 86_400.0
"""On a metered link only the upstream ends an idle connection: each new one costs a handshake."""
CONNECTIONS_MAX: Final = 512
"""Sends at once per link: what 64 at once for each of 8 tenants can ask for."""
PATH_CONNECTIONS_MAX: Final = 256
"""Of these, for one tenant and upstream: a hung upstream of one leaves room for the others, and one
that takes two seconds for each of a hundred reads a second is no fault of its link."""
FIELD_BYTES_MAX: Final = 64 * 1024
FIELDS_MAX: Final = 256
OUTSTANDING_S: Final = 0.1
"""Bytes unacknowledged this long after a send, when it is abandoned, speak against the link."""

_TARGET: Final = re.compile(r"[^\x00-\x20\x7f]*")
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_SILENCE: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH,
                             errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL})
_STEP_CAUSE: Final[Mapping[Step | None, tuple[Layer, Cause]]] = {
    None: ("connect", "connect"), "resolve": ("dns", "resolve"), "connect": ("connect", "connect"),
    "tls": ("tls", "tls"), "secured": ("tls", "tls"), "sent": ("request", "reset")}


class ReplyRefused(Exception):
    """A reply head that we do not take: an unknown Transfer-Encoding, or not UTF-8."""


_TROUBLE: Final = (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError, ReplyRefused)
"""What a network can make aiohttp raise; RuntimeError is uvloop's word for a closed transport."""


@dataclass(frozen=True, slots=True)
class UpstreamAt:
    """One upstream as this link reaches it.

    ``base_url`` is ``http(s)://host[:port][/path]``. ``ca_file`` (PEM) replaces the system's
    authorities; ``issuer``, if set, is the common name or organisation of who must have issued its
    certificate, checked before the first byte of a request; ``sni`` is the name asked for and
    checked, if not the URL's host. ``certificates`` are the client certificates by tenant: (PEM
    chain, PEM key).
    """

    id: str
    base_url: str
    ca_file: str = ""
    sni: str = ""
    certificates: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    issuer: str = ""


class _Base:
    """``UpstreamAt.base_url`` taken apart once."""

    def __init__(self, upstream: UpstreamAt) -> None:
        parts = urlsplit(upstream.base_url)
        self.scheme, self.authority = parts.scheme, parts.netloc
        self.path = parts.path.rstrip("/")

    def url(self, target: str) -> URL:
        """The URL whose request target is exactly base path + ``target``.

        All of it goes in as the path: as a query yarl would drop an empty one.
        """
        path = self.path + target
        if not path.startswith("/"):
            path = "/" + path
        return URL.build(scheme=self.scheme, authority=self.authority, path=path, encoded=True)


class _Epoch:
    """One generation of connections. A retired one ends when the last send on it has ended."""

    def __init__(self, connector: LinkConnector) -> None:
        self.connector = connector
        self.session = aiohttp.ClientSession(
            connector=connector, request_class=PlainRequest, cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False, trust_env=False, max_field_size=FIELD_BYTES_MAX,
            max_line_size=FIELD_BYTES_MAX, max_headers=FIELDS_MAX)
        self.session._retry_connection = False
        assert_aiohttp_is_the_one_we_know(self.session)
        self.sends = 0
        self.retired = False

    def leave(self) -> None:
        """One send ended."""
        self.sends -= 1
        self._end_if_done()

    def retire(self) -> None:
        """Take no new sends, drop idle connections at once."""
        self.retired = True
        self.connector.retire()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self.retired and not self.sends:
            self.connector.shut()


class LinkSender:
    """Sends over ``link`` alone; implements ``ports.Sender``. Make it inside the running loop.

    ``upstreams`` by id. ``see`` is told of each connect, handshake and request. Certificates are
    read once, here.

    Raises:
        OSError, ssl.SSLError: a CA file or certificate cannot be read.
    """

    def __init__(self, link: Link, upstreams: Mapping[str, UpstreamAt], resolver: LinkResolver,
                 see: Callable[[Sample], None], clock: Clock, *,
                 connections_max: int = CONNECTIONS_MAX,
                 path_connections_max: int = PATH_CONNECTIONS_MAX) -> None:
        self._link, self._upstreams, self._clock, self._see = link, upstreams, clock, see
        self._resolver = resolver
        self._bases = {each.id: _Base(each) for each in upstreams.values()}
        self._contexts = _tls_contexts(upstreams)
        self._tenants: dict[str, int] = {}
        self._limits = (connections_max, path_connections_max)
        self._busy: Counter[tuple[str, str]] = Counter()
        self._peaks: Counter[tuple[str, str]] = Counter()
        self._begun: dict[int, Mono] = {}
        self._slots = count()
        self.dialler = Dialler(link, resolver)
        self.gates = Gates(link.id, see, clock)
        self.epoch = 0
        self._epoch = self._begin_epoch()
        self._retired: list[_Epoch] = []

    async def send(self, outbound: Outbound,
                   tell: Callable[[Progress], None] | None = None) -> Outcome:
        """Send once and wait for the whole reply, or a stream's head.

        ``tell`` hears "acked" when the peer's kernel has taken all bytes, "unacked" when the gate
        fired on them, until a byte of the reply is heard. Cancelling drops the connection at once.

        Raises:
            ValueError: a mistake of ours: a target or field that cannot stand in a request, or a
                Content-Length that is not its body's. Nothing left.
        """
        headers = _framed(outbound, self._bases[outbound.upstream].authority)
        slot = self._take_slot(outbound)
        if slot is None:
            return NeverLeft(self._link.id, "busy")
        issuer = self._upstreams[outbound.upstream].issuer
        attempt, sent_at = Attempt(outbound.method, issuer), self._clock.now()
        outcome: Outcome | None = None
        unwatch = self.gates.watch(attempt, outbound.upstream, tell)
        try:
            outcome = await self._send(outbound, headers, attempt, sent_at, slot)
        except asyncio.CancelledError as left:
            self._abandoned(outbound, attempt, sent_at)
            # A task keeps its CancelledError, whose traceback keeps aiohttp's frames, whose timer
            # keeps the task: 230 objects that only the collector found, in stops of 40-80 ms.
            raise left.with_traceback(None) from None
        finally:
            unwatch()
            if not (isinstance(outcome, Arrived) and isinstance(outcome.reply.body, Streamed)):
                if not isinstance(outcome, Arrived) and attempt.tap is not None:
                    attempt.tap.cut()
                slot()
        return outcome

    def renew(self) -> None:
        """Begin a new epoch: idle connections are aborted, those at work finish and are not kept.

        A write on a connection that still lives is never cut short (links.md §8).
        """
        old, self._epoch = self._epoch, self._begin_epoch()
        self._retired = [each for each in (*self._retired, old) if each.sends]
        old.retire()

    async def warm(self, tenant: str, upstream: str, n: int, connect_s: float = 1.5) -> int:
        """Have ``n`` idle connections (TCP and TLS) ready; return how many there are.

        At most ``n`` are opened, one after the other, so that a standby link is not burdened.
        """
        connector = self._epoch.connector
        key = self._standby_request(tenant, upstream, Attempt("GET")).connection_key
        for _ in range(n):  # not until there are n: an upstream may close each one as it comes
            if connector.idle(key) >= n or connector.closed:
                break
            attempt = Attempt("GET", self._upstreams[upstream].issuer)
            sent_at = self._clock.now()
            request = self._standby_request(tenant, upstream, attempt)
            try:
                await connector.open_standby(request, _timeouts(connect_s))
            except _TROUBLE as exc:
                layer, cause = _never_left(exc, attempt)
                self._see_connecting(upstream, attempt)
                self._miss(upstream, layer, cause, sent_at, connect_s, heard=_spoke(exc))
                break
            self._see_connecting(upstream, attempt)
        return connector.idle(key)

    def trim(self, tenant: str, upstream: str, keep: int) -> int:
        """Close idle connections beyond ``keep``, the oldest first; return how many there were."""
        key = self._standby_request(tenant, upstream, Attempt("GET")).connection_key
        return self._epoch.connector.trim(key, keep)

    def peak(self, tenant: str, upstream: str) -> int:
        """The most sends under way at once since this was asked last."""
        path = (tenant, upstream)
        peak = max(self._peaks[path], self._busy[path])
        self._peaks[path] = self._busy[path]
        return peak

    def begun_before(self, at: Mono) -> int:
        """How many sends and streams under way began before ``at``."""
        return sum(begun < at for begun in self._begun.values())

    async def dial(self, host: str, port: int,
                   timeout: float = 3.0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection over this link, for tunnels. Raises OSError."""
        return await self.dialler.dial(host, port, timeout)

    def dial_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """The same for another thread, blocking. Raises OSError."""
        return self.dialler.dial_socket(host, port, timeout)

    @property
    def in_flight(self) -> int:
        """Sends and streams under way."""
        return sum(self._busy.values())

    async def close(self) -> None:
        """End every connection at once. The resolver is closed by whoever made it."""
        self.gates.close()
        for epoch in (*self._retired, self._epoch):
            epoch.retired = True
            epoch.connector.shut()
        await asyncio.sleep(0)  # connection_lost of what was aborted is called on the next turn

    def _begin_epoch(self) -> _Epoch:
        self.epoch += 1
        idle_s = POOLED_METERED_S if self._link.metered else POOLED_S
        return _Epoch(LinkConnector(self.dialler, self._resolver, self._clock, idle_s))

    def _take_slot(self, outbound: Outbound) -> Callable[[], None] | None:
        """Return what gives the slot back (once), None where there is none: refused, not queued.

        aiohttp would wait for a slot in silence, and a hung upstream would hang them all.
        """
        path = (outbound.tenant, outbound.upstream)
        link_max, path_max = self._limits
        if self._busy[path] >= path_max or self.in_flight >= link_max:
            return None
        self._busy[path] += 1
        self._peaks[path] = max(self._peaks[path], self._busy[path])
        number = next(self._slots)
        self._begun[number] = self._clock.now()
        epoch = self._epoch
        epoch.sends += 1
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._busy[path] -= 1
                del self._begun[number]
                epoch.leave()

        return give_back

    async def _send(self, outbound: Outbound, headers: Headers, attempt: Attempt, sent_at: Mono,
                    slot: Callable[[], None]) -> Outcome:
        deadline = asyncio.timeout(outbound.patience_s)
        try:
            async with deadline:
                response = await self._ask(outbound, headers, attempt, deadline)
                self._see_answer(outbound.upstream, attempt, response.status)
                reply = await self._read(response, outbound, attempt, slot)
        except _TROUBLE as exc:
            return self._failed(exc, outbound, attempt, sent_at)
        return Arrived(self._link.id, reply, self._clock.now() - sent_at)

    async def _ask(self, outbound: Outbound, headers: Headers, attempt: Attempt,
                   deadline: asyncio.Timeout) -> aiohttp.ClientResponse:
        tenant = self._number(outbound.tenant)

        async def dress(request: aiohttp.ClientRequest,
                        onward: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            assert isinstance(request, PlainRequest)
            request.dress(attempt, outbound.method, headers, tenant)
            body = outbound.body
            request.carry(
                AsyncIterablePayload(_uploaded(body, outbound, deadline))
                if isinstance(body, Streamed) else body, _is_chunked(headers))
            return await onward(request)

        upstream = self._upstreams[outbound.upstream]
        return await self._epoch.session.request(
            outbound.method, self._bases[upstream.id].url(outbound.target),
            allow_redirects=False, timeout=_timeouts(outbound.connect_s), middlewares=(dress,),
            ssl=self._context(upstream, outbound.tenant), server_hostname=upstream.sni or None)

    async def _read(self, response: aiohttp.ClientResponse, outbound: Outbound, attempt: Attempt,
                    slot: Callable[[], None]) -> Reply:
        headers, reason = _decoded(response)
        ending = _ending(outbound.method, response.status, headers)
        declared = _length(headers) if ending == "length" else None
        pieces: list[bytes] = []
        size = 0
        while (declared or 0) <= WHOLE_BYTES_MAX and size <= WHOLE_BYTES_MAX:
            piece = await response.content.readany()
            if not piece:
                _assert_whole(attempt, ending)
                return Reply(response.status, reason, headers, b"".join(pieces), ending,
                             attempt.scanner.unambiguous)
            pieces.append(piece)
            size += len(piece)
        let_go = partial(_let_go, response, attempt, slot)
        poured = self._pour(pieces, response, outbound, attempt, ending, let_go)
        return Reply(response.status, reason, headers, Streamed(poured, declared, let_go), ending,
                     attempt.scanner.unambiguous)

    async def _pour(self, pieces: list[bytes], response: aiohttp.ClientResponse,
                    outbound: Outbound, attempt: Attempt, ending: Ending,
                    let_go: Callable[[], None]) -> AsyncIterator[bytes]:
        """The pieces of a stream, read only as fast as they are taken.

        Raises:
            OSError: it was cut, or stood still for ``idle_s``. What was given before is not whole.
        """
        waited_from = self._clock.now()
        try:
            while pieces:
                yield pieces.pop(0)
            while True:
                waited_from = self._clock.now()
                async with asyncio.timeout(outbound.idle_s):
                    piece = await response.content.readany()
                if not piece:
                    break
                yield piece
            _assert_whole(attempt, ending)
        except _TROUBLE as exc:
            cause = _cause(exc, attempt)
            self._miss(outbound.upstream, "request", cause, waited_from, outbound.idle_s)
            raise ConnectionResetError(errno.ECONNRESET, f"the reply ended early: {cause}") from exc
        finally:
            let_go()

    def _failed(self, exc: BaseException, outbound: Outbound, attempt: Attempt,
                sent_at: Mono) -> Outcome:
        """The one translation from what was raised to an outcome, and its sample."""
        upstream = outbound.upstream
        self._see_connecting(upstream, attempt)
        if not attempt.handed_over:
            layer, cause = _never_left(exc, attempt)
            due_s = min(outbound.connect_s, outbound.patience_s)
            self._miss(upstream, layer, cause, sent_at, due_s, heard=_spoke(exc))
            return NeverLeft(self._link.id, cause)
        cause = _cause(exc, attempt)
        fresh = not (attempt.reused and not attempt.heard and cause == "reset")
        if fresh:
            self._miss(upstream, "request", cause, sent_at, outbound.patience_s,
                       heard=attempt.heard or cause == "reset")
        return NoAnswer(self._link.id, cause, fresh)

    def _abandoned(self, outbound: Outbound, attempt: Attempt, sent_at: Mono) -> None:
        """A send that lost its race: a miss only if the peer's kernel never took its bytes."""
        now = self._clock.now()
        sent = attempt.began("sent")
        if sent is not None and now - sent >= OUTSTANDING_S and _is_outstanding(attempt):
            self._miss(outbound.upstream, "request", "abandoned", sent_at, now - sent_at)

    def _see_connecting(self, upstream: str, attempt: Attempt) -> None:
        """Samples of the steps that went well, for a connection opened just now."""
        connecting, shaking = attempt.began("connect"), attempt.began("tls")
        secured = attempt.began("secured")
        if connecting is not None and shaking is not None and shaking >= connecting:
            self._hit(upstream, "connect", connecting, shaking)
        if shaking is not None and secured is not None and self._bases[upstream].scheme == "https":
            self._hit(upstream, "tls", shaking, secured)

    def _see_answer(self, upstream: str, attempt: Attempt, status: int) -> None:
        self._see_connecting(upstream, attempt)
        sent = attempt.began("sent")
        if sent is not None:
            self._hit(upstream, "request", sent, self._clock.now(), str(status))

    def _hit(self, upstream: str, layer: Layer, sent_at: Mono, at: Mono, detail: str = "") -> None:
        self._see(Sample(self._link.id, upstream, layer, True, sent_at, at,
                         rtt_ms=(at - sent_at) * 1000, detail=detail))

    def _miss(self, upstream: str, layer: Layer, cause: Cause, sent_at: Mono, due_s: float,
              heard: bool = False) -> None:
        """``heard``: the peer did answer, if only to refuse; then the miss has a round trip."""
        now = self._clock.now()
        self._see(Sample(self._link.id, upstream, layer, False, sent_at,
                         Mono(min(now, sent_at + due_s)),
                         rtt_ms=(now - sent_at) * 1000 if heard else None, detail=cause))

    def _standby_request(self, tenant: str, upstream: str, attempt: Attempt) -> PlainRequest:
        at = self._upstreams[upstream]
        request = PlainRequest("GET", self._bases[upstream].url(""),
                               loop=asyncio.get_running_loop(), session=self._epoch.session,
                               ssl=self._context(at, tenant), server_hostname=at.sni or None)
        request.dress(attempt, "GET", (), self._number(tenant))
        return request

    def _number(self, tenant: str) -> int:
        return self._tenants.setdefault(tenant, len(self._tenants) + 1)

    def _context(self, upstream: UpstreamAt, tenant: str) -> ssl.SSLContext | bool:
        if self._bases[upstream.id].scheme != "https":
            return True  # aiohttp's "verify": unused without TLS
        return self._contexts[_identity(upstream, tenant)]


def _identity(upstream: UpstreamAt, tenant: str) -> tuple[str, str, str]:
    chain, key = upstream.certificates.get(tenant, ("", ""))
    return upstream.ca_file, chain, key


def _tls_contexts(
        upstreams: Mapping[str, UpstreamAt]) -> dict[tuple[str, str, str], ssl.SSLContext]:
    """One context for each (CA file, certificate, key): verified, TLS 1.2 at least."""
    contexts: dict[tuple[str, str, str], ssl.SSLContext] = {}
    for upstream in upstreams.values():
        if not upstream.base_url.startswith("https:"):
            continue
        for tenant in ("", *upstream.certificates):
            ca_file, chain, key = identity = _identity(upstream, tenant)
            if identity in contexts:
                continue
            context = ssl.create_default_context(cafile=ca_file or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            if chain:
                context.load_cert_chain(chain, key or None)
            contexts[identity] = context
    return contexts


def _timeouts(connect_s: float) -> aiohttp.ClientTimeout:
    """Both, as ``sock_connect`` is granted again for each address; unrounded (links.md §17)."""
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s,
                                 ceil_threshold=float("inf"))


def _framed(outbound: Outbound, authority: str) -> Headers:
    """The fields as they leave: the client's own, with Host or a framing field where none stands.

    Raises:
        ValueError: it cannot be sent as it is; the words never repeat what it was.
    """
    headers = outbound.headers
    if not (_NAME.fullmatch(outbound.method) and _TARGET.fullmatch(outbound.target)
            and all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers)):
        raise ValueError("a method, target or field holds what no request may hold")
    if first(headers, "host") is None:
        headers = (("Host", authority), *headers)
    body = outbound.body
    length = body.length if isinstance(body, Streamed) else len(body)
    if outbound.chunked or length is None:
        rest = tuple(pair for pair in headers if pair[0].lower() != "content-length")
        return rest if _is_chunked(rest) else (*rest, ("Transfer-Encoding", "chunked"))
    stated = every(headers, "content-length")
    if not stated:
        return (*headers, ("Content-Length", str(length))) if length else headers
    if len(stated) > 1 or not _DIGITS.fullmatch(stated[0]) or int(stated[0]) != length:
        raise ValueError("Content-Length is not the length of the body")
    return headers


def _is_chunked(headers: Headers) -> bool:
    return first(headers, "transfer-encoding") is not None


async def _uploaded(body: Streamed, outbound: Outbound,
                    deadline: asyncio.Timeout) -> AsyncIterator[bytes]:
    """A request body as it comes, each piece asked for when the last has left.

    While it progresses the wait for the answer has not begun, so each piece puts it off.
    """
    assert isinstance(body.source, AsyncIterator)
    loop = asyncio.get_running_loop()
    async for piece in body.source:
        yield piece
        with contextlib.suppress(RuntimeError):  # the answer's head came first
            deadline.reschedule(loop.time() + max(outbound.idle_s, outbound.patience_s))
    with contextlib.suppress(RuntimeError):
        deadline.reschedule(loop.time() + outbound.patience_s)


def _decoded(response: aiohttp.ClientResponse) -> tuple[Headers, str]:
    """The reply's fields and reason as text that encodes back to the very bytes.

    Raises:
        ReplyRefused: not UTF-8, or a Transfer-Encoding that is not one ``chunked`` in HTTP/1.1.
    """
    try:
        headers = tuple((name.decode(), value.decode()) for name, value in response.raw_headers)
        reason = response.reason or ""
        reason.encode()
    except UnicodeError as exc:
        raise ReplyRefused("not UTF-8") from exc
    codings = every(headers, "transfer-encoding")
    old = response.version is None or response.version < aiohttp.HttpVersion11
    if codings and (len(codings) > 1 or codings[0].strip().lower() != "chunked" or old):
        raise ReplyRefused("Transfer-Encoding")
    if response.status < 200:
        raise ReplyRefused("switching protocols")
    return headers, reason


def _ending(method: str, status: int, headers: Headers) -> Ending:
    """How the reply ends, RFC 9112 §6.3."""
    if method == "HEAD" or status in (204, 304):
        return "none"
    if _is_chunked(headers):
        return "chunked"
    return "close" if first(headers, "content-length") is None else "length"


def _length(headers: Headers) -> int | None:
    stated = first(headers, "content-length") or ""
    return int(stated) if _DIGITS.fullmatch(stated) else None


def _assert_whole(attempt: Attempt, ending: Ending) -> None:
    """aiohttp takes whatever ends by close for whole, a reset included (links.md §17).

    Raises:
        ConnectionResetError: it was cut.
    """
    scanner = attempt.scanner
    cut = attempt.trouble is not None if ending == "close" else not (scanner.ended or scanner.lost)
    if cut:
        raise ConnectionResetError(errno.ECONNRESET, "the reply was cut")


def _let_go(response: aiohttp.ClientResponse, attempt: Attempt,
            slot: Callable[[], None]) -> None:
    """Give back what a stream holds; a connection in the middle of a reply is of no more use."""
    if not response.content.is_eof() and attempt.tap is not None:
        attempt.tap.cut()
    response.close()
    slot()


def _never_left(exc: BaseException, attempt: Attempt) -> tuple[Layer, Cause]:
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return "tls", "certificate"
    if isinstance(exc, aiohttp.ClientConnectorSSLError):
        return "tls", "tls"
    return _STEP_CAUSE[attempt.step]


def _spoke(exc: BaseException) -> bool:
    """True where the peer itself answered, if only to refuse: the path to it works."""
    return isinstance(exc, aiohttp.ClientSSLError) or getattr(exc, "errno", None) in (
        errno.ECONNREFUSED, errno.ECONNRESET)


def _cause(exc: BaseException, attempt: Attempt) -> Cause:
    """Why a request that was handed over has no answer."""
    if isinstance(exc, ReplyRefused | aiohttp.ClientResponseError | HttpProcessingError):
        return "bad_reply"
    if attempt.scanner.lost:
        return "bad_reply"
    if isinstance(exc, TimeoutError) or getattr(exc, "errno", None) in _SILENCE:
        return "timeout"
    return "reset" if attempt.scanner.ending is None else "truncated"


def _is_outstanding(attempt: Attempt) -> bool:
    """True while bytes of ours are unacknowledged: TCP_INFO's unacked and notsent (links.md §6)."""
    used = attempt.tap.raw_socket() if attempt.tap is not None else None
    if used is None:
        return False
    try:
        told = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except (OSError, ValueError):  # closed: asyncio's and uvloop's words for it
        return False
    return bool(struct.unpack_from("<I", told, 24)[0]
                or (len(told) >= 148 and struct.unpack_from("<I", told, 144)[0]))
