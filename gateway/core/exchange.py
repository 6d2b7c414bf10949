"""The straight path of one request: questions, and which may follow which.

Each question is asked by ``flow/serve.py`` and answered once; ``next`` returns the following one.

    read:   Forward -> (Keep | Forget) -> Done            LookUp -> Done
              '-- no whole answer, or none that helps --> LookUp
    write:  Forward -> Forget -> Done

The copy is looked up only when it may be served: nothing is answered from it while the upstream
answers (docs/decisions/0001). A live answer never waits for the copy to be written.
Rule: a write whose outcome is not known is told as unknown, and promised nothing.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from gateway.core.deadline import patience_s
from gateway.core.hedge import Lost, Plan, Won
from gateway.core.instant import Mono, Wall
from gateway.core.keeping import (
    Drop,
    Keep,
    KeepMode,
    Kept,
    Key,
    Leave,
    is_page,
    key_of,
    removal,
    speaks,
    to_keep,
    voided,
)
from gateway.core.marking import Why, copy_answer, live_marks, refusal
from gateway.core.message import (
    Answer,
    Arrived,
    NoAnswer,
    Outbound,
    Outcome,
    Reply,
    Request,
    Streamed,
)
from gateway.core.pack import Matched, Pack, Traffic, traffic_of
from gateway.core.route import Standing
from gateway.core.wire import answer_headers, outbound_headers

WRITE_PATIENCE_S: Final = 40.0
"""A write on a living path is never cut short: BaRS alone waits 32 s for its receiver."""

CONNECT_S: Final = 1.5
"""Name, TCP and TLS together: fits one SYN retransmission (links.md section 17)."""

RETRY_AFTER_S: Final = 10
SHED_AFTER_S: Final = 300
"""A client that is not clinical looks again after so long: links heal in minutes, not seconds."""

Answered: TypeAlias = Literal["live", "copy", "refused", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class UpstreamRules:
    """What the exchange must know of one upstream. ``authority`` goes into Host."""

    id: str
    authority: str
    pack: Pack
    keep: KeepMode = "off"
    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while one request lives."""

    request: Request
    upstream: UpstreamRules
    matched: Matched
    leave: Leave
    via: str
    begun: Mono
    begun_wall: Wall
    standing: Standing
    is_dated: bool = True
    """Whether ``begun_wall`` was trusted: a copy of unsure date could later pass for younger."""
    barred: frozenset[str] = frozenset()
    """Links whose plan this use may not burn now (core/quota.py): empty for clinical traffic."""
    unhedged: frozenset[str] = frozenset()
    """Links whose slice for second sends is spent; rescue after a failure goes there still."""

    @property
    def is_read(self) -> bool:
        """Whether it may be retried, hedged and answered from the copy."""
        return self.matched.route.is_read

    @property
    def traffic(self) -> Traffic:
        """Its class, by which it is rescued and steered."""
        return traffic_of(self.matched, self.request)

    @property
    def may_copy(self) -> bool:
        """Whether a copy of this could exist and this client takes copies."""
        return self.upstream.keep != "off" and self.matched.route.keep and self.leave.given


@dataclass(frozen=True, slots=True)
class Forward:
    """Send ``outbound`` as ``plan`` allows; tell what came of it and how the upstream stands."""

    facts: Facts
    plan: Plan
    outbound: Outbound

    def next(self, ended: Won | Lost, standing: Standing, wall: Wall) -> "Question":
        """Return what follows the end of the race."""
        facts = replace(self.facts, standing=standing)
        if isinstance(ended, Won):
            return _arrived(facts, ended, wall)
        if facts.is_read:
            return _no_answer_to_read(facts, ended)
        return _no_answer_to_write(facts, ended, wall)


@dataclass(frozen=True, slots=True)
class LookUp:
    """Look for a copy under ``key``; where none may be served, ``otherwise`` is the answer."""

    facts: Facts
    key: Key
    why: Why
    otherwise: "Done"

    def next(self, kept: Kept | None, wall: Wall, trusted: bool) -> "Question":
        """Return the marked copy, or what is said without one."""
        if kept is None:
            return self.otherwise
        facts = self.facts
        answer = copy_answer(kept, facts.request, facts.matched.route, facts.leave, self.why,
                             facts.via, wall, trusted)
        if answer is None:
            return self.otherwise
        _let_go(self.otherwise.answer)
        return Done(answer, "copy", "", self.otherwise.sends)


