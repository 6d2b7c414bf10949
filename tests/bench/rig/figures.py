"""The statistics of the acceptance, pure: records and onsets in, figures out.

The preamble's words: percentiles are over the requests sent from 1 s before to 5 s after each
onset, those in flight included, from the scheduled send time; "0 failed" counts the whole run. A
failed request counts with the time until it failed: a client waits no less for a failure.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.bench.rig.records import Kind, Record

LIVE: Final[frozenset[Kind]] = frozenset({"live"})
BEFORE_S: Final = 1.0
AFTER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """``requests`` and ``failed`` of the whole run; the rest, in ms, of the windows (``near``)."""

    requests: int
    failed: int
    near: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    gap_ms: float


def quantile(figures: Iterable[float], share: float) -> float:
    """Return the nearest-rank quantile: the least figure that ``share`` do not exceed; 0 of none.

    Nothing is interpolated: of fewer than 100 figures the p99 is the largest.
    """
    ordered = sorted(figures)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def within(records: Iterable[Record], onset: float, before_s: float = BEFORE_S,
           after_s: float = AFTER_S) -> list[Record]:
    """Return those due in the window round ``onset``, and those in flight when it opened."""
    opened, closed = onset - before_s, onset + after_s
    return [one for one in records if one.due <= closed and one.answered >= opened]


def near(records: Iterable[Record], onsets: Iterable[float]) -> list[Record]:
    """Return each record that is in any onset's window, once. Numbers begin anew in each run, so
    it is the whole record that tells one from another."""
    kept = list(records)
    found: dict[Record, None] = {}
    for onset in onsets:
        found |= dict.fromkeys(within(kept, onset))
    return list(found)


def longest_gap(records: Iterable[Record], onset: float, before_s: float = BEFORE_S,
                after_s: float = AFTER_S, good: frozenset[Kind] = LIVE) -> float:
    """Return the longest time in the window without a good answer, in seconds.

    The window's own ends count: silence until the end of it is a gap too.
    """
    opened, closed = onset - before_s, onset + after_s
    came = sorted(one.answered for one in records
                  if one.kind in good and opened <= one.answered <= closed)
    return max(after - earlier for earlier, after in pairwise((opened, *came, closed)))


def measure(records: Sequence[Record], onsets: Sequence[float],
            good: frozenset[Kind] = LIVE) -> Figures:
    """Judge one stream's records of one run; a kind that is not ``good`` has failed."""
    inside = near(records, onsets)
    took = [one.took_s * 1000 for one in inside]
    gaps = [longest_gap(records, onset, good=good) * 1000 for onset in onsets]
    return Figures(len(records), sum(one.kind not in good for one in records), len(inside),
                   quantile(took, 0.5), quantile(took, 0.99), max(took, default=0.0),
                   max(gaps, default=0.0))


def moved_after(records: Iterable[Record], onset: float, link: str) -> float | None:
    """Return the seconds after ``onset`` from which on every request was due that ``link`` carried.

    That is the instant of the last request that still went by another wire, or was lost, before a
    stay of at least 50 requests; ``None`` if no such stay began. 0.0: it never carried one.
    """
    ordered = sorted((one for one in records if one.due >= onset), key=lambda one: one.due)
    last, stay = 0.0, 0
    for one in ordered:
        if one.link == link:
            stay += 1
            if stay >= 50:
                return last
        else:
            last, stay = one.due - onset, 0
    return None


def share_by(records: Iterable[Record], link: str, since: float, until: float) -> float:
    """Return the share of those due between the two that ``link`` answered; 1.0 where none was."""
    due = [one for one in records if since <= one.due < until]
    return sum(one.link == link for one in due) / len(due) if due else 1.0


def was_carrying(records: Iterable[Record], link: str, onset: float) -> bool:
    """Tell whether ``link`` was at work when it was struck: it answered nine in ten of those due in
    the second before, up to 0.2 s of it, so that none of them met the fault."""
    due = [one for one in records if onset - BEFORE_S <= one.due < onset - 0.2]
    return bool(due) and share_by(due, link, onset - BEFORE_S, onset) >= 0.9


def slowest(records: Iterable[Record], count: int) -> list[Record]:
    """Return the ``count`` slowest, the worst first."""
    return sorted(records, key=lambda one: -one.took_s)[:count]


def spread(figures: Sequence[float], say: Callable[[float], str] = "{:.0f}".format) -> str:
    """Return ``median (least-most)``, or the figure alone where all are as one."""
    if not figures:
        return "-"
    least, most = say(min(figures)), say(max(figures))
    middle = say(quantile(figures, 0.5))
    return middle if least == most else f"{middle} ({least}-{most})"
