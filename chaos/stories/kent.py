"""Kent in under a minute: a link dies silently inside announced work, then the other one, too.

Phases in real time: normal; the fibre is drained before its window and dies inside it without a
word; backup; both links dead; the gateway itself killed (-9) and started again meanwhile; links
heal; the supplier's system goes (Adastra), which is no reason to switch; recovery. Everything is
watched from outside and judged by the twelve promises.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeAlias

from chaos import practice as made
from chaos.load import Ask, Load, percentile
from chaos.observed import Crash, Leak, Move, Observed, Seen, Sent, Weather
from chaos.promises import LATER, PROMISES, as_json, is_good, judge
from chaos.traffic import Desk, people, round_robin
from chaos.wanted import Wanted
from chaos.watcher import (
    BrokerWatch,
    Row,
    StatusWatch,
    copies_of,
    find_marks,
    rows_of,
    search,
)
from chaos.weather import Cut, Heal, Reset, SwallowReplies, UpstreamGone, Verb
from chaos.world import (
    TENANTS,
    World,
    api_key,
    fetch,
    upstream_id,
    world,
)

WINDOW_AFTER_S: Final = 7.0
"""The window begins this long after the world's epoch, itself 5 s after its configuration."""
DRAIN_S: Final = 3.0
STALL_S: Final = 2.5
"""Until so long after both links died an answer may wait for the gateway to notice."""
LISTEN_S: Final = 5.0
READS_A_SECOND: Final = 40.0
BOOKINGS_A_SECOND: Final = 2.0
UNSEEN_EACH: Final = 8
STRICT_EACH: Final = 12
BOTH: Final = frozenset({"fibre", "sim"})
WANTED: Final = frozenset(PROMISES) - LATER

Progress: TypeAlias = Callable[[str], None]


@dataclass(slots=True)
class Told:
    """All that a run yields: what was observed, and the JSON of design 5.1."""

    observed: Observed
    document: dict[str, Any]
    good: bool


@dataclass(slots=True)
class Stage:
    """The world, the load and the onlookers while the story is played."""

    world: World
    load: Load
    status: StatusWatch
    broker: BrokerWatch | None
    desks: Sequence[Desk]
    progress: Progress
    began: float
    weather: list[Weather] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)
    phases: list[tuple[str, float]] = field(default_factory=list)
    fibre_cut_at: float = 0.0
    both_cut_at: float = 0.0
    unheard: frozenset[Row] = frozenset()  # rows that the broker had before we listened

    def now(self, words: str, links: frozenset[str], down: frozenset[str] = frozenset(),
            gateway: bool = True, at: float | None = None) -> None:
        """Note what holds from now on."""
        self.weather.append(Weather(at or time.time(), links, down, gateway, words))
        self.progress(words)

    async def make(self, *verbs: Verb) -> None:
        for verb in verbs:
            await self.world.weather(verb)

    async def phase(self, name: str, until: float, reads: Iterator[Ask],
                    bookings: Iterator[Ask] | None = None) -> None:
        """Send the load of one phase until the wall time ``until``."""
        self.load.phase = name
        self.phases.append((name, time.time()))
        self.progress(f"phase {name}")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.load.run(reads, READS_A_SECOND, until))
            if bookings is not None:
                group.create_task(self.load.run(bookings, BOOKINGS_A_SECOND, until))


async def play(home: Path, progress: Progress = lambda _: None) -> Told:
    """Play the story in a world of its own below ``home``; return what came of it.

    Raises:
        RuntimeError: something of the world did not start.
    """
    began = time.time()
    wanted = Wanted(hold_s=2.0, windows=(
        ("fibre", WINDOW_AFTER_S, WINDOW_AFTER_S + 20.0, DRAIN_S),))
    async with AsyncExitStack() as stack:
        built = await stack.enter_async_context(world("relay", home, wanted))
        desks = await desks_of(built)
        await built.settled()  # a start that took the SIM first could not be seen to leave
        marks = _marks(desks)
        load = Load(("127.0.0.1", built.port))
        stack.callback(load.close)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stage = Stage(built, load, StatusWatch(built.status), None, desks, progress, began)
        stage.status.told = lambda move: progress(
            f"{move.what} {move.tenant} {move.upstream} {move.frm or 'none'} -> "
            f"{move.to or 'none'}")
        watching = [group.create_task(stage.status.run())]
        if built.broker is not None:
            stage.broker = BrokerWatch(built.broker, marks)
            watching.append(group.create_task(stage.broker.run()))
            async with asyncio.timeout(LISTEN_S):
                await stage.broker.listening.wait()
            stage.unheard = rows_of(await built.status())
        await _play(stage, built.epoch + WINDOW_AFTER_S)
        observed = await _observe(stage, marks)
        for task in watching:
            task.cancel()
    return _told(stage, observed)


