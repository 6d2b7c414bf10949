"""Each promise is kept by a good observation, and goes red when fed one that breaks it."""

from dataclasses import replace

import pytest

from chaos.observed import (
    Bookings,
    Crash,
    Leak,
    Move,
    Observed,
    Receipt,
    Seen,
    Sent,
    Span,
    Weather,
)
from chaos.promises import (
    LATER,
    PROMISES,
    Broken,
    Kept,
    NotExercised,
    as_json,
    is_good,
    judge,
)

BOTH = frozenset({"fibre", "sim"})
NONE: frozenset[str] = frozenset()
WEATHER = (Weather(0.0, BOTH), Weather(100.0, NONE), Weather(200.0, BOTH),
           Weather(300.0, BOTH, frozenset({"gpc"})), Weather(400.0, BOTH))

LIVE = Sent(1, 10.0, 0.1, "normal", "B81001", "gpc", "gpc:B81001", "desk", "patient", "k", "t1",
            True, True, status=200, whole=True, answer_class="live", link="fibre",
            ceiling_s=86400.0, body_sha="aa", body_bytes=9)
COPY = replace(LIVE, n=2, at=120.0, token="t2", answer_class="as-of", age_s=110.0, marked=True,
               no_store=True)
REFUSED = replace(LIVE, n=3, at=130.0, token="t3", status=503, answer_class="unknown",
                  transient=True, body_sha="")
WRITE = replace(LIVE, n=4, at=11.0, token="w1", is_read=False, kind="book", status=201,
                body_sha="")
BYSTANDER = replace(LIVE, n=5, at=310.0, token="t5", upstream_key="r4:B81001", body_sha="bb")
ISOLATED = replace(COPY, n=6, at=320.0, token="t6", age_s=310.0)

SEEN = (Seen(10.05, "fibre", "gpc", "B81001", "GET", "t1", 200, "aa"),
        Seen(11.05, "fibre", "gpc", "B81001", "POST", "w1", 201, "cc", True),
        Seen(12.0, "fibre", "gpc", "A20047", "GET", "x", 200, "zz"),
        Seen(310.05, "sim", "r4", "B81001", "GET", "t5", 200, "bb"))

GOOD = Observed(
    sent=(LIVE, COPY, REFUSED, WRITE, BYSTANDER, ISOLATED), seen=SEEN, weather=WEATHER,
    moves=(Move(99.0, "switch", "fibre", "sim"),), scanned=12,
    crashes=(Crash(150.0, (("B81001", 7),), (("B81001", 7),), frozenset({(1, "b", 1)}),
                   frozenset({(1, "b", 1), (1, "b", 2)})),),
    bookings=Bookings(1, (Receipt("PB-1", ("CONFIRMED",), True),)),
    failed_back=(Span(400.0, 900.0, "sim"),), isolated=(Span(500.0, 600.0, "gpc"),),
    told_rows=((1, "b", 1),), stored_rows=((1, "b", 1),))


def plus(sent: Sent) -> Observed:
    return replace(GOOD, sent=(*GOOD.sent, sent))


def plus_seen(seen: Seen) -> Observed:
    return replace(GOOD, seen=(*GOOD.seen, seen))


BREAKS: list[tuple[int, Observed, str]] = [
    (1, plus(replace(LIVE, n=9, status=0, whole=False, trouble="reset")), "failed, status 0 reset"),
    (1, plus(replace(REFUSED, n=9, at=20.0)), "refused, status 503"),
    (1, plus(replace(LIVE, n=9, whole=False)), "failed"),
    (2, plus_seen(replace(SEEN[1], at=11.9, listener="sim")), "arrived 2 times"),
    (3, replace(GOOD, bookings=Bookings(2, (Receipt("PB-1", ("CONFIRMED",), True),))),
     "accepted 2, terminal 1, open 0"),
    (3, replace(GOOD, bookings=Bookings(1, (Receipt("PB-1", ("QUEUED",), False),))), "QUEUED"),
    (3, replace(GOOD, bookings=Bookings(1, (Receipt("PB-1", ("A", "B"), True),))), "A, B"),
    (4, plus(replace(COPY, n=9, opted_in=False)), "did not opt in"),
    (4, plus(replace(COPY, n=9, marked=False)), "without its marks"),
    (4, plus(replace(COPY, n=9, has_etag=True)), "ETag"),
    (4, plus(replace(COPY, n=9, no_store=False)), "without its marks"),
    (4, plus(replace(COPY, n=9, age_s=90_000.0)), "past its ceiling"),
    (4, plus(replace(COPY, n=9, ceiling_s=None)), "past its ceiling"),
    (4, plus(replace(COPY, n=9, tenant="A20047")), "another tenant's data"),
    (4, plus(replace(COPY, n=9, body_sha="never")), "never sent"),
    (4, plus(replace(COPY, n=9, age_s=5.0)), "age 5.0 stated, at least 110 s old"),
    (4, plus(replace(LIVE, n=9, token="unseen")), "served unmarked"),
    (4, plus(replace(LIVE, n=9, body_sha="zz")), "another tenant's data"),
    (4, plus(replace(LIVE, n=9, body_sha="cut")), "never sent"),
    (5, plus(replace(LIVE, n=9, at=120.0, empty=True, body_sha="nn", token="e")), "empty answer"),
    (5, plus(replace(LIVE, n=9, at=120.0, status=404, token="e")), "404 that the clinical system"),
    (5, plus(replace(REFUSED, n=9, transient=False)), "without saying"),
    (6, replace(GOOD, moves=(Move(350.0, "switch", "fibre", "sim"),)), "fibre to sim"),
    (7, plus_seen(Seen(500.0, "sim", "gpc", "B81001", "GET", "y", 200, "aa")), "100 s after"),
    (8, plus_seen(Seen(501.0, "fibre", "gpc", "B81001", "GET", "y", 200, "aa")), "1.0 s after"),
    (9, replace(GOOD, leaks=(Leak("log line 7", "NHS number"),)), "NHS number in log line 7"),
    (10, replace(GOOD, stored_rows=((1, "b", 1), (1, "b", 1))), "stored 2 times"),
    (10, replace(GOOD, told_rows=((1, "b", 1), (1, "b", 2))), "never stored"),
    (11, replace(GOOD, crashes=(Crash(1.0, (("B81001", 7),), (("B81001", 6),)),)), "6 after"),
    (11, replace(GOOD, crashes=(Crash(1.0, rows_before=frozenset({(1, "b", 3)})),)), "is gone"),
    (12, plus(replace(BYSTANDER, n=9, status=0, whole=False)), "failed while only gpc"),
    (12, plus(replace(BYSTANDER, n=9, answer_class="as-of")), "copy while only gpc")]


