"""Reads TCP_INFO of every send under way on one link, on one timer, and tells what it means.

``getsockopt(IPPROTO_TCP, TCP_INFO)`` costs about a microsecond; the timer runs only while something
is unheard. What the figures mean is decided in ``core/gate.py``. Offsets are those of Linux's
``struct tcp_info``, which only ever grows (links.md section 6).
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.core.gate import Gate, Progress, TcpInfo, Watched
from gateway.core.instant import Mono
from gateway.core.link import Sample
from gateway.edge.http_wire import Attempt
from gateway.ports import Clock

LOOK_EVERY_S: Final = 0.01
TOLD_EVERY_S: Final = 0.05
"""At most so often is it told that a path acknowledges: twenty samples a second say enough."""
INFO_BYTES: Final = 256
PATHS_MAX: Final = 1024


def tcp_info(used: socket.socket) -> TcpInfo | None:
    """Return what the kernel says of ``used``; None where it is gone, or tells too little."""
    try:
        raw = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    except (OSError, ValueError):  # closed: asyncio raises the one, uvloop the other
        return None
    if len(raw) < 152:
        return None
    (unacked,) = struct.unpack_from("=I", raw, 24)
    (acked,) = struct.unpack_from("=Q", raw, 120)
    notsent, least = struct.unpack_from("=II", raw, 144)
    return TcpInfo(unacked, notsent, acked, 0.0 if least == 0xFFFFFFFF else least / 1e6)


@dataclass(slots=True, eq=False)
class _Send:
    attempt: Attempt
    upstream: str
    begun: Mono
    tell: Callable[[Progress], None] | None
    watched: Watched | None = None
    joined: Watched | None = field(default=None)


class Gates:
    """All sends of one link that were not heard yet. Make it inside the running loop."""

    def __init__(self, link: str, see: Callable[[Sample], None], clock: Clock) -> None:
        self._link, self._see, self._clock = link, see, clock
        self._loop = asyncio.get_running_loop()
        self._sends: set[_Send] = set()
        self._gates: dict[str, Gate] = {}
        self._told: dict[str, Mono] = {}
        self._timer: asyncio.TimerHandle | None = None

    def wait_s(self, upstream: str) -> float:
        """The gate's wait on the path to ``upstream`` now, in seconds."""
        return self._gate(upstream).wait_s

    def watch(self, attempt: Attempt, upstream: str,
              tell: Callable[[Progress], None] | None) -> Callable[[], None]:
        """Watch a send from now on; ``tell`` hears of its progress. Returns what ends it."""
        send = _Send(attempt, upstream, self._clock.now(), tell)
        self._sends.add(send)
        self._arm()
        return lambda: self._leave(send)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._sends.clear()

    def _gate(self, upstream: str) -> Gate:
        gate = self._gates.get(upstream)
        if gate is None:
            while len(self._gates) >= PATHS_MAX:
                del self._gates[next(iter(self._gates))]
            gate = self._gates[upstream] = Gate()
        return gate

    def _arm(self) -> None:
        if self._timer is None and self._sends:
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.now()
        for send in tuple(self._sends):
            self._look_at(send, now)
        self._arm()

    def _look_at(self, send: _Send, now: Mono) -> None:
        attempt, gate = send.attempt, self._gate(send.upstream)
        if attempt.heard:
            self._leave(send)
            return
        if not attempt.handed_over:
            self._look_at_connecting(send, gate, now)
            return
        if send.watched is None:
            send.watched = Watched(attempt.began("sent") or now)
        used = attempt.tap.raw_socket() if attempt.tap is not None else None
        info = tcp_info(used) if used is not None else None
        if info is None:
            return
        progress = send.watched.look(info, gate.wait_s, now)
        if progress == "acked":
            gate.learn(send.watched.age_s or 0.0, info.min_rtt_s)
            self._say_acked(send, now)
        elif progress == "unacked":
            self._say_unacked(send, send.watched.since, now)

    def _look_at_connecting(self, send: _Send, gate: Gate, now: Mono) -> None:
        """A SYN is bytes too: its answer takes one round trip, so the same wait is ample."""
        began = send.attempt.began("connect")
        if send.attempt.step != "connect" or began is None:
            return
        if send.joined is None or send.joined.since != began:
            send.joined = Watched(began)
        if send.joined.silent(gate.wait_s, now) == "unacked":
            self._say_unacked(send, began, now)

    def _say_acked(self, send: _Send, now: Mono) -> None:
        if now - self._told.get(send.upstream, Mono(-1.0)) >= TOLD_EVERY_S:
            self._told[send.upstream] = now
            since = send.watched.since if send.watched is not None else now
            self._see(Sample(self._link, send.upstream, "ack", True, since, now, detail="acked"))
        if send.tell is not None:
            send.tell("acked")

    def _say_unacked(self, send: _Send, since: Mono, now: Mono) -> None:
        self._see(Sample(self._link, send.upstream, "ack", False, since, now, detail="unacked"))
        if send.tell is not None:
            send.tell("unacked")

    def _leave(self, send: _Send) -> None:
        """A reply began, or the send ended. What was heard before we looked was acknowledged."""
        if send not in self._sends:
            return
        self._sends.discard(send)
        if not self._sends and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sent = send.attempt.began("sent")
        if send.attempt.heard and sent is not None and (
                send.watched is None or not send.watched.is_acked):
            used = send.attempt.tap.raw_socket() if send.attempt.tap is not None else None
            info = tcp_info(used) if used is not None else None
            self._gate(send.upstream).learn(
                self._clock.now() - sent, info.min_rtt_s if info else 0.0)