@dataclass(frozen=True, slots=True)
class Store:
    """Put ``keep`` on its way to the store, waiting for nothing; then ``then``."""

    facts: Facts
    keep: Keep
    then: "Done"

    def next(self) -> "Question":
        """Return the live answer."""
        return self.then


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop copies, durably, before ``then`` is said."""

    facts: Facts
    drop: Drop
    then: "Done"

    def next(self) -> "Question":
        """Return the answer that the drop had to precede."""
        return self.then


@dataclass(frozen=True, slots=True)
class Done:
    """Say ``answer``. ``answered`` and ``link`` are for counters and the log."""

    answer: Answer
    answered: Answered
    link: str
    sends: int


Question: TypeAlias = Forward | LookUp | Store | Forget | Done


def begin(facts: Facts) -> Question:
    """Return the first question about an admitted request."""
    standing = facts.standing
    if standing.links and all(link in facts.barred for link in standing.links):
        return Done(refusal(
            503, "throttled", "Only a link that is paid by the byte is left, and its plan does not "
            "allow this kind of traffic now. Bookings and clinical reads go on.", facts.via,
            SHED_AFTER_S), "refused", "", 0)
    asked_in_vain = standing.upstream_down and not standing.trial
    if standing.links and not (facts.is_read and asked_in_vain):
        return Forward(facts, _plan(facts), _outbound(facts))
    cause = standing.cause or ("UPSTREAM_DOWN" if standing.upstream_down else "NO_ANSWER")
    words = ("The clinical system cannot be reached and no copy may be served."
             if facts.is_read else "The clinical system cannot be reached. Nothing was sent.")
    refused = Done(refusal(503, "transient", words, facts.via, RETRY_AFTER_S, cause=cause),
                   "refused", "", 0)
    return _or_copy(facts, refused, cause)


def vet(outcome: Outcome, facts: Facts) -> Outcome:
    """Return ``outcome`` as evidence: a 200 that is not what the API speaks is no answer.

    Only for what the pack names: a captive portal answers these with a page. To a write a page is
    no answer either, so its outcome is unknown, and nobody takes it for a booking; any other type
    passes as it came.
    """
    if not isinstance(outcome, Arrived):
        return outcome
    reply, route = outcome.reply, facts.matched.route
    is_named = route.keep or route.kind != "other"
    if not is_named or reply.body == b"" or speaks(facts.upstream.pack, reply):
        return outcome
    if facts.is_read and reply.status != 200:
        return outcome
    if not facts.is_read and not (200 <= reply.status < 300 and is_page(reply)):
        return outcome
    if isinstance(reply.body, Streamed):
        reply.body.close()
    return NoAnswer(outcome.link, "not_the_api")


def is_evidence(arrived: Arrived, facts: Facts) -> bool:
    """Whether this reply may count for or against its path: a 2xx only if it is the API's.

    A captive portal's page is no proof, and without proof nothing removes a copy (design 5.2).
    """
    reply = arrived.reply
    return not 200 <= reply.status < 300 or speaks(facts.upstream.pack, reply)


def _patience(facts: Facts) -> float:
    read = facts.is_read
    usual = facts.matched.route.patience_s if read else WRITE_PATIENCE_S
    return patience_s(facts.request.headers, read, usual)


def _plan(facts: Facts) -> Plan:
    read, patience = facts.is_read, _patience(facts)
    return Plan(unbarred(facts, facts.standing.links), read, patience, _hedges(facts),
                facts.standing.proven,
                isinstance(facts.request.body, Streamed),
                not (facts.standing.upstream_down or facts.standing.resting),
                read and facts.standing.double and bool(_hedges(facts)), facts.standing.metered,
                read and facts.may_copy, facts.standing.mute)


def unbarred(facts: Facts, links: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of ``links`` that the use of this request may burn."""
    return tuple(link for link in links if link not in facts.barred)


def _hedges(facts: Facts) -> tuple[tuple[str, float], ...]:
    """The waits before a read also starts on the next link: none where its slice is spent, nor
    where its upstream asked to be left alone."""
    links = unbarred(facts, facts.standing.links)
    spent = len(links) > 1 and links[1] in facts.unhedged
    slow = facts.standing.cause == "UPSTREAM_SLOW"  # a second send would be as slow
    if not facts.is_read or facts.standing.resting or slow or spent:
        return ()
    return facts.standing.hedge_after_s


def _outbound(facts: Facts) -> Outbound:
    request, upstream = facts.request, facts.upstream
    headers = outbound_headers(request, upstream.authority, facts.via, upstream.forwarded)
    patience = _patience(facts)
    return Outbound(request.tenant, request.upstream, request.method, request.target, headers,
                    request.body, request.chunked, CONNECT_S, patience, is_read=facts.is_read)


def _or_copy(facts: Facts, otherwise: Done, cause: str) -> Question:
    if not (facts.is_read and facts.may_copy):
        return otherwise
    key = key_of(facts.upstream.pack, facts.matched, facts.request)
    mode = facts.standing.mode
    detail = "degraded" if mode in ("NORMAL", "BACKUP") else mode.lower()
    return LookUp(facts, key, Why(cause, detail), otherwise)


