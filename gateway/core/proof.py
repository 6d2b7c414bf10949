"""What statuses prove about a path: where a 404 may be believed, and where we are not let in; and
which paths were shown to work lately.

Rule 1: a 2xx to a real request proves (tenant, upstream, capability root, link) for ``PROOF_S``.
        Only there may a 403, 404 or 410 remove a copy. A probe is no proof (design 5.2).
Rule 2: a path works if a canary or a real request over it succeeded within 65 minutes on a metered
        link, within two minutes on another: dated, never presumed (links.md section 13).
Rule 3: a 401, 403 or 407 makes a path ineligible only when another path gave a 2xx to the *same*
        request, and for ``INELIGIBLE_S`` only. Else it is an answer like any other.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from gateway.core.instant import Mono
from gateway.core.link import LinkMemory
from gateway.core.route import INELIGIBLE_S, PROOF_S, REFUSALS

PROOFS_MAX: Final = 8192
"""Proofs remembered; the oldest go first. Roots come from requests, so they need a limit."""

SERIALS_MAX: Final = 1024
"""Requests whose refusals are remembered until another path answers them."""

NEVER: Final = Mono(float("-inf"))
PROVEN_S: Final = 120.0
PROVEN_METERED_S: Final = 65 * 60.0


@dataclass(frozen=True, slots=True)
class PathProof:
    """One path's last proof: its ``age_s``, None if there was none since the start. ``lapsed_s``
    is for how long it has not been proven, None while it is. Without a canary (``provable``) a
    path that stands by shows nothing: its age is told, and it alarms nobody."""

    link: str
    upstream: str
    age_s: float | None
    lapsed_s: float | None
    provable: bool = True


@dataclass(slots=True)
class PathProofs:
    """When each (link, upstream) last showed that it works; counted from ``begun`` at most.

    ``provable`` are the upstreams with a canary, None: all.
    """

    begun: Mono
    provable: frozenset[str] | None = None
    _dated: dict[tuple[str, str], Mono] = field(default_factory=dict)

    def saw(self, link: str, upstream: str, at: Mono) -> None:
        """Take in a success of a canary or a real request."""
        self._dated[link, upstream] = at

    def age_s(self, link: str, upstream: str, now: Mono) -> float | None:
        """Return how old the last proof is, None if there is none."""
        dated = self._dated.get((link, upstream))
        return None if dated is None else now - dated

    def of(self, link: str, upstream: str, metered: bool, now: Mono) -> PathProof:
        """Return how one path stands. Before its first proof it counts from the start."""
        limit = PROVEN_METERED_S if metered else PROVEN_S
        since = now - self._dated.get((link, upstream), self.begun)
        age = self.age_s(link, upstream, now)
        lapsed = max(0.0, since - limit) if since >= limit else None
        return PathProof(link, upstream, age, lapsed,
                         self.provable is None or upstream in self.provable)


UNPROVEN_MOST: Final = 3
UNPROVEN_MOST_S: Final = 600.0
"""The canaries of so many upstreams must come over a link before its hold ends (links.md section
7), within ten minutes: a canary that is never sent must not keep a practice on its SIM."""


@dataclass(slots=True)
class Canaried:
    """When the canary of each (link, upstream) came last. A real request's success is none: it may
    have had a credential that the canary has not, which would then be waited for in vain."""

    _dated: dict[tuple[str, str], Mono] = field(default_factory=dict)

    def saw(self, link: str, upstream: str, at: Mono) -> None:
        """Take in a canary's success."""
        self._dated[link, upstream] = at

    def lacks(self, memory: LinkMemory, upstreams: Iterable[str], ailing: Collection[str],
              others: Collection[str], now: Mono) -> bool:
        """Whether one of the first ``upstreams`` was not reached over this link since its probation
        began, although its canary comes over one of the ``others``.

        Not for those ``ailing``, of which a verdict says why; nor where the link had not been dead:
        after work a readiness run says it, after a rollback reads.
        """
        if memory.state != "PROBATION" or now - memory.since >= UNPROVEN_MOST_S or (
                memory.cause in ("MAINTENANCE", "ROLLED_BACK")):
            return False
        return any(
            self._dated.get((memory.link, upstream), NEVER) < memory.since
            and any(now - self._dated.get((other, upstream), NEVER) < PROOF_S for other in others)
            for upstream in islice(upstreams, UNPROVEN_MOST) if upstream not in ailing)


@dataclass(slots=True)
class Proofs:
    """The dated proofs and refusals. ``now`` is the last argument of every method."""

    _dated: OrderedDict[tuple[str, str, str, str], Mono] = field(default_factory=OrderedDict)
    _barred: dict[tuple[str, str, str], Mono] = field(default_factory=dict)
    _races: OrderedDict[tuple[str, str, int], dict[str, bool]] = field(
        default_factory=OrderedDict)

    def saw(self, tenant: str, upstream: str, root: str, link: str, status: int, serial: int,
            now: Mono) -> bool:
        """Take in one status; return whether it changes how anything stands."""
        granted = 200 <= status < 300
        if not granted and status not in REFUSALS:
            return False
        race = self._races.setdefault((tenant, upstream, serial), {})
        race[link] = granted
        while len(self._races) > SERIALS_MAX:
            self._races.popitem(last=False)
        changed = self._bar(tenant, upstream, race, now)
        if granted:
            key = (tenant, upstream, root, link)
            changed |= not self._is_fresh(self._dated.get(key), now)
            changed |= self._barred.pop((tenant, upstream, link), None) is not None
            self._dated[key] = now
            self._dated.move_to_end(key)
            while len(self._dated) > PROOFS_MAX:
                self._dated.popitem(last=False)
        return changed

    def _bar(self, tenant: str, upstream: str, race: dict[str, bool], now: Mono) -> bool:
        if not any(race.values()):
            return False
        refused = [link for link, granted in race.items() if not granted]
        for link in refused:
            self._barred[tenant, upstream, link] = Mono(now + INELIGIBLE_S)
        return bool(refused)

    def _is_fresh(self, dated: Mono | None, now: Mono) -> bool:
        return dated is not None and now - dated <= PROOF_S

    def proven(self, tenant: str, upstream: str, root: str, now: Mono) -> frozenset[str]:
        """Return the links with a fresh proof for this capability root."""
        return frozenset(
            key[3] for key, dated in self._dated.items()
            if key[:3] == (tenant, upstream, root) and self._is_fresh(dated, now))

    def ineligible(self, tenant: str, upstream: str, now: Mono) -> frozenset[str]:
        """Return the links that are not to be tried for this tenant and upstream now."""
        return frozenset(link for (whose, name, link), until in self._barred.items()
                         if (whose, name) == (tenant, upstream) and now < until)

    def newest(self, now: Mono) -> tuple[tuple[str, str, str, float], ...]:
        """Return (tenant, upstream, link, age in seconds) of the newest proof of each path."""
        ages: dict[tuple[str, str, str], float] = {}
        for (tenant, upstream, _, link), dated in self._dated.items():
            path = (tenant, upstream, link)
            ages[path] = min(ages.get(path, now - dated), now - dated)
        return tuple((*path, round(age, 1)) for path, age in ages.items())