async def _play(stage: Stage, window: float) -> None:
    reads = round_robin(stage.desks)
    strict = round_robin([replace(desk, client="strict", key=api_key(desk.tenant, "strict"),
                                  opted_in=False) for desk in stage.desks])
    unseen = _now_and_then(round_robin(stage.desks, UNSEEN_EACH), strict)
    bookings = _in_turn([desk.bookings() for desk in stage.desks])
    stage.now("both links are well", BOTH)
    await stage.phase("normal", window - DRAIN_S, reads, bookings)
    await stage.phase("drain", window + 1.0, reads, bookings)
    stage.fibre_cut_at = time.time()
    await stage.make(Cut("fibre"))
    stage.now("the fibre dies silently, inside its window", frozenset({"sim"}))
    await stage.phase("maintenance", window + 5.0, reads)
    await stage.phase("backup", window + 9.0, reads)
    stage.now("both links are dead", frozenset())
    stage.both_cut_at = time.time()
    await stage.make(Cut("sim"))
    await stage.phase("both-dead", window + 17.0, unseen)
    await _crash(stage, reads)
    await stage.phase("restarted", time.time() + 4.0, unseen)
    await stage.make(Heal("fibre"), Heal("sim"))
    stage.now("both links heal", BOTH)
    await stage.phase("recovery", time.time() + 6.0, reads)
    await stage.make(UpstreamGone("gpc"))
    stage.now("the supplier's system is gone, the links are well", BOTH, frozenset({"gpc"}))
    await stage.phase("upstream-down", time.time() + 5.0, reads)
    await stage.make(UpstreamGone("gpc", gone=False))
    stage.now("the supplier's system is back", BOTH)
    await stage.phase("recovered", time.time() + 4.0, reads)
    await _lost_replies(stage, unseen, bookings)


async def _lost_replies(stage: Stage, reads: Iterator[Ask], bookings: Iterator[Ask]) -> None:
    """Bookings arrive and nobody is told: each outcome is unknown, and none is sent again.

    It befalls the link that is in use: by now the fibre, but where it was judged again for long.
    """
    link = next((one["id"] for one in stage.status.last.get("links", ()) if one["active"]), "fibre")
    await stage.make(SwallowReplies(link))
    stage.now(f"the {link} takes requests and loses every reply, then resets", BOTH - {link})

    async def reset() -> None:
        await asyncio.sleep(2.0)
        await stage.make(Reset(link))

    async with asyncio.TaskGroup() as group:
        group.create_task(reset())
        group.create_task(stage.phase("replies-lost", time.time() + 4.0, reads, bookings))


async def _crash(stage: Stage, reads: Iterator[Ask]) -> None:
    """kill -9 under load, and start again: what was acknowledged must still be there."""
    before = await stage.status.look()
    stage.now("the gateway is killed", frozenset(), gateway=False)
    await stage.world.kill()
    at = time.time()
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.phase("crash", at + 1.0, reads))
        ready_s = await stage.world.start()
    stage.now(f"the gateway is back after {ready_s:.1f} s", frozenset())
    after = await stage.status.look()
    stage.crashes.append(Crash(at, copies_of(before), copies_of(after),
                               rows_of(before) - stage.unheard, rows_of(after), ready_s))


def _now_and_then(mostly: Iterator[Ask], seldom: Iterator[Ask]) -> Iterator[Ask]:
    for n in itertools.count(1):
        yield next(seldom if n % STRICT_EACH == 0 else mostly)


def _in_turn(iterators: list[Iterator[Ask]]) -> Iterator[Ask]:
    while True:
        for each in iterators:
            yield next(each)


async def desks_of(built: World) -> list[Desk]:
    """Return each tenant's desk, with the people that the clinical system tells of."""
    _, body = await fetch(built.control, "GET", "/__practice", within_s=10.0)
    told = json.loads(body)
    return [Desk(tenant, "desk", api_key(tenant, "desk"), upstream_id(tenant), f"r4-{tenant}",
                 date.fromisoformat(told[tenant]["today"]), people(told[tenant]))
            for tenant in TENANTS]


