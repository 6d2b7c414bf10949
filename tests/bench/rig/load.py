"""The open-loop load: each request is sent when due, whatever became of those before.

One process for all parties of a run, so that their schedules interleave and nobody's answers
disturb another's more. ``python -m tests.bench.rig.load SPEC.json OUT.tsv`` begins at once, prints
``ready``, and on TERM waits for what is in flight and writes the records. SPEC is a list of streams
as ``Stream``; a client gives up after ten seconds. Four times a second a line of JSON tells by
which link each stream's last 25 answers came, ``""`` where they differ: the bench waits for calm
by it.
"""

import asyncio
import gc
import json
import random
import signal
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import uvloop

from tests.bench.rig.records import Kind, Record, write
from tests.bench.rig.wire import Answer, Broken, Pool

Asking: TypeAlias = Literal["search", "read", "seen", "write"]
CLIENT_S: Final = 10.0
LAST: Final = 25  # answers in a row by one link that are called calm
TELL_S: Final = 0.25
SLOW_S: Final = 0.1  # an answer slower than this keeps what the party said of it
SEEN: Final = 200  # different searches of a stream of "seen": each comes again every 2 s
SIZES: Final[dict[Asking, int]] = {"search": 2000, "read": 30_000, "seen": 2000, "write": 200}
WRITE_BYTES_MAX: Final = 60_000
WIRES: Final = {b"10.77.1.2": "a", b"10.77.2.2": "b"}  # our address on each wire, as chaos has it


@dataclass(frozen=True, slots=True)
class Stream:
    """What is asked of one party: ``prefix`` is the path before what the origin understands.

    ``asking``: distinct searches of 2 kB, distinct reads of 30 kB, searches seen before, or writes
    of random length with an id of their own. ``head`` are header lines, each ended by CRLF.
    """

    name: str
    port: int
    prefix: str
    asking: Asking = "search"
    rate: float = 100.0
    head: str = ""
    host: str = "127.0.0.1"


def request(stream: Stream, number: int) -> bytes:
    """Return the bytes of request ``number``; the same number gives the same bytes."""
    if stream.asking == "write":
        return _booking(stream, number)
    name = "Slot" if stream.asking != "read" else "AllergyIntolerance"
    target = f"{stream.prefix}/{name}?patient=p1&_id={expected_id(stream, number)}"
    return (f"GET {target} HTTP/1.1\r\nHost: {stream.host}:{stream.port}\r\n"
            f"Accept: application/fhir+json\r\n{stream.head}\r\n").encode()


def _booking(stream: Stream, number: int) -> bytes:
    filler = "x" * random.Random(number).randrange(WRITE_BYTES_MAX)
    body = (f'{{"resourceType":"Appointment","write":"{write_id(stream.name, number)}",'
            f'"comment":"{filler}"}}').encode()
    return (f"POST {stream.prefix}/Appointment HTTP/1.1\r\nHost: {stream.host}:{stream.port}\r\n"
            f"Content-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n"
            f"{stream.head}\r\n").encode() + body


def write_id(stream: str, number: int) -> str:
    """The id by which the origin counts a write of the stream of that name."""
    return f"{stream.replace('-', '_')}_{number}"


def expected_id(stream: Stream, number: int) -> str:
    """What the URL asks: the size and the id that the answer must name."""
    which = number % SEEN if stream.asking == "seen" else number
    return f"s{SIZES[stream.asking]}-{stream.name.replace('-', '_')}_{which}"


def judged(stream: Stream, number: int, answer: Answer) -> tuple[Kind, str]:
    """Return what ``answer`` is, and why where it has failed."""
    said = answer.head.get(b"continuity", b"")
    if stream.asking == "write":
        name = write_id(stream.name, number)
        whole = answer.status == 201
    else:
        asked = expected_id(stream, number)
        name = asked.partition("-")[2]
        whole = answer.status == 200 and len(answer.body) == SIZES[stream.asking]
    if whole and b'"id":"%s"' % name.encode() in answer.body:
        return ("live", "") if not said or b"class=live" in said else ("copy", "")
    if answer.status == 503 and said:
        return "refused", ""
    if answer.status == 504 and b"outcome=unknown" in said:
        return "unknown", ""
    if answer.status == 200 and b"class=" in said and b"class=live" not in said:
        return ("copy", "") if name.encode() in answer.body else ("failed", "another's copy")
    return "failed", f"status {answer.status}, {len(answer.body)} bytes, {said.decode()[:80]}"


class Load:
    """All streams at once, until told to stop."""

    def __init__(self, streams: list[Stream]) -> None:
        self._streams = streams
        self._pools = {stream.name: Pool(stream.host, stream.port) for stream in streams}
        self.records: list[Record] = []
        self._last = {stream.name: deque[str](maxlen=LAST) for stream in streams}

    def links(self) -> dict[str, str]:
        """Return for each stream the link of all its last answers; ``""`` where not all agree."""
        return {name: last[0] if len(last) == LAST and len(set(last)) == 1 else ""
                for name, last in self._last.items()}

    async def run(self, until: asyncio.Event) -> None:
        """Send until ``until``, then wait for what is in flight."""
        async with asyncio.TaskGroup() as group:
            drivers = [group.create_task(self._drive(stream, place, group))
                       for place, stream in enumerate(self._streams)]
            drivers.append(group.create_task(self._tell()))
            await until.wait()
            for driver in drivers:
                driver.cancel()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            sys.stdout.write(json.dumps(self.links()) + "\n")
            sys.stdout.flush()

    async def _drive(self, stream: Stream, place: int, group: asyncio.TaskGroup) -> None:
        began = time.monotonic() + place / (stream.rate * len(self._streams))
        number = 0
        while True:
            due = began + number / stream.rate
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            group.create_task(self._ask(stream, number, due))
            number += 1

    async def _ask(self, stream: Stream, number: int, due: float) -> None:
        sent_s, answer = 0.0, None
        kind: Kind
        try:
            async with asyncio.timeout(CLIENT_S):
                connection = await self._pools[stream.name].take()
                sent_s = time.monotonic() - due
                try:
                    answer = await connection.ask(request(stream, number))
                except asyncio.CancelledError:
                    connection.end()
                    raise
                self._pools[stream.name].give(connection)
            took_s = time.monotonic() - due
            kind, detail = judged(stream, number, answer)
            if took_s > SLOW_S and not detail:
                detail = answer.head.get(b"cache-status", b"").decode("latin-1")
        except TimeoutError:
            kind, detail, took_s = "failed", "client gave up", time.monotonic() - due
        except (OSError, Broken) as error:
            kind, detail, took_s = "failed", str(error)[:80], time.monotonic() - due
        link = "" if answer is None or kind == "copy" else WIRES.get(
            answer.head.get(b"x-from", b""), "")
        self._last[stream.name].append(link if kind != "copy" else kind)
        self.records.append(Record(
            stream.name, number, round(due, 6), round(sent_s, 6), round(took_s, 6), kind, link,
            answer.status if answer else 0, detail.replace("\t", " ").replace("\n", " ")))


def spec(streams: list[Stream]) -> str:
    """Return the JSON that ``main`` reads."""
    return json.dumps([asdict(stream) for stream in streams])


async def _until_told(streams: list[Stream], out: Path) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    load = Load(streams)
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await load.run(told)
    write(out, load.records)


def main() -> None:
    """Load until TERM."""
    spec_file, out = sys.argv[1:]
    streams = [Stream(**each) for each in json.loads(Path(spec_file).read_text("utf-8"))]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_told(streams, Path(out)))


if __name__ == "__main__":
    main()
