"""One link's prober: asks one target one small thing, and a miss is a Sample like any other.

Law: ``ask`` never raises. A TCP probe is a connection, a TLS probe a verified handshake, an HTTP
probe a body that is exactly what was expected: "any answer" is how a portal's page passes for a
working link (links.md §14), so a 200 with other bytes is a miss whose detail is ``not_the_api``.
Sockets are bound like those of requests; names go through the link's own resolver. A miss is dated
when the answer was due, never when we noticed.

HTTP is spoken by hand, five lines of it: a probe must not share pools, retries or limits with the
client that it judges.
"""

import asyncio
import contextlib
import errno
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Final

from gateway.core.echo import Loss
from gateway.core.instant import Mono
from gateway.core.link import Layer, Link, Probe, Sample
from gateway.core.message import Cause
from gateway.edge.dial import Dialler
from gateway.edge.echo import EchoClient, context
from gateway.ports import Clock

REPLY_BYTES_MAX: Final = 64 * 1024
"""A probe's whole reply; a page larger than that is no echo of ours."""
_LAYERS: Final[Mapping[str, Layer]] = {"tcp": "connect", "tls": "tls", "http": "http"}
_TARGET: Final = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<name>[^:\[\]]+)):(?P<port>[0-9]{1,5})")


class NotTheEcho(Exception):
    """The target answered, but not what it should."""


class LinkProber:
    """Probes over ``link`` alone; implements ``ports.Prober``. Make it inside the running loop.

    ``timeout_s`` is what LinkRules.probe_timeout_s says. CA files and secrets are read once, here.
    ``late`` is told of echoes that came after they were due. ``close`` it.

    Raises:
        OSError, ssl.SSLError: a CA file or a secret cannot be read.
    """

    def __init__(self, link: Link, dialler: Dialler, clock: Clock, timeout_s: float = 0.8,
                 late: Callable[[Sample], None] = lambda sample: None) -> None:
        self._link, self._dialler, self._clock = link, dialler, clock
        self._timeout_s = timeout_s
        self._contexts = {probe.ca_file: context(probe.ca_file) for probe in link.probes
                          if probe.kind == "tls"}
        self._echo = EchoClient(link, dialler, clock, timeout_s, late)

    async def ask(self, probe: Probe) -> Sample:
        """Ask ``probe`` once and wait at most ``timeout_s``, name and handshake included."""
        if probe.kind == "echo":
            return await self._echo.ask(probe)
        sent_at = self._clock.now()
        cause: Cause | None = None
        heard = True
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._ask(probe)
        except NotTheEcho:
            cause = "not_the_api"
        except ssl.SSLCertVerificationError:
            cause = "certificate"
        except ssl.SSLError:
            cause = "tls"
        except TimeoutError:
            cause, heard = "timeout", False
        except (OSError, asyncio.IncompleteReadError, RuntimeError) as exc:
            heard = getattr(exc, "errno", None) in (errno.ECONNREFUSED, errno.ECONNRESET)
            cause = "reset" if isinstance(exc, asyncio.IncompleteReadError) else "connect"
        return self._sample(probe, sent_at, cause, heard)

    async def ladder(self, probe: Probe, sizes: tuple[int, ...]) -> tuple[Sample, ...]:
        """Ask an echo probe with packets of each of ``sizes`` bytes; no other kind has a ladder."""
        return await self._echo.ladder(probe, sizes) if probe.kind == "echo" else ()

    def losses(self) -> dict[str, Loss]:
        """Return per echo probe what became of its last questions, and on which way."""
        return self._echo.losses()

    def close(self) -> None:
        """Let go of the echoes' sockets."""
        self._echo.close()

    def _sample(self, probe: Probe, sent_at: Mono, cause: Cause | None, heard: bool) -> Sample:
        now = self._clock.now()
        rtt_ms = (now - sent_at) * 1000 if heard else None
        if cause is None:
            return Sample(self._link.id, probe.id, _LAYERS[probe.kind], True, sent_at, now,
                          anchor=True, rtt_ms=rtt_ms)
        due = Mono(min(now, sent_at + self._timeout_s))
        return Sample(self._link.id, probe.id, _LAYERS[probe.kind], False, sent_at, due,
                      anchor=True, rtt_ms=rtt_ms, detail=cause)

    async def _ask(self, probe: Probe) -> None:
        match = _TARGET.fullmatch(probe.target)
        if match is None:
            raise OSError(errno.EINVAL, "a probe's target is host:port")
        host, port = match["six"] or match["name"], int(match["port"])
        tls = None
        if probe.kind == "tls":
            tls = self._contexts.get(probe.ca_file) or context(probe.ca_file)
        reader, writer = await self._dialler.dial(host, port, self._timeout_s, tls)
        try:
            if probe.kind == "http":
                await _echo(reader, writer, probe, match.group())
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                writer.transport.abort()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, probe: Probe,
                authority: str) -> None:
    """Fetch ``probe.path``; what comes must be a 200 with exactly ``probe.expect``.

    Raises:
        NotTheEcho: it is something else.
    """
    writer.write(f"GET {probe.path} HTTP/1.0\r\nHost: {authority}\r\n"
                 "Connection: close\r\n\r\n".encode())
    head, body = await _reply(reader)
    if not re.match(rb"HTTP/1\.[01] 200(?: |$)", head) or body != probe.expect.encode():
        raise NotTheEcho


async def _reply(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read head and body, to the stated length or to the end.

    Raises:
        NotTheEcho: it is larger than any echo of ours.
        asyncio.IncompleteReadError: it ended before its head was whole.
    """
    whole = bytearray()
    while piece := await reader.read(REPLY_BYTES_MAX):
        whole += piece
        head, end, body = bytes(whole).partition(b"\r\n\r\n")
        stated = re.search(rb"(?i)\r\ncontent-length:[ \t]*([0-9]{1,9})(?:[ \t]*\r\n|$)", head)
        if end and stated and len(body) >= int(stated[1]):
            return head, body
        if len(whole) > REPLY_BYTES_MAX:
            raise NotTheEcho
    head, end, body = bytes(whole).partition(b"\r\n\r\n")
    if not end:
        raise asyncio.IncompleteReadError(bytes(whole), None)
    return head, body
