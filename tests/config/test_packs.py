"""The packs that come with us, and what a wrong one is told."""

from pathlib import Path

import pytest

from gateway.config.packs import find, known, own_directory, read
from gateway.core.message import Request
from gateway.core.pack import Pack, match

GPC = "urn:nhs:names:services:gpconnect:"
STRUCTURED = ('{{"resourceType":"Parameters","parameter":[{{"name":"patientNHSNumber",'
              '"valueIdentifier":{{"system":"https://fhir.nhs.uk/Id/nhs-number",'
              '"value":"9990000018"}}}},{{"name":"{}"}}]}}')


def pack(name: str) -> Pack:
    file = find(name, None)
    assert file is not None
    found: list[str] = []
    answer = read(file, found)
    assert answer is not None, found
    return answer


def ask(name: str, method: str, target: str, interaction: str = "", body: str = "") -> tuple[
        str, tuple[str, ...]]:
    headers = (("Ssp-InteractionID", GPC + interaction),) if interaction else ()
    request = Request("B81001", "c", "u", method, target, headers, body.encode())
    matched = match(pack(name), request)
    return matched.route.id, matched.subjects


def test_three_packs_come_with_us() -> None:
    assert known(None) == ["bars-r4", "fhir-r4", "gp-connect-stu3"]


@pytest.mark.parametrize(("method", "target", "interaction", "body", "route", "subjects"), [
    ("GET", "/metadata", "fhir:rest:read:metadata-1", "", "metadata", ()),
    ("GET", "/metadata", "", "", "metadata", ()),
    ("GET", "/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number%7C9990000018",
     "fhir:rest:search:patient-1", "", "patient-search", ("nhs/9990000018",)),
    ("GET", "/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018", "", "",
     "patient-search", ("nhs/9990000018",)),
    ("GET", "/Patient/2", "fhir:rest:read:patient-1", "", "patient-read", ("Patient/2",)),
    ("HEAD", "/Patient/2", "fhir:rest:read:patient-1", "", "patient-read", ("Patient/2",)),
    ("GET", "/Practitioner/7", "fhir:rest:read:practitioner-1", "", "staff-and-places", ()),
    ("GET", "/Location", "", "", "other", ()),
    ("GET", "/Slot?status=free&start=ge2026-11-24", "fhir:rest:search:slot-1", "",
     "slot-search", ()),
    ("GET", "/Patient/2/Appointment?start=ge2026-11-24", "", "", "patient-appointments",
     ("Patient/2",)),
    ("GET", "/Appointment/9", "fhir:rest:read:appointment-1", "", "appointment-read", ()),
    ("POST", "/Appointment", "fhir:rest:create:appointment-1", "", "book", ()),
    ("PUT", "/Appointment/9", "fhir:rest:update:appointment-1", "", "amend", ()),
    ("PUT", "/Appointment/9", "fhir:rest:cancel:appointment-1", "", "cancel", ()),
    ("PUT", "/Appointment/9", "", "", "cancel", ()),  # unnamed: the one that voids more
    ("PUT", "/Appointment/9", "fhir:rest:read:patient-1", "", "appointment-write-other", ()),
    ("POST", "/Patient/$gpc.getstructuredrecord", "fhir:operation:gpc.getstructuredrecord-1",
     STRUCTURED.format("includeAllergies"), "structured-short", ("nhs/9990000018",)),
    ("POST", "/Patient/$gpc.getstructuredrecord", "",
     STRUCTURED.format("includeProblems"), "structured-long", ("nhs/9990000018",)),
    ("POST", "/Patient/$gpc.getstructuredrecord", "",
     STRUCTURED.format("includeProblems\"},{\"name\":\"includeConsultations"),
     "structured-medium", ("nhs/9990000018",)),
    ("POST", "/Patient/$gpc.getstructuredrecord", "", STRUCTURED.format("x"),
     "structured-other", ("nhs/9990000018",)),
    ("POST", "/Patient/%24gpc.getstructuredrecord", "", STRUCTURED.format("includeAllergies"),
     "other-write", ()),
    ("POST", "/Patient/$gpc.migratestructuredrecord", "", STRUCTURED.format("x"),
     "migrate-record", ("nhs/9990000018",)),
    ("GET", "/Binary/1", "documents:fhir:rest:read:binary-1", "", "document-fetch", ()),
    ("GET", "/Patient/2/DocumentReference?x=y", "", "", "document-search", ("Patient/2",)),
    ("GET", "/Slot", "fhir:rest:read:patient-1", "", "other", ()),  # mismatch: never kept
])
def test_gp_connect_requests_are_what_they_are(method: str, target: str, interaction: str,
                                               body: str, route: str,
                                               subjects: tuple[str, ...]) -> None:
    assert ask("gp-connect-stu3", method, target, interaction, body) == (route, subjects)


