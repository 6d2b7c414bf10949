"""From transitions and the board's view to events and the state document."""

import json
from typing import Any

import pytest

from gateway.core.asyncapi import mistakes, payloads
from gateway.core.instant import Mono, Wall
from gateway.core.link import LinkTurned
from gateway.core.mode import BoardView, LinkView, ModeTurned, ModeView, Transition
from gateway.core.route import LinkState, Switched
from gateway.core.telemetry import (
    Alarm,
    ClockQuality,
    Envelope,
    High,
    Row,
    State,
    events,
    snapshot,
)
from gateway.core.telling import event_of, state_of
from gateway.core.verdict import Judged, Verdict

IDS = frozenset({"B81001-a", "B81001", "fibre", "lte", "gpc"})
ENVELOPE = Envelope("B81001-a", 3, 2, 1, 5, 1, ClockQuality("ntp"))
WALL, NOW = Wall(1000.0), Mono(50.0)
VERDICT = Verdict("BLACKHOLE", "fibre", "", Mono(40.0), (("silence_s", 1.75), ("layer", "tls")))


def link(name: str, state: LinkState) -> LinkView:
    return LinkView(name, "other", False, state, Mono(40.0), "", False, 0.1, 4.0, 0.0)


def view(*links: LinkView, active: str = "fibre", **more: Any) -> BoardView:
    return BoardView(NOW, links, more.get("modes", ()), more.get("verdicts", ()), active,
                     more.get("switches", 0), more.get("last_switch"), 0)


def sent(transition: Transition) -> Any:
    """The one row that tells ``transition``, as it is sent, judged by the document."""
    row = Row(1, "b", 1, event_of(transition, WALL, NOW))
    payload = json.loads(events((row,), ENVELOPE, IDS).payload)
    assert mistakes(payload, payloads()["evt"]) == ()
    return payload["rows"][0]


def test_a_link_s_turn_is_dated_when_it_happened_with_its_evidence() -> None:
    told = sent(LinkTurned("fibre", "UP", "DOWN", "BLACKHOLE", Mono(48.0), 40.0,
                           (("misses", 4.0),)))

    assert (told["kind"], told["ts"], told["mono"]) == ("link", 998_000, 48_000)
    assert told["b"] == {"link": "fibre", "before": "up", "after": "down", "cause": "BLACKHOLE",
                         "lasted_s": 40.0, "evidence": {"misses": 4.0}}


def test_a_verdict_is_told_with_the_evidence_that_was_judged_and_how_long_it_held() -> None:
    began, ended = sent(Judged(VERDICT, False, NOW)), sent(Judged(VERDICT, True, NOW, 10.0))

    assert began["b"] == {
        "verdict": "BLACKHOLE", "phase": "began", "link": "fibre", "upstream": "",
        "lasted_s": None, "evidence": {"silence_s": 1.75, "layer": "tls"}}
    assert (ended["b"]["phase"], ended["b"]["lasted_s"]) == ("ended", 10.0)


@pytest.mark.parametrize(("transition", "kind", "cause"), [
    (ModeTurned("B81001", "gpc", "NORMAL", "BACKUP", "BLACKHOLE", NOW, 1.0), "mode", "BLACKHOLE"),
    (Switched("fibre", "lte", "MAINTENANCE", NOW, 1.0), "switch", "MAINTENANCE"),
    (Switched("lte", "", "", NOW, 1.0), "switch", "")])
def test_mode_changes_and_switches_are_told_with_their_cause(
        transition: Transition, kind: str, cause: str) -> None:
    told = sent(transition)

    assert (told["kind"], told["b"]["cause"]) == (kind, cause)


def test_the_state_document_holds_what_the_board_knows() -> None:
    board = view(link("fibre", "DOWN"), link("lte", "UP"), active="lte",
                 modes=(ModeView("B81001", "gpc", "BACKUP", Mono(45.0), "BLACKHOLE"),),
                 verdicts=(VERDICT,), switches=1,
                 last_switch=Switched("fibre", "lte", "BLACKHOLE", Mono(45.0), 9.0))
    rest = State("", alarms=(Alarm("clock", "major", 1),))
    message = snapshot(state_of(board, rest, WALL, NOW), 1, High(), ENVELOPE, IDS)
    body = json.loads(message.payload)

    assert mistakes(body, payloads()["state"]) == ()
    assert [(each["id"], each["st"], each["since"]) for each in body["b"]["links"]] == [
        ("fibre", "down", 990_000), ("lte", "up", 990_000)]
    assert body["b"]["failover"] == {"n_today": 1, "last": 995_000, "cause": "BLACKHOLE"}
    assert [each["code"] for each in body["b"]["alarms"]] == ["one_link", "clock"]
    assert body["b"]["modes"][0]["mode"] == "BACKUP"


@pytest.mark.parametrize(("states", "active", "codes"), [
    (("UP", "UP"), "fibre", []), (("UP", "DOWN"), "fibre", ["one_link"]),
    (("DOWN", "DOWN"), "", ["no_path"]), (("UP",), "fibre", []),
    (("UP", "UP", "DOWN"), "fibre", [])])
def test_no_path_is_critical_and_one_link_left_is_minor(
        states: tuple[LinkState, ...], active: str, codes: list[str]) -> None:
    links = (link(name, state) for name, state in zip(("fibre", "lte", "x"), states, strict=False))
    told = state_of(view(*links, active=active), State(""), WALL, NOW)

    assert [alarm.code for alarm in told.alarms] == codes
