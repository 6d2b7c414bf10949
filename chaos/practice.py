"""A practice that does not exist: patients with hostile names, clinics, slots, records.

Pure and seeded: the same (ods, seed, today) is the same practice for ever. NHS numbers are of
the 999 range, which is never issued, with right check digits. Ids are small numbers that begin at
1 in every practice on purpose: patient 2 of one tenant and patient 2 of another are different
people at the same path, so a leak between tenants cannot hide.

STU3 shapes follow GP Connect's published examples (``CareConnect-GPC-*-1`` profiles).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from random import Random
from typing import Any, Final, TypeAlias

NHS: Final = "https://fhir.nhs.uk/Id/nhs-number"
ODS: Final = "https://fhir.nhs.uk/Id/ods-organization-code"
SDS: Final = "https://fhir.nhs.uk/Id/sds-user-id"
PROFILE: Final = "https://fhir.nhs.uk/STU3/StructureDefinition/"
SNOMED: Final = "http://snomed.info/sct"

DAYS: Final = 14
CLINICIANS: Final = 5
SLOTS_A_DAY: Final = 16
SLOT_MINUTES: Final = 15

MARKED_PATIENT: Final = "9"
MARKED_FAMILY: Final = "Quillfeather-Marked"

Tree: TypeAlias = dict[str, Any]

_HOSTILE: Final = (
    ("O'Neill", "Siobhán"), ("Østergård", "Åse"), ("李", "小龙"), ("كريم", "فاطمة"),
    ("כהן", "שרה"), ('Smith "Smithy"', 'A "B"'), ("Back\\slash", "C:\\temp"),
    (MARKED_FAMILY, "Zebedee"), ("<script>alert(1)</script>", "{{7*7}}"), ("Null", "None"),
    ("Wolfe­schlegel­stein­hausen" * 10, "Hubert" * 20), ("Zoë\u0308", "e\u0301"),
    ("👩‍⚕️", "𝔘𝔫𝔦"), ("Tab\there", "Line\nbreak"), ("%2e%2e%2f", "../../etc"),
    ("‮desrever", "\u200bzero"), ("D'Arcy-Ó'Brien", "Renée Zoë"), ("True", "0"))
_FAMILIES: Final = ("Smith", "Jones", "Taylor", "Patel", "Khan", "Brown", "Williams", "Wilson",
                    "Davies", "Evans", "Begum", "Okafor", "Nowak", "Murphy", "Singh", "Hughes")
_GIVENS: Final = ("Olivia", "Amelia", "Noah", "Muhammad", "George", "Ava", "Isla", "Arthur",
                  "Freya", "Leo", "Aisha", "Oliver", "Agnieszka", "Chidi", "Priya", "Harry")
_DRUGS: Final = (("Amoxicillin 500mg capsules", "323509004"),
                 ("Ramipril 5mg capsules", "408051007"),
                 ("Metformin 500mg tablets", "109081006"),
                 ("Salbutamol 100micrograms/dose inhaler", "320139002"))
_ALLERGENS: Final = (("Penicillin", "764146007"), ("Peanut", "256349002"), ("Latex", "1003755004"))


def nhs_is_valid(number: str) -> bool:
    """Tell whether ``number`` is ten digits with the right check digit.

    Weights 10 to 2 on the first nine digits, 11 - (sum mod 11); 11 counts as 0 and 10 does not
    exist (domain.md, Identifiers).
    """
    if len(number) != 10 or not (number.isascii() and number.isdigit()):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number[:9], range(10, 1, -1),
                                                             strict=True))
    return (11 - total % 11) % 11 == int(number[9])


@dataclass(frozen=True, slots=True)
class Patient:
    """One person on the list, under the practice's own ``id``."""

    id: str
    nhs: str
    family: str = field(repr=False)
    given: str = field(repr=False)
    born: date = field(repr=False)
    gender: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Slot:
    """A quarter of an hour of one clinician. Times are local with their offset, as GP Connect's."""

    id: str
    schedule: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Practice:
    """A whole practice as it stands on ``today``; bookings are the clinical system's to keep."""

    ods: str
    name: str
    today: date
    patients: tuple[Patient, ...]
    slots: tuple[Slot, ...]


def practice(ods: str, seed: int, today: date, patients: int = 300) -> Practice:
    """Return the practice ``ods`` of ``seed``; other seeds have other people and numbers."""
    dice = Random(f"{seed}/{ods}")
    numbers = _numbers(seed, ods, patients)
    people = tuple(_patient(dice, str(n + 1), numbers[n], today) for n in range(patients))
    name = f"The {dice.choice(_FAMILIES)} Practice"
    return Practice(ods, name, today, people, tuple(_slots(today)))


