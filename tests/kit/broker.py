"""A real mosquitto as a child process on loopback, on the example configuration of the project.

``config/mosquitto/practice-gateway.conf`` is used as it stands, but for its paths and its port, so
every test that needs a broker also tests the example and its ACL.
"""

import asyncio
import contextlib
import re
import shutil
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiomqtt

from tests.kit.pki import Ca, Leaf, issue, make_ca

EXAMPLE: Final = Path(__file__).resolve().parents[2] / "config" / "mosquitto"
CONSOLE: Final = "console-1"


@dataclass
class Mosquitto:
    """A running broker: ``port`` on 127.0.0.1, TLS with client certificates of ``ca``."""

    folder: Path
    port: int
    ca: Ca
    process: asyncio.subprocess.Process
    leaves: dict[str, Leaf] = field(default_factory=dict)

    def leaf(self, name: str) -> Leaf:
        """The client certificate with common name ``name``, issued at its first use."""
        if name not in self.leaves:
            self.leaves[name] = issue(self.ca, name, client=True)
        return self.leaves[name]

    def freeze(self) -> None:
        """Stop it in its tracks: the kernel goes on accepting, nobody answers."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def console(self, identifier: str) -> aiomqtt.Client:
        """A client with the console's certificate; use it as ``async with``."""
        leaf = self.leaf(CONSOLE)
        tls = ssl.create_default_context(cafile=str(self.ca.cert))
        tls.load_cert_chain(leaf.cert, leaf.key)
        return aiomqtt.Client("127.0.0.1", self.port, tls_context=tls, identifier=identifier,
                              protocol=aiomqtt.ProtocolVersion.V5)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _configured(folder: Path, ca: Ca, server: Leaf, port: int) -> Path:
    """Write the example configuration with this test's paths, and nothing else changed."""
    text = (EXAMPLE / "practice-gateway.conf").read_text()
    here = {"cafile": ca.cert, "certfile": server.cert, "keyfile": server.key,
            "acl_file": EXAMPLE / "gateways.acl", "persistence_location": f"{folder}/",
            "listener": f"{port} 127.0.0.1"}
    for key, value in here.items():
        text, count = re.subn(rf"^{key} .*$", f"{key} {value}", text, flags=re.MULTILINE)
        assert count == 1, f"{key} is not once in the example"
    path = folder / "mosquitto.conf"
    path.write_text(text + "\nuser root\n")
    return path


@contextlib.asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[Mosquitto]:
    """Start a broker in ``folder``, give it when it takes connections, and stop it."""
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    assert binary, "mosquitto is not installed"
    ca = make_ca(folder / "pki")
    port = free_port()
    config = _configured(folder, ca, issue(ca, "broker"), port)
    log = (folder / "mosquitto.log").open("wb")
    process = await asyncio.create_subprocess_exec(binary, "-c", str(config), stdout=log,
                                                   stderr=log)
    try:
        await _listening(port, process, folder)
        yield Mosquitto(folder, port, ca, process)
    finally:
        log.close()
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            await process.wait()


async def _listening(port: int, process: asyncio.subprocess.Process, folder: Path) -> None:
    for _ in range(200):
        assert process.returncode is None, (folder / "mosquitto.log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    raise AssertionError("mosquitto did not listen within 10 s")
