"""Plays one story on one rig and tells what was seen: load, weather, ``/status``, judgement."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, Final

from chaos import practice as made
from chaos.load import Ask, Load
from chaos.observed import Leak, Move, Observed, Seen, Sent, Weather
from chaos.picture import Kind, Mark, Span, Told
from chaos.promises import Broken, Judgement, Kept, judge
from chaos.report import Judged, Telling
from chaos.story import Story
from chaos.traffic import SEEN_PATIENTS, Desk, people
from chaos.weather import (
    CaptivePortal,
    Cut,
    DnsLie,
    Flap,
    Heal,
    Lose,
    OneWay,
    Reset,
    Slow,
    SwallowReplies,
    Unplug,
    UpstreamGone,
    UpstreamHung,
    UpstreamStatus,
    Verb,
)
from chaos.world import LINKS, TENANTS, RigName, Wanted, World, api_key, fetch, upstream_id, world

BOOKING_EACH: Final = 25  # one request in so many is a booking
VOIDED_BY_BOOKING: Final = frozenset({"appointments", "slots"})
UNREAD_A_SECOND: Final = 4.0
LOOK_EVERY_S: Final = 0.1
SETTLE_S: Final = 1.0
_WORDS: Final[dict[type, str]] = {
    Cut: "cut silently", Reset: "reset", Slow: "slow", Lose: "losing packets", Flap: "flapping",
    SwallowReplies: "replies swallowed", OneWay: "one way", Unplug: "unplugged",
    DnsLie: "DNS lies", CaptivePortal: "captive portal", UpstreamGone: "gone",
    UpstreamHung: "hangs"}
_LIMPS: Final = (Slow, Lose, DnsLie)  # weather in which a link still carries what is asked of it


class Watch:
    """Looks at ``/status`` ten times a second; keeps what links and modes were, and when."""

    def __init__(self, place: World) -> None:
        self._place = place
        self.moves: list[Move] = []
        self.states: list[tuple[float, str, str]] = []
        self.switches = 0
        self._active = ""
        self._modes: dict[tuple[str, str], str] = {}
        self._links: dict[str, str] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look(await self._place.status(), time.time())
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self, status: dict[str, Any], now: float) -> None:
        """Note what differs from the last look; an empty status (nobody answers) tells nothing."""
        for link in status.get("links", ()):
            if self._links.get(link["id"]) != link["state"]:
                self._links[link["id"]] = link["state"]
                self.states.append((now, link["id"], link["state"]))
        for row in status.get("modes", ()):
            key = (row["tenant"], row["upstream"])
            was = self._modes.get(key, "")
            if was != row["mode"]:
                self._modes[key] = row["mode"]
                self.moves.append(Move(now, "mode", was, row["mode"], *key, row["cause"]))
        self._note_switch(status, now)

    def _note_switch(self, status: dict[str, Any], now: float) -> None:
        if "switches" not in status:
            return
        active = next((link["id"] for link in status["links"] if link["active"]), "")
        self.switches = max(self.switches, int(status["switches"]))
        if active != self._active and self._active:
            last = status.get("last_switch") or {}
            self.moves.append(Move(now, "switch", self._active, active,
                                   cause=last.get("cause", "")))
        self._active = active


async def play(story: Story, rig: RigName, home: Path) -> Telling:
    """Play ``story``; return its telling. What does not start is told as trouble, not raised."""
    began = time.time()
    try:
        async with world(rig, home, Wanted(hold_s=story.hold_s, windows=story.windows)) as place:
            watch = Watch(place)
            desks = await _desks(place)
            load = Load(("127.0.0.1", place.port))
            began, phases = await _perform(story, place, watch, load, desks)
            observed = await _gather(place, watch, load, desks)
            changes = tuple(place.changes)
    except (RuntimeError, OSError, ExceptionGroup) as stopped:
        nothing = Told(time.time() - began, (), (), (), ())
        return Telling(story.name, story.sentence, rig, nothing, (), trouble=_words(stopped))
    return _telling(story, rig, observed, began, phases, watch, changes)


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


async def _perform(story: Story, place: World, watch: Watch, load: Load,
                   desks: Sequence[Desk]) -> tuple[float, tuple[Span, ...]]:
    """Read what is to be known, then play the phases over the load; return (start, phases)."""
    load.phase = "before"
    for desk in desks:
        for ask in desk.reads():
            await load.one(ask)
    begin = max(time.time(), place.epoch) if story.windows else time.time()
    await asyncio.sleep(max(0.0, begin - time.time()))
    spans: list[Span] = []
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(watch.run())
        group.create_task(load.run(_questions(desks, story.name), story.reads_a_second,
                                   begin + story.seconds))
        unread = desks[0].unseen()
        for phase in story.phases:
            load.phase = phase.name
            start = time.time()
            for verb in phase.verbs:
                await place.weather(verb)
            due = begin + sum(one.seconds for one in story.phases[:len(spans) + 1])
            if phase.unread:
                group.create_task(load.run(unread, UNREAD_A_SECOND, due - 1.0))
            await asyncio.sleep(max(0.0, due - time.time()))
            spans.append(Span("phase", start - begin, time.time() - begin, phase.name))
        await asyncio.sleep(SETTLE_S)
        looking.cancel()
    load.close()
    return begin, tuple(spans)


def _questions(desks: Sequence[Desk], seed: str) -> Iterator[Ask]:
    """Mix the programs, the first tenant's desk most; every ``BOOKING_EACH`` asks one books."""
    dice = Random(seed)
    reads = [desk.reads() for desk in (desks[0], desks[0], *desks)]
    books = itertools.cycle([desk.bookings() for desk in desks if desk.opted_in])
    for n in itertools.count(1):
        yield next(next(books)) if n % BOOKING_EACH == 0 else dice.choice(dice.choice(reads))