def _marks(desks: Sequence[Desk]) -> tuple[tuple[str, bytes], ...]:
    """What must be found nowhere: the marked patient's name and numbers, and the keys."""
    marked = int(made.MARKED_PATIENT) - 1
    return (("a marked family name", made.MARKED_FAMILY.encode()),
            *(("a marked NHS number", desk.people[marked].nhs.encode()) for desk in desks),
            *(("a client's key", desk.key.encode()) for desk in desks))


async def _observe(stage: Stage, marks: tuple[tuple[str, bytes], ...]) -> Observed:
    """Put together what was seen; the rows of a crash count as kept once the broker has them."""
    _, body = await fetch(stage.world.control, "GET", "/__seen", within_s=10.0)
    seen = _seen(body)
    scanned, leaks = await _scan(stage, marks)
    crashes = tuple(stage.crashes)
    if stage.broker is not None:
        heard = frozenset(stage.broker.rows)
        crashes = tuple(Crash(one.at, one.copies_before, one.copies_after, one.rows_before,
                              heard, one.ready_after_s) for one in crashes)
    return Observed(sent=tuple(stage.load.sent), seen=seen, weather=tuple(stage.weather),
                    moves=tuple(stage.status.moves), leaks=tuple(leaks), scanned=scanned,
                    crashes=crashes)


def _seen(body: bytes) -> tuple[Seen, ...]:
    wanted = Seen.__dataclass_fields__
    return tuple(Seen(**{name: one[name] for name in wanted})
                 for one in json.loads(body)["arrivals"])


async def _scan(stage: Stage, marks: tuple[tuple[str, bytes], ...]) -> tuple[int, list[Leak]]:
    home = stage.world.home
    scanned, leaks = search((home / "state", stage.world.log), marks)
    for path in ("/metrics", "/status"):
        _, body = await fetch(("127.0.0.1", stage.world.admin), "GET", path)
        leaks += find_marks(path, body, marks)
        scanned += 1
    if stage.broker is not None:
        leaks += stage.broker.leaks
        scanned += stage.broker.messages
    return scanned, leaks


def _told(stage: Stage, observed: Observed) -> Told:
    judged = judge(observed)
    restarts = [one.at + (one.ready_after_s or 0.0) for one in observed.crashes]
    dead = both_dead(observed.sent, stage.both_cut_at, restarts)
    switches = sum(1 for span in observed.upstream_alone_at_fault() for move in observed.moves
                   if move.what == "switch" and span.start <= move.at < span.end)
    complete = dead["seen_before"]["sent"] > 0 and dead["seen_before"]["not_marked"] == 0
    left = left_before(observed.moves, stage.fibre_cut_at)
    doubted = sum(one.phase == "replies-lost" and not one.is_read and one.status == 504
                  for one in observed.sent)
    good = is_good(judged, WANTED) and complete and switches == 0 and left and doubted > 0
    document = {
        "story": "kent", "took_s": round(time.time() - stage.began, 1), "good": good,
        "phases": [phase_figures(name, at - stage.began, observed.sent)
                   for name, at in stage.phases],
        "both_links_dead": dead,
        "upstream_down_switches": switches,
        "left_before_the_window": left, "bookings_of_unknown_outcome": doubted,
        "targets": targets(dead, observed, switches),
        "mode_changes": [{"at_s": round(move.at - stage.began, 2)} | {
            name: value for name, value in asdict(move).items() if name != "at" and value != ""}
            for move in observed.moves],
        "weather": [{"at_s": round(one.at - stage.began, 2), "what": one.words}
                    for one in observed.weather],
        "crash": [{"ready_after_s": round(one.ready_after_s or 0.0, 2),
                   "copies_before": dict(one.copies_before),
                   "copies_after": dict(one.copies_after),
                   "rows_before": len(one.rows_before),
                   "rows_lost": len(one.rows_before - one.rows_after)}
                  for one in observed.crashes],
        "notice_s": observed.notice_s, "bookings": None, "promises": as_json(judged)}
    return Told(observed, document, good)


def left_before(moves: Sequence[Move], cut_at: float) -> bool:
    """Whether traffic had left a link for its announced work before it died at ``cut_at``."""
    return any(move.what == "switch" and move.cause == "MAINTENANCE" and move.at < cut_at
               for move in moves)


