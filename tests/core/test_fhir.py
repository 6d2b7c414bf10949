"""The little FHIR that we write: outcomes, and splices that leave all other bytes alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.fhir import operation_outcome, outcome_entry, splice

ENTRY = outcome_entry("informational", "a copy", searchset=True)


def test_an_outcome_names_its_code_and_severity() -> None:
    outcome = json.loads(operation_outcome("transient", "not now"))

    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"] == [
        {"severity": "error", "code": "transient", "diagnostics": "not now"}]


def test_an_entry_of_a_searchset_has_mode_outcome_and_that_of_a_collection_none() -> None:
    assert json.loads(ENTRY)["search"] == {"mode": "outcome"}
    assert "search" not in json.loads(outcome_entry("informational", "a copy", searchset=False))


@pytest.mark.parametrize(("body", "entries"), [
    (b'{"resourceType":"Bundle","entry":[{"a":[1]}],"x":"entry"}', 2),
    (b'{"resourceType":"Bundle", "entry" : [ ] }', 1),
    (b'{"resourceType":"Bundle"}', 1),
    (b'{ }', 1),
    (b'{"a":{"entry":[1,2]},"b":["entry"]}', 1),
    ('{"entry":[{"n":"Ø, \\"]}{[\\\\"}],"z":1}'.encode(), 2),
])
def test_the_entry_goes_to_the_end_and_nothing_else_changes(body: bytes, entries: int) -> None:
    spliced = splice(body, ENTRY)

    assert spliced is not None
    tree = json.loads(spliced)
    assert len(tree["entry"]) == entries
    assert tree["entry"][-1] == json.loads(ENTRY)
    before = json.loads(body)
    assert {key: tree[key] for key in before if key != "entry"} == {
        key: value for key, value in before.items() if key != "entry"}


@pytest.mark.parametrize("body", [
    b"", b"[]", b'"entry"', b'{"entry":{}}', b'{"entry":"x"}', b'{"entry":[1],"entry":[2]}',
    b'{"entry":[1]', b"<Bundle/>"])
def test_where_no_place_is_sure_nothing_is_spliced(body: bytes) -> None:
    assert splice(body, ENTRY) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["entry", "a", 'q"', "Ø"]), inner, max_size=3), max_leaves=12)


@given(st.dictionaries(st.sampled_from(["a", "b", "resourceType"]), json_values, max_size=3),
       st.none() | st.lists(json_values, max_size=4), st.sampled_from([None, 1]))
def test_any_bundle_keeps_its_bytes_and_gains_one_entry(
    others: dict[str, object], entries: list[object] | None, indent: int | None
) -> None:
    bundle = dict(others) if entries is None else {**others, "entry": entries, "z": [[]]}
    body = json.dumps(bundle, indent=indent).encode()

    spliced = splice(body, ENTRY)

    assert spliced is not None
    assert json.loads(spliced) == {**bundle, "entry": [*(entries or []), json.loads(ENTRY)]}
    at = spliced.index(ENTRY)
    rest = spliced[:at] + spliced[at + len(ENTRY):]
    assert len(rest) - len(body) in (0, 1, len(b',"entry":[]'), len(b'"entry":[]'))
