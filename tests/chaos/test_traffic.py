"""What a practice asks is what GP Connect's rules take, and each question keeps its key."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import islice

import pytest

from chaos import practice as made
from chaos.clinical_system import ClinicalSystem
from chaos.load import Ask, Load
from chaos.traffic import Desk, Person, round_robin, token

TODAY = datetime.now(UTC).date()


def desk(tenant: str = "B81001") -> Desk:
    here = made.practice(tenant, 7, TODAY)
    return Desk(tenant, "desk", "a-key", "STU3/1/gpconnect", "R4", TODAY,
                [Person(who.id, who.nhs) for who in here.patients])


@pytest.fixture
async def system() -> AsyncIterator[ClinicalSystem]:
    practices = [made.practice(ods, 7, TODAY) for ods in ("B81001", "A20047")]
    async with ClinicalSystem(practices, pace=0.0) as running:
        yield running


async def test_every_read_and_booking_is_taken_by_the_clinical_system(
        system: ClinicalSystem) -> None:
    load = Load(("127.0.0.1", system.ports["direct"]))
    asks = [*desk().reads(), *islice(desk().unseen(), 3), *islice(desk().bookings(), 20)]
    ended = {(ask.kind, (await load.one(ask)).status) for ask in asks}
    load.close()
    assert ended == {("patient", 200), ("appointments", 200), ("find", 200), ("record", 200),
                     ("r4-patient", 200), ("slots", 200), ("book", 201)}


def test_the_marked_patient_is_read_by_every_kind_of_read_that_names_one() -> None:
    marked = next(one for one in desk().people if one.id == made.MARKED_PATIENT)
    asked = b"".join(ask.path.encode() + ask.body for ask in desk().reads())
    assert marked.nhs.encode() in asked
    assert f"/Patient/{marked.id}/Appointment".encode() in asked


def test_the_token_is_unsigned_and_ends_with_a_dot() -> None:
    head, claims, signature = token("B81001").split(".")
    assert signature == ""
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["alg"] == "none"
    told = json.loads(base64.urlsafe_b64decode(claims + "==="))
    assert told["exp"] - told["iat"] == 300


def test_tenants_take_turns_and_some_questions_were_never_asked_before() -> None:
    desks = [desk(), desk("A20047")]
    known = {ask.key for one in desks for ask in one.reads()}
    asked: list[Ask] = list(islice(round_robin(desks, unseen_each=8), 90))
    assert {ask.tenant for ask in asked} == {"B81001", "A20047"}
    fresh = [ask for ask in asked if ask.key not in known]
    assert len(fresh) == len({ask.key for ask in fresh}) == 10


def test_the_same_path_of_two_tenants_is_two_questions() -> None:
    assert not {ask.key for ask in desk().reads()} & {ask.key for ask in desk("A20047").reads()}
