"""Frames: all that a detector holds, to JSON and back."""

import json
from dataclasses import fields

import pytest

from gateway.core.detector import Detector
from gateway.core.frame import Frame, as_json, frame_of, link_as_json, link_of
from gateway.core.instant import Mono
from gateway.core.link import Circumstances, Link, LinkMemory, LinkRules, Probe, Sample

LINK = Link("fibre", 1, "fibre", interface="eth0", probes=(
    Probe("near", "echo", "192.0.2.1:7", secret="/etc/key"), Probe("far", "tls", "192.0.2.2:443")))
BEGUN = Mono(1000.0)


def lived() -> Detector:
    """A detector that has seen a bit of everything."""
    detector = Detector(LINK, ("gpc",), LinkRules(), LinkMemory("fibre", BEGUN, BEGUN), None, 0.1)
    for n in range(40):
        at = Mono(1000.0 + n / 4)
        detector.see(Sample("fibre", "near", "echo", n % 9 != 8, Mono(at - 0.02), at, True,
                            20.0 + n % 5, seq=n))
        detector.see(Sample("fibre", "far", "tls", True, Mono(at - 0.03), at, True, 30.0))
        detector.see(Sample("fibre", "gpc", "request", True, Mono(at - 0.05), at, False, 50.0,
                            "200"))
        detector.judge(Circumstances(), (), at)
    detector.see(Sample("fibre", "", "carrier", True, at, at))
    detector.asked("gpc", at)
    detector.asked("near", at)
    return detector


def test_a_frame_comes_back_from_json_as_it_was() -> None:
    frame = lived().frame()
    assert frame_of(json.loads(json.dumps(as_json(frame)))) == frame


def test_who_resumes_a_frame_holds_the_same() -> None:
    frame = lived().frame()
    other = Detector(LINK, ("gpc",), LinkRules(), LinkMemory("fibre", BEGUN, BEGUN), None, 0.1)
    other.resume(frame)

    again = other.frame()
    assert [each.name for each in fields(Frame)
            if getattr(again, each.name) != getattr(frame, each.name)] == []


def test_what_a_detector_needs_of_a_link_comes_back_without_addresses_and_keys() -> None:
    told = json.loads(json.dumps(link_as_json(LINK)))
    assert "192.0.2" not in json.dumps(told)
    assert "/etc" not in json.dumps(told)
    back = link_of(told)
    assert (back.id, back.priority, back.kind, back.metered) == ("fibre", 1, "fibre", False)
    assert [(probe.id, probe.kind) for probe in back.probes] == [("near", "echo"), ("far", "tls")]


@pytest.mark.parametrize("told", [{}, {"memory": {}}, {"memory": {"episodes": 1}}])
def test_what_is_no_frame_is_refused(told: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        frame_of(told)