def may_serve(facts: Facts, kept: Kept | None, wall: Wall, trusted: bool) -> bool:
    """Whether ``kept`` would be this request's answer if no path were left: one that is past its
    ceiling, or of unsure date, is none, and then the read had better be sent."""
    if kept is None or not facts.may_copy:
        return False
    return copy_answer(kept, facts.request, facts.matched.route, facts.leave,
                       Why("NO_ANSWER", "degraded"), facts.via, wall, trusted) is not None


def _arrived(facts: Facts, won: Won, wall: Wall) -> Question:
    reply, link = won.arrived.reply, won.arrived.link
    done = _live(facts, won)
    if not facts.is_read:
        drop = voided(facts.matched, facts.request, wall)
        return Forget(facts, drop, done) if drop else done
    if _is_outage(facts, reply):
        return _or_copy(facts, done, facts.standing.cause or "UPSTREAM_DOWN")
    if link in facts.standing.proven and facts.upstream.keep != "off":
        drop = removal(facts.upstream.pack, facts.matched, facts.request, reply, wall)
        if drop is not None:
            return Forget(facts, drop, done)
    if not facts.is_dated:
        return done
    keep = to_keep(facts.upstream.keep, facts.upstream.pack, facts.matched, facts.request, reply,
                   facts.begun_wall)
    return Store(facts, keep, done) if keep else done


def _is_outage(facts: Facts, reply: Reply) -> bool:
    """Whether this reply may trigger the copy (design 5.2): it says "not now", not "no"."""
    if reply.status in (502, 503, 504):
        return True
    if reply.status == 500:
        body = reply.body if isinstance(reply.body, bytes) else b""
        return b"OperationOutcome" not in body
    if reply.status == 429:
        wait = reply.header("Retry-After") or ""
        return wait.isdigit() and float(wait) > facts.matched.route.patience_s
    return False


def _live(facts: Facts, won: Won) -> Done:
    reply, link = won.arrived.reply, won.arrived.link
    booking = facts.matched.route.kind == "booking"
    marks = live_marks(link, facts.is_read, facts.upstream.keep != "off"
                       and facts.matched.route.keep, booking and reply.status >= 500)
    headers = answer_headers(reply.headers, facts.via) + marks
    answer = Answer(reply.status, reply.reason, headers, reply.body, reply.ending,
                    reply.ending == "close")
    return Done(answer, "live", link, won.sends)


def _no_answer_to_read(facts: Facts, lost: Lost) -> Question:
    if lost.cause == "certificate":
        return _refused(facts, 502, "security", "The clinical system's certificate is not valid. "
                        "Nothing was sent to it.", lost, "TLS_INTERCEPT")
    cause = facts.standing.cause or "NO_ANSWER"
    if lost.cause == "busy" and facts.standing.links:
        refused = _refused(facts, 503, "throttled", "Too many requests of this practice wait for "
                           "the clinical system already.", lost, cause)
    elif not facts.standing.links or not lost.left:
        refused = _refused(facts, 503, "transient", "The clinical system cannot be reached and "
                           "no copy may be served.", lost, cause)
    elif lost.cause in ("timeout", "link_down"):
        refused = _refused(facts, 504, "timeout", "The clinical system did not answer in time.",
                           lost, cause)
    else:
        refused = _refused(facts, 502, "transient", "The clinical system's answer was not whole "
                           "or not valid.", lost, cause)
    none_helps = lost.cause == "bad_reply" or lost.no_copy
    return refused if none_helps else _or_copy(facts, refused, cause)


def _no_answer_to_write(facts: Facts, lost: Lost, wall: Wall) -> Question:
    if not lost.left:
        if lost.cause == "certificate":
            return _refused(facts, 502, "security", "The clinical system's certificate is not "
                            "valid. Nothing was sent to it.", lost, "TLS_INTERCEPT")
        return _refused(facts, 503, "transient", "The clinical system cannot be reached. Nothing "
                        "was sent.", lost, facts.standing.cause or "NO_ANSWER")
    status, code = (502, "transient") if lost.cause == "bad_reply" else (504, "timeout")
    answer = refusal(status, code, "No answer came back. The clinical system may or may not have "
                     "done this: check there before trying again.", facts.via,
                     continuity="outcome=unknown")
    done = Done(answer, "unknown", lost.link, lost.sends)
    drop = voided(facts.matched, facts.request, wall)
    return Forget(facts, drop, done) if drop else done


def _refused(facts: Facts, status: int, code: str, words: str, lost: Lost, cause: str) -> Done:
    after = RETRY_AFTER_S if status in (503, 504) else None
    answered: Answered = "refused" if status == 503 else "failed"
    return Done(refusal(status, code, words, facts.via, after, cause=cause), answered, lost.link,
                lost.sends)


def _let_go(answer: Answer) -> None:
    """A copy is served instead of a streamed live answer: nobody will read that stream."""
    if isinstance(answer.body, Streamed):
        answer.body.close()
