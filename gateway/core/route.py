"""Which links a request may take, in order: the board's reading as one frozen value.

Rule 1: the engineer's preference rules: unmetered before metered, then by priority.
Rule 2: a link that is silent now comes after those that are not, for as long as it is silent;
        that is rescue and may be wrong. The *active* link changes by state only: that is a switch.
Rule 3: a trouble of one (link, upstream) moves that upstream only. It comes last there, never
        out: promise 1 wants it tried when nothing else is left.
Rule 4: a draining link, or one on probation, comes after those that take new work, and before
        them only where all of these are silent. Never out: a portal or a reset on the one link
        that carries is no silence, and promise 1 wants the other one tried (tests/sim, seed 2).
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from gateway.core.instant import Mono
from gateway.core.link import CARRIES, Link, LinkMemory, LinkRules
from gateway.core.link import LinkState as LinkState

PROOF_S: Final = 65 * 60.0
"""How long a 2xx over a path lets it remove copies: metered paths are proven hourly."""

INELIGIBLE_S: Final = 15 * 60.0
"""How long a path that refused what another granted is not tried (design 5.2)."""

REFUSALS: Final = frozenset({401, 403, 407})

SPARE: Final[tuple[LinkState, ...]] = (
    "DRAINING", "SUPPRESSED", "PROBATION", "VALIDATING", "UNKNOWN")
"""States of links that are taken only where all others are silent, the better one first."""

MEASURED_MIN: Final = 20
"""First replies of a path needed before its own p99 sets the hedge."""

Mode: TypeAlias = Literal["NORMAL", "BACKUP", "DEGRADED", "STANDALONE", "ISOLATED", "RECOVERING"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one upstream stands for one tenant now.

    ``links`` are the usable ones, best first; empty means no path is left. ``states`` gives each
    link's state by id. ``cause`` is the verdict's kind that explains a mode other than NORMAL
    (``""`` if none). ``upstream_down`` is True when the upstream is judged down on every link:
    ``trial`` then says whether this very request may be sent to find out.
    ``proven`` are the links over which a client of this tenant had a 2xx on the same capability
    root in the last 65 minutes: only there may a 403/404/410 remove a copy (design 5.2).
    ``hedge_after_s`` is the wait before a read starts on the next link, by link id. ``double``: it
    may go over the first two links at once (``core/steer.py``).
    """

    links: tuple[str, ...]
    states: tuple[tuple[str, LinkState], ...]
    mode: Mode
    cause: str = ""
    upstream_down: bool = False
    trial: bool = False
    proven: frozenset[str] = frozenset()
    ineligible: frozenset[str] = frozenset()
    hedge_after_s: tuple[tuple[str, float], ...] = ()
    double: bool = False
    metered: frozenset[str] = frozenset()
    mute: frozenset[str] = frozenset()
    """Links whose gate fired on some request, with nothing at all heard since."""
    resting: bool = False
    """The upstream asked by Retry-After to be left alone for now."""


@dataclass(frozen=True, slots=True)
class Switched:
    """The active link changed: the most preferred one that takes new work. ``""``: none is left."""

    before: str
    after: str
    cause: str
    at: Mono
    lasted_s: float


def preference(links: Iterable[Link]) -> tuple[str, ...]:
    """Return the ids of ``links``, most preferred first: metered ones last, then by priority."""
    ranked = sorted(links, key=lambda link: (link.metered, link.priority))
    return tuple(link.id for link in ranked)


def active(preferred: tuple[str, ...], states: Mapping[str, LinkState],
           held: Collection[str] = ()) -> str:
    """Return the active link: the first that takes new work, else the best spare, else none.

    ``held`` are on their way back and take nothing yet: active only where nothing else carries.
    """
    carrying = [link for link in preferred if states[link] in CARRIES]
    carrying.sort(key=lambda link: link in held)
    spare = [link for state in SPARE if state != "PROBATION" for link in preferred
             if states[link] == state]
    return next(iter(carrying + spare), "")


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when one tenant's requests to one upstream are routed.

    ``silent`` links have something overdue; ``faulty`` ones a verdict against this upstream over
    them; ``doubtful`` ones failures that nothing explains yet. ``behind`` are those that its class
    has left, or that are on their way back and not yet its turn (``core/course.py``).
    """

    preferred: tuple[str, ...]
    states: Mapping[str, LinkState]
    silent: Collection[str] = ()
    faulty: Collection[str] = ()
    doubtful: Collection[str] = ()
    ineligible: Collection[str] = ()
    behind: Collection[str] = ()


def order(situation: Situation, pinned: str = "") -> tuple[str, ...]:
    """Return the links that may be used, best first; empty means that no path is left.

    ``pinned`` comes first while it takes new work.
    """
    s = situation
    allowed = [link for link in s.preferred if link not in s.ineligible]
    carrying = [link for link in allowed if s.states[link] in CARRIES]
    ranked = sorted(carrying, key=lambda link: (
        link != pinned, link in s.faulty, link in s.doubtful, link in s.silent,
        link in s.behind))
    spare = [link for state in SPARE for link in allowed
             if s.states[link] == state and link not in s.silent]
    if any(link not in s.silent for link in carrying):
        ranked += spare
    else:
        ranked = spare + ranked
        ranked += [link for state in SPARE if state != "PROBATION" for link in allowed
                   if s.states[link] == state and link in s.silent]
    return tuple(ranked)


def steady(situation: Situation) -> str:
    """Return the link that this upstream's traffic belongs on now, ``""`` if there is none.

    As ``order``, but blind to what passes in a second: silence and doubt. Modes follow this.
    """
    s = situation
    lasting = replace(s, silent=(), doubtful=())
    return next(iter(order(lasting)), "")


def hedge_wait(replies_ms: Sequence[float], memory: LinkMemory, silent: bool, rules: LinkRules
               ) -> float:
    """Return the seconds that a read waits on a link before it also goes to the next one.

    ``replies_ms`` are the path's recent times to first reply: their p99, between
    ``hedge_min_s`` and ``hedge_max_s``; a suspect or silent link is left sooner.
    """
    if silent or memory.state == "SUSPECT":
        return rules.hedge_suspect_s
    if len(replies_ms) < MEASURED_MIN:
        return rules.hedge_s
    ranked = sorted(replies_ms)
    p99 = ranked[math.ceil(len(ranked) * 0.99) - 1] / 1000.0
    return min(max(p99, rules.hedge_min_s), rules.hedge_max_s)
