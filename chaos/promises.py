"""The twelve promises of the design (section 7), each a pure function of what was observed.

A promise is ``Kept`` (with how many observations could have broken it), ``Broken`` (with evidence
a person can follow) or ``NotExercised``. 0 observations is never "kept". Receipts, failback's
flows, isolation and the console's own store come with later orders: 3, 7, 8 and 10 judge them
when they are observed, and say "not exercised" until then.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from chaos.observed import Observed, Sent, Span, is_down

EVIDENCE_MAX: Final = 5
AGE_SLACK_S: Final = 2.0
"""Ages are whole seconds, and the clinical system dates its answer after the fetch began."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Held, in ``observations`` cases that could have broken it."""

    observations: int


@dataclass(frozen=True, slots=True)
class Broken:
    """Did not hold: ``evidence`` are a few of the cases, in words, without any patient."""

    observations: int
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotExercised:
    """Nothing was observed that could have broken it."""

    observations: int = 0


Judgement: TypeAlias = Kept | Broken | NotExercised


def _judge(observations: int, evidence: list[str]) -> Judgement:
    if evidence:
        more = len(evidence) - EVIDENCE_MAX
        shown = evidence[:EVIDENCE_MAX] + ([f"and {more} more"] if more > 0 else [])
        return Broken(max(observations, len(evidence)), tuple(shown))
    return Kept(observations) if observations else NotExercised()


def _name(sent: Sent) -> str:
    return f"request {sent.n} ({sent.kind}, {sent.tenant}, phase {sent.phase})"


def promise_1(observed: Observed) -> Judgement:
    """No safe read fails while any path works, whatever the weather.

    What overload may refuse (``may_be_shed``) has not failed when it was told to come back.
    """
    reads = [sent for sent in observed.sent if sent.is_read and observed.path_works(
        sent.at, sent.at + sent.took_s, sent.upstream_key)]
    failed = [f"{_name(sent)}: {sent.answered}, status {sent.status} {sent.trouble}".rstrip()
              for sent in reads if sent.answered in ("failed", "refused")
              or (sent.answered == "shed" and sent.kind not in observed.may_be_shed)]
    return _judge(len(reads), failed)


def promise_2(observed: Observed) -> Judgement:
    """No unsafe write is ever sent twice without proof that the first never arrived.

    What arrived once is proof enough against a second sending: each write carries a token of its
    own, so one token seen twice was sent twice.
    """
    writes = {sent.token: sent for sent in observed.sent if not sent.is_read}
    arrivals = Counter(seen.token for seen in observed.seen if seen.token in writes)
    twice = [f"{_name(writes[token])}: arrived {times} times"
             for token, times in arrivals.items() if times > 1]
    return _judge(sum(1 for token in writes if arrivals[token]), twice)


def promise_3(observed: Observed) -> Judgement:
    """Every receipt is in exactly one state and ends in a terminal one; none is lost."""
    journal = observed.bookings
    if journal is None:
        return NotExercised()
    wrong = [f"receipt {one.receipt}: states {', '.join(one.states) or 'none'}"
             for one in journal.receipts if len(one.states) != 1 or not one.is_terminal]
    terminal = sum(one.is_terminal for one in journal.receipts)
    still_open = len(journal.receipts) - terminal
    if journal.accepted != terminal + still_open:
        wrong.append(f"accepted {journal.accepted}, terminal {terminal}, open {still_open}")
    return _judge(journal.accepted, wrong)


def promise_4(observed: Observed) -> Judgement:
    """No copy is served unmarked, past its ceiling, to one who did not opt in, or across tenants.

    A live answer's bytes must be what the clinical system answered to this very request; a copy's
    what it once answered to this tenant, and the age it states no younger than the latest time
    it answered so.
    """
    by_token = {seen.token: seen for seen in observed.seen if seen.reply_sha}
    told: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seen in sorted(observed.seen, key=lambda seen: seen.at):
        told[seen.ods, seen.reply_sha].append(seen.at)
    owners: dict[str, set[str]] = defaultdict(set)
    for ods, reply_sha in told:
        owners[reply_sha].add(ods)
    wrong: list[str] = []
    count = 0
    for sent in observed.sent:
        if sent.status != 200 or not sent.body_sha or not sent.whole:
            continue
        count += sent.answered == "copy"
        faults = (_copy_faults(sent, told, owners) if sent.answered == "copy"
                  else _live_faults(sent, by_token, owners))
        wrong += [f"{_name(sent)}: {fault}" for fault in faults]
    return _judge(count, wrong)


