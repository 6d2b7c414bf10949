"""One link's echoes: signed, numbered datagrams to anchors, and the ladder of their lengths.

Law: ``ask`` and ``ladder`` never raise for trouble. A reply counts if it signs our question
(``core/echo.py``); a miss is dated when the reply was due; a reply after that is told to ``late``
as the success that it is, and is no loss. An answer with a wrong signature from the anchor's own
address makes the miss ``forged``, unless the true one comes in time: anybody can send junk.

The socket is read by the loop's own reader, the same on asyncio and uvloop. It is opened anew when
it cannot send, or after ``REOPEN_AFTER`` misses in a row: the interface or its address may be
another by now, or a router on the way may have forgotten us. Where datagrams were never answered
on this link and the probe has a ``tls_target``, the same datagrams go over TLS, each with its
length before it; now and then one still tries without.
"""

import asyncio
import contextlib
import errno
import secrets
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.core.echo import (
    DATAGRAM_BYTES_MAX,
    WINDOW,
    Loss,
    Question,
    Reply,
    datagram_length,
    loss,
    origin,
    question_bytes,
    read_reply,
    seq_of,
)
from gateway.core.instant import Mono
from gateway.core.link import Layer, Link, Probe, Sample
from gateway.core.verdict import TOO_LONG
from gateway.edge.dial import Dialler
from gateway.ports import Clock

REOPEN_AFTER: Final = 4
TLS_AFTER: Final = 3
"""Misses in a row, with never a reply, after which the same is asked over TLS."""
UDP_AGAIN: Final = 16
"""Every so many questions over TLS one goes as a datagram: the filter may be gone."""
LATE_MOST: Final = 64
"""Questions remembered after they were due, and so the latest reply that still counts."""
TRIES: Final = 3
"""Questions per rung before it is missed: a lone loss is no hole."""


@dataclass(slots=True)
class _Asked:
    """One question under way; ``done`` gets True for its reply."""

    datagram: bytes
    layer: Layer
    size: int
    sent_at: Mono
    done: asyncio.Future[bool]
    forged: bool = False


