"""The world's configuration is one that the gateway itself accepts, on every kind of rig."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.wanted import Wanted
from chaos.world import LINKS, SERVICE, Reach, configuration, fetch, world

DOORS = [Reach(link, n, {name: ("127.0.0.1", 20000 + 10 * n + at)
                         for at, name in enumerate(SERVICE)}) for n, link in enumerate(LINKS, 1)]
WIRES = [Reach(link, n, SERVICE, device)
         for n, (link, device) in enumerate(zip(LINKS, "ab", strict=True), 1)]


@pytest.mark.parametrize("reaches", [DOORS, WIRES], ids=["doors", "wires"])
def test_check_finds_no_mistake_in_it(reaches: list[Reach], tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    wanted = Wanted(windows=(("fibre", 5.0, 60.0, 3.0),))
    path.write_text(configuration(wanted, reaches, tmp_path / "state", 18443, 19464, 1.8e9),
                    "utf-8")
    said = subprocess.run((sys.executable, "-m", "gateway", "check", "--config", str(path)),
                          capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


async def test_a_world_lives_through_a_kill_and_leaves_no_process(tmp_path: Path) -> None:
    async with world("relay", tmp_path) as made:
        assert (await made.status())["gateway"]["ready"]
        await made.kill()
        assert await made.status() == {}
        assert await made.start() < 10.0
        port = made.port
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(OSError):
        await fetch(made.control, "GET", "/__seen")


async def test_a_gateway_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with world("relay", tmp_path) as made:
        await made.stop()
        made.config.write_text("[gateway]\n", "utf-8")
        with pytest.raises(RuntimeError, match="not ready"):
            await made.start()
