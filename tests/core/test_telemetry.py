"""Telemetry: numbered, bounded, and without a field that could hold a person."""

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.instant import Mono, Wall
from gateway.core.telemetry import (
    BATCH_MAX,
    KINDS,
    Alarm,
    Birth,
    BirthLink,
    ClockQuality,
    Envelope,
    Event,
    Figure,
    Gap,
    Heartbeat,
    High,
    LinkMoved,
    LinkNow,
    ModeNow,
    Row,
    State,
    StoreTold,
    batches,
    dated,
    event,
    events,
    heartbeat,
    is_stale,
    presence,
    snapshot,
    state_code,
    stray_strings,
    topic,
    worst,
)

IDS = frozenset({"B81001-a", "B81001", "fibre", "lte", "gpc", "1.2.0"})
ENVELOPE = Envelope("B81001-a", 3, 2, 1_000_000, 5_000, 1_000_000, ClockQuality("ntp"))
HASH = "ab" * 32


def read(payload: bytes) -> Any:
    """A message as a consumer in another language would see it."""
    return json.loads(payload)


def row(seq: int, box: int = 1, at: float = 1000.0) -> Row:
    return Row(box, "b", seq, event(StoreTold("records", "full", "B81001"), Wall(at), Mono(5.0)))


def test_every_message_of_a_gateway_stands_under_its_own_name() -> None:
    assert topic("B81001-a", "presence") == "gpgw/1/B81001-a/up/presence"


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "a b", "-a", "x" * 65])
def test_a_name_that_would_change_the_topic_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="gateway name"):
        topic(name, "hb")


def test_presence_is_retained_and_carries_the_number_of_the_connect() -> None:
    message = presence("lost", ENVELOPE, IDS)

    assert (message.qos, message.retain, message.expiry_s) == (1, True, None)
    assert read(message.payload)["b"] == {"st": "lost"}
    assert (read(message.payload)["boot"], read(message.payload)["sess"]) == (3, 2)


def test_a_heartbeat_is_small_and_dies_after_thirty_seconds() -> None:
    message = heartbeat(Heartbeat(3, 2, 17, High(4, 210), "fibre", "ok"), "B81001-a", IDS)

    assert (message.qos, message.retain, message.expiry_s) == (0, False, 30)
    assert len(message.payload) < 100


def test_a_state_says_its_revision_and_the_highest_row_of_each_rank() -> None:
    state = State("fibre", (LinkNow("fibre", "fibre", "up", 9, rtt=4.12345),))
    message = snapshot(state, 8, High(a=1, b=44), ENVELOPE, IDS)
    body = read(message.payload)

    assert message.retain
    assert (body["rev"], body["high"]) == (8, {"a": 1, "b": 44, "c": 0})
    assert body["b"]["links"][0]["rtt"] == 4.123


def test_a_row_sent_over_thirty_seconds_late_is_marked_as_history() -> None:
    sent_at_1000 = events((row(1, at=969.9), row(2, at=970.0)), ENVELOPE, IDS)

    assert [each["h"] for each in read(sent_at_1000.payload)["rows"]] == [1, 0]


def test_a_row_of_an_earlier_start_keeps_that_start_s_number() -> None:
    old = Event("b", "store", Wall(1.0), Mono(1.0), (("file", "records"), ("boot", 2)))

    assert [each["boot"] for each in read(events(
        (Row(1, "b", 1, old), row(2)), ENVELOPE, IDS).payload)["rows"]] == [2, 3]


def test_batches_never_mix_boxes_or_ranks_and_never_pass_the_limit() -> None:
    rows = [row(n) for n in range(1, BATCH_MAX + 2)] + [row(1, box=2)]
    gap = Row(2, "a", 1, event(Gap("b", 4, 1, 4), Wall(0.0), Mono(0.0)))
    runs = list(batches([*rows, gap]))

    assert [len(run) for run in runs] == [BATCH_MAX, 1, 1, 1]
    assert [each for run in runs for each in run] == [*rows, gap]
    assert list(batches([])) == []


def test_a_kind_that_a_later_version_wrote_is_sent_unlisted_and_bare() -> None:
    newer = Row(1, "b", 9, Event("b", "teapot", Wall(0.0), Mono(0.0), (("name", "Mary"),)))
    told_row = read(events((newer,), ENVELOPE, IDS).payload)["rows"][0]

    assert (told_row["kind"], told_row["b"], told_row["seq"]) == ("unlisted", {}, 9)


@pytest.mark.parametrize("text", [
    "Mary Smith", "9990000018", "999 000 0018", "https://gpc.example/Patient/2", "Patient/2",
    "mary.smith", "B81002", "AB" * 32, "O'Brien", "Ærøskøbing", "1970-01-01"])
