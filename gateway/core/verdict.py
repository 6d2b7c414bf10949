"""From samples to verdicts: what was seen -> what it means (links.md section 4).

Rule 1: judged on reading. Everything here is a function of samples and ``now``.
Rule 2: any success vetoes a link's death. So a link is dead only if *all* on it is silent, and a
        trouble of one upstream is never taken for one of its link (promise 6).
Rule 3: a failure is blamed on an upstream only if its link was heard after the question left.
Rule 4: a connection accepted proves nothing: relays and the boxes of mobile carriers accept for
        others. Only an anchor's own probe, or a layer above TCP, is a success.
Rule 5: what died with our own stall is nobody's fault (LOCAL_STALL).
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from gateway.core.instant import Mono
from gateway.core.likelihood import Sums, likelihood
from gateway.core.link import Layer, LinkRules, Reading, Sample
from gateway.core.slowness import Slowness

VerdictKind: TypeAlias = Literal[
    "LINK_DOWN", "BLACKHOLE", "BROWNOUT", "ROUTE_FAULT", "DNS_FAULT", "CAPTIVE",
    "TLS_INTERCEPT", "MTU_HOLE", "UPSTREAM_DOWN", "UPSTREAM_SLOW", "LOCAL_STALL"]

TARGETS_MIN: Final = 2
"""A dead link is silent on two targets: one silent target may be that target's own trouble."""

DOUBTED_ROW: Final = 3
"""Misses in a row, while the link was heard, that make an anchor itself doubtful."""

SPREAD_S: Final = 0.5
"""Silent failures sent nearer together than this may all be one gap of the link."""

RESOLVER_ROW: Final = 3
"""Lookups in a row without an address, on a link that is heard, that are the resolver's fault."""

HORIZON_S: Final = 5.0
"""How far back misses are read: a verdict needs ``silence_s`` of them, not the whole outage."""

CAPTIVE_ROW: Final = 2
"""Wrong contents in a row: one may be an anchor that is being upgraded."""

NO_EVIDENCE: Final = frozenset({"busy", "link_down", "stale"})
"""Ends of a send that say nothing of the network: we ended it, or an idle connection was closed."""

UNACKED: Final = "abandoned"
"""A send that we ended while its bytes were unacknowledged: about the link, not the upstream."""

UNACKED_MIN: Final = 2
"""Such sends since the last success that make a link suspect (links.md section 7: two flows)."""

SILENT_LAYERS: Final = frozenset({"dns", "carrier", "size"})
"""Layers that say nothing of whether the link carries: a cache may answer for a name, a carrier
comes from our own wire, and a large rung may fail where small ones pass."""

FORGED: Final = "forged"
"""An echo answered by somebody who does not have our secret."""

UNWELL: Final = frozenset({"502", "503", "504"})
"""Statuses by which an upstream says that it cannot serve (design 5.2)."""

WRONG_CONTENT: Final = frozenset({"not_the_api", "content"})
TOO_LONG: Final = "too_long"
"""A rung longer than the kernel knows to pass (its device's MTU, or the path's as a router told
it): TCP keeps below that by itself, so it is neither a hole nor a sign that there is none."""

ANSWERED: Final = UNWELL | WRONG_CONTENT
"""Failures that came as an answer: no gap of the link explains them."""

WRONG_PEER: Final = frozenset({"certificate", "issuer"})
"""A handshake that showed a certificate which is not the right one, or not from the pinned CA."""


