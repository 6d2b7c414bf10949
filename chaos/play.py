"""Plays one story on one rig and tells what was seen: load, weather, ``/status``, judgement."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, Final

from chaos import practice as made
from chaos.demands import Played, Sheds, unmet
from chaos.load import Ask, Load
from chaos.observed import Move, Observed, Seen, Sent, Weather
from chaos.observed import Span as Stretch
from chaos.picture import Kind, Mark, Span, Told
from chaos.promises import Broken, Judgement, Kept, judge
from chaos.report import Judged, Telling
from chaos.rig.namespaces import FIBRE, SIM
from chaos.story import Story
from chaos.traffic import SEEN_PATIENTS, Desk, people
from chaos.watcher import BrokerWatch, StatusWatch, find_marks, search
from chaos.weather import (
    Bursts,
    CaptivePortal,
    Cut,
    DnsLie,
    Flap,
    Heal,
    Intercept,
    Lose,
    MtuHole,
    OneWay,
    Reset,
    Slow,
    SwallowReplies,
    Unplug,
    UpstreamGone,
    UpstreamHung,
    UpstreamSlow,
    UpstreamStatus,
    Verb,
)
from chaos.world import LINKS, TENANTS, RigName, World, api_key, fetch, upstream_id, world

NO_BROKER: Final = ("127.0.0.1", 9)  # the watcher then dials in vain, and hears nothing
BOOKING_EACH: Final = 25  # one request in so many is a booking
VOIDED_BY_BOOKING: Final = frozenset({"appointments", "slots"})
UNREAD_A_SECOND: Final = 4.0
SETTLE_S: Final = 1.0
_WORDS: Final[dict[type, str]] = {
    Cut: "cut silently", Reset: "reset", Slow: "slow", Lose: "losing packets", Flap: "flapping",
    SwallowReplies: "replies swallowed", OneWay: "one way", Unplug: "unplugged",
    DnsLie: "DNS lies", CaptivePortal: "captive portal", UpstreamGone: "gone",
    UpstreamHung: "hangs", UpstreamSlow: "slow", MtuHole: "MTU hole", Bursts: "short bursts",
    Intercept: "intercepted"}
_LIMPS: Final = (Slow, Lose, DnsLie, MtuHole)  # a link still carries what is asked of it


class Watch(StatusWatch):
    """Looks at ``/status`` ten times a second; keeps what the links were too, and since when."""

    def __init__(self, ask: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        super().__init__(ask)
        self.states: list[tuple[float, str, str]] = []
        self.switches = 0
        self._switched_before: int | None = None
        self.verdicts: set[tuple[str, str]] = set()
        self.dead: list[tuple[float, str]] = []
        self.cleared: list[tuple[float, str]] = []
        self._links: dict[str, str] = {}
        self._dead: set[str] = set()
        self._cleared: set[str] = set()

    async def look(self) -> Mapping[str, Any]:
        """Look once; return what was said (empty where nobody answered)."""
        said = await super().look()
        if said:
            count = int(said.get("switches", 0))
            if self._switched_before is None:  # a start may take the first link that answers
                self._switched_before = count
            self.switches = max(self.switches, count - self._switched_before)
        self.verdicts |= {(each["kind"], each["link"]) for each in said.get("verdicts", ())}
        dead = {each["link"] for each in said.get("standby", ()) if each["lapsed_s"] is not None}
        dead |= {each["id"] for each in said.get("links", ()) if each["state"] == "DOWN"}
        self.dead += [(time.time(), link) for link in dead - self._dead]
        self._dead = dead
        cleared = {each["link"] for each in said.get("steering", {}).get("cleared", ())}
        was = self._cleared
        self.cleared += [(time.time(), link) for link in cleared - was]
        self._cleared = cleared
        for link in said.get("links", ()):
            if self._links.get(link["id"]) != link["state"]:
                self._links[link["id"]] = link["state"]
                self.states.append((time.time(), link["id"], link["state"]))
        return said


async def play(story: Story, rig: RigName, home: Path) -> Telling:
    """Play ``story``; return its telling. What does not start is told as trouble, not raised."""
    began = time.time()
    wanted = replace(story.wanted, hold_s=story.hold_s, windows=story.windows)
    try:
        if rig not in story.rigs:
            raise RuntimeError(f"{rig} cannot make this weather; {' or '.join(story.rigs)} can")
        async with world(rig, home, wanted) as place:
            watch = Watch(place.status)
            desks = await _desks(place)
            ear = BrokerWatch(place.broker or NO_BROKER, _marks(desks))
            load = Load(("127.0.0.1", place.port))
            began, phases = await _perform(story, place, (watch, ear), load, desks)
            observed = await _gather(place, watch, ear, load, story)
            changes = tuple(place.changes)
            caught: Mapping[str, tuple[int, int]] = getattr(place.rig, "caught", {})
    except (RuntimeError, OSError, ExceptionGroup) as stopped:
        nothing = Told(time.time() - began, (), (), (), ())
        return Telling(story.name, story.sentence, rig, nothing, (), trouble=_words(stopped))
    return _telling(story, rig, observed, began, phases, watch, changes, caught)


def _words(stopped: BaseException) -> str:
    if isinstance(stopped, BaseExceptionGroup):
        return "; ".join(_words(each) for each in stopped.exceptions)
    return str(stopped) or type(stopped).__name__


async def _desks(place: World) -> list[Desk]:
    """Return each tenant's desk, which takes copies, and the first one's program that does not."""
    _, told = await fetch(place.control, "GET", "/__practice")
    practices = json.loads(told)
    return [Desk(ods, client, api_key(ods, client), upstream_id(ods),
                 f"r4-{ods}", date.fromisoformat(practices[ods]["today"]),
                 people(practices[ods]), client == "desk")
            for ods, client in (*((ods, "desk") for ods in TENANTS), (TENANTS[0], "strict"))]


async def _perform(story: Story, place: World, onlookers: tuple[Watch, BrokerWatch], load: Load,
                   desks: Sequence[Desk]) -> tuple[float, tuple[Span, ...]]:
    """Read what is to be known, then play the phases over the load; return (start, phases)."""
    load.phase = "before"
    for desk in desks:
        for ask in desk.reads():
            await load.one(ask)
    await place.settled()
    begin = max(time.time(), place.epoch) if story.windows else time.time()
    await asyncio.sleep(max(0.0, begin - time.time()))
    spans: list[Span] = []
    async with asyncio.TaskGroup() as group:
        looking = [group.create_task(each.run()) for each in onlookers]
        group.create_task(load.run(_questions(desks, story.name), story.reads_a_second,
                                   begin + story.seconds))
        unread = desks[0].unseen()
        for phase in story.phases:
            load.phase = phase.name
            start = time.time()
            for verb in phase.verbs:
                await place.weather(verb)
            due = begin + sum(one.seconds for one in story.phases[:len(spans) + 1])
            if phase.surge_a_second:
                group.create_task(load.run(desks[0].surge(), phase.surge_a_second, due - 0.5))
            if phase.unread:
                group.create_task(load.run(unread, UNREAD_A_SECOND, due - 1.0))
            await asyncio.sleep(max(0.0, due - time.time()))
            spans.append(Span("phase", start - begin, time.time() - begin, phase.name))
        await asyncio.sleep(SETTLE_S)
        for each in looking:
            each.cancel()
    load.close()
    return begin, tuple(spans)


def _questions(desks: Sequence[Desk], seed: str) -> Iterator[Ask]:
    """Mix the programs, the first tenant's desk most; every ``BOOKING_EACH`` asks one books."""
    dice = Random(seed)
    reads = [desk.reads() for desk in (desks[0], desks[0], *desks)]
    books = itertools.cycle([desk.bookings() for desk in desks if desk.opted_in])
    for n in itertools.count(1):
        yield next(next(books)) if n % BOOKING_EACH == 0 else dice.choice(dice.choice(reads))


