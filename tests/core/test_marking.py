"""How answers say what they are: a copy is never unmarked, past its ceiling, or of unsure age."""

import gzip
import json
from dataclasses import replace

import pytest

from gateway.core.instant import Wall
from gateway.core.keeping import Kept, Leave
from gateway.core.marking import Why, copy_answer, live_marks, refusal, stamp
from gateway.core.message import Answer, Headers, Request, every, first
from gateway.core.pack import Route

FETCHED = Wall(1_700_000_000.0)
ROUTE = Route("slots", "booking_read", ("GET",), "Slot", keep=True, ceiling_s=900)
CLINICAL = replace(ROUTE, clinical=True)
WHY = Why("LINK_DOWN", "standalone")
BUNDLE = b'{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{}}]}'
STORED: Headers = (
    ("content-TYPE", "application/fhir+json"), ("ETag", 'W/"1"'), ("Set-Cookie", "a=b"),
    ("Last-Modified", "x"), ("Cache-Control", "no-store"), ("X-Two", "1"), ("X-Two", "2"),
    ("Age", "7"), ("Content-Length", "99"), ("Via", "1.1 theirs"), ("Repr-Digest", "d"))


def kept(body: bytes = b'{"resourceType":"Patient"}', *more: tuple[str, str],
         restricted: bool = False) -> Kept:
    return Kept(200, "", (*STORED, *more), body, FETCHED, 900, restricted)


def asked(*headers: tuple[str, str], method: str = "GET") -> Request:
    return Request("B81001", "desk", "gpc", method, "/x", headers)


def serve(copy: Kept, *headers: tuple[str, str], age: float = 60, trusted: bool = True,
          leave: Leave | None = None, route: Route = ROUTE, method: str = "GET") -> Answer | None:
    return copy_answer(copy, asked(*headers, method=method), route, leave or Leave(True), WHY,
                       "pg", Wall(FETCHED + age), trusted)


def test_a_copy_says_how_old_it_is_and_why_it_is_served() -> None:
    answer = serve(kept(), age=60)

    assert answer is not None
    assert first(answer.headers, "Age") == "60"
    assert every(answer.headers, "Cache-Control") == ("no-store",)
    assert first(answer.headers, "Cache-Status") == (
        "practice-gateway; hit; ttl=-60; detail=standalone")
    assert first(answer.headers, "Continuity") == (
        f'class=as-of; as-of="{stamp(FETCHED)}"; cause=LINK_DOWN')
    assert stamp(FETCHED) == "2023-11-14T22:13:20Z"


def test_a_copy_has_no_etag_and_nothing_that_spoke_of_another_moment() -> None:
    answer = serve(kept())

    assert answer is not None
    for gone in ("ETag", "Set-Cookie"):
        assert first(answer.headers, gone) is None
    assert every(answer.headers, "Via") == ("1.1 pg",)
    assert every(answer.headers, "X-Two") == ("1", "2")
    assert first(answer.headers, "Last-Modified") == "x"
    assert every(answer.headers, "Content-Length") == (str(len(answer.body)),)  # type: ignore[arg-type]


def test_a_single_resource_keeps_its_bytes() -> None:
    answer = serve(kept(b'{"resourceType":"Patient","x":"\xc3\x98"}'))

    assert answer is not None
    assert answer.body == b'{"resourceType":"Patient","x":"\xc3\x98"}'


def test_a_searchset_carries_the_warning_as_its_last_entry() -> None:
    answer = serve(kept(BUNDLE))

    assert answer is not None
    assert isinstance(answer.body, bytes)
    entries = json.loads(answer.body)["entry"]
    assert len(entries) == 2
    assert entries[1]["search"] == {"mode": "outcome"}
    issue = entries[1]["resource"]["issue"][0]
    assert (issue["severity"], issue["code"]) == ("warning", "informational")
    assert stamp(FETCHED) in issue["diagnostics"]
    assert first(answer.headers, "Repr-Digest") is None


@pytest.mark.parametrize(("accept", "packed"), [
    ("gzip", True), ("br, gzip;q=0.5", True), ("*", True),
    ("gzip;q=0", False), ("identity", False), ("", False)])
