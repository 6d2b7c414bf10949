"""Counts what was answered, for ``/status`` and ``/metrics``; read when asked, never pushed."""

from bisect import bisect_left
from collections import Counter
from typing import Final

from gateway.core.message import Told
from gateway.core.status import Latency

LE_MS: Final = (5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0,
                30000.0)
"""Upper bounds of the latency histogram: 50 ms and 3 s are the bounds that we promise."""


class Tally:
    """Counts per (tenant, upstream, answered) and a latency histogram per kind of answer.

    Bounded by the configuration: tenants, upstreams and five kinds of answer.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def __call__(self, told: Told) -> None:
        """Count one answer."""
        self._counts[told.tenant, told.upstream, told.answered] += 1
        took_ms = told.took_s * 1000.0
        buckets = self._buckets.setdefault(told.answered, [0] * (len(LE_MS) + 1))
        buckets[bisect_left(LE_MS, took_ms)] += 1
        self._sums[told.answered] = self._sums.get(told.answered, 0.0) + took_ms

    def requests(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return (tenant, upstream, answered, count) rows."""
        return tuple((*key, count) for key, count in sorted(self._counts.items()))

    def latency(self) -> tuple[Latency, ...]:
        """Return one cumulative histogram per kind of answer."""
        found = []
        for answered, buckets in sorted(self._buckets.items()):
            running, counts = 0, []
            for count in buckets[:-1]:
                running += count
                counts.append(running)
            found.append(Latency(answered, LE_MS, tuple(counts), self._sums[answered],
                                 sum(buckets)))
        return tuple(found)