async def _gather(place: World, watch: Watch, ear: BrokerWatch, load: Load,
                  story: Story) -> Observed:
    status, raw = await fetch(place.control, "GET", "/__seen", within_s=20.0)
    if status != 200:
        raise RuntimeError(f"the clinical system does not tell what it saw: {status}")
    names = Seen.__dataclass_fields__
    seen = tuple(Seen(**({name: one[name] for name in names} | {"listener": link_of(one)}))
                 for one in json.loads(raw)["arrivals"])
    files, leaks = await asyncio.to_thread(search, (place.home / "state", place.log), ear.marks)
    for path in ("/metrics", "/status"):
        _, told = await fetch(("127.0.0.1", place.admin), "GET", path)
        leaks += find_marks(path, told, ear.marks)
    return Observed(sent=tuple(load.sent), seen=seen, weather=history(place.changes),
                    moves=tuple(watch.moves), leaks=tuple(leaks + ear.leaks),
                    scanned=files + 2 + ear.messages, failed_back=failed_back(story, watch),
                    failback_grace_s=story.failback_grace_s or 0.0,
                    may_be_shed=frozenset(kind for each in story.demands
                                          if isinstance(each, Sheds) for kind in each.sheds))


def link_of(arrival: Mapping[str, Any]) -> str:
    """Return the link by which a request came: the listener's on relays, the sender's address in
    namespaces, where both links lead to one listener."""
    by_address = dict(zip((FIBRE.ours, SIM.ours), LINKS, strict=True))
    return by_address.get(arrival["peer"]) or str(arrival["listener"]).rpartition("-")[2]