def test_every_promise_is_kept_by_a_good_run() -> None:
    judged = judge(GOOD)
    assert {number for number, one in judged.items() if isinstance(one, Kept)} == set(range(1, 13))
    assert is_good(judged, frozenset(PROMISES))


@pytest.mark.parametrize(("number", "observed", "evidence"), BREAKS)
def test_a_broken_promise_goes_red(number: int, observed: Observed, evidence: str) -> None:
    judged = PROMISES[number](observed)
    assert isinstance(judged, Broken), judged
    assert evidence in " ".join(judged.evidence)
    assert not is_good({number: judged}, frozenset())
    assert as_json({number: judged})[str(number)]["held"] is False


def test_every_promise_has_an_observation_that_breaks_it() -> None:
    assert {number for number, _, _ in BREAKS} == set(PROMISES)


@pytest.mark.parametrize("number", sorted(PROMISES))
def test_nothing_observed_is_never_kept(number: int) -> None:
    judged = PROMISES[number](Observed())
    assert judged == NotExercised()
    assert not is_good({number: judged}, frozenset({number})), "no observation is exit 3"
    assert is_good({number: judged}, frozenset())


def test_a_run_of_this_order_says_which_promises_come_later() -> None:
    later = replace(GOOD, bookings=None, failed_back=(), isolated=(), told_rows=(),
                    stored_rows=())
    told = as_json(judge(later))
    assert {int(number) for number, one in told.items() if one["held"] == "not exercised"} == LATER


def test_a_failure_while_no_path_works_breaks_nothing() -> None:
    assert isinstance(PROMISES[1](plus(replace(REFUSED, n=9, at=150.0))), Kept)


def test_what_overload_may_refuse_has_not_failed_and_what_it_may_not_has() -> None:
    shed = replace(LIVE, n=9, token="t9", status=503, answer_class="", throttled=True,
                   body_sha="", kind="codes")
    assert isinstance(PROMISES[1](plus(shed)), Broken)
    assert isinstance(PROMISES[1](replace(plus(shed), may_be_shed=frozenset({"codes"}))), Kept)
    assert isinstance(PROMISES[5](plus(replace(shed, at=150.0))), Kept)
    assert isinstance(PROMISES[5](plus(replace(shed, at=150.0, throttled=False))), Broken)


def test_a_proof_of_the_gateway_itself_is_no_flow_that_stayed_on_the_backup() -> None:
    late = Seen(700.0, "sim", "gpc", "B81001", "GET", "t7", 200, "aa")
    assert isinstance(PROMISES[7](replace(GOOD, seen=(late,))), Broken)
    assert isinstance(PROMISES[7](replace(GOOD, seen=(replace(late, token=""),))), Kept)
    soon = replace(GOOD, seen=(replace(late, at=410.0),))
    assert isinstance(PROMISES[7](soon), Kept)
    assert isinstance(PROMISES[7](replace(soon, failback_grace_s=5.0)), Broken)


def test_evidence_is_bounded() -> None:
    many = tuple(replace(LIVE, n=n, status=0, whole=False) for n in range(100))
    judged = PROMISES[1](replace(GOOD, sent=many))
    assert isinstance(judged, Broken)
    assert len(judged.evidence) == 6
    assert judged.evidence[-1] == "and 95 more"
