"""An MTU hole on a real kernel: the ladder finds it, and large replies pass over the link still."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chaos.rig.namespaces import why_not
from chaos.weather import MtuHole
from tests.bench.rig.load import Stream, request
from tests.bench.rig.ours import HEAD, Setting, ours
from tests.bench.rig.place import place
from tests.bench.rig.wire import Pool
from tests.kit.gateway import Site

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"MTU HOLE NOT TESTED: {why_not()}")


async def verdicts(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await site.status())["verdicts"]
    return found


async def test_the_ladder_finds_the_hole_and_thirty_kilobytes_pass_it(tmp_path: Path) -> None:
    async with place(tmp_path) as where:
        await where.rig.apply(MtuHole("fibre", 1400))
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
