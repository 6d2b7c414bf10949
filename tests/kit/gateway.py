"""A whole gateway as a process, for tests through its front doors.

``Site`` writes a configuration with keys, runs ``python -m gateway run`` on it, waits until it is
ready, and stops it by its pid. It knows the daemon by its command line, its ports and its files
only, as an installer does.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

ROOT: Final = Path(__file__).parents[2]
KEY: Final = "pgw_" + "k" * 43
READY_S: Final = 15.0

Table = Mapping[str, object]


def sha256(text: str) -> str:
    """Return the lower-case hex SHA-256 of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()


def free_port() -> int:
    """Return a TCP port of loopback that was free just now."""
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def toml(tables: Mapping[str, object]) -> str:
    """Return ``tables`` as TOML: tables, arrays of tables one deep within them, inline the rest."""
    lines: list[str] = []
    for name, value in tables.items():
        if isinstance(value, list):
            for each in value:
                lines += _table(f"[[{name}]]", name, each)
        else:
            lines += _table(f"[{name}]", name, value)  # type: ignore[arg-type]
    return "\n".join(lines) + "\n"


def _table(head: str, name: str, table: Table) -> list[str]:
    lines = ["", head]
    later: list[str] = []
    for key, value in table.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            for each in value:
                later += _table(f"[[{name}.{key}]]", f"{name}.{key}", each)
        else:
            lines.append(f"{key} = {_value(value)}")
    return lines + later


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_value(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return json.dumps(value)


@dataclass
class Site:
    """One configured gateway in ``folder``; ``tables`` may be changed before ``start``."""

    folder: Path
    tables: dict[str, Any]
    port: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    ready_after_s: float = 0.0
    prefix: tuple[str, ...] = ()
    _process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        self.tables.setdefault("gateway", {})
        self.tables["gateway"] = {
            "name": "B81001-a", "state_dir": str(self.folder / "state"), "clock": "always",
            "drain_s": 5.0, **self.tables["gateway"]}
        self.tables["listen"] = {"address": "127.0.0.1", "port": self.port,
                                 **self.tables.get("listen", {})}
        self.tables["admin"] = {"port": self.admin, **self.tables.get("admin", {})}

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "practice.toml"

    @property
    def log(self) -> Path:
        """What the daemon wrote to its standard error."""
        return self.folder / "gateway.log"

    @property
    def state(self) -> Path:
        """Its state directory."""
        return Path(self.tables["gateway"]["state_dir"])

    @property
    def pid(self) -> int:
        """The pid of the running daemon."""
        assert self._process is not None
        return self._process.pid

    @property
    def base(self) -> str:
        """The scheme and authority of the proxy port."""
        scheme = "https" if self.tables["listen"].get("certificate") else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    async def init_keys(self) -> None:
        """Write the configuration and make its keys, as an installer does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(toml(self.tables))
        code, said = await self.run_verb("keys", "init", "--config", str(self.config))
        assert code == 0, said

    async def run_verb(self, *argv: str) -> tuple[int, str]:
        """Run ``practice-gateway ARGV`` and return its exit code and all it said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT)
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    async def start(self, env: Mapping[str, str] | None = None) -> None:
        """Start the daemon and wait until ``/readyz`` says so."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(toml(self.tables))
        begun = time.monotonic()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.prefix, sys.executable, "-m", "gateway", "run", "--config",
                str(self.config), cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=log,
                stderr=log, env={**os.environ, **(env or {})})
        while time.monotonic() - begun < READY_S:
            if self._process.returncode is not None:
                break
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with aiohttp.ClientSession() as session, session.get(
                        f"http://127.0.0.1:{self.admin}/readyz",
                        timeout=aiohttp.ClientTimeout(total=1)) as reply:
                    if reply.status == 200:
                        self.ready_after_s = time.monotonic() - begun
                        return
            await asyncio.sleep(0.02)
        raise AssertionError(f"the gateway is not ready:\n{self.log.read_text()[-4000:]}")

    async def status(self) -> dict[str, Any]:
        """Return the ``/status`` document."""
        async with aiohttp.ClientSession() as session, session.get(
                f"http://127.0.0.1:{self.admin}/status") as reply:
            found: dict[str, Any] = await reply.json()
            return found

    async def stored(self) -> None:
        """Return when nothing waits to be stored; five seconds at most."""
        for _ in range(250):
            if not any(store["queue"] for store in (await self.status())["stores"]):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the store does not come to rest")

    async def stop(self) -> int:
        """TERM, wait for the drain, and return the exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """kill -9, as a power cut would."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(how)
        try:
            async with asyncio.timeout(20):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Site"]:
        """Make keys, run, and stop whatever happens."""
        await self.init_keys()
        await self.start()
        try:
            yield self
        finally:
            await self.stop()


def one_link_tables(
    origin_port: int, anchors: tuple[int, int], **upstream: object
) -> dict[str, Any]:
    """Return tables for one link without binding, one tenant, one client, one upstream ``up``.

    ``anchors`` are two ports that accept TCP: the link's probe targets.
    """
    return {
        "links": [link("fibre", 1, anchors)],
        "tenants": [tenant("B81001")],
        "upstreams": [{
            "id": "up", "tenants": ["B81001"], "base_url": f"http://127.0.0.1:{origin_port}/base",
            "base_urls": {"fibre": f"http://127.0.0.1:{origin_port}/base"},
            "pack": "fhir-r4", "canary": False, **upstream}],  # arrivals are counted
    }


def link(name: str, priority: int, anchors: tuple[int, int], **more: object) -> dict[str, object]:
    """Return a link table whose probe targets are two TCP ports of loopback."""
    probes = [{"id": f"anchor-{n}", "kind": "tcp", "target": f"127.0.0.1:{port}"}
              for n, port in enumerate(anchors)]
    return {"id": name, "priority": priority, **more, "probes": probes}


def tenant(ods: str, key: str = KEY, **more: object) -> dict[str, object]:
    """Return a tenant table with one client, ``desk``, that takes marked copies."""
    client = {"id": "desk", "key_sha256": sha256(key), "copies": "marked"}
    return {"ods": ods, **more, "clients": [client]}
