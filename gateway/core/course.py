"""Where traffic goes beside the states of links: what left a bad one, and what is coming back.

``flow/board.py`` holds one and tells it what ended, which link turned and what is known now; it
answers which links a request should take last. It keeps ``core/steer.py``'s costs and classes,
``core/failback.py``'s ramps, and the backups that are being cleared.

Rule 1: it puts links *behind* others, never out: promise 1 wants them tried when all else fails.
Rule 2: a link whose hold has passed while another one carries begins a ramp; no other way leads
        back. A link that is needed, because nothing else is steady, has none.
Rule 3: when everything is plain, it costs a request nothing.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from gateway.core import failback
from gateway.core.failback import (
    Clearing,
    Done,
    FailbackRules,
    Flows,
    Moment,
    Ramp,
    RampReason,
    RolledBack,
    Stage,
)
from gateway.core.hedge import Race, Won
from gateway.core.instant import Mono, Wall
from gateway.core.link import CARRIES, STEADY, LinkState, LinkTurned, Sample
from gateway.core.message import Arrived, NeverLeft, NoAnswer, Streamed
from gateway.core.steer import (
    CLASSES,
    DIP_S,
    ClassMoved,
    Completion,
    Costs,
    CostTable,
    Figures,
    Reach,
    Sizes,
    SteerMemory,
    SteerRules,
    TrafficClass,
    Window,
    class_moves,
    class_of,
    duplicates,
    is_lossy,
    steer,
)

LOOK_S: Final = 0.25
"""How often costs and ramps are looked at: an eighth of the shortest wait among them."""

METERED_PRICE: Final = 1e-6
"""Seconds per byte on a metered link without a plan: a megabyte is worth a second's waiting."""

REACH_SAMPLES: Final = 100
REACH_LEAST: Final = 10
REACH_S: Final = 10.0
REACH_MOST_S: Final = 300.0
"""Anchors' answers of the last ten seconds, a hundred at most, say what a link's reach is; on a
standby that is asked every 10 or 30 s the last ten, of five minutes at most."""

ALONE: Final = 4
"""At 100 reads a second and 20 % loss five a second show it; they are hedged within 0.1 s."""

USUAL_WEIGHT: Final = 20
"""The everyday loss counts as so many of them: one miss in ten is no loss of a tenth."""

NO_EVIDENCE: Final = frozenset({"busy", "abandoned", "link_down"})
"""Ends of a send that say nothing of its link: our own limit, or a verdict already told."""


@dataclass(frozen=True, slots=True)
class RampTold:
    """A ramp came to ``stage`` with ``share`` of the reads, or ended, for ``reason``. The figures
    are those of the step before."""

    link: str
    backup: str
    stage: Stage
    share: float
    reason: RampReason
    at: Mono
    lasted_s: float
    back: Figures = field(default_factory=Figures)
    backup_figures: Figures = field(default_factory=Figures)


@dataclass(frozen=True, slots=True)
class SweepTold:
    """Nothing is left on a backup (``wrong`` 0), or ``wrong`` flows after they had their time."""

    link: str
    wrong: int
    at: Mono
    lasted_s: float


Told: TypeAlias = ClassMoved | RampTold | SweepTold


@dataclass(frozen=True, slots=True)
class Look:
    """What is known when the course is looked at.

    ``preferred`` are all links, most preferred first; ``silent`` have something overdue,
    ``browned`` a BROWNOUT flagged. ``prices`` are seconds per byte, ``spent`` links whose quota is
    low or out. ``wall`` is None while the clock is not trusted: then no hour is a surgery's.
    """

    preferred: tuple[str, ...]
    states: Mapping[str, LinkState]
    reaches: Mapping[str, Reach]
    silent: Collection[str] = ()
    browned: Collection[str] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    spent: Collection[str] = ()
    warm: Collection[str] = ()
    wall: Wall | None = None


@dataclass(frozen=True, slots=True)
class ClassView:
    """One class on one link: J in seconds (None: nothing known), its figures of 5 min and 24 h, and
    whether the class has left the link."""

    link: str
    kind: TrafficClass
    cost_s: float | None
    recent: Figures
    day: Figures
    left: bool


@dataclass(frozen=True, slots=True)
class CourseView:
    """The course as ``/status`` shows it."""

    classes: tuple[ClassView, ...] = ()
    ramps: tuple[Ramp, ...] = ()
    clearings: tuple[Clearing, ...] = ()
    impaired: frozenset[str] = frozenset()


