"""The acknowledgement gate: a slow upstream told from a path that died under a request.

A request whose bytes were acknowledged has met a slow *upstream*; one whose bytes were not has
probably met a dead *path* (links.md section 6). The kernel knows: TCP_INFO of the very socket.

Rule 1: the gate may start a hedge of a read. It never allows a write again: the acknowledgement
        may be what was lost.
Rule 2: it fires when bytes are outstanding and none was acknowledged for ``wait_s``; an upload
        that makes progress never fires. While a connection is being made, its SYN is the bytes.
Rule 3: the wait is learned per path: a peer that delays its acknowledgements (40 ms on Linux) must
        not be hedged away from each time.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from gateway.core.instant import Mono

Progress: TypeAlias = Literal["acked", "unacked"]

WAIT_LEAST_S: Final = 0.06
WAIT_MOST_S: Final = 0.4
MARGIN_S: Final = 0.025
FRESH_S: Final = 0.09
"""Beyond the least round trip until ``LEARNED_MIN`` ages are known: 40 ms of delay, and more."""
LEARNED_MIN: Final = 100
AGES_MAX: Final = 256
RANK_EVERY: Final = 16


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What the kernel says of one socket: segments unacknowledged, bytes not yet sent, bytes ever
    acknowledged, and the least round trip it saw (seconds; 0 unknown)."""

    unacked: int
    notsent: int
    bytes_acked: int
    min_rtt_s: float

    @property
    def is_outstanding(self) -> bool:
        """Whether the peer still owes an acknowledgement."""
        return self.unacked > 0 or self.notsent > 0


class Gate:
    """The wait of one path, learned from the ages at which its bytes were acknowledged."""

    def __init__(self) -> None:
        self._ages: deque[float] = deque(maxlen=AGES_MAX)
        self._new = 0
        self._least: float | None = None
        self.wait_s = FRESH_S

    def learn(self, age_s: float, min_rtt_s: float) -> None:
        """Take in that bytes were acknowledged after ``age_s`` at most."""
        if min_rtt_s > 0.0:
            self._least = min(min_rtt_s, self._least or min_rtt_s)
        self._ages.append(age_s)
        self._new += 1
        if self._new >= RANK_EVERY or len(self._ages) <= 1:
            self._rank()

    def _rank(self) -> None:
        self._new = 0
        least = self._least or 0.0
        if len(self._ages) < LEARNED_MIN:
            wait = least + FRESH_S
        else:
            ranked = sorted(self._ages)
            wait = max(3.0 * least, ranked[int(len(ranked) * 0.99)] + MARGIN_S)
        self.wait_s = min(max(wait, WAIT_LEAST_S), WAIT_MOST_S)


@dataclass(slots=True)
class Watched:
    """One send under way: since when its bytes, or its SYN, are out, and what was acknowledged."""

    since: Mono
    bytes_acked: int | None = None
    advanced_at: Mono | None = None
    is_acked: bool = False
    has_fired: bool = False
    age_s: float | None = field(default=None)

    def look(self, info: TcpInfo, wait_s: float, now: Mono) -> Progress | None:
        """Return what ``info`` means now, None where it is nothing new."""
        if self.bytes_acked is None or info.bytes_acked > self.bytes_acked:
            first = self.bytes_acked is None
            self.bytes_acked = info.bytes_acked
            self.advanced_at = self.since if first else now
        if not info.is_outstanding:
            if self.is_acked:
                return None
            self.is_acked, self.age_s = True, now - self.since
            return "acked"
        return self.silent(wait_s, now)

    def silent(self, wait_s: float, now: Mono) -> Progress | None:
        """Return "unacked", once, when nothing was acknowledged for ``wait_s``."""
        since = self.advanced_at if self.advanced_at is not None else self.since
        if self.has_fired or now - since < wait_s:
            return None
        self.has_fired = True
        return "unacked"
