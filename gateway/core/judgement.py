"""The verdicts that turn no link by themselves: on upstreams, on paths, on a link's quality.

``flow/board.py`` holds one beside the detectors of its links, and the replay of a recording drives
the same code. It holds what was judged last and asks ``core/verdict.py`` what follows.

Rule 1: a verdict that stands is lifted by a success, never by a wait; see ``core/verdict.py``.
Rule 2: what failed while its upstream was down is explained and counts for nothing afterwards.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.core.detector import Detector
from gateway.core.instant import Mono
from gateway.core.link import CARRIES, UNPROVED, LinkRules, Sample
from gateway.core.route import SPARE
from gateway.core.slowness import Slowness
from gateway.core.verdict import (
    Judged,
    PathReading,
    Verdict,
    VerdictKind,
    changes,
    judge,
    link_faults,
    read_path,
    slow_upstream,
)

USABLE: Final = CARRIES | UNPROVED | frozenset(SPARE)
"""States of links that may carry work: their paths are judged."""

NO_READING: Final = PathReading()
NEVER: Final = Mono(float("-inf"))


class Judgement:
    """See the head of this module. ``upstreams`` are ids; bounded by them and the links."""

    def __init__(self, upstreams: Iterable[str], rules: LinkRules) -> None:
        self._upstreams = tuple(upstreams)
        self._rules = rules
        self._slownesses = {upstream: Slowness() for upstream in self._upstreams}
        self._explained: dict[str, Mono] = {}
        self.verdicts: tuple[Verdict, ...] = ()
        self.paths: dict[tuple[str, str], PathReading] = {}

    def see(self, sample: Sample) -> bool:
        """Take in one sample, before its link's detector does; return whether it could change a
        verdict on an upstream, or end doubts about a path."""
        if (sample.layer == "request" and sample.rtt_ms is not None
                and sample.target in self._slownesses):
            self._slownesses[sample.target].saw(sample.rtt_ms, sample.at)
        if any(verdict.upstream == sample.target for verdict in self.verdicts):
            return True
        path = self.paths.get((sample.link, sample.target))
        return path is not None and path.doubts > 0

    def judge(self, detectors: Mapping[str, Detector], provable: frozenset[str], now: Mono
              ) -> tuple[Judged, ...]:
        """Judge by what ``detectors`` (by link, most preferred first) hold; return each verdict
        once when it is reached and once when it is over. ``provable`` are upstreams with a canary.
        """
        states = {link: each.memory.state for link, each in detectors.items()}
        usable = tuple(link for link, state in states.items() if state in USABLE)
        self.paths = {
            (link, upstream): read_path(
                ring, detector.heard,
                max(detector.memory.clean_since, self._explained.get(upstream, Mono(0.0))),
                self._rules, now)
            for link, detector in detectors.items() for upstream in self._upstreams
            if (ring := detector.targets.get(upstream))}
        after = judge(self.verdicts, self._upstreams, usable, self.paths, self._rules, now)
        # Of a link with an interceptor they hold on, where a canary goes on looking.
        after += tuple(
            v for v in self.verdicts if v.kind == "TLS_INTERCEPT"
            and v.upstream in provable and states.get(v.link) == "QUARANTINED"
            and (self.paths.get((v.link, v.upstream), NO_READING).good_at or NEVER) <= v.since)
        for link, detector in detectors.items():
            named = max((row[-1].sent_at for name, each in detectors.items() if name != link
                         for row in each.lookups.values() if row and row[-1].ok), default=None)
            after += link_faults(self.verdicts, link, detector.lookups, detector.rungs,
                                 detector.sums, detector.heard, after, now, named)
        after += self._slow(after, detectors)
        said = changes(self.verdicts, after, now)
        self.verdicts = after
        for judged in said:
            if judged.over and judged.verdict.kind == "UPSTREAM_DOWN":
                self._explained[judged.verdict.upstream] = now
        return said

    def _slow(self, judged: tuple[Verdict, ...], detectors: Mapping[str, Detector]
              ) -> tuple[Verdict, ...]:
        """UPSTREAM_SLOW of those that are not down, where no link that carries is in doubt."""
        down = {v.upstream for v in judged if v.kind == "UPSTREAM_DOWN"}
        fine = not any(v.kind == "BROWNOUT" for v in judged) and not any(
            each.reading.overdue for each in detectors.values() if each.memory.state in CARRIES)
        found = (slow_upstream(self.verdicts, upstream, slowness, fine)
                 for upstream, slowness in self._slownesses.items() if upstream not in down)
        return tuple(verdict for verdict in found if verdict is not None)

    # --- what it is asked

    def stands(self, kind: VerdictKind, link: str = "", upstream: str = "") -> bool:
        """Whether exactly that verdict stands."""
        return any((v.kind, v.link, v.upstream) == (kind, link, upstream) for v in self.verdicts)

    def foreign(self, link: str) -> str:
        """The verdict of others against ``link`` itself, ``""`` if none: TLS_INTERCEPT seen by its
        upstreams."""
        return "TLS_INTERCEPT" if self.stands("TLS_INTERCEPT", link) else ""

    def faulty(self, upstream: str) -> frozenset[str]:
        """Links with a verdict against this upstream over them."""
        return frozenset(v.link for v in self.verdicts if v.upstream == upstream and v.link)

    def doubtful(self, upstream: str) -> frozenset[str]:
        """Links over which this upstream fails, and nothing explains it yet."""
        return frozenset(link for (link, name), path in self.paths.items()
                         if name == upstream and path.doubts >= self._rules.upstream_failures)

    def ails(self, upstream: str) -> str:
        """What degrades an upstream over every link, ``""`` if nothing does."""
        kinds = [v.kind for v in self.verdicts if v.upstream == upstream and not v.link]
        return "UPSTREAM_DOWN" if "UPSTREAM_DOWN" in kinds else next(iter(kinds), "")
