"""The straight path: which question follows which, for reads and writes, in all weathers."""

import json
from dataclasses import replace

import pytest

from gateway.core.exchange import (
    Done,
    Facts,
    Forget,
    Forward,
    LookUp,
    Question,
    Store,
    UpstreamRules,
    begin,
    is_evidence,
    may_serve,
    vet,
)
from gateway.core.hedge import Lost, Won
from gateway.core.instant import Mono, Wall
from gateway.core.keeping import Kept, Leave
from gateway.core.message import (
    Arrived,
    Cause,
    NeverLeft,
    NoAnswer,
    Reply,
    Request,
    Streamed,
    first,
)
from gateway.core.pack import OTHER_READ, OTHER_WRITE, Matched, Pack, Route
from gateway.core.route import Standing

NOW = Wall(5000.0)
READ = Route("slots", "booking_read", ("GET",), "Slot", keep=True, ceiling_s=900, patience_s=3,
             types=("Bundle",))
BOOK = Route("book", "booking", ("POST",), "Appointment", voids=("slots",))
PACK = Pack("p", (READ, BOOK))
UP = UpstreamRules("gpc", "up.example", PACK, "continuity")
NORMAL = Standing(("fibre", "sim"), (("fibre", "UP"), ("sim", "UP")), "NORMAL",
                  proven=frozenset({"fibre"}), hedge_after_s=(("fibre", 0.25),))
STANDALONE = Standing((), (("fibre", "DOWN"), ("sim", "DOWN")), "STANDALONE", "BLACKHOLE")
DOWN = replace(NORMAL, mode="DEGRADED", cause="UPSTREAM_DOWN", upstream_down=True)
FHIR = (("Content-Type", "application/fhir+json"),)


def facts(route: Route = READ, standing: Standing = NORMAL, leave: Leave | None = None,
          upstream: UpstreamRules = UP, headers: tuple[tuple[str, str], ...] = ()) -> Facts:
    request = Request("B81001", "desk", "gpc", route.methods[0], "/x?a=1",
                      (("Host", "us"), *headers))
    return Facts(request, upstream, Matched(route), leave or Leave(True), "pg", Mono(1.0),
                 Wall(4999.0), standing)


def forward(route: Route = READ, **more: object) -> Forward:
    question = begin(facts(route, **more))  # type: ignore[arg-type]
    assert isinstance(question, Forward)
    return question


def won(status: int = 200, link: str = "fibre", body: bytes = b"{}",
        *headers: tuple[str, str]) -> Won:
    return Won(Arrived(link, Reply(status, "", (*FHIR, *headers), body)), 1)


def said(question: Question) -> Done:
    assert isinstance(question, Done)
    return question


def mark(question: Question) -> str:
    return first(said(question).answer.headers, "Continuity") or ""


def kept(age: float = 60) -> Kept:
    return Kept(200, "", FHIR, b'{"resourceType":"Slot"}', Wall(NOW - age), 900)


def test_a_read_goes_out_over_the_usable_links_with_the_packs_patience() -> None:
    question = forward()

    assert question.plan.links == ("fibre", "sim")
    assert (question.plan.is_read, question.plan.patience_s) == (True, 3)
    assert dict(question.outbound.headers)["Host"] == "up.example"
    assert question.outbound.target == "/x?a=1"


def test_a_live_read_is_stored_and_answered_as_it_came() -> None:
    question = forward().next(won(), NORMAL, NOW)

    assert isinstance(question, Store)
    assert question.keep.fetched == Wall(4999.0)
    done = said(question.next())
    assert (done.answered, done.link, done.answer.body) == ("live", "fibre", b"{}")
    assert mark(done) == "class=live; link=fibre"


def test_with_no_path_the_copy_is_looked_up_at_once() -> None:
    question = begin(facts(standing=STANDALONE))

    assert isinstance(question, LookUp)
    done = said(question.next(kept(), NOW, True))
    assert done.answered == "copy"
    assert 'cause=BLACKHOLE' in mark(done)


