"""What was observed, read: when a path worked, and how an answer ended."""

import pytest

from chaos.observed import Observed, Sent, Weather

BOTH = frozenset({"fibre", "sim"})
NONE: frozenset[str] = frozenset()


def sent(**more: object) -> Sent:
    given: dict[str, object] = {
        "n": 1, "at": 0.0, "took_s": 0.1, "phase": "p", "tenant": "B81001", "upstream": "gpc",
        "upstream_key": "gpc:B81001", "client": "c", "kind": "patient", "key": "k", "token": "t",
        "is_read": True, "opted_in": True}
    return Sent(**(given | more))  # type: ignore[arg-type]  # the table of cases names fields


WEATHER = (Weather(0.0, BOTH), Weather(10.0, frozenset({"sim"})), Weather(20.0, NONE),
           Weather(30.0, BOTH), Weather(50.0, BOTH, frozenset({"gpc"})), Weather(60.0, BOTH),
           Weather(70.0, BOTH, gateway=False))


@pytest.mark.parametrize(("start", "end", "upstream", "works"), [
    (1.0, 2.0, "gpc:B81001", True),
    (9.0, 12.0, "gpc:B81001", True),  # one link dies, the other works
    (19.0, 20.5, "gpc:B81001", False),
    (25.0, 26.0, "gpc:B81001", False),
    (31.0, 31.5, "gpc:B81001", False),  # not noticed yet
    (33.0, 34.0, "gpc:B81001", True),
    (49.0, 51.0, "gpc:B81001", False),
    (55.0, 56.0, "r4:B81001", True),
    (61.0, 62.0, "gpc:B81001", False),
    (64.0, 65.0, "gpc:B81001", True),
    (71.0, 72.0, "gpc:B81001", False),
    (-2.0, -1.0, "gpc:B81001", False)])
def test_a_path_works_only_if_some_link_did_all_the_time(
        start: float, end: float, upstream: str, works: bool) -> None:
    assert Observed(weather=WEATHER).path_works(start, end, upstream) is works


def test_a_link_that_came_back_a_moment_ago_is_no_path_when_the_other_dies() -> None:
    weather = (Weather(0.0, frozenset({"fibre"})), Weather(10.0, BOTH),
               Weather(11.0, frozenset({"sim"})))
    observed = Observed(weather=weather)
    assert not observed.path_works(10.5, 11.5, "gpc:B81001")
    assert observed.path_works(13.0, 14.0, "gpc:B81001")


def test_nothing_is_known_of_a_path_without_weather() -> None:
    assert not Observed().path_works(0.0, 1.0, "gpc:B81001")


def test_only_stretches_with_every_link_well_blame_the_upstream_alone() -> None:
    observed = Observed(weather=(*WEATHER, Weather(80.0, NONE, frozenset({"gpc"}))))
    spans = observed.upstream_alone_at_fault()
    assert [(span.start, span.end, span.subject) for span in spans] == [(50.0, 60.0, "gpc")]


@pytest.mark.parametrize(("seen", "answered"), [
    ({}, "failed"),
    ({"status": 200}, "failed"),  # cut short
    ({"status": 200, "whole": True, "answer_class": "live"}, "live"),
    ({"status": 404, "whole": True, "answer_class": "live"}, "live"),
    ({"status": 200, "whole": True, "answer_class": "as-of"}, "copy"),
    ({"status": 503, "whole": True, "transient": True, "answer_class": "unknown"}, "refused"),
    ({"status": 503, "whole": True}, "failed"),
    ({"status": 502, "whole": True, "answer_class": "live"}, "failed"),
    ({"status": 500, "whole": True}, "failed")])
def test_an_answer_ends_in_one_of_four_ways(seen: dict[str, object], answered: str) -> None:
    assert sent(**seen).answered == answered
