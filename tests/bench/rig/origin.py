"""An origin for measurements, as cheap as asyncio allows: a set delay, then exactly one write.

Any GET whose URL holds ``s{size}-{id}`` is answered by a Bundle of that size that names the id, so
that a body can be told from any other. A POST whose body holds ``"write":"{id}"`` is counted by
that id. ``X-From`` says from which address the request came, so by which link. Asked for
``/ledger`` it tells the counts of writes, of requests per link, and what held credentials.

Each answer is one write on a socket with TCP_NODELAY: nothing waits for anybody's delayed ACK.
Run as ``python -m tests.bench.rig.origin DELAY_S ADDRESS:PORT ... [KEY=VALUE ...]``: ``anchor`` and
``plain`` are further places, the latter without TLS where ``tls=CERT,KEY`` gives it to the others;
``answers=N`` ends each connection after so many.
"""

import asyncio
import gc
import json
import re
import ssl
import sys
from collections import Counter
from typing import Final, cast

import uvloop

ASKED: Final = re.compile(rb"s(\d{1,6})-([A-Za-z0-9_]{1,40})")
WROTE: Final = re.compile(rb'"write":"([A-Za-z0-9_]{1,40})"')
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HEAD_MAX: Final = 65536
BODY_MAX: Final = 4 << 20


STATEMENT: Final = (b'{"resourceType":"CapabilityStatement","status":"active","text":"'
                    + b"x" * 10_000 + b'"}')
"""As long as a small server's own."""


def bundle(size: int, name: bytes) -> bytes:
    """Return a search's answer of exactly ``size`` bytes (at least 120) that names ``name``."""
    head = b'{"resourceType":"Bundle","type":"searchset","id":"' + name + b'","total":0,"x":"'
    return head + b"x" * (size - len(head) - 2) + b'"}'


class Ledger:
    """What arrived: ``writes`` by id, those begun and never whole too, ``whole`` the ids of the
    others, ``links`` by the sender's address, ``asked`` those of them that were no canaries.
    ``answers`` is how many a connection gives before it ends; 0: no end."""

    def __init__(self, delay_s: float, answers: int = 0) -> None:
        self.delay_s = delay_s
        self.answers = answers
        self.hellos = 0  # of TLS: whoever hangs up after our certificate makes no connection
        self.status = 200
        self.writes: Counter[str] = Counter()
        self.whole: set[str] = set()
        self.cut = 0
        self.open: set[Origin] = set()
        self.links: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.credentials = 0

    def greeted(self, *_: object) -> None:
        """Count one TLS hello."""
        self.hellos += 1

    def told(self) -> bytes:
        """The counts as JSON. A cut that nobody tells us of leaves a write begun and open."""
        begun = [each.begun for each in self.open if each.begun]
        writes = self.writes + Counter(begun)
        return json.dumps({
            "writes": len(writes), "whole": sorted(self.whole), "cut": self.cut + len(begun),
            "duplicates": {name: count for name, count in writes.items() if count > 1},
            "links": self.links, "asked": self.asked, "credentials": self.credentials,
            "hellos": self.hellos}).encode()


