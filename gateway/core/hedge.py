"""When a request may start on a second link: the race of its sends, decided step by step.

Rule 1: ``decide`` is the whole truth; ``flow/forward.py`` does what it says and tells it what came.
Rule 2: NeverLeft is free: the request goes to the next link, whatever it is.
Rule 3: NoAnswer ends a write (promise 2). A read goes on, to another link first.
Rule 4: a read may start on a second link before the first has failed (a hedge): at once when the
        gate fired on its bytes (``core/gate.py``), else when its wait is over; one whose bytes were
        acknowledged has met a slow upstream and goes to no metered link for that. A write never.
        Onto a mute link only when that is heard again, or as the last chance, also after a failure:
        with both links dead the sends that one's verdict set off over the other, 30 ms before its
        own, were what those who waited for that one waited for.
Rule 5: a link judged dead answers no more: what is under way there counts as NoAnswer.
Rule 6: where the gate fired on every usable link and no verdict is out yet, a client that accepts
        copies is not made to wait for one: ``Peek`` asks whether there is a copy (links.md §8).
        Where it fired before, and nothing was heard since, the next one does not even send.
Rule 7: a hedge and a second round must be allowed by ``core/budget.py``, which ``flow`` asks; one
        that is refused leaves the first send alone. Rescue after a failure is never refused.
Rule 8: a 401, 403 or 407 over a link without proof is evidence about that path only; a read asks
        the other path first, and if none gives a 2xx the first 4xx is the answer (design 5.2).
Rule 9: a read that may send no more while every usable link is mute waits for what comes first: the
        verdict, which refuses it with its reason, or a word over a link, where it may go again.
"""

from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from gateway.core.deadline import rest_s
from gateway.core.gate import Progress
from gateway.core.instant import Mono
from gateway.core.message import Arrived, Cause, NeverLeft, NoAnswer, Outcome

SENDS_MAX: Final = 4
"""All sends of one read together: two links, each twice."""

UNDER_WAY_MAX: Final = 2
"""Sends of one read at once (links.md section 8)."""

LAST_CHANCE_LEAST_S: Final = 1.0

ASK_AGAIN_S: Final = 1.0
"""A read whose hedge was refused asks again so soon: a purse earns one a second at least, and a
send that was acknowledged and then forgotten must not be all that was tried (promise 1)."""

ROUND_PAUSE_S: Final = 0.25
"""Wait before a link is tried a second time, so that a flapping link is not hammered."""

KNOWN_S: Final = 2.0
"""That there is no copy holds so long: a path is judged dead within it, and all who wait then are
refused at once, without a second look each (50 of them took the store 20 ms)."""

SETTLED: Final[frozenset[Cause]] = frozenset({"busy", "certificate", "bad_reply"})
"""Failures that no waiting mends."""

DOUBTFUL: Final = frozenset({401, 403, 407})