class Course:
    """See the head of this module. ``metered`` are the ids of metered links."""

    def __init__(self, metered: Collection[str], steering: SteerRules, returning: FailbackRules,
                 now: Mono) -> None:
        self._metered = frozenset(metered)
        self._steering, self._returning = steering, returning
        self._costs, self._sizes = Costs(), Sizes()
        self._memory = SteerMemory()
        self._table: CostTable = {}
        self._ramps: dict[str, Ramp] = {}
        self._clearings: dict[str, Clearing] = {}
        self._lossy_at: dict[str, Mono] = {}
        self._rolled_back: frozenset[str] = frozenset()
        self._reads: dict[str, Window] = {}
        self._step_reads: dict[str, Window] = {}
        self._second: dict[str, Window] = {}
        self._brief: dict[str, Window] = {}
        self._minute, self._hour = Window(5.0, 12), Window(60.0, 60)
        self._begun = now
        self._looked = Mono(now - LOOK_S)
        self._browned: frozenset[str] = frozenset()
        self._flagged: frozenset[str] = frozenset()
        self._hurried: dict[str, Mono] = {}
        self._spent: frozenset[str] = frozenset()
        self._news: list[Told] = []

    # --- what it is told

    def completed(self, link: str, upstream: str, traffic: str, route: str,
                  completion: Completion, silent: bool = False) -> None:
        """Take in the end of one send over ``link``; ``silent``: nothing at all is heard there now,
        so that a failure is the silence's and makes no brown-out."""
        kind = class_of(traffic, self._sizes.expected(upstream, route), self._steering)
        if not completion.ok and completion.took_s != math.inf:
            usual_s = self._costs.usual_s(upstream, kind, completion.at)
            if usual_s is not None and completion.took_s < usual_s:
                return
        if completion.ok and traffic == "read":
            self._sizes.note(upstream, route, completion.size)
        self._costs.note(link, upstream, kind, completion)
        if kind != "small":
            return
        for windows in (self._reads, self._step_reads):
            if windows is self._reads or link in self._ramps:
                windows.setdefault(link, Window(30.0, 10)).add(completion)
        for windows, slice_s, slices in ((self._second, 0.1, 10), (self._brief, 0.5, 10)):
            if completion.ok or not silent:
                windows.setdefault(link, Window(slice_s, slices)).add(completion)
        self._minute.add(completion)
        self._hour.add(completion)

    def turned(self, turn: LinkTurned, look: Look) -> None:
        """A link changed its state: it may begin a ramp, or end one."""
        link, now = turn.link, turn.at
        self._looked = Mono(now - LOOK_S)
        if turn.after in ("DOWN", "QUARANTINED", "PROBATION", "DRAINING"):
            self._clearings.pop(link, None)
            self._lossy_at.pop(link, None)
            self._rolled_back -= {link}
            self._forget_leanings(link, now)
            if turn.before in CARRIES and turn.after != "DRAINING":
                self._costs.forget(link)
            ramp = self._ramps.pop(link, None)
            if ramp is not None and turn.cause != "ROLLED_BACK":
                self._tell_ramp(ramp, "lost", now)
        elif turn.after == "UP" and turn.before == "PROBATION":
            backup = self._better_than_nothing(link, look)
            if backup:
                self._ramps[link] = Ramp(link, backup, now, now)
                self._tell_ramp(self._ramps[link], "", now)

    def _forget_leanings(self, link: str, now: Mono) -> None:
        """What had left a link that is out of use now comes back with its ramp, like all else: else
        the ramp would try nothing, and the classes would follow at a stroke."""
        before = self._memory
        self._memory = replace(before, leanings=tuple(
            each for each in before.leanings if each.link != link))
        self._news += [ClassMoved(each.kind, link, link, True, "", now, 0.0, 0.0)
                       for each in before.leanings if each.link == link and each.moved]

    def _better_than_nothing(self, link: str, look: Look) -> str:
        """The steady link that carries while ``link``, which is preferred to it, comes back."""
        behind = look.preferred[look.preferred.index(link) + 1:]
        ahead = look.preferred[:look.preferred.index(link)]
        if any(look.states[each] in CARRIES and each not in self._ramps for each in ahead):
            return ""
        return next((each for each in behind if look.states[each] in STEADY & CARRIES
                     and each not in self._ramps), "")

    # --- what it is asked

    def held(self) -> frozenset[str]:
        """Links on their way back that take nothing yet: none of them is the active one."""
        return frozenset(link for link, ramp in self._ramps.items() if not ramp.has_begun)

    def hurry(self, link: str, until: Mono) -> None:
        """Let ``link`` return before ``until`` without waiting for a quiet minute: a drill chose
        its own."""
        self._hurried[link] = until

    def expected(self, upstream: str, route: str) -> int | None:
        """Return the bytes that a route's replies usually have, None while nothing was seen."""
        return self._sizes.expected(upstream, route)

    def returning(self) -> frozenset[str]:
        """Links on their way back: an upstream's mode is BACKUP until all of it is back."""
        return frozenset(self._ramps)

    def behind(self, upstream: str, traffic: str, route: str, serial: int) -> frozenset[str]:
        """Return the links that this request takes after the others."""
        if not self._ramps and not self._memory.leanings:
            return frozenset()
        kind = class_of(traffic, self._sizes.expected(upstream, route), self._steering)
        back = frozenset(link for link, ramp in self._ramps.items()
                         if not failback.takes(ramp, traffic, serial))
        return back | self._memory.avoided(kind)

    def doubles(self, links: tuple[str, ...], upstream: str, traffic: str, route: str,
                serial: int) -> bool:
        """Whether a read may go over its first two ``links`` at once; never where the second one's
        quota is low or out. Of two sends that left together the loser had no time to fail, so one
        read in ``ALONE`` leaves alone: else nothing would say how badly the link works."""
        if serial % ALONE == 0:
            return False
        if not (self._browned or self._memory.leanings) or not self._spent.isdisjoint(links[1:2]):
            return False
        return duplicates(links, self._memory, self._browned, traffic,
                          self._sizes.expected(upstream, route), self._steering)

    def is_costly(self, link: str) -> bool:
        """Whether another link serves some class better (COSTLY of ``core/link.py``)."""
        return link in self._memory.impaired

    def is_rolled_back(self, link: str) -> bool:
        """Whether its ramp was rolled back, and its state does not say so yet."""
        return link in self._rolled_back

    def clearing(self) -> tuple[Clearing, ...]:
        """Backups that should carry nothing any more."""
        return tuple(self._clearings.values())

    def ramps(self) -> tuple[Ramp, ...]:
        """Ramps under way."""
        return tuple(self._ramps.values())

    @property
    def browned(self) -> frozenset[str]:
        """Links that work badly now, by their echoes or by their sends."""
        return self._browned

    @property
    def memory(self) -> SteerMemory:
        """Which classes lean on which links."""
        return self._memory

    def costs(self) -> CostTable:
        """J as it was looked at last."""
        return self._table

    def view(self, links: tuple[str, ...], now: Mono) -> "CourseView":
        """Return it all as one frozen value, for ``/status``."""
        rows = tuple(
            (link, kind, self._table.get((link, kind)), *self._costs.figures(link, kind, now),
             link in self._memory.avoided(kind))
            for link in links for kind in CLASSES)
        return CourseView(tuple(ClassView(*row) for row in rows), self.ramps(), self.clearing(),
                          self._memory.impaired)

    # --- looking

    def is_due(self, now: Mono) -> bool:
        """Whether it is time to look, or something waits to be told."""
        return bool(self._news) or now - self._looked >= LOOK_S

    def look(self, look: Look, now: Mono) -> tuple[Told, ...]:
        """Look at costs and ramps, every ``LOOK_S`` at most; return what is to be told."""
        if now - self._looked >= LOOK_S:
            span_s = min(now - self._looked, 4.0 * LOOK_S)
            self._looked = now
            self._spent = frozenset(look.spent)
            for link in self._flagged - frozenset(look.browned):
                self._costs.mended(link)
            self._flagged = frozenset(look.browned)
            self._lossy_at |= dict.fromkeys(self._lossy(look, now), now)
            self._browned = self._flagged | {
                link for link, at in self._lossy_at.items() if now - at < DIP_S}
            self._advance(look, span_s, now)
            self._steer(look, now)
        news, self._news = tuple(self._news), []
        return news

    def _lossy(self, look: Look, now: Mono) -> frozenset[str]:
        """Links that fail their sends, while another one that carries does not."""
        carrying = [link for link in look.preferred if look.states[link] in CARRIES]
        return frozenset(link for link in carrying for other in carrying
                         if other != link and self._is_lossy(link, other, now))

    def _is_lossy(self, link: str, other: str, now: Mono) -> bool:
        """By the last second, or, where that has too few sends, by the last five."""
        there = _figures(self._brief, other, now)
        return any(is_lossy(windows[link].figures(now), there, windows[link].spread(now))
                   for windows in (self._second, self._brief) if link in windows)

    def _steer(self, look: Look, now: Mono) -> None:
        late = {link for link, ramp in self._ramps.items() if failback.share(ramp, "read") < 1.0}
        carrying = [link for link in look.preferred if look.states[link] in CARRIES]
        usable = tuple(sorted(carrying, key=lambda link: link in late))
        homes = {kind: self._memory.home(kind, usable) for kind in CLASSES} if usable else {}
        for home in set(homes.values()):
            self._clearings.pop(home, None)  # it carries again: what runs there is right
        reaches = {link: reach for link, reach in look.reaches.items() if link in usable}
        prices = dict.fromkeys(self._metered, METERED_PRICE) | dict(look.prices)
        self._table = self._costs.table(homes, reaches, self._browned, prices, now)
        judged = tuple(link for link in usable if link not in late)
        before = self._memory
        self._memory = steer(before, self._table, judged, self._browned, self._metered, now,
                             self._steering)
        self._news += class_moves(before, self._memory, self._table, judged, self._browned, now)
        if homes:
            self._clear(frozenset(homes.values()), usable, now)

    def _clear(self, homes: frozenset[str], usable: tuple[str, ...], now: Mono) -> None:
        """Begin to clear each of ``homes`` that the last class has just left for a better link; a
        ramp clears its own backup when it is done."""
        after = {self._memory.home(kind, usable) for kind in CLASSES}
        ramping = {ramp.backup for ramp in self._ramps.values()}
        for link in homes - after - ramping:
            if all(usable.index(home) < usable.index(link) for home in after):
                self._clearings.setdefault(link, Clearing(link, now))

    def _advance(self, look: Look, span_s: float, now: Mono) -> None:
        for link, ramp in tuple(self._ramps.items()):
            if look.states[ramp.backup] not in CARRIES:
                del self._ramps[link]  # failover: nothing is left to come back from
                self._tell_ramp(ramp, "needless", now)
            elif ramp.stage == "WAITING":
                moment = self._moment(ramp, look, now)
                self._stepped(ramp, failback.waited(ramp, moment, span_s, now, self._returning),
                              now)
            else:
                self._try(ramp, link in look.silent or look.states[link] == "SUSPECT",
                          link in look.warm, now)

    def _try(self, ramp: Ramp, troubled: bool, warm: bool, now: Mono) -> None:
        trial = failback.Trial(_figures(self._step_reads, ramp.link, now),
                               _figures(self._reads, ramp.backup, now), troubled, warm)
        match failback.advance(ramp, trial, now, self._returning):
            case RolledBack() as rolled:
                del self._ramps[ramp.link]
                self._rolled_back |= {ramp.link}
                self._tell_ramp(ramp, rolled.reason, now, trial)
            case Done():
                del self._ramps[ramp.link]
                self._clearings[ramp.backup] = Clearing(ramp.backup, now)
                self._clearings.pop(ramp.link, None)
                self._tell_ramp(ramp, "done", now, trial)
            case Ramp() as after:
                self._stepped(ramp, after, now, trial)

    def _stepped(self, before: Ramp, after: Ramp, now: Mono,
                 trial: failback.Trial | None = None) -> None:
        self._ramps[after.link] = after
        if after.step != before.step:
            self._step_reads.pop(after.link, None)
            self._tell_ramp(after, "", now, trial)

    def _tell_ramp(self, ramp: Ramp, reason: RampReason, now: Mono,
                   trial: failback.Trial | None = None) -> None:
        self._news.append(RampTold(
            ramp.link, ramp.backup, ramp.stage, failback.share(ramp, "read"), reason, now,
            now - ramp.begun, trial.back if trial else Figures(),
            trial.backup if trial else Figures()))

    def _moment(self, ramp: Ramp, look: Look, now: Mono) -> Moment:
        minute, hour = self._minute.figures(now), self._hour.figures(now)
        rate = minute.n / 60.0
        usual = hour.n / min(3600.0, max(60.0, now - self._begun))
        slower = 0.0
        if ramp.link in look.reaches and ramp.backup in look.reaches:
            slower = look.reaches[ramp.backup].cost - look.reaches[ramp.link].cost
        price = look.prices.get(
            ramp.backup, METERED_PRICE if ramp.backup in self._metered else 0.0)
        return Moment(
            look.wall is not None and failback.is_surgery(look.wall, self._returning)
            and now >= self._hurried.get(ramp.link, now),
            look.states[ramp.backup] == "UP" and ramp.backup not in look.spent,
            rate, usual, rate * (max(0.0, slower) + minute.size * price))

    # --- the sweep

    def swept(self, link: str, flows: Flows, now: Mono) -> failback.TunnelEnd:
        """Take in what was counted on a link that is being cleared; return which tunnels to end."""
        clearing = self._clearings.get(link)
        if clearing is None:
            return "none"
        told = failback.sweep(clearing, flows, now, self._returning)
        self._clearings[link] = after = told.clearing
        if after.alarmed is not None and clearing.alarmed is None:
            self._news.append(SweepTold(link, after.wrong, now, now - after.since))
        elif after.wrong == 0 and (clearing.alarmed is not None or clearing.clean_at is None):
            self._news.append(SweepTold(link, 0, now, now - after.since))
        return told.tunnels


