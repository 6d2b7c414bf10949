"""What a practice asks: reads that come over and over, reads never made before, bookings.

The requests are built from what the clinical system's control port tells of its practices. Each
client sends the same unsigned token every time, as one signed-in user would for five minutes.
"""

import base64
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

from chaos import practice as made
from chaos.load import Ask

FHIR: Final = "application/fhir+json"
GPC: Final = "urn:nhs:names:services:gpconnect:"
HOUR_S: Final = 3600.0

# The oldest copy on the wire, as config/packs says (continuity.md section 3).
CEILING_S: Final = {"slots": 900.0, "patient": 24 * HOUR_S, "find": 24 * HOUR_S,
                    "appointments": 4 * HOUR_S, "record": 24 * HOUR_S, "r4-patient": 24 * HOUR_S}

SEEN_PATIENTS: Final = 12
UNSEEN_FROM: Final = 60


@dataclass(frozen=True, slots=True)
class Person:
    """A patient as far as an address needs: logical id and NHS number."""

    id: str
    nhs: str


@dataclass(frozen=True, slots=True)
class Desk:
    """One client of one tenant. ``gpc`` and ``r4`` are the upstreams' ids in URLs."""

    tenant: str
    client: str
    key: str
    gpc: str
    r4: str
    today: date
    people: Sequence[Person]
    opted_in: bool = True

    def reads(self) -> list[Ask]:
        """The reads of an ordinary morning: the same few dozen, over and over.

        The marked patient is among them: name, number and key are searched for afterwards.
        """
        marked = int(made.MARKED_PATIENT) - 1
        seen = [self.people[marked], *(one for n, one in enumerate(self.people[:SEEN_PATIENTS])
                                       if n != marked)]
        found: list[Ask] = []
        for person in seen:
            found += [self.patient(person), self.appointments(person)]
        found += [self.find(person) for person in seen[:4]]
        found += [self.record(person) for person in seen[:6]]
        found += [self.r4_patient(person) for person in seen[:6]]
        return [*found, self.slots(2), self.slots(13)]

    def unseen(self) -> Iterator[Ask]:
        """Reads that nobody made before, each once, for as long as there are patients."""
        return (self.patient(person) for person in self.people[UNSEEN_FROM:])

    def surge(self) -> Iterator[Ask]:
        """What a program asks that everybody opened at once: lists of codes, which no pack names
        (the clinical system has none of them, and says so)."""
        for n in itertools.count():
            yield Ask(self.tenant, self.r4, f"r4:{self.tenant}", self.client, "codes",
                      f"/ValueSet/{n % 40}", headers=self._credentials(), opted_in=self.opted_in)

    def bookings(self) -> Iterator[Ask]:
        """Bookings, each of a slot of its own that is free at the start (one in nine is not)."""
        free = (n for n in itertools.count(3) if n % 9 != 1)
        return (self.booking(str(slot), person) for slot, person in zip(
            free, itertools.cycle(self.people[:SEEN_PATIENTS]), strict=False))

    def patient(self, person: Person) -> Ask:
        """Read one patient by logical id."""
        return self._gpc("patient", f"/Patient/{person.id}", "fhir:rest:read:patient-1")

    def find(self, person: Person) -> Ask:
        """Find one patient by NHS number."""
        return self._gpc("find", f"/Patient?identifier={made.NHS}%7C{person.nhs}",
                         "fhir:rest:search:patient-1")

    def appointments(self, person: Person) -> Ask:
        """Read one patient's appointments of the next two weeks."""
        last = self.today + timedelta(days=13)
        return self._gpc("appointments", f"/Patient/{person.id}/Appointment?start=ge{self.today}"
                         f"&start=le{last}", "fhir:rest:search:patient_appointments-1")

    def slots(self, days: int) -> Ask:
        """Search free slots of the next ``days`` days (13: some 400 KB)."""
        last = self.today + timedelta(days=days)
        return self._gpc("slots", f"/Slot?status=free&start=ge{self.today}&end=le{last}"
                         "&_include=Slot:schedule", "fhir:rest:search:slot-1")

    def record(self, person: Person) -> Ask:
        """Read allergies and medicines: a POST that only reads."""
        parameters = {"resourceType": "Parameters", "parameter": [
            {"name": "patientNHSNumber",
             "valueIdentifier": {"system": made.NHS, "value": person.nhs}},
            {"name": "includeAllergies", "part": [
                {"name": "includeResolvedAllergies", "valueBoolean": False}]},
            {"name": "includeMedication", "part": [
                {"name": "includePrescriptionIssues", "valueBoolean": False}]}]}
        return replace(self._gpc("record", "/Patient/$gpc.getstructuredrecord",
                                 "fhir:operation:gpc.getstructuredrecord-1", parameters),
                       method="POST")

    def r4_patient(self, person: Person) -> Ask:
        """Read one patient from the second upstream."""
        return Ask(self.tenant, self.r4, f"r4:{self.tenant}", self.client, "r4-patient",
                   f"/Patient/{person.id}", headers=self._credentials(), opted_in=self.opted_in,
                   ceiling_s=CEILING_S["r4-patient"])

    def booking(self, slot: str, person: Person) -> Ask:
        """Book ``slot`` for ``person``."""
        body = {"resourceType": "Appointment", "status": "booked",
                "slot": [{"reference": f"Slot/{slot}"}], "description": "Booked by telephone",
                "participant": [
                    {"actor": {"reference": f"Patient/{person.id}"}, "status": "accepted"},
                    {"actor": {"reference": "Location/1"}, "status": "accepted"}]}
        return replace(self._gpc("book", "/Appointment", "fhir:rest:create:appointment-1", body),
                       method="POST", is_read=False)

    def _gpc(self, kind: str, path: str, interaction: str, body: object = None) -> Ask:
        headers = (*self._credentials(), ("Ssp-From", "200000000359"), ("Ssp-To", "918999198738"),
                   ("Ssp-InteractionID", GPC + interaction))
        if body is not None:
            headers += (("Content-Type", FHIR),)
        return Ask(self.tenant, self.gpc, f"gpc:{self.tenant}", self.client, kind, path,
                   headers=headers, body=b"" if body is None else json.dumps(body).encode(),
                   opted_in=self.opted_in, ceiling_s=CEILING_S.get(kind))

    def _credentials(self) -> tuple[tuple[str, str], ...]:
        return (("X-Gateway-Key", self.key), ("Accept", FHIR),
                ("Authorization", f"Bearer {token(self.tenant)}"))


