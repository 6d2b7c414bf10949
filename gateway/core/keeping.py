"""What is kept, for how long, for whom, and how it is marked when served (continuity.md §§3, 6).

The record store holds kept replies only, under keys that this module makes; the store turns
them into HMACs, so nothing about a patient is in clear on disk.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.core.instant import Wall
from gateway.core.message import Headers

Class: TypeAlias = Literal["live", "as-of", "restricted", "unknown"]


@dataclass(frozen=True, slots=True)
class Key:
    """What a kept reply answers: everything its content depends on, as one byte string."""

    upstream: str
    route: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keep:
    """Store this whole reply. ``fetched`` is when its fetch *began*: age counts from there.

    ``subjects`` (``Patient/2``, ``nhs/9990000018``) are whom it speaks of; ``identity`` says that
    it ties them together as one person. ``ceiling_s`` is the oldest it may be served.
    """

    key: Key
    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    fetched: Wall
    ceiling_s: float
    subjects: tuple[str, ...] = field(default=(), repr=False)
    identity: bool = False
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy read back: the same bytes, headers and time of fetch as were stored."""

    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    fetched: Wall
    ceiling_s: float
    restricted: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget copies, and refuse to keep any whose fetch began before ``before``.

    ``key`` drops that one; ``routes`` drops these routes' copies of the upstream, all of them or,
    with ``subjects``, those about these people; ``subjects`` alone drops everything about them
    (and about whoever an identity copy ties them to).
    """

    upstream: str
    before: Wall
    key: Key | None = None
    routes: tuple[str, ...] = ()
    subjects: tuple[str, ...] = field(default=(), repr=False)
