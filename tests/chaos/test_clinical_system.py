"""The clinical system keeps GP Connect's rules and a real provider's manners, on raw sockets."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from chaos import practice as made
from chaos.clinical_system import ClinicalSystem, sha
from chaos.gp_connect import GPC

TODAY = datetime.now(UTC).date()
ROOT = "/B81001/STU3/1/gpconnect"
FHIR = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class Raw:
    """A reply as it stood on the wire, and whether the server closed after it."""

    head: str
    body: bytes
    closed: bool

    @property
    def status(self) -> int:
        return int(self.head.split(" ", 2)[1])

    def field(self, name: str) -> str | None:
        found = re.search(rf"^{name}: *(.*)\r$", self.head, re.MULTILINE | re.IGNORECASE)
        return found[1] if found else None

    def tree(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A raw HTTP/1.1 connection to the clinical system."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, method: str, target: str, body: bytes = b"", accept: str = FHIR,
                  **fields: str) -> Raw:
        lines = [f"{method} {target} HTTP/1.1", "Host: provider"]
        lines += [f"Accept: {accept}"] if accept else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            got = await self._body(head, method)
        closed = "connection: close" in head.lower()
        if closed:
            assert await self.reader.read() == b""
        return Raw(head, got, closed)

    async def _body(self, head: str, method: str) -> bytes:
        length = re.search(r"^content-length: (\d+)", head, re.MULTILINE | re.IGNORECASE)
        if length:
            return b"" if method == "HEAD" else await self.reader.readexactly(int(length[1]))
        if "chunked" not in head.lower():
            return b""
        found = b""
        while size := int((await self.reader.readline()).strip(), 16):
            found += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return found


@pytest.fixture
async def system() -> AsyncIterator[ClinicalSystem]:
    practices = [made.practice(ods, 7, TODAY) for ods in ("B81001", "A20047")]
    listeners = {"fibre": ("127.0.0.1", 0), "sim": ("127.0.0.1", 0)}
    async with ClinicalSystem(practices, listeners=listeners, pace=0.0) as running:
        yield running


@pytest.fixture
async def wire(system: ClinicalSystem) -> AsyncIterator[Wire]:
    dialled = await dial(system)
    yield dialled
    dialled.writer.close()


async def dial(system: ClinicalSystem, listener: str = "fibre") -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", system.ports[listener]))


def slots_target(days: int = 13) -> str:
    last = TODAY + timedelta(days=days)
    return (f"{ROOT}/Slot?status=free&start=ge{TODAY}&end=le{last}&_include=Slot:schedule")


def booking(slot: str, patient: str = "2", **more: object) -> bytes:
    return json.dumps({
        "resourceType": "Appointment", "status": "booked", "slot": [{"reference": f"Slot/{slot}"}],
        "participant": [{"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}],
        **more}).encode()


async def test_a_read_has_the_manners_of_the_real_provider(wire: Wire) -> None:
    reply = await wire.ask("GET", f"{ROOT}/Patient/3")
    assert reply.head.startswith("HTTP/1.1 200 \r\n"), "no reason phrase"
    assert reply.field("Transfer-Encoding") == "chunked"
    assert reply.field("Content-Length") is None
    assert reply.field("Cache-Control") == "no-store"
    assert re.fullmatch(r'W/"\d+000"', reply.field("ETag") or "")
    assert (reply.field("Location") or "").startswith("http://127.0.0.1:")
    assert reply.field("Vary") is None
    assert not reply.closed
    assert reply.tree()["name"][0]["family"] == "Østergård"


async def test_a_slot_search_is_as_big_as_the_real_one(wire: Wire) -> None:
    reply = await wire.ask("GET", slots_target())
    assert 300_000 < len(reply.body) < 600_000
    kinds = {one["resource"]["resourceType"] for one in reply.tree()["entry"]}
    assert kinds == {"Slot", "Schedule", "Practitioner", "Location", "Organization"}
    assert reply.field("ETag") is None


async def test_gzip_comes_without_vary_and_unpacks_to_the_same_bytes(wire: Wire) -> None:
    plain = await wire.ask("GET", slots_target())
    packed = await wire.ask("GET", slots_target(), Accept_Encoding="gzip, deflate")
    assert packed.field("Content-Encoding") == "gzip"
    assert packed.field("Vary") is None
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize(("target", "status"), [
    (f"{ROOT}/Slot?start=ge2026-01-01&end=le2026-01-02&_include=Slot:schedule", 422),
    (f"{ROOT}/Slot?status=free&start=ge2026-01-01&_include=Slot:schedule", 422),
    (f"{ROOT}/Slot?status=free&start=ge2026-01-01&end=le2026-01-02", 422),
    (f"{ROOT}/Slot?status=free&start=ge2026-01-01&end=le2026-02-01&_include=Slot:schedule", 422),
    (f"{ROOT}/Slot?status=free&start=ge2026-01-01T08:00:00+00:00&end=le2026-01-02"
     "&_include=Slot:schedule", 200),
    (f"{ROOT}/Patient/2/Appointment?start=ge2020-01-01&start=le2099-01-01", 422),
    (f"{ROOT}/Patient/2/Appointment?start=ge2099-01-01", 422),
    (f"{ROOT}/Patient/2/Appointment?start=ge2099-01-01&start=le2099-01-02", 200),
    (f"{ROOT}/Patient/99999", 400),
    (f"{ROOT}//Patient/2", 404),
    (f"{ROOT}/Patient/%24gpc.getstructuredrecord", 400),
    (f"{ROOT}/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number|9990000018", 400),
    (f"{ROOT}/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number%7C9990000019", 400),
    (f"{ROOT}/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number%7C9990000018", 200),
    ("/Z99999/STU3/1/gpconnect/Patient/2", 404)])
async def test_searches_keep_the_rules(wire: Wire, target: str, status: int) -> None:
    reply = await wire.ask("GET", target)
    assert reply.status == status
    assert reply.closed == (status == 400), "a 400 closes the connection, nothing else here does"


@pytest.mark.parametrize(("accept", "status"), [
    ("*/*", 415), ("application/fhir+json, application/json", 415), ("application/xml", 415),
    ("application/fhir+json", 200), ("application/fhir+json;charset=utf-8", 200), ("", 200)])
async def test_accept_must_name_one_json_type(wire: Wire, accept: str, status: int) -> None:
    assert (await wire.ask("GET", f"{ROOT}/metadata", accept=accept)).status == status


async def test_head_is_400(wire: Wire) -> None:
    assert (await wire.ask("HEAD", f"{ROOT}/Patient/2")).status == 400


async def test_each_100th_answer_closes(wire: Wire) -> None:
    closed = [(await wire.ask("GET", f"{ROOT}/Location/1")).closed for _ in range(100)]
    assert closed == [False] * 99 + [True]


async def test_a_booking_takes_its_slot_once(wire: Wire, system: ClinicalSystem) -> None:
    first = await wire.ask("POST", f"{ROOT}/Appointment", booking("2"), Content_Type=FHIR)
    again = await wire.ask("POST", f"{ROOT}/Appointment", booking("2"), Content_Type=FHIR)
    assert (first.status, again.status) == (201, 409)
    assert again.tree()["issue"][0]["details"]["coding"][0]["code"] == "DUPLICATE_REJECTED"
    assert (first.field("Location") or "").endswith(f"/Appointment/{first.tree()['id']}")
    assert [one.took_effect for one in system.arrivals] == [True, False]
    found = await wire.ask(
        "GET", f"{ROOT}/Patient/2/Appointment?start=ge{TODAY}&start=le{TODAY}")
    assert first.tree()["id"] in {one["resource"]["id"] for one in found.tree()["entry"]}


async def test_racing_bookings_of_one_slot_make_doubles_as_the_real_provider_does() -> None:
    async with ClinicalSystem([made.practice("B81001", 7, TODAY)], pace=1.0) as slow:
        wires = [await dial(slow, "direct") for _ in range(4)]
        replies = await asyncio.gather(*(
            wire.ask("POST", f"{ROOT}/Appointment", booking("2"), Content_Type=FHIR)
            for wire in wires))
        assert sum(reply.status == 201 for reply in replies) > 1
        for wire in wires:
            wire.writer.close()


async def test_an_empty_201_has_a_content_length(wire: Wire) -> None:
    reply = await wire.ask("POST", f"{ROOT}/Appointment", booking("3"), Content_Type=FHIR,
                           Prefer="return=minimal")
    assert (reply.status, reply.field("Content-Length"), reply.body) == (201, "0", b"")


@pytest.mark.parametrize(("body", "status"), [
    (b"not json", 422), (booking("99999"), 422), (booking("4", reason=[{}]), 422),
    (b'{"resourceType":"Patient"}', 422), (booking("4", status="pending"), 422)])
async def test_what_is_no_booking_is_refused(wire: Wire, body: bytes, status: int) -> None:
    reply = await wire.ask("POST", f"{ROOT}/Appointment", body, Content_Type=FHIR)
    assert reply.status == status


async def test_an_update_needs_the_version_and_says_409_not_412(wire: Wire) -> None:
    booked = (await wire.ask("POST", f"{ROOT}/Appointment", booking("2"),
                             Content_Type=FHIR)).tree()
    target = f"{ROOT}/Appointment/{booked['id']}"
    etag = (await wire.ask("GET", target)).field("ETag") or ""
    wrong = await wire.ask("PUT", target, json.dumps(booked | {"comment": "x"}).encode(),
                           Content_Type=FHIR, If_Match='W/"1"')
    assert wrong.status == 409
    cancelled = await wire.ask(
        "PUT", target, json.dumps(booked | {"status": "cancelled"}).encode(), Content_Type=FHIR,
        If_Match=etag, Ssp_InteractionID=GPC + "fhir:rest:cancel:appointment-1")
    assert cancelled.status == 200
    assert (await wire.ask("POST", f"{ROOT}/Appointment", booking("2"),
                           Content_Type=FHIR)).status == 201, "the slot is free again"


async def test_two_changes_in_one_second_share_an_etag(wire: Wire, system: ClinicalSystem) -> None:
    surgery = system.surgeries["B81001"]
    surgery._now = lambda: 1_700_000_000.2
    surgery.change("1", dict(surgery.appointments["1"]))
    first = (await wire.ask("GET", f"{ROOT}/Appointment/1")).field("ETag")
    surgery._now = lambda: 1_700_000_000.9
    surgery.change("1", dict(surgery.appointments["1"]) | {"comment": "changed"})
    unchanged = await wire.ask("GET", f"{ROOT}/Appointment/1", If_None_Match=first or "")
    assert unchanged.status == 304, "for changed content"
    assert unchanged.field("Cache-Control") == "no-store"


async def test_equal_record_requests_get_unequal_answers(wire: Wire) -> None:
    here = made.practice("B81001", 7, TODAY)
    body = json.dumps({"resourceType": "Parameters", "parameter": [
        {"name": "patientNHSNumber",
         "valueIdentifier": {"system": made.NHS, "value": here.patients[1].nhs}},
        {"name": "includeAllergies"}]}).encode()
    target = f"{ROOT}/structured/Patient/$gpc.getstructuredrecord"
    replies = [await wire.ask("POST", target, body, Content_Type=FHIR, Ssp_TraceID=trace)
               for trace in ("one", "two")]
    assert [reply.tree()["id"] for reply in replies] == ["one", "two"]
    assert all(reply.tree()["type"] == "collection" for reply in replies)


async def test_an_interaction_that_does_not_match_is_400(wire: Wire) -> None:
    reply = await wire.ask("GET", f"{ROOT}/Patient/2",
                           Ssp_InteractionID=GPC + "fhir:rest:search:slot-1")
    assert reply.status == 400


async def test_strictness_asks_for_every_header() -> None:
    async with ClinicalSystem([made.practice("B81001", 7, TODAY)], strict=True) as strict:
        fields = {"Ssp_TraceID": "t", "Ssp_From": "1", "Ssp_To": "2",
                  "Ssp_InteractionID": GPC + "fhir:rest:read:patient-1",
                  "Authorization": "Bearer eyJ9.eyJ9."}
        for left_out in (None, *fields):
            wire = await dial(strict, "direct")
            sent = {name: value for name, value in fields.items() if name != left_out}
            reply = await wire.ask("GET", f"{ROOT}/Patient/2", b"", FHIR, **sent)
            assert reply.status == (200 if left_out is None else 400), left_out
            wire.writer.close()


async def test_it_remembers_which_way_each_request_came(system: ClinicalSystem) -> None:
    for listener in ("sim", "fibre"):
        wire = await dial(system, listener)
        reply = await wire.ask("GET", f"{ROOT}/Patient/3", Ssp_TraceID=f"by-{listener}")
        wire.writer.close()
    assert [(one.listener, one.token, one.status) for one in system.arrivals] == [
        ("sim", "by-sim", 200), ("fibre", "by-fibre", 200)]
    assert system.arrivals[-1].reply_sha == sha(reply.body)
    assert "Østergård" not in repr(system.arrivals)


async def test_the_control_port_tells_and_takes_orders(system: ClinicalSystem, wire: Wire) -> None:
    control = f"http://127.0.0.1:{system.ports['control']}"
    async with aiohttp.ClientSession(control) as session:
        order = {"verb": "UpstreamStatus", "upstream": "gpc:B81001", "status": 503}
        async with session.post("/__weather", json=order) as done:
            assert done.status == 200
        assert (await wire.ask("GET", f"{ROOT}/Patient/3")).status == 503
        other = ROOT.replace("B81001", "A20047")
        assert (await wire.ask("GET", f"{other}/Patient/3")).status == 200, "the other tenant"
        async with session.get("/__seen?since=1") as seen:
            found = await seen.json()
        assert [one["ods"] for one in found["arrivals"]] == ["A20047"]
        async with session.post("/__weather", json={"verb": "Hail", "upstream": "x"}) as wrong:
            assert wrong.status == 400
        async with session.get("/__practice") as told:
            assert len((await told.json())["B81001"]["patients"]) == 300


async def test_gone_refuses_connections_and_is_back_at_the_same_port(
        system: ClinicalSystem, wire: Wire) -> None:
    port = system.ports["fibre"]
    await system.weather("UpstreamGone", "gpc")
    with pytest.raises(ConnectionRefusedError):
        await dial(system)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await wire.ask("GET", f"{ROOT}/Patient/3")
    await system.weather("UpstreamGone", "gpc", gone=False)
    assert system.ports["fibre"] == port
    back = await dial(system)
    assert (await back.ask("GET", f"{ROOT}/Patient/3")).status == 200
    back.writer.close()


async def test_hung_never_answers_one_tenant_and_still_answers_the_other(
        system: ClinicalSystem) -> None:
    await system.weather("UpstreamHung", "gpc:B81001")
    hung, fine = await dial(system), await dial(system)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await hung.ask("GET", f"{ROOT}/Patient/3")
    assert (await fine.ask("GET", "/A20047/STU3/1/gpconnect/Patient/3")).status == 200
    for wire in (hung, fine):
        wire.writer.close()


async def test_a_swallowed_reply_has_still_taken_effect(system: ClinicalSystem) -> None:
    await system.weather("Swallow", "gpc")
    wire = await dial(system)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await wire.ask("POST", f"{ROOT}/Appointment", booking("2"), Content_Type=FHIR)
    assert [(one.status, one.took_effect) for one in system.arrivals] == [(201, True)]
    await system.weather("Swallow", "gpc", swallow=False)
    wire.writer.close()


async def test_the_r4_root_pages_with_links_that_follow_the_forwarded_fields(wire: Wire) -> None:
    page = await wire.ask("GET", "/B81001/R4/Patient?_count=50", accept="*/*",
                          X_Forwarded_Host="gateway:8443", X_Forwarded_Proto="https",
                          X_Forwarded_Prefix="/B81001/r4")
    assert page.head.startswith("HTTP/1.1 200 OK\r\n")
    assert page.tree()["link"][0]["url"] == (
        "https://gateway:8443/B81001/r4/Patient?_count=50&page=2")
    last = await wire.ask("GET", "/B81001/R4/Patient?_count=50&page=6")
    assert len(last.tree()["entry"]) == 50
    assert "link" not in last.tree()
