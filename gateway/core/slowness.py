"""Upstreams that answer, and answer late: told from links that are slow (UPSTREAM_SLOW).

Law (links.md section 4): the last answers all took three times what nearly all of them usually
take, and half a second at least, while the links that brought them are fine. It moves nothing and
hedges nothing onto a link that costs; the mode says DEGRADED. What lasts for half an hour is the
usual now.
"""

from collections import deque
from typing import Final

from gateway.core.instant import Mono

ROW: Final = 5
"""Answers in a row: one slow search is a large one."""
WITHIN_S: Final = 30.0
TIMES: Final = 3.0
LEAST_MS: Final = 500.0
LEARNED_MIN: Final = 20
USUAL_MAX: Final = 256
RANK_EVERY: Final = 16
LASTS_MOST_S: Final = 1800.0


class Slowness:
    """One upstream's times to first byte, over all links. A few kB, whatever the traffic."""

    def __init__(self) -> None:
        self._usual: deque[float] = deque(maxlen=USUAL_MAX)
        self._last: deque[tuple[Mono, float]] = deque(maxlen=ROW)
        self._new = 0
        self._quick_sent = Mono(float("-inf"))  # when the newest of those in time left
        self._p99_ms = 0.0
        self.since: Mono | None = None

    def saw(self, took_ms: float, at: Mono) -> None:
        """Take in one answer's time to first byte.

        One that was overtaken by a later question's is late by its way: what a hole in a link had
        swallowed comes all at once when that heals.
        """
        limit, sent = self.limit_ms, Mono(at - took_ms / 1000.0)
        if limit is None or took_ms < limit:
            self._quick_sent = max(self._quick_sent, sent)
        elif sent < self._quick_sent:
            return
        self._last.append((at, took_ms))
        if self.since is None and (limit is None or took_ms < limit):
            self._usual.append(took_ms)
            self._new += 1
            if self._new >= RANK_EVERY or len(self._usual) <= LEARNED_MIN:
                self._rank()
        self._turn(at)

    @property
    def limit_ms(self) -> float | None:
        """From how many milliseconds an answer is slow, None while too little is known."""
        if len(self._usual) < LEARNED_MIN:
            return None
        return max(LEAST_MS, TIMES * self._p99_ms)

    @property
    def last_ms(self) -> float:
        """The last answer's time."""
        return self._last[-1][1] if self._last else 0.0

    @property
    def usual_ms(self) -> float:
        """What 99 of 100 usually take at most."""
        return self._p99_ms

    def _rank(self) -> None:
        self._new = 0
        ranked = sorted(self._usual)
        self._p99_ms = ranked[int(len(ranked) * 0.99)] if len(ranked) > 1 else ranked[0]

    def _turn(self, now: Mono) -> None:
        limit = self.limit_ms
        if limit is None:
            return
        slow = [took >= limit for at, took in self._last if now - at <= WITHIN_S]
        if self.since is None:
            if len(slow) == ROW and all(slow):
                self.since = now
        elif not any(slow[-2:]):
            self.since = None
        elif now - self.since >= LASTS_MOST_S:
            self.since = None
            self._usual.clear()
            self._usual.extend(took for _, took in self._last)
            self._rank()
