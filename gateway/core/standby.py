"""Warm connections: how many each link should hold, and when one that is missing may be opened.

Rule 1: a rescue over a cold link pays TCP and TLS first, some 300 ms at p99 (links.md section 5).
        So a link whose bytes are free holds what a burst of rescues needs.
Rule 2: an idle standby that is paid by the byte holds two per path, five in all, two on a small
        plan. One that the upstream closes is not opened again before there is a reason: another
        link is in doubt, or this one carries traffic (links.md section 3).
"""

from dataclasses import dataclass
from typing import Final

from gateway.core.link import LinkState

LEAST: Final = 2
"""A hedge and the next request both find one."""

METERED_MOST: Final = 5
SMALL_PLAN_MOST: Final = 2
"""Connections in all on an idle metered standby: 35 and 14 MB a month of keepalives (300 s)."""

SHARE: Final = 0.9
"""The quantile of recent concurrency that a burst of rescues is taken to need."""

COLD: Final[frozenset[LinkState]] = frozenset({"DOWN", "QUARANTINED"})


@dataclass(frozen=True, slots=True)
class Standing:
    """How one link stands when its warm connections are counted.

    ``busy``: it carries traffic or is about to (the active link, or one on its way back).
    ``wanted``: another link is in doubt, so that a rescue may come any moment.
    """

    state: LinkState
    metered: bool
    busy: bool
    wanted: bool
    small_plan: bool = False


def warm(standing: Standing, needs: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return how many warm connections each path should have; ``needs`` is ``burst`` of each."""
    if standing.state in COLD:
        return (0,) * len(needs)
    if not standing.metered or standing.busy or standing.wanted:
        return tuple(min(max(LEAST, need), most) for need in needs)
    left = SMALL_PLAN_MOST if standing.small_plan else METERED_MOST
    found = []
    for _ in needs:
        found.append(min(LEAST, left))
        left -= found[-1]
    return tuple(found)


RETRY_S: Final = 900.0
"""How often an idle metered standby tries again what it could not open: every two seconds, as on
other links, an upstream that is down would cost 0.2 MB an hour in refused handshakes."""


def may_open(standing: Standing, opened: bool, tried_s: float | None) -> bool:
    """Whether missing connections may be opened now.

    ``opened``: all of them were, since the link came into use; ``tried_s`` is how long ago it was
    tried in vain, None if it was not.
    """
    if standing.state in COLD:
        return False
    if not standing.metered or standing.busy or standing.wanted:
        return True
    return not opened and (tried_s is None or tried_s >= RETRY_S)


def burst(peaks: list[int]) -> int:
    """Return what a burst needs: the ``SHARE`` quantile of the most sends at once, each look."""
    if not peaks:
        return 0
    ranked = sorted(peaks)
    return ranked[min(len(ranked) - 1, int(len(ranked) * SHARE))]
