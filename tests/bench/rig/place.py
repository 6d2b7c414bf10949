"""Where a run takes place: namespaces, the origin and the anchors in ``up``, children, the load.

The calling thread stands in ``edge`` while a place is open, so that every socket and child of it
begins there. The origin has one address for a gateway that binds its sockets to a device
(``ORIGIN``), and two for peers that cannot: each is routed over one device only.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaos.rig.namespaces import CONTROL_UP, FIBRE, SIM, Namespaces, visit
from tests.bench.rig import delay
from tests.bench.rig.load import Stream, spec
from tests.bench.rig.records import Record, read
from tests.bench.rig.wire import Pool
from tests.kit.gateway import ROOT

ORIGIN: Final = "10.77.100.1"
OVER: Final = {"a": "10.77.100.11", "b": "10.77.100.12"}  # the origin as peers reach it
ANCHORS: Final = ("10.77.100.2", "10.77.100.3")
PORT: Final = 8080
CONTROL_PORT: Final = 8079
ANCHOR_PORT: Final = 7
ECHO_PORT: Final = 4477
SECRET: Final = "the bench's own secret: nothing real is ever signed with it"
DELAY_S: Final = 0.02
READY_S: Final = 30.0


@asynccontextmanager
async def child(*argv: str, log: Path | None = None,
                ready: bytes = b"ready\n") -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program until the block is left; return once it has said ``ready`` (``b""``: at once).

    Raises:
        AssertionError: it said something else, or nothing in time.
    """
    out = log.open("wb") if log else None
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if ready else out, stderr=out)
        try:
            if ready and process.stdout is not None:
                said = await asyncio.wait_for(process.stdout.readline(), READY_S)
                assert said == ready, f"{argv[:6]} said {said!r}"
            yield process
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
    finally:
        if out:
            out.close()


@dataclass
class Place:
    """An open place. ``rig`` makes the weather; ``port`` is where an origin tells its ledger."""

    rig: Namespaces
    home: Path
    port: int = CONTROL_PORT

    async def ledger(self) -> dict[str, Any]:
        """Return the origin's counts (see ``origin.Ledger``), over the harness's own wire."""
        return await self._tell("/ledger")

    async def set_origin(self, delay_s: float = DELAY_S, status: int = 200) -> None:
        """Make the upstream slow or bad on both links, or well again."""
        await self._tell(f"/set?delay={delay_s}&status={status}")

    async def _tell(self, path: str) -> dict[str, Any]:
        pool = Pool(CONTROL_UP, self.port)
        connection = await pool.take()
        answer = await connection.ask(f"GET {path} HTTP/1.1\r\nHost: origin\r\n\r\n".encode())
        connection.end()
        said: dict[str, Any] = json.loads(answer.body)
        return said


@asynccontextmanager
async def place(home: Path, delay_s: float = DELAY_S, far: bool = False
                ) -> AsyncIterator[Place]:
    """Build the namespaces and the origin; take all down at the end.

    ``far`` puts the relay of ``rig/delay.py`` into both wires.
    """
    services = (ORIGIN, *ANCHORS, *OVER.values())
    async with Namespaces(services=services, upstreams={"up": ORIGIN}) as rig:
        for wire in (FIBRE, SIM):
            await _must("ip", "-n", rig.name("edge"), "route", "add", f"{OVER[wire.device]}/32",
                        "via", wire.gateway, "dev", wire.device)
        places = [f"{address}:{PORT}" for address in (ORIGIN, *OVER.values())]
        anchors = [f"anchor={address}:{ANCHOR_PORT}" for address in ANCHORS]
        async with AsyncExitStack() as stack:
            if far:
                await _stretch(rig, stack)
            await stack.enter_async_context(child(*rig.inside(
                "up", sys.executable, "-m", "tests.bench.rig.origin", str(delay_s), *places,
                f"{CONTROL_UP}:{CONTROL_PORT}", *anchors)))
            for address in ANCHORS:
                await stack.enter_async_context(_anchor(rig, home, address))
            stack.enter_context(visit(rig.name("edge")))
            yield Place(rig, home)


async def _stretch(rig: Namespaces, stack: AsyncExitStack) -> None:
    for wire in (FIBRE, SIM):
        for line in delay.spliced(wire):
            await _must("ip", "-n", rig.name("up"), *line.split())
    delay.bare(rig)
    for command in delay.commands(rig):
        await stack.enter_async_context(child(*command))


def _anchor(rig: Namespaces, home: Path, address: str
            ) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """A real anchor of ours at ``address``."""
    return child(*rig.inside(
        "up", sys.executable, "-m", "gateway", "anchor", "--listen", f"{address}:{ECHO_PORT}",
        "--secret", str(secret(home))), ready=b'listening {"udp": %d}\n' % ECHO_PORT)


def secret(home: Path) -> Path:
    """Return the file with what our gateway and its anchors share."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "anchor.secret"
    file.write_text(SECRET + "\n", "utf-8")
    file.chmod(0o600)
    return file


async def _must(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv)
    assert await process.wait() == 0, argv


@dataclass
class Loaded:
    """A load that runs: where its answers come from just now, and afterwards its records."""

    links: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    def of(self, stream: str) -> list[Record]:
        """One stream's records, in the order of their dues."""
        return [one for one in self.records if one.stream == stream]

    async def calm(self, link: str, within_s: float, streams: Sequence[str] = ()) -> bool:
        """Wait until every stream's last answers came by ``link``; tell whether they did."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.links or any(  # noqa: ASYNC110  # polled: the load tells by lines
                        found != link for name, found in self.links.items()
                        if not streams or name in streams):
                    await asyncio.sleep(0.05)
                return True
        return False


@asynccontextmanager
async def loaded(home: Path, streams: Sequence[Stream]) -> AsyncIterator[Loaded]:
    """Load until the block is left, then read the records."""
    spec_file, out = _specified(home, streams)
    state = Loaded()
    out.unlink(missing_ok=True)
    async with child(sys.executable, "-m", "tests.bench.rig.load", str(spec_file), str(out)) as it:
        async with asyncio.TaskGroup() as group:
            listener = group.create_task(_listen(it, state))
            try:
                yield state
            finally:
                with suppress(ProcessLookupError):
                    it.terminate()
                await asyncio.wait_for(it.wait(), READY_S)
                listener.cancel()
        state.records = read(out)


def _specified(home: Path, streams: Sequence[Stream]) -> tuple[Path, Path]:
    home.mkdir(parents=True, exist_ok=True)
    spec_file = home / "streams.json"
    spec_file.write_text(spec(list(streams)), "utf-8")
    return spec_file, home / "records.tsv"


async def _listen(process: asyncio.subprocess.Process, state: Loaded) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        state.links = json.loads(line)