def _copy_faults(sent: Sent, told: dict[tuple[str, str], list[float]],
                 owners: dict[str, set[str]]) -> list[str]:
    faults: list[str] = []
    if not sent.opted_in:
        faults.append("a copy for a client that did not opt in")
    if not sent.marked or sent.age_s is None or not sent.no_store or sent.has_etag:
        faults.append("a copy without its marks, or with an ETag")
    if sent.ceiling_s is None or (sent.age_s or 0.0) > sent.ceiling_s:
        faults.append(f"a copy of age {sent.age_s} past its ceiling {sent.ceiling_s}")
    times = told.get((sent.tenant, sent.body_sha), [])
    if sent.body_sha in owners and sent.tenant not in owners[sent.body_sha]:
        faults.append("another tenant's data")
    elif not times:
        faults.append("bytes that the clinical system never sent")
    elif sent.age_s is not None:
        before = bisect_left(times, sent.at + sent.took_s)
        youngest = sent.at - times[max(0, before - 1)]
        if sent.age_s < youngest - AGE_SLACK_S:
            faults.append(f"age {sent.age_s} stated, at least {youngest:.0f} s old")
    return faults


def _live_faults(sent: Sent, by_token: Mapping[str, object],
                 owners: dict[str, set[str]]) -> list[str]:
    if sent.body_sha in owners and sent.tenant not in owners[sent.body_sha]:
        return ["another tenant's data"]
    if sent.token not in by_token:
        return ["a copy served unmarked: the clinical system never saw this request"]
    if sent.body_sha not in owners:
        return ["bytes that the clinical system never sent"]
    return []


def promise_5(observed: Observed) -> Judgement:
    """ "None" is never said where "not known" is meant.

    Judged on every read while no path worked: it is answered from what is known, or refused as
    transient. An empty list, or 404 or 410, must have been the clinical system's own answer.
    """
    said = {seen.reply_sha for seen in observed.seen if seen.reply_sha}
    none_by = {seen.token for seen in observed.seen if seen.status in (404, 410)}
    wrong: list[str] = []
    count = 0
    for sent in observed.sent:
        if not sent.is_read or not sent.whole:
            continue
        says_none = sent.empty or sent.status in (404, 410)
        cut_off = not observed.path_works(sent.at, sent.at + sent.took_s, sent.upstream_key)
        count += cut_off or says_none
        if sent.empty and sent.body_sha not in said:
            wrong.append(f"{_name(sent)}: an empty answer that the clinical system never gave")
        if sent.status in (404, 410) and sent.token not in none_by:
            wrong.append(f"{_name(sent)}: {sent.status} that the clinical system never gave")
        if sent.status == 503 and not (sent.transient or sent.throttled):
            wrong.append(f"{_name(sent)}: 503 without saying that it is not known")
    return _judge(count, wrong)


def promise_6(observed: Observed) -> Judgement:
    """No switch of links when only the upstream is at fault."""
    spans = observed.upstream_alone_at_fault()
    sent = [one for one in observed.sent if any(
        span.start <= one.at < span.end and is_down(
            frozenset(span.subject.split(",")), one.upstream_key) for span in spans)]
    switches = [f"{move.frm or 'none'} to {move.to or 'none'} while only {span.subject} was down"
                for span in spans for move in observed.moves
                if move.what == "switch" and span.start <= move.at < span.end]
    return _judge(len(sent), switches)


def promise_7(observed: Observed) -> Judgement:
    """After failback no flow remains on the backup (``failed_back``: the backup and since when).

    What bears no token is no flow of a client: the gateway's own proof that its backup still works.
    """
    late = [f"a request came over {span.subject} {seen.at - span.start:.0f} s after failback"
            for span in observed.failed_back for seen in observed.seen
            if seen.listener == span.subject and seen.token
            and span.start + observed.failback_grace_s < seen.at < span.end]
    return _judge(len(observed.failed_back), late)


