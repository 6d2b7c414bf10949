"""The generated practice: right check digits, hostile names, two tenants with the same ids."""

import json
from datetime import date

from chaos import practice as made

TODAY = date(2026, 11, 24)


def test_every_nhs_number_is_a_valid_test_number_and_no_two_practices_share_one() -> None:
    one, two = (made.practice(ods, 7, TODAY) for ods in ("B81001", "A20047"))
    numbers = [who.nhs for who in one.patients + two.patients]
    assert len(set(numbers)) == 600
    assert all(made.nhs_is_valid(number) and number[:3] == "999" for number in numbers)


def test_known_numbers_are_judged_right() -> None:
    assert made.nhs_is_valid("9990000018")
    assert made.nhs_is_valid("9990000026")
    assert not made.nhs_is_valid("9990000019")
    assert not made.nhs_is_valid("12345")
    assert not any(made.nhs_is_valid(f"999000014{digit}") for digit in range(10))


def test_the_same_seed_is_the_same_practice_and_another_is_not() -> None:
    assert made.practice("B81001", 7, TODAY) == made.practice("B81001", 7, TODAY)
    assert made.practice("B81001", 7, TODAY) != made.practice("B81001", 8, TODAY)


def test_the_same_id_is_another_person_in_another_practice() -> None:
    one, two = (made.practice(ods, 7, TODAY) for ods in ("B81001", "A20047"))
    assert one.patients[1].id == two.patients[1].id == "2"
    assert made.patient_resource(one, one.patients[1]) != made.patient_resource(
        two, two.patients[1])


def test_hostile_names_survive_json_both_ways() -> None:
    here = made.practice("B81001", 7, TODAY)
    families = {who.family for who in here.patients}
    assert {"O'Neill", "李", "Back\\slash", made.MARKED_FAMILY} <= families
    assert max(map(len, families)) > 200
    for who in here.patients:
        tree = made.patient_resource(here, who)
        assert json.loads(json.dumps(tree, ensure_ascii=False)) == tree


def test_an_empty_allergy_list_says_that_nothing_was_recorded() -> None:
    here = made.practice("B81001", 7, TODAY)
    record = made.structured_record(here, here.patients[6], frozenset({"includeAllergies"}), "t")
    resources = [one["resource"] for one in record["entry"]]
    found = next(one for one in resources if one["resourceType"] == "List")
    assert found["emptyReason"]["coding"][0]["code"] == "no-content-recorded"
