"""Replies to keep, made up: patients with marked names and numbers that must not leak."""

import random
from pathlib import Path

import orjson

from gateway.core.instant import Wall
from gateway.core.keeping import Keep, Key
from gateway.edge.vault import Safe, Vault

NHS_NUMBER = "9990000018"
NAME = "Quennevilla-Brightsmith"
JSON = (("Content-Type", "application/fhir+json"),)


def a_safe(state_dir: Path, ods: str = "B81001") -> Safe:
    """Return the tenant's keys under ``state_dir``, made where there are none."""
    Vault.init(state_dir, (ods,))
    return Vault.open(state_dir).safe(ods)


def a_key(name: str = "1", route: str = "patient-read", upstream: str = "gpc") -> Key:
    """Return the key of one request."""
    return Key(upstream, route, b"GET /Patient/" + name.encode())


def patient(logical: str = "2", nhs: str = NHS_NUMBER, **more: object) -> dict[str, object]:
    """Return a Patient, as a tree."""
    return {"resourceType": "Patient", "id": logical, "name": [{"family": NAME}],
            "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": nhs}], **more}


def bundle(*resources: dict[str, object]) -> dict[str, object]:
    """Return a searchset, as a tree."""
    return {"resourceType": "Bundle", "type": "searchset",
            "entry": [{"resource": resource} for resource in resources]}


def a_keep(key: Key | None = None, tree: object = None, *, fetched: float,
           body: bytes | None = None, subjects: tuple[str, ...] = (), identity: bool = False,
           types: tuple[str, ...] = ("Patient", "Bundle"), ceiling_s: float = 3600.0,
           headers: tuple[tuple[str, str], ...] = JSON) -> Keep:
    """Return a whole reply to keep: a marked Patient unless told otherwise."""
    content = orjson.dumps(tree if tree is not None else patient()) if body is None else body
    return Keep(key or a_key(), 200, "OK", headers, content, Wall(fetched), ceiling_s, subjects,
                identity, types)


def searchset_of(size: int, rng: random.Random) -> bytes:
    """Return a JSON searchset of about ``size`` bytes that squeezes as real ones do (1:6)."""
    slots: list[dict[str, object]] = []
    length = 0
    while length < size:
        slot: dict[str, object] = {
            "resourceType": "Slot", "id": f"{rng.getrandbits(48):x}", "status": "free",
            "meta": {"versionId": str(rng.getrandbits(40)), "profile": [
                "https://fhir.nhs.uk/STU3/StructureDefinition/CareConnect-GPC-Slot-1"]},
            "schedule": {"reference": f"Schedule/{rng.randrange(100)}"},
            "start": f"2026-11-{rng.randrange(10, 28)}T{rng.randrange(8, 18):02}:00:00+00:00"}
        slots.append(slot)
        length += len(orjson.dumps(slot)) + 13
    return orjson.dumps(bundle(*slots))