Sort: TypeAlias = Literal["first", "hedge", "round"]
"""A send beside none and after a failure elsewhere; beside another; over a link that failed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one request may be sent. ``links`` are usable ones, best first.

    ``is_read`` allows hedges and sends after NoAnswer. ``hedge_after_s`` gives by link the wait
    before a hedge; a link without entry is not hedged away from. ``once`` says that the request's
    body can be read once only, so that nothing but NeverLeft may be followed by another send.
    ``again`` allows a second round over the same links; one that only finds out whether an
    upstream is back makes none, since a client waits for it. ``duplicate`` sends a read over its
    first two links at once: a small one, while its own link works badly (links.md section 9).
    ``metered`` links are not hedged onto for a slow upstream. ``may_copy``: a copy could be kept,
    and this client takes copies. ``mute`` links are those whose gate fired on some request, with
    nothing at all heard since.
    """

    links: tuple[str, ...]
    is_read: bool
    patience_s: float
    hedge_after_s: tuple[tuple[str, float], ...] = ()
    proven: frozenset[str] = frozenset()
    once: bool = False
    again: bool = True
    duplicate: bool = False
    metered: frozenset[str] = frozenset()
    may_copy: bool = False
    mute: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One send: over ``link``, begun ``at``; ``outcome`` is None while it is under way.

    ``progress`` is what was last heard of its bytes, None while nothing was.
    """

    link: str
    at: Mono
    outcome: Outcome | None = None
    progress: Progress | None = None
    hedge: bool = False


@dataclass(frozen=True, slots=True)
class Race:
    """All sends of one request. ``usable`` are the links that may carry it now, best first."""

    plan: Plan
    begun: Mono
    usable: tuple[str, ...]
    attempts: tuple[Attempt, ...] = ()
    copy: bool | None = None
    """Whether there is a copy to fall back on; None: nobody looked yet."""
    looked: Mono | None = None
    """When somebody did."""
    mute: frozenset[str] = frozenset()
    denied: frozenset[Sort] = frozenset()
    """Sorts of sends for which there is no budget."""
    ask_again: Mono | None = None
    """When a hedge that was refused may be asked for again although nothing was heard."""

    @property
    def leaves(self) -> str:
        """The link of the last send under way, ``""`` if none is: that a hedge leaves."""
        return next((a.link for a in reversed(self.attempts) if a.outcome is None), "")

    def started(self, link: str, now: Mono, sort: Sort = "first") -> "Race":
        """Return the race with one more send under way."""
        attempt = Attempt(link, now, hedge=sort == "hedge")
        return replace(self, attempts=(*self.attempts, attempt))

    def refused(self, sort: Sort, now: Mono) -> "Race":
        """Return the race after the budget refused a send of that sort; a hedge may be asked for
        again at the next news, which may be that of an episode."""
        return replace(self, denied=self.denied | {sort}, ask_again=Mono(now + ASK_AGAIN_S))

    def ended(self, index: int, outcome: Outcome) -> "Race":
        """Return the race after send number ``index`` ended."""
        attempts = list(self.attempts)
        attempts[index] = replace(attempts[index], outcome=outcome)
        return replace(self, attempts=tuple(attempts))

    def moved(self, index: int, progress: Progress) -> "Race":
        """Return the race after the bytes of send number ``index`` were acknowledged, or not."""
        attempts = list(self.attempts)
        attempts[index] = replace(attempts[index], progress=progress)
        return replace(self, attempts=tuple(attempts), denied=self.denied - {"hedge"})

    def peeked(self, copy: bool, now: Mono) -> "Race":
        """Return the race after somebody looked whether there is a copy."""
        return replace(self, copy=copy, looked=now)

    def told(self, usable: tuple[str, ...], dead: frozenset[str],
             mute: frozenset[str] = frozenset()) -> "Race":
        """Return the race after the board changed: sends over ``dead`` links are given up."""
        attempts = tuple(
            replace(attempt, outcome=NoAnswer(attempt.link, "link_down"))
            if attempt.outcome is None and attempt.link in dead else attempt
            for attempt in self.attempts)
        heard = self.mute - mute
        return replace(self, usable=usable, attempts=attempts, mute=mute,
                       denied=frozenset[Sort]() if heard else self.denied - {"hedge"})


@dataclass(frozen=True, slots=True)
class Start:
    """Send now over ``link``. ``sort`` says whether a budget must allow it."""

    link: str
    sort: Sort = field(default="first", compare=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before ``until``, unless something is heard."""

    until: Mono


@dataclass(frozen=True, slots=True)
class Peek:
    """Look whether there is a copy: no path answers."""


@dataclass(frozen=True, slots=True)
class Won:
    """``arrived`` is the answer."""

    arrived: Arrived
    sends: int


@dataclass(frozen=True, slots=True)
class Lost:
    """No whole reply. ``left`` says whether any send may have arrived; ``cause`` of the last.
    ``no_copy``: somebody looked just now, and there is none."""

    left: bool
    cause: Cause
    sends: int
    link: str = ""
    no_copy: bool = False


Step: TypeAlias = Start | Wait | Peek | Won | Lost


def begin(plan: Plan, now: Mono) -> Race:
    """Return the race before its first send."""
    return Race(plan, now, plan.links, mute=plan.mute)


def decide(race: Race, now: Mono) -> Step:
    """Return what to do now. Called after each piece of news and when a ``Wait`` is over."""
    won = _winner(race)
    if won is not None:
        return won
    if not race.plan.is_read and any(isinstance(a.outcome, NoAnswer) for a in race.attempts):
        return _lost(race, now)
    deadline = Mono(race.begun + race.plan.patience_s)
    if now >= deadline:
        return _lost(race, now)
    under_way = tuple(a for a in race.attempts if a.outcome is None)
    if race.plan.may_copy and race.copy is not False and _no_path_answers(race, under_way):
        return _lost(race, now) if race.copy else Peek()
    link, due = _next(race, under_way, now)
    if link and due <= now:
        return Start(link, _sort(race, under_way, link, now))
    if under_way or link or _is_verdict_due(race):
        until = min(deadline, due) if link else deadline
        if "hedge" in race.denied and race.ask_again is not None:
            until = min(until, max(now, race.ask_again))
        return Wait(until)
    return _best_refusal(race) or _lost(race, now)


