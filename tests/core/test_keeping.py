"""What is kept and dropped, and for whom: each rule of continuity.md section 3 by direct call."""

import base64
import gzip
import json

import pytest

from gateway.core.instant import Wall
from gateway.core.keeping import (
    UNPACKED_BYTES_MAX,
    Drop,
    KeepMode,
    decoded,
    key_of,
    leave,
    removal,
    to_keep,
    voided,
)
from gateway.core.message import Headers, Reply, Request, Streamed
from gateway.core.pack import Matched, Pack, Route

READ = Route("read-patient", "record_read", ("GET",), r"Patient/(?P<patient>[^/]+)", keep=True,
             ceiling_s=3600, types=("Patient",), identity=True, removes="subject")
BOOK = Route("book", "booking", ("POST",), "Appointment", voids=("slots",))
AMEND = Route("amend", "booking", ("PUT",), "Appointment/.*", voids=("slots",), voids_subject=True)
PACK = Pack("p", (READ, BOOK), key_headers=("Accept", "Version"),
            subject_codes=("PATIENT_NOT_FOUND",))
FETCHED = Wall(1000.0)
MATCHED = Matched(READ, ("Patient/2",))


def request(*headers: tuple[str, str], method: str = "GET", target: str = "/Patient/2",
            body: bytes = b"", client: str = "desk") -> Request:
    return Request("B81001", client, "gpc", method, target, headers, body)


def reply(*headers: tuple[str, str], status: int = 200, body: bytes = b"{}") -> Reply:
    return Reply(status, "", (("Content-Type", "application/fhir+json; charset=utf-8"), *headers),
                 body)


def token(**claims: object) -> tuple[str, str]:
    raw = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return ("Authorization", f"Bearer e30.{raw}.")


def test_a_whole_reply_of_a_kept_route_is_kept_with_its_ceiling_and_people() -> None:
    keep = to_keep("continuity", PACK, MATCHED, request(), reply(("Cache-Control", "no-store")),
                   FETCHED)

    assert keep is not None
    assert (keep.fetched, keep.ceiling_s, keep.subjects) == (FETCHED, 3600, ("Patient/2",))
    assert (keep.identity, keep.types, keep.body) == (True, ("Patient",), b"{}")


@pytest.mark.parametrize("bad", [
    Reply(200, "", (("Content-Type", "text/html"),), b"<p>"),
    Reply(200, "", (), b"{}"),
    reply(status=201), reply(status=206), reply(status=304), reply(status=404),
    Reply(200, "", reply().headers, b"{}", "close"),
    Reply(200, "", reply().headers, b"{}", unambiguous=False),
    Reply(200, "", reply().headers, Streamed(None)),
    reply(("Vary", "Prefer")), reply(("Vary", "*")), reply(("Content-Encoding", "br")),
    reply(("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")),
])
def test_what_is_not_whole_or_not_the_api_is_never_kept(bad: Reply) -> None:
    assert to_keep("continuity", PACK, MATCHED, request(), bad, FETCHED) is None


def test_nothing_is_kept_when_keeping_is_off_or_the_pack_does_not_name_it_or_for_head() -> None:
    other = Matched(Route("x", "record_read", ("GET",), ".*"))

    assert to_keep("off", PACK, MATCHED, request(), reply(), FETCHED) is None
    assert to_keep("continuity", PACK, other, request(), reply(), FETCHED) is None
    assert to_keep("continuity", PACK, MATCHED, request(method="HEAD"), reply(), FETCHED) is None


