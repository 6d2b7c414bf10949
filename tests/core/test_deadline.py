"""Deadlines: what a client says it waits, and what an upstream says about being left alone."""

import pytest

from gateway.core.deadline import REST_MOST_S, WAIT_MOST_S, patience_s, rest_s, wait_s
from gateway.core.message import Reply


@pytest.mark.parametrize(("values", "seconds"), [
    (["wait=5"], 5.0), (["respond-async, wait=10"], 10.0), (["Wait = 7"], 7.0),
    (['wait="8"; x=y'], 8.0), (["handling=lenient", "wait=3"], 3.0), (["wait=5, wait=9"], 5.0),
    (["wait=999999"], WAIT_MOST_S), (["wait=0"], 0.0), (["wait"], None), (["wait=-1"], None),
    (["wait=1.5"], None), (["await=5"], None), ([], None)])
def test_a_clients_wait_is_read(values: list[str], seconds: float | None) -> None:
    assert wait_s(tuple(("Prefer", each) for each in values)) == seconds


def test_a_read_takes_its_clients_patience_and_a_write_never_less_than_usual() -> None:
    short, long = (("Prefer", "wait=2"),), (("Prefer", "wait=120"),)
    assert patience_s((), True, 30.0) == patience_s((), False, 30.0) == 30.0
    assert (patience_s(short, True, 30.0), patience_s(long, True, 3.0)) == (2.0, 120.0)
    assert (patience_s(short, False, 40.0), patience_s(long, False, 40.0)) == (40.0, 120.0)
    assert patience_s((("Prefer", "wait=0"),), True, 30.0) == 1.0


@pytest.mark.parametrize(("status", "said", "seconds"), [
    (429, "7", 7.0), (503, "120", 120.0), (503, "9999", REST_MOST_S), (503, None, 0.0),
    (503, "Thu, 26 Nov 2026 02:00:00 GMT", 90.0), (503, "Thu, 26 Nov 2026 04:00:00 GMT", 300.0),
    (503, "Thu, 26 Nov 2026 01:00:00 GMT", 0.0), (503, "soon", 0.0), (503, "-1", 0.0),
    (200, "7", 0.0), (500, "7", 0.0)])
def test_an_upstream_is_left_alone_as_long_as_it_asks(status: int, said: str | None,
                                                      seconds: float) -> None:
    dated = (("Date", "Thu, 26 Nov 2026 01:58:30 GMT"),)
    headers = dated if said is None else (*dated, ("Retry-After", said))
    assert rest_s(Reply(status, "", headers)) == seconds
    if said is not None and "GMT" in said:  # against whose clock?
        assert rest_s(Reply(status, "", (("Retry-After", said),))) == 0.0
