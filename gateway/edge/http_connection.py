"""One client connection: which bytes are a head, which a body, and when patience ends.

aiohttp's C parser decodes; this class decides how much it is given at a time, namely exactly one
head or one stretch of one body. So each head is measured (414, 431), timed as a whole (408) and
judged before a byte behind it is parsed, and nothing that follows a message of doubtful end is
ever read. Where a body ends is found twice, here and by the parser; where the two disagree the
connection ends.

What aiohttp does with the queue, the idle limit and the task per connection stays its own
(``RequestHandler``); its logger is silent, since it writes out the offending line.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.core.wire import Chunks, Head, Refusal, Seen, unspoken
from gateway.edge.tunnel import reset

LINGER_S: Final = 1.0
"""How long we go on taking what a refused client still sends, so that its kernel does not throw
our answer away: unread bytes at a close turn it into a reset (RFC 9112 §9.6)."""

PIPELINE_MAX: Final = 8  # requests waiting behind the one in work; then the socket is not read

FIELDS_MAX: Final = 256  # field lines in one head; GP Connect clients send some 20



def _silent() -> logging.Logger:
    """A logger that says nothing: aiohttp's own lines hold URLs, hence NHS numbers."""
    logger = logging.Logger("gateway.edge.http_in.silent")
    logger.disabled = True
    return logger


_SILENT: Final = _silent()
_STRAY: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\x00")

LINE_TOO_LONG: Final = Refusal(414, "too-long", "The request line is too long.", close=True)
HEAD_TOO_LARGE: Final = Refusal(431, "too-long", "The header fields are too large.", close=True)
HEAD_TOO_SLOW: Final = Refusal(408, "timeout", "The request head took too long.", close=True)
HEAD_UNREADABLE: Final = Refusal(400, "invalid", "The request is not HTTP as we read it.", True)


class HeadRefused(Exception):
    """Carries a refusal through aiohttp's queue to ``handle_error``; never shown."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.words)
        self.refusal = refusal


class BodyBroken(ConnectionError):
    """The body is not what its framing said, or ended early."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a connection asks of its door. Limits are those of ``[listen]`` in practice.toml."""

    examine: Callable[[Head, "Connection"], Seen | Refusal]
    refuse: Callable[[Refusal], web.StreamResponse]
    opened: Callable[["Connection"], None]
    closed: Callable[["Connection"], None]
    line_bytes_max: int
    head_bytes_max: int
    head_s: float
    idle_s: float


class Slot:
    """A place among the requests that a practice has in work at once; given back once."""

    def __init__(self, counts: Counter[str], ods: str) -> None:
        self._counts, self._ods = counts, ods
        self._is_held = True
        self.is_read = False
        counts[ods] += 1

    def give_back(self) -> None:
        """Count one request less; a second call changes nothing."""
        if self._is_held:
            self._is_held = False
            self._counts[self._ods] -= 1


