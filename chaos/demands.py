"""What a story demands beyond the promises, each demand a pure function of what was played.

The promises hold in any weather; a demand says what *this* weather must have done, so that a story
which proves nothing (the hole never dug, the surge never felt) falls short instead of passing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from chaos.load import percentile
from chaos.observed import Move, Sent


@dataclass(frozen=True, slots=True)
class NoneFails:
    """Every request is answered live: no failure, no refusal; at most ``unknown`` writes that were
    under way when the weather came are told, as 504, that their outcome is not known."""

    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Leaves:
    """From ``after_s`` into ``phase``, at most ``share`` of its answers come over ``link``."""

    phase: str
    link: str
    after_s: float
    share: float = 0.05


@dataclass(frozen=True, slots=True)
class Carries:
    """Over ``link``, ``phase`` has at least ``times`` live answers of ``bytes`` or more."""

    phase: str
    link: str
    times: int
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Ramps:
    """In ``phase`` what is asked goes from ``before`` to ``after`` bit by bit: for ``seconds`` at
    least both answer, ``times`` each."""

    phase: str
    before: str
    after: str
    seconds: float
    times: int = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """``kind`` is told of ``link``."""

    kind: str
    link: str


@dataclass(frozen=True, slots=True)
class NeverActive:
    """``link`` is never made the active one in ``phase``, and from ``after_s`` on no answer comes
    by it: connections that were open before an interception go on being honest until it is seen."""

    phase: str
    link: str
    after_s: float = 2.5


@dataclass(frozen=True, slots=True)
class NothingTold:
    """The interceptor of ``link`` was asked something, and no request or credential reached it."""

    link: str


@dataclass(frozen=True, slots=True)
class Sheds:
    """In ``phase`` overload refuses ``sheds`` (kinds), never ``spares``, and answers all in time.

    A refusal is 503 that says so, with when to come back; what is answered or refused takes at
    most ``p99_s``.
    """

    phase: str
    sheds: tuple[str, ...]
    spares: tuple[str, ...]
    p99_s: float


@dataclass(frozen=True, slots=True)
class Dead:
    """Within ``within_s`` of ``phase`` ``link`` is shown to be DOWN, or its proof as lapsed."""

    phase: str
    link: str
    within_s: float


Demand: TypeAlias = (NoneFails | Leaves | Carries | Ramps | Verdict | NeverActive | NothingTold
                     | Sheds | Dead)


@dataclass(frozen=True, slots=True)
class Played:
    """What demands are judged by. ``verdicts`` are (kind, link); ``caught`` is, by link, what an
    interceptor was sent: how often it was spoken to, and how often it could read a request.
    ``dead`` are (when, link) at which a link was first shown to be so."""

    sent: Sequence[Sent]
    phase_starts: Mapping[str, float]
    moves: Sequence[Move] = ()
    verdicts: frozenset[tuple[str, str]] = frozenset()
    caught: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    dead: Sequence[tuple[float, str]] = ()


def unmet(demands: Sequence[Demand], played: Played) -> list[str]:
    """Return in words what was demanded and did not come."""
    return [words for demand in demands for words in _unmet(demand, played)]


def _unmet(demand: Demand, played: Played) -> list[str]:
    match demand:
        case NoneFails(unknown):
            return _none_fails(played, unknown)
        case Leaves():
            return _leaves(demand, played)
        case Carries(phase, link, times, size):
            found = sum(one.link == link and one.answered == "live" and one.body_bytes >= size
                        for one in _in(played, phase))
            return [] if found >= times else [
                f"{found} live answers of {size} bytes or more came over {link} in {phase}, at "
                f"least {times} wanted"]
        case Ramps():
            return _ramps(demand, played)
        case Verdict(kind, link):
            return [] if (kind, link) in played.verdicts else [
                f"{kind} was never told of {link}, only " + ", ".join(
                    sorted(" of ".join(each) for each in played.verdicts))]
        case NeverActive():
            return _never_active(demand, played)
        case NothingTold(link):
            asked, read = played.caught.get(link, (0, 0))
            if not asked:
                return [f"nothing ever spoke to the interceptor of {link}: it proves nothing"]
            return [f"the interceptor of {link} read {read} requests"] if read else []
        case Sheds():
            return _sheds(demand, played)
        case Dead(phase, link, within_s):
            start = played.phase_starts.get(phase, 0.0)
            return [] if any(name == link and start <= at <= start + within_s
                             for at, name in played.dead) else [
                f"{link} was not shown to be dead within {within_s} s of {phase}"]
        case _:
            assert_never(demand)


def _in(played: Played, phase: str) -> list[Sent]:
    return [one for one in played.sent if one.phase == phase]


def _name(one: Sent) -> str:
    return (f"request {one.n} ({one.kind}, {one.tenant}, {one.phase}): {one.answered}, "
            f"{one.status}, after {one.took_s:.2f} s {one.trouble}").rstrip()


def _none_fails(played: Played, unknown: int) -> list[str]:
    in_doubt = [one for one in played.sent
                if one.whole and one.status == 504 and not one.is_read][:unknown]
    bad = [one for one in played.sent if one.answered != "live" and one not in in_doubt]
    return [f"{len(bad)} of {len(played.sent)} requests were not answered live; the first: "
            f"{_name(bad[0])}"] if bad else []


def _leaves(demand: Leaves, played: Played) -> list[str]:
    since = played.phase_starts.get(demand.phase, 0.0) + demand.after_s
    late = [one for one in _in(played, demand.phase) if one.at >= since]
    over = sum(one.link == demand.link for one in late)
    if not late:
        return [f"nothing was sent in {demand.phase} after {demand.after_s} s"]
    return [f"{over} of {len(late)} answers still came over {demand.link} from "
            f"{demand.after_s} s into {demand.phase}"] if over > demand.share * len(late) else []


def _ramps(demand: Ramps, played: Played) -> list[str]:
    live = [one for one in _in(played, demand.phase) if one.answered == "live"]
    since = min((one.at for one in live if one.link == demand.after), default=float("inf"))
    until = max((one.at for one in live if one.link == demand.before), default=float("-inf"))
    mixed = Counter(one.link for one in live if since <= one.at <= until)
    whole = until - since >= demand.seconds and all(
        mixed[link] >= demand.times for link in (demand.before, demand.after))
    beside_s = max(0.0, until - since)
    return [] if whole else [
        f"{demand.before} and {demand.after} answered side by side for {beside_s:.1f} s of "
        f"{demand.phase} ({mixed[demand.before]} and {mixed[demand.after]} times), wanted "
        f"{demand.seconds} s and {demand.times} times each"]


def _never_active(demand: NeverActive, played: Played) -> list[str]:
    phase, link = demand.phase, demand.link
    start = played.phase_starts.get(phase, 0.0)
    end = min((at for at in played.phase_starts.values() if at > start), default=float("inf"))
    moved = [move for move in played.moves
             if move.what == "switch" and move.to == link and start <= move.at < end]
    came = [one for one in _in(played, phase)
            if one.link == link and one.at > start + demand.after_s]
    return ([f"{link} was made the active link in {phase}"] if moved else []) + (
        [f"{len(came)} answers came over {link} in {phase}; the first: {_name(came[0])}"]
        if came else [])


def _sheds(demand: Sheds, played: Played) -> list[str]:
    here = _in(played, demand.phase)
    refused = [one for one in here if one.status == 503]
    found = [] if any(one.kind in demand.sheds for one in refused) else [
        f"no {' or '.join(demand.sheds)} was refused in {demand.phase}: it was no surge"]
    wrong = [one for one in here if one.kind in demand.spares and one.answered != "live"]
    if wrong:
        found.append(f"{len(wrong)} that go first were not answered live; the first: "
                     f"{_name(wrong[0])}")
    mute = [one for one in refused if one.answered != "shed"]
    if mute:
        found.append(f"{len(mute)} refusals did not say when to come back; the first: "
                     f"{_name(mute[0])}")
    p99_s = percentile([one.took_s for one in here], 0.99) or 0.0
    if p99_s > demand.p99_s:
        found.append(f"p99 was {p99_s:.2f} s in {demand.phase}, at most {demand.p99_s} s wanted")
    return found
