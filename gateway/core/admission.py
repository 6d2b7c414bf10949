"""Who is refused first when a practice asks more at once than it may: the order of the queue.

Law (incidents.md 3, high demand): overload is shed by priority, bookings and records first served.
A practice has ``requests_max`` places. What is refused is told at once to come again; nothing
waits in a queue of ours, so what is admitted is as fast as ever.

Rule 1: bookings, other clinical writes and reads of the record may take every place.
Rule 2: the other reads (free slots, lists, places) leave a tenth of them free: they are what a
        screen repeats by itself, and a stale one is asked again before it is believed.
Rule 3: what no pack names, and bodies too large to hold, leave a quarter free.
Rule 4: everybody may take at least one place, and a practice takes none of another's.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from gateway.core.message import Request
from gateway.core.pack import Matched
from gateway.core.quota import use_of

Priority: TypeAlias = Literal["first", "reads", "other"]

FIRST: Final = frozenset({"booking", "write", "record_read"})
"""Kinds of route that are served first, unless their bodies make them bulk."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of a practice's places that may be taken when somebody less urgent asks."""

    reads: float = 0.9
    other: float = 0.75


def priority_of(matched: Matched, request: Request) -> Priority:
    """Return how urgent ``request`` is, by the pack's route and its body; no header raises it."""
    if use_of(matched, request) != "clinical":
        return "other"
    return "first" if matched.route.kind in FIRST else "reads"


def places(priority: Priority, most: int, shares: Shares) -> int:
    """Return how many requests at once, its own included, still admit one of ``priority``."""
    share = {"first": 1.0, "reads": shares.reads, "other": shares.other}[priority]
    return max(1, math.ceil(most * share))
