"""An ordinary FHIR R4 server over the same practice: reads, a paged search, a booking."""

from typing import Final, Protocol
from urllib.parse import parse_qsl

from aiohttp import web

from chaos import practice as made
from chaos.practice import Tree
from chaos.surgery import Refused, Said, Surgery, appointment_of, bad, reference_id, searchset


class Host(Protocol):
    """What the server needs of the system that it stands in."""

    base: str


class R4:
    """An ordinary R4 server for one request: reads, a paged search, a booking."""

    PAGE: Final = 20

    def __init__(self, system: Host, surgery: Surgery, request: web.Request) -> None:
        self._system = system
        self._surgery = surgery
        self._request = request

    def answer(self, rest: str, query: str, body: bytes) -> Said:
        """Return the answer, or raise Refused."""
        path, method = rest.removeprefix("/"), self._request.method
        if method == "POST" and path == "Appointment":
            return self._book(body)
        if method not in ("GET", "HEAD"):
            raise Refused(405, "BAD_REQUEST", "not-supported", "Not supported")
        if path == "metadata":
            return Said(200, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1",
                              "status": "active", "kind": "instance", "format": ["json"],
                              "rest": [{"mode": "server"}]})
        if path == "Patient":
            return self._patients(dict(parse_qsl(query)))
        if path == "Appointment":
            return self._appointments(dict(parse_qsl(query)))
        return self._read(path)

    def _read(self, path: str) -> Said:
        kind, _, id_ = path.partition("/")
        tree: Tree | None = None
        if kind == "Patient" and id_ in self._surgery.patients:
            tree = made.patient_resource(self._surgery.here, self._surgery.patients[id_], False)
            tree["meta"] = {"versionId": "1"}
        elif kind == "Appointment" and id_ in self._surgery.appointments:
            tree = dict(self._surgery.appointments[id_])
        if tree is None:
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such resource")
        etag = f'W/"{tree["meta"]["versionId"]}"'
        if self._request.headers.get("If-None-Match") == etag:
            return Said(304, headers=(("ETag", etag),))
        return Said(200, tree, headers=(("ETag", etag), ("Cache-Control", "private")))

    def _patients(self, asked: dict[str, str]) -> Said:
        found = [who for who in self._surgery.here.patients
                 if asked.get("identifier", "").rpartition("|")[2] in ("", who.nhs)]
        try:
            size = max(1, min(int(asked.get("_count", self.PAGE)), 100))
            page = max(1, int(asked.get("page", "1")))
        except ValueError:
            raise bad("_count and page are numbers") from None
        part = found[(page - 1) * size: page * size]
        tree = searchset([made.patient_resource(self._surgery.here, who, False)
                           for who in part], len(found))
        if page * size < len(found):
            tree["link"] = [{"relation": "next",
                             "url": f"{self._base()}/Patient?_count={size}&page={page + 1}"}]
        return Said(200, tree, headers=(("Cache-Control", "private"),))

    def _appointments(self, asked: dict[str, str]) -> Said:
        patient = asked.get("patient", "").removeprefix("Patient/")
        return Said(200, searchset(self._surgery.of_patient(patient, "0000", "9999")))

    def _book(self, body: bytes) -> Said:
        tree = appointment_of(body)
        slot = reference_id(tree["slot"][0]["reference"])
        if slot not in self._surgery.slots:
            raise Refused(422, "REFERENCE_NOT_FOUND", "not-found", "No such slot")
        if not self._surgery.is_free(slot):
            raise Refused(409, "DUPLICATE_REJECTED", "duplicate", "The slot is not free")
        booked = self._surgery.book(tree)
        return Said(201, booked, headers=(
            ("Location", f"{self._base()}/Appointment/{booked['id']}/_history/1"),))

    def _base(self) -> str:
        headers = self._request.headers
        if "X-Forwarded-Host" in headers:
            scheme, prefix = (headers.get("X-Forwarded-Proto", "http"),
                              headers.get("X-Forwarded-Prefix", ""))
            return f"{scheme}://{headers['X-Forwarded-Host']}{prefix}"
        return f"{self._system.base}/{self._surgery.here.ods}/R4"