def _figures(windows: Mapping[str, Window], link: str, now: Mono) -> Figures:
    window = windows.get(link)
    return window.figures(now) if window is not None else Figures()


def reach_of(samples: Iterable[Sample], usual_loss: float, now: Mono) -> Reach | None:
    """Return what the anchors' samples of one link, newest first, say of it; None if nothing.

    Of echoes alone where there are any: a TCP probe hides a loss in a long round trip.
    ``usual_loss`` is the link's everyday loss. The best target counts: a link loses for all of
    them, an anchor that is dead for itself.
    """
    found: list[Sample] = []
    for sample in samples:
        age = now - sample.at
        if len(found) >= REACH_SAMPLES or age > REACH_MOST_S or (
                age > REACH_S and len(found) >= REACH_LEAST):
            break
        if sample.anchor and sample.layer in ("echo", "connect", "tls", "http"):
            found.append(sample)
    echoes = [sample for sample in found if sample.layer == "echo"]
    found = echoes or found
    times = sorted(sample.rtt_ms for sample in found
                   if sample.ok and sample.rtt_ms is not None)
    if not times:
        return None
    loss = min(_loss([sample for sample in found if sample.target == target], usual_loss)
               for target in {sample.target for sample in found})
    return Reach(times[len(times) // 2] / 1000.0, times[int(len(times) * 0.95)] / 1000.0, loss)


def _loss(samples: list[Sample], usual_loss: float) -> float:
    lost = sum(not sample.ok for sample in samples)
    return (lost + USUAL_WEIGHT * usual_loss) / (len(samples) + USUAL_WEIGHT)


def completions(race: Race, won: Won | None, now: Mono) -> tuple[tuple[str, Completion], ...]:
    """Return what a race that ended says of its links: (link, completion) of each fair send.

    A send that was still under way when another one won is not ok (links.md section 9: a cancelled
    loser counts in P(fail)); ``Course`` counts it if it had the time that such a send usually
    takes. A reply is a success whatever its status: the link brought it. Where nobody answered it
    is the upstream that is gone, which says nothing of one link beside another (promise 6: such
    failures would roll a ramp back, since the backup's are thinned by minutes of good ones). Of a
    read that left over two links at once the first send says something of its link only if it
    failed: it had no time to be lost, and its successes would hide the losses of the others.
    """
    if won is None:
        return ()
    found: list[tuple[str, Completion]] = []
    for number, attempt in enumerate(race.attempts):
        doubled = race.plan.duplicate and number == 0 and len(race.attempts) > 1
        match attempt.outcome:
            case Arrived() | None if doubled:
                continue
            case Arrived() as arrived:
                body = arrived.reply.body
                size = (body.length or 0) if isinstance(body, Streamed) else len(body)
                found.append((attempt.link, Completion(now, arrived.took_s, True, size)))
            case None:
                found.append((attempt.link, Completion(now, now - attempt.at, False)))
            case NoAnswer(_, cause, fresh) if fresh and cause not in NO_EVIDENCE:
                found.append((attempt.link, Completion(now, math.inf, False)))
            case NeverLeft(_, cause) if cause not in NO_EVIDENCE:
                found.append((attempt.link, Completion(now, math.inf, False)))
    return tuple(found)


def costs_by_class(table: CostTable, link: str) -> tuple[tuple[TrafficClass, float], ...]:
    """Return J of each class on ``link``, for ``/status``."""
    return tuple((kind, table[link, kind]) for kind in CLASSES if (link, kind) in table)


def is_over(told: RampTold) -> bool:
    """Whether the ramp ended with this."""
    return told.reason != ""


