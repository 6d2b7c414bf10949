"""GP Connect's rules for one request of one practice (domain.md; 1.2.7, 1.6.2).

The manners of a real provider stand here where they are rules of its own: an unknown patient is
400, HEAD is 400, ``Accept`` names exactly one JSON type, a booking is check-then-write.
"""

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from aiohttp import web

from chaos import practice as made
from chaos.practice import Tree
from chaos.surgery import Refused, Said, Surgery, appointment_of, bad, reference_id, searchset

JSON_TYPES: Final = frozenset({"application/fhir+json", "application/json"})
GPC: Final = "urn:nhs:names:services:gpconnect:"


class Host(Protocol):
    """What the rules need of the system that they stand in."""

    strict: bool
    base: str

    @property
    def today(self) -> date: ...
    async def wait(self, seconds: float) -> None: ...


class GpConnect:
    """GP Connect's rules for one request of one practice."""

    def __init__(self, system: Host, surgery: Surgery, request: web.Request) -> None:
        self._system = system
        self._surgery = surgery
        self._request = request

    async def answer(self, rest: str, query: str, body: bytes) -> Said:
        """Return the answer, or raise Refused."""
        self._check_wire(rest, query)
        method, path = self._request.method, rest.removeprefix("/")
        handlers: tuple[tuple[str, str, str, Callable[..., Any]], ...] = (
            ("GET", r"metadata", "metadata-1", self._metadata),
            ("GET", r"Patient", "patient-1", self._find_patient),
            ("GET", r"Patient/([^/]+)", "patient-1", self._read_patient),
            ("GET", r"Patient/([^/]+)/Appointment", "patient_appointments-1",
             self._patient_appointments),
            ("POST", r"Patient/\$gpc\.getstructuredrecord", "gpc.getstructuredrecord-1",
             self._structured),
            ("GET", r"Practitioner/([^/]+)", "practitioner-1", self._read_practitioner),
            ("GET", r"Organization/([^/]+)", "organization-1", self._read_organization),
            ("GET", r"Location/([^/]+)", "location-1", self._read_location),
            ("GET", r"Slot", "slot-1", self._slots),
            ("POST", r"Appointment", "create:appointment-1", self._book),
            ("GET", r"Appointment/([^/]+)", "appointment-1", self._read_appointment),
            ("PUT", r"Appointment/([^/]+)", "appointment-1", self._amend))
        for wanted, pattern, interaction, handler in handlers:
            found = re.fullmatch(pattern, path)
            if wanted == method and found is not None:
                self._check_headers(interaction)
                said = await handler(*found.groups(), query=query, body=body)
                assert isinstance(said, Said)
                return said
        raise Refused(501 if path else 404, "NOT_IMPLEMENTED", "not-supported", "Not implemented")

    def _check_wire(self, rest: str, query: str) -> None:
        if self._request.method == "HEAD":
            raise bad("HEAD is not supported")
        if "%24" in rest:
            raise bad("Unknown operation")
        if "//" in rest:
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such resource")
        if "|" in query or "|" in rest:
            raise _html()
        if not self._takes_json(query):
            raise Refused(415, "BAD_REQUEST", "not-supported", "Unsupported media type")

    def _takes_json(self, query: str) -> bool:
        wanted = dict(parse_qsl(query)).get("_format")
        if wanted is None:
            wanted = self._request.headers.get("Accept")
        if wanted is None:
            wanted = self._request.headers.get("Content-Type") or "application/fhir+json"
        return wanted.partition(";")[0].strip().lower() in JSON_TYPES

    def _check_headers(self, interaction: str) -> None:
        headers = self._request.headers
        named = headers.get("Ssp-InteractionID")
        if named is not None and not ((named.startswith(GPC) and named.endswith(interaction))
                                      or self._is_cancel(named, interaction)):
            raise bad("The interaction does not match the request")
        if not self._system.strict:
            return
        for name in ("Ssp-TraceID", "Ssp-From", "Ssp-To", "Ssp-InteractionID", "Authorization"):
            if not headers.get(name):
                raise bad(f"Header {name} is missing")
        if not re.fullmatch(r"Bearer [\w-]+\.[\w-]+\.", headers["Authorization"]):
            raise bad("The token is not an unsigned JWT")

    @staticmethod
    def _is_cancel(named: str, interaction: str) -> bool:
        return interaction == "appointment-1" and named.endswith("cancel:appointment-1")

    async def _metadata(self, query: str, body: bytes) -> Said:
        return Said(200, {"resourceType": "CapabilityStatement", "status": "active",
                          "fhirVersion": "3.0.1", "kind": "instance",
                          "software": {"name": "A clinical system that does not exist"},
                          "format": ["application/fhir+json"], "rest": [{"mode": "server"}]})

    async def _find_patient(self, query: str, body: bytes) -> Said:
        value = dict(parse_qsl(query)).get("identifier", "")
        system, _, number = value.rpartition("|")
        if system != made.NHS:
            raise Refused(400, "INVALID_IDENTIFIER_SYSTEM", "value", "Unknown system")
        if not made.nhs_is_valid(number):
            raise Refused(400, "INVALID_NHS_NUMBER", "value", "Not an NHS number")
        who = self._surgery.by_nhs.get(number)
        await self._system.wait(0.008)
        return Said(200, searchset(
            [made.patient_resource(self._surgery.here, who)] if who else []))

    async def _read_patient(self, id_: str, query: str, body: bytes) -> Said:
        who = self._surgery.patients.get(id_)
        if who is None:  # the real provider says 400 here, not 404 (domain.md)
            raise Refused(400, "PATIENT_NOT_FOUND", "not-found", "No patient with this id")
        await self._system.wait(0.008)
        return self._read(made.patient_resource(self._surgery.here, who), f"Patient/{id_}")

    async def _read_practitioner(self, id_: str, query: str, body: bytes) -> Said:
        if id_ not in {str(n + 1) for n in range(made.CLINICIANS)}:
            raise Refused(404, "PRACTITIONER_NOT_FOUND", "not-found", "No such practitioner")
        return self._read(made.practitioner_resource(self._surgery.here, id_),
                          f"Practitioner/{id_}")

    async def _read_organization(self, id_: str, query: str, body: bytes) -> Said:
        if id_ != "1":
            raise Refused(404, "ORGANISATION_NOT_FOUND", "not-found", "No such organisation")
        return self._read(made.organization_resource(self._surgery.here), "Organization/1")

    async def _read_location(self, id_: str, query: str, body: bytes) -> Said:
        if id_ != "1":
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such location")
        return self._read(made.location_resource(self._surgery.here), "Location/1")

    async def _read_appointment(self, id_: str, query: str, body: bytes) -> Said:
        tree = self._surgery.appointments.get(id_)
        if tree is None:
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such appointment")
        return self._read(tree, f"Appointment/{id_}")

    def _read(self, tree: Tree, where: str) -> Said:
        etag = f'W/"{tree["meta"]["versionId"]}"'
        place = self._place(where)
        if self._request.headers.get("If-None-Match") == etag:
            return Said(304, headers=(("ETag", etag), place))
        return Said(200, tree, headers=(("ETag", etag), place))

    def _place(self, where: str) -> tuple[str, str]:
        """The configured absolute base, never the Host that was asked (domain.md)."""
        root = f"{self._system.base}/{self._surgery.here.ods}/STU3/1/gpconnect"
        return ("Location", f"{root}/{where}")

    async def _patient_appointments(self, id_: str, query: str, body: bytes) -> Said:
        starts = [value for name, value in parse_qsl(query) if name == "start"]
        dates = {value[:2]: value[2:] for value in starts}
        today = self._system.today.isoformat()
        is_proper = (len(starts) == 2 and set(dates) == {"ge", "le"}
                     and all(re.fullmatch(r"\d{4}-\d\d-\d\d", value) for value in dates.values()))
        if not is_proper or dates["ge"] < today or dates["le"] < dates["ge"]:
            raise Refused(422, "INVALID_PARAMETER", "invalid", "Two dates, none of them past")
        if id_ not in self._surgery.patients:
            raise Refused(404, "PATIENT_NOT_FOUND", "not-found", "No patient with this id")
        await self._system.wait(0.02)
        return Said(200, searchset(self._surgery.of_patient(id_, dates["ge"], dates["le"])))

    async def _slots(self, query: str, body: bytes) -> Said:
        pairs = parse_qsl(query)
        starts = [value for name, value in pairs if name == "start" and value[:2] == "ge"]
        ends = [value for name, value in pairs if name == "end" and value[:2] == "le"]
        is_proper = (len(starts) == len(ends) == 1 and ("status", "free") in pairs
                     and [value for name, value in pairs if name == "status"] == ["free"]
                     and ("_include", "Slot:schedule") in pairs)
        if not is_proper:
            raise Refused(422, "INVALID_PARAMETER", "invalid", "status, start, end, _include")
        first, last = _moment(starts[0][2:]), _moment(ends[0][2:])
        if last[:10] < first[:10] or _days(first, last) > made.DAYS:
            raise Refused(422, "INVALID_PARAMETER", "invalid", "Two weeks at most")
        await self._system.wait(0.4)
        if len(last) == 10:  # a date as an end takes in the whole day
            last += "T23:59:59+00:00"
        return Said(200, body=self._surgery.free_slots(first, last))

    async def _structured(self, query: str, body: bytes) -> Said:
        try:
            parameters = json.loads(body)["parameter"]
            number = next(one["valueIdentifier"]["value"] for one in parameters
                          if one["name"] == "patientNHSNumber")
            sections = frozenset(one["name"] for one in parameters)
        except (ValueError, KeyError, TypeError, StopIteration):
            raise Refused(422, "INVALID_RESOURCE", "invalid", "Not the Parameters") from None
        if not made.nhs_is_valid(number):
            raise Refused(400, "INVALID_NHS_NUMBER", "value", "Not an NHS number")
        who = self._surgery.by_nhs.get(number)
        if who is None:
            raise Refused(404, "PATIENT_NOT_FOUND", "not-found", "No record for this number")
        await self._system.wait(0.1)
        trace = self._request.headers.get("Ssp-TraceID", "1")
        return Said(200, made.structured_record(self._surgery.here, who, sections, trace))

    async def _book(self, query: str, body: bytes) -> Said:
        tree = appointment_of(body)
        slots = [reference_id(one["reference"]) for one in tree["slot"]]
        known = self._surgery.slots
        if "reason" in tree or "specialty" in tree or tree["status"] != "booked":
            raise Refused(422, "INVALID_RESOURCE", "invalid", "Not a booking")
        if any(slot not in known for slot in slots):
            raise Refused(422, "REFERENCE_NOT_FOUND", "not-found", "No such slot")
        if not all(self._surgery.is_free(slot) for slot in slots):
            raise Refused(409, "DUPLICATE_REJECTED", "duplicate", "The slot is not free")
        await self._system.wait(0.012)  # no transaction: racing bookings all win (domain.md)
        booked = self._surgery.book(tree)
        place = self._place(f"Appointment/{booked['id']}")
        if self._request.headers.get("Prefer") == "return=minimal":
            return Said(201, headers=(place, ("Content-Length", "0")))
        return Said(201, booked, headers=(place,))

    async def _amend(self, id_: str, query: str, body: bytes) -> Said:
        tree, there = appointment_of(body), self._surgery.appointments.get(id_)
        if there is None:
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such appointment")
        if self._request.headers.get("If-Match") != f'W/"{self._surgery.versions[id_]}"':
            raise Refused(409, "FHIR_CONSTRAINT_VIOLATION", "conflict", "Another version")
        named = self._request.headers.get("Ssp-InteractionID", "")
        cancels = tree["status"] == "cancelled"
        if named and cancels != named.endswith("cancel:appointment-1"):
            raise bad("The interaction does not match the body")
        allowed = ("status", "extension") if cancels else ("description", "comment")
        changed = dict(there) | {name: tree[name] for name in allowed if name in tree}
        self._surgery.change(id_, changed)
        return Said(200, changed, headers=(self._place(f"Appointment/{id_}"),))


def _moment(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d[ +]0[01]:00)?", text):
        raise Refused(422, "INVALID_PARAMETER", "invalid", "Not a date or local time")
    return text.replace(" ", "+")  # a bare plus in a query is a space to whoever decodes it


def _days(first: str, last: str) -> int:
    return (date.fromisoformat(last[:10]) - date.fromisoformat(first[:10])) // timedelta(days=1)


def _html() -> Refused:
    refused = bad("")
    refused.said = Said(400, body=b"<html><body><h1>HTTP Status 400</h1></body></html>",
                        close=True, html=True)
    return refused
