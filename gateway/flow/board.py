"""The board: what was seen lately on every link, and how everything stands because of it.

It keeps rings of samples and asks ``core`` what they mean: at each ``tick``, and at once when a
sample could change a state (a miss, or a success on a link that is not UP), yet at most every
``JUDGE_EVERY_S``. ``standing`` reads what was judged last, so that a request pays microseconds.
It decides nothing and never waits.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import count
from types import MappingProxyType
from typing import Final

from gateway.core.instant import Mono
from gateway.core.link import (
    CARRIES,
    Link,
    LinkMemory,
    LinkRules,
    LinkTurned,
    Reading,
    Sample,
    news_of,
    resumed,
    turn,
)
from gateway.core.maintenance import Window, binding
from gateway.core.mode import (
    BoardView,
    LinkView,
    ModeTurned,
    ModeView,
    Transition,
    mode_of,
)
from gateway.core.proof import Proofs
from gateway.core.route import (
    SPARE,
    Situation,
    Standing,
    Switched,
    active,
    hedge_wait,
    order,
    preference,
    steady,
)
from gateway.core.verdict import (
    RESOLVER_ROW,
    Asked,
    PathReading,
    Seen,
    Verdict,
    changes,
    dead_link,
    is_captive,
    is_doubted,
    is_heard,
    judge,
    read_link,
    read_path,
    silent_resolver,
)
from gateway.ports import Clock

JUDGE_EVERY_S: Final = 0.02
"""Judging costs some 0.1 ms: at 100 misses a second this keeps it below one per cent."""

TICK_S: Final = 0.05
"""How often ``tick`` is expected; later than that by ``stall_s`` is a stall of our own."""

PATH_SAMPLES: Final = 32
"""Samples kept per link and target: ten seconds of failures matter, not their number."""

REPLIES_MAX: Final = 256
"""First-reply times kept per path for its p99."""

OPEN_MAX: Final = 256
"""Open questions kept per link; beyond it the oldest is forgotten."""

STALLS_MAX: Final = 32
STANDINGS_MAX: Final = 4096
"""Standings cached between two judgements: tenants x upstreams x roots, never unbounded."""

EAGER_S: Final = 300.0
"""How long a metered link that died is asked fast: two SYNs a second unanswered cost 70 kB."""

FRESH_S: Final = 1.0
"""A standing is made anew at least this often: proofs age and hedges learn without an event."""


class Board:
    """What flow knows of links and upstreams.

    ``upstreams`` gives the tenants (ODS codes) of each upstream; ``told`` gets each transition
    once, and must not wait. ``remembered`` is each link's (state, cause) when the last run ended.
    Nothing here raises for what the network does.
    """

    def __init__(self, links: tuple[Link, ...], upstreams: Mapping[str, tuple[str, ...]],
                 rules: LinkRules, windows: tuple[Window, ...], clock: Clock,
                 told: Callable[[Transition], None],
                 remembered: Mapping[str, tuple[str, str]] = MappingProxyType({})) -> None:
        now = clock.now()
        self._links = {link.id: link for link in links}
        self._upstreams = dict(upstreams)
        self._rules = rules
        self._windows = windows
        self._clock = clock
        self._told = told
        self._preferred = preference(links)
        self._memories = {
            link: resumed(link, *remembered.get(link, ("", "")), now) for link in self._links}
        self._readings = {link: Reading() for link in self._links}
        self._rings: dict[str, deque[Sample]] = {
            link: deque(maxlen=rules.samples_max) for link in self._links}
        self._targets: dict[str, dict[str, deque[Sample]]] = {link: {} for link in self._links}
        self._replies: dict[tuple[str, str], deque[float]] = {}
        self._proven: dict[str, frozenset[str]] = {link: frozenset() for link in self._links}
        self._heard: dict[str, Mono | None] = dict.fromkeys(self._links)
        self._lookups: dict[str, deque[Sample]] = {
            link: deque(maxlen=RESOLVER_ROW) for link in self._links}
        self._carriers: dict[str, Sample] = {}
        self._open: dict[str, dict[int, Asked]] = {link: {} for link in self._links}
        self._tokens = count()
        self._stalls: deque[tuple[Mono, Mono]] = deque(maxlen=STALLS_MAX)
        self._stall_count = 0
        self._ticked: Mono | None = None
        self._judged = Mono(now - JUDGE_EVERY_S)
        self._judging = False
        self._link_verdicts: dict[str, Verdict] = {}
        self._verdicts: tuple[Verdict, ...] = ()
        self._paths: dict[tuple[str, str], PathReading] = {}
        self._active = active(self._preferred, {
            link: memory.state for link, memory in self._memories.items()})
        self._active_since = now
        self._last_active = self._active
        self._switches = 0
        self._last_switch: Switched | None = None
        self._proofs = Proofs()
        self._modes = {
            (tenant, upstream): ModeView(tenant, upstream, "NORMAL", now, "")
            for upstream, tenants in self._upstreams.items() for tenant in tenants}
        self._explained: dict[str, Mono] = {}
        self._trials: dict[str, Mono] = {}
        self._retries: dict[tuple[str, str], Mono] = {}
        self._standings: dict[tuple[str, str, str, str], Standing] = {}
        self._standings_from = now
        self._watchers: dict[int, Callable[[], None]] = {}

    # --- what is told to the board

    def see(self, sample: Sample) -> None:
        """Take in one sample, of a probe or of a request. Unknown links are ignored."""
        ring = self._rings.get(sample.link)
        if ring is None:
            return
        self._notice_stall()
        ring.append(sample)
        if sample.layer == "carrier":
            self._carriers[sample.link] = sample
        elif sample.layer == "dns":
            self._lookups[sample.link].append(sample)
        targets = self._targets[sample.link]
        if sample.target in self._upstreams or sample.anchor:
            targets.setdefault(sample.target, deque(maxlen=PATH_SAMPLES)).append(sample)
        if is_heard(sample):
            self._heard[sample.link] = max(self._heard[sample.link] or sample.at, sample.at)
            if sample.target not in self._proven[sample.link]:
                self._proven[sample.link] |= {sample.target}
            if sample.layer == "request" and sample.rtt_ms is not None:
                path = (sample.link, sample.target)
                self._replies.setdefault(path, deque(maxlen=REPLIES_MAX)).append(sample.rtt_ms)
        if self._is_news(sample) and self._clock.now() - self._judged >= JUDGE_EVERY_S:
            self._judge()

    def _is_news(self, sample: Sample) -> bool:
        """Whether it could change a state: a failure, or the end of one."""
        if not sample.ok or self._memories[sample.link].state != "UP":
            return True
        if self._readings[sample.link].unanswered or any(
                verdict.upstream == sample.target for verdict in self._verdicts):
            return True
        path = self._paths.get((sample.link, sample.target))
        return path is not None and path.doubts > 0

    def asked(self, link: str, target: str) -> int:
        """Note that a question leaves now; return a token for ``answered``."""
        token = next(self._tokens)
        questions = self._open[link]
        if len(questions) >= OPEN_MAX:
            del questions[next(iter(questions))]
        questions[token] = Asked(target, self._clock.now(), target not in self._upstreams)
        return token

    def answered(self, link: str, token: int) -> None:
        """Forget an open question: its sample, if any, was seen, or nobody waits any more."""
        self._open[link].pop(token, None)

    def saw_status(self, tenant: str, upstream: str, root: str, link: str, status: int,
                   serial: int) -> None:
        """Take in the status that one request (``serial``) of a tenant got over ``link``.

        A 2xx is a proof of the path for its capability ``root``; a 401, 403 or 407 makes the path
        ineligible once another link gave a 2xx to the same request.
        """
        if self._proofs.saw(tenant, upstream, root, link, status, serial, self._clock.now()):
            self._standings.clear()

    def tick(self) -> None:
        """Judge again; due every ``TICK_S``. A late tick is itself the sensor of a stall."""
        self._notice_stall()
        self._ticked = self._clock.now()
        self._judge()

    def watch_state(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` whenever a link's state, a verdict or the order of links changed.

        Returns what ends it.
        """
        token = next(self._tokens)
        self._watchers[token] = callback
        return lambda: _forget(self._watchers, token)

    # --- what the board is asked

    def standing(self, tenant: str, upstream: str, pinned: str = "", root: str = "",
                 asking: bool = True) -> Standing:
        """Return how ``upstream`` stands for ``tenant``, for a request that is about to leave.

        ``asking=False`` only looks: it uses up no trial. ``root`` is the capability root whose
        proofs count.
        """
        now = self._clock.now()
        if now - self._standings_from >= FRESH_S or len(self._standings) >= STANDINGS_MAX:
            self._standings.clear()
            self._standings_from = now
        key = (tenant, upstream, pinned, root)
        standing = self._standings.get(key)
        if standing is None:
            standing = self._standings[key] = self._stand(tenant, upstream, pinned, root, now)
        if not asking:
            return standing
        if standing.upstream_down:
            return replace(standing, trial=self._may_try(upstream, now))
        return self._retried(standing, tenant, upstream, pinned, now)

    def active(self) -> str:
        """Return the active link's id, ``""`` when none takes new work."""
        return self._active

    def state(self, link: str) -> LinkMemory:
        """Return what hysteresis remembers of ``link``."""
        return self._memories[link]

    def is_troubled(self, link: str) -> bool:
        """Whether ``link`` is not plainly up: not UP, or with something overdue."""
        return self._memories[link].state != "UP" or self._readings[link].overdue

    def every_s(self, link: str) -> float:
        """Return the seconds between two probes of one target on ``link`` now.

        A suspect link is asked fast, and so is every link while none is known to be well, or,
        metered or not, while another one is suspect: its turn may be next (links.md section 3).
        One that has just died is asked as if it were unmetered, since it is no standby until it
        is known to be back; after ``EAGER_S`` a dead SIM is left to its own cadence.
        """
        rules = self._rules
        states = {name: memory.state for name, memory in self._memories.items()}
        well = [name for name, state in states.items()
                if state == "UP" and not self._readings[name].overdue]
        if states[link] in ("SUSPECT", "UNKNOWN") or self._is_waiting(link) or not well:
            return rules.probe_suspect_every_s
        if not self._links[link].metered or link == self._active or "SUSPECT" in states.values():
            return rules.probe_every_s
        memory = self._memories[link]
        if memory.state == "DOWN" and self._clock.now() - memory.since < EAGER_S:
            return rules.probe_every_s
        return rules.probe_metered_every_s

    def _is_waiting(self, link: str) -> bool:
        """Something unanswered on a link that is not known to be dead: ask at once."""
        return self._readings[link].unanswered > 0 and self._memories[link].state != "DOWN"

    def view(self) -> BoardView:
        """Return everything as one frozen value, for ``/status`` and telemetry."""
        now = self._clock.now()
        recent = [since for since, until in self._stalls if now - until < 10.0]
        stall = [Verdict("LOCAL_STALL", "", "", recent[0])] if recent else []
        return BoardView(
            now, tuple(self._link_view(link, now) for link in self._preferred),
            tuple(self._modes.values()),
            (*self._link_verdicts.values(), *self._verdicts, *stall),
            self._active, self._switches, self._last_switch, self._stall_count,
            self._proofs.newest(now))

    # --- judging

    def _notice_stall(self) -> None:
        """A tick overdue by more than ``stall_s``: our own loop stood still until now."""
        now = self._clock.now()
        if self._ticked is None or now - self._ticked < TICK_S + self._rules.stall_s:
            return
        self._stalls.append((Mono(self._ticked + TICK_S), now))
        self._stall_count += 1
        self._ticked = now

    def _judge(self) -> None:
        if self._judging:
            return  # a listener told us something in the midst of it: the next tick judges that
        self._judging = True
        try:
            now = self._clock.now()
            self._judged = now
            was = self._what_orders()
            self._read_links(now)
            changed = self._turn_links(now)
            self._judge_upstreams(now)
            self._note_active(now)
            self._note_modes(now)
            if changed or was != self._what_orders():
                self._standings.clear()
                for callback in tuple(self._watchers.values()):
                    callback()
        finally:
            self._judging = False

    def _what_orders(self) -> tuple[object, ...]:
        """All but proofs that the order of links depends on."""
        limit = self._rules.upstream_failures
        return ([reading.overdue for reading in self._readings.values()], self._verdicts,
                [path for path, reading in self._paths.items() if reading.doubts >= limit])

    def _read_links(self, now: Mono) -> None:
        for link, ring in self._rings.items():
            seen = Seen(ring, self._open[link].values(), self._heard[link],
                        self._carriers.get(link), self._proven[link], self._doubted(link))
            reading = read_link(seen, self._stalls, self._rules, now)
            anchors = self._targets[link].values()
            if not reading.dead and is_captive(anchors):
                reading = replace(reading, dead="CAPTIVE")
            self._readings[link] = reading

    def _doubted(self, link: str) -> frozenset[str]:
        return frozenset(target for target, ring in self._targets[link].items()
                         if target not in self._upstreams and ring and not ring[-1].ok
                         and is_doubted(ring, self._heard[link]))

    def _turn_links(self, now: Mono) -> bool:
        wall = self._clock.wall()
        trusted = self._clock.wall_is_trusted()
        changed = False
        for link in self._preferred:
            memory = self._memories[link]
            alone = not any(other != link and self._memories[other].state in CARRIES
                            for other in self._preferred)
            windowed = trusted and binding(self._windows, link, wall) is not None
            reading = self._readings[link]
            news = news_of(memory, reading, windowed, alone, self._rules, now)
            if news is None:
                continue
            cause = reading.dead if news == "DEAD" else "MAINTENANCE"
            after = turn(memory, news, cause, now)
            self._memories[link] = after
            if after.state != memory.state:
                changed = True
                self._tell_turn(memory, after, reading, now)
        return changed

    def _tell_turn(self, before: LinkMemory, after: LinkMemory, reading: Reading, now: Mono
                   ) -> None:
        verdict = dead_link(after.link, reading, now) if after.state == "DOWN" else None
        if verdict is not None:
            self._link_verdicts[after.link] = verdict
        elif after.state != "DOWN":
            self._link_verdicts.pop(after.link, None)
        self._told(LinkTurned(
            after.link, before.state, after.state, after.cause or before.cause, now,
            now - before.since, verdict.evidence if verdict else ()))

    def _judge_upstreams(self, now: Mono) -> None:
        usable = tuple(link for link in self._preferred
                       if self._memories[link].state in CARRIES | frozenset(SPARE))
        self._paths = {
            (link, upstream): read_path(
                ring, self._heard[link],
                max(self._memories[link].clean_since, self._explained.get(upstream, Mono(0.0))),
                self._rules, now)
            for link in self._preferred for upstream in self._upstreams
            if (ring := self._targets[link].get(upstream))}
        after = judge(self._verdicts, self._upstreams, usable, self._paths, self._rules, now)
        dns = (silent_resolver(self._verdicts, link, ring, self._heard[link])
               for link, ring in self._lookups.items())
        after += tuple(verdict for verdict in dns if verdict is not None)
        said = changes(self._verdicts, after, now)
        self._verdicts = after
        for judged in said:
            if judged.over and judged.verdict.kind == "UPSTREAM_DOWN":
                self._explained[judged.verdict.upstream] = now
            self._told(judged)

    def _note_active(self, now: Mono) -> None:
        states = {link: memory.state for link, memory in self._memories.items()}
        after = active(self._preferred, states)
        if after == self._active:
            return
        cause = self._memories[self._active].cause if self._active else ""
        switched = Switched(self._active, after, cause, now, now - self._active_since)
        self._active, self._active_since = after, now
        if self._last_active:  # the first link after a start with none left no other
            self._last_switch = switched
            self._switches += after not in ("", self._last_active)
        self._last_active = after or self._last_active
        self._told(switched)

    def _note_modes(self, now: Mono) -> None:
        for (tenant, upstream), before in self._modes.items():
            situation = self._situation(tenant, upstream, now)
            belongs = steady(situation)
            mode = mode_of(belongs, self._preferred[0] if self._preferred else "",
                           self._is_down(upstream))
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
            return "UPSTREAM_DOWN"
        preferred = self._preferred[0] if self._preferred else ""
        if preferred in situation.faulty and preferred != belongs:
            return next((v.kind for v in self._verdicts
                         if v.link == preferred and v.upstream == upstream), "")
        return self._memories[preferred].cause if preferred else ""

    # --- standing

    def _is_down(self, upstream: str) -> bool:
        return any(v.kind == "UPSTREAM_DOWN" and v.upstream == upstream for v in self._verdicts)

    def _situation(self, tenant: str, upstream: str, now: Mono) -> Situation:
        rules = self._rules
        return Situation(
            self._preferred,
            {link: memory.state for link, memory in self._memories.items()},
            frozenset(link for link, reading in self._readings.items() if reading.overdue),
            frozenset(v.link for v in self._verdicts if v.upstream == upstream and v.link),
            frozenset(link for (link, name), path in self._paths.items()
                      if name == upstream and path.doubts >= rules.upstream_failures),
            self._proofs.ineligible(tenant, upstream, now))

    def _stand(self, tenant: str, upstream: str, pinned: str, root: str, now: Mono) -> Standing:
        situation = self._situation(tenant, upstream, now)
        links = order(situation, pinned)
        down = self._is_down(upstream)
        preferred = self._preferred[0] if self._preferred else ""
        belongs = steady(situation)
        mode = mode_of(belongs, preferred, down)
        waits = tuple((link, self._hedge(link, upstream)) for link in links)
        return Standing(
            links, tuple(situation.states.items()), mode,
            self._cause(mode, upstream, belongs, situation), down, False,
            self._proofs.proven(tenant, upstream, root, now),
            frozenset(situation.ineligible), waits)

    def _hedge(self, link: str, upstream: str) -> float:
        replies = self._replies.get((link, upstream), ())
        return hedge_wait(tuple(replies), self._memories[link], self._readings[link].overdue,
                          self._rules)

    def _may_try(self, upstream: str, now: Mono) -> bool:
        last = self._trials.get(upstream)
        if last is not None and now - last < self._rules.upstream_trial_s:
            return False
        self._trials[upstream] = now
        return True

    def _retried(self, standing: Standing, tenant: str, upstream: str, pinned: str, now: Mono
                 ) -> Standing:
        """Let one request every ``route_retry_s`` begin on a path with a verdict against it."""
        for verdict in self._verdicts:
            path = (verdict.link, upstream)
            if verdict.upstream != upstream or verdict.kind == "TLS_INTERCEPT":
                continue
            last = max(self._retries.get(path, verdict.since), verdict.since)
            if now - last < self._rules.route_retry_s:
                continue
            self._retries[path] = now
            situation = replace(self._situation(tenant, upstream, now), faulty=(), doubtful=())
            return replace(standing, links=order(situation, pinned))
        return standing

    def _link_view(self, link: str, now: Mono) -> LinkView:
        memory, reading = self._memories[link], self._readings[link]
        anchors = [sample for sample in self._rings[link] if sample.anchor]
        times = sorted(s.rtt_ms for s in anchors if s.ok and s.rtt_ms is not None)
        return LinkView(
            link, self._links[link].kind, self._links[link].metered, memory.state, memory.since,
            memory.cause, reading.overdue,
            None if reading.heard is None else now - reading.heard,
            times[len(times) // 2] if times else None,
            sum(not s.ok for s in anchors) / len(anchors) if anchors else None)


def _forget(watchers: dict[int, Callable[[], None]], token: int) -> None:
    watchers.pop(token, None)


def tenants_of(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return upstream -> tenants from pairs of (tenant, upstream), as ``Board`` wants them."""
    found: dict[str, tuple[str, ...]] = {}
    for tenant, upstream in pairs:
        found[upstream] = (*found.get(upstream, ()), tenant)
    return found
