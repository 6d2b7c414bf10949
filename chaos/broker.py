"""An MQTT broker for the demo: whatever this machine has, or can have without installing it.

In this order (telemetry.md): mosquitto of the PATH; mosquitto unpacked from its Debian packages
under ``.tools/`` (no root, no system service); mochi-mqtt through the Go toolchain; none, and then
the demo says so. A broker that cannot do MQTT 5 with a delayed will is no choice.
"""

import asyncio
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PACKAGES: Final = ("mosquitto", "libmosquitto1", "libcjson1", "libdlt2", "libwrap0")
MOCHI: Final = "github.com/mochi-mqtt/server/v2/cmd@v2.7.9"
FETCH_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Program:
    """A broker that can be started: its name, its path and what its environment needs."""

    name: str
    path: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def argv(self, host: str, port: int, home: Path) -> list[str]:
        """Return the command that listens on ``host:port``, plain and open; writes its config."""
        if self.name == "mochi":
            return [str(self.path), "--tcp", f"{host}:{port}", "--ws", f"{host}:0",
                    "--info", f"{host}:0"]
        config = home / "mosquitto.conf"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f"listener {port} {host}\nallow_anonymous true\npersistence false\n"
                          "user root\nset_tcp_nodelay true\n", "utf-8")
        return [str(self.path), "-c", str(config)]


def installed(tools: Path, path: str | None = None) -> Program | None:
    """Return the broker that is here already, None where there is none.

    ``path`` stands for the PATH (its default); Debian keeps mosquitto in ``/usr/sbin``, which is
    often not on it.
    """
    wanted = f"{os.environ.get('PATH', '')}:/usr/sbin" if path is None else path
    if (found := shutil.which("mosquitto", path=wanted)) is not None:
        return Program("mosquitto", Path(found))
    unpacked = tools / "mosquitto" / "usr" / "sbin" / "mosquitto"
    if unpacked.exists():
        libraries = tools / "mosquitto" / "usr" / "lib"
        triplet = f"{platform.machine()}-linux-gnu"
        return Program("mosquitto", unpacked,
                       {"LD_LIBRARY_PATH": f"{libraries / triplet}:{libraries}"})
    mochi = tools / "mochi"
    return Program("mochi", mochi) if mochi.exists() else None


async def find(tools: Path) -> Program | None:
    """Return a broker, fetching one under ``tools`` if need be; None where none can be had."""
    found = installed(tools)
    if found is not None:
        return found
    for fetch in (unpack_mosquitto, build_mochi):
        if await fetch(tools) and (found := installed(tools)) is not None:
            return found
    return None


async def unpack_mosquitto(tools: Path) -> bool:
    """Download mosquitto's Debian packages and unpack them under ``tools/mosquitto``."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return False
    here = tools / "mosquitto"
    here.mkdir(parents=True, exist_ok=True)
    if not await _ran(["apt-get", "download", *PACKAGES], here):
        return False
    packages = sorted(here.glob("*.deb"))
    return bool(packages) and all(
        [await _ran(["dpkg", "-x", str(package), str(here)], here) for package in packages])


async def build_mochi(tools: Path) -> bool:
    """Build mochi-mqtt with the Go toolchain as ``tools/mochi``."""
    if shutil.which("go") is None:
        return False
    bin_ = (tools / "go-bin").resolve()
    bin_.mkdir(parents=True, exist_ok=True)
    if not await _ran(["go", "install", MOCHI], tools, {"GOBIN": str(bin_)}):
        return False
    built = bin_ / "cmd"
    if built.exists():
        built.replace(tools / "mochi")
    return (tools / "mochi").exists()


async def _ran(argv: Sequence[str], where: Path, env: Mapping[str, str] | None = None) -> bool:
    """Run a program to its end, ``FETCH_S`` at most; return whether it did well."""
    child = await asyncio.create_subprocess_exec(
        *argv, cwd=where, env={**os.environ, **(env or {})}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(FETCH_S):
            return await child.wait() == 0
    except TimeoutError:
        child.kill()
        await child.wait()
        return False