def test_with_no_path_and_no_copy_the_client_is_told_not_now() -> None:
    question = begin(facts(standing=STANDALONE))

    assert isinstance(question, LookUp)
    done = said(question.next(None, NOW, True))
    assert (done.answer.status, done.answered) == (503, "refused")
    assert first(done.answer.headers, "Retry-After") == "10"
    assert isinstance(done.answer.body, bytes)
    assert json.loads(done.answer.body)["issue"][0]["code"] == "transient"


def test_a_copy_past_its_ceiling_is_no_copy() -> None:
    question = begin(facts(standing=STANDALONE))

    assert isinstance(question, LookUp)
    assert said(question.next(kept(age=901), NOW, True)).answer.status == 503
    assert said(question.next(kept(), NOW, False)).answer.status == 503


def test_who_did_not_opt_in_is_refused_without_a_look() -> None:
    assert said(begin(facts(standing=STANDALONE, leave=Leave(False)))).answer.status == 503


def test_an_upstream_judged_down_is_not_asked_but_for_trials() -> None:
    assert isinstance(begin(facts(standing=DOWN)), LookUp)
    trial = begin(facts(standing=replace(DOWN, trial=True)))
    assert isinstance(trial, Forward)
    assert not trial.plan.again
    assert forward().plan.again


def test_a_write_is_sent_even_to_an_upstream_judged_down() -> None:
    assert isinstance(begin(facts(BOOK, standing=DOWN)), Forward)


def test_a_write_without_a_path_is_refused_and_nothing_was_sent() -> None:
    done = said(begin(facts(BOOK, standing=STANDALONE)))

    assert (done.answer.status, done.answered, done.sends) == (503, "refused", 0)


@pytest.mark.parametrize("status", [502, 503, 504, 500])
def test_an_outage_of_the_upstream_is_answered_from_the_copy_or_passed_on(status: int) -> None:
    question = forward().next(won(status), DOWN, NOW)

    assert isinstance(question, LookUp)
    assert said(question.next(kept(), NOW, True)).answered == "copy"
    theirs = said(question.next(None, NOW, True))
    assert (theirs.answer.status, theirs.answered) == (status, "live")


def test_a_500_with_an_outcome_is_an_answer() -> None:
    body = b'{"resourceType":"OperationOutcome"}'

    assert said(forward().next(won(500, "fibre", body), NORMAL, NOW)).answer.status == 500


@pytest.mark.parametrize(("wait", "copy"), [("4", True), ("3", False), ("soon", False)])
def test_429_counts_as_an_outage_only_beyond_the_packs_patience(wait: str, copy: bool) -> None:
    question = forward().next(won(429, "fibre", b"{}", ("Retry-After", wait)), NORMAL, NOW)

    assert isinstance(question, LookUp) is copy


@pytest.mark.parametrize("status", [400, 401, 405, 409, 412, 422])
def test_any_other_4xx_is_an_answer_and_changes_no_copy(status: int) -> None:
    assert said(forward().next(won(status), NORMAL, NOW)).answer.status == status


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_removes_the_copy_only_over_a_proven_link(status: int) -> None:
    proven = forward().next(won(status), NORMAL, NOW)
    unproven = forward().next(won(status, "sim"), NORMAL, NOW)

    assert isinstance(proven, Forget)
    assert proven.drop.key is not None
    assert said(proven.next()).answer.status == status
    assert said(unproven).answer.status == status


@pytest.mark.parametrize(("cause", "status"), [
    ("timeout", 504), ("link_down", 504), ("busy", 503), ("truncated", 502),
    ("reset", 502), ("not_the_api", 502)])
def test_a_read_without_answer_is_looked_up_and_else_told_why(cause: Cause, status: int) -> None:
    question = forward().next(Lost(True, cause, 2, "sim"), NORMAL, NOW)

    assert isinstance(question, LookUp)
    assert "cause=NO_ANSWER" in mark(question.next(kept(), NOW, True))
    assert said(question.next(None, NOW, True)).answer.status == status


