"""One link's detector: takes samples as they come, and turns the link's state when asked.

``flow/board.py`` drives one per link; a simulation and the replay of a recording drive the same
code. It holds the rings and asks ``core/verdict.py`` and ``core/likelihood.py`` what they say,
``core/silence.py`` what the link's past makes of a silence, and ``core/link.py`` what follows.

Rule 1: time is an argument and nothing here waits; the same samples give the same turns.
Rule 2: what a healthy link costs is a few dictionary look-ups per sample; a judgement is asked for
        only when a sample could change something (``see`` says so) or something is overdue.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Final

from gateway.core.frame import Frame
from gateway.core.instant import Mono
from gateway.core.likelihood import Sums, after_success
from gateway.core.link import (
    Circumstances,
    Link,
    LinkMemory,
    LinkRules,
    LinkState,
    LinkTurned,
    Reading,
    Sample,
    news_of,
    still_until,
    turn,
)
from gateway.core.silence import APART_S, Learned, Silence, SilenceRules, silence, tail
from gateway.core.verdict import (
    RESOLVER_ROW,
    Asked,
    Measure,
    Seen,
    Stalls,
    Verdict,
    dead_link,
    is_captive,
    is_doubted,
    is_heard,
    is_missed,
    read_link,
)

PATH_SAMPLES: Final = 32
"""Samples kept per target: ten seconds of failures matter, not their number."""

OPEN_MAX: Final = 256
"""Open questions kept; beyond it the oldest is forgotten."""

REPLIES_MAX: Final = 256
"""First-reply times kept per upstream for its p99."""

ROUND_TRIPS: Final = 64
"""Round trips of anchors whose 95 % quantile counts."""

RTT_LEAST_MS: Final = 10.0
"""A shorter round trip counts as so much: three times it is 30 ms, and what is below that nobody
feels. A busy device alone triples the 3 ms of a near exchange."""

RTT_MEMORY: Final = 0.1
"""Weight of each new quantile in the link's usual one: some ten minutes at four a second."""

BURSTY: Final = 0.01
"""Everyday loss from which two echoes in a row must be missed to make a link suspect."""

RECENT: Final = 3
"""Samples of each target in a frame: what an anchor's doubts and a portal's proof look back on."""

DEAD: Final[frozenset[LinkState]] = frozenset({"DOWN", "QUARANTINED"})

COUNTED_S: Final = 60.0
"""How often watched time and echoes are added to what is learned."""

HOLD_USUAL_S: Final = 60.0
"""The hold that ``hold_echoes`` is said for."""

HOLD_LOSS: Final = 0.005
HOLD_RTT: Final = 1.5


