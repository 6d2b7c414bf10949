"""One practice at work: its appointments, its free slots, and how it says yes and no.

What it holds changes only here; the rules of who may ask what are ``gp_connect.py`` and ``r4.py``.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from chaos import practice as made
from chaos.practice import Practice, Tree

SPINE: Final = "https://fhir.nhs.uk/STU3/ValueSet/Spine-ErrorOrWarningCode-1"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer before its manners. ``close`` ends the connection; ``html`` is Tomcat's page."""

    status: int
    tree: Tree | None = None
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False
    html: bool = False


class Refused(Exception):
    """The rules say no: (status, Spine code, issue type, words)."""

    def __init__(self, status: int, code: str, issue: str, words: str) -> None:
        super().__init__(code)
        self.said = Said(status, outcome(code, issue, words), close=status == 400)


class Surgery:
    """One practice at work: its bookings and the versions of what changed."""

    def __init__(self, here: Practice, now: Callable[[], float]) -> None:
        self.here = here
        self.patients = {who.id: who for who in here.patients}
        self.by_nhs = {who.nhs: who for who in here.patients}
        self.slots = {slot.id: slot for slot in here.slots}
        self.appointments: dict[str, Tree] = {}
        self.versions: dict[str, int] = {}
        self.changes = 0
        self._now = now
        self._taken: set[str] = set()
        self._free = {slot.id: encoded({"resource": made.slot_resource(slot, "free")})
                      for slot in here.slots}
        self._furniture = [encoded({"resource": tree}) for tree in (
            *(made.schedule_resource(here, str(n + 1)) for n in range(made.CLINICIANS)),
            *(made.practitioner_resource(here, str(n + 1)) for n in range(made.CLINICIANS)),
            made.location_resource(here), made.organization_resource(here))]
        for n, slot in enumerate(here.slots[:: 9]):
            self._book(slot.id, str(n % len(here.patients) + 1), "Booked before")

    def version(self) -> int:
        """A version as the real provider makes it: the time in ms, in whole seconds."""
        return int(self._now()) * 1000

    def is_free(self, slot: str) -> bool:
        return slot not in self._taken

    def book(self, tree: Tree) -> Tree:
        """Write the appointment down, whatever its slot is: the check was a moment ago."""
        slot = reference_id(tree["slot"][0]["reference"])
        patient = next(reference_id(one["actor"]["reference"]) for one in tree["participant"]
                       if one["actor"]["reference"].startswith("Patient/"))
        return self._book(slot, patient, str(tree.get("description", "")), tree)

    def _book(self, slot: str, patient: str, words: str, sent: Tree | None = None) -> Tree:
        id_ = str(len(self.appointments) + 1)
        at = self.slots[slot]
        tree: Tree = dict(sent or {})
        tree |= {"resourceType": "Appointment", "id": id_, "status": "booked",
                 "description": words, "start": made.local(at.start), "end": made.local(at.end),
                 "slot": [{"reference": f"Slot/{slot}"}],
                 "participant": [{"actor": {"reference": f"Patient/{patient}"},
                                  "status": "accepted"},
                                 {"actor": {"reference": "Location/1"}, "status": "accepted"}]}
        self.change(id_, tree)
        self._taken.add(slot)
        return tree

    def change(self, id_: str, tree: Tree) -> None:
        """Put ``tree`` in place of appointment ``id_`` with a new version."""
        self.changes += 1
        self.versions[id_] = self.version()
        tree["meta"] = {"versionId": str(self.versions[id_]),
                        "profile": [made.PROFILE + "GPConnect-Appointment-1"]}
        self.appointments[id_] = tree
        if tree["status"] == "cancelled":
            self._taken.discard(reference_id(tree["slot"][0]["reference"]))

    def of_patient(self, id_: str, first: str, last: str) -> list[Tree]:
        reference = f"Patient/{id_}"
        return [tree for tree in self.appointments.values()
                if first <= tree["start"][:10] <= last
                and any(one["actor"]["reference"] == reference for one in tree["participant"])]

    def free_slots(self, start: str, end: str) -> bytes:
        """Return the searchset of free slots wholly inside; what they hang on, unless none."""
        found = [self._free[slot.id] for slot in self.here.slots
                 if slot.id not in self._taken and start <= made.local(slot.start)[:len(start)]
                 and made.local(slot.end)[:len(end)] <= end]
        head = b'{"resourceType":"Bundle","type":"searchset","total":%d' % len(found)
        if not found:
            return head + b"}"
        return head + b',"entry":[' + b",".join([*found, *self._furniture]) + b"]}"


def reference_id(reference: str) -> str:
    return reference.rpartition("/")[2]


def encoded(tree: Tree) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


def outcome(code: str, issue: str, words: str) -> Tree:
    return {"resourceType": "OperationOutcome",
            "meta": {"profile": [made.PROFILE + "GPConnect-OperationOutcome-1"]},
            "issue": [{"severity": "error", "code": issue, "details": {"coding": [{
                "system": SPINE, "code": code, "display": words}]}, "diagnostics": words}]}


def searchset(trees: Sequence[Tree], total: int | None = None) -> Tree:
    """Return the trees as a search's answer; with no match there is no ``entry`` at all."""
    bundle: Tree = {"resourceType": "Bundle", "type": "searchset",
                    "total": len(trees) if total is None else total}
    if trees:
        bundle["entry"] = [{"resource": tree} for tree in trees]
    return bundle


def appointment_of(body: bytes) -> Tree:
    try:
        tree = json.loads(body)
        shape = (tree["resourceType"] == "Appointment" and tree["status"]
                 and [one["reference"] for one in tree["slot"]]
                 and any(one["actor"]["reference"].startswith("Patient/")
                         for one in tree["participant"]))
    except (ValueError, KeyError, TypeError):
        shape = False
    if not shape:
        raise Refused(422, "INVALID_RESOURCE", "invalid", "Not an Appointment")
    assert isinstance(tree, dict)
    return tree


def bad(words: str) -> Refused:
    return Refused(400, "BAD_REQUEST", "invalid", words)
