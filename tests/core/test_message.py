"""What passes through: fields in any case, targets never decoded, bodies never shown."""

import pytest

from gateway.core.message import Reply, Request, every, first


def request(target: str) -> Request:
    return Request("B81001", "booking", "gpc", "GET", target,
                   (("Accept", "a"), ("accept", "b"), ("X-Gateway-Key", "pgw_secret")))


def test_a_field_is_found_in_any_case_the_first_first() -> None:
    asked = request("/Slot")
    assert asked.header("ACCEPT") == "a"
    assert every(asked.headers, "Accept") == ("a", "b")
    assert first(asked.headers, "Host") is None
    assert Reply(200, "", (("ETag", "1"),)).header("etag") == "1"


@pytest.mark.parametrize(("target", "path", "query"), [
    ("", "", ""), ("?", "", ""), ("/a", "a", ""), ("/a?", "a", ""), ("/a?b=1?c", "a", "b=1?c"),
    ("//a/%2e", "/a/%2e", ""), ("/Patient/$x?y=%7C|", "Patient/$x", "y=%7C|")])
def test_path_and_query_are_as_they_were_sent(target: str, path: str, query: str) -> None:
    assert (request(target).path, request(target).query) == (path, query)


def test_no_target_field_or_body_shows_in_a_repr() -> None:
    shown = repr(request("/Patient?identifier=9990000018")) + repr(Reply(200, "", (), b"Marked"))
    for secret in ("9990000018", "pgw_secret", "Marked"):
        assert secret not in shown
