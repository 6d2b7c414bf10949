"""What a story demands beyond the promises: each demand met, and each seen unmet."""

from dataclasses import replace

import pytest

from chaos.demands import (
    Carries,
    Dead,
    Demand,
    Leaves,
    NeverActive,
    NoneFails,
    NothingTold,
    Played,
    Ramps,
    Sheds,
    Verdict,
    unmet,
)
from chaos.observed import Move
from tests.chaos.test_observed import sent

LIVE = sent(status=200, whole=True, answer_class="live", phase="bad", link="fibre", at=12.0,
            took_s=0.1, body_bytes=30_000)
SIM = replace(LIVE, link="sim")
SHED = replace(LIVE, status=503, answer_class="", kind="other", throttled=True, link="")
MIXED = [replace(LIVE, link=link, at=at) for at, link in (
    (12.0, "fibre"), (12.1, "sim"), (12.4, "fibre"), (13.1, "sim"), (13.2, "fibre"))]
PLAYED = Played((LIVE,), {"normal": 5.0, "bad": 10.0, "well": 20.0})


def played(*requests: object, **more: object) -> Played:
    return replace(PLAYED, sent=requests, **more)  # type: ignore[arg-type]  # named by the tests


@pytest.mark.parametrize(("demand", "met", "broken", "words"), [
    (NoneFails(), played(LIVE, SIM), played(LIVE, replace(LIVE, status=504, answer_class="")),
     "1 of 2 requests were not answered live"),
    (NoneFails(unknown=1), played(LIVE, replace(LIVE, status=504, answer_class="", is_read=False)),
     played(LIVE, replace(LIVE, status=504, answer_class="")), "1 of 2 requests were not"),
    (Leaves("bad", "fibre", 3.0), played(LIVE, replace(SIM, at=14.0)),
     played(replace(LIVE, at=14.0)), "1 of 1 answers still came over fibre"),
    (Leaves("bad", "fibre", 3.0), played(replace(SIM, at=14.0)), played(LIVE),
     "nothing was sent in bad after"),
    (Carries("bad", "fibre", 1, 30_000), played(LIVE), played(replace(LIVE, body_bytes=29_999)),
     "0 live answers of 30000 bytes or more"),
    (Ramps("bad", "sim", "fibre", 1.0, 2), played(*MIXED), played(*MIXED[1::2], MIXED[-1]),
     "for 0.0 s of bad (0 and 0 times)"),
    (Ramps("bad", "sim", "fibre", 1.0, 2), played(*MIXED), played(*MIXED[:2], *MIXED[-2:]),
     "for 1.1 s of bad (2 and 1 times), wanted 1.0 s and 2"),
    (Ramps("bad", "sim", "fibre", 1.0, 2), played(*MIXED), played(*MIXED[1:]), "for 0.7 s of bad"),
    (Verdict("MTU_HOLE", "fibre"), played(verdicts=frozenset({("MTU_HOLE", "fibre")})),
     played(verdicts=frozenset({("BROWNOUT", "fibre")})), "never told of fibre, only BROWNOUT of"),
    (NeverActive("bad", "sim"), played(LIVE, moves=(Move(9.0, "switch", "fibre", "sim"),)),
     played(LIVE, moves=(Move(11.0, "switch", "fibre", "sim"),)), "made the active link in bad"),
    (NeverActive("bad", "sim"), played(LIVE, SIM), played(LIVE, replace(SIM, at=12.6)),
     "1 answers came over sim"),
    (NothingTold("sim"), played(caught={"sim": (3, 0)}), played(caught={"sim": (3, 1)}),
     "read 1 requests"),
    (NothingTold("sim"), played(caught={"sim": (3, 0)}), played(), "it proves nothing"),
    (Dead("bad", "sim", 5.0), played(dead=((14.0, "sim"),)), played(dead=((16.0, "sim"),)),
     "sim was not shown to be dead within 5.0 s of bad"),
    (Dead("bad", "sim", 5.0), played(dead=((14.0, "sim"),)), played(dead=((14.0, "fibre"),)),
     "sim was not shown to be dead"),
    (Sheds("bad", ("other",), ("book",), 1.0), played(LIVE, SHED), played(LIVE),
     "it was no surge"),
    (Sheds("bad", ("other",), ("book",), 1.0), played(LIVE, SHED),
     played(SHED, replace(SHED, kind="book")), "1 that go first were not answered live"),
    (Sheds("bad", ("other",), ("book",), 1.0), played(LIVE, SHED),
     played(SHED, replace(SHED, throttled=False, transient=True)), "did not say when"),
    (Sheds("bad", ("other",), ("book",), 1.0), played(LIVE, SHED),
     played(SHED, replace(LIVE, took_s=1.5)), "p99 was 1.50 s"),
])
def test_a_demand_is_met_or_says_what_did_not_come(
        demand: Demand, met: Played, broken: Played, words: str) -> None:
    assert unmet((demand,), met) == []
    assert words in "; ".join(unmet((demand,), broken))
