"""What each class of traffic costs on each link, and when a class leaves one link for another.

Law (links.md section 9): ``J = mean + 2 * (p95 - p50) + 3 s * P(fail) + bytes * price``, in seconds
of somebody's waiting, from real completions.

Rule 1: a class moves, never the link: small reads first, bookings next, bulk last or never. Once
        small reads have left a link in a flagged brown-out the bookings follow, whatever their own
        few say: nobody hedges a write, and a reply that is lost leaves its outcome unknown.
Rule 2: what was not measured on a link is presumed to cost what it costs where it was measured,
        but for the difference that the echoes of both links show. So a slow upstream costs the
        same on both, and moves nothing (promise 6).
Rule 3: leaving takes 10 s, 2 s once BROWNOUT is flagged; coming back 60 s. The hour has a limit.
Rule 4: a completion costs O(1), the memory is bounded: slices of a logarithmic histogram.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, get_args

from gateway.core.instant import Mono

TrafficClass: TypeAlias = Literal["small", "booking", "bulk"]
"""``small`` reads, every write (``booking``), streams and large reads (``bulk``): moving order."""

CLASSES: Final[tuple[TrafficClass, ...]] = get_args(TrafficClass)

FAIL_COST_S: Final = 3.0
"""A failure costs what a person waits before trying again (links.md section 9)."""

BUCKET_LEAST_S: Final = 0.001
BUCKET_RATIO: Final = 1.1
"""A quantile is right within 5 per cent: a third of the least ratio that decides anything."""
BUCKETS: Final = 122
"""1 ms * 1.1^121 is 102 s: longer than any patience."""

BRIEF_MIN: Final = 5
MEASURED_MIN: Final = 20
"""Completions that a window needs to be believed: one slow read in twenty moves no p50."""

PRIOR_WEIGHT: Final = 10
"""What a link is presumed to cost counts as this many completions of its own."""

USUAL_FACTOR: Final = 2.0
"""Twice the median of its class: who has waited longer and lost its race has failed. Of both links
alike: what a hedge had less time for says nothing, so a slow upstream fails on both."""

LOSSY_MIN: Final = 10
LOSSY_SHARE: Final = 0.1
LOSSY_TIMES: Final = 3.0
LOSSY_SPREAD: Final = 3
"""Failed sends of the last second, or five, that are a brown-out where no echo tells of it: one in
ten of ten at least, and three times the share of the other link's, in three tenths of that time at
least: sends that outlive a burst of silence end within one hedge wait, 0.1 s, of its end."""

DIP_S: Final = 1.0
"""A good spell of a flagged brown-out that ends the wait: at 20 % loss none lasts so long."""

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class SteerRules:
    """When a class of traffic leaves a link that works badly, and when it comes back."""

    away_factor: float = field(default=1.5, metadata={
        "ge": 1.0, "description": "times the other link's cost at which a class may leave"})
    back_factor: float = field(default=1.2, metadata={
        "ge": 1.0, "description": "times the other link's cost below which it may come back"})
    least_s: float = field(default=0.1, metadata={
        "ge": 0.0, "description": "seconds of cost that a move must gain, whatever the factor"})
    away_s: float = field(default=10.0, metadata={
        "ge": 0.0, "description": "seconds a link must cost too much before a class leaves it"})
    away_browned_s: float = field(default=2.0, metadata={
        "ge": 0.0, "description": "the same once a brown-out is flagged on it"})
    back_s: float = field(default=60.0, metadata={
        "ge": 0.0, "description": "seconds a link must cost little again before a class returns"})
    moves_per_hour: int = field(default=2, metadata={
        "ge": 0, "description": "classes that may leave a link within an hour; 0: none ever does"})
    small_bytes: int = field(default=65536, metadata={
        "ge": 1024, "description": "bytes of reply up to which a read is small; beyond it is bulk"})
    duplicate_bytes: int = field(default=4096, metadata={
        "ge": 0, "description": "expected bytes up to which a read goes over both links at once "
                                "while its own works badly; 0: never"})


def class_of(traffic: str, expected: int | None, rules: SteerRules) -> TrafficClass:
    """Return the class of ``traffic`` (read, booking, write, stream, tunnel).

    ``expected`` are the bytes that a read's reply should have, None where nothing is learned yet:
    then it is taken for small.
    """
    if traffic in ("booking", "write"):
        return "booking"
    if traffic != "read" or (expected or 0) > rules.small_bytes:
        return "bulk"
    return "small"


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of one send; ``size`` is the reply's bytes. ``took_s`` of one that is not ``ok`` is
    how long it was waited for: a send that lost its race was, infinity where none would help."""

    at: Mono
    took_s: float
    ok: bool
    size: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a window of completions says. Times are seconds, of those that were ok."""

    n: int = 0
    fails: int = 0
    mean_s: float = 0.0
    p50_s: float = 0.0
    p95_s: float = 0.0
    size: float = 0.0

    @property
    def fail_share(self) -> float:
        """P(fail), 0 while nothing was seen."""
        return self.fails / self.n if self.n else 0.0

    def cost(self, price: float = 0.0) -> float:
        """J in seconds; ``price`` is seconds per byte."""
        return (self.mean_s + 2.0 * (self.p95_s - self.p50_s) + FAIL_COST_S * self.fail_share
                + self.size * price)


@dataclass(frozen=True, slots=True)
class Reach:
    """What the echoes (else the anchors) of one link say lately: seconds, and a share of 1."""

    rtt_s: float
    rtt95_s: float
    loss: float = 0.0

    @property
    def cost(self) -> float:
        """The link's own part of J: an echo that is lost would have been a failed send."""
        return self.rtt_s + 2.0 * max(0.0, self.rtt95_s - self.rtt_s) + FAIL_COST_S * self.loss


