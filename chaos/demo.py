"""``practice-gateway demo``: a whole practice on this machine, to watch and to break.

Without a story it starts everything, prints one ``curl`` line for each thing to try, and shows
links, modes and requests live until Ctrl-C. With ``--story NAME`` it plays the incident, on network
namespaces where this machine has root and can make them (kent: on relays), and says what came of
it; ``--json`` prints that as one JSON object.

Exit codes: 0 done, 1 something did not start, 2 bad usage, 3 a promise was broken.
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from chaos.__main__ import RIGS, why_not
from chaos.load import Load, percentile
from chaos.observed import Move, Sent
from chaos.picture import Mark, Span
from chaos.play import play
from chaos.report import Telling
from chaos.stories import STORIES, kent
from chaos.terminal import Keys, Panel
from chaos.traffic import Desk, round_robin
from chaos.wanted import Wanted
from chaos.watcher import StatusWatch
from chaos.weather import CaptivePortal, Cut, Heal, Reset, Slow, UpstreamGone, Verb
from chaos.world import LINKS, TENANTS, RigName, World, api_key, upstream_id, world

DONE: Final = 0
FAILED: Final = 1
BAD_USAGE: Final = 2
BROKEN: Final = 3
KENT: Final = "kent"
NAMES: Final = (KENT, *STORIES)

READS_A_SECOND: Final = 8.0
SHOW_EVERY_S: Final = 0.5
LATELY_S: Final = 5.0
SLOW_S: Final = 0.3
EVENTS_SHOWN: Final = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit code."""
    parser = argparse.ArgumentParser(prog="practice-gateway demo", description=__doc__)
    parser.add_argument("--story", metavar="NAME", help=f"one of: {', '.join(NAMES)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    asked = parser.parse_args(argv)
    refusal = _cannot(asked.story)
    if refusal:
        sys.stderr.write(f"practice-gateway demo: {refusal}\n")
        return BAD_USAGE
    with tempfile.TemporaryDirectory(prefix="practice-gateway-demo-") as home:
        try:
            if asked.story is not None:
                return asyncio.run(_story(asked.story, Path(home), asked.json))
            asyncio.run(_practice(Path(home)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.stderr.write("practice-gateway demo: stopped before the end\n")
            return FAILED
        except (RuntimeError, ExceptionGroup) as trouble:
            sys.stderr.write(f"practice-gateway demo: {_words(trouble)}\n")
            return FAILED
    return DONE


def _cannot(name: str | None) -> str:
    """Return why the story cannot be told here, or ``""``."""
    if name is None or name == KENT:
        return ""
    if name not in STORIES:
        return f"no story is called {name}; there is: {', '.join(NAMES)}"
    return "" if _rig(name) else f"{name} cannot be told here: " + "; ".join(
        f"{rig}: {why_not(rig)}" for rig in RIGS if rig in STORIES[name].rigs)


def _rig(name: str) -> RigName | None:
    """Return the rig nearest to a real network that knows the story's weather and can be had."""
    able = [rig for rig in STORIES[name].rigs if not why_not(cast(RigName, rig))]
    return cast(RigName, able[0]) if able else None


def _words(trouble: Exception) -> str:
    """The words of what went wrong first, out of the groups it may be wrapped in."""
    while isinstance(trouble, ExceptionGroup):
        trouble = trouble.exceptions[0]
    return str(trouble) if isinstance(trouble, RuntimeError) else repr(trouble)


# -- a story


async def _story(name: str, home: Path, as_json: bool) -> int:
    began = time.time()

    def progress(words: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"{time.time() - began:6.1f} s  {words}\n")

    if (this := asyncio.current_task()) is not None:  # INT cancels it already (asyncio.run)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    if name == KENT:
        document = (await kent.play(home, progress)).document
    else:
        story, rig = STORIES[name], _rig(name)
        assert rig is not None
        progress(f"{story.sentence} ({story.seconds:.0f} s on {rig})")
        document = document_of(await play(story, rig, home), time.time() - began)
    sys.stdout.write(json.dumps(document, indent=1) + "\n" if as_json else summary(document))
    return DONE if document["good"] else BROKEN


def document_of(telling: Telling, took_s: float) -> dict[str, Any]:
    """Return a telling as the JSON that ``--json`` prints: figures by phase, promises, and what
    else the story asked for and did not get (``fell_short``, "" for nothing)."""
    promises = {str(one.promise): {
        "held": {"held": True, "broken": False}.get(one.held, one.held),
        "observations": one.observations, **({"evidence": [one.words]} if one.words else {})}
        for one in telling.promises}
    return {"story": telling.name, "sentence": telling.sentence, "rig": telling.rig,
            "good": telling.is_whole(), "took_s": round(took_s, 1),
            "phases": [_figures(span, telling.told.marks) for span in telling.told.phases],
            "promises": promises, "wanted": sorted(telling.wanted),
            "fell_short": telling.trouble}


def _figures(phase: Span, marks: Sequence[Mark]) -> dict[str, Any]:
    here = [mark for mark in marks if phase.start <= mark.at < phase.end]
    kinds = Counter(mark.kind for mark in here)
    took = [mark.took_ms for mark in here]
    return {"phase": phase.words, "sent": len(here), "live": kinds["live"] + kinds["backup"],
            "backup": kinds["backup"], "copy": kinds["copy"], "refused": kinds["refused"],
            "failed": kinds["failed"], "unknown": kinds["unknown"],
            **{name: None if (figure := percentile(took, share)) is None else round(figure, 1)
               for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0))}}


def summary(document: dict[str, Any]) -> str:
    """Return a story's document as a page for a person."""
    width = max([13, *(len(one["phase"]) for one in document["phases"])]) + 1
    lines = [f"Story {document['story']}: {'good' if document['good'] else 'NOT GOOD'}, "
             f"{document['took_s']} s", "",
             f"{'phase':<{width}}{'sent':>6}{'live':>6}{'copy':>6}{'refused':>9}{'failed':>8}"
             f"{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}"]
    for one in document["phases"]:
        lines.append(f"{one['phase']:<{width}}{one['sent']:>6}{one['live']:>6}{one['copy']:>6}"
                     f"{one['refused']:>9}{one['failed']:>8}{_figure(one['p50_ms'])}"
                     f"{_figure(one['p99_ms'])}{_figure(one['max_ms'])}")
    lines.append("")
    lines += [f"{one['what']:<62}{_figure(one['figure'])} (limit {one['limit']}) "
              f"{'met' if one['met'] else 'NOT MET'}" for one in document.get("targets", [])]
    lines.append("")
    for number, one in document["promises"].items():
        word = {True: "held", False: "BROKEN"}.get(one["held"], one["held"])
        lines.append(f"promise {number:>2}: {word:<14}{one['observations']:>6} observations")
        lines += [f"            {words}" for words in one.get("evidence", [])]
    lines += [f"fell short: {document['fell_short']}"] if document.get("fell_short") else []
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:>9.1f}"