def _numbers(seed: int, ods: str, count: int) -> list[str]:
    """Numbers of one practice: a stretch of the range that no other ODS code of a seed shares."""
    block = sum(ord(letter) * 31**place for place, letter in enumerate(f"{seed}{ods}")) % 900
    found: list[str] = []
    for stem in range(999_000_001 + 1_000 * block, 1_000_000_000):
        found += [f"{stem}{check}" for check in range(10) if nhs_is_valid(f"{stem}{check}")]
        if len(found) >= count:
            return found[:count]
    raise ValueError("the 999 range is used up")


def _patient(dice: Random, id_: str, number: str, today: date) -> Patient:
    family, given = ((dice.choice(_FAMILIES), dice.choice(_GIVENS))
                     if int(id_) > 2 * len(_HOSTILE) or int(id_) < 2
                     else _HOSTILE[(int(id_) - 2) % len(_HOSTILE)])
    born = today - timedelta(days=dice.randrange(100, 36_000))
    return Patient(id_, number, family, given, born, dice.choice(("male", "female")))


def _slots(today: date) -> Iterator[Slot]:
    """Every clinician's quarters of an hour from 08:30, weekends included (an extended hub)."""
    serial = 1
    for day in range(DAYS):
        for clinician in range(CLINICIANS):
            start = datetime.combine(today + timedelta(days=day), datetime.min.time())
            start += timedelta(hours=8, minutes=30)
            for quarter in range(SLOTS_A_DAY):
                at = start + timedelta(minutes=SLOT_MINUTES * quarter)
                yield Slot(str(serial), str(clinician + 1), at,
                           at + timedelta(minutes=SLOT_MINUTES))
                serial += 1


# -- resources, STU3


def local(at: datetime) -> str:
    """Return ``at`` as GP Connect writes it. Winter time; the simulation has no summer."""
    return at.strftime("%Y-%m-%dT%H:%M:%S+00:00")


def _meta(profile: str, version: int = 1_700_000_000_000) -> Tree:
    return {"versionId": str(version), "profile": [PROFILE + profile]}


def patient_resource(here: Practice, who: Patient, profile: bool = True) -> Tree:
    """Return the Patient; without ``profile`` as plain R4 (no STU3 profile named)."""
    tree: Tree = {
        "resourceType": "Patient", "id": who.id,
        "identifier": [{"system": NHS, "value": who.nhs}], "active": True,
        "name": [{"use": "official", "text": f"{who.family}, {who.given}", "family": who.family,
                  "given": [who.given]}],
        "telecom": [{"system": "phone", "value": f"01632 9600{int(who.id) % 100:02d}",
                     "use": "home"}],
        "gender": who.gender, "birthDate": who.born.isoformat(),
        "address": [{"use": "home", "line": [f"{who.id} Test Street"], "city": "Ashford",
                     "postalCode": "TN23 1XX"}],
        "managingOrganization": {"reference": "Organization/1", "display": here.ods}}
    if profile:
        tree["meta"] = _meta("CareConnect-GPC-Patient-1")
    return tree


def organization_resource(here: Practice) -> Tree:
    """Return the practice's own Organization, always id 1."""
    return {"resourceType": "Organization", "id": "1",
            "meta": _meta("CareConnect-GPC-Organization-1"),
            "identifier": [{"system": ODS, "value": here.ods}], "name": here.name,
            "telecom": [{"system": "phone", "value": "01632 960000", "use": "work"}]}


def location_resource(here: Practice) -> Tree:
    """Return the surgery's Location, always id 1."""
    return {"resourceType": "Location", "id": "1", "meta": _meta("CareConnect-GPC-Location-1"),
            "name": here.name, "address": {"line": ["1 Test Street"], "postalCode": "TN23 1XX"},
            "managingOrganization": {"reference": "Organization/1"}}


def practitioner_resource(here: Practice, id_: str) -> Tree:
    """Return clinician ``id_`` (1 to CLINICIANS)."""
    return {"resourceType": "Practitioner", "id": id_,
            "meta": _meta("CareConnect-GPC-Practitioner-1"),
            "identifier": [{"system": SDS, "value": f"11112222333{id_}"}],
            "name": [{"family": _FAMILIES[int(id_)], "given": [_GIVENS[int(id_)]],
                      "prefix": ["Dr"]}], "gender": "female"}


