"""The daemon in a process of its own: the service manager's words, readiness, TERM and drain."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.config.test_load import GOOD

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Daemon:
    """A started gateway, its admin port, and the service manager's end of the socket."""

    def __init__(self, where: Path) -> None:
        self.admin = free_port()
        config = where / "site.toml"
        config.write_text(GOOD.replace('state_dir = "state"', 'state_dir = "state"\ndrain_s = 2.0')
                          + f"[admin]\nport = {self.admin}\n")
        for verb in (["check"], ["keys", "init"]):
            subprocess.run([sys.executable, "-m", "gateway", *verb, "--config", str(config)],
                           cwd=ROOT, check=True, capture_output=True)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.settimeout(20)
        self.manager.bind(str(where / "notify"))
        env = os.environ | {"NOTIFY_SOCKET": str(where / "notify"), "WATCHDOG_USEC": "1000000"}
        self.errors = (where / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", "--config", str(config)], cwd=ROOT, env=env,
            stderr=self.errors)

    def told(self) -> str:
        """The first line of the next notification."""
        return self.manager.recv(4096).decode().splitlines()[0]

    def word(self) -> str:
        """The next notification that is no sign of life."""
        return next(word for word in iter(self.told, "") if word != "WATCHDOG=1")

    def status_of(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.manager.close()
        self.errors.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path)
    yield found
    found.close()


def test_ready_is_told_when_it_is_so_and_term_stops_in_order(daemon: Daemon) -> None:
    assert daemon.word() == "READY=1"
    assert daemon.status_of("/readyz") == 200
    assert {daemon.told(), daemon.told()} == {"WATCHDOG=1"}

    daemon.process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert daemon.word() == "STOPPING=1"
    assert daemon.process.wait(timeout=20) == 0
    assert time.monotonic() - begun < 15


def test_a_stopped_loop_feeds_no_watchdog(daemon: Daemon) -> None:
    assert daemon.word() == "READY=1"
    daemon.process.send_signal(signal.SIGSTOP)
    daemon.manager.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        while daemon.told():  # what was sent before it stood still
            continue
    daemon.manager.settimeout(1.5)
    with pytest.raises(TimeoutError):
        daemon.told()
    daemon.process.send_signal(signal.SIGCONT)
    daemon.manager.settimeout(10)
    assert daemon.told() == "WATCHDOG=1"
