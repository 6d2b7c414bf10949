"""The failover bench runs: one silent blackhole of the primary, ours only, measured and told."""

from pathlib import Path
from random import Random

import pytest

from chaos.rig.namespaces import why_not
from tests.bench.acceptance import blackhole
from tests.bench.acceptance.table import Options
from tests.bench.acceptance.taken import death, take
from tests.bench.rig.figures import measure

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"BENCH NOT TESTED: {why_not()}")


async def test_the_bench_measures_one_blackhole(tmp_path: Path) -> None:
    options = Options(1, 1, 0, tmp_path, Random(4))
    run = await take(options, tmp_path, blackhole.FAULT, 1)
    found = measure(run.records, run.onsets.began)
    assert run.onsets.uncalm == 0
    assert found.failed == 0
    assert found.near >= 500  # 6 s at 100 a second, whatever became of them
    assert 20 <= found.p50_ms < 200
    assert {one.link for one in run.records if one.kind == "live"} == {"a", "b"}
    taken = death(run.watch, run.onsets.began[0])
    assert taken is not None
    assert 0.3 < taken < 5.0