# -- the practice


@dataclass(slots=True)
class Practice:
    """The demo at work: what is known now, ready to be shown."""

    world: World
    status: StatusWatch
    sent: deque[Sent] = field(default_factory=lambda: deque(maxlen=2000))
    events: deque[str] = field(default_factory=lambda: deque(maxlen=EVENTS_SHOWN))
    weather: dict[str, str] = field(default_factory=lambda: dict.fromkeys(LINKS, "well"))
    gone: bool = False

    def note(self, words: str) -> None:
        self.events.append(f"{time.strftime('%H:%M:%S')}  {words}")

    def moved(self, move: Move) -> None:
        """Note a change that the gateway told."""
        whom = f"{move.tenant}/{move.upstream} mode" if move.what == "mode" else "active link"
        why = f"  ({move.cause})" if move.cause else ""
        self.note(f"{whom}: {move.frm or 'none'} -> {move.to or 'none'}{why}")

    async def make(self, verb: Verb) -> None:
        """Make weather, and remember it for the panel."""
        await self.world.weather(verb)
        match verb:
            case Heal(link):
                self.weather[link] = "well"
            case UpstreamGone(_, gone):
                self.gone = gone
            case Cut(link) | Reset(link) | Slow(link) | CaptivePortal(link):
                self.weather[link] = type(verb).__name__.lower()
        self.note(f"weather: {type(verb).__name__} {getattr(verb, 'link', 'supplier')}")

    async def toggle(self, what: str) -> None:
        """Break what is whole, mend what is broken: a link by its id, or ``supplier``."""
        if what == "supplier":
            await self.make(UpstreamGone("gpc", not self.gone))
        elif self.weather[what] == "well":
            await self.make(Cut(what))
        else:
            await self.make(Heal(what))

    def lines(self) -> list[str]:
        """Return the panel: links, modes, the last seconds' requests, the last events."""
        said = self.status.last
        found = ["links"]
        found += [self._link(one) for one in said.get("links", [])]
        found.append("modes")
        found += [f"  {one['tenant']}/{one['upstream']:<12} {one['mode']:<11} {one['cause']}"
                  for one in said.get("modes", [])]
        found += [f"requests of the last {LATELY_S:.0f} s", f"  {self._requests()}", "events"]
        return found + [f"  {line}" for line in self.events]

    def _link(self, one: dict[str, Any]) -> str:
        active = "<- active" if one["active"] else ""
        rtt = "" if one["rtt_ms"] is None else f"{one['rtt_ms']:.0f} ms"
        return (f"  {one['id']:<7} {one['state']:<10} {rtt:>7}  weather: "
                f"{self.weather.get(one['id'], ''):<14} {one['verdict']:<12} {active}").rstrip()

    def _requests(self) -> str:
        since = time.time() - LATELY_S
        lately = [one for one in self.sent if one.at >= since]
        ended = [one.answered for one in lately]
        counts = "  ".join(f"{word} {ended.count(word)}"
                           for word in ("live", "copy", "refused", "failed"))
        p50 = percentile([one.took_s * 1000 for one in lately], 0.5)
        longest = max((one.took_s * 1000 for one in lately), default=None)
        return counts + ("" if p50 is None or longest is None else
                         f"  median {p50:.0f} ms, longest {longest:.0f} ms")