class Window:
    """Completions of the last ``slices * slice_s`` seconds as a histogram, rolling by slices."""

    def __init__(self, slice_s: float, slices: int) -> None:
        self._slice_s = slice_s
        self._keep = slices
        self._slices: deque[_Slice] = deque()
        self._counts = [0] * BUCKETS
        self._whole = _Slice(0)

    def add(self, completion: Completion) -> None:
        """Count one completion; O(1) but for slices that end."""
        self._roll(completion.at)
        number = int(completion.at // self._slice_s)
        if not self._slices or self._slices[-1].number < number:
            self._slices.append(_Slice(number))
        bucket = _bucket(completion.took_s) if completion.ok else None
        for each in (self._slices[-1], self._whole):
            each.add(completion, bucket)
        if bucket is not None:
            self._counts[bucket] += 1

    def figures(self, now: Mono) -> Figures:
        """Return what the window says at ``now``."""
        self._roll(now)
        whole = self._whole
        well = whole.n - whole.fails
        if not whole.n:
            return Figures()
        return Figures(whole.n, whole.fails, whole.took_s / well if well else 0.0,
                       self._quantile(0.50, well), self._quantile(0.95, well),
                       whole.size / well if well else 0.0)

    def spread(self, now: Mono) -> int:
        """Return in how many slices something failed."""
        self._roll(now)
        return sum(each.fails > 0 for each in self._slices)

    def _quantile(self, share: float, well: int) -> float:
        if not well:
            return 0.0
        left = math.ceil(share * well)
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return BUCKET_LEAST_S * BUCKET_RATIO ** bucket
        return BUCKET_LEAST_S * BUCKET_RATIO ** (BUCKETS - 1)

    def _roll(self, now: Mono) -> None:
        oldest = int(now // self._slice_s) - self._keep
        while self._slices and self._slices[0].number <= oldest:
            gone = self._slices.popleft()
            self._whole.take(gone)
            for bucket, count in gone.counts.items():
                self._counts[bucket] -= count
        if not self._slices:  # no drift of sums from one busy day to the next
            self._whole = _Slice(0)


@dataclass(slots=True)
class _Slice:
    number: int
    n: int = 0
    fails: int = 0
    took_s: float = 0.0
    size: int = 0
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, completion: Completion, bucket: int | None) -> None:
        self.n += 1
        if bucket is None:
            self.fails += 1
            return
        self.took_s += completion.took_s
        self.size += completion.size
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def take(self, gone: "_Slice") -> None:
        self.n -= gone.n
        self.fails -= gone.fails
        self.took_s -= gone.took_s
        self.size -= gone.size


def _bucket(took_s: float) -> int:
    if took_s <= BUCKET_LEAST_S:
        return 0
    bucket = round(math.log(took_s / BUCKET_LEAST_S) / math.log(BUCKET_RATIO))
    return min(bucket, BUCKETS - 1)


def _brief() -> Window:
    return Window(0.5, 10)


def _recent() -> Window:
    return Window(30.0, 10)


class _Path:
    """The three windows of one (link, upstream, class)."""

    def __init__(self) -> None:
        self.brief, self.recent = _brief(), _recent()
        self.day = Window(3600.0, 24)

    def add(self, completion: Completion) -> None:
        self.brief.add(completion)
        self.recent.add(completion)
        self.day.add(completion)

    def window(self, span: "_Span") -> Window:
        """The window of that span."""
        return {"brief": self.brief, "recent": self.recent, "day": self.day}[span]


_Span: TypeAlias = Literal["brief", "recent", "day"]


@dataclass(frozen=True, slots=True)
class _Share:
    """What one upstream's completions of a class say on its home, in one window."""

    upstream: str
    kind: TrafficClass
    span: _Span
    figures: Figures


CostTable: TypeAlias = Mapping[tuple[str, TrafficClass], float]
"""J in seconds by (link, class); a pair of which nothing is known is absent."""


class Costs:
    """The completions of all links, and J from them. Bounded: links x upstreams x classes."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, str, TrafficClass], _Path] = {}

    def note(self, link: str, upstream: str, kind: TrafficClass, completion: Completion) -> None:
        """Count one completion of a configured link and upstream."""
        path = self._paths.get((link, upstream, kind))
        if path is None:
            path = self._paths[link, upstream, kind] = _Path()
        path.add(completion)

    def forget(self, link: str) -> None:
        """A link comes back from the dead: what was measured on it before says nothing now."""
        for key in [key for key in self._paths if key[0] == link]:
            del self._paths[key]

    def mended(self, link: str) -> None:
        """A brown-out of ``link`` is over: what it cost meanwhile is no measure of it any more.

        Else a class that left would find no fair cost for five minutes: nothing is sent there.
        """
        for key, path in self._paths.items():
            if key[0] == link:
                path.brief, path.recent = _brief(), _recent()

    def figures(self, link: str, kind: TrafficClass, now: Mono) -> tuple[Figures, Figures]:
        """Return what (5 min, 24 h) say of a class on a link, for ``/status``: all upstreams."""
        mine = [path for key, path in self._paths.items() if key[0] == link and key[2] == kind]
        return (_together([path.recent.figures(now) for path in mine]),
                _together([path.day.figures(now) for path in mine]))

    def usual_s(self, upstream: str, kind: TrafficClass, now: Mono) -> float | None:
        """Return what a send of this class usually takes at most, None while nothing is known."""
        told = [path.recent.figures(now) for key, path in self._paths.items()
                if key[1:] == (upstream, kind)]
        best = max(told, key=lambda figures: figures.n - figures.fails, default=Figures())
        return USUAL_FACTOR * best.p50_s if best.n > best.fails else None

    def table(self, homes: Mapping[TrafficClass, str], reaches: Mapping[str, Reach],
              browned: Collection[str], prices: Mapping[str, float], now: Mono) -> CostTable:
        """Return J of each class on each link of ``reaches``.

        ``homes`` is the link on which each class is now; ``prices`` are seconds per byte (absent:
        0). A class that was never used costs what the echoes say. On a link with a brown-out at
        least as many sends fail as echoes: reads that go over both links hide it.
        """
        found: dict[tuple[str, TrafficClass], float] = {}
        for kind, home in homes.items():
            shares = self._shares(home, kind, home in browned, now)
            total = sum(each.figures.n for each in shares)
            for link, reach in reaches.items():
                price = prices.get(link, 0.0)
                if link == home or not shares:
                    lost = reach.loss if link in browned else 0.0
                    costs = [each.figures.n * (each.figures.cost(price) + FAIL_COST_S * max(
                        0.0, lost - each.figures.fail_share)) for each in shares]
                else:
                    near = reaches.get(home)
                    costs = [each.figures.n * self._elsewhere(
                        link, each, self._presumed(home, each, near, reach, home in browned, now)
                        + each.figures.size * price, price, now) for each in shares]
                found[link, kind] = sum(costs) / total if total else reach.cost
        return found

    def _presumed(self, home: str, share: "_Share", near: Reach | None, far: Reach,
                  is_browned: bool, now: Mono) -> float:
        """What another link (``far``) would cost where a class costs that much on its ``home``.

        In a flagged brown-out what it costs above its day is the link's doing: a reply of twenty
        packets loses one far more often than an echo is lost.
        """
        cost = share.figures.cost() + (far.cost - near.cost if near is not None else 0.0)
        if is_browned:
            day = self._paths[home, share.upstream, share.kind].day.figures(now)
            cost = min(cost, day.cost() + far.cost)
        return max(far.cost, cost)

    def _shares(self, home: str, kind: TrafficClass, is_browned: bool, now: Mono
                ) -> list["_Share"]:
        """What each upstream's completions on ``home`` say, of the window that holds enough.

        A class too rare to say it in five seconds borrows from the small reads: a brown-out that
        fails them fails the bookings as well, and nobody hedges those.
        """
        tries: list[tuple[TrafficClass, _Span, int]] = [
            (kind, "recent", MEASURED_MIN), (kind, "day", 1), ("small", "recent", MEASURED_MIN)]
        if is_browned:
            tries = [(kind, "brief", BRIEF_MIN), ("small", "brief", BRIEF_MIN), *tries]
        for lender, span, enough in tries:
            told = [_Share(key[1], lender, span, path.window(span).figures(now))
                    for key, path in self._paths.items() if key[0] == home and key[2] == lender]
            if sum(each.figures.n for each in told) >= enough:
                return [each for each in told if each.figures.n]
        return []

    def _elsewhere(self, link: str, share: "_Share", presumed: float, price: float, now: Mono
                   ) -> float:
        """J on another link: its own completions, and ``PRIOR_WEIGHT`` of what is presumed."""
        path = self._paths.get((link, share.upstream, share.kind))
        if path is None:
            return presumed
        own = path.window(share.span).figures(now)
        if share.span == "brief" and own.n < BRIEF_MIN:
            own = path.recent.figures(now)
        return (own.n * own.cost(price) + PRIOR_WEIGHT * presumed) / (own.n + PRIOR_WEIGHT)


def is_lossy(here: Figures, there: Figures, spread: int) -> bool:
    """Whether a link's sends of the last second or five fail so much more than another's (of the
    last five) that it is a brown-out, whatever the echoes say, or where there are none.

    ``spread`` is in how many of its ten slices some failed: those of one moment are a burst, which
    took everything and is over.
    """
    if here.n < LOSSY_MIN or there.n < BRIEF_MIN or spread < LOSSY_SPREAD:
        return False
    return (here.fail_share >= LOSSY_SHARE
            and here.fail_share >= LOSSY_TIMES * there.fail_share)


def _together(parts: Iterable[Figures]) -> Figures:
    """One row of figures from those of several upstreams, weighted by their numbers."""
    parts = [part for part in parts if part.n]
    n = sum(part.n for part in parts)
    if not n:
        return Figures()

    def mean(name: str) -> float:
        return sum(part.n * float(getattr(part, name)) for part in parts) / n

    return Figures(n, sum(part.fails for part in parts), mean("mean_s"), mean("p50_s"),
                   mean("p95_s"), mean("size"))


class Sizes:
    """The bytes that a route's replies usually have, learned; bounded by the packs' routes."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], float] = {}

    def note(self, upstream: str, route: str, size: int) -> None:
        """Take in one reply's size: each counts an eighth, so a dozen replies tell a change."""
        mean = self._means.get((upstream, route))
        self._means[upstream, route] = size if mean is None else mean + (size - mean) / 8.0

    def expected(self, upstream: str, route: str) -> int | None:
        """Return the bytes to expect, None while nothing was seen."""
        mean = self._means.get((upstream, route))
        return None if mean is None else round(mean)


@dataclass(frozen=True, slots=True)
class Leaning:
    """How one class leans on one link.

    ``worse_since`` is set while the class costs too much there, ``fair_since`` while it costs
    little again, for a moment or, once that was established (``impaired``), for good. ``moved``
    tells that it has left.
    """

    link: str
    kind: TrafficClass
    worse_since: Mono | None = None
    fair_since: Mono | None = None
    impaired: bool = False
    moved: bool = False


@dataclass(frozen=True, slots=True)
class SteerMemory:
    """All that steering remembers: leanings that are not plain, and when classes left a link."""

    leanings: tuple[Leaning, ...] = ()
    moves: tuple[Mono, ...] = ()

    @property
    def impaired(self) -> frozenset[str]:
        """Links that work too badly for some class (``IMPAIRED`` of links.md section 7)."""
        return frozenset(each.link for each in self.leanings if each.impaired)

    def avoided(self, kind: TrafficClass) -> frozenset[str]:
        """The links that ``kind`` has left."""
        return frozenset(each.link for each in self.leanings if each.moved and each.kind == kind)

    def home(self, kind: TrafficClass, usable: tuple[str, ...]) -> str:
        """The link of ``usable`` (best first) that ``kind`` is on, ``""`` if there is none."""
        avoided = self.avoided(kind)
        return next((link for link in usable if link not in avoided), next(iter(usable), ""))


@dataclass(frozen=True, slots=True)
class ClassMoved:
    """A class left ``before`` for ``after``, or (``back``) returned. Costs are J in seconds."""

    kind: TrafficClass
    before: str
    after: str
    back: bool
    cause: str
    at: Mono
    cost_s: float
    other_s: float


def steer(memory: SteerMemory, costs: CostTable, usable: tuple[str, ...],
          browned: Collection[str], metered: Collection[str], now: Mono, rules: SteerRules
          ) -> SteerMemory:
    """Return ``memory`` after the costs were looked at; call it several times a second.

    ``usable`` are the links that take new work, best first. Without another usable link nothing
    changes: there is nowhere to go (N20). A link that is not usable is forgotten.
    """
    if len(usable) < 2:
        return memory
    moves = tuple(at for at in memory.moves if now - at < HOUR_S)
    old = {(each.link, each.kind): each for each in memory.leanings}
    leanings: list[Leaning] = []
    for kind in CLASSES:
        home = memory.home(kind, usable)
        for link in usable:
            leaning = old.get((link, kind), Leaning(link, kind))
            if not leaning.impaired and link != home:
                continue  # nothing of the class is there, so nothing can be judged to leave
            after = _lean(leaning, costs, usable, link in browned, now, rules)
            if kind == "booking" and link in browned and not after.impaired and any(
                    each.moved and each.link == link and each.kind == "small"
                    for each in leanings):
                after = replace(after, impaired=True)
            if after.impaired and not after.moved and len(moves) < rules.moves_per_hour \
                    and _is_its_turn(after, leanings, costs, usable, metered):
                after = replace(after, moved=True)
                moves = (*moves, now)
            leanings.append(after)
    plain = Leaning("", "small")
    kept = tuple(each for each in leanings
                 if replace(each, link="", kind="small") != plain)
    return SteerMemory(kept, moves)


def _lean(leaning: Leaning, costs: CostTable, usable: tuple[str, ...], is_browned: bool,
          now: Mono, rules: SteerRules) -> Leaning:
    mine = costs.get((leaning.link, leaning.kind))
    other = _best_other(leaning, costs, usable)
    if mine is None or other is None:
        return leaning
    if not leaning.impaired:
        if mine <= rules.away_factor * other[0] or mine - other[0] < rules.least_s:
            return _dipped(leaning, is_browned, now)
        since = leaning.worse_since if leaning.worse_since is not None else now
        wait = rules.away_browned_s if is_browned else rules.away_s
        return replace(leaning, worse_since=since, fair_since=None, impaired=now - since >= wait)
    is_fair = not is_browned and (mine < rules.back_factor * other[0]
                                  or mine - other[0] < rules.least_s / 2.0)
    if not is_fair:
        return replace(leaning, fair_since=None)
    since = leaning.fair_since if leaning.fair_since is not None else now
    if now - since >= rules.back_s:
        return Leaning(leaning.link, leaning.kind)
    return replace(leaning, fair_since=since)


def _dipped(leaning: Leaning, is_browned: bool, now: Mono) -> Leaning:
    """Loss comes in fits: what is flagged does not begin anew with a good second, but bursts that
    are far apart are each by themselves."""
    if leaning.worse_since is None or not is_browned:
        return replace(leaning, worse_since=None, fair_since=None)
    fair = leaning.fair_since if leaning.fair_since is not None else now
    if now - fair >= DIP_S:
        return replace(leaning, worse_since=None, fair_since=None)
    return replace(leaning, fair_since=fair)


def _best_other(leaning: Leaning, costs: CostTable, usable: tuple[str, ...]
                ) -> tuple[float, str] | None:
    return min(((costs[link, leaning.kind], link) for link in usable
                if link != leaning.link and (link, leaning.kind) in costs), default=None)


def _is_its_turn(leaning: Leaning, before: Iterable[Leaning], costs: CostTable,
                 usable: tuple[str, ...], metered: Collection[str]) -> bool:
    """Small reads first, then bookings; bulk last, and never onto a metered link."""
    other = _best_other(leaning, costs, usable)
    if other is None or (leaning.kind == "bulk" and other[1] in metered):
        return False
    moved = {each.kind for each in before if each.link == leaning.link and each.moved}
    return all(kind in moved for kind in CLASSES[:CLASSES.index(leaning.kind)])


def class_moves(before: SteerMemory, after: SteerMemory, costs: CostTable,
                usable: tuple[str, ...], browned: Collection[str], now: Mono
                ) -> tuple[ClassMoved, ...]:
    """Return what ``steer`` changed, each move once."""
    found = []
    for kind in CLASSES:
        was, became = before.avoided(kind), after.avoided(kind)
        for link in sorted(was ^ became):
            left = link in became
            other = after.home(kind, usable) if left else before.home(kind, usable)
            found.append(ClassMoved(
                kind, link if left else other, other if left else link, not left,
                "BROWNOUT" if left and link in browned else "", now,
                costs.get((link, kind), 0.0), costs.get((other, kind), 0.0)))
    return tuple(found)


def duplicates(links: tuple[str, ...], memory: SteerMemory, browned: Collection[str],
               traffic: str, expected: int | None, rules: SteerRules) -> bool:
    """Whether a read goes over its first two ``links`` at once: small, and its own works badly.

    Where its class has left the bad link already, its own is the good one: nothing is doubled.
    """
    if traffic != "read" or expected is None or len(links) < 2:
        return False
    bad = links[0] in memory.impaired or links[0] in browned
    return bad and expected <= rules.duplicate_bytes