class _Frames(asyncio.Protocol):
    """Takes length-framed datagrams from a TLS stream."""

    def __init__(self, heard: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._heard, self._lost = heard, lost
        self._held = bytearray()

    def data_received(self, data: bytes) -> None:
        self._held += data
        while len(self._held) >= 2:
            length = int.from_bytes(self._held[:2])
            if len(self._held) < 2 + length:
                return
            datagram = bytes(self._held[2:2 + length])
            del self._held[:2 + length]
            self._heard(datagram)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


class _Session:
    """The conversation with one anchor: numbers, what is under way, and the socket."""

    def __init__(self, link: Link, probe: Probe, secret: bytes, dialler: Dialler, clock: Clock,
                 token: Callable[[int], bytes], late: Callable[[Sample], None]) -> None:
        self.probe = probe
        self._link, self._secret, self._dialler = link, secret, dialler
        self._clock, self._token, self._late = clock, token, late
        self._loop = asyncio.get_running_loop()
        self._origin = origin(link.id, token(16))
        self._seq = 0
        self._asked: dict[int, _Asked] = {}
        self._sent: deque[int] = deque(maxlen=WINDOW)
        self._answered: deque[int] = deque(maxlen=WINDOW)
        self._replies: deque[Reply] = deque(maxlen=WINDOW)
        self._misses = 0
        self._unheard = 0  # misses since the last datagram's reply, TLS or not
        self._udp_answered = False
        self._socket: socket.socket | None = None
        self._place: tuple[str, int] | None = None
        self._turn = 0
        self._stream: asyncio.WriteTransport | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._dialling = asyncio.Lock()

    @property
    def loss(self) -> Loss:
        """What became of the last 64 questions."""
        due = [seq for seq in self._sent if seq not in self._asked
               or self._asked[seq].done.done()]
        return loss(due, frozenset(self._answered), self._replies)

    @property
    def _over_tls(self) -> bool:
        return bool(self.probe.tls_target) and not self._udp_answered \
            and self._unheard >= TLS_AFTER and self._seq % UDP_AGAIN != 0

    async def ask(self, timeout_s: float, size: int = 0) -> Sample:
        """Ask once, and wait; ``size`` is 0 for an echo, else a rung of the ladder."""
        sent_at = self._clock.now()
        layer: Layer = "size" if size else "echo"
        asked: _Asked | None = None
        detail, seq = "timeout", 0
        try:
            async with asyncio.timeout(timeout_s):
                seq, asked = await self._send(layer, size)
                sent_at = asked.sent_at
                await asked.done
        except ssl.SSLCertVerificationError:
            detail = "forged"  # somebody else stands where the anchor's certificate should
        except TimeoutError:
            detail = "forged" if asked is not None and asked.forged else "timeout"
        except OSError as error:
            detail = TOO_LONG if _is_too_long(error) else "connect"
        finally:
            if asked is not None:
                asked.done.cancel()
        now = self._clock.now()
        if asked is not None and asked.done.done() and not asked.done.cancelled():
            return self._good(asked, seq, now)
        self._miss()
        due = Mono(min(now, sent_at + timeout_s))
        return Sample(self._link.id, self.probe.id, layer, False, sent_at, due, anchor=True,
                      detail=detail, seq=seq, size=size)

    def _good(self, asked: _Asked, seq: int, now: Mono) -> Sample:
        return Sample(self._link.id, self.probe.id, asked.layer, True, asked.sent_at, now,
                      anchor=True, rtt_ms=(now - asked.sent_at) * 1000, seq=seq, size=asked.size)

    def _miss(self) -> None:
        self._misses += 1
        self._unheard += 1
        if self._misses % REOPEN_AFTER == 0:
            self._turn += 1  # and the anchor's next address, where it has more
            self._hang_up()

    async def _send(self, layer: Layer, size: int) -> tuple[int, _Asked]:
        """Send the next question; raises OSError where it cannot leave."""
        if not size and self._over_tls:
            stream = await self._dial()
            seq, asked = self._question(layer, 0, is_ipv6=False)
            stream.write(len(asked.datagram).to_bytes(2) + asked.datagram)
            return seq, asked
        used = self._socket or await self._open()
        assert self._place is not None
        seq, asked = self._question(layer, size, ":" in self._place[0])
        try:
            used.sendto(asked.datagram, self._place)
        except OSError as error:
            asked.done.cancel()
            if not isinstance(error, BlockingIOError) and not _is_too_long(error):
                self._hang_up()
            raise
        return seq, asked

    def _question(self, layer: Layer, size: int, is_ipv6: bool) -> tuple[int, _Asked]:
        self._seq += 1
        now = self._clock.now()
        question = Question(self._origin, self._token(4), self._seq, int(now * 1000))
        datagram = question_bytes(question, self._secret, datagram_length(size, is_ipv6))
        asked = _Asked(datagram, layer, size, now, self._loop.create_future())
        self._asked[self._seq] = asked
        self._sent.append(self._seq)
        while len(self._asked) > LATE_MOST:
            del self._asked[next(iter(self._asked))]
        return self._seq, asked

    async def _open(self) -> socket.socket:
        host, port = _host_port(self.probe.target)
        found = await self._dialler.addresses(host, port)
        if self._socket is not None:  # somebody else was quicker
            return self._socket
        each = found[self._turn % len(found)]
        made = self._dialler.make_datagram_socket(socket.AddressFamily(each["family"]))
        self._place = (str(each["host"]), port)
        self._loop.add_reader(made.fileno(), self._readable, made)
        self._socket = made
        return made

    async def _dial(self) -> asyncio.WriteTransport:
        async with self._dialling:
            if self._stream is None:
                host, port = _host_port(self.probe.tls_target)
                _, writer = await self._dialler.dial(
                    host, port, 60.0, context(self.probe.ca_file))  # ask's own timeout rules
                self._writer = writer  # one that nobody holds closes its transport
                stream = writer.transport
                stream.set_protocol(_Frames(lambda raw: self._heard(raw, False),
                                            lambda: self._lost(stream)))
                self._stream = stream
            return self._stream

    def _lost(self, stream: asyncio.WriteTransport) -> None:
        if self._stream is stream:
            self._stream = None

    def _readable(self, made: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(WINDOW):  # a bound: junk must not hold the loop
                try:
                    datagram, place = made.recvfrom(DATAGRAM_BYTES_MAX + 1)
                except BlockingIOError:
                    raise
                except OSError:
                    continue  # an ICMP error of an earlier one; the next may be good
                if self._place is not None and place[:2] == self._place:
                    self._heard(datagram, True)

    def _heard(self, datagram: bytes, is_udp: bool) -> None:
        seq = seq_of(datagram)
        asked = self._asked.get(seq)
        reply = read_reply(datagram, asked.datagram, self._secret) if asked else None
        if asked is None or reply is None:
            if seq in self._answered:  # the network's second copy of a reply
                return
            for each in self._asked.values():
                each.forged = each.forged or not each.done.done()
            return
        del self._asked[seq]
        self._answered.append(seq)
        self._replies.append(reply)
        self._misses = 0
        if is_udp:
            self._udp_answered, self._unheard = True, 0
        if asked.done.done():
            self._late(self._good(asked, seq, self._clock.now()))
        else:
            asked.done.set_result(True)

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._stream is not None:
            self._stream.abort()
            self._stream = None

    close = _hang_up


class EchoClient:
    """Asks the echo probes of ``link``. Make it inside the running loop, and ``close`` it.

    ``late`` is told of each reply that came after it was due, as a Sample. ``token`` gives so many
    random bytes.

    Raises:
        OSError: a secret cannot be read.
    """

    def __init__(self, link: Link, dialler: Dialler, clock: Clock, timeout_s: float = 0.8,
                 late: Callable[[Sample], None] = lambda sample: None,
                 token: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._timeout_s = timeout_s

        def session(probe: Probe, told: Callable[[Sample], None]) -> _Session:
            return _Session(link, probe, read_secret(probe.secret), dialler, clock, token, told)

        asked = [probe for probe in link.probes if probe.kind == "echo"]
        self._echoes = {probe.id: session(probe, late) for probe in asked}
        # Rungs have numbers of their own: a hole is no loss of echoes.
        self._rungs = {probe.id: session(probe, lambda sample: None) for probe in asked}

    async def ask(self, probe: Probe) -> Sample:
        """Ask ``probe`` once and wait for its reply at most ``timeout_s``, name included."""
        return await self._echoes[probe.id].ask(self._timeout_s)

    async def ladder(self, probe: Probe, sizes: tuple[int, ...]) -> tuple[Sample, ...]:
        """Ask with packets of each of ``sizes`` bytes, both ways; one Sample of layer "size" each.

        A rung is missed after three questions without reply. The rungs are tried beside each other.
        """
        async with asyncio.TaskGroup() as tasks:
            rungs = [tasks.create_task(self._rung(probe, size)) for size in sizes]
        return tuple(rung.result() for rung in rungs)

    async def _rung(self, probe: Probe, size: int) -> Sample:
        for _ in range(TRIES - 1):
            sample = await self._rungs[probe.id].ask(self._timeout_s, size)
            if sample.ok or sample.detail == TOO_LONG:
                return sample
        return await self._rungs[probe.id].ask(self._timeout_s, size)

    def losses(self) -> dict[str, Loss]:
        """Return per probe id what became of its last 64 questions, and on which way."""
        return {name: session.loss for name, session in self._echoes.items()}

    def close(self) -> None:
        """Let go of the sockets; what is under way is missed."""
        for session in (*self._echoes.values(), *self._rungs.values()):
            session.close()


def read_secret(path: str) -> bytes:
    """Return the secret in the file ``path``, without white space round it; raises OSError."""
    return Path(path).read_bytes().strip()


def context(ca_file: str) -> ssl.SSLContext:
    """Return a verifying TLS context; ``""`` trusts the system's CAs."""
    made = ssl.create_default_context(cafile=ca_file or None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def _host_port(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)


def _is_too_long(error: OSError) -> bool:
    return error.errno == errno.EMSGSIZE  # longer than what the kernel knows to pass: no hole
