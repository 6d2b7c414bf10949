"""The demo's broker: what is here is taken in order, started for real, and none is no error."""

import asyncio
import os
import socket
from pathlib import Path

import aiomqtt
import pytest

from chaos import broker, world
from chaos.broker import Program, find, installed
from chaos.demo import guide
from chaos.load import Load
from chaos.stories.kent import desks_of


def program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def test_brokers_are_taken_in_order(tmp_path: Path) -> None:
    assert installed(tmp_path, "") is None
    program(tmp_path / "mochi")
    assert installed(tmp_path, "") == Program("mochi", tmp_path / "mochi")
    program(tmp_path / "mosquitto/usr/sbin/mosquitto")
    unpacked = installed(tmp_path, "")
    assert unpacked is not None
    assert unpacked.name == "mosquitto"
    assert "mosquitto/usr/lib" in unpacked.env["LD_LIBRARY_PATH"]
    program(tmp_path / "path/mosquitto")
    found = installed(tmp_path, str(tmp_path / "path"))
    assert found == Program("mosquitto", tmp_path / "path/mosquitto")


async def test_a_machine_without_any_means_has_none(tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(broker, "installed", lambda tools: None)
    assert await find(tmp_path) is None


async def test_the_broker_of_this_machine_takes_mqtt_5(tmp_path: Path) -> None:
    found = await find(Path.cwd() / ".tools")
    if found is None:
        pytest.skip("no broker can be had on this machine")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    child = await asyncio.create_subprocess_exec(
        *found.argv("127.0.0.1", port, tmp_path), env={**os.environ, **found.env},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    async with aiomqtt.Client("127.0.0.1", port,
                                              protocol=aiomqtt.ProtocolVersion.V5) as client:
                        await client.publish("gpgw/1/x/up/hb", b"1", qos=1)
                    return
                except aiomqtt.MqttError:
                    await asyncio.sleep(0.1)
    finally:
        child.kill()
        await child.wait()


async def test_without_a_broker_the_practice_still_opens_and_says_so(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(tools: Path) -> None:
        return None

    monkeypatch.setattr(broker, "find", none)
    async with world.world("relay", tmp_path) as built:
        assert built.broker is None
        assert "telemetry is off" in guide(built, 1)
        desk = (await desks_of(built))[0]
        load = Load(("127.0.0.1", built.port))
        assert (await load.one(desk.patient(desk.people[2]))).answered == "live"
        load.close()
