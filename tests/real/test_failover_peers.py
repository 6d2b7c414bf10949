"""One silent blackhole with all parties of the comparison: each answers, and ours loses nothing.

Sanity only: the figures are for ``python -m tests.bench.failover``, not for a busy test machine.
"""

from pathlib import Path
from random import Random

import pytest

from chaos.rig.namespaces import why_not
from tests.bench.failover.cases import CASES, OURS, PARTIES, sat
from tests.bench.failover.peers import PEERS
from tests.bench.failover.table import score

REASON = why_not() or "; ".join(each.why_not() for each in PEERS.values() if each.why_not())
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"PEERS NOT COMPARED: {REASON}")


async def test_all_parties_live_through_one_blackhole_under_one_load(tmp_path: Path) -> None:
    said: list[str] = []
    sittings = await sat(CASES["blackhole"], PARTIES, 1, tmp_path, Random(4), said.append)
    assert not said  # all were back on the primary when it was struck
    found = {party: score(party, sittings) for party in PARTIES}
    assert found[OURS].failed == 0
    for party, judged in found.items():
        mine = [one for one in sittings[0].of(party) if one.kind == "live"]
        assert {one.link for one in mine} == {"a", "b"}, party  # it failed over
        assert judged.onsets[0].near >= 500, party
        assert judged.failed < 50, party
        assert 20 <= judged.onsets[0].p50_ms < 500, party
