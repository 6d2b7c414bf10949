"""The peers as programs: found, configured, checked by themselves, run until the block is left.

Each is one foreground program that the bench started and stops by its pid; no service of the
machine is touched, and nothing but the bench's own folder is written.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.bench.failover.configs import Ways, envoy, haproxy, nginx
from tests.bench.rig.load import Stream
from tests.bench.rig.place import OVER, PORT
from tests.bench.rig.wire import Broken, Pool
from tests.kit.gateway import free_port

SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
READY_S: Final = 15.0
STOP_S: Final = 5.0


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SBIN)


def _envoy() -> str | None:
    """Envoy is no command on the PATH: its package carries the program."""
    spec = find_spec("envoy")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "_bin" / "envoy"
    return str(file) if file.is_file() else None


@dataclass(frozen=True, slots=True)
class Peer:
    """One kind of peer. ``{home}`` and ``{file}`` in the arguments are its folder and its
    configuration."""

    name: str
    find: Callable[[], str | None]
    file: str
    write: Callable[[Ways, str], str]
    check: tuple[str, ...]
    run: tuple[str, ...]
    version: tuple[str, ...]

    def why_not(self) -> str:
        """Return why this machine has no such peer, or ``""``."""
        return "" if self.find() else f"no {self.name} here (tools/setup.sh test brings it)"

    def configured(self, home: Path, ways: Ways) -> Path:
        """Write the configuration into ``home`` and return its file."""
        home.mkdir(parents=True, exist_ok=True)
        file = home / self.file
        file.write_text(self.write(ways, str(home)), "utf-8")
        return file

    def command(self, arguments: tuple[str, ...], home: Path) -> tuple[str, ...]:
        """Return the command line.

        Raises:
            FileNotFoundError: this machine has no such peer.
        """
        program = self.find()
        if program is None:
            raise FileNotFoundError(self.why_not())
        return program, *(each.format(home=home, file=home / self.file) for each in arguments)


PEERS: Final[dict[str, Peer]] = {each.name: each for each in (
    Peer("nginx", lambda: _program("nginx"), "nginx.conf", nginx,
         ("-p", "{home}", "-e", "stderr", "-c", "{file}", "-t"),
         ("-p", "{home}", "-e", "stderr", "-c", "{file}"), ("-v",)),
    Peer("haproxy", lambda: _program("haproxy"), "haproxy.cfg", lambda ways, _: haproxy(ways),
         ("-c", "-f", "{file}"), ("-db", "-f", "{file}"), ("-v",)),
    Peer("envoy", _envoy, "envoy.json", lambda ways, _: envoy(ways),
         ("--mode", "validate", "-c", "{file}", "--disable-hot-restart"),
         ("-c", "{file}", "--concurrency", "1", "--disable-hot-restart", "-l", "warning"),
         ("--version",)),
)}


async def said(*argv: str) -> tuple[int, str]:
    """Run a program to its end; return its exit code and all it said."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT)
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode("utf-8", "replace")


async def version(peer: Peer, home: Path) -> str:
    """Return the peer's own version, ``""`` if it tells none."""
    program, *rest = peer.command(peer.version, home)
    _, words = await said(program, *rest)
    found = re.search(r"\d+\.\d+\.\d+[\w.+-]*", words.replace(program, ""))
    return found[0] if found else ""


@asynccontextmanager
async def running(peer: Peer, home: Path, keep: bool = False) -> AsyncIterator[Stream]:
    """Run the peer where the calling thread stands, in ``edge``; yield the stream to load it with.

    Raises:
        AssertionError: it ended, or answered nothing in time; the text is what it wrote.
    """
    port = free_port()
    peer.configured(home, Ways(port, (OVER["a"], PORT), (OVER["b"], PORT), keep))
    log = home / f"{peer.name}.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *peer.command(peer.run, home), cwd=home, stdin=asyncio.subprocess.DEVNULL,
            stdout=out, stderr=out)
    try:
        ready = await _answers(port, process)
        assert ready, f"{peer.name} answers nothing:\n{log.read_text('utf-8')[-2000:]}"
        yield Stream(peer.name, port, "")
    finally:
        await _stop(process)


async def _answers(port: int, process: asyncio.subprocess.Process) -> bool:
    """Wait until a search through the peer is answered; ``False`` if that never happens."""
    pool = Pool("127.0.0.1", port)
    asked = f"GET /Slot?_id=s200-ready HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    for _ in range(round(READY_S / 0.1)):
        if process.returncode is not None:
            return False
        with suppress(OSError, Broken, TimeoutError):
            async with asyncio.timeout(1.0):
                connection = await pool.take()
                answer = await connection.ask(asked)
            connection.end()
            if answer.status == 200:
                return True
        await asyncio.sleep(0.1)
    return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    """TERM first: nginx's master takes its worker along. KILL if it does not listen."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
