"""What a request is: the first route that fits, and whom it speaks of."""

import pytest

from gateway.core.message import Request, Streamed
from gateway.core.pack import OTHER_READ, OTHER_WRITE, Pack, Route, match

PACK = Pack("p", (
    Route("amend", "booking", ("PUT",), r"Appointment/\w+", interactions=("amend",)),
    Route("cancel", "booking", ("PUT",), r"Appointment/\w+", interactions=("cancel",)),
    Route("allergies", "record_read", ("POST",), r"\$record", where_body="allergies",
          body=r'"(?P<nhs>\d{10})"'),
    Route("record", "record_read", ("POST",), r"\$record"),
    Route("diary", "booking_read", ("GET",), r"Patient/(?P<patient>\w+)/Appointment"),
    Route("slots", "booking_read", ("GET",), r"Slot", query=r"[?&]actor=Patient/(?P<patient>\w+)"),
), interaction_header="X-Interaction")


def ask(method: str, target: str, interaction: str = "", body: bytes | Streamed = b"") -> Request:
    headers = (("x-interaction", interaction),) if interaction else ()
    return Request("T", "c", "u", method, target, headers, body)


@pytest.mark.parametrize(("method", "target", "interaction", "route"), [
    ("PUT", "/Appointment/1", "amend", "amend"),
    ("PUT", "/Appointment/1", "cancel", "cancel"),
    ("PUT", "/Appointment/1", "", "amend"),
    ("PUT", "/Appointment/1", "read", "other"),
    ("GET", "/Slot", "", "slots"),
    ("HEAD", "/Slot?x", "", "slots"),
    ("GET", "/Slot/", "", "other"),
    ("GET", "/slot", "", "other"),
    ("GET", "//Slot", "", "other"),
    ("GET", "", "", "other"),
    ("DELETE", "/Slot", "", "other"),
])
def test_the_first_route_that_fits_wins(method: str, target: str, interaction: str,
                                        route: str) -> None:
    found = match(PACK, ask(method, target, interaction)).route
    assert (found.id if found not in (OTHER_READ, OTHER_WRITE) else "other") == route


def test_what_no_route_names_is_passed_by_its_method() -> None:
    assert match(PACK, ask("OPTIONS", "/x")).route is OTHER_READ
    assert match(PACK, ask("PATCH", "/x")).route is OTHER_WRITE
    assert OTHER_READ.is_read
    assert not OTHER_WRITE.is_read


def test_some_apis_say_in_the_body_alone_what_is_asked() -> None:
    assert match(PACK, ask("POST", "/$record", body=b"allergies")).route.id == "allergies"
    assert match(PACK, ask("POST", "/$record", body=b"problems")).route.id == "record"


def test_a_streamed_body_is_not_looked_into() -> None:
    streamed = Streamed(iter(()), 1 << 24)
    assert match(PACK, ask("POST", "/$record", body=streamed)).route.id == "record"


def test_subjects_come_from_path_query_and_body() -> None:
    assert match(PACK, ask("GET", "/Patient/7/Appointment")).subjects == ("Patient/7",)
    assert match(PACK, ask("GET", "/Slot?actor=Patient/9")).subjects == ("Patient/9",)
    body = b'allergies "9990000018"'
    assert match(PACK, ask("POST", "/$record", body=body)).subjects == ("nhs/9990000018",)
    assert match(PACK, ask("GET", "/Slot")).subjects == ()


def test_a_post_that_only_reads_is_a_read() -> None:
    assert match(PACK, ask("POST", "/$record")).route.is_read
    assert not match(PACK, ask("PUT", "/Appointment/1")).route.is_read


def test_subjects_never_show_in_a_repr() -> None:
    assert "9990000018" not in repr(match(PACK, ask("POST", "/$record",
                                                    body=b'allergies "9990000018"')))