async def _gather(place: World, watch: Watch, load: Load,
                  desks: Sequence[Desk]) -> Observed:
    status, raw = await fetch(place.control, "GET", "/__seen", within_s=20.0)
    if status != 200:
        raise RuntimeError(f"the clinical system does not tell what it saw: {status}")
    seen = tuple(Seen(one["at"], one["listener"], one["system"], one["ods"], one["method"],
                      one["token"], one["status"], one["reply_sha"], one["took_effect"])
                 for one in json.loads(raw)["arrivals"])
    _, metrics = await fetch(("127.0.0.1", place.admin), "GET", "/metrics")
    status_text = json.dumps(await place.status()).encode()
    marks = _marks(desks)
    leaks, scanned = await asyncio.to_thread(
        search, place.home, marks, {"metrics": metrics, "status": status_text})
    return Observed(sent=tuple(load.sent), seen=seen, weather=history(place.changes),
                    moves=tuple(watch.moves), leaks=leaks, scanned=scanned)


def _marks(desks: Sequence[Desk]) -> dict[str, bytes]:
    """What may stand nowhere: the marked patient, the numbers of those that are read, the keys."""
    marks = {"a patient's name": made.MARKED_FAMILY.encode()}
    for desk in desks:
        marks[f"the key of {desk.tenant}/{desk.client}"] = desk.key.encode()
        marks |= {f"NHS number {n} of {desk.tenant}": person.nhs.encode()
                  for n, person in enumerate(desk.people[:SEEN_PATIENTS])}
    return marks


def search(home: Path, marks: dict[str, bytes],
           texts: dict[str, bytes]) -> tuple[tuple[Leak, ...], int]:
    """Search the gateway's files, their names and what it told for marks; return (leaks, texts)."""
    files = [path for path in (home / "state").rglob("*") if path.is_file()]
    places = dict(texts)
    places["file names"] = "\n".join(str(path) for path in files).encode()
    for path in (*files, home / "gateway.log"):
        with suppress(OSError):  # a journal file of SQLite may go while we look
            places[path.name] = path.read_bytes()
    leaks = tuple(Leak(where, mark) for where, text in places.items()
                  for mark, value in marks.items() if value in text)
    return leaks, len(places)


def history(changes: Sequence[tuple[float, Verb]]) -> tuple[Weather, ...]:
    """Return what held from each change on: links that work, upstreams that do not."""
    ill: set[str] = set()
    down: dict[str, set[str]] = {}
    told = [Weather(0.0, frozenset(LINKS))]
    for at, verb in changes:
        match verb:
            case UpstreamStatus(upstream, status):
                _mark_down(down, upstream, "status", status != 0)
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
    kind: Kind = sent.answered
    if kind == "live" and sent.link not in ("", LINKS[0]):
        kind = "backup"
    if not sent.is_read and sent.whole and sent.status == 504:
        kind = "unknown"
    if not sent.is_read and sent.whole and sent.status == 503:
        kind = "refused"
    return Mark(sent.at - began, sent.took_s * 1000, kind, sent.link)


def _telling(story: Story, rig: str, observed: Observed, began: float, phases: tuple[Span, ...],
             watch: Watch, changes: Sequence[tuple[float, Verb]]) -> Telling:
    played = [sent for sent in observed.sent if sent.phase != "before"]
    seconds = max([story.seconds, *(sent.at - began for sent in played)])
    told = Told(seconds, phases, weather_spans(changes, began, seconds),
                link_spans(watch.states, began, seconds),
                tuple(mark(sent, began) for sent in played))
    judged = tuple(_judged(number, one) for number, one in judge(observed).items())
    return Telling(story.name, story.sentence, rig, told, judged, story.exercises,
                   (("switches of links", str(watch.switches)),),
                   "; ".join(shortcomings(story, observed.sent, watch.switches)))


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
