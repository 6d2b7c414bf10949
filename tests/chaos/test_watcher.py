"""The onlookers: changes between two looks, row numbers, and marks where none may be."""

import asyncio
import contextlib
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from chaos.observed import Leak
from chaos.watcher import (
    BrokerWatch,
    StatusWatch,
    copies_of,
    moves_between,
    numbered,
    rows_of,
    search,
)

MARKS = (("a marked number", b"9990000018"),)


def status(active: str = "fibre", mode: str = "NORMAL", **more: Any) -> dict[str, Any]:
    return {"links": [{"id": one, "active": one == active} for one in ("fibre", "sim")],
            "modes": [{"tenant": "B81001", "upstream": "gpc", "mode": mode, "cause": "X"}],
            **more}


def test_a_change_of_link_and_of_mode_are_moves() -> None:
    found = moves_between(status(), status("sim", "BACKUP", last_switch={"cause": "BLACKHOLE"}),
                          9.0)
    assert [(one.what, one.frm, one.to, one.cause) for one in found] == [
        ("switch", "fibre", "sim", "BLACKHOLE"), ("mode", "NORMAL", "BACKUP", "X")]
    assert moves_between(status(), status(), 9.0) == []


def test_no_active_link_is_a_move_to_none() -> None:
    assert moves_between(status(), status(""), 9.0)[0].to == ""


async def test_a_restart_is_no_switch() -> None:
    said = iter([status("fibre"), {}, status("sim")])

    async def ask() -> dict[str, Any]:
        return next(said)

    watch = StatusWatch(ask)
    for _ in range(3):
        await watch.look()
    assert watch.moves == []


def test_what_status_acknowledged_is_read_from_it() -> None:
    said = status(stores=[{"tenant": "B81001", "state": "open", "copies": 7},
                          {"tenant": "A20047", "state": "off", "copies": 0}],
                  outbox={"box": 3, "high": {"a": 0, "b": 2}})
    assert copies_of(said) == (("B81001", 7),)
    assert rows_of(said) == {(3, "b", 1), (3, "b", 2)}
    assert rows_of({}) == frozenset()


@pytest.mark.parametrize(("message", "rows"), [
    ({"box": 1, "rank": "b", "seq": 4, "b": {}}, [(1, "b", 4)]),
    ({"box": 1, "rank": "a", "rows": [{"seq": 1}, {"seq": 2, "rank": "c"}]},
     [(1, "a", 1), (1, "c", 2)]),
    ({"b": {}}, [])])
def test_rows_are_numbered_alone_or_in_batches(message: dict[str, Any],
                                               rows: list[tuple[int, str, int]]) -> None:
    assert numbered(message) == rows


def test_marks_are_found_in_files_and_names_and_never_repeated(tmp_path: Path) -> None:
    (tmp_path / "clean.db").write_bytes(b"\x00sealed")
    (tmp_path / "log").write_bytes(b"GET /Patient?identifier=9990000018")
    (tmp_path / "9990000018.json").write_bytes(b"")
    count, leaks = search([tmp_path], MARKS)
    assert count == 3
    assert Leak("file log", "a marked number") in leaks
    assert Leak("a file name", "a marked number") in leaks
    assert not any("9990000018" in leak.place for leak in leaks if leak.place == "file log")


def test_nothing_marked_is_nothing_found(tmp_path: Path) -> None:
    (tmp_path / "clean.db").write_bytes(b"\x00sealed")
    assert search([tmp_path, tmp_path / "clean.db"], MARKS) == (2, [])


@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
async def test_a_real_broker_is_listened_to_and_its_messages_searched(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    child = await asyncio.create_subprocess_exec(
        "mosquitto", "-c", str(config), stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL)
    watch = BrokerWatch(("127.0.0.1", port), MARKS)
    listening = asyncio.ensure_future(watch.run())  # cancelled below: no TaskGroup to keep it
    try:
        async with asyncio.timeout(10):
            while watch.messages < 2:
                with contextlib.suppress(aiomqtt.MqttError):
                    async with aiomqtt.Client("127.0.0.1", port) as client:
                        await client.publish("gpgw/1/x/up/evt", json.dumps(
                            {"box": 1, "rank": "b", "seq": 1}), qos=1)
                        await client.publish("gpgw/1/x/up/9990000018", "9990000018", qos=1)
                await asyncio.sleep(0.1)
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        child.kill()
        await child.wait()
    assert (1, "b", 1) in watch.rows
    assert {leak.place for leak in watch.leaks} == {"an MQTT topic", "an MQTT payload"}