def test_a_read_of_which_there_was_no_copy_a_moment_ago_is_told_why_at_once() -> None:
    done = said(forward().next(Lost(True, "link_down", 2, "sim", no_copy=True), NORMAL, NOW))

    assert done.answer.status == 504


def test_a_bad_certificate_never_yields_a_copy() -> None:
    done = said(forward().next(Lost(False, "certificate", 2), NORMAL, NOW))

    assert done.answer.status == 502
    assert "TLS_INTERCEPT" in mark(done)


def test_a_reply_that_we_refuse_is_a_bad_gateway_and_never_yields_a_copy() -> None:
    assert said(forward().next(Lost(True, "bad_reply", 2), NORMAL, NOW)).answer.status == 502


def test_a_write_answered_voids_before_it_is_said() -> None:
    question = forward(BOOK).next(won(201), NORMAL, NOW)

    assert isinstance(question, Forget)
    assert question.drop.routes == ("slots",)
    assert said(question.next()).answer.status == 201


def test_a_write_without_answer_is_unknown_and_voids_too() -> None:
    question = forward(BOOK).next(Lost(True, "reset", 1, "fibre"), NORMAL, NOW)

    assert isinstance(question, Forget)
    done = said(question.next())
    assert (done.answer.status, done.answered) == (504, "unknown")
    assert mark(done) == "outcome=unknown"
    assert first(done.answer.headers, "Retry-After") is None


def test_a_write_that_never_left_voids_nothing_and_may_be_sent_again() -> None:
    done = said(forward(BOOK).next(Lost(False, "connect", 2, "sim"), STANDALONE, NOW))

    assert (done.answer.status, done.answered) == (503, "refused")
    assert mark(done) == "class=unknown; cause=BLACKHOLE"


def test_a_whole_5xx_to_a_booking_passes_unchanged_and_says_that_it_is_in_doubt() -> None:
    question = forward(BOOK).next(won(500), NORMAL, NOW)

    assert isinstance(question, Forget)
    assert mark(question.next()) == "class=live; link=fibre; outcome=unknown"


def test_nothing_is_kept_or_looked_up_where_keeping_is_off() -> None:
    off = replace(UP, keep="off")

    assert isinstance(forward(upstream=off).next(won(), NORMAL, NOW), Done)
    assert isinstance(begin(facts(standing=STANDALONE, upstream=off)), Done)
    assert isinstance(forward(upstream=off).next(won(404), NORMAL, NOW), Done)


def test_a_portals_page_is_no_answer_to_a_read() -> None:
    page = Arrived("sim", Reply(200, "OK", (("Content-Type", "text/html"),), b"<p>"))
    closed: list[bool] = []
    stream = Streamed(None, close=lambda: closed.append(True))

    assert vet(page, facts()) == NoAnswer("sim", "not_the_api")
    assert vet(page, facts(BOOK)) == NoAnswer("sim", "not_the_api"), "no page is a booking"
    text = Arrived("sim", Reply(200, "", (("Content-Type", "text/plain"),), b"done"))
    assert vet(text, facts(BOOK)) is text
    empty = Arrived("sim", Reply(204, "", ()))
    assert vet(empty, facts(BOOK)) is empty
    metadata = Route("metadata", "other", ("GET",), "metadata", keep=True, ceiling_s=9)
    assert vet(page, facts(metadata)) == NoAnswer("sim", "not_the_api")
    assert vet(page, facts(OTHER_READ)) is page
    assert vet(page, facts(OTHER_WRITE)) is page
    assert vet(NeverLeft("sim", "tls"), facts()) == NeverLeft("sim", "tls")
    streamed = replace(page, reply=replace(page.reply, body=stream))
    assert vet(streamed, facts()) == NoAnswer("sim", "not_the_api")
    assert closed == [True]
    assert vet(won().arrived, facts()) == won().arrived