@pytest.mark.parametrize(("asked", "said", "ceiling"), [
    ((), "", None),
    ((), "max-age=60", 60.0),
    ((), "max-age=60, stale-if-error=30", 90.0),
    ((), "max-age=60, stale-if-error=30, must-revalidate", 60.0),
    ((), "s-maxage=5, max-age=60, stale-if-error=9", 5.0),
    ((), "no-cache, max-age=60, stale-if-error=30", None),
    ((), "no-store, max-age=60", None),
    ((), 'private="x", max-age=60', None),
    ((), "max-age=junk", None),
    ((("Cache-Control", "no-store"),), "max-age=60", None),
    ((("Authorization", "Bearer x"),), "max-age=60", None),
    ((("Authorization", "Bearer x"),), "public, max-age=60", 60.0),
])
def test_an_ordinary_http_upstream_is_kept_by_the_rules_of_rfc_9111(
    asked: Headers, said: str, ceiling: float | None
) -> None:
    mode: KeepMode = "http"
    keep = to_keep(mode, PACK, MATCHED, request(*asked), reply(("Cache-Control", said)), FETCHED)

    assert (keep.ceiling_s if keep else None) == ceiling


def test_time_already_spent_in_other_caches_shortens_freshness() -> None:
    keep = to_keep("http", PACK, MATCHED, request(),
                   reply(("Cache-Control", "max-age=60"), ("Age", "50")), FETCHED)

    assert keep is not None
    assert keep.ceiling_s == 10


@pytest.mark.parametrize("other", [
    request(target="/Patient/3"), request(target="/Patient/2?"), request(target="/Patient/2?a=1"),
    request(("Accept", "application/fhir+xml")), request(("Version", "2")),
    request(client="other"), request(token(org="A")),
])
def test_what_the_reply_depends_on_is_in_the_key(other: Request) -> None:
    pack = Pack("p", (READ,), key_headers=("Accept", "Version"), asker_claims=("org",))

    assert key_of(pack, MATCHED, request()) != key_of(pack, MATCHED, other)


def test_head_is_looked_up_as_the_get_it_stands_for() -> None:
    assert key_of(PACK, MATCHED, request(method="HEAD")) == key_of(PACK, MATCHED, request())


def test_two_programs_of_one_organisation_share_a_key_and_two_organisations_do_not() -> None:
    pack = Pack("p", (READ,), asker_claims=("org.id", "scope"))
    a1 = key_of(pack, MATCHED, request(token(org={"id": "A"}, scope="r", exp=1), client="x"))
    a2 = key_of(pack, MATCHED, request(token(org={"id": "A"}, scope="r", exp=2), client="y"))
    b = key_of(pack, MATCHED, request(token(org={"id": "B"}, scope="r", exp=1), client="x"))

    assert a1 == a2
    assert a1 != b


@pytest.mark.parametrize("value", ["Bearer a.b.c", "Bearer x", "Basic eA==", "Bearer .W10.", ""])
def test_an_unreadable_token_makes_the_client_the_asker(value: str) -> None:
    pack = Pack("p", (READ,), asker_claims=("org.id",))
    keys = {key_of(pack, MATCHED, request(("Authorization", value), client=client)).content
            for client in ("x", "y")}

    assert len(keys) == 2


def test_a_read_by_post_is_keyed_by_what_its_body_means() -> None:
    bodies = (b'{"a":1,"b":[2]}', b'{ "b" : [2], "a" : 1 }', b'{"a":1,"b":[3]}', b"not json")
    keys = [key_of(PACK, MATCHED, request(method="POST", body=body)).content for body in bodies]

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(("opted", "asked", "given", "bound"), [
    (False, "", False, None),
    (True, "", True, float("inf")),
    (False, "max-stale", True, float("inf")),
    (False, "max-stale=60", True, 60.0),
    (False, "stale-if-error=60, max-stale=90", True, 90.0),
    (True, "max-stale=60", True, 60.0),
    (True, "no-store", False, None),
    (True, "no-cache, max-stale=60", False, None),
    (False, "max-stale=junk", True, 0.0),
])
def test_only_who_opted_in_gets_copies_and_within_their_own_bound(
    opted: bool, asked: str, given: bool, bound: float | None
) -> None:
    got = leave(opted, request(("Cache-Control", asked)))

    assert got.given == given
    if bound is not None:
        assert got.age_s_max == bound


