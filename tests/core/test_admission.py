"""Who is refused first when a practice asks more at once than it may."""

import pytest

from gateway.core.admission import Priority, Shares, places, priority_of
from gateway.core.message import Request, Streamed
from gateway.core.pack import OTHER_READ, OTHER_WRITE, Kind, Matched, Route

SHARES = Shares()


def asked(kind: Kind, body: bytes | Streamed = b"", **more: bool) -> Priority:
    request = Request("B81001", "desk", "gpc", "GET", "/x", (), body)
    return priority_of(Matched(Route("x", kind, ("GET",), "x", **more)), request)  # type: ignore[arg-type]  # flags only


@pytest.mark.parametrize(("kind", "wanted"), [
    ("booking", "first"), ("write", "first"), ("record_read", "first"),
    ("booking_read", "reads"), ("other", "other")])
def test_bookings_and_records_come_first_and_what_no_pack_names_last(
        kind: Kind, wanted: Priority) -> None:
    assert asked(kind) == wanted


def test_what_a_pack_keeps_or_calls_clinical_is_a_read_like_others() -> None:
    assert asked("other", keep=True) == asked("other", clinical=True) == "reads"
    request = Request("B81001", "desk", "gpc", "GET", "/x", (), b"")
    assert {priority_of(Matched(route), request) for route in (OTHER_READ, OTHER_WRITE)} == {
        "other"}


def test_a_write_with_a_body_too_large_to_hold_waits() -> None:
    assert asked("write", Streamed(None)) == "other"
    assert asked("booking", Streamed(None)) == "first"


def test_the_less_urgent_leave_places_free() -> None:
    assert [places(each, 64, SHARES) for each in ("first", "reads", "other")] == [64, 58, 48]


@pytest.mark.parametrize("priority", ["first", "reads", "other"])
@pytest.mark.parametrize("most", [1, 2, 3, 7, 64, 4096])
def test_everybody_may_have_one_place_and_nobody_more_than_there_are(
        priority: Priority, most: int) -> None:
    for shares in (SHARES, Shares(0.0, 0.0), Shares(1.0, 1.0)):
        assert 1 <= places(priority, most, shares) <= most