@pytest.mark.parametrize(("method", "target", "body", "route"), [
    ("GET", "/Slot?status=free", "", "slot-search"),
    ("GET", "/Appointment?patient:identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018", "",
     "appointment-search"),
    ("POST", "/$process-message", '"code":"booking-request"', "message-booking"),
    ("POST", "/$process-message", '"code":"servicerequest-request"', "message-other"),
    ("DELETE", "/Appointment/1", "", "appointment-write"),
    ("GET", "/ServiceRequest/1", "", "referral-read"),
])
def test_bars_requests_are_what_they_are(method: str, target: str, body: str, route: str) -> None:
    assert ask("bars-r4", method, target, "", body)[0] == route


@pytest.mark.parametrize(("method", "target", "route", "subjects"), [
    ("GET", "/AllergyIntolerance?patient=Patient/7&_count=10", "record-short", ("Patient/7",)),
    ("GET", "/Condition?subject=Patient%2F7", "record-long", ("Patient/7",)),
    ("GET", "/Patient?name=x", "patient-search", ()),
    ("GET", "/Appointment?actor=Patient/7", "appointments", ("Patient/7",)),
    ("POST", "/Patient/_search", "search-by-post", ()),
    ("POST", "/", "any-write", ()),
    ("PUT", "/Patient/7", "any-write", ()),
    ("PATCH", "/Appointment/7", "appointment-write", ()),
    ("GET", "/", "other", ()),
    ("GET", "/Group/1", "other", ()),
])
def test_plain_fhir_requests_are_what_they_are(method: str, target: str, route: str,
                                               subjects: tuple[str, ...]) -> None:
    assert ask("fhir-r4", method, target) == (route, subjects)


@pytest.mark.parametrize("name", ["gp-connect-stu3", "bars-r4", "fhir-r4"])
def test_every_write_voids_every_kept_read_that_it_may_change(name: str) -> None:
    found = pack(name)
    kept = {route.id for route in found.routes if route.keep and route.kind == "booking_read"}
    for route in found.routes:
        if route.kind == "booking" and route.id != "amend":
            assert kept <= set(route.voids), route.id


@pytest.mark.parametrize("name", ["gp-connect-stu3", "bars-r4", "fhir-r4"])
def test_no_ceiling_is_longer_than_the_safety_table_allows(name: str) -> None:
    for route in pack(name).routes:
        longest = 900 if route.id == "slot-search" else 14400 if route.kind == "booking_read" \
            else 7 * 86400
        assert route.ceiling_s <= longest, route.id


@pytest.mark.parametrize(("text", "told"), [
    ('name = "q"\n[[routes]]\nid = "a"\npath = "x"', 'name = "q": must be the file\'s name, p'),
    ('name = "p"', "routes: is missing"),
    ('name = "p"\n[[routes]]\nid = "a"\npath = "(?P<name>x)"', "group name is no subject"),
    ('name = "p"\n[[routes]]\nid = "a"\npath = "x"\nkeep = true', "needs a ceiling above 0"),
    ('name = "p"\n[[routes]]\nid = "a"\npath = "x"\nmethods = ["HEAD"]', "HEAD is no method"),
    ('name = "p"\n[[routes]]\nid = "a"\npath = "x"\nmethods = ["POST"]\nvoids = ["b"]',
     "no route has the id b"),
    ('name = "p"\n[[routes]]\nid = "a"\nkind = "write"\nmethods = ["POST"]\npath = "x"\n'
     'keep = true', "only reads are kept"),
    ("=", "cannot be read as TOML"),
])
def test_a_wrong_pack_is_told_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    found: list[str] = []
    assert read(tmp_path / "p.toml", found) is None
    assert any(told in line for line in found), found


def test_our_packs_stand_in_the_tree_or_in_the_wheel() -> None:
    assert (own_directory() / "fhir-r4.toml").is_file()