async def _practice(home: Path) -> None:
    """Start everything and show it until Ctrl-C, ``q`` or TERM."""
    sys.stderr.write("starting the practice...\n")
    stopping = _on_signals()
    async with AsyncExitStack() as stack:
        built = await stack.enter_async_context(world("relay", home, Wanted(hold_s=5.0)))
        desks = await kent.desks_of(built)
        await built.settled()
        place = Practice(built, StatusWatch(built.status))
        place.status.told = place.moved
        load = Load(("127.0.0.1", built.port))
        load.live = place.sent.append
        stack.callback(load.close)
        control = await asyncio.start_server(
            lambda reader, writer: _control(place, reader, writer), "127.0.0.1", 0)
        stack.callback(control.close)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        sys.stdout.write(guide(built, control.sockets[0].getsockname()[1]))
        sys.stdout.flush()
        keys = stack.enter_context(Keys(sys.stdin))
        tasks = [group.create_task(place.status.run()),
                 group.create_task(_load(load, desks)),
                 group.create_task(_show(place, Panel(sys.stdout))),
                 group.create_task(_obey(place, keys, stopping))]
        await stopping.wait()
        for task in tasks:
            task.cancel()
    sys.stderr.write("\nall stopped\n")


async def _load(load: Load, desks: Sequence[Desk]) -> None:
    load.phase = "demo"
    reads = round_robin(desks)
    while True:
        await load.run(reads, READS_A_SECOND, time.time() + 60.0)
        load.sent.clear()  # the panel keeps what it shows; a demo may run for days


async def _show(place: Practice, panel: Panel) -> None:
    while True:
        if place.status.last:
            panel.show(place.lines())
        await asyncio.sleep(SHOW_EVERY_S)


async def _obey(place: Practice, keys: Keys, stopping: asyncio.Event) -> None:
    """Do what single keys ask; without a terminal there are none."""
    while True:
        match await keys.next():
            case "f":
                await place.toggle("fibre")
            case "s":
                await place.toggle("sim")
            case "u":
                await place.toggle("supplier")
            case "q":
                stopping.set()
            case _:
                continue


