"""The board's words as messages: each transition once, each alarm with its scope."""

import pytest

from gateway.core.instant import Mono, Wall
from gateway.core.link import LinkState, LinkTurned
from gateway.core.mode import BoardView, LinkView, ModeTurned, Transition
from gateway.core.report import alarm, happening, link_alarms, state
from gateway.core.route import Switched
from gateway.core.telemetry import (
    Happening,
    LinkMoved,
    ModeChanged,
    OutboxNow,
    SwitchTold,
    VerdictTold,
)
from gateway.core.verdict import Judged, Verdict

NOW = Mono(100.0)
VERDICT = Verdict("UPSTREAM_DOWN", "", "gpc", NOW, (("failures", 3),))


@pytest.mark.parametrize(("transition", "told"), [
    (LinkTurned("fibre", "SUSPECT", "DOWN", "BLACKHOLE", NOW, 1.5, (("silence_s", 1.6),)),
     LinkMoved("fibre", "suspect", "down", "BLACKHOLE", 1.5, (("silence_s", 1.6),))),
    (Judged(VERDICT, False, NOW), VerdictTold("UPSTREAM_DOWN", "began", "", "gpc", None,
                                              (("failures", 3),))),
    (Judged(VERDICT, True, NOW, 7.0), VerdictTold("UPSTREAM_DOWN", "ended", "", "gpc", 7.0,
                                                  (("failures", 3),))),
    (ModeTurned("B81001", "gpc", "NORMAL", "BACKUP", "BLACKHOLE", NOW, 9.0),
     ModeChanged("B81001", "gpc", "NORMAL", "BACKUP", "BLACKHOLE", 9.0)),
    (Switched("fibre", "sim", "MAINTENANCE", NOW, 9.0),
     SwitchTold("fibre", "sim", "MAINTENANCE", 9.0)),
    (Switched("fibre", "sim", "words of somebody", NOW, 9.0), SwitchTold("fibre", "sim", "", 9.0)),
])
def test_each_transition_becomes_one_event(transition: Transition, told: Happening) -> None:
    assert happening(transition) == told


def view(**links: LinkState) -> BoardView:
    shown = tuple(LinkView(name, "fibre", False, each, Mono(90.0), "", False, 0.1, 12.0, 0.0)
                  for name, each in links.items())
    return BoardView(NOW, shown, (), (VERDICT,), next(iter(links)), 0, None, 0)


def test_no_working_link_is_critical_and_one_of_two_is_major() -> None:
    none = link_alarms(view(fibre="DOWN", sim="DOWN"), Wall(1000.0))
    one = link_alarms(view(fibre="DOWN", sim="UP"), Wall(1000.0))

    assert [(each.code, each.sev, each.since) for each in none] == [
        ("no_path", "critical", 990_000)]
    assert [(each.code, each.sev, each.link) for each in one] == [("one_link", "major", "fibre")]
    assert link_alarms(view(fibre="UP", sim="DRAINING"), Wall(1000.0)) == ()


def test_the_state_dates_by_wall_time_and_names_unhealthy_upstreams() -> None:
    told = state(view(fibre="UP"), (alarm("full", Wall(1.0)),), OutboxNow(), "0" * 64, 5.0,
                 Wall(1000.0))

    assert told.active == "fibre"
    assert told.links[0].since == 990_000
    assert [(path.link, path.upstream, path.verdict) for path in told.paths] == [
        ("", "gpc", "UPSTREAM_DOWN")]
    assert [each.code for each in told.alarms] == ["store_full"]
    assert alarm("keys_missing", Wall(1.0)).code == "keys_missing"
    assert alarm("set_aside", Wall(1.0)).code == "store_damaged"
