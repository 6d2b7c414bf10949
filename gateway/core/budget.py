"""How many second sends of reads may start: a hedge rescues one request and loads a link with two.

Law (links.md section 8), for the link that a hedge goes *onto*:

- everyday: one hedge for twenty reads, at least one a second, twenty at once;
- an episode of the link that it leaves (its first miss to its next success) grants 50 more, or as
  many as are read in two seconds, and 2 MB on a metered link, 8 MB on another. A flagged brown-out
  grants the same each second, until the class has moved;
- where more than half of the last hedges failed as well it is not the path: everyday hedges halve;
- the move to another link after a failure is rescue, no hedge: no budget stops it (promise 1). Only
  going round a second time is bounded, to a fifth of the upstream's reads, three at least.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from gateway.core.instant import Mono

SHARE: Final = 0.05
FLOOR_A_S: Final = 1.0
BURST: Final = 20.0

GRANT_LEAST: Final = 50
GRANT_S: Final = 2.0
GRANT_BYTES: Final = 8_000_000
GRANT_METERED_BYTES: Final = 2_000_000

ENDS: Final = 20
"""The last hedges by which it is seen whether hedging helps."""

ROUNDS_SHARE: Final = 0.2
ROUNDS_FLOOR: Final = 3.0
RATE_S: Final = 2.0
READS_MAX: Final = 8192
"""Reads remembered of the last two seconds: four thousand a second, forty times our target."""


@dataclass(slots=True)
class _Purse:
    """What may still be spent on one link, or on second rounds of one upstream."""

    tokens: float
    at: Mono
    granted: float = 0.0
    bytes_left: float = 0.0
    ends: deque[bool] = field(default_factory=lambda: deque(maxlen=ENDS))

    @property
    def is_vain(self) -> bool:
        """Whether more than half of the last hedges failed too."""
        return len(self.ends) == ENDS and 2 * sum(self.ends) < ENDS


class Budget:
    """The purses of all links and upstreams; bounded by the configuration. ``metered`` are ids."""

    def __init__(self, metered: frozenset[str]) -> None:
        self._metered = metered
        self._links: dict[str, _Purse] = {}
        self._rounds: dict[str, _Purse] = {}
        self._episodes: dict[tuple[str, str], int] = {}
        self._reads: deque[Mono] = deque(maxlen=READS_MAX)

    def read(self, upstream: str, now: Mono) -> None:
        """Note that a read begins: it earns a twentieth of a hedge on each link."""
        self._reads.append(now)
        while self._reads and now - self._reads[0] > RATE_S:
            self._reads.popleft()
        for purse in self._links.values():
            purse.tokens = min(BURST, purse.tokens + SHARE * (0.5 if purse.is_vain else 1.0))
        rounds = self._round(upstream, now)
        rounds.tokens = min(BURST, rounds.tokens + ROUNDS_SHARE)

    def may_hedge(self, leaves: str, onto: str, episode: int, expected: int, now: Mono) -> bool:
        """Whether a read may also go ``onto`` a link now; if so it is counted.

        ``episode`` numbers the troubles of the link that it ``leaves``, 0 where there was none;
        ``expected`` bytes of its reply are set aside at once, since many may be under way.
        """
        purse = self._purse(onto, now)
        if self._episodes.get((leaves, onto), 0) != episode:
            self._episodes[leaves, onto] = episode
            purse.granted = max(GRANT_LEAST, len(self._reads) / RATE_S * GRANT_S)
            purse.bytes_left = GRANT_METERED_BYTES if onto in self._metered else GRANT_BYTES
        if purse.granted >= 1.0 and purse.bytes_left >= expected:
            purse.granted -= 1.0
        elif purse.tokens >= 1.0:
            purse.tokens -= 1.0
        else:
            return False
        purse.bytes_left -= expected
        return True

    def ended(self, onto: str, arrived: bool, size: int, expected: int, now: Mono) -> None:
        """Note how a hedge ended, and the bytes of its reply, instead of those ``expected``.

        One that was cancelled is not told: what was set aside for it may have come.
        """
        purse = self._purse(onto, now)
        purse.ends.append(arrived)
        purse.bytes_left += expected - size

    def may_go_round(self, upstream: str, now: Mono) -> bool:
        """Whether a read that failed everywhere may begin again; if so it is counted."""
        purse = self._round(upstream, now)
        if purse.tokens < 1.0:
            return False
        purse.tokens -= 1.0
        return True

    def _purse(self, link: str, now: Mono) -> _Purse:
        purse = self._links.get(link)
        if purse is None:
            purse = self._links[link] = _Purse(BURST, now)
        floor = FLOOR_A_S * (0.5 if purse.is_vain else 1.0)
        purse.tokens = min(BURST, purse.tokens + floor * (now - purse.at))
        purse.at = now
        return purse

    def _round(self, upstream: str, now: Mono) -> _Purse:
        purse = self._rounds.get(upstream)
        if purse is None:
            purse = self._rounds[upstream] = _Purse(BURST, now)
        if purse.tokens < ROUNDS_FLOOR:  # the floor comes back within a second
            purse.tokens = min(ROUNDS_FLOOR, purse.tokens + ROUNDS_FLOOR * (now - purse.at))
        purse.at = now
        return purse