def test_no_text_passes_that_is_not_a_code_an_id_or_a_hash(text: str) -> None:
    moved = event(LinkMoved(text, "up", "down", "", 1.0, (("seen", text),)), Wall(0.0), Mono(0.0))
    payload = events((Row(1, "b", 1, moved),), ENVELOPE, IDS).payload

    assert text not in json.dumps(read(payload), ensure_ascii=False)
    assert read(payload)["rows"][0]["b"]["link"] == "unlisted"


ANY_FIGURE: st.SearchStrategy[Figure] = st.one_of(
    st.none(), st.text(max_size=30), st.floats(), st.integers(-2**53, 2**53))


@given(kind=st.sampled_from([*KINDS, "other"]), data=st.data())
def test_whatever_an_event_holds_only_codes_ids_and_hashes_are_sent(
        kind: str, data: st.DataObject) -> None:
    names = [each.name for each in fields(KINDS[kind])] if kind in KINDS else ["name"]
    body = tuple((name, data.draw(ANY_FIGURE)) for name in names if name != "evidence")
    evidence = tuple((f"e.{name}", data.draw(ANY_FIGURE))
                     for name in data.draw(st.lists(st.text(max_size=20), max_size=3)))
    message = events((Row(1, "b", 1, Event("b", kind, Wall(0.0), Mono(0.0), body + evidence)),),
                     ENVELOPE, IDS)

    assert stray_strings(read(message.payload), IDS) == ()


@given(texts=st.lists(st.text(max_size=40), min_size=6, max_size=6), figure=st.floats())
def test_whatever_a_state_holds_only_codes_ids_and_hashes_are_sent(
        texts: list[str], figure: float) -> None:
    links = (LinkNow(texts[0], texts[1], "up", 1, rtt=figure, loss=figure),)
    state = State(texts[2], links, modes=(ModeNow(texts[3], texts[4], "NORMAL", 1),), cfg=texts[5])

    assert stray_strings(read(snapshot(state, 1, High(), ENVELOPE, IDS).payload), IDS) == ()


def test_the_check_itself_finds_a_stray_value_and_a_stray_name() -> None:
    assert stray_strings({"b": ["up", "Mary"], "9990000018": 1}, IDS) == ("9990000018", "Mary")


def test_a_birth_names_the_links_and_the_version() -> None:
    birth = Birth("1.2.0", HASH, HASH, ("B81001",), ("gpc",),
                  (BirthLink("fibre", "fibre", False, 1),), 10.0)
    body = read(snapshot(birth, 1, High(), ENVELOPE, IDS).payload)

    assert body["b"]["links"] == [
        {"id": "fibre", "kind": "fibre", "metered": False, "priority": 1}]
    assert (body["b"]["version"], body["b"]["schema"]) == ("1.2.0", HASH)


def test_the_worst_alarm_is_the_heartbeat_s_severity() -> None:
    alarms = (Alarm("one_link", "minor", 1), Alarm("no_path", "critical", 1),
              Alarm("clock", "major", 1))

    assert worst(State("", alarms=alarms)) == "critical"
    assert worst(State("fibre")) == "ok"


def test_a_link_s_state_is_the_same_word_in_lower_case() -> None:
    assert state_code("PROBATION") == "probation"


def test_what_the_monotonic_clock_saw_is_dated_by_the_wall() -> None:
    assert dated(Mono(90.0), Wall(1000.0), Mono(100.0)) == 990_000
    assert dated(Mono(101.0), Wall(1000.0), Mono(100.0)) == 1_000_000


@pytest.mark.parametrize(("boot", "sess", "stale"), [(3, 2, True), (3, 3, True), (4, 1, True),
                                                     (3, 1, False), (2, 9, False)])
def test_a_loss_read_back_is_stale_unless_it_is_newer_than_we_are(
        boot: int, sess: int, stale: bool) -> None:
    assert is_stale(presence("lost", ENVELOPE, IDS).payload, boot, sess) is stale


@pytest.mark.parametrize("payload", [
    b"", b"\xff", b"[]", b"{}", b"null", b'{"b":1,"boot":1,"sess":1}', b"[" * 9000,
    b'{"b":{"st":"lost"},"boot":"x","sess":1}'])
def test_what_is_no_presence_of_ours_is_nothing_to_mend(payload: bytes) -> None:
    assert not is_stale(payload, 3, 2)


def test_our_own_presence_read_back_is_not_stale() -> None:
    assert not is_stale(presence("online", ENVELOPE, IDS).payload, 3, 2)
