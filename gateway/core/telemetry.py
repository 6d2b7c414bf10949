"""What the network team is told: messages, ranks, numbering (telemetry.md Protocol).

Every string in a message is a code of an enum, a configured id or a hash: there is no field that
could hold a name, a number or a URL, so promise 9 holds by construction.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.core.instant import Mono, Wall

Rank: TypeAlias = Literal["a", "b", "c"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, not yet numbered. ``body`` are pairs of a field and a code/figure."""

    rank: Rank
    kind: str
    at: Wall
    mono: Mono
    body: tuple[tuple[str, str | float | int | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A numbered event in the outbox: ``seq`` is dense within (``box``, ``rank``)."""

    box: int
    rank: Rank
    seq: int
    event: Event