def schedule_resource(here: Practice, id_: str) -> Tree:
    """Return the Schedule of clinician ``id_``."""
    start = datetime.combine(here.today, datetime.min.time())
    return {"resourceType": "Schedule", "id": id_, "meta": _meta("GPConnect-Schedule-1"),
            "extension": [{"url": PROFILE + "Extension-GPConnect-PractitionerRole-1",
                           "valueCodeableConcept": {"coding": [{
                               "system": "https://fhir.nhs.uk/STU3/CodeSystem/"
                                         "CareConnect-SDSJobRoleName-1",
                               "code": "R0260", "display": "General Medical Practitioner"}]}}],
            "serviceCategory": {"text": "General GP Appointments"},
            "actor": [{"reference": "Location/1"}, {"reference": f"Practitioner/{id_}"}],
            "planningHorizon": {"start": local(start), "end": local(start + timedelta(days=DAYS))}}


def slot_resource(slot: Slot, status: str) -> Tree:
    """Return ``slot`` as ``free`` or ``busy``."""
    return {"resourceType": "Slot", "id": slot.id, "meta": _meta("GPConnect-Slot-1"),
            "extension": [{"url": PROFILE + "Extension-GPConnect-DeliveryChannel-2",
                           "valueCode": "In-person"}],
            "serviceType": [{"text": "General GP Appointment"}],
            "schedule": {"reference": f"Schedule/{slot.schedule}"}, "status": status,
            "start": local(slot.start), "end": local(slot.end)}


def structured_record(here: Practice, who: Patient, sections: frozenset[str], bundle_id: str,
                      entries: int = 24) -> Tree:
    """Return the ``collection`` Bundle of the asked ``sections`` (allergies, medication).

    Every seventh patient has no allergies: the List then says ``no-content-recorded``, for "no
    known allergies" is a recorded statement and an empty list is not.
    """
    dice = Random(f"record/{here.ods}/{who.id}")
    resources: list[Tree] = [patient_resource(here, who), organization_resource(here),
                             practitioner_resource(here, "1")]
    if "includeAllergies" in sections:
        found = [] if int(who.id) % 7 == 0 else [
            _allergy(who, n, dice) for n in range(1 + entries // 8)]
        resources += [_list(who, "Allergies and adverse reactions", "886921000000105", found),
                      *found]
    if "includeMedication" in sections:
        found = [_medication(who, n, dice) for n in range(entries)]
        resources += [_list(who, "Medications and medical devices", "933361000000108", found),
                      *found]
    return {"resourceType": "Bundle", "id": bundle_id,
            "meta": {"profile": [PROFILE + "GPConnect-StructuredRecord-Bundle-1"]},
            "type": "collection", "entry": [{"resource": resource} for resource in resources]}


def _list(who: Patient, title: str, code: str, found: list[Tree]) -> Tree:
    tree: Tree = {"resourceType": "List", "status": "current", "mode": "snapshot", "title": title,
                  "code": {"coding": [{"system": SNOMED, "code": code, "display": title}]},
                  "subject": {"reference": f"Patient/{who.id}"}}
    if found:
        tree["entry"] = [{"item": {"reference": f"{one['resourceType']}/{one['id']}"}}
                         for one in found]
    else:
        tree["emptyReason"] = {"coding": [{
            "system": PROFILE + "CareConnect-ListEmptyReasonCode-1",
            "code": "no-content-recorded", "display": "No Content Recorded"}]}
        tree["note"] = [{"text": "Information not available"}]
    return tree


def _allergy(who: Patient, n: int, dice: Random) -> Tree:
    name, code = dice.choice(_ALLERGENS)
    return {"resourceType": "AllergyIntolerance", "id": f"{who.id}-a{n}",
            "meta": _meta("CareConnect-GPC-AllergyIntolerance-1"), "clinicalStatus": "active",
            "verificationStatus": "unconfirmed", "category": ["medication"],
            "code": {"coding": [{"system": SNOMED, "code": code, "display": name}]},
            "patient": {"reference": f"Patient/{who.id}"},
            "assertedDate": f"20{dice.randrange(10, 24)}-0{dice.randrange(1, 9)}-11T10:00:00+00:00"}


def _medication(who: Patient, n: int, dice: Random) -> Tree:
    name, code = dice.choice(_DRUGS)
    return {"resourceType": "MedicationStatement", "id": f"{who.id}-m{n}",
            "meta": _meta("CareConnect-GPC-MedicationStatement-1"), "status": "active",
            "medicationCodeableConcept": {"coding": [{
                "system": SNOMED, "code": code, "display": name}]},
            "effectivePeriod": {"start": f"20{dice.randrange(10, 24)}-03-02"},
            "subject": {"reference": f"Patient/{who.id}"}, "taken": "unk",
            "dosage": [{"text": f"{dice.randrange(1, 4)} to be taken each day",
                        "patientInstruction": "with or after food"}]}
