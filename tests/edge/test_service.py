"""The service manager's side: a real NOTIFY_SOCKET, by path and abstract."""

import os
import socket
from pathlib import Path

import pytest

from gateway.edge.service import Service


def listener(address: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.settimeout(2)
    found.bind(address)
    return found


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_ready_alive_and_stopping_arrive(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "n") if kind == "path" else f"@pgw-{os.getpid()}-notify"
    with listener(path.replace("@", "\0")) as manager:
        service = Service({"NOTIFY_SOCKET": path})
        service.ready("2 links\nno second line")
        service.alive()
        service.stopping()
        assert manager.recv(999) == b"READY=1\nSTATUS=2 links\n"
        assert manager.recv(999) == b"WATCHDOG=1\n"
        assert manager.recv(999) == b"STOPPING=1\n"


def test_without_a_manager_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    Service({}).ready()
    Service({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    Service({"NOTIFY_SOCKET": "vsock:2:1234"}).ready()


def test_a_manager_that_reads_nothing_never_blocks_us(tmp_path: Path) -> None:
    path = str(tmp_path / "n")
    with listener(path):
        service = Service({"NOTIFY_SOCKET": path})
        for _ in range(2000):  # far more than a socket's queue holds
            service.alive()


@pytest.mark.parametrize(("env", "seconds"), [
    ({"WATCHDOG_USEC": "30000000"}, 15.0),
    ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
    ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ({"WATCHDOG_USEC": "0"}, None), ({"WATCHDOG_USEC": "x"}, None), ({}, None)])
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(env: dict[str, str],
                                                       seconds: float | None) -> None:
    assert Service(env).watchdog_s == seconds