async def _control(place: Practice, reader: asyncio.StreamReader,
                   writer: asyncio.StreamWriter) -> None:
    """Answer one ``GET /{what}/{whom}`` of the control port (loopback)."""
    try:
        async with asyncio.timeout(5.0):
            words = (await reader.readline()).decode("latin-1").split(" ")[1].strip("/").split("/")
            while (await reader.readline()).strip():
                continue
            verb = order(words)
            if verb is not None:
                await place.make(verb)
            said = f"done: {verb}" if verb else "try " + ", ".join(ORDERS)
            writer.write(f"HTTP/1.1 {200 if verb else 404} \r\nContent-Type: text/plain\r\n"
                         f"Connection: close\r\n\r\n{said}\n".encode())
            await writer.drain()
    except (OSError, ValueError, IndexError, RuntimeError):
        writer.write(b"HTTP/1.1 400 \r\nConnection: close\r\n\r\n")
    finally:
        writer.close()


ORDERS: Final = ("/cut/LINK", "/heal/LINK", "/reset/LINK", "/slow/LINK", "/portal/LINK",
                 "/supplier/gone", "/supplier/back")


def order(words: Sequence[str]) -> Verb | None:
    """Return the weather that ``/{what}/{whom}`` asks for, None where it asks for none."""
    match list(words):
        case ["supplier", ("gone" | "back") as how]:
            return UpstreamGone("gpc", how == "gone")
        case [what, whom] if whom in LINKS:
            made: dict[str, Verb] = {
                "cut": Cut(whom), "heal": Heal(whom), "reset": Reset(whom),
                "slow": Slow(whom, SLOW_S), "portal": CaptivePortal(whom)}
            return made.get(what)
        case _:
            return None


def guide(built: World, control: int) -> str:
    """Return the URLs and one line to copy for each thing to try."""
    ods = TENANTS[0]
    base = f"http://127.0.0.1:{built.port}/{ods}/{upstream_id(ods)}"
    ask = (f"curl -si -H 'X-Gateway-Key: {api_key(ods, 'desk')}' "
           "-H 'Accept: application/fhir+json'")
    order_ = f"curl -s http://127.0.0.1:{control}"
    admin = f"http://127.0.0.1:{built.admin}"
    tries = [
        ("read a patient, live", f"{ask} {base}/Patient/3"),
        ("cut the fibre silently (key f), then read again: live over the SIM",
         f"{order_}/cut/fibre"),
        ("cut the SIM, too (key s), then read again: the copy, marked with its age",
         f"{order_}/cut/sim"),
        ("a read never made before: refused, never an empty answer", f"{ask} {base}/Patient/190"),
        ("a client that does not take copies: 503",
         f"curl -si -H 'X-Gateway-Key: {api_key(ods, 'strict')}' "
         f"-H 'Accept: application/fhir+json' {base}/Patient/3"),
        ("mend both links", f"{order_}/heal/fibre; {order_}/heal/sim"),
        ("the supplier's system goes (key u): no switch of links",
         f"{order_}/supplier/gone; sleep 5; {order_}/supplier/back"),
        ("what the gateway says of itself", f"curl -s {admin}/status"),
        ("metrics", f"curl -s {admin}/metrics")]
    if built.broker is not None and shutil.which("mosquitto_sub"):
        host, port = built.broker
        tries.append(("telemetry", f"mosquitto_sub -h {host} -p {port} -t 'gpgw/#' -v"))
    lines = ["", "The practice is open. Press f, s, u to break and mend; q or Ctrl-C to end.", ""]
    for words, line in tries:
        lines += [f"  {words}:", f"    {line}"]
    if built.broker is None:
        lines += ["  telemetry is off: neither mosquitto nor Go (for mochi-mqtt) is to be had"]
    return "\n".join([*lines, "", ""])


def _on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stopping.set)
    return stopping


if __name__ == "__main__":
    raise SystemExit(main())
