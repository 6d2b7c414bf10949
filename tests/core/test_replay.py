"""A recording replayed: the detector that is told the same turns the same."""

from dataclasses import replace

import pytest

from gateway.core.blackbox import (
    AFTER_S,
    ANCHOR,
    KINDS,
    LAYERS,
    PACKED,
    BlackBox,
    Recording,
    Site,
    from_bytes,
    to_bytes,
)
from gateway.core.detector import Detector
from gateway.core.instant import Mono
from gateway.core.judgement import Judgement
from gateway.core.link import Circumstances, Link, LinkMemory, LinkRules, LinkTurned, Probe, Sample
from gateway.core.replay import TICK_S, replay, replay_verdicts
from gateway.core.verdict import Judged, Verdict

LINK = Link("fibre", 1, "fibre", probes=(Probe("near", "echo", ""), Probe("far", "echo", "")))
RULES = LinkRules(site_jitter_s=0.0)
BEGUN = 1000.0
TIMEOUT_S = RULES.probe_timeout_s


class Driven:
    """A detector with a black box, asked twenty times a second; dead while ``cut``."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self.detector = Detector(LINK, ("gpc",), RULES, LinkMemory("fibre", Mono(BEGUN),
                                                                   Mono(BEGUN)))
        self.box = BlackBox(Site((LINK,), ("gpc",), RULES), lambda: {
            "fibre": self.detector.frame()}, Mono(BEGUN))
        self.turns: list[LinkTurned] = []
        self.recordings: list[Recording] = []
        self.waiting: list[tuple[int, str, float]] = []
        self.judgement = Judgement(("gpc",), RULES)
        self.verdicts: list[Judged] = []

    def live(self, begin: float, end: float, cut: tuple[float, float] = (0.0, 0.0),
             around: Circumstances | None = None, third_lost: bool = False) -> None:
        """Ticks from ``begin`` to ``end``; an echo leaves each fifth, and is back 20 ms later."""
        around = around or Circumstances()
        for n in range(round((end - begin) / TICK_S)):
            at = begin + n * TICK_S
            if n % 5 == 0:
                target = ("near", "far")[n // 5 % 2]
                token = self.detector.asked(target, Mono(at))
                if not cut[0] <= at < cut[1] and not (third_lost and n // 5 % 3 == 0):
                    self._hear(target, token, at)
                else:
                    self.waiting.append((token, target, at))
            while self.waiting and self.waiting[0][2] <= at - self.timeout_s:
                self._miss(*self.waiting.pop(0))
            self.box.judged("fibre", around, "", 0.0, Mono(at))
            turned = self.detector.judge(around, (), Mono(at))
            if turned is not None:
                self.turns.append(turned)
                self.box.turned(turned)
            for judged in self.judgement.judge({"fibre": self.detector}, frozenset(), Mono(at)):
                self.verdicts.append(judged)
                self.box.reached(judged)
            self.recordings += self.box.due(Mono(at))

    def _hear(self, target: str, token: int, at: float) -> None:
        back = Mono(at + 0.02)
        self._end(token, Sample("fibre", target, "echo", True, Mono(at), back, True, 20.0), back)

    def _miss(self, token: int, target: str, at: float) -> None:
        due = Mono(at + self.timeout_s)
        self._end(token, Sample("fibre", target, "echo", False, Mono(at), due, True,
                                detail="timeout"), due)

    def _end(self, token: int, sample: Sample, at: Mono) -> None:
        ended = self.detector.answered(token)
        assert ended is not None
        self.box.ended("fibre", ended, at)
        self.box.saw(sample, at)
        self.detector.see(sample)


def of(recordings: list[Recording], state: str) -> Recording:
    return next(each for each in recordings if each.turned.after == state)


@pytest.fixture(scope="module")
def driven() -> Driven:
    """Two good minutes, a death of twenty seconds, three good minutes."""
    it = Driven()
    it.live(BEGUN, BEGUN + 340.0, cut=(BEGUN + 120.0, BEGUN + 140.0))
    return it


def test_every_turn_is_made_again_from_its_own_recording(driven: Driven) -> None:
    assert [turn.after for turn in driven.turns] == [
        "VALIDATING", "UP", "SUSPECT", "DOWN", "PROBATION", "UP"]
    for recording in driven.recordings:
        turned = recording.turned
        found = [turn for turn in replay(recording)
                 if (turn.before, turn.after) == (turned.before, turned.after)]
        assert min(abs(turn.at - turned.at) for turn in found) <= 2 * TICK_S, turned


def test_a_brown_out_is_reached_again_from_its_own_recording() -> None:
    it = Driven()
    it.live(BEGUN, BEGUN + 70.0)
    it.live(BEGUN + 70.0, BEGUN + 90.0, third_lost=True)
    it.live(BEGUN + 90.0, BEGUN + 200.0)
    assert [(each.verdict.kind, each.over) for each in it.verdicts] == [
        ("BROWNOUT", False), ("BROWNOUT", True)]
    recording = next(each for each in it.recordings if isinstance(each.told, Judged))
    back = from_bytes(to_bytes(recording))
    assert (back.told, back.name) == (it.verdicts[0], "fibre-brownout")
    first, *_ = replay_verdicts(back)
    assert first.verdict.kind == "BROWNOUT"
    assert first.at == pytest.approx(it.verdicts[0].at, abs=2 * TICK_S)
    assert dict(first.verdict.evidence) == dict(it.verdicts[0].verdict.evidence)
    with pytest.raises(ValueError, match="a recording of BROWNOUT, not of a turn"):
        _ = back.turned


def test_a_verdict_that_flutters_is_recorded_once_in_ten_minutes() -> None:
    it = Driven()
    verdict = Verdict("UPSTREAM_SLOW", "", "gpc", Mono(BEGUN))
    for n in range(100):
        it.box.reached(Judged(verdict, n % 2 == 1, Mono(BEGUN + n * 9.0)))
    found = it.box.due(Mono(BEGUN + 2000.0))
    assert [(each.name, each.told.at - BEGUN) for each in found] == [
        ("gpc-upstream_slow", 0.0), ("gpc-upstream_slow", 612.0)]


def test_the_figures_that_decided_are_the_same(driven: Driven) -> None:
    recording = of(driven.recordings, "DOWN")
    again = next(turn for turn in replay(recording) if turn.after == "DOWN")
    assert again.cause == "BLACKHOLE"
    figures, decided = dict(again.evidence), dict(recording.turned.evidence)
    assert figures["likelihood"] == decided["likelihood"]
    assert figures["age_s"] == decided["age_s"]
    assert figures["silence_s"] == pytest.approx(decided["silence_s"], abs=2 * TICK_S)


def test_it_is_the_inputs_that_decide_and_not_the_turns_that_were_told(driven: Driven) -> None:
    """With every late question and every miss taken away, nothing is left to die of."""
    recording = of(driven.recordings, "DOWN")
    question, miss = KINDS.index("question"), LAYERS.index("echo") | ANCHOR
    chunks = tuple(replace(chunk, rows=bytearray(b"".join(
        PACKED.pack(*row) for row in PACKED.iter_unpack(chunk.rows)
        if row[0] != question and row[:2] != (0, miss)))) for chunk in recording.chunks)
    assert replay(replace(recording, chunks=chunks, open={})) == ()


def test_other_rules_on_the_same_recording_show_what_they_would_have_done(driven: Driven) -> None:
    recording = of(driven.recordings, "DOWN")
    slower = replace(recording, rules=replace(RULES, least_s=4.0, most_s=5.0, fresh_s=4.0))
    frames = {"fibre": replace(recording.chunks[0].frames["fibre"], silence=replace(
        recording.chunks[0].frames["fibre"].silence, age_s=4.0))}
    slower = replace(slower, chunks=(replace(slower.chunks[0], frames=frames),
                                     *slower.chunks[1:]))
    again = next(turn for turn in replay(slower) if turn.after == "DOWN")
    assert again.at - recording.turned.at == pytest.approx(2.5, abs=0.3)


def test_through_bytes_it_is_the_same(driven: Driven) -> None:
    recording = of(driven.recordings, "DOWN")
    assert replay(from_bytes(to_bytes(recording))) == replay(recording)


def test_circumstances_are_those_of_the_time() -> None:
    it = Driven()
    it.live(BEGUN, BEGUN + 30.0)
    it.live(BEGUN + 30.0, BEGUN + 30.0 + AFTER_S + 10.0, around=Circumstances(windowed=True))
    drained = of(it.recordings, "DRAINING")
    again = next(turn for turn in replay(drained) if turn.after == "DRAINING")
    assert again.at == pytest.approx(BEGUN + 30.0, abs=2 * TICK_S)


def test_questions_that_never_end_are_among_what_decides() -> None:
    it = Driven(timeout_s=200.0)
    it.live(BEGUN, BEGUN + 120.0, cut=(BEGUN + 70.0, BEGUN + 120.0))
    death = of(it.recordings, "DOWN")
    again = next(turn for turn in replay(death) if turn.after == "DOWN")
    assert again.at == pytest.approx(death.turned.at, abs=2 * TICK_S)
    assert replay(replace(death, open={})) == ()


def test_our_own_stall_is_no_fault_of_the_link_in_a_replay_either() -> None:
    it = Driven()
    it.live(BEGUN, BEGUN + 40.0)
    since, until = Mono(BEGUN + 40.0), Mono(BEGUN + 41.5)
    for n in range(6):  # asked as the loop came to a stand, read when it went on
        token = it.detector.asked(("near", "far")[n % 2], since)
        it._end(token, Sample("fibre", ("near", "far")[n % 2], "echo", True, since, until, True,
                              1500.0), until)
    it.box.stalled(since, until, until)
    it.box.turned(LinkTurned("fibre", "UP", "UP", "", until, 0.0))
    it.live(until, until + 40.0)

    recording = it.recordings[-1]
    assert recording.chunks[0].frames["fibre"].memory.state == "UNKNOWN"
    assert [turn.after for turn in replay(recording)] == ["VALIDATING", "UP"]