def failed_back(story: Story, watch: Watch) -> tuple[Stretch, ...]:
    """Return since when a backup was said to be cleared, until the next switch; nothing where the
    story does not ask for it."""
    if story.failback_grace_s is None:
        return ()
    ends = [move.at for move in watch.moves if move.what == "switch"]
    return tuple(Stretch(at, min((end for end in ends if end > at),
                                           default=float("inf")), link)
                 for at, link in watch.cleared)


def _marks(desks: Sequence[Desk]) -> tuple[tuple[str, bytes], ...]:
    """What may stand nowhere: the marked patient, the numbers of those that are read, the keys."""
    return (("a patient's name", made.MARKED_FAMILY.encode()),
            *((f"the key of {desk.tenant}/{desk.client}", desk.key.encode()) for desk in desks),
            *((f"NHS number {n} of {desk.tenant}", person.nhs.encode()) for desk in desks
              for n, person in enumerate(desk.people[:SEEN_PATIENTS])))


def history(changes: Sequence[tuple[float, Verb]]) -> tuple[Weather, ...]:
    """Return what held from each change on: links that work, upstreams that do not."""
    ill: set[str] = set()
    down: dict[str, set[str]] = {}
    told = [Weather(0.0, frozenset(LINKS))]
    for at, verb in changes:
        match verb:
            case UpstreamStatus(upstream, status):
                _mark_down(down, upstream, "status", status != 0)
            case UpstreamSlow():
                continue
            case UpstreamGone(upstream, gone):
                _mark_down(down, upstream, "gone", gone)
            case UpstreamHung(upstream, hung):
                _mark_down(down, upstream, "hung", hung)
            case Heal(link):
                ill.discard(link)
            case _ if isinstance(verb, _LIMPS):
                ill.discard(verb.link)
            case _:
                ill.add(verb.link)
        told.append(Weather(at, frozenset(LINKS) - ill,
                            frozenset(name for name, faults in down.items() if faults),
                            words=str(verb)))
    return tuple(told)


def _mark_down(down: dict[str, set[str]], upstream: str, fault: str, is_on: bool) -> None:
    faults = down.setdefault(upstream, set())
    if is_on:
        faults.add(fault)
    else:
        faults.discard(fault)


def weather_spans(changes: Sequence[tuple[float, Verb]], began: float,
                  seconds: float) -> tuple[Span, ...]:
    """Return the weather as spans, one lane for each link or upstream that had any."""
    open_: dict[str, tuple[float, str]] = {}
    spans: list[Span] = []
    for at, verb in changes:
        lane, words = _lane(verb)
        if lane in open_:
            start, was = open_.pop(lane)
            spans.append(Span(lane, start, at - began, was))
        if words:
            open_[lane] = (at - began, words)
    spans += [Span(lane, start, seconds, words) for lane, (start, words) in open_.items()]
    return tuple(sorted(spans, key=lambda span: (span.lane, span.start)))


def _lane(verb: Verb) -> tuple[str, str]:
    """Return (lane, words); no words where the verb ends what was."""
    match verb:
        case UpstreamStatus(upstream, status):
            return f"weather: {upstream}", f"answers {status}" if status else ""
        case UpstreamGone(upstream, on) | UpstreamHung(upstream, on):
            return f"weather: {upstream}", _WORDS[type(verb)] if on else ""
        case UpstreamSlow(upstream, delay_s):
            return f"weather: {upstream}", _WORDS[UpstreamSlow] if delay_s else ""
        case Heal(link):
            return f"weather: {link}", ""
        case _:
            return f"weather: {verb.link}", _WORDS[type(verb)]


def link_spans(states: Sequence[tuple[float, str, str]], began: float,
               seconds: float) -> tuple[Span, ...]:
    """Return each link's states as spans, as ``/status`` showed them."""
    spans: list[Span] = []
    for link in LINKS:
        own = [(at - began, state) for at, name, state in states if name == link]
        for (at, state), after in itertools.zip_longest(own, own[1:]):
            end = after[0] if after else seconds
            spans.append(Span(f"link {link}", max(0.0, at), end, state))
    return tuple(spans)