def phase_figures(name: str, at_s: float, sent: Sequence[Sent]) -> dict[str, Any]:
    """Return one phase's figures: requests by how they ended, and times in ms."""
    ours = [one for one in sent if one.phase == name]
    ended = [one.answered for one in ours]
    return {"phase": name, "at_s": round(at_s, 1), "sent": len(ours),
            "failed": ended.count("failed"), "live": ended.count("live"),
            "copy": ended.count("copy"), "refused": ended.count("refused"),
            **_times(ours), "longest_stall_ms": _ms(max((one.took_s for one in ours),
                                                        default=None))}


def _times(sent: Sequence[Sent]) -> dict[str, float | None]:
    took = [one.took_s for one in sent]
    return {"p50_ms": _ms(percentile(took, 0.5)), "p99_ms": _ms(percentile(took, 0.99)),
            "max_ms": _ms(max(took, default=None))}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def both_dead(sent: Sequence[Sent], cut_at: float,
              restarts: Sequence[float] = ()) -> dict[str, Any]:
    """Return how reads fared with both links dead, split ``STALL_S`` after the cut.

    A read counts as seen before when a live 200 to the same question came after the tenant's last
    booking (which voids copies) and before the cut. The reads just after a restart count with the
    later ones, and are shown by themselves too: a gateway that has just begun remembers which
    links were dead.
    """
    voided = {tenant: max((one.at + one.took_s for one in sent
                           if one.tenant == tenant and not one.is_read and one.at < cut_at),
                          default=0.0) for tenant in {one.tenant for one in sent}}
    known = {one.key for one in sent if one.is_read and one.answered == "live"
             and one.status == 200 and voided[one.tenant] < one.at
             and one.at + one.took_s < cut_at}
    everyone = [one for one in sent if one.is_read and one.phase in ("both-dead", "restarted")]
    dead = [one for one in everyone if one.opted_in]
    strict = [one for one in everyone if not one.opted_in]
    before = [one for one in dead if one.key in known]
    never = [one for one in dead if one.key not in known]
    return {"seen_before": _split(before, cut_at, restarts) | {
                "sent": len(before),
                "not_marked": sum(one.answered != "copy" or not one.marked for one in before)},
            "never_seen": _split(never, cut_at, restarts) | {
                "sent": len(never),
                "not_refused": sum(one.answered != "refused" for one in never)},
            "not_opted_in": {"sent": len(strict),
                             "not_refused": sum(one.answered != "refused" for one in strict)}}


def targets(dead: dict[str, Any], observed: Observed, switches: int) -> list[dict[str, Any]]:
    """Return the order's figures beside their limits.

    Times are also the machine's, so they are told and do not decide the exit code.
    """
    seen, never = dead["seen_before"], dead["never_seen"]
    failed = sum(one.is_read and one.answered in ("failed", "refused") and observed.path_works(
        one.at, one.at + one.took_s, one.upstream_key) for one in observed.sent)
    late, early = "later_than_2500_ms", "earlier_than_2500_ms_after_the_cut"
    rows: list[tuple[str, float | None, float]] = [
        ("safe reads failed while a path works", failed, 0),
        ("reads seen before, links dead, not answered marked", seen["not_marked"], 0),
        ("seen before, later than 2.5 s after the cut: p99 ms", seen[late]["p99_ms"], 50),
        ("seen before, earlier: max ms", seen[early]["max_ms"], 3000),
        ("never seen, not refused", never["not_refused"], 0),
        ("never seen, later than 2.5 s after the cut: p99 ms", never[late]["p99_ms"], 50),
        ("clients that take no copies, not refused", dead["not_opted_in"]["not_refused"], 0),
        ("switches while only the upstream is down", switches, 0)]
    return [{"what": what, "figure": figure, "limit": limit,
             "met": figure is not None and figure <= limit} for what, figure, limit in rows]


def _split(sent: Sequence[Sent], cut_at: float, restarts: Sequence[float]) -> dict[str, Any]:
    late = [one for one in sent if one.at > cut_at + STALL_S]
    groups = {
        "earlier_than_2500_ms_after_the_cut": [
            one for one in sent if one.at <= cut_at + STALL_S],
        "later_than_2500_ms": late,
        "of_these_within_2500_ms_of_a_restart": [
            one for one in late if any(at <= one.at <= at + STALL_S for at in restarts)]}
    return {name: {"sent": len(group), **_times(group)} for name, group in groups.items()}