def _sort(race: Race, under_way: tuple[Attempt, ...], link: str, now: Mono) -> Sort:
    if under_way:
        return "first" if _is_last_chance(race, under_way, now) else "hedge"
    if link not in {a.link for a in race.attempts}:
        return "first"
    return "first" if _stale_link(race) == link else "round"


def _winner(race: Race) -> Won | None:
    """The first whole reply that settles it; a 5xx or 429 only when nothing else is under way."""
    arrived = [a for a in race.attempts if isinstance(a.outcome, Arrived)]
    if race.plan.is_read:
        arrived = [a for a in arrived if not _is_doubtful(race, a)]
    helpful = [a for a in arrived if not race.plan.is_read or _is_helpful(a)]
    waiting = any(a.outcome is None for a in race.attempts)
    chosen = helpful or ([] if waiting else arrived)
    if not chosen or not isinstance(chosen[0].outcome, Arrived):
        return None
    won = chosen[0].outcome
    return Won(won, len(race.attempts))


def _is_helpful(attempt: Attempt) -> bool:
    if not isinstance(attempt.outcome, Arrived):
        return False
    status = attempt.outcome.reply.status
    return status < 500 and status != 429


def _is_doubtful(race: Race, attempt: Attempt) -> bool:
    return (isinstance(attempt.outcome, Arrived)
            and attempt.outcome.reply.status in DOUBTFUL
            and attempt.link not in race.plan.proven)


def _best_refusal(race: Race) -> Won | None:
    for attempt in race.attempts:
        if isinstance(attempt.outcome, Arrived):
            return Won(attempt.outcome, len(race.attempts))
    return None


def _next(race: Race, under_way: tuple[Attempt, ...], now: Mono) -> tuple[str, Mono]:
    """The link to send over next and when: ``("", now)`` where there is none."""
    if len(race.attempts) >= SENDS_MAX or len(under_way) >= UNDER_WAY_MAX:
        return "", now
    if not race.attempts:
        return (race.usable[0], now) if race.usable else ("", now)
    if race.plan.once and any(not isinstance(a.outcome, NeverLeft) for a in race.attempts):
        return "", now
    if under_way and (not race.plan.is_read or any(map(_asks_for_rest, race.attempts))):
        return "", now
    tried = [attempt.link for attempt in race.attempts]
    # Our own limit on one link is no reason to spend another's bytes: it means a slow upstream.
    shut = race.plan.metered if _is_busy(race.attempts[-1].outcome) else frozenset()
    fresh = next((link for link in race.usable if link not in tried and link not in shut), "")
    if under_way and "hedge" in race.denied:
        return (fresh, _last_chance(race, under_way[-1])) if fresh and _may_spend(
            race, under_way[-1], fresh) else ("", now)
    if under_way:
        due = _hedge_due(race, under_way[-1], fresh)
        return (fresh, due) if fresh and due is not None else ("", now)
    stale = _stale_link(race)
    if stale:
        return stale, now
    if fresh:
        mute = race.plan.is_read and fresh in race.mute
        return fresh, _last_chance(race, race.attempts[-1]) if mute else now
    return _second_round(race, tried, now)


def _asks_for_rest(attempt: Attempt) -> bool:
    """Whether it was answered that the upstream wants to be left alone: nobody hedges around that,
    over a third link either (links.md section 8)."""
    outcome = attempt.outcome
    return isinstance(outcome, Arrived) and rest_s(outcome.reply) > 0.0


def _is_busy(outcome: Outcome | None) -> bool:
    return isinstance(outcome, NeverLeft) and outcome.cause == "busy"