class Origin(asyncio.Protocol):
    """One connection: requests one after the other, each answered after the ledger's delay."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._from = b""
        self.begun = ""  # the id of a write whose body is not whole yet
        self._answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no asyncio class
        self._ledger.open.add(self)
        self._from = str((transport.get_extra_info("peername") or ("",))[0]).encode()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            declared = LENGTH.search(head)
            length = int(declared[1]) if declared else 0
            if len(self._buffer) < end + 4 + length:
                self._note_begun(head, bytes(self._buffer[end + 4:]))
                break
            self.begun = ""
            body = bytes(self._buffer[end + 4:end + 4 + length])
            del self._buffer[:end + 4 + length]
            self._whole(head, body)
        if len(self._buffer) > HEAD_MAX + BODY_MAX:
            self._transport.abort()

    def _note_begun(self, head: bytes, part: bytes) -> None:
        """Count a write as soon as its id is here: one cut in the middle and sent again is two."""
        wrote = WROTE.search(part) if head.startswith(b"POST") and not self.begun else None
        if wrote:
            self.begun = wrote[1].decode()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ledger.open.discard(self)
        if self.begun:  # it never became whole: what began counts
            self._ledger.writes[self.begun] += 1
            self._ledger.cut += 1

    def _whole(self, head: bytes, body: bytes) -> None:
        line = head.partition(b"\r\n")[0]
        if b" /ledger" in line:
            self._answer(b"200 OK", self._ledger.told())
            return
        if b" /set?" in line:
            self._set(line)
            return
        self._ledger.links[self._from.decode()] += 1
        self._ledger.credentials += b"\r\nauthorization:" in head.lower()
        status, said = b"200 OK", b""
        asked = ASKED.search(line)
        if line.startswith(b"POST"):
            wrote = WROTE.search(body)
            name = wrote[1] if wrote else b"none"
            self._ledger.writes[name.decode()] += 1
            self._ledger.whole.add(name.decode())
            status, said = b"201 Created", bundle(200, name)
        elif asked:
            self._ledger.asked[self._from.decode()] += 1
            said = bundle(int(asked[1]), asked[2])
        else:  # the canary's page
            said = STATEMENT
        if self._ledger.status != 200:
            status = b"%d Fault" % self._ledger.status
            said = b'{"resourceType":"OperationOutcome","issue":[{"code":"transient"}]}'
        if self._ledger.delay_s:
            self._loop.call_later(self._ledger.delay_s, self._answer, status, said)
        else:
            self._answer(status, said)

    def _set(self, line: bytes) -> None:
        """Obey ``/set?delay=S&status=N``: the bench makes the upstream slow or bad."""
        for key, value in re.findall(rb"(delay|status)=([0-9.]+)", line):
            if key == b"delay":
                self._ledger.delay_s = float(value)
            else:
                self._ledger.status = int(value)
        self._answer(b"200 OK", b"{}")

    def _answer(self, status: bytes, body: bytes) -> None:
        if self._transport.is_closing():
            return
        self._answered += 1
        last = self._answered == self._ledger.answers
        self._transport.write(
            b"HTTP/1.1 %s\r\nContent-Type: application/fhir+json\r\nCache-Control: no-store\r\n"
            b"X-From: %s\r\n%sContent-Length: %d\r\n\r\n%s"
            % (status, self._from, b"Connection: close\r\n" if last else b"", len(body), body))
        if last:
            self._transport.close()


async def _hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def serve(ledger: Ledger, places: list[str], options: dict[str, list[str]]) -> None:
    """Serve at ``places`` until killed; hang up on whoever calls an ``anchor``."""
    loop, tls = asyncio.get_running_loop(), None
    for pair in options.get("tls", ()):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*pair.split(","))
        tls.sni_callback = ledger.greeted
    for place, shown in (*((each, tls) for each in places),
                         *((each, None) for each in options.get("plain", ()))):
        host, _, port = place.rpartition(":")
        await loop.create_server(lambda: Origin(ledger), host, int(port), ssl=shown, backlog=4096)
    for anchor in options.get("anchor", ()):
        host, _, port = anchor.rpartition(":")
        await asyncio.start_server(_hang_up, host, int(port))
    gc.freeze()  # no long collection may look like a stall of whom we measure
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and serve."""
    delay_s, *rest = sys.argv[1:]
    options: dict[str, list[str]] = {}
    for key, _, value in (each.partition("=") for each in rest if "=" in each):
        options.setdefault(key, []).append(value)
    ledger = Ledger(float(delay_s), int(options.get("answers", ["0"])[0]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(ledger, [each for each in rest if "=" not in each], options))


if __name__ == "__main__":
    main()
