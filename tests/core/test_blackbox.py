"""The black box: every input is kept for a while, within bounds, and nothing else is."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.blackbox import (
    AFTER_S,
    BEFORE_S,
    CHUNK_S,
    CHUNKS_MAX,
    LAYERS,
    NAMES_MAX,
    PACKED,
    PENDING_MAX,
    ROWS_MAX,
    BlackBox,
    Recording,
    Row,
    Site,
    from_bytes,
    to_bytes,
)
from gateway.core.detector import Detector
from gateway.core.frame import Frame
from gateway.core.instant import Mono
from gateway.core.link import (
    Circumstances,
    Link,
    LinkMemory,
    LinkRules,
    LinkTurned,
    Probe,
    Sample,
)
from gateway.core.verdict import Asked

FIBRE = Link("fibre", 1, "fibre", source="192.0.2.7", resolvers=("192.0.2.53",), probes=(
    Probe("near", "echo", "192.0.2.1:7", secret="/etc/keys/anchor"),))
RULES = LinkRules()
SITE = Site((FIBRE,), ("gpc",), RULES, 0.1)
BEGUN = Mono(1000.0)


def frames() -> Mapping[str, Frame]:
    return {"fibre": Detector(FIBRE, ("gpc",), RULES, LinkMemory("fibre", BEGUN, BEGUN)).frame()}


def box() -> BlackBox:
    return BlackBox(SITE, frames, BEGUN)


def sample(at: float, **how: object) -> Sample:
    return replace(Sample("fibre", "near", "echo", True, Mono(at - 0.02), Mono(at), True, 20.0),
                   **how)  # type: ignore[arg-type]


def turn(at: float) -> LinkTurned:
    return LinkTurned("fibre", "SUSPECT", "DOWN", "BLACKHOLE", Mono(at), 1.5, (("age_s", 1.5),))


def recorded(black: BlackBox, at: float) -> Recording:
    """A turn at ``at``, and what the box makes of it."""
    black.turned(turn(at))
    found, = black.due(Mono(at + AFTER_S))
    return found


def rows(black: BlackBox, kind: str, at: float = 1001.0) -> list[Row]:
    return [row for row in recorded(black, at).rows() if row.kind == kind]


def test_a_sample_comes_back_as_it_was_seen_but_for_microseconds() -> None:
    black = box()
    seen = sample(1000.25, detail="timeout", ok=False, seq=77, size=1400, rtt_ms=None)
    black.saw(seen, Mono(1000.3))

    row, = rows(black, "sample")
    assert row.at == pytest.approx(1000.3, abs=1e-6)
    back = row.sample()
    assert back == replace(seen, at=back.at, sent_at=back.sent_at)
    assert back.at == pytest.approx(seen.at, abs=2e-6)
    assert back.sent_at == pytest.approx(seen.sent_at, abs=2e-6)


@given(st.sampled_from(LAYERS), st.booleans(), st.booleans(),
       st.one_of(st.none(), st.floats(0, 60_000)), st.integers(0, 2**32 - 1), st.integers(0, 65535))
def test_whatever_a_sample_says_is_kept(layer: str, ok: bool, anchor: bool, rtt: float | None,
                                        seq: int, size: int) -> None:
    black = box()
    seen = sample(1000.25, layer=layer, ok=ok, anchor=anchor, rtt_ms=rtt, seq=seq, size=size)
    black.saw(seen, Mono(1000.25))

    back = rows(black, "sample")[0].sample()
    assert (back.layer, back.ok, back.anchor, back.seq, back.size) == (layer, ok, anchor, seq, size)
    assert back.rtt_ms == (None if rtt is None else pytest.approx(rtt, abs=2e-3))


def test_a_question_that_was_answered_in_time_is_left_out_and_a_late_one_kept() -> None:
    black = box()
    black.ended("fibre", Asked("near", Mono(1000.1), True, "echo"), Mono(1000.2))
    black.ended("fibre", Asked("gpc", Mono(1000.1), False), Mono(1000.26))

    late, = rows(black, "question")
    asked = late.question()
    assert asked == Asked("gpc", asked.sent_at, False)
    assert asked.sent_at == pytest.approx(1000.1, abs=2e-6)


def test_a_question_that_was_open_when_the_chunk_began_is_told_to_have_ended() -> None:
    black = box()
    black.ended("fibre", Asked("near", Mono(999.99), True, "echo"), Mono(1000.01))

    assert [row.name for row in rows(black, "question")] == ["near"]


def test_stalls_lags_turns_and_changed_circumstances_are_rows() -> None:
    black = box()
    windowed = Circumstances(windowed=True, locked=True)
    for at in (1000.1, 1000.2, 1000.3):
        black.judged("fibre", windowed if at > 1000.15 else Circumstances(), "", 4.6, Mono(at))
    black.stalled(Mono(1000.3), Mono(1000.7), Mono(1000.75))
    for at, late in ((1000.8, 0.004), (1000.9, 0.03), (1001.0, 0.001)):
        black.lagged(late, Mono(at))

    kept = list(recorded(black, 1001.0).rows())
    assert [row.kind for row in kept] == ["around", "around", "stall", "lag", "turn"]
    assert kept[1].circumstances() == windowed
    assert kept[1].x == pytest.approx(4.6)
    assert list(kept[2].stall()) == [pytest.approx(1000.3), pytest.approx(1000.7)]
    assert kept[3].x == pytest.approx(0.03)
    assert (kept[4].name, kept[4].word) == ("SUSPECT", "DOWN")


def test_circumstances_are_told_anew_in_each_chunk_since_a_recording_may_begin_there() -> None:
    black = box()
    black.judged("fibre", Circumstances(alone=True), "TLS_INTERCEPT", 0.0, BEGUN)
    black.saw(sample(1000.0 + 3 * CHUNK_S), Mono(1000.0 + 3 * CHUNK_S))

    around = [row for row in recorded(black, 1031.0).rows() if row.kind == "around"]
    assert [(row.circumstances().alone, row.word) for row in around] == [
        (True, "TLS_INTERCEPT")] * 2


def test_a_recording_spans_a_minute_before_the_turn_and_half_a_minute_after() -> None:
    black, kept = box(), recorded(box(), 1000.0)
    for n in range(4 * 200):
        at = Mono(1000.0 + n / 4)
        black.saw(sample(at), at)
        if n == 4 * 120:
            black.turned(turn(at))
        found = black.due(at)
        assert len(found) == (n == 4 * 150)
        kept = found[0] if found else kept

    ats = [row.at for row in kept.rows()]
    assert 1120.0 - BEFORE_S - CHUNK_S <= kept.begins <= 1120.0 - BEFORE_S
    assert 1149.0 <= ats[-1] <= 1150.0
    assert ats == sorted(ats)
    assert kept.turned == turn(1120.0)
    assert not black.due(Mono(1300.0))


def test_a_recording_that_is_cut_costs_the_ring_nothing() -> None:
    black = box()
    for n in range(90):
        at = Mono(1000.0 + n)
        black.saw(sample(at), at)
        assert recorded(black, at).turned.at == at
    assert recorded(black, 1091.0).begins < 1091.0 - BEFORE_S


def test_each_turn_of_one_episode_has_its_recording() -> None:
    black = box()
    for n in range(PENDING_MAX + 3):
        black.turned(turn(1001.0 + n / 10))
    found = black.due(Mono(1100.0))
    assert [round(each.turned.at, 1) for each in found] == [
        round(1001.0 + n / 10, 1) for n in range(PENDING_MAX)]


def test_however_busy_the_site_the_ring_is_bounded() -> None:
    black = box()
    for _ in range(ROWS_MAX + 10):
        black.saw(sample(1000.0), BEGUN)
    for n in range(2 * CHUNKS_MAX):
        at = Mono(1000.0 + n * CHUNK_S)
        black.saw(sample(at), at)

    kept = recorded(black, 1000.0 + 2 * CHUNKS_MAX * CHUNK_S)
    assert len(kept.chunks) <= CHUNKS_MAX
    assert all(len(chunk.rows) <= ROWS_MAX * PACKED.size for chunk in kept.chunks)


def test_a_full_chunk_is_followed_by_another_and_no_row_is_lost() -> None:
    black = box()
    for _ in range(ROWS_MAX + 5):
        black.saw(sample(1000.0), BEGUN)

    kept = recorded(black, 1001.0)
    assert [len(chunk.rows) // PACKED.size for chunk in kept.chunks] == [ROWS_MAX, 6]


def test_names_are_bounded_too() -> None:
    black = box()
    for n in range(NAMES_MAX + 10):
        black.saw(sample(1000.0, target=f"t{n}"), BEGUN)
    kept = recorded(black, 1000.5)
    assert len(kept.names) == NAMES_MAX
    assert [row.name for row in kept.rows()][-3:-1] == ["", ""]


def test_it_is_shortened_at_its_beginning_first_and_never_by_the_chunk_of_the_turn() -> None:
    black = box()
    for n in range(100):
        at = Mono(1000.0 + n)
        black.saw(sample(at), at)
    kept: Recording | None = recorded(black, 1065.0)
    spans = []
    while kept is not None:
        spans.append((round(kept.begins), len(kept.chunks)))
        assert any(chunk.begins <= 1065.0 for chunk in kept.chunks)
        whole, kept = kept, kept.shorter()
    begins = [begun for begun, _ in spans]
    assert begins == sorted(begins)
    assert 1065.0 - 2 * CHUNK_S < begins[-1] <= 1065.0 - CHUNK_S / 2
    assert len(whole.chunks) == 2


def test_what_was_written_is_read_back() -> None:
    black = box()
    black.saw(sample(1000.2), Mono(1000.2))
    black.judged("fibre", Circumstances(alone=True), "", 0.0, Mono(1000.3))
    kept = recorded(black, 1001.0)

    back = from_bytes(to_bytes(kept))
    assert list(back.rows()) == list(kept.rows())
    assert back.chunks == kept.chunks
    assert (back.turned, back.rules, back.upstreams, back.extra_s, back.names, back.open) == (
        kept.turned, kept.rules, kept.upstreams, kept.extra_s, kept.names, kept.open)
    assert back.links[0].id == "fibre"


def test_no_address_and_no_key_is_in_a_recording() -> None:
    told = to_bytes(recorded(box(), 1001.0))
    assert b"192.0.2" not in told
    assert b"/etc/keys" not in told


@pytest.mark.parametrize("told", [b"", b"\n", b"{}\n", b"[]\n", b'{"version":0}\n', b"\xff\n",
                                  b'{"version":1,"turned":{}}\n'])
def test_what_is_no_recording_is_refused_in_one_way(told: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_bytes(told)
