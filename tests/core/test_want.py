"""Whatever arrives on dn/want, it is read, or refused with a code: nothing crashes."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.want import BYTES_MAX, WINDOWS_MAX, Heard, Want, heard, parse

LINKS = ("fibre", "sim")
WINDOW = {"id": "CHG1", "link": "fibre", "start": 1_795_000_000_000, "end": 1_795_003_600_000}
BODY = {"version": 7, "hash": "0" * 64, "windows": [WINDOW], "isolate": ["adastra"]}


def sealed(told: Any, **outer: Any) -> bytes:
    return json.dumps({"kid": "console-1", "sig": base64.b64encode(b"s" * 64).decode(),
                       "body": base64.b64encode(json.dumps(told).encode()).decode(), **outer}
                      ).encode()


def test_an_order_is_read_and_marked_as_one() -> None:
    told = parse(sealed(BODY), LINKS)
    assert isinstance(told, Want)
    (window,) = told.windows
    assert (window.id, window.link, window.source) == ("CHG1", "fibre", "order")
    assert window.end - window.start == 3600.0
    assert (told.version, told.isolate, told.unknown) == (7, ("adastra",), 0)


def test_a_window_on_a_link_that_we_do_not_have_is_counted() -> None:
    told = parse(sealed({**BODY, "windows": [{**WINDOW, "link": "copper"}]}), LINKS)
    assert isinstance(told, Want)
    assert (told.windows, told.unknown) == ((), 1)


@pytest.mark.parametrize("payload", [
    b"", b"{}", b"[]", b"null", b"7", b"\xff", b'"x"', b"[" * 20_000,
    sealed(BODY, more=1), sealed(BODY, kid="a b"), sealed(BODY, kid=7), sealed(BODY, sig="x"),
    sealed(BODY, sig=base64.b64encode(b"s" * 63).decode()), sealed(BODY, body="%%%"),
    sealed(BODY, body="e30"), sealed([]), sealed(None), sealed({}),
    sealed({**BODY, "version": -1}), sealed({**BODY, "version": True}),
    sealed({**BODY, "version": 2**53}), sealed({**BODY, "version": "7"}),
    sealed({**BODY, "hash": "Mrs Marker"}), sealed({**BODY, "windows": {}}),
    sealed({**BODY, "windows": [WINDOW] * (WINDOWS_MAX + 1)}),
    sealed({**BODY, "windows": [{**WINDOW, "end": WINDOW["start"]}]}),
    sealed({**BODY, "windows": [{**WINDOW, "end": 1_999_000_000_000}]}),
    sealed({**BODY, "windows": [{**WINDOW, "start": 1.5}]}),
    sealed({**BODY, "windows": [{**WINDOW, "id": "../x"}]}), sealed({**BODY, "windows": [7]}),
    sealed({**BODY, "isolate": ["a b"]}), sealed({**BODY, "isolate": "adastra"}),
])
def test_what_is_malformed_is_said_so(payload: bytes) -> None:
    assert parse(payload, LINKS) == "MALFORMED"


def test_as_large_as_the_limit_and_one_byte_more() -> None:
    body = sealed(BODY)
    assert isinstance(parse(body + b" " * (BYTES_MAX - len(body)), LINKS), Want)
    assert parse(body + b" " * (BYTES_MAX - len(body) + 1), LINKS) == "TOO_BIG"


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(payload: bytes) -> None:
    assert parse(payload, LINKS) in ("MALFORMED", "TOO_BIG")


def test_what_cannot_be_read_is_counted_and_takes_nothing_away() -> None:
    good = Want(1, "0" * 64, (), ())
    once = heard(Heard(good), b"{", ("fibre",))
    twice = heard(heard(once, b"[]", ("fibre",)), b"x" * (BYTES_MAX + 1), ("fibre",))
    assert twice == Heard(good, (("MALFORMED", 2), ("TOO_BIG", 1)))
    assert heard(twice, b"", ("fibre",)) == Heard(None, twice.refused)
