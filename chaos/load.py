"""Open-loop load: requests leave when they are due, whatever became of those before.

Latency counts from the *scheduled* time, so a stall of the gateway shows in every request that it
delayed (no coordinated omission). The client is a small HTTP/1.1 reader of its own: it sees what
a library would smooth over, an answer cut before its end above all. It never retries, except on a
pooled connection that the gateway had closed while it was idle (RFC 9112 section 9.3.1).
"""

import asyncio
import gzip
import hashlib
import itertools
import json
import math
import re
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from chaos.observed import Sent

ANSWER_S: Final = 35.0
"""A client's own patience: longer than the gateway's longest (records 30 s)."""
CONNECT_S: Final = 5.0
AT_ONCE_MAX: Final = 512
IDLE_CONNECTIONS_MAX: Final = 64
HEAD_BYTES_MAX: Final = 65536
LATE_MAX_S: Final = 0.5
"""Sent later than this after its time, a request says more about the sender than the gateway."""

_ENTRY: Final = re.compile(rb',?\s*\{\s*"resource":\s*\{\s*"resourceType":\s*"OperationOutcome"')
_AS_OF: Final = re.compile(r"class=([a-z-]+)")
_LINK: Final = re.compile(r"link=([\w.-]+)")
_CAUSE: Final = re.compile(r"cause=(\w+)")


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of question a client asks; ``key`` is what makes two reads the same question.

    ``path`` is what stands after ``/{tenant}/{upstream}``. ``ceiling_s`` is the oldest copy that
    its pack allows on the wire.
    """

    tenant: str
    upstream: str
    upstream_key: str
    client: str
    kind: str
    path: str = field(repr=False)
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    is_read: bool = True
    opted_in: bool = True
    ceiling_s: float | None = None

    @property
    def key(self) -> str:
        """A digest: a target may hold an NHS number, and what we note must not."""
        plain = f"{self.tenant} {self.upstream} {self.client} {self.method} {self.path} "
        return hashlib.sha256(plain.encode() + self.body).hexdigest()[:16]


@dataclass(slots=True)
class Answer:
    """What came back, as far as it came."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    trouble: str = ""


class Broken(Exception):
    """The connection ended, or spoke no HTTP, before the answer was whole."""


class Connections:
    """Kept-alive connections to one address. At most ``IDLE_CONNECTIONS_MAX`` wait."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def ask(self, ask: Ask, token: str, within_s: float) -> Answer:
        """Send ``ask`` and read its answer; trouble is in the answer, never raised."""
        answer = Answer()
        try:
            async with asyncio.timeout(within_s):
                while self._idle:
                    reader, writer = self._idle.pop()
                    if reader.at_eof() or writer.is_closing():
                        writer.close()
                        continue
                    try:
                        await self._speak(reader, writer, ask, token, answer)
                    except (Broken, ConnectionError):
                        if answer.status or not ask.is_read:
                            raise
                        continue  # closed while idle: nothing was lost but a try
                    return answer
                async with asyncio.timeout(CONNECT_S):
                    reader, writer = await asyncio.open_connection(
                        self._host, self._port, limit=1 << 20)
                await self._speak(reader, writer, ask, token, answer)
        except TimeoutError:
            answer.trouble = "timeout"
        except Broken as broken:
            answer.trouble = str(broken)
        except OSError as trouble:
            answer.trouble = type(trouble).__name__
        return answer

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: Ask,
                     token: str, answer: Answer) -> None:
        keep = False
        try:
            writer.write(_request(ask, token, f"{self._host}:{self._port}"))
            await writer.drain()
            keep = await _read(reader, answer, ask.method)
        finally:
            if keep and answer.whole and len(self._idle) < IDLE_CONNECTIONS_MAX:
                self._idle.append((reader, writer))
            else:
                writer.close()

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop()[1].close()


def _request(ask: Ask, token: str, host: str) -> bytes:
    lines = [f"{ask.method} /{ask.tenant}/{ask.upstream}{ask.path} HTTP/1.1", f"Host: {host}",
             f"Ssp-TraceID: {token}", f"X-Request-ID: {token}"]
    lines += [f"{name}: {value}" for name, value in ask.headers]
    lines += [f"Content-Length: {len(ask.body)}"] if ask.body or ask.method != "GET" else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + ask.body


async def _read(reader: asyncio.StreamReader, answer: Answer, method: str) -> bool:
    """Read one answer into ``answer``; return whether the connection may be used again."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as short:
        raise Broken("no head" if isinstance(short, asyncio.IncompleteReadError)
                     else "head too long") from None
    line, *fields = head.rstrip("\r\n").split("\r\n")
    found = re.fullmatch(r"HTTP/1\.[01] (\d{3}) .*|HTTP/1\.[01] (\d{3})", line)
    if found is None:
        raise Broken("no HTTP")
    answer.status = int(found[1] or found[2])
    answer.headers = {name.strip().lower(): value.strip() for name, _, value in (
        each.partition(":") for each in fields)}
    closes = "close" in answer.headers.get("connection", "").lower()
    try:
        closes |= await _read_body(reader, answer, method)
    except asyncio.IncompleteReadError as short:
        answer.body += short.partial
        raise Broken("cut short") from None
    except ValueError:
        raise Broken("bad chunk") from None
    answer.whole = True
    return not closes