def _hedge_due(race: Race, attempt: Attempt, onto: str) -> Mono | None:
    doubled = race.plan.duplicate and len(race.attempts) == 1
    if attempt.progress == "unacked" or doubled:
        return _last_chance(race, attempt) if onto in race.mute else attempt.at
    if not _may_spend(race, attempt, onto):
        return None
    wait = dict(race.plan.hedge_after_s).get(attempt.link)
    if wait is None:  # no second send for a slow upstream, or a slice that is spent
        return None if onto in race.plan.metered or not onto else _last_chance(race, attempt)
    return Mono(attempt.at + wait)


def _may_spend(race: Race, attempt: Attempt, onto: str) -> bool:
    """Whether a read whose bytes arrived, so whose upstream is slow, may go onto that link too."""
    return not (attempt.progress == "acked" and onto in race.plan.metered)


def _last_chance(race: Race, attempt: Attempt) -> Mono:
    """When a read that was not answered goes to the other link whatever the budget says.

    A box on the way may acknowledge for a path that is dead behind it: no gate fires then, and no
    anchor need be silent. Promise 1 wants the other path tried while there is patience left.
    """
    return Mono(attempt.at + max(LAST_CHANCE_LEAST_S, race.plan.patience_s / 3.0))


def _is_last_chance(race: Race, under_way: tuple[Attempt, ...], now: Mono) -> bool:
    return len(under_way) == 1 and now >= _last_chance(race, under_way[0])


def _no_path_answers(race: Race, under_way: tuple[Attempt, ...]) -> bool:
    """Whether the gate fired over every usable link, and nothing was heard on any since; or over
    the one that may be used, where no budget is left for another."""
    if "hedge" in race.denied and under_way and all(a.progress == "unacked" for a in under_way):
        return True
    silent = {attempt.link for attempt in under_way if attempt.progress == "unacked"} | race.mute
    asked = {attempt.link for attempt in under_way}
    return bool(race.usable) and silent >= set(race.usable) and silent >= asked


def _is_verdict_due(race: Race) -> bool:
    """Whether a read that was cut off may wait for the verdict on what is left: all of it is mute.

    It comes within A*; a plain 504 some ms before it told nobody why (8 of 700 in a dark).
    """
    if not race.attempts or not race.plan.is_read or not race.usable:
        return False
    last = race.attempts[-1].outcome
    cut_off = isinstance(last, NoAnswer | NeverLeft) and last.cause not in SETTLED
    return cut_off and race.mute >= set(race.usable)


def _stale_link(race: Race) -> str:
    """A read whose pooled connection had been closed by the peer tries the same link again; once,
    where another is left: a reset of the link closes them all, and four would use up every send."""
    last = race.attempts[-1]
    is_stale = isinstance(last.outcome, NoAnswer) and not last.outcome.fresh
    tried = [attempt.link for attempt in race.attempts]
    again = tried.count(last.link) == 1 or set(race.usable) <= set(tried)
    usable = race.plan.is_read and last.link in race.usable
    return last.link if is_stale and again and usable else ""


def _second_round(race: Race, tried: list[str], now: Mono) -> tuple[str, Mono]:
    """All links failed once. Refused replies and bad ones would be the same again."""
    settled = {a.link for a in race.attempts
               if isinstance(a.outcome, Arrived)
               or (isinstance(a.outcome, NoAnswer | NeverLeft)
                   and a.outcome.cause in ("certificate", "bad_reply"))}
    again = [link for link in race.usable
             if tried.count(link) == 1 and link not in settled and link not in race.mute]
    answered = any(isinstance(a.outcome, Arrived) for a in race.attempts)
    if not again or not race.plan.again or answered or "round" in race.denied:
        return "", now
    last = max(a.at for a in race.attempts if a.link == again[0])
    return again[0], Mono(last + ROUND_PAUSE_S)


def _lost(race: Race, now: Mono) -> Lost | Won:
    refusal = _best_refusal(race)
    if refusal is not None:
        return refusal
    outcomes = [a.outcome for a in race.attempts]
    left = any(not isinstance(outcome, NeverLeft) for outcome in outcomes)
    cause: Cause = "timeout"
    named = [o.cause for o in outcomes if isinstance(o, NeverLeft | NoAnswer)]
    if named and all(outcome is not None for outcome in outcomes):
        cause = "certificate" if "certificate" in named else named[-1]
    link = race.attempts[-1].link if race.attempts else ""
    no_copy = race.copy is False and race.looked is not None and now - race.looked <= KNOWN_S
    return Lost(left, cause if race.attempts else "link_down", len(race.attempts), link, no_copy)