def test_a_page_with_200_proves_no_path_and_a_refusal_is_evidence_in_any_form() -> None:
    page = (("Content-Type", "text/html"),)

    assert is_evidence(won().arrived, facts())
    assert not is_evidence(Arrived("sim", Reply(200, "OK", page, b"<p>")), facts(BOOK))
    assert not is_evidence(Arrived("sim", Reply(204, "", ())), facts(BOOK))
    assert is_evidence(Arrived("sim", Reply(403, "", page, b"<p>")), facts())


def test_a_streamed_5xx_is_let_go_when_a_copy_is_served_instead() -> None:
    closed: list[bool] = []
    stream = Streamed(None, close=lambda: closed.append(True))
    ended = Won(Arrived("fibre", Reply(503, "", FHIR, stream)), 1)
    question = forward().next(ended, DOWN, NOW)

    assert isinstance(question, LookUp)
    question.next(kept(), NOW, True)
    assert closed == [True]


def test_only_a_read_may_be_doubled_and_only_where_its_own_link_works_badly() -> None:
    bad = replace(NORMAL, double=True)
    assert forward(standing=bad).plan.duplicate
    assert not forward().plan.duplicate
    assert not forward(BOOK, standing=bad).plan.duplicate


BULK = Route("bulk", "other", ("POST",), ".*")


def test_what_a_plan_does_not_allow_is_refused_where_only_that_link_is_left() -> None:
    asked = replace(facts(BULK, replace(NORMAL, links=("sim",))), barred=frozenset({"sim"}))

    done = begin(asked)

    assert isinstance(done, Done)
    assert (done.answer.status, done.answered, done.sends) == (503, "refused", 0)
    assert ("Retry-After", "300") in done.answer.headers
    assert b"throttled" in done.answer.body  # type: ignore[operator]


def test_a_barred_use_takes_the_link_without_a_meter_and_never_the_other() -> None:
    asked = replace(facts(BULK, replace(NORMAL, links=("fibre", "sim"))), barred=frozenset({"sim"}))

    question = begin(asked)

    assert isinstance(question, Forward)
    assert question.plan.links == ("fibre",)


def test_an_upstream_that_asked_to_be_left_alone_is_not_asked_twice() -> None:
    standing = replace(NORMAL, resting=True, double=True)
    plan = forward(standing=standing).plan
    assert (plan.hedge_after_s, plan.duplicate, plan.again) == ((), False, False)
    assert forward().plan.again


def test_only_a_copy_that_may_be_served_keeps_a_read_from_being_sent() -> None:
    """Else a read over links that are silent for a moment would be refused without being tried."""
    asked = facts()
    assert may_serve(asked, kept(), NOW, True)
    assert not may_serve(asked, None, NOW, True)
    assert not may_serve(asked, kept(age=901), NOW, True)
    assert not may_serve(asked, kept(), NOW, False)
    assert not may_serve(facts(leave=Leave(False)), kept(), NOW, True)


def test_a_clients_own_wait_is_the_patience_of_its_read() -> None:
    asked = forward(headers=(("Prefer", "wait=2"),))
    assert (asked.plan.patience_s, asked.outbound.patience_s) == (2.0, 2.0)
    assert forward(BOOK, headers=(("Prefer", "wait=2"),)).plan.patience_s == 40.0


def test_a_spent_slice_for_hedges_stops_second_sends_and_no_rescue() -> None:
    waits = (("fibre", 0.2), ("sim", 0.2))
    standing = replace(NORMAL, links=("fibre", "sim"), hedge_after_s=waits, double=True)
    asked = replace(facts(READ, standing), unhedged=frozenset({"sim"}))

    question = begin(asked)

    assert isinstance(question, Forward)
    assert (question.plan.links, question.plan.hedge_after_s) == (("fibre", "sim"), ())
    assert not question.plan.duplicate
    free = begin(facts(READ, standing))
    assert isinstance(free, Forward)
    assert (free.plan.hedge_after_s, free.plan.duplicate) == (waits, True)