NOT_SILENT: Final = NO_EVIDENCE | WRONG_CONTENT | WRONG_PEER | {FORGED}
"""Ends that are no silence: ours, or somebody's who is not whom we asked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A named fault and its scope: ``link`` or ``upstream`` or both (a path), ``""`` where neither.

    ``evidence`` are pairs of a code and a figure, ready for telemetry: never free text.
    """

    kind: VerdictKind
    link: str
    upstream: str
    since: Mono
    evidence: tuple[tuple[str, str | float], ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict was reached, or (``over``) no longer holds; then it had held for ``lasted_s``."""

    verdict: Verdict
    over: bool
    at: Mono
    lasted_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A question under way on a link: asked of ``target``, no answer yet."""

    target: str
    sent_at: Mono
    anchor: bool = True
    layer: Layer = "request"


Stalls: TypeAlias = Sequence[tuple[Mono, Mono]]
"""When our own loop stood still: (from, until), oldest first."""


def is_heard(sample: Sample) -> bool:
    """Whether ``sample`` proves that the link carries something both ways."""
    layer, detail = sample.layer, sample.detail
    if layer in SILENT_LAYERS or detail in NO_EVIDENCE:
        return False
    if not sample.ok:
        return layer == "request" and (detail.isdigit() or detail == "bad_reply")
    return sample.anchor or layer != "connect"


def is_missed(sample: Sample, ever_heard: bool) -> bool:
    """Whether ``sample`` is a question that nobody answered.

    A name without address is the resolver's silence, not the link's, unless nothing was ever heard
    on the link. A wrong certificate or content came from somebody.
    """
    if sample.ok or sample.layer in SILENT_LAYERS or is_heard(sample):
        return False
    if sample.detail == "resolve":
        return not ever_heard
    return sample.detail not in NOT_SILENT


def stalled_s(stalls: Stalls, begin: Mono, end: Mono) -> float:
    """Seconds between ``begin`` and ``end`` in which our own loop stood still."""
    if not stalls:
        return 0.0
    return sum(max(0.0, min(until, end) - max(since, begin)) for since, until in stalls)


class Seen(NamedTuple):
    """What the board holds of one link: samples in order of arrival, and questions under way.

    ``heard`` dates the last success of all, however old; ``carrier`` is the last sample of that
    layer; ``proven`` are the targets that ever answered over this link, ``doubted`` the anchors
    that fell silent while the link was heard: theirs is no first sign of trouble.
    """

    samples: Sequence[Sample]
    asked: Iterable[Asked] = ()
    heard: Mono | None = None
    carrier: Sample | None = None
    proven: frozenset[str] = frozenset()
    doubted: frozenset[str] = frozenset()


class _Lost(NamedTuple):
    """A question without answer, and how long it waited for one (our own stalls not counted).

    A tuple, which is made more than twice as fast: there are hundreds when both links die.
    """

    target: str
    sent_at: Mono
    anchor: bool
    waited_s: float
    unacked: bool = False
    layer: Layer = "request"


class Measure(NamedTuple):
    """By what a silence is measured: the age A* with what the comb and the answer's way add to
    it, the everyday loss, one burst's length, and what earlier misses and priors left of S.

    ``echo_late_s``: an echo unanswered for so long is missed; ``in_a_row`` of them are news.
    """

    age_s: float = 1.5
    loss: float = 0.005
    burst_s: float = 0.1
    carried: float = 0.0
    echo_late_s: float = 0.15
    in_a_row: int = 1


def read_link(seen: Seen, stalls: Stalls, rules: LinkRules, now: Mono,
              by: Measure | None = None) -> Reading:
    """Return what was ``seen`` on a link says at ``now``.

    Once any target was proven, one that never answered is no evidence against the link. A link is
    dead only if all hold (links.md section 5): S reaches ``likelihood_min``, ``misses_min`` are
    unanswered, on two targets where two ever answered, and the silence has lasted ``by.age_s``.
    """
    by = by or Measure(rules.fresh_s, echo_late_s=rules.echo_late_s)
    gone = "LINK_DOWN" if seen.carrier is not None and not seen.carrier.ok else ""
    heard = -math.inf if seen.heard is None else seen.heard
    lost = [question for question in _unanswered(seen, stalls, rules, now, by)
            if question.sent_at > heard and (not seen.proven or question.target in seen.proven)
            and not (stalls and _spoilt(stalls, question.sent_at, rules))]
    if not lost:
        return Reading(seen.heard, _in_row(seen.samples, rules.heal_successes), dead=gone,
                       likelihood=by.carried, age_s=by.age_s)
    sent = sorted(question.sent_at for question in lost)
    silence = now - sent[0] - stalled_s(stalls, sent[0], now)
    targets = len({question.target for question in lost})
    total = likelihood(sent, by.loss, by.burst_s, by.carried)
    needed = min(TARGETS_MIN, len(seen.proven)) or TARGETS_MIN
    whole = [question for question in lost if question.layer != "ack"]
    is_silent = silence >= by.age_s and targets >= needed
    is_dead = (is_silent and len(whole) >= rules.misses_min and total >= rules.likelihood_min)
    return Reading(seen.heard, 0, _is_overdue(lost, seen.doubted, rules, by), silence, len(whole),
                   targets, gone or ("BLACKHOLE" if is_dead else ""), total, by.age_s,
                   gap=is_silent and len(whole) >= 2, lost=tuple(sent))


def _is_overdue(lost: list[_Lost], doubted: frozenset[str], rules: LinkRules, by: Measure
                ) -> bool:
    """Echoes missed, as many in a row as the link's loss asks for; or a gate that fired; or an
    anchor of another kind and a second target late, or one such anchor half as late again.

    Upstreams that are late, or refuse at once, are no sign: they only quicken the probes.
    """
    if any(question.layer == "ack" for question in lost):
        return True
    if sum(question.unacked for question in lost) >= UNACKED_MIN:
        return True
    echoes = sum(question.layer == "echo" and question.target not in doubted
                 and question.waited_s >= by.echo_late_s for question in lost)
    if echoes >= by.in_a_row:
        return True
    late = [question for question in lost if question.waited_s >= rules.late_s]
    anchors = [question for question in late if question.anchor and question.layer != "echo"
               and question.target not in doubted]
    if anchors and len({question.target for question in late}) >= TARGETS_MIN:
        return True
    return any(question.waited_s >= 1.5 * rules.late_s for question in anchors)


def is_doubted(ring: Sequence[Sample], heard: Mono | None) -> bool:
    """Whether an anchor's last ``DOUBTED_ROW`` probes were missed while its link was heard."""
    last = list(ring)[-DOUBTED_ROW:]
    return len(last) == DOUBTED_ROW and heard is not None and all(
        is_missed(sample, ever_heard=True) and sample.sent_at < heard for sample in last)


def _unanswered(seen: Seen, stalls: Stalls, rules: LinkRules, now: Mono, by: Measure
                ) -> list[_Lost]:
    """Questions missed since the last success, and those under way that are late by now.

    Looks back ``HORIZON_S`` at most: a long outage must not cost more each second. A probe that
    failed at once waits on: only what is heard afterwards tells what that meant.
    """
    found = []
    for question in seen.asked:
        waited = now - question.sent_at
        if stalls:
            waited -= stalled_s(stalls, question.sent_at, now)
        if waited >= (by.echo_late_s if question.layer == "echo" else rules.late_s):
            found.append(_Lost(question.target, question.sent_at, question.anchor, waited,
                               layer=question.layer))
    oldest = now - max(HORIZON_S, 3 * by.age_s)
    for sample in reversed(seen.samples):
        if is_heard(sample) or sample.at < oldest:
            break
        if is_missed(sample, bool(seen.proven)):
            end = now if sample.anchor else sample.at
            found.append(_Lost(sample.target, sample.sent_at, sample.anchor,
                               end - sample.sent_at - stalled_s(stalls, sample.sent_at, end),
                               sample.detail == UNACKED, sample.layer))
    return found


def _in_row(samples: Sequence[Sample], row_max: int) -> int:
    """Successes in a row at the end, counted up to ``row_max``."""
    row = 0
    for sample in reversed(samples):
        if row >= row_max:
            break
        if is_heard(sample):
            row += 1
        elif is_missed(sample, ever_heard=True):
            break
    return row


def _spoilt(stalls: Stalls, sent_at: Mono, rules: LinkRules) -> bool:
    """Whether a stall fell into a question's first wait, so that its answer was not read in time.

    Half of ``probe_timeout_s``: a smaller stall leaves time enough for an answer.
    """
    wait = rules.probe_timeout_s
    return stalled_s(stalls, sent_at, Mono(sent_at + wait)) >= wait / 2


def is_captive(anchors: Collection[Sequence[Sample]]) -> bool:
    """Whether a portal answers in place of an anchor: ``anchors`` are the rings of each target.

    The last ``CAPTIVE_ROW`` answers of one anchor were forged or had the wrong content, and no
    anchor that can prove itself (an echo, or one whose content is checked) did so since.
    """
    for ring in anchors:
        if ring and not ring[-1].ok and _is_foreign(ring[-1]):
            break
    else:
        return False
    rings = [[sample for sample in ring if sample.layer in ("http", "echo") and sample.anchor
              and (sample.ok or _is_foreign(sample))] for ring in anchors]
    good = max((sample.at for ring in rings for sample in ring if sample.ok), default=None)
    return any(len(ring) >= CAPTIVE_ROW and all(
        _is_foreign(sample) and (good is None or sample.at > good)
        for sample in ring[-CAPTIVE_ROW:]) for ring in rings)


def _is_foreign(sample: Sample) -> bool:
    return not sample.ok and (sample.detail in WRONG_CONTENT or sample.detail == FORGED)


@dataclass(frozen=True, slots=True)
class PathReading:
    """What one upstream's samples over one link say.

    ``failures`` in a row at the end are blamed on the upstream or the route; ``unwell`` of them
    were answered (502, 503, 504); ``doubts`` also counts those that the link may have eaten.
    ``wrong_peer``: the last word was a wrong certificate; ``nameless``: no address was found;
    ``foreign``: all they gave was not what the API speaks, as a portal's page.
    """

    good_at: Mono | None = None
    tried_at: Mono | None = None
    failures: int = 0
    unwell: int = 0
    doubts: int = 0
    wrong_peer: bool = False
    nameless: bool = False
    foreign: bool = False
    failing_since: Mono | None = None


def read_path(samples: Sequence[Sample], heard: Mono | None, since: Mono, rules: LinkRules,
              now: Mono) -> PathReading:
    """Return what the ``samples`` of one (link, upstream) say; ``heard``: the link's last success.

    What was sent before ``since`` failed for a reason that is known and over: the link was silent,
    or the upstream was down. Failures older than ``upstream_window_s`` do not count either; two
    samples of one send count once. A status that came while an answer was under way which turned
    out to be somebody else's is no proof: it is that answer's.
    """
    sends: dict[Mono, Sample] = {}
    good: Mono | None = None
    foreign: list[Sample] = []
    for sample in reversed(samples):
        if _is_foreign(sample):
            foreign.append(sample)
        if _is_good(sample) and not any(
                each.sent_at <= sample.at <= each.at for each in foreign):
            good = sample.at
            break
        recent = sample.sent_at >= since and now - sample.at <= rules.upstream_window_s
        if recent and _is_bad(sample):
            sends.setdefault(sample.sent_at, sample)
    bad = tuple(sends.values())
    blamed = [s for s in bad if s.detail not in WRONG_PEER and (
        s.detail in ANSWERED or (heard is not None and heard > s.sent_at))]
    sent = [s.sent_at for s in blamed if s.detail not in ANSWERED]
    if sent and max(sent) - min(sent) < SPREAD_S:
        blamed = [s for s in blamed if s.detail in ANSWERED]
    tried = bad[0].at if bad else good
    return PathReading(
        good, tried, len(blamed), sum(s.detail in UNWELL for s in blamed), len(bad),
        bool(bad) and bad[0].detail in WRONG_PEER,
        bool(bad) and all(s.detail == "resolve" for s in bad),
        bool(bad) and all(s.detail in WRONG_CONTENT for s in bad),
        min((s.sent_at for s in blamed), default=None))


def _is_good(sample: Sample) -> bool:
    if sample.layer == "request" and sample.detail.isdigit():
        return sample.detail not in UNWELL
    return sample.ok and sample.layer in ("request", "http") and sample.detail not in WRONG_CONTENT


def _is_bad(sample: Sample) -> bool:
    if sample.layer == "request" and sample.detail.isdigit():
        return sample.detail in UNWELL
    return (not sample.ok and sample.layer not in ("carrier", "ack")
            and sample.detail not in NO_EVIDENCE | {UNACKED})


Paths: TypeAlias = Mapping[tuple[str, str], PathReading]
"""By (link, upstream)."""


def judge(before: tuple[Verdict, ...], upstreams: Iterable[str], links: tuple[str, ...],
          paths: Paths, rules: LinkRules, now: Mono) -> tuple[Verdict, ...]:
    """Return the verdicts on upstreams and paths; ``links`` are those that may carry work now.

    ``before`` are those of the last time: one that stands is only lifted by a success (a wait
    heals nothing), or, if it is about a path, when its link is out of use.
    """
    old = {(v.kind, v.link, v.upstream): v for v in before}
    found: list[Verdict] = []
    for upstream in upstreams:
        found += _on_upstream(old, upstream, links, paths, rules, now)
    return tuple(found)


_Old: TypeAlias = Mapping[tuple[VerdictKind, str, str], Verdict]


def _on_upstream(old: _Old, upstream: str, links: tuple[str, ...], paths: Paths,
                 rules: LinkRules, now: Mono) -> list[Verdict]:
    readings = {link: paths.get((link, upstream), PathReading()) for link in links}
    down = old.get(("UPSTREAM_DOWN", "", upstream))
    if down is not None:
        lifted = any((r.good_at or Mono(-1.0)) > down.since for r in readings.values())
        return [] if lifted else [down]
    failing = [link for link, r in readings.items() if r.failures >= rules.upstream_failures]
    working = [link for link, r in readings.items() if r.good_at is not None and not r.doubts
               and now - r.good_at <= rules.upstream_window_s]
    if failing and not working and _everywhere(readings, failing, rules):
        return [Verdict("UPSTREAM_DOWN", "", upstream, now, _evidence(readings, now))]
    return [verdict for link in links
            if (verdict := _on_path(old, link, upstream, readings[link], link in failing,
                                    [w for w in working if w != link], now))]


def _everywhere(readings: Mapping[str, PathReading], failing: list[str], rules: LinkRules
                ) -> bool:
    """What an upstream says of itself holds over any link; its silence needs them all.

    That no address is found over the only link left is that link's resolvers' trouble first.
    """
    if any(readings[link].unwell >= rules.upstream_failures for link in failing):
        return True
    if len(readings) == 1 and all(readings[link].nameless for link in failing):
        return False
    return len(failing) == len(readings)


def _on_path(old: _Old, link: str, upstream: str, reading: PathReading, is_failing: bool,
             elsewhere: list[str], now: Mono) -> Verdict | None:
    kind: VerdictKind = "ROUTE_FAULT"
    if reading.wrong_peer:
        kind = "TLS_INTERCEPT"
    elif reading.nameless:
        kind = "DNS_FAULT"
    elif reading.foreign:
        kind = "CAPTIVE"
    for name in ("ROUTE_FAULT", "TLS_INTERCEPT", "DNS_FAULT", "CAPTIVE"):
        standing = old.get((name, link, upstream))
        if standing is not None:
            lifted = reading.good_at is not None and reading.good_at > standing.since
            return None if lifted else standing
    if not reading.wrong_peer and not (is_failing and elsewhere):
        return None
    return Verdict(kind, link, upstream, now, (
        ("failures", reading.doubts), ("works_over", elsewhere[0] if elsewhere else "")))


def _evidence(readings: Mapping[str, PathReading], now: Mono
              ) -> tuple[tuple[str, str | float], ...]:
    figures: list[tuple[str, str | float]] = []
    for link, reading in readings.items():
        figures.append((f"failures.{link}", reading.failures))
        if reading.unwell:
            figures.append((f"unwell.{link}", reading.unwell))
        if reading.failing_since is not None:
            figures.append((f"for_s.{link}", round(now - reading.failing_since, 3)))
    return tuple(figures)


def slow_upstream(before: tuple[Verdict, ...], upstream: str, slowness: Slowness,
                  fine: bool) -> Verdict | None:
    """Return UPSTREAM_SLOW while its answers are late and the links that bring them are ``fine``;
    one that stands is only lifted by answers in time."""
    if slowness.since is None:
        return None
    standing = next((v for v in before if (v.kind, v.upstream) == ("UPSTREAM_SLOW", upstream)),
                    None)
    if standing is not None or not fine:
        return standing
    return Verdict("UPSTREAM_SLOW", "", upstream, slowness.since, (
        ("usual_ms", round(slowness.usual_ms)), ("now_ms", round(slowness.last_ms))))


def dead_link(link: str, reading: Reading, now: Mono) -> Verdict | None:
    """Return the verdict against a link itself with the figures that led to it, None if none."""
    kinds: dict[str, VerdictKind] = {
        "BLACKHOLE": "BLACKHOLE", "LINK_DOWN": "LINK_DOWN", "CAPTIVE": "CAPTIVE",
        "TLS_INTERCEPT": "TLS_INTERCEPT"}
    kind = kinds.get(reading.dead)
    if kind is None:
        return None
    return Verdict(kind, link, "", now, (
        ("silence_s", round(reading.silence_s, 3)), ("unanswered", reading.unanswered),
        ("targets", reading.targets), ("likelihood", round(reading.likelihood, 1)),
        ("age_s", round(reading.age_s, 3))))


def link_faults(before: tuple[Verdict, ...], link: str, lookups: Mapping[str, Sequence[Sample]],
                rungs: Mapping[int, Sample], sums: Sums, heard: Mono | None,
                on_paths: tuple[Verdict, ...], now: Mono, named: Mono | None = None
                ) -> tuple[Verdict, ...]:
    """Return the verdicts on ``link`` as a whole that move nothing by themselves, and
    TLS_INTERCEPT of the link where two of its upstreams showed a wrong certificate.

    ``lookups`` are by resolver (``own``, ``other``), ``rungs`` the last of each size of the
    ladder, ``sums`` those of ``core/likelihood.py``. ``named`` is when a lookup was asked that was
    answered over another link.
    """
    old = {v.kind: v for v in before if v.link == link and not v.upstream}
    found = [silent_resolver(before, link, lookups, heard, named), _mtu_hole(old, link, rungs, now),
             _brown_out(old, link, sums, now), _intercepted(old, link, on_paths, now)]
    return tuple(verdict for verdict in found if verdict is not None)


def silent_resolver(before: tuple[Verdict, ...], link: str,
                    lookups: Mapping[str, Sequence[Sample]], heard: Mono | None,
                    named: Mono | None = None) -> Verdict | None:
    """Return DNS_FAULT of ``link`` while its own resolver's last lookups failed, and another
    resolver answered over it, or, where none is asked, the link was heard since. Where none answers
    over it and it is heard, the fault is its own if a lookup asked meanwhile (``named``) was
    answered over another link: somebody swallows port 53.

    It moves nothing: lookups go on elsewhere, or from what was last known (links.md section 14).
    """
    row = list(lookups.get("own", ()))[-RESOLVER_ROW:]
    if len(row) < RESOLVER_ROW or any(sample.ok for sample in row):
        return None
    old = next((v for v in before if (v.kind, v.link, v.upstream) == ("DNS_FAULT", link, "")),
               None)
    if old is not None:
        return old
    other = list(lookups.get("other", ()))
    meanwhile = named is not None and named >= row[0].sent_at
    if other and not other[-1].ok and not meanwhile:
        return None  # names are in trouble everywhere, or nothing passes
    if heard is None or heard <= row[-1].sent_at:
        return None
    return Verdict("DNS_FAULT", link, "", row[-1].at, (("lookups", RESOLVER_ROW),))


SMALL_RUNG: Final = 100
LARGE_RUNG: Final = 1400
"""Rungs of the size ladder up to and from which a hole shows (links.md section 4)."""


def _mtu_hole(old: Mapping[VerdictKind, Verdict], link: str, rungs: Mapping[int, Sample],
              now: Mono) -> Verdict | None:
    small = [s for size, s in rungs.items() if size <= SMALL_RUNG]
    lost = [size for size, s in rungs.items()
            if size > SMALL_RUNG and not s.ok and s.detail != TOO_LONG]
    if not any(size >= LARGE_RUNG for size in lost) or not any(s.ok for s in small):
        return None
    passing = max((size for size, s in rungs.items() if s.ok and size < min(lost)), default=0)
    figures = (("passes_bytes", passing), ("lost_bytes", min(lost)))
    standing = old.get("MTU_HOLE")
    if standing is not None and standing.evidence == figures:
        return standing
    return Verdict("MTU_HOLE", link, "", now, figures)  # another hole is told: the cap follows it


def _brown_out(old: Mapping[VerdictKind, Verdict], link: str, sums: Sums, now: Mono
               ) -> Verdict | None:
    standing = old.get("BROWNOUT")
    if standing is not None:
        return None if sums.is_clear else standing
    if not sums.is_brown:
        return None
    return Verdict("BROWNOUT", link, "", now, (
        ("loss_sum", round(sums.loss, 1)), ("rtt_sum", round(sums.rtt, 1))))


def _intercepted(old: Mapping[VerdictKind, Verdict], link: str, on_paths: tuple[Verdict, ...],
                 now: Mono) -> Verdict | None:
    shown: dict[str, set[str]] = {}
    for each in on_paths:
        if each.kind == "TLS_INTERCEPT" and each.upstream:
            shown.setdefault(each.link, set()).add(each.upstream)
    mine = shown.get(link, set())
    if len(mine) < TARGETS_MIN:
        return None
    if any(mine <= theirs for other, theirs in shown.items() if other != link):
        return None  # the same over another link: their certificates are wrong, or our clock is
    return old.get("TLS_INTERCEPT") or Verdict("TLS_INTERCEPT", link, "", now, (
        ("upstreams", len(shown)),))


def changes(before: tuple[Verdict, ...], after: tuple[Verdict, ...], now: Mono
            ) -> tuple[Judged, ...]:
    """Return what to say: each verdict once when it is reached, once when it is over. One that is
    reached anew, with other figures, is both."""
    names = {(v.kind, v.link, v.upstream, v.since) for v in before}
    left = {(v.kind, v.link, v.upstream, v.since) for v in after}
    over = [Judged(v, True, now, now - v.since) for v in before
            if (v.kind, v.link, v.upstream, v.since) not in left]
    new = [Judged(v, False, now) for v in after
           if (v.kind, v.link, v.upstream, v.since) not in names]
    return (*over, *new)
