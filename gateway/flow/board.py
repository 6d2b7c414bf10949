"""The board: what was seen lately on every link, and how everything stands because of it.

It keeps rings of samples and asks ``core`` what they mean: at each ``tick``, and at once when a
sample could change a state (a miss, or a success on a link that is not UP), yet at most every
``JUDGE_EVERY_S``. ``standing`` reads what was judged last, so that a request pays microseconds.
It decides nothing and never waits.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import count
from types import MappingProxyType
from typing import Final

from gateway.core.blackbox import BlackBox, Recording, Site
from gateway.core.cadence import Ask, Pace
from gateway.core.course import Course, Look, reach_of
from gateway.core.detector import Detector, alone
from gateway.core.failback import Clearing, FailbackRules, Flows, TunnelEnd
from gateway.core.frame import Frame
from gateway.core.instant import Mono
from gateway.core.judgement import Judgement
from gateway.core.likelihood import WINDOW_PRIOR
from gateway.core.link import (
    CARRIES,
    STEADY,
    UNPROVED,
    Circumstances,
    Link,
    LinkMemory,
    LinkRules,
    LinkState,
    Sample,
    resumed,
)
from gateway.core.maintenance import Window, binding
from gateway.core.mode import (
    BoardView,
    LinkView,
    ModeTurned,
    ModeView,
    Silences,
    Transition,
    mode_of,
)
from gateway.core.pack import Traffic
from gateway.core.proof import Canaried, PathProof, PathProofs, Proofs
from gateway.core.route import (
    Situation,
    Standing,
    Switched,
    active,
    hedge_wait,
    order,
    preference,
    steady,
)
from gateway.core.silence import Learned
from gateway.core.steer import Completion, Reach, SteerRules
from gateway.core.verdict import (
    Verdict,
    VerdictKind,
)
from gateway.ports import Clock

JUDGE_EVERY_S: Final = 0.02
"""Judging costs some 0.1 ms: at 100 misses a second this keeps it below one per cent."""

TICK_S: Final = 0.05
"""How often ``tick`` is expected; later than that by ``stall_s`` is a stall of our own."""

STALLS_MAX: Final = 32
STANDINGS_MAX: Final = 4096
"""Standings cached between two judgements: tenants x upstreams x roots, never unbounded."""

EAGER_S: Final = 300.0
"""How long a metered link that died is asked fast: two SYNs a second unanswered cost 70 kB."""

HURRY_S: Final = 900.0
"""How long after a drill its link may return without waiting for a quiet minute: two holds."""

EPISODE_S: Final = 1.0
"""How often a flagged brown-out grants hedges anew (links.md section 8)."""

UNKNOWN_BYTES: Final = 65_536
"""A reply of a size that nothing is known of: what steering calls small."""


FRESH_S: Final = 1.0
"""A standing is made anew at least this often: proofs age and hedges learn without an event."""


class Board:
    """What flow knows of links and upstreams.

    ``upstreams`` gives the tenants (ODS codes) of each upstream; ``told`` gets each transition
    once, and must not wait. ``remembered`` is each link's (state, cause) when the last run ended,
    ``learned`` what its past gaps taught. ``jitter`` (0 to 1) is this device's share of
    ``site_jitter_s``. ``recorded`` gets what the black box saw around each turn of a link, and must
    not wait either. ``steering`` and ``returning`` rule what a class leaves and how it returns.
    ``provable`` are upstreams with a canary, None: all.
    Nothing here raises for what the network does.
    """

    def __init__(self, links: tuple[Link, ...], upstreams: Mapping[str, tuple[str, ...]],
                 rules: LinkRules, windows: tuple[Window, ...], clock: Clock,
                 told: Callable[[Transition], None],
                 remembered: Mapping[str, tuple[str, str]] = MappingProxyType({}),
                 learned: Mapping[str, Learned] = MappingProxyType({}),
                 jitter: float = 0.0,
                 recorded: Callable[[Recording], None] = lambda _: None,
                 steering: SteerRules | None = None,
                 returning: FailbackRules | None = None,
                 provable: frozenset[str] | None = None) -> None:
        now = clock.now()
        self._links = {link.id: link for link in links}
        self._upstreams = dict(upstreams)
        self._rules = rules
        self._windows = windows
        self._clock = clock
        self._told = told
        self._preferred = preference(links)
        self._detectors = {
            link: Detector(self._links[link], self._upstreams, rules,
                           resumed(link, *remembered.get(link, ("", "")), now),
                           learned.get(link), rules.site_jitter_s * jitter)
            for link in self._preferred}
        self._judgement = Judgement(self._upstreams, rules)
        site = Site(tuple(self._links[link] for link in self._preferred), tuple(upstreams), rules,
                    rules.site_jitter_s * jitter, tuple(sorted(provable or ())))
        self._recorded = recorded
        self._box = BlackBox(site, self._frames, now)
        self._tokens = count()
        self._stalls: deque[tuple[Mono, Mono]] = deque(maxlen=STALLS_MAX)
        self._stall_count = 0
        self._ticked: Mono | None = None
        self._judged = Mono(now - JUDGE_EVERY_S)
        self._judging = False
        self._active = active(self._preferred, self._states())
        self._active_since = now
        self._last_active = self._active
        self._switches = 0
        self._last_switch: Switched | None = None
        self._proofs = Proofs()
        self._shown = PathProofs(now, provable)
        self._drilled = ""
        self._ordered: tuple[object, ...] = ()  # as it was judged last: a gate turns before that
        self._rests: dict[tuple[str, str], Mono] = {}
        self._episodes: Counter[str] = Counter()
        self._episode_at = dict.fromkeys(self._detectors, now)
        self._left: frozenset[str] = frozenset()
        self._canaried = Canaried()
        self._browned_at: dict[str, Mono] = {}
        self._troubled = dict.fromkeys(self._detectors, False)
        self._distrusted: frozenset[str] = frozenset()
        self._asks: Counter[tuple[str, Ask]] = Counter()
        self._modes = {
            (tenant, upstream): ModeView(tenant, upstream, "NORMAL", now, "")
            for upstream, tenants in self._upstreams.items() for tenant in tenants}
        self._trials: dict[str, Mono] = {}
        self._retries: dict[tuple[str, str], Mono] = {}
        self._course = Course([link.id for link in links if link.metered],
                              steering or SteerRules(), returning or FailbackRules(), now)
        self._prices: Mapping[str, float] = {}
        self._spent: frozenset[str] = frozenset()
        self._warm: set[str] = set()
        self._standings: dict[tuple[str, str, str, str, frozenset[str]], Standing] = {}
        self._standings_from = now
        self._watchers: dict[int, Callable[[], None]] = {}

    # --- what is told to the board

    def see(self, sample: Sample) -> None:
        """Take in one sample, of a probe or of a request. Unknown links are ignored."""
        detector = self._detectors.get(sample.link)
        if detector is None:
            return
        self._notice_stall()
        self._box.saw(sample, self._clock.now())
        if sample.layer == "http" and sample.ok and not sample.anchor:
            self._shown.saw(sample.link, sample.target, sample.at)
            self._canaried.saw(sample.link, sample.target, sample.at)
        is_news = self._judgement.see(sample)
        is_news = detector.see(sample) or is_news
        urgent = sample.layer == "carrier" and not sample.ok  # it moves within 50 ms
        if is_news and (urgent or self._clock.now() - self._judged >= JUDGE_EVERY_S):
            self._judge()

    def climbed(self, rungs: Iterable[Sample]) -> None:
        """Take in a whole ladder of sizes at once: half of it beside half of the one before would
        be a hole where a link dies or comes back."""
        before, self._judging = self._judging, True
        try:
            for rung in rungs:
                self.see(rung)
        finally:
            self._judging = before
        self._judge()

    def asked(self, link: str, target: str) -> int:
        """Note that a question leaves now; return a token for ``answered``."""
        return self._detectors[link].asked(target, self._clock.now())

    def answered(self, link: str, token: int) -> None:
        """Forget an open question: its sample, if any, was seen, or nobody waits any more."""
        question = self._detectors[link].answered(token)
        if question is not None:
            self._box.ended(link, question, self._clock.now())

    def saw_status(self, tenant: str, upstream: str, root: str, link: str, status: int,
                   serial: int) -> None:
        """Take in the status that one request (``serial``) of a tenant got over ``link``.

        A 2xx is a proof of the path for its capability ``root``; a 401, 403 or 407 makes the path
        ineligible once another link gave a 2xx to the same request.
        """
        now = self._clock.now()
        if 200 <= status < 300:
            self._shown.saw(link, upstream, now)
        if self._proofs.saw(tenant, upstream, root, link, status, serial, now):
            self._standings.clear()

    def saw_foreign(self, link: str, upstream: str, sent_at: Mono) -> None:
        """Take in that what was asked of ``upstream`` at ``sent_at`` was answered by somebody else:
        a portal's page is no answer of the API."""
        now = self._clock.now()
        self.see(Sample(link, upstream, "http", False, sent_at, now,
                        rtt_ms=(now - sent_at) * 1000, detail="not_the_api"))

    def rest(self, tenant: str, upstream: str, seconds: float) -> None:
        """Take in that ``upstream`` asked one practice to leave it alone: no hedge and no trial of
        theirs meanwhile. That it serves one of their requests lifts nothing: a limit on their rate
        lets most of them pass."""
        until, key = Mono(self._clock.now() + seconds), (tenant, upstream)
        self._rests[key] = max(self._rests.get(key, until), until)
        self._standings.clear()

    def expected_bytes(self, upstream: str, route: str) -> int:
        """Return what a reply of this route should have, ``UNKNOWN_BYTES`` before the first."""
        return self._course.expected(upstream, route) or UNKNOWN_BYTES

    def completed(self, link: str, upstream: str, traffic: Traffic, route: str,
                  completion: Completion) -> None:
        """Take in how one send over ``link`` ended: what its class costs there.

        While the upstream itself is judged slow or down its sends say nothing of a link.
        """
        if not any(v.upstream == upstream and v.kind in ("UPSTREAM_DOWN", "UPSTREAM_SLOW")
                   for v in self._judgement.verdicts):
            detector = self._detectors[link]
            self._course.completed(link, upstream, traffic, route, completion,
                                   detector.is_mute or detector.reading.overdue)

    def priced(self, prices: Mapping[str, float], spent: Collection[str]) -> None:
        """Take in what a byte costs on each metered link (seconds of waiting), and the links whose
        quota is low or out."""
        self._prices, self._spent = dict(prices), frozenset(spent)

    def counted(self, link: str, ask: Ask) -> None:
        """Note that a question of the kind ``ask`` was put on ``link``: what probing costs."""
        self._asks[link, ask] += 1

    def drain(self, link: str) -> None:
        """Give ``link`` no new work, as before announced work, until told ``""``: for drills."""
        if self._drilled and not link:
            self._course.hurry(self._drilled, Mono(self._clock.now() + HURRY_S))
        self._drilled = link

    def set_windows(self, windows: tuple[Window, ...], distrusted: frozenset[str]) -> None:
        """Take in the announced work that holds from now on, and the ``distrusted`` links: those
        whose work is over and that no readiness run has passed since. They may prove themselves,
        and carry nothing while another link is steady."""
        self._windows, self._distrusted = windows, distrusted

    def warmed(self, link: str, is_warm: bool) -> None:
        """Take in whether ``link`` holds all the warm connections that it should."""
        (self._warm.add if is_warm else self._warm.discard)(link)

    def swept(self, link: str, flows: Flows) -> TunnelEnd:
        """Take in what was counted on a link that is being cleared; return which tunnels to end."""
        return self._course.swept(link, flows, self._clock.now())

    def tick(self) -> None:
        """Judge again; due every ``TICK_S``. A late tick is itself the sensor of a stall."""
        self._notice_stall()
        now = self._clock.now()
        self._box.lagged(now - (now if self._ticked is None else self._ticked + TICK_S), now)
        self._ticked = now
        self._judge()
        for recording in self._box.due(now):
            self._recorded(recording)

    def watch_state(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` whenever a link's state, a verdict or the order of links changed.

        Returns what ends it.
        """
        token = next(self._tokens)
        self._watchers[token] = callback
        return lambda: _forget(self._watchers, token)

    # --- what the board is asked

    def standing(self, tenant: str, upstream: str, pinned: str = "", root: str = "",
                 asking: bool = True, traffic: Traffic = "read", serial: int = 0,
                 route: str = "") -> Standing:
        """Return how ``upstream`` stands for ``tenant``, for a request that is about to leave.

        ``asking=False`` only looks: it uses up no trial. ``root`` is the capability root whose
        proofs count. ``traffic`` and the pack's ``route`` tell its class; ``serial`` whether it is
        one of those that a returning link takes.
        """
        now = self._clock.now()
        if now - self._standings_from >= FRESH_S or len(self._standings) >= STANDINGS_MAX:
            self._standings.clear()
            self._standings_from = now
        behind = self._course.behind(upstream, traffic, route, serial)
        key = (tenant, upstream, pinned, root, behind)
        standing = self._standings.get(key)
        if standing is None:
            standing = self._standings[key] = self._stand(
                tenant, upstream, pinned, root, behind, now)
        if self._course.doubles(standing.links, upstream, traffic, route, serial):
            standing = replace(standing, double=True)
        if not asking:
            return standing
        if standing.upstream_down:
            return replace(standing, trial=self._may_try(tenant, upstream, now))
        return self._retried(standing, tenant, upstream, pinned, behind, now)

    def links(self, traffic: Traffic, serial: int = 0) -> tuple[str, ...]:
        """Return the links that traffic of no upstream of ours (a tunnel) may take, best first."""
        now = self._clock.now()
        return order(self._situation("", "", self._course.behind("", traffic, "", serial), now))

    def clearing(self) -> tuple[Clearing, ...]:
        """Return the backups that should carry nothing any more."""
        return self._course.clearing()

    def returning(self) -> frozenset[str]:
        """Return the links that are on their way back: their connections are to be warm."""
        return self._course.returning()

    def active(self) -> str:
        """Return the active link's id, ``""`` when none takes new work."""
        return self._active

    def episode(self, link: str) -> int:
        """Return the number of troubles that ``link`` had so far; each grants hedges anew.

        One begins with something overdue, or a gate that fired; while it is browned out, and its
        small reads are still there, one begins each second, and a last one when they leave it.
        """
        return self._episodes[link]

    def state(self, link: str) -> LinkMemory:
        """Return what hysteresis remembers of ``link``."""
        return self._detectors[link].memory

    def browned_at(self, link: str) -> Mono | None:
        """Return when ``link`` worked badly last, by its echoes or by its sends."""
        return self._browned_at.get(link)

    def ails(self, link: str, kind: VerdictKind) -> bool:
        """Return whether that verdict stands against ``link`` itself."""
        return self._judgement.stands(kind, link)

    def learned(self) -> dict[str, Learned]:
        """Return what the links' gaps have taught so far, to be kept over a restart."""
        return {link: detector.learned for link, detector in self._detectors.items()}

    def is_troubled(self, link: str) -> bool:
        """Whether ``link`` is not plainly up: not UP, or with something overdue."""
        detector = self._detectors[link]
        return detector.memory.state != "UP" or detector.reading.overdue

    def proof_age(self, link: str, upstream: str) -> float | None:
        """Return the age in seconds of the last proof that a path works, None if there is none."""
        return self._shown.age_s(link, upstream, self._clock.now())

    def is_faulty(self, link: str, upstream: str) -> bool:
        """Return whether a verdict stands against this path by itself."""
        return link in self._judgement.faulty(upstream)

    def pace(self, link: str) -> Pace:
        """Return how freely ``link`` is asked now (``core/cadence.py``).

        A suspect link is asked fast, and so is every link while none is known to be well, or,
        metered or not, while another one is suspect: its turn may be next (links.md section 3).
        One that has just died is asked as if it were unmetered, since it is no standby until it
        is known to be back; after ``EAGER_S`` a dead SIM is left to its own cadence.
        """
        states = self._states()
        well = [name for name, state in states.items()
                if state in ("UP", "IMPAIRED") and not self._detectors[name].reading.overdue]
        if (states[link] in UNPROVED or states[link] == "SUSPECT" or self._is_waiting(link)
                or not well):
            return "fast"
        if (not self._links[link].metered or link == self._active or states[link] == "PROBATION"
                or "SUSPECT" in states.values()):
            return "busy"
        memory = self._detectors[link].memory
        if (memory.state in ("DOWN", "QUARANTINED")
                and self._clock.now() - memory.since < EAGER_S):
            return "busy"
        return "idle"

    def _is_waiting(self, link: str) -> bool:
        """Something unanswered on a link that is not known to be dead: ask at once."""
        detector = self._detectors[link]
        return detector.reading.unanswered > 0 and detector.memory.state != "DOWN"

    def _frames(self) -> dict[str, Frame]:
        return {link: detector.frame() for link, detector in self._detectors.items()}

    def _states(self) -> dict[str, LinkState]:
        return {link: detector.memory.state for link, detector in self._detectors.items()}

    def view(self) -> BoardView:
        """Return everything as one frozen value, for ``/status`` and telemetry."""
        now = self._clock.now()
        recent = [since for since, until in self._stalls if now - until < 10.0]
        stall = [Verdict("LOCAL_STALL", "", "", recent[0])] if recent else []
        return BoardView(
            now, tuple(self._link_view(link, now) for link in self._preferred),
            tuple(self._modes.values()),
            (*(each.verdict for each in self._detectors.values() if each.verdict is not None),
             *self._judgement.verdicts, *stall),
            self._active, self._switches, self._last_switch, self._stall_count,
            self._proofs.newest(now), self._course.view(self._preferred, now),
            self._path_proofs(now),
            tuple((link, ask, n) for (link, ask), n in sorted(self._asks.items())))

    def _path_proofs(self, now: Mono) -> tuple[PathProof, ...]:
        return tuple(self._shown.of(link, upstream, self._links[link].metered, now)
                     for link in self._preferred for upstream in self._upstreams)

    # --- judging

    def _notice_stall(self) -> None:
        """A tick overdue by more than ``stall_s``: our own loop stood still until now."""
        now = self._clock.now()
        if self._ticked is None or now - self._ticked < TICK_S + self._rules.stall_s:
            return
        self._stalls.append((Mono(self._ticked + TICK_S), now))
        self._box.stalled(*self._stalls[-1], now)
        self._stall_count += 1
        self._ticked = now

    def _judge(self) -> None:
        if self._judging:
            return  # a listener told us something in the midst of it: the next tick judges that
        self._judging = True
        try:
            now = self._clock.now()
            self._judged = now
            changed = self._turn_links(now)
            self._judge_upstreams(now)
            self._look_at_course(now)
            self._count_episodes(now)
            self._note_active(now)
            self._note_modes(now)
            orders = self._what_orders()
            if changed or self._ordered != orders:
                self._ordered = orders
                self._standings.clear()
                for callback in tuple(self._watchers.values()):
                    callback()
        finally:
            self._judging = False

    def _what_orders(self) -> tuple[object, ...]:
        """All but proofs that the order of links depends on, and what allows more hedges."""
        return ([(each.reading.overdue, each.is_mute) for each in self._detectors.values()],
                self._judgement.verdicts, dict(self._episodes),
                [self._judgement.doubtful(upstream) for upstream in self._upstreams])

    def _turn_links(self, now: Mono) -> bool:
        changed = False
        for link in self._preferred:
            detector = self._detectors[link]
            around = self._around(link)
            prior = WINDOW_PRIOR if around.windowed else 0.0
            foreign = self._judgement.foreign(link)
            self._box.judged(link, around, foreign, prior, now)
            turned = detector.judge(around, self._stalls, now, prior, foreign)
            if turned is not None:
                changed = True
                self._box.turned(turned)
                self._course.turned(turned, self._look(now))
                self._told(turned)
        return changed

    def _around(self, link: str) -> Circumstances:
        """What binds ``link`` beside its own samples. A wall clock that is not trusted opens no
        window."""
        memories = {name: each.memory for name, each in self._detectors.items()}
        windowed = (self._clock.wall_is_trusted()
                    and binding(self._windows, link, self._clock.wall()) is not None)
        windowed = windowed or link == self._drilled
        return Circumstances(windowed, alone(link, memories, STEADY),
                             self._course.is_costly(link),
                             locked=windowed or link in self._distrusted,
                             rolled_back=self._course.is_rolled_back(link),
                             unproven=self._is_unproven(link))

    def _is_unproven(self, link: str) -> bool:
        """Whether its hold waits for the canary of an upstream that nothing ails."""
        memory = self._detectors[link].memory
        if memory.state != "PROBATION":  # spares every other judgement the lists below
            return False
        others = [other for other, state in self._states().items()
                  if other != link and state in CARRIES]
        ailing = [upstream for upstream in self._upstreams
                  if link in self._judgement.faulty(upstream) or self._is_down(upstream)]
        return self._canaried.lacks(memory, self._upstreams, ailing, others, self._clock.now())

    def _look(self, now: Mono) -> Look:
        """What the course of traffic depends on beside what it was told."""
        reaches: dict[str, Reach] = {}
        for link, detector in self._detectors.items():
            reach = reach_of(reversed(detector.ring), detector.learned.loss, now)
            if reach is not None:
                reaches[link] = reach
        wall = self._clock.wall() if self._clock.wall_is_trusted() else None
        return Look(
            self._preferred, self._states(), reaches,
            frozenset(link for link, each in self._detectors.items() if each.reading.overdue),
            frozenset(v.link for v in self._judgement.verdicts if v.kind == "BROWNOUT"),
            self._prices, self._spent, frozenset(self._warm), wall)

    def _look_at_course(self, now: Mono) -> None:
        if self._course.is_due(now):
            for told in self._course.look(self._look(now), now):
                self._told(told)

    def _judge_upstreams(self, now: Mono) -> None:
        provable = self._shown.provable or frozenset()
        for judged in self._judgement.judge(self._detectors, provable, now):
            self._box.reached(judged)
            self._told(judged)

    def _count_episodes(self, now: Mono) -> None:
        browned, left = self._course.browned, self._course.memory.avoided("small")
        deserted, self._left = left - self._left, left  # what is under way there is to be rescued
        for link, detector in self._detectors.items():
            troubled = detector.reading.overdue or detector.is_mute
            renewed = link in browned - left and now - self._episode_at[link] >= EPISODE_S
            if link in browned:
                self._browned_at[link] = now
            if (troubled and not self._troubled[link]) or renewed or link in deserted:
                self._episodes[link] += 1
                self._episode_at[link] = now
            self._troubled[link] = troubled

    def _note_active(self, now: Mono) -> None:
        after = active(self._preferred, self._states(), self._course.held())
        if after == self._active:
            return
        cause = self._detectors[self._active].memory.cause if self._active else ""
        switched = Switched(self._active, after, cause, now, now - self._active_since)
        self._active, self._active_since = after, now
        if self._last_active:  # the first link after a start with none left no other
            self._last_switch = switched
            self._switches += after not in ("", self._last_active)
        self._last_active = after or self._last_active
        self._told(switched)

    def _note_modes(self, now: Mono) -> None:
        for (tenant, upstream), before in self._modes.items():
            situation = self._situation(tenant, upstream, self._course.returning(), now)
            belongs = steady(situation)
            mode = mode_of(belongs, self._preferred[0] if self._preferred else "",
                           bool(self._judgement.ails(upstream)))
            cause = self._cause(mode, upstream, belongs, situation)
            if mode == before.mode:
                continue
            self._modes[tenant, upstream] = ModeView(tenant, upstream, mode, now, cause)
            self._told(ModeTurned(tenant, upstream, before.mode, mode, cause or before.cause, now,
                                  now - before.since))

    def _cause(self, mode: str, upstream: str, belongs: str, situation: Situation) -> str:
        if mode == "NORMAL":
            return ""
        if mode == "DEGRADED":
            return self._judgement.ails(upstream)
        preferred = self._preferred[0] if self._preferred else ""
        if preferred in situation.faulty and preferred != belongs:
            return next((v.kind for v in self._judgement.verdicts
                         if v.link == preferred and v.upstream == upstream), "")
        return self._detectors[preferred].memory.cause if preferred else ""

    # --- standing

    def _is_down(self, upstream: str) -> bool:
        return self._judgement.stands("UPSTREAM_DOWN", "", upstream)

    def _situation(self, tenant: str, upstream: str, behind: frozenset[str], now: Mono
                   ) -> Situation:
        return Situation(
            self._preferred,
            self._states(),
            frozenset(link for link, each in self._detectors.items() if each.reading.overdue),
            self._judgement.faulty(upstream),
            self._judgement.doubtful(upstream),
            self._proofs.ineligible(tenant, upstream, now), behind)

    def _stand(self, tenant: str, upstream: str, pinned: str, root: str,
               behind: frozenset[str], now: Mono) -> Standing:
        situation = self._situation(tenant, upstream, behind, now)
        links = order(situation, pinned)
        down = self._is_down(upstream)
        preferred = self._preferred[0] if self._preferred else ""
        belongs = steady(replace(situation, behind=self._course.returning()))
        mode = mode_of(belongs, preferred, bool(self._judgement.ails(upstream)))
        waits = tuple((link, self._hedge(link, upstream)) for link in links)
        return Standing(
            links, tuple(situation.states.items()), mode,
            self._cause(mode, upstream, belongs, situation), down, False,
            self._proofs.proven(tenant, upstream, root, now),
            frozenset(situation.ineligible), waits,
            metered=frozenset(link for link in links if self._links[link].metered),
            # All of them: a send may be under way over one that was left since.
            mute=frozenset(link for link, each in self._detectors.items() if each.is_mute),
            resting=now < self._rests.get((tenant, upstream), now))

    def _hedge(self, link: str, upstream: str) -> float:
        detector = self._detectors[link]
        replies = detector.replies.get(upstream, ())
        return hedge_wait(tuple(replies), detector.memory, detector.reading.overdue, self._rules)

    def _may_try(self, tenant: str, upstream: str, now: Mono) -> bool:
        last = self._trials.get(upstream)
        if now < self._rests.get((tenant, upstream), now):
            return False
        if last is not None and now - last < self._rules.upstream_trial_s:
            return False
        self._trials[upstream] = now
        return True

    def _retried(self, standing: Standing, tenant: str, upstream: str, pinned: str,
                 behind: frozenset[str], now: Mono) -> Standing:
        """Let one request every ``route_retry_s`` begin on a path with a verdict against it; into
        somebody else's hands no other than a canary."""
        provable = self._shown.provable
        foreign = {"TLS_INTERCEPT"} | (
            {"CAPTIVE"} if provable is None or upstream in provable else set())
        for verdict in self._judgement.verdicts:
            path = (verdict.link, upstream)
            if verdict.upstream != upstream or not verdict.link or verdict.kind in foreign:
                continue
            last = max(self._retries.get(path, verdict.since), verdict.since)
            if now - last < self._rules.route_retry_s:
                continue
            self._retries[path] = now
            situation = replace(self._situation(tenant, upstream, behind, now), faulty=(),
                                doubtful=())
            return replace(standing, links=order(situation, pinned))
        return standing

    def _link_view(self, link: str, now: Mono) -> LinkView:
        detector = self._detectors[link]
        memory, reading, aged = detector.memory, detector.reading, detector.silence
        anchors = [sample for sample in detector.ring if sample.anchor]
        times = sorted(s.rtt_ms for s in anchors if s.ok and s.rtt_ms is not None)
        return LinkView(
            link, self._links[link].kind, self._links[link].metered, memory.state, memory.since,
            memory.cause, reading.overdue,
            None if detector.heard is None else now - detector.heard,
            times[len(times) // 2] if times else None,
            sum(not s.ok for s in anchors) / len(anchors) if anchors else None,
            Silences(aged.age_s, aged.mean_s, aged.a_day, aged.source, detector.learned.loss,
                     reading.likelihood, reading.silence_s, memory.epoch, len(memory.episodes),
                     memory.penalty_now(self._rules, now)))


def _forget(watchers: dict[int, Callable[[], None]], token: int) -> None:
    watchers.pop(token, None)


def tenants_of(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return upstream -> tenants from pairs of (tenant, upstream), as ``Board`` wants them."""
    found: dict[str, tuple[str, ...]] = {}
    for tenant, upstream in pairs:
        found[upstream] = (*found.get(upstream, ()), tenant)
    return found
