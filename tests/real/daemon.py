"""Runs the real daemon for a test: a configuration, a process, its front doors, its end.

Nothing here knows the gateway's inside: it writes TOML, starts ``python -m gateway run`` and
waits for ``/readyz``. Given a ``prefix`` (``ip netns exec NAME``) it runs in a namespace.
"""

import asyncio
import hashlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

READY_S: Final = 20.0
STOP_S: Final = 35.0  # the drain's 30 s and a little
KEY: Final = "test-key-0123456789abcdef0123456789abcdef"
KEY_SHA256: Final = hashlib.sha256(KEY.encode()).hexdigest()
GATEWAY_KEY: Final = "X-Gateway-Key"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running gateway: ``pid``, its proxy's and its admin's port, its log file, its config."""

    pid: int
    port: int
    admin: int
    log: Path
    config: Path


def free_port() -> int:
    """Return a TCP port of loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def base_config(state: Path, port: int, admin: int, address: str = "127.0.0.1") -> str:
    """Return the tables every test needs: device, listener, admin port, one tenant, no MQTT."""
    return f'''
[gateway]
name = "test-device"
state_dir = "{state}"
clock = "always"

[listen]
address = "{address}"
port = {port}
hosts = ["localhost"]
certificate = ""
key = ""

[admin]
address = "127.0.0.1"
port = {admin}

[mqtt]
host = ""

[[tenants]]
ods = "B81001"
requests_max = 256

[[tenants.clients]]
id = "booking"
key_sha256 = "{KEY_SHA256}"
copies = "never"
'''


async def admin_get(port: int, path: str) -> tuple[int, bytes]:
    """Ask the admin port once; return (status, body). Raises OSError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                     "Connection: close\r\n\r\n".encode())
        raw = await reader.read()
    finally:
        writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


@asynccontextmanager
async def gateway(config: str, home: Path, port: int, admin: int,
                  prefix: tuple[str, ...] = ()) -> AsyncIterator[Daemon]:
    """Run the gateway with ``config`` in ``home`` until the block is left; then TERM, then KILL.

    Raises:
        AssertionError: it was not ready in time; the message holds its log.
    """
    path, log = _written(config, home), home / "gateway.log"
    await _run(*prefix, sys.executable, "-m", "gateway", "keys", "init", "--config", str(path))
    with log.open("wb") as out:
        child = await asyncio.create_subprocess_exec(
            *prefix, sys.executable, "-m", "gateway", "run", "--config", str(path),
            stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        await _ready(child, admin, log)
        yield Daemon(child.pid, port, admin, log, path)
    finally:
        await _stop(child)


async def _run(*argv: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT)
    out, _ = await child.communicate()
    assert child.returncode == 0, out.decode(errors="replace")


async def _ready(child: asyncio.subprocess.Process, admin: int, log: Path) -> None:
    for _ in range(int(READY_S / 0.05)):
        if child.returncode is not None:
            break
        with suppress(OSError, IndexError, ValueError):
            if (await admin_get(admin, "/readyz"))[0] == 200:
                return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the gateway is not ready:\n{_tail(log)}")


def _written(config: str, home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    path = home / "gateway.toml"
    path.write_text(config, "utf-8")
    return path


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-4000:]


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(child.wait(), STOP_S)
        except TimeoutError:
            child.kill()
            await child.wait()
