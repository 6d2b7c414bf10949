"""The ``/status`` document: whole, JSON, and made of codes and figures only."""

import json
from dataclasses import replace
from typing import Any

from gateway.core.course import ClassView, CourseView
from gateway.core.failback import Clearing, Ramp
from gateway.core.instant import Mono, Wall
from gateway.core.maintenance import MaintenanceView, Plan, Refused, Risk, Window
from gateway.core.mode import BoardView, LinkView, ModeView
from gateway.core.readiness import Check, Found, Report
from gateway.core.route import Switched
from gateway.core.status import MqttView, OutboxView, Rest, StoreView, document
from gateway.core.steer import Figures
from gateway.core.verdict import Verdict
from gateway.core.want import Heard, Want

VIEW = BoardView(
    Mono(100.0),
    (LinkView("fibre", "fibre", False, "DOWN", Mono(90.0), "BLACKHOLE", True, 10.5, None, 1.0),),
    (ModeView("B81001", "gpc", "STANDALONE", Mono(90.0), "BLACKHOLE"),),
    (Verdict("BLACKHOLE", "fibre", "", Mono(90.0), (("silence_s", 1.6),)),),
    "", 1, Switched("fibre", "", "BLACKHOLE", Mono(90.0), 50.0), 0,
    (("B81001", "gpc", "fibre", 12.0),))
REST = Rest("B81001-a", "0.1.0", 3, True, False, 55.5, Wall(0.0), True,
            (("B81001", "gpc", "live", 7),), None, (StoreView("B81001", "open", 5, 6),),
            OutboxView("open", 3, 2, 400, 1.5, 0, {"a": 0, "b": 2, "c": 0}),
            MqttView(False, "", 4))


def test_the_document_says_all_that_is_known() -> None:
    told = json.loads(json.dumps(document(VIEW, REST)))

    assert told["links"][0]["state"] == "DOWN"
    assert told["links"][0]["active"] is False
    assert told["links"][0]["rtt_ms"] is None
    assert told["verdicts"][0]["evidence"] == {"silence_s": 1.6}
    assert told["modes"][0] == {"tenant": "B81001", "upstream": "gpc", "mode": "STANDALONE",
                                "cause": "BLACKHOLE", "since_s": 10.0}
    assert told["last_switch"] == {
        "before": "fibre", "after": "", "cause": "BLACKHOLE", "ago_s": 10.0}
    assert told["links"][0]["verdict"] == "BLACKHOLE"
    assert told["switches"] == 1
    assert told["requests"] == [
        {"tenant": "B81001", "upstream": "gpc", "answered": "live", "count": 7}]
    assert told["stores"][0]["copies"] == 5
    assert told["outbox"]["high"] == {"a": 0, "b": 2, "c": 0}
    assert told["gateway"]["wall"] == "1970-01-01T00:00:00Z"
    assert "latency" not in told
    assert told["proofs"][0]["age_s"] == 12.0


def test_it_shows_what_classes_cost_what_comes_back_and_what_is_cleared() -> None:
    ramp = Ramp("fibre", "sim", Mono(40.0), Mono(90.0), 3, 0.5)
    course = CourseView(
        (ClassView("fibre", "small", 0.9, Figures(10, 2, 0.1, 0.1, 0.2, 2000.0), Figures(), True),
         ClassView("sim", "bulk", None, Figures(), Figures(), False)),
        (ramp,), (Clearing("sim", Mono(30.0), 2, None, Mono(90.0)),), frozenset({"fibre"}))
    view = BoardView(Mono(100.0), (), (), (), "", 0, None, 0, course=course)
    told = document(view, Rest("g", "1", 1, True, False, 1.0, Wall(0.0), True,
                               warm=(("sim", "B81001", "gpc", 2),)))

    steering = told["steering"]
    assert isinstance(steering, dict)
    (row,) = steering["classes"]
    assert (row["link"], row["traffic"], row["cost_s"], row["left"]) == (
        "fibre", "small", 0.9, True)
    assert row["recent"]["fails"] == 2
    assert steering["impaired"] == ["fibre"]
    assert steering["returning"] == [{
        "link": "fibre", "backup": "sim", "stage": "READS", "share": 0.1, "since_s": 10.0,
        "begun_s": 60.0, "stayed_s": 0.5}]
    assert steering["cleared"] == [{
        "link": "sim", "since_s": 70.0, "flows": 2, "clean_s": None, "alarmed": True}]
    assert told["warm"] == [
        {"link": "sim", "tenant": "B81001", "upstream": "gpc", "declared": 2}]


def test_it_shows_announced_work_the_mornings_run_and_orders_that_are_not_obeyed() -> None:
    wall = Wall(1_795_000_000.0)
    soon = Window("CHG1", "fibre", Wall(wall + 600), Wall(wall + 1200), reason="switch")
    lost = Window("CHG2", "sim", Wall(wall + 600), Wall(wall + 1200), source="calendar")
    work = MaintenanceView(Plan((soon,), (Refused(lost, "last_path"),)), frozenset(),
                           (Risk(soon, ("unproven",), True),), frozenset({"sim"}),
                           (("bt", "answered 503", wall),))
    run = Report("2026-11-18", "opening", Wall(wall - 60), 2.0,
                 (Check("tls", "fibre", "gpc", "fail"), Check("echo", "sim", "", "pass")),
                 (Found("backup_only", "fibre", "gpc"),))
    heard = Heard(Want(7, "0" * 64, (replace(soon, source="order"),), ("adastra",)),
                  (("MALFORMED", 2),))
    told = document(VIEW, Rest("x", "1", 1, True, False, 1.0, wall, True, maintenance=work,
                               readiness=run, orders=heard))
    shown: Any = told["maintenance"]
    assert shown["minutes_to_next"] == 10.0
    assert shown["refresh_wanted"] == {"id": "CHG1", "link": "fibre"}
    assert [(each["id"], each["phase"]) for each in shown["windows"]] == [("CHG1", "refreshing")]
    assert [(each["id"], each["why"]) for each in shown["refused"]] == [("CHG2", "last_path")]
    assert shown["at_risk"] == [
        {"id": "CHG1", "link": "fibre", "findings": ["unproven"], "grave": True}]
    assert shown["unread"] == [{"calendar": "bt", "why": "answered 503"}]
    morning: Any = told["readiness"]
    assert (morning["ready"], morning["age_s"], morning["checks"]) == (False, 60.0, 2)
    assert morning["failed"] == [{"kind": "tls", "link": "fibre", "upstream": "gpc"}]
    assert "only be reached over the backup line" in morning["found"][0]["words"]
    orders: Any = told["orders"]
    assert (orders["source"], orders["version"], orders["refused"]) == ("order", 7,
                                                                        {"MALFORMED": 2})
    assert "not obeyed" in orders["note"]
    assert orders["windows"][0]["source"] == "order"