def mark(sent: Sent, began: float) -> Mark:
    """Return the mark of one answer; a write whose unknown outcome was said is no failure."""
    kind: Kind = "refused" if sent.answered == "shed" else sent.answered
    if kind == "live" and sent.link not in ("", LINKS[0]):
        kind = "backup"
    if not sent.is_read and sent.whole and sent.status == 504:
        kind = "unknown"
    if not sent.is_read and sent.whole and sent.status == 503:
        kind = "refused"
    return Mark(sent.at - began, sent.took_s * 1000, kind, sent.link)


def _telling(story: Story, rig: str, observed: Observed, began: float, phases: tuple[Span, ...],
             watch: Watch, changes: Sequence[tuple[float, Verb]],
             caught: Mapping[str, tuple[int, int]]) -> Telling:
    played = [sent for sent in observed.sent if sent.phase != "before"]
    seconds = max([story.seconds, *(sent.at - began for sent in played)])
    told = Told(seconds, phases, weather_spans(changes, began, seconds),
                link_spans(watch.states, began, seconds),
                tuple(mark(sent, began) for sent in played))
    judged = tuple(_judged(number, one) for number, one in judge(observed).items())
    return Telling(story.name, story.sentence, rig, told, judged, story.exercises,
                   (("switches of links", str(watch.switches)),),
                   "; ".join([*shortcomings(story, observed.sent, watch.switches),
                              *not_left(story, observed.moves, changes),
                              *unmet(story.demands, Played(
                                  played, {span.words: span.start + began for span in phases},
                                  observed.moves, frozenset(watch.verdicts), caught,
                                  tuple(watch.dead)))]))


def _judged(number: int, one: Judgement) -> Judged:
    match one:
        case Kept(observations):
            return Judged(number, "held", observations)
        case Broken(observations, evidence):
            return Judged(number, "broken", observations, "; ".join(evidence))
        case _:
            return Judged(number, "not exercised", 0)


def shortcomings(story: Story, played: Sequence[Sent], switches: int) -> list[str]:
    """Return what the story asks beyond the promises and did not get."""
    found = []
    if story.switches_max is not None and switches > story.switches_max:
        found.append(f"{switches} switches of links, at most {story.switches_max} wanted")
    cut_off = {phase.name for phase in story.phases if phase.cut_off}
    owed = _owed(played, cut_off)
    missed = [sent for sent in owed if sent.answered not in ("copy", "live")]
    if missed:
        one = missed[0]
        found.append(f"{len(missed)} of {len(owed)} known reads were not answered while cut off; "
                     f"the first: request {one.n} ({one.kind}, {one.tenant}, {one.phase}): "
                     f"{one.answered}, {one.status}, after {one.took_s:.2f} s {one.trouble}")
    if cut_off and not owed:
        found.append("no known read was asked for while cut off")
    return found


def not_left(story: Story, moves: Sequence[Move], changes: Sequence[tuple[float, Verb]]
             ) -> list[str]:
    """Return that traffic had not left for announced work before the first cut, if it should."""
    cut_at = min((at for at, verb in changes if isinstance(verb, Cut)), default=0.0)
    if not story.leaves_before or any(
            move.what == "switch" and move.cause == "MAINTENANCE" and move.at < cut_at
            for move in moves):
        return []
    return ["traffic had not left for the announced work before the link was cut"]


def _owed(played: Sequence[Sent], cut_off: set[str]) -> list[Sent]:
    """Return the reads in phases ``cut_off`` that must be answered from the copy.

    A booking voids its practice's lists of appointments and slots, as the pack says, whatever
    came of it: a list is owed only where none was under way from its last live read until now.
    """
    owed: list[Sent] = []
    live_at: dict[str, float] = {}
    bookings = [sent for sent in played if not sent.is_read]
    for sent in sorted(played, key=lambda sent: sent.at):
        if not sent.is_read:
            continue
        if sent.status == 200 and sent.answered == "live":
            live_at[sent.key] = sent.at
        elif sent.phase in cut_off and sent.opted_in and sent.key in live_at and not (
                sent.kind in VOIDED_BY_BOOKING
                and _any_booking(bookings, sent, live_at[sent.key])):
            owed.append(sent)
    return owed


def _any_booking(bookings: Sequence[Sent], read: Sent, since: float) -> bool:
    return any(one.tenant == read.tenant and one.at < read.at + read.took_s
               and one.at + one.took_s > since for one in bookings)