def test_the_kept_coding_is_served_only_where_it_is_accepted(accept: str, packed: bool) -> None:
    body = b'{"resourceType":"Patient"}'
    answer = serve(kept(gzip.compress(body), ("Content-Encoding", "gzip")),
                   ("Accept-Encoding", accept))

    assert answer is not None
    assert isinstance(answer.body, bytes)
    assert (first(answer.headers, "Content-Encoding") == "gzip") is packed
    assert (gzip.decompress(answer.body) if packed else answer.body) == body


def test_where_an_entry_is_spliced_in_the_coding_is_gone() -> None:
    answer = serve(kept(gzip.compress(BUNDLE), ("Content-Encoding", "gzip")),
                   ("Accept-Encoding", "gzip"))

    assert answer is not None
    assert isinstance(answer.body, bytes)
    assert first(answer.headers, "Content-Encoding") is None
    assert len(json.loads(answer.body)["entry"]) == 2


def test_the_ceiling_is_the_last_second_a_copy_is_served() -> None:
    assert serve(kept(), age=900) is not None
    assert serve(kept(), age=901) is None


def test_the_clients_own_bound_is_obeyed_beside_the_ceiling() -> None:
    assert serve(kept(), age=60, leave=Leave(True, 60)) is not None
    assert serve(kept(), age=61, leave=Leave(True, 60)) is None


def test_who_did_not_opt_in_gets_no_copy() -> None:
    assert serve(kept(), leave=Leave(False)) is None


def test_a_copy_of_unsure_age_is_not_served() -> None:
    assert serve(kept(), trusted=False) is None
    assert serve(kept(), age=-6) is None
    young = serve(kept(), age=-1)
    assert young is not None
    assert first(young.headers, "Age") == "0"


def test_a_restricted_copy_says_so_and_a_clinical_one_without_rows_is_refused() -> None:
    empty = b'{"resourceType":"Bundle","type":"searchset"}'
    said = serve(kept(BUNDLE, restricted=True))

    assert said is not None
    assert (first(said.headers, "Continuity") or "").startswith("class=restricted;")
    assert b"withheld" in said.body  # type: ignore[operator]
    assert serve(kept(b'{"resourceType":"List"}', restricted=True), route=CLINICAL) is None
    assert serve(kept(empty, restricted=True)) is not None
    assert serve(kept(empty, restricted=True), route=CLINICAL) is None


def test_what_cannot_be_marked_is_not_served() -> None:
    xml = Kept(200, "", (("Content-Type", "application/fhir+xml"),),
               b'<?xml version="1.0"?><Bundle xmlns="http://hl7.org/fhir"/>', FETCHED, 900)

    assert serve(xml) is None
    assert serve(kept(b'{"resourceType":"Bundle","type":"searchset","entry":{}}')) is None
    assert serve(kept(b"x", ("Content-Encoding", "gzip"))) is None


def test_head_gets_the_fields_of_get_and_no_body() -> None:
    whole, head = serve(kept(BUNDLE)), serve(kept(BUNDLE), method="HEAD")

    assert whole is not None
    assert head is not None
    assert head.headers == whole.headers
    assert head.body == b""


def test_a_refusal_is_an_outcome_that_nobody_caches() -> None:
    answer = refusal(503, "transient", "not now", "pg", 10, cause="LINK_DOWN")

    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["issue"][0]["code"] == "transient"
    assert first(answer.headers, "Retry-After") == "10"
    assert first(answer.headers, "Cache-Control") == "no-store"
    assert first(answer.headers, "Continuity") == "class=unknown; cause=LINK_DOWN"


def test_a_live_answer_names_its_link_and_doubt() -> None:
    assert dict(live_marks("fibre", True, True, False)) == {
        "Cache-Status": "practice-gateway; fwd=miss", "Continuity": "class=live; link=fibre"}
    assert dict(live_marks("sim", False, False, True)) == {
        "Cache-Status": "practice-gateway; fwd=method",
        "Continuity": "class=live; link=sim; outcome=unknown"}


def test_a_range_of_a_copy_is_answered_with_the_whole() -> None:
    body = b'{"resourceType":"Patient"}'
    answer = serve(kept(body), ("Range", "bytes=0-3"), ("If-Range", '"1"'))

    assert answer is not None
    assert (answer.status, answer.body) == (200, body)
    assert first(answer.headers, "Content-Range") is None