class Detector:
    """Everything that is known of one link. ``upstreams`` are ids that are no anchors.

    ``learned`` is the link's past, ``memory`` how it begins. ``extra_s`` is added to the silence
    age: the site's jitter.
    """

    def __init__(self, link: Link, upstreams: Iterable[str], rules: LinkRules, memory: LinkMemory,
                 learned: Learned | None = None, extra_s: float = 0.0) -> None:
        self.link, self.rules, self.memory = link, rules, memory
        self.learned = learned or Learned(loss=0.03 if link.metered else 0.005)
        self.reading = Reading()
        self.verdict: Verdict | None = None
        self.ring: deque[Sample] = deque(maxlen=rules.samples_max)
        self.targets: dict[str, deque[Sample]] = {}
        self.replies: dict[str, deque[float]] = {}
        self.lookups: dict[str, deque[Sample]] = {}
        self.rungs: dict[int, Sample] = {}
        self.sums = Sums()
        self.heard: Mono | None = None
        self.usual_rtt_ms: float | None = None
        self.rtt95_ms: float | None = None
        self._upstreams = frozenset(upstreams)
        self._kinds = {probe.id: probe.kind for probe in link.probes}
        self._has_echo = "echo" in self._kinds.values()
        self._may_pin = "tls" in self._kinds.values()
        self._proven: frozenset[str] = frozenset()
        self._carrier: Sample | None = None
        self._open: dict[int, Asked] = {}
        self._tokens = count()
        self._trips: deque[float] = deque(maxlen=ROUND_TRIPS)
        self._new_trips = 0
        self._signed: Mono | None = None
        self._pinned: Mono | None = None
        self._shown: set[str] = set()
        self._hold = [0, 0]  # answers and misses of anchors since clean_since
        self._hold_from = memory.clean_since
        self._everyday = [0, 0, 0]  # echoes, lone misses, signs of life since last counted
        self._judged: tuple[Circumstances, str, float] | None = None  # found still, under these
        self._still_until = -math.inf  # time alone changes nothing before
        self._carried = 0.0
        self._unacked: Mono | None = None  # when the bytes left on which a gate fired last
        self._tailed: Mono | None = None  # when the last gap with a tail ended
        self._revived = memory.since  # when its last death was over
        self._counted = memory.since
        self._extra_s = extra_s
        self._silence_rules = SilenceRules(
            rules.fresh_s, rules.least_s, rules.most_s, rules.wrong_a_day, rules.gap_mean_s,
            rules.gaps_a_day)
        self.silence: Silence = silence(self.learned, self._silence_rules)

    # --- what the black box asks of it

    def frame(self) -> Frame:
        """Return all that this holds, frozen, for ``core/replay.py`` to begin from."""
        recent = (sample for ring in self.targets.values() for sample in list(ring)[-RECENT:])
        return Frame(
            self.memory, self.learned, self.silence, self.heard, self._signed, self._pinned,
            self._carrier, self._proven, frozenset(self._shown), tuple(self._open.values()),
            tuple(sorted(recent, key=lambda sample: sample.at)), tuple(self._trips),
            self.usual_rtt_ms, self.rtt95_ms, self.sums, self._carried, self._hold_from,
            self._counted, self._tailed, (*self._hold, *self._everyday, self._new_trips),
            self._revived)

    def resume(self, frame: Frame) -> None:
        """Take up what ``frame`` holds; to be called before anything else is told."""
        self.memory, self.learned, self.silence = frame.memory, frame.learned, frame.silence
        self.heard, self._signed, self._pinned = frame.heard, frame.signed, frame.pinned
        self._carrier, self._proven, self._shown = frame.carrier, frame.proven, set(frame.shown)
        self.ring.extend(frame.recent)
        for sample in frame.recent:
            self._file(sample)
        for asked in frame.asked:
            self._open[next(self._tokens)] = asked
        self._trips.extend(frame.trips)
        self.usual_rtt_ms, self.rtt95_ms = frame.usual_rtt_ms, frame.rtt95_ms
        self.sums, self._carried = frame.sums, frame.carried
        self._hold_from, self._counted = frame.hold_from, frame.counted
        self._hold, self._everyday = list(frame.counts[:2]), list(frame.counts[2:5])
        self._new_trips, self._tailed = frame.counts[5], frame.tailed
        self._revived = frame.revived

    # --- what it is told

    def see(self, sample: Sample) -> bool:
        """Take in one sample; return whether it could change something, so that who holds this
        should judge at once."""
        self.ring.append(sample)
        self._file(sample)
        if not sample.ok or self.memory.state != "UP":
            self._judged = None
        if is_heard(sample):
            self._hear(sample)
        elif is_missed(sample, bool(self._proven)):
            self._missed(sample)
        return self._is_news(sample)

    def _file(self, sample: Sample) -> None:
        if sample.layer == "carrier":
            self._carrier = sample
        elif sample.layer == "dns":
            self.lookups.setdefault(sample.target, deque(maxlen=RESOLVER_ROW)).append(sample)
        elif sample.layer == "size":
            self.rungs[sample.size] = sample
            if sample.ok:
                self._shown.add("size")
        elif sample.layer != "ack" and (sample.anchor or sample.target in self._upstreams):
            ring = self.targets.get(sample.target)
            if ring is None:
                ring = self.targets[sample.target] = deque(maxlen=PATH_SAMPLES)
            ring.append(sample)

    def _hear(self, sample: Sample) -> None:
        if self.reading.unanswered:
            self._end_gap(sample)
        if self.heard is None or sample.at > self.heard:
            self.heard = sample.at
        self._everyday[2] += 1
        if self._carried:
            self._carried = after_success(self._carried)
        if sample.target not in self._proven:
            self._proven |= {sample.target}
        if not sample.anchor:
            if sample.layer == "ack":
                self.sums = self.sums.answered(self.learned.loss)
            elif sample.layer == "request" and sample.rtt_ms is not None:
                self.replies.setdefault(
                    sample.target, deque(maxlen=REPLIES_MAX)).append(sample.rtt_ms)
            return
        self._hear_anchor(sample)

    def _hear_anchor(self, sample: Sample) -> None:
        self._hold[0] += 1
        self._shown.add(sample.layer)
        if sample.layer == "echo" or not self._has_echo:
            self._signed = sample.at
        if sample.layer == "tls":
            self._pinned = sample.at
        if sample.layer != "echo" and self._has_echo:
            return
        self._everyday[0] += 1
        times = None
        if sample.rtt_ms is not None:
            times = sample.rtt_ms / self.usual_rtt_ms if self.usual_rtt_ms else None
            self._trips.append(sample.rtt_ms)
            self._new_trips += 1
            if self._new_trips >= ROUND_TRIPS // 2 or self.rtt95_ms is None:
                self._learn_trips()
        if sample.layer == "echo":  # TCP hides a loss in a long round trip: no sign of either
            self.sums = self.sums.answered(self.learned.loss, times)

    def _missed(self, sample: Sample) -> None:
        if sample.anchor:
            self._hold[1] += sample.sent_at >= self._hold_from  # who left before lost nothing of it
        elif sample.layer == "ack":
            self._unacked = max(self._unacked or sample.sent_at, sample.sent_at)
        dead = self.memory.state in DEAD or sample.sent_at < self._revived
        if sample.layer in ("echo", "ack") and not dead:  # a death's misses make no brown-out
            self.sums = self.sums.missed(self.learned.loss)

    def _learn_trips(self) -> None:
        self._new_trips = 0
        ranked = sorted(self._trips)
        self.rtt95_ms = ranked[int(len(ranked) * 0.95)] if len(ranked) > 1 else ranked[0]
        middle = max(ranked[len(ranked) // 2], RTT_LEAST_MS)
        if self.usual_rtt_ms is None:
            self.usual_rtt_ms = middle
        elif not self.sums.is_brown:
            self.usual_rtt_ms += RTT_MEMORY * (middle - self.usual_rtt_ms)

    def _end_gap(self, sample: Sample) -> None:
        """A silence healed by itself: learn its length, also where it was long enough to be taken
        for a death."""
        reading, self._carried = self.reading, after_success(self.reading.likelihood)
        lost = list(reading.lost)
        self.reading = reading._replace(unanswered=0, silence_s=0.0, lost=())
        if not lost or not reading.overdue:
            return
        # What was sent again, as TCP does, was asked in the gap and answered after it.
        trip = (self.rtt95_ms or 0.0) / 1000.0
        healed = max(sample.sent_at, Mono(sample.at - trip))
        # Whoever was asked later and had time to answer was lost in the same gap.
        lost += sorted(asked.sent_at for asked in self._open.values()
                       if lost[-1] < asked.sent_at < sample.sent_at - trip)
        if len(lost) == 1:
            self._everyday[1] += 1
        begun = tail(lost)
        apart = self._tailed is None or lost[0] - self._tailed >= APART_S
        self.learned = self.learned.gap(lost, healed, apart)
        if begun is not None:
            self._tailed = healed

    def quiet(self, answers: int) -> None:
        """Count ``answers`` of anchors that came in a stretch where nothing was missed, instead
        of taking in each: for a simulation of months (tests/sim/days.py proves it the same)."""
        self._everyday[0] += answers
        self._everyday[2] += answers  # signs of life: how wide the comb is
        self._hold[0] += answers
        self.sums = self.sums.quiet(self.learned.loss, answers)

    def _is_news(self, sample: Sample) -> bool:
        return not sample.ok or self.memory.state != "UP" or self.reading.overdue

    def asked(self, target: str, now: Mono) -> int:
        """Note that a question leaves now; return a token for ``answered``."""
        token = next(self._tokens)
        if len(self._open) >= OPEN_MAX:
            del self._open[next(iter(self._open))]
        anchor = target not in self._upstreams
        layer = "echo" if anchor and self._kinds.get(target) == "echo" else "request"
        self._open[token] = Asked(target, now, anchor, layer)  # type: ignore[arg-type]
        return token

    def answered(self, token: int) -> Asked | None:
        """Forget an open question, and return it: its sample, if any, was seen, or nobody waits
        any more."""
        return self._open.pop(token, None)

    def open_questions(self) -> tuple[tuple[int, Asked], ...]:
        """Return the open questions with their tokens, the oldest first."""
        return tuple(self._open.items())

    # --- what it is asked

    @property
    def echo_late_s(self) -> float:
        """After how long an echo counts as missed: four times what nearly all of them take."""
        usual = 4.0 * self.rtt95_ms / 1000.0 if self.rtt95_ms is not None else 0.0
        return min(max(self.rules.echo_late_s, usual), self.rules.probe_timeout_s)

    @property
    def is_mute(self) -> bool:
        """Whether a gate fired, and nothing at all was heard since the bytes on which it did."""
        return self._unacked is not None and (self.heard is None or self.heard < self._unacked)

    @property
    def signed(self) -> Mono | None:
        """The last answer that nobody else could have given."""
        return self._signed

    def measure(self, prior: float = 0.0) -> Measure:
        """By what a silence on this link is measured now.

        To A* come half the pause between two questions in trouble and one round trip: a gap of
        length A* is heard to be over that much later, and only then could be told from a death.
        """
        comb = self.rules.probe_suspect_every_s / 2 + (self.rtt95_ms or 0.0) / 1000.0
        rows = 2 if self.learned.loss >= BURSTY else 1
        burst = self.silence.mean_s or 0.1
        return Measure(self.silence.age_s + comb + self._extra_s, self.learned.loss, burst,
                       self._carried + prior, self.echo_late_s, rows)

    def read(self, stalls: Stalls, now: Mono, prior: float = 0.0) -> Reading:
        """Return, and keep, what everything seen says at ``now``."""
        seen = Seen(self.ring, self._open.values(), self.heard, self._carrier, self._proven,
                    self._doubted())
        reading = read_link(seen, stalls, self.rules, now, self.measure(prior))
        dead = reading.dead or ("CAPTIVE" if is_captive(self.targets.values()) else "")
        self.reading = reading._replace(
            dead=dead, signed=self._signed, pinned=self._pinned,
            valid=self.memory.state != "VALIDATING" or self._is_valid(),
            good_hold=self.memory.state != "PROBATION" or self._is_good_hold(now))
        return self.reading

    def _doubted(self) -> frozenset[str]:
        return frozenset(target for target, ring in self.targets.items()
                         if target not in self._upstreams and ring and not ring[-1].ok
                         and is_doubted(ring, self.heard))

    def _is_valid(self) -> bool:
        """Whether each kind of probe that the link has was answered since the state began."""
        layers = {"echo": "echo", "tcp": "connect", "tls": "tls", "http": "http"}
        return {layers[kind] for kind in self._kinds.values()} <= self._shown

    def _is_good_hold(self, now: Mono) -> bool:
        """Whether the hold, once it is over, saw enough answers, few enough misses, and round trips
        as usual."""
        hold_s = self.memory.hold_s(self.rules, now)
        if now - self.memory.clean_since < hold_s:
            return False
        good, bad = self._hold
        share = min(1.0, hold_s / HOLD_USUAL_S)
        if good < self.rules.hold_echoes * share * (len(self._kinds) > 0):
            return False
        if bad > max(1.0, (good + bad) * max(HOLD_LOSS, 2 * self.learned.loss)):
            return False
        if not self._trips or self.usual_rtt_ms is None:
            return True
        slow = sorted(self._trips)[int(len(self._trips) * 0.95)]
        return slow <= max(HOLD_RTT * self.usual_rtt_ms, self.usual_rtt_ms + 10.0)

    def judge(self, around: Circumstances, stalls: Stalls, now: Mono, prior: float = 0.0,
              foreign: str = "") -> LinkTurned | None:
        """Turn the link's state by what is known at ``now``; return the turn, None if none.

        ``foreign`` is a verdict of others against the link: TLS_INTERCEPT seen by its upstreams.
        Where nothing was seen since, the circumstances are the same and nothing is late, time alone
        may yet end a hold or a suspicion (``still_until``): until then nothing is read again.
        """
        if (now < self._still_until and self._judged == (around, foreign, prior)
                and not self._is_late(now)):
            self._learn(now)
            return None
        turned = self._judge(around, stalls, now, prior, foreign)
        reading = self.reading
        still = not (turned or reading.dead or reading.unanswered or reading.overdue)
        self._judged = (around, foreign, prior) if still else None
        self._still_until = still_until(self.memory, self.rules, now)
        return turned

    def _is_late(self, now: Mono) -> bool:
        """Whether the oldest open question has waited long enough to say anything."""
        for asked in self._open.values():
            return now - asked.sent_at >= min(self.rules.late_s, self.rules.echo_late_s)
        return False

    def _judge(self, around: Circumstances, stalls: Stalls, now: Mono, prior: float, foreign: str
               ) -> LinkTurned | None:
        reading = self.read(stalls, now, prior)
        if foreign and not reading.dead:
            reading = self.reading = reading._replace(dead=foreign)
        self._learn(now)
        around = around._replace(may_pin=self._may_pin)
        news = news_of(self.memory, reading, around, self.rules, now)
        if news is None:
            return None
        cause = {"DRAIN": "MAINTENANCE", "ROLLED_BACK": "ROLLED_BACK"}.get(news, reading.dead)
        if news == "DEAD" and not cause:
            cause = "BLACKHOLE"  # a gap of A* on probation
        before = self.memory
        self.memory = turn(before, news, cause, now, self.rules)
        if self.memory.clean_since != self._hold_from:
            self._hold, self._hold_from = [0, 0], self.memory.clean_since
            if self.memory.state == "PROBATION":
                self._trips.clear()  # what came late as the link healed is not of the hold
        return self._turned(before, reading, now) if self.memory.state != before.state else None

    def _turned(self, before: LinkMemory, reading: Reading, now: Mono) -> LinkTurned:
        after = self.memory
        if after.state in ("UNKNOWN", "VALIDATING", "PROBATION"):
            self._shown.clear()
        verdict = None
        if before.state in DEAD:
            self._revived = now
        if after.state in DEAD:
            self.sums = Sums()
            verdict = dead_link(after.link, reading, now)
            self.verdict = verdict or self.verdict
        else:
            self.verdict = None
        evidence = (verdict.evidence if verdict else ()) + self._figures()
        return LinkTurned(after.link, before.state, after.state, after.cause or before.cause, now,
                          now - before.since, evidence)

    def _figures(self) -> tuple[tuple[str, str | float], ...]:
        return (("mean_gap_s", round(self.silence.mean_s, 3)),
                ("gaps_a_day", round(self.silence.a_day, 1)),
                ("loss", round(self.learned.loss, 4)))

    def _learn(self, now: Mono) -> None:
        """Once a minute: watched time, everyday loss, and the silence age that follows."""
        if now - self._counted < COUNTED_S:
            return
        good, lone, signs = self._everyday
        if self.memory.state not in ("DOWN", "QUARANTINED", "UNKNOWN"):
            self.learned = self.learned.watched(now - self._counted, signs)
        if good + lone:
            self.learned = self.learned.asked(lone, good + lone)
        self._everyday, self._counted = [0, 0, 0], now
        self.silence = silence(self.learned, self._silence_rules)


def alone(link: str, memories: Mapping[str, LinkMemory], steady: frozenset[str]) -> bool:
    """Whether no link other than ``link`` is in one of the ``steady`` states."""
    return not any(memory.state in steady for name, memory in memories.items() if name != link)
