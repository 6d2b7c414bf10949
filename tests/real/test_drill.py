"""``practice-gateway drill`` against a running daemon on two real links: out, back, a report."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import pytest

from chaos.rig.namespaces import why_not
from chaos.weather import Cut
from tests.bench.rig.ours import Setting, ours, stream
from tests.bench.rig.place import loaded, place
from tests.kit.gateway import ROOT, Site

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"DRILL NOT TESTED: {why_not()}")


async def ordered(site: Site, *more: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "drill", "--config", str(site.config), *more, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    try:
        out, errors = await asyncio.wait_for(process.communicate(), 120.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return process.returncode or 0, out.decode(), errors.decode()


async def test_a_drill_moves_the_traffic_out_and_back_and_nobody_notices(tmp_path: Path) -> None:
    async with place(tmp_path) as where, ours(tmp_path / "ours", Setting()) as site:
        async with loaded(tmp_path, [stream(site, rate=50.0)]) as load:
            assert await load.calm("a", 10.0)
            drill = asyncio.create_task(ordered(site, "--seconds", "3", "--now", "--json"))
            assert await load.calm("b", 20.0), "it never reached the backup"
            assert await load.calm("a", 60.0), "it never came back"
            code, out, errors = await drill
        assert code == 0, (out, errors)
        report = json.loads(out)
        assert (report["stage"], report["good"], report["why"]) == ("done", True, "")
        assert (report["link"], report["backup"]) == ("fibre", "sim")
        assert report["promises"] == {"1": True, "2": True, "7": True}
        assert report["felt"]["requests"] > 150
        assert report["felt"]["failed"] == report["felt"]["refused"] == 0
        assert len(report["signature"]) == 64
        assert [line.partition(": ")[2][:7] for line in errors.splitlines()][-3:] == [
            "traffic", "going b", "over"]
        assert not [one for one in load.records if one.kind != "live"]
        assert not (site.state / "drill" / "order.json").exists()
        await where.rig.apply(Cut("sim"))
        await asyncio.sleep(4.0)
        code, out, errors = await ordered(site, "--now")
        assert code == 1
        assert "the backup is not up" in out
