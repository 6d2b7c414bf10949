"""An MTU hole on a real kernel: the ladder finds it, and large replies pass over the link still."""

import asyncio
import ctypes
import fcntl
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chaos.rig.namespaces import Namespaces, Place, visit, why_not
from tests.bench.rig.load import Stream, request
from tests.bench.rig.ours import HEAD, Setting, ours
from tests.bench.rig.place import place
from tests.bench.rig.wire import Pool
from tests.kit.gateway import Site

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"MTU HOLE NOT TESTED: {why_not()}")
HOLE = """table inet hole {
 chain forward {
  type filter hook forward priority 0;
  meta length > 1400 drop
 }
}
"""


def make_hole(rig: Namespaces) -> None:
    """Lose what is longer than 1,400 bytes on the fibre, both ways.

    First the offloads go: an aggregate of segments that fit would be lost as one that does not
    (links.md section 16). ``gso_max_segs 1`` is not enough where BBR paces: half of a burst was
    lost (measured, Linux 6.18).
    """
    spots: tuple[tuple[Place, str], ...] = (
        ("edge", "a"), ("wan_a", "lan"), ("wan_a", "wan"), ("up", "a"))
    for spot, device in spots:
        with visit(rig.name(spot)):
            plain(device)
    subprocess.run(rig.inside("wan_a", "nft", "-f", "-"), input=HOLE.encode(), check=True)


def plain(device: str) -> None:
    """Turn off what makes one packet of several: TSO, GSO, GRO."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for command in (0x1F, 0x24, 0x2C):  # ETHTOOL_STSO, _SGSO, _SGRO (linux/ethtool.h)
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            wanted = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
            fcntl.ioctl(asking, 0x8946, wanted)  # SIOCETHTOOL


async def verdicts(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await site.status())["verdicts"]
    return found


async def test_the_ladder_finds_the_hole_and_thirty_kilobytes_pass_it(tmp_path: Path) -> None:
    async with place(tmp_path) as where:
        make_hole(where.rig)
        async with ours(tmp_path / "ours", Setting()) as site:
            for _ in range(100):
                holes = [each for each in await verdicts(site) if each["kind"] == "MTU_HOLE"]
                if holes:
                    break
                await asyncio.sleep(0.1)
            (hole,) = holes
            assert hole["link"] == "fibre"
            assert hole["evidence"] == {"passes_bytes": 1400, "lost_bytes": 1472}
            stream = Stream("ours", site.port, "/B81001/up", "read", head=HEAD)
            pool = Pool("127.0.0.1", site.port)
            for number in range(5):
                connection = await pool.take()
                async with asyncio.timeout(5):
                    answer = await connection.ask(request(stream, number))
                pool.give(connection)
                assert (answer.status, len(answer.body)) == (200, 30_000)
                assert answer.head[b"continuity"].startswith(b"class=live; link=fibre")