def promise_8(observed: Observed) -> Judgement:
    """An order to isolate is obeyed at once and until released."""
    touched = [f"{span.subject} was contacted {seen.at - span.start:.1f} s after the order"
               for span in observed.isolated for seen in observed.seen
               if span.start < seen.at < span.end
               and is_down(frozenset({span.subject}), f"{seen.system}:{seen.ods}")]
    return _judge(len(observed.isolated), touched)


def promise_9(observed: Observed) -> Judgement:
    """No patient data in logs, topics, metrics, file names or clear on disk."""
    return _judge(observed.scanned, [f"{leak.mark} in {leak.place}" for leak in observed.leaks])


def promise_10(observed: Observed) -> Judgement:
    """Every telemetry event reaches the console's store once, in the end."""
    if not observed.stored_rows:
        return NotExercised()
    stored = Counter(observed.stored_rows)
    wrong = [f"row {row} was never stored" for row in observed.told_rows if not stored[row]]
    wrong += [f"row {row} was stored {times} times" for row, times in stored.items() if times > 1]
    return _judge(len(observed.told_rows), wrong)


def promise_11(observed: Observed) -> Judgement:
    """A crash at any instant loses nothing that was acknowledged."""
    wrong: list[str] = []
    count = 0
    for crash in observed.crashes:
        after = dict(crash.copies_after)
        count += len(crash.rows_before) + sum(number for _, number in crash.copies_before)
        wrong += [f"tenant {tenant}: {number} copies before the crash, {after.get(tenant, 0)} after"
                  for tenant, number in crash.copies_before if after.get(tenant, 0) < number]
        wrong += [f"event row {row} is gone"
                  for row in sorted(crash.rows_before - crash.rows_after)]
    return _judge(count, wrong)


def promise_12(observed: Observed) -> Judgement:
    """A fault of one tenant, link or upstream changes nothing for another.

    Bystanders are requests to upstreams that work, sent while another does not and all links do.
    """
    spans = observed.upstream_alone_at_fault()
    count = 0
    wrong: list[str] = []
    for sent in observed.sent:
        span = _span_of(spans, sent)
        if span is None or is_down(frozenset(span.subject.split(",")), sent.upstream_key):
            continue
        count += 1
        if sent.answered != "live":
            wrong.append(f"{_name(sent)}: {sent.answered} while only {span.subject} was at fault")
    return _judge(count, wrong)


def _span_of(spans: tuple[Span, ...], sent: Sent) -> Span | None:
    return next((span for span in spans
                 if span.start <= sent.at and sent.at + sent.took_s < span.end), None)


PROMISES: Final[dict[int, Callable[[Observed], Judgement]]] = {
    1: promise_1, 2: promise_2, 3: promise_3, 4: promise_4, 5: promise_5, 6: promise_6,
    7: promise_7, 8: promise_8, 9: promise_9, 10: promise_10, 11: promise_11, 12: promise_12}

LATER: Final = frozenset({3, 7, 8, 10})
"""Promises that Kent does not exercise: two have no code yet, failback has a story of its own."""


def judge(observed: Observed) -> dict[int, Judgement]:
    """Return every promise's judgement."""
    return {number: promise(observed) for number, promise in PROMISES.items()}


def is_good(judged: dict[int, Judgement], wanted: frozenset[int]) -> bool:
    """Whether none is broken and each of ``wanted`` was exercised: else the run exits 3."""
    return not any(isinstance(one, Broken) for one in judged.values()) and all(
        isinstance(judged[number], Kept) for number in wanted)


def as_json(judged: dict[int, Judgement]) -> dict[str, dict[str, object]]:
    """Return ``{"1": {"held": true, "observations": N}, ...}`` (design 5.1)."""
    told: dict[str, dict[str, object]] = {}
    for number, one in judged.items():
        match one:
            case Kept(observations):
                told[str(number)] = {"held": True, "observations": observations}
            case Broken(observations, evidence):
                told[str(number)] = {"held": False, "observations": observations,
                                     "evidence": list(evidence)}
            case NotExercised():
                told[str(number)] = {"held": "not exercised", "observations": 0}
    return told
