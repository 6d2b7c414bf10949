"""Counts what was answered, for ``/status`` and ``/metrics``; read when asked, never pushed."""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import Final

from gateway.core.message import Told
from gateway.core.status import Latency

LE_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency histogram in seconds."""


class Tally:
    """Counts per (tenant, upstream, answered) and a histogram of answer times.

    Bounded by the configuration: tenants, upstreams and five kinds of answer.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._buckets = [0] * (len(LE_S) + 1)
        self._sum = 0.0

    def __call__(self, told: Told) -> None:
        """Count one answer."""
        self._counts[told.tenant, told.upstream, told.answered] += 1
        self._buckets[bisect_left(LE_S, told.took_s)] += 1
        self._sum += told.took_s

    def requests(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return (tenant, upstream, answered, count) rows."""
        return tuple((*key, count) for key, count in sorted(self._counts.items()))

    def latency(self) -> Latency:
        """Return the histogram, cumulative."""
        running = tuple(accumulate(self._buckets))
        return Latency(LE_S, running[:-1], self._sum, running[-1])