def outcome(code: str) -> bytes:
    return json.dumps({"issue": [{"details": {"coding": [{"code": code}]}}]}).encode()


def test_a_code_that_speaks_of_the_patient_drops_all_about_them() -> None:
    drop = removal(PACK, MATCHED, request(), reply(status=404, body=outcome("PATIENT_NOT_FOUND")),
                   FETCHED)

    assert drop == Drop("gpc", FETCHED, subjects=("Patient/2",))


def test_a_patient_code_is_seen_through_gzip() -> None:
    squeezed = reply(("Content-Encoding", "gzip"), status=404,
                     body=gzip.compress(outcome("PATIENT_NOT_FOUND")))

    drop = removal(PACK, MATCHED, request(), squeezed, FETCHED)

    assert drop is not None
    assert drop.subjects == ("Patient/2",)


def test_any_other_refusal_drops_this_askers_own_copy_only() -> None:
    drop = removal(PACK, MATCHED, request(), reply(status=403, body=outcome("ACCESS_DENIED")),
                   FETCHED)

    assert drop == Drop("gpc", FETCHED, key=key_of(PACK, MATCHED, request()))


@pytest.mark.parametrize("status", [200, 304, 400, 401, 409, 422, 429, 500, 503])
def test_no_other_status_removes_a_copy(status: int) -> None:
    assert removal(PACK, MATCHED, request(), reply(status=status), FETCHED) is None


def test_a_write_voids_what_the_pack_says_for_all_or_for_its_people() -> None:
    everyone = voided(Matched(BOOK, ("Patient/2",)), request(method="POST"), FETCHED)
    one = voided(Matched(AMEND, ("Patient/2",)), request(method="PUT"), FETCHED)

    assert everyone == Drop("gpc", FETCHED, routes=("slots",))
    assert one == Drop("gpc", FETCHED, routes=("slots",), subjects=("Patient/2",))
    assert voided(MATCHED, request(), FETCHED) is None


def test_a_bomb_or_a_cut_coding_is_not_unpacked() -> None:
    packed = (("Content-Encoding", "gzip"),)
    bomb = gzip.compress(bytes(UNPACKED_BYTES_MAX + 1))

    assert decoded(gzip.compress(b"x"), packed) == b"x"
    assert decoded(bomb, packed) is None
    assert decoded(gzip.compress(b"x" * 99)[:-3], packed) is None
    assert decoded(b"plain", packed) is None


@pytest.mark.parametrize(("body", "drops"), [
    (b'{"resourceType":"Bundle","type":"searchset","total":0}', True),
    (b'{"type":"searchset","entry":[]}', True),
    (b'{"type":"searchset","entry":[{"search":{"mode":"outcome"}}]}', True),
    (b'{"type":"searchset","entry":[{"resource":{}}]}', False),
    (b'{"type":"searchset","entry":[{"resource":{},"search":{"mode":"match"}}]}', False),
    (b'{"type":"history"}', False), (b'{"type":"searchset"', False), (b"[]", False)])
def test_a_search_that_finds_nobody_drops_the_patients_copies(body: bytes, drops: bool) -> None:
    search = Matched(READ, ("nhs/9990000018",))

    drop = removal(PACK, search, request(), reply(body=body), FETCHED)

    assert drop == (Drop("gpc", FETCHED, subjects=("nhs/9990000018",)) if drops else None)


def test_an_empty_search_that_identifies_nobody_drops_nothing() -> None:
    empty = reply(body=b'{"type":"searchset"}')

    assert removal(PACK, Matched(READ), request(), empty, FETCHED) is None


def test_a_page_that_refuses_is_not_the_clinical_systems_word() -> None:
    page = Reply(404, "", (("Content-Type", "text/html"),), b"<p>PATIENT_NOT_FOUND")
    bare = Reply(410, "", ())

    assert removal(PACK, MATCHED, request(), page, FETCHED) is None
    assert removal(PACK, MATCHED, request(), bare, FETCHED) is not None
