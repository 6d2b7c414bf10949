"""Canaries: what is asked, and that nothing but the API's own statement proves a path."""

from dataclasses import replace

import pytest

from gateway.core.canary import canary, judged
from gateway.core.message import Arrived, NoAnswer, Outcome, Reply
from gateway.core.pack import Pack

PACK = Pack("gpc", (), canary="/metadata", canary_types=("CapabilityStatement", "Conformance"),
            interaction_header="Ssp-InteractionID", canary_interaction="urn:x:metadata-1")
JSON = (("Content-Type", "application/fhir+json; charset=utf-8"),)
XML = (("Content-Type", "application/fhir+xml"),)
RIGHT = b'{"x": [1], "resourceType": "CapabilityStatement"}'


def arrived(status: int, body: bytes, headers: tuple[tuple[str, str], ...] = JSON) -> Outcome:
    return Arrived("fibre", Reply(status, "", headers, body))


def test_a_canary_carries_no_credential_and_asks_for_what_the_pack_names() -> None:
    asked = canary(PACK, "B81001", "gpc", "gw")
    assert asked is not None
    assert (asked.method, asked.target, asked.body) == ("GET", "/metadata", b"")
    assert dict(asked.headers) == {"Ssp-InteractionID": "urn:x:metadata-1",
                                   "Accept": "application/fhir+json", "Via": "1.1 gw"}
    assert asked.is_read
    assert canary(replace(PACK, canary=""), "B81001", "gpc", "gw") is None


@pytest.mark.parametrize("outcome", [
    arrived(200, RIGHT), arrived(200, b'\xef\xbb\xbf{"resourceType":"Conformance"}'),
    arrived(200, b'<?xml version="1.0"?><!-- a --><CapabilityStatement '
                 b'xmlns="http://hl7.org/fhir"></CapabilityStatement>', XML)])
def test_the_statement_itself_proves_the_path(outcome: Outcome) -> None:
    assert judged(PACK, outcome) == "proved"


@pytest.mark.parametrize("outcome", [
    arrived(200, b"<html>Welcome</html>", (("Content-Type", "text/html"),)),
    arrived(200, b"<html>Welcome</html>"), arrived(200, b"{}"), arrived(200, b"[1]"),
    arrived(200, b'{"resourceType": "Bundle"}'), arrived(200, RIGHT[:-1]),
    arrived(200, b'{"resourceType": ["CapabilityStatement"]}'),
    arrived(200, RIGHT, (("Content-Type", "text/html"),)),
    arrived(200, RIGHT, (*JSON, ("Content-Encoding", "gzip"))),
    arrived(200, b'<CapabilityStatement xmlns="http://example.org"/>', XML)])
def test_any_other_200_is_somebody_elses(outcome: Outcome) -> None:
    assert judged(PACK, outcome) == "foreign"


@pytest.mark.parametrize("status", [204, 302, 401, 403, 404, 500, 503])
def test_another_status_is_an_answer_and_no_proof(status: int) -> None:
    assert judged(PACK, arrived(status, RIGHT)) == "answered"


def test_no_answer_fails() -> None:
    assert judged(PACK, NoAnswer("fibre", "timeout")) == "failed"