async def _read_body(reader: asyncio.StreamReader, answer: Answer, method: str) -> bool:
    """Read the body by its framing; return whether it ended by close."""
    if method == "HEAD" or answer.status in (204, 304):
        return False
    if answer.headers.get("transfer-encoding", "").lower() == "chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.strip().partition(b";")[0], 16)
            answer.body += await reader.readexactly(size)
            if await reader.readexactly(2) != b"\r\n":
                raise ValueError
            if size == 0:
                return False
    if "content-length" in answer.headers:
        answer.body = await reader.readexactly(int(answer.headers["content-length"]))
        return False
    answer.body = await reader.read()
    return True


class Load:
    """A practice's programs asking one gateway. ``sent`` grows as answers come.

    ``base`` is the gateway's address. ``phase`` names the current phase and is stamped on each
    request when it is due.
    """

    def __init__(self, base: tuple[str, int], wall: Callable[[], float] = time.time) -> None:
        self.sent: list[Sent] = []
        self.phase = ""
        self.live: Callable[[Sent], None] = lambda _: None
        self._wall = wall
        self._connections = Connections(*base)
        self._serial = itertools.count(1)
        self._at_once = 0

    async def run(self, asks: Iterator[Ask], a_second: float, until: float) -> None:
        """Send from ``asks`` at ``a_second`` until the wall time ``until``, then see all end."""
        async with asyncio.TaskGroup() as group:
            begin = self._wall()
            for n in itertools.count():
                due = begin + n / a_second
                if due >= until:
                    return
                if (wait := due - self._wall()) > 0:
                    await asyncio.sleep(wait)
                if self._at_once < AT_ONCE_MAX:
                    group.create_task(self.one(next(asks), due))

    async def one(self, ask: Ask, due: float | None = None) -> Sent:
        """Send one request now, due at ``due``; note and return what became of it."""
        n, phase = next(self._serial), self.phase
        at = self._wall() if due is None else due
        token = f"{n:08d}-0000-4000-8000-{int(at * 1000) & 0xFFFFFFFFFFFF:012x}"
        self._at_once += 1
        try:
            answer = await self._connections.ask(ask, token, ANSWER_S)
        finally:
            self._at_once -= 1
        noted = note(ask, answer, n, token, phase, at, self._wall() - at)
        self.sent.append(noted)
        self.live(noted)
        return noted

    def close(self) -> None:
        """Close idle connections."""
        self._connections.close()


def note(ask: Ask, answer: Answer, n: int, token: str, phase: str, at: float,
         took_s: float) -> Sent:
    """Return what is worth knowing of an answer, without the answer."""
    headers = answer.headers
    continuity = headers.get("continuity", "")
    klass = _first(_AS_OF, continuity)
    body = plain(answer.body, headers) if answer.whole else b""
    is_copy = klass not in ("", "live")
    if is_copy and answer.status == 200:
        body = without_outcome(body)
    return Sent(
        n=n, at=at, took_s=took_s, phase=phase, tenant=ask.tenant, upstream=ask.upstream,
        upstream_key=ask.upstream_key, client=ask.client, kind=ask.kind, key=ask.key, token=token,
        is_read=ask.is_read, opted_in=ask.opted_in, status=answer.status, whole=answer.whole,
        answer_class=klass, link=_first(_LINK, continuity), cause=_first(_CAUSE, continuity),
        age_s=_number(headers.get("age")), ceiling_s=ask.ceiling_s,
        body_sha=hashlib.sha256(body).hexdigest() if body else "", body_bytes=len(body),
        empty=is_empty_searchset(body), transient=answer.status >= 400 and b"transient" in body,
        has_etag="etag" in headers, no_store="no-store" in headers.get("cache-control", ""),
        marked=is_copy and "as-of=" in continuity and "hit" in headers.get("cache-status", ""),
        trouble=answer.trouble,
        throttled=answer.status == 503 and b"throttled" in body and "retry-after" in headers)


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None


def plain(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return ``body`` without gzip; what cannot be unpacked is returned as it is."""
    if headers.get("content-encoding", "").lower() != "gzip":
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return body


def without_outcome(body: bytes) -> bytes:
    """Return a copy's Bundle less the outcome entry that the gateway spliced in at its end.

    Byte for byte what stood before, since that entry is the last of ``entry`` with its comma.
    Where an ``entry`` array had to be made for it, that array goes too.
    """
    named = body.rfind(b'"OperationOutcome"')
    found = None if named < 0 else _ENTRY.search(body, max(0, named - 80))
    if found is None:
        return body
    start = body.index(b"{", found.start())
    try:
        text = body[start:].decode()
        _, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return body
    after = start + len(text[:end].encode())
    rest = body[after:]
    if not rest.lstrip().startswith(b"]"):
        return body
    made = re.search(rb',?"entry":\[$', body[:found.start()])
    if made is not None and not body[found.start():].startswith(b",") and made[0][:1] == b",":
        return body[:made.start()] + rest.lstrip()[1:]
    return body[:found.start()] + rest


def is_empty_searchset(body: bytes) -> bool:
    """Whether this is a searchset with no match: a statement that there is none."""
    if b'"searchset"' not in body[:400] or len(body) > 4096:
        return False
    try:
        tree = json.loads(body)
    except ValueError:
        return False
    entries = tree.get("entry", []) if isinstance(tree, dict) else [None]
    return not [one for one in entries if one is None or (
        one.get("resource", {}).get("resourceType") != "OperationOutcome")]


def percentile(values: list[float], share: float) -> float | None:
    """Return the value that ``share`` (0 to 1) of ``values`` do not exceed (nearest rank)."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * share) - 1)]
