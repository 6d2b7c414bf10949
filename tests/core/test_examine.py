"""What may be kept and whom it speaks of, as tables."""

import json
from typing import Any

import pytest

from gateway.core.examine import SUBJECTS_MAX, Examined, examine_json, examine_xml
from gateway.core.instant import Wall
from gateway.core.keeping import Keep, Key

NHS = {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}
OLD_NHS = {"system": "http://fhir.nhs.net/Id/nhs-number", "value": "999 000 0026"}
LOCAL = {"system": "https://practice.example/number", "value": "77"}


def a_keep(*types: str, identity: bool = False, subjects: tuple[str, ...] = ()) -> Keep:
    return Keep(Key("gpc", "r", b""), 200, "OK", (), b"", Wall(0), 1.0, subjects, identity, types)


def judged(tree: Any, keep: Keep) -> Examined | str:
    return examine_json(tree, json.dumps(tree).encode(), keep)


def patient(logical: Any = "2", *identifiers: Any, codes: Any = ()) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": logical, "identifier": list(identifiers),
            "meta": {"security": [{"code": code} for code in codes]}}


def bundle(*resources: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in resources]}


@pytest.mark.parametrize(("tree", "names"), [
    (patient("2", NHS), ("Patient/2", "nhs/9990000018")),
    (patient("2", OLD_NHS), ("Patient/2", "nhs/9990000026")),
    (patient("2", LOCAL), ("Patient/2",)),
    (patient(None, NHS), ("nhs/9990000018",)),
    (bundle(patient("2", NHS), patient("3")), ("Patient/2", "nhs/9990000018", "Patient/3")),
    (bundle({"resourceType": "Slot", "id": "9"}), ()),
    (bundle({"resourceType": "Slot", "contained": [patient("8")]}), ()),
    ({"resourceType": "Bundle", "entry": "none"}, ()),
    ({"resourceType": "Bundle", "entry": [None, 3, {"resource": []}]}, ()),
    (patient(7, None, 3, {"system": NHS["system"], "value": 9990000018}), ()),
    (patient("2", {"system": ["a"], "value": "1"}), ("Patient/2",)),
    (patient("2", codes=(["R"],)), ("Patient/2",)),
])
def test_the_people_of_a_reply_are_its_patients(tree: Any, names: tuple[str, ...]) -> None:
    found = judged(tree, a_keep())
    assert isinstance(found, Examined)
    assert found.subjects == names


def test_the_requests_own_subjects_come_first_and_once() -> None:
    found = judged(patient("2", NHS), a_keep(subjects=("nhs/9990000018",)))
    assert found == Examined(subjects=("nhs/9990000018", "Patient/2"))


@pytest.mark.parametrize(("tree", "identity", "tied"), [
    (patient("2", NHS), True, True), (patient("2", NHS), False, False),
    (bundle(patient("2"), patient("3")), True, False), (bundle(), True, False)])
def test_only_one_patient_in_an_identity_reply_ties_names_together(
        tree: Any, identity: bool, tied: bool) -> None:
    found = judged(tree, a_keep(identity=identity))
    assert isinstance(found, Examined)
    assert found.tied is tied


@pytest.mark.parametrize("types", [("Patient",), ("Bundle", "Slot")])
@pytest.mark.parametrize("tree", [[], "text", None, 3, {}, {"resourceType": "OperationOutcome"},
                                  {"resourceType": ["Patient"]}])
def test_only_the_types_that_the_route_names_are_kept(tree: Any, types: tuple[str, ...]) -> None:
    assert judged(tree, a_keep(*types)) == "wrong_type"


@pytest.mark.parametrize(("codes", "kept"), [
    ((), True), (("U",), True), (("N",), True), (("R",), False), (("U", "V"), False)])
def test_a_sensitive_patient_is_never_kept_alone_or_among_others(
        codes: tuple[str, ...], kept: bool) -> None:
    for tree in (patient("2", codes=codes), bundle(patient("1"), patient("2", codes=codes))):
        assert (judged(tree, a_keep()) != "sensitive") is kept


def test_a_code_of_another_system_says_nothing_of_confidentiality() -> None:
    tree = patient("2")
    tree["meta"]["security"] = [{"system": "https://practice.example/colours", "code": "R"}]
    assert judged(tree, a_keep()) != "sensitive"


def test_more_people_than_a_copy_may_be_filed_under_are_refused_one_past_the_limit() -> None:
    people = [patient(str(number)) for number in range(SUBJECTS_MAX + 1)]
    assert judged(bundle(*people), a_keep()) == "too_many"
    assert judged(bundle(*people[:-1]), a_keep()) != "too_many"


@pytest.mark.parametrize(("text", "found"), [
    (b'<Bundle xmlns="http://hl7.org/fhir"><id value="1"/></Bundle>\n', Examined()),
    (b'<?xml version="1.0"?><!-- a\nnote --><Bundle></Bundle>', Examined()),
    (b"<Bundle><x value='confidential-items'/></Bundle>", Examined(restricted=True)),
    (b"<Bundle><id value='1'/>", "not_whole"),
    (b"", "not_whole"),
    (b"{}", "not_whole"),
    (b"<html></html>", "wrong_type"),
    (b"<Bundle><security><system value='x/v3-Confidentiality'/></security></Bundle>", "sensitive"),
])
def test_xml_is_judged_by_its_ends_and_refused_where_it_might_be_sensitive(
        text: bytes, found: object) -> None:
    assert examine_xml(text, a_keep("Bundle")) == found


def test_xml_ties_nobody_together_and_is_not_kept_where_it_should() -> None:
    assert examine_xml(b"<Bundle></Bundle>", a_keep("Bundle", identity=True)) == "sensitive"


def test_nobody_shows_in_a_repr() -> None:
    assert "999" not in repr(Examined(subjects=("nhs/9990000018",)))