class Connection(RequestHandler):
    """The server side of one TCP or TLS connection."""

    def __init__(
        self, server: web.Server, rules: Rules, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            server, loop=loop, keepalive_timeout=rules.idle_s, logger=_SILENT, access_log=_SILENT,
            max_line_size=rules.line_bytes_max, max_field_size=rules.head_bytes_max,
            max_headers=FIELDS_MAX, auto_decompress=False, read_bufsize=1 << 16,
        )  # fmt: skip
        self._max_msg_queue_size = PIPELINE_MAX
        self._msg_queue_resume_size = PIPELINE_MAX // 2
        self.examined: deque[Seen | Refusal] = deque()
        self.idle_since = loop.time()
        self.deaf = False  # nothing more is read from this client
        self.slot: Slot | None = None  # the place of the admitted request in work
        self._rules = rules
        self._pending = bytearray()
        self._scanned = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._payload: StreamReader | None = None  # the body that is being read
        self._left = 0
        self._chunks: Chunks | None = None
        self._fed_all = False
        self._half_closed = False
        self._ended: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"Connection({'idle' if self.is_idle else 'busy'})"

    @property
    def is_idle(self) -> bool:
        """Whether no whole request is queued or in work."""
        return self._waiter is not None and not self._messages

    @property
    def certificate(self) -> str:
        """Hex SHA-256 of the certificate that the client showed, ``""`` where it showed none."""
        tls = None if self.transport is None else self.transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(binary_form=True)
        return hashlib.sha256(shown).hexdigest() if shown else ""

    @property
    def closes_next(self) -> bool:
        """Whether nothing can follow the answer that is being written."""
        return self.deaf and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the door may refuse at once where it holds too many."""
        super().connection_made(transport)
        self._rules.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End. A write in work runs on, its answer goes nowhere; a read is given up."""
        if self.slot is not None and self.slot.is_read and self._task_handler is not None:
            self._task_handler.cancel()
        self._stop_head_timer()
        self.deaf = True
        self._break_body()
        self._let_go()
        self._rules.closed(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # the base says None, asyncio bool
        """A client that shut its sending side still gets the answers it is owed (not over TLS,
        where asyncio always closes both ways).

        One that hung up looks the same until we write to it. So a read runs on and no longer
        counts: else a few clients that time out on a hung upstream and ask again would fill
        their practice's limit with reads that nobody waits for.
        """
        self._half_closed = True
        self.deaf = True
        self._break_body()
        self._let_go()
        owed = not self.is_idle
        if self.slot is not None and self.slot.is_read:
            self.slot.give_back()
        plain = self.transport is not None and not self.transport.get_extra_info("sslcontext")
        return bool(owed and plain)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the wire; ``b""`` means that a reader made room for more."""
        if self._force_close or self._close or self.deaf:
            return
        if data:
            self._pending += data
        else:
            self._feed(b"")
        while self._wants_more() and (self._body_step() if self._payload else self._head_step()):
            self.idle_since = self._loop.time()
        if len(self._messages) >= self._max_msg_queue_size and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _wants_more(self) -> bool:
        room = len(self._messages) < self._max_msg_queue_size
        return room and not self.deaf and not self._reading_paused

    def refuse(self, refusal: Refusal) -> None:
        """Answer ``refusal`` in its turn and hear nothing more from this client."""
        error = _ErrInfo(refusal.status, HeadRefused(refusal), "")
        self.deaf = True
        self._pending.clear()
        self._stop_head_timer()
        self._queue(error, EMPTY_PAYLOAD)

    def _queue(self, message: RawRequestMessage | _ErrInfo, payload: StreamReader) -> None:
        self._request_count += 1
        self._messages.append((message, payload))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Heads

    def _head_step(self) -> bool:
        while self._pending.startswith(b"\r\n"):  # RFC 9112 §2.2: blank lines before a head
            del self._pending[:2]
        if not self._pending:
            return False
        end = self._pending.find(b"\r\n\r\n", self._scanned)
        refusal = self._over_a_limit(end)
        if refusal is not None:
            self.refuse(refusal)
            return False
        if end < 0:
            self._scanned = max(0, len(self._pending) - 3)
            self._start_head_timer()
            return False
        self._scanned = 0
        self._stop_head_timer()
        head = bytes(self._pending[: end + 4])
        del self._pending[: end + 4]
        self._admit(head)
        return True

    def _over_a_limit(self, end: int) -> Refusal | None:
        line = self._pending.find(b"\r\n", 0, self._rules.line_bytes_max + 2)
        if line < 0 and len(self._pending) > self._rules.line_bytes_max:
            return LINE_TOO_LONG
        seen = len(self._pending) if end < 0 else end
        if seen - line > self._rules.head_bytes_max and line >= 0:
            return HEAD_TOO_LARGE
        if end >= 0:
            return HEAD_TOO_LARGE if self._pending.count(b"\r\n", 0, end) > FIELDS_MAX else None
        stray = _STRAY.search(self._pending, max(0, self._scanned - 1))
        return HEAD_UNREADABLE if stray else None  # it would wait for CRLF in vain

    def _admit(self, head: bytes) -> None:
        refusal = unspoken(head[: head.find(b"\r\n")])
        if refusal is not None:
            self.refuse(refusal)
            return
        found = self._feed(head)
        if found is None or len(found) != 1:
            self.refuse(HEAD_UNREADABLE)
            return
        message, payload = found[0]
        version = f"HTTP/{message.version.major}.{message.version.minor}"
        seen = self._rules.examine(
            Head(message.method, message.path, version, message.raw_headers), self
        )
        if isinstance(seen, Refusal) and seen.close:
            self.refuse(seen)
            return
        self.examined.append(seen)
        self._begin_body(message, payload)
        if message.should_close and self._payload is None:
            self.deaf = True
        self._queue(message, payload)

    # Bodies

    def _begin_body(self, message: RawRequestMessage, payload: StreamReader) -> None:
        if payload is EMPTY_PAYLOAD:
            return
        self._payload = payload
        self._last = message.should_close
        self._chunks = Chunks() if message.chunked else None
        self._left = 0 if message.chunked else int(message.headers["Content-Length"])
        self._fed_all = False

    def _body_step(self) -> bool:
        if self._fed_all:
            return self._end_body()
        if not self._pending:
            return False
        piece = self._next_piece()
        if piece is None or self._feed(piece) != ():
            self._distrust()
            return False
        return True

    def _next_piece(self) -> bytes | None:
        """Cut the next stretch of the body off what is pending; None where it is no body."""
        if self._chunks is None:
            size = min(self._left, len(self._pending))
            self._left -= size
            self._fed_all = self._left == 0
        else:
            try:
                end = self._chunks.walk(bytes(self._pending))
            except ValueError:
                return None
            size = len(self._pending) if end is None else end
            self._fed_all = end is not None
        piece = bytes(self._pending[:size])
        del self._pending[:size]
        return piece

    def _end_body(self) -> bool:
        """Both readers must see the same end; the parser may need a turn to tell."""
        if self._payload is not None and not self._payload.is_eof():
            self._feed(b"")
            if self._reading_paused:
                return False
        if self._payload is None or not self._payload.is_eof():
            self._distrust()
            return False
        self._payload = None
        self.deaf = self.deaf or self._last
        return True

    def _distrust(self) -> None:
        """The body breaks its framing: its reader is told, nothing behind it is read."""
        self.deaf = True
        self._pending.clear()
        self._break_body()

    def _break_body(self) -> None:
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(BodyBroken("the body broke its framing or ended early"))
        self._payload = None

    def _feed(self, data: bytes) -> Sequence[tuple[Any, StreamReader]] | None:
        """Give the parser ``data``; return the messages it found, None where it objects."""
        if self._parser is None:
            return None
        try:
            messages, upgraded, tail = self._parser.feed_data(data)
        except HttpProcessingError:
            return None
        if upgraded:  # an Upgrade is never taken up (RFC 9110 §7.8 lets us)
            self._parser.set_upgraded(False)
        return None if tail else messages

    # Time and ends

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(self._rules.head_s, self._head_too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        self.refuse(HEAD_TOO_SLOW)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Turn what aiohttp would echo and log into our own refusal."""
        if isinstance(exc, HeadRefused):
            return self._rules.refuse(exc.refusal)
        raise ConnectionResetError("the request had no answer")

    def retire(self) -> None:
        """Close now where nothing is in work, else after the answer that is."""
        if self.is_idle:
            self.force_close()

    def cut(self) -> None:
        """End with a reset, so that what was sent so far cannot look complete."""
        self._force_close = True
        if self.transport is not None:
            reset(self.transport)

    async def linger(self) -> None:
        """Shut our side and take what still comes for a moment, so that our answer arrives."""
        if self.transport is None or self._half_closed:
            return
        self._resume_transport_reading()
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        self._ended = self._loop.create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._ended

    def _let_go(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


class Server(web.Server):
    """Makes a Connection for each client; requests run on when their client hangs up."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Any], rules: Rules
    ) -> None:
        super().__init__(handler, handler_cancellation=False)
        self._rules = rules

    def __call__(self) -> Connection:
        return Connection(self, self._rules, self._loop)


def assert_parser() -> None:
    """Raise RuntimeError where aiohttp runs on its Python parser, whose rules are others."""
    from aiohttp.http import HttpRequestParser

    if HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise RuntimeError("aiohttp runs without its C parser; install the wheel for this machine")
    if not hasattr(BaseProtocol, "_pause_reading_for_buffer"):
        raise RuntimeError("this aiohttp pauses its reading otherwise; the door needs >= 3.14.5")
