"""The AsyncAPI document: made from the types, and what we send holds to it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway.core.asyncapi import document, mistakes, payloads, schema_of, text
from gateway.core.instant import Mono, Wall
from gateway.core.telemetry import (
    KINDS,
    Alarm,
    Birth,
    BirthLink,
    ClassTold,
    ClockQuality,
    Envelope,
    Failover,
    FlowsTold,
    Gap,
    Happening,
    Health,
    Heartbeat,
    High,
    LinkMoved,
    LinkNow,
    Message,
    ModeChanged,
    ModeNow,
    OutboxNow,
    PathNow,
    PresenceCode,
    QuotaTold,
    RampStep,
    ReadinessTold,
    Row,
    Started,
    State,
    Stopped,
    StoreTold,
    SwitchTold,
    VerdictTold,
    WindowTold,
    event,
    events,
    heartbeat,
    presence,
    snapshot,
)

STORED = Path(__file__).resolve().parents[2] / "docs" / "asyncapi.json"
IDS = frozenset({"B81001-a", "B81001", "fibre", "lte", "gpc", "1.2.0"})
ENVELOPE = Envelope("B81001-a", 3, 2, 1, 5, 1, ClockQuality("none", None))
HASH = "0" * 64
HAPPENINGS: tuple[Happening, ...] = (
    Started("1.2.0", "crash", HASH), Stopped("term", 3.5),
    LinkMoved("fibre", "up", "down", "LINK_DOWN", 60.0, (("misses", 4.0), ("layer", "tls"))),
    LinkMoved("fibre", "unknown", "up"), VerdictTold("UPSTREAM_DOWN", "began", "", "gpc"),
    ModeChanged("B81001", "gpc", "NORMAL", "STANDALONE", "BLACKHOLE"),
    SwitchTold("fibre", "lte", "MAINTENANCE", 9.0), StoreTold("records", "set_aside", "B81001"),
    QuotaTold("lte", "quota_low", "quota_out", 1.01, 0.0), QuotaTold("lte", "quota_out", "", 0.0),
    ClassTold("small", "fibre", "lte", "began", "BROWNOUT", (("cost_s", 0.9), ("other_s", 0.1))),
    RampStep("fibre", "lte", "READS", 0.01, "", 12.0, (("n", 3), ("p95_s", 0.02))),
    RampStep("fibre", "lte", "READS", 0.1, "errors"), FlowsTold("lte", "began", 2, 60.0),
    WindowTold("fibre", "calendar", "page", 1, 2, (("unproven", 1), ("shared_fate", 1))),
    ReadinessTold("opening", "not_ready", 24, 3.2, (("no_way", 1),)),
    Gap("b", 40, 1, 40), Gap("c", 3, lost_box=2))
FULL_STATE = State(
    "fibre", (LinkNow("fibre", "fibre", "up", 1, False, 4.2, 0.0, 0.5, 900),),
    (PathNow("lte", "gpc", "TLS_INTERCEPT", 1),),
    (ModeNow("B81001", "gpc", "BACKUP", 1, 60.0, 14_000.0),), Failover(1, 5, "BLACKHOLE"),
    (Alarm("one_link", "minor", 1, "lte"),), OutboxNow(4, 900, 1.5), HASH, Health(12.0), 80)
BIRTH = Birth("1.2.0", HASH, HASH, ("B81001",), ("gpc",),
              (BirthLink("fibre", "fibre", False, 1),), 10.0)


def sent() -> list[tuple[str, Message]]:
    """One of every message that we can send."""
    found: list[tuple[str, Message]] = [
        ("presence", presence(st, ENVELOPE, IDS)) for st in get_args(PresenceCode)]
    found += [("birth", snapshot(BIRTH, 1, High(), ENVELOPE, IDS)),
              ("state", snapshot(FULL_STATE, 2, High(1, 2), ENVELOPE, IDS)),
              ("state", snapshot(State(""), 3, High(), ENVELOPE, IDS)),
              ("hb", heartbeat(Heartbeat(3, 2, 1, High(), "", "major"), "B81001-a", IDS))]
    found += [("evt", events((Row(1, "b", 1, event(each, Wall(0.0), Mono(0.0))),), ENVELOPE, IDS))
              for each in HAPPENINGS]
    return found


@pytest.mark.parametrize(("kind", "message"), sent())
def test_what_we_send_holds_to_the_document(kind: str, message: Message) -> None:
    channel = document()["channels"][kind]
    schema = document()["components"]["messages"][kind]["payload"]

    assert mistakes(json.loads(message.payload), schema) == ()
    assert message.topic == channel["address"].replace("{gw}", "B81001-a")
    binding = document()["operations"][f"send_{kind}"]["bindings"]["mqtt"]
    assert (message.qos, message.retain) == (binding["qos"], binding["retain"])
    assert message.expiry_s == binding.get("messageExpiryInterval")


def test_every_kind_of_event_is_tried_above() -> None:
    assert {type(each) for each in HAPPENINGS} == set(KINDS.values())


def test_the_stored_document_is_the_one_that_the_types_make() -> None:
    if os.environ.get("WRITE_ASYNCAPI") == "1":
        STORED.write_text(text(), encoding="utf-8")

    assert STORED.read_text(encoding="utf-8") == text(), "run this test with WRITE_ASYNCAPI=1"


def test_the_document_s_references_all_lead_somewhere() -> None:
    whole = document()

    def refs(tree: Any) -> list[str]:
        if isinstance(tree, dict):
            own = [tree["$ref"]] if "$ref" in tree else []
            return own + [ref for each in tree.values() for ref in refs(each)]
        return [ref for each in tree for ref in refs(each)] if isinstance(tree, list) else []

    assert whole["asyncapi"] == "3.0.0"
    assert refs(whole)
    for ref in refs(whole):
        at: Any = whole
        for part in ref.removeprefix("#/").split("/"):
            at = at[part]


def test_a_bare_string_has_no_schema_since_it_could_hold_a_name() -> None:
    @dataclass(frozen=True)
    class Loose:
        """A type with a hole."""

        name: str

    with pytest.raises(TypeError, match="Id, Hash, Code"):
        schema_of(Loose)


def changed(change: dict[str, Any]) -> Any:
    """A good presence message with ``change`` in it; a None value takes the field out."""
    good = json.loads(presence("online", ENVELOPE, IDS).payload)
    good.update(change)
    return {name: value for name, value in good.items() if value is not None}


@pytest.mark.parametrize(("change", "found"), [
    ({"boot": "3"}, "$.boot: not integer"), ({"boot": True}, "$.boot: not integer"),
    ({"sess": None}, "$.sess: absent"), ({"note": "x"}, "$.note: not in the schema"),
    ({"b": {"st": "away"}}, "$.b.st: not in the enum"), ({"gw": "a b"}, "$.gw: breaks its pattern"),
    ({"b": []}, "$.b: not object")])
def test_a_message_that_breaks_the_document_is_told_where(
        change: dict[str, Any], found: str) -> None:
    assert mistakes(changed(change), payloads()["presence"]) == (found,)


def test_a_batch_has_at_least_one_row_and_at_most_twenty() -> None:
    one = Row(1, "b", 1, event(Gap("b", 1), Wall(0.0), Mono(0.0)))
    batch = json.loads(events((one,), ENVELOPE, IDS).payload)

    for count, holds in ((0, False), (1, True), (20, True), (21, False)):
        tried = batch | {"rows": batch["rows"] * count}
        assert (mistakes(tried, payloads()["evt"]) == ()) is holds