def token(ods: str) -> str:
    """Return GP Connect's unsigned token (it ends with a dot) of a user at ``ods``."""
    claims = {"iss": "https://consumer.example", "sub": "1", "aud": "https://provider.example",
              "iat": 1_700_000_000, "exp": 1_700_000_300, "reason_for_request": "directcare",
              "requested_scope": "patient/*.read",
              "requesting_organization": {"resourceType": "Organization", "name": "Practice",
                                          "identifier": [{"system": made.ODS, "value": ods}]}}
    return f'{_url64({"alg": "none", "typ": "JWT"})}.{_url64(claims)}.'


def _url64(tree: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(tree).encode()).rstrip(b"=").decode()


def people(told: Mapping[str, Any]) -> list[Person]:
    """Return a practice's people from what ``/__practice`` told of it."""
    return [Person(one["id"], one["nhs"]) for one in told["patients"]]


def round_robin(desks: Sequence[Desk], unseen_each: int = 0) -> Iterator[Ask]:
    """Return the desks' reads in turn, for ever; each ``unseen_each``-th is never-seen instead."""
    cycles = [itertools.cycle(desk.reads()) for desk in desks]
    fresh = itertools.chain.from_iterable(zip(*(desk.unseen() for desk in desks), strict=False))
    for n in itertools.count(1):
        if unseen_each and n % unseen_each == 0 and (ask := next(fresh, None)) is not None:
            yield ask
        yield next(cycles[n % len(cycles)])
