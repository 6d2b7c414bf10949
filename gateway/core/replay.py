"""Replays a recording of the black box through the pure detectors: the same turns, or a bug.

It drives ``core/detector.py`` as ``flow/board.py`` does: every sample is seen when it was seen, a
judgement follows what could change something, and one follows every ``TICK_S`` in any case.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Final, TypeAlias

from gateway.core.blackbox import Recording, Row
from gateway.core.detector import Detector
from gateway.core.instant import Mono
from gateway.core.judgement import Judgement
from gateway.core.link import Circumstances, LinkMemory, LinkTurned
from gateway.core.verdict import Asked, Judged

TICK_S: Final = 0.05
JUDGE_EVERY_S: Final = 0.02
"""As in ``flow/board.py``: how often it judges if nothing happens, and at most if much does."""

NEAR_S: Final = 1e-5
"""Times of rows are whole microseconds: two questions to one target are never so near together."""

Around: TypeAlias = tuple[Circumstances, str, float]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A question left at ``at``."""

    at: Mono
    link: str
    asked: Asked


def replay(recording: Recording) -> tuple[LinkTurned, ...]:
    """Return every turn that the detectors make of ``recording``, from its first frame on."""
    return _Replay(recording).run().turns


def replay_verdicts(recording: Recording) -> tuple[Judged, ...]:
    """Return every verdict on upstreams, paths and the quality of links that is reached, or over,
    in ``recording``. What stood when it begins is reached once more, when it shows again."""
    return _Replay(recording).run().verdicts


class _Replay:
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        first = recording.chunks[0]
        self._detectors: dict[str, Detector] = {}
        for link in recording.links:
            detector = Detector(link, recording.upstreams, recording.rules,
                                LinkMemory(link.id, first.begins, first.begins),
                                extra_s=recording.extra_s)
            if link.id in first.frames:
                detector.resume(first.frames[link.id])
            self._detectors[link.id] = detector
        self._around: dict[str, Around] = {}
        # All at once: what comes later takes nothing from a wait that ends before.
        self._stalls = [row.stall() for row in recording.rows() if row.kind == "stall"]
        self._judged = Mono(first.begins - JUDGE_EVERY_S)
        self._judgement = Judgement(recording.upstreams, recording.rules)
        self._turns: list[LinkTurned] = []
        self._verdicts: list[Judged] = []

    @property
    def turns(self) -> tuple[LinkTurned, ...]:
        return tuple(self._turns)

    @property
    def verdicts(self) -> tuple[Judged, ...]:
        return tuple(self._verdicts)

    def run(self) -> "_Replay":
        tick = self._recording.begins
        steps: Iterator[_Opened | Row] = merge(
            self._opened(), self._recording.rows(), key=_when)
        for step in steps:
            while tick < step.at:
                self._judge(tick)
                tick = Mono(tick + TICK_S)
            if isinstance(step, _Opened):
                self._open(step)
            else:
                self._take(step)
        self._judge(tick)
        return self

    def _opened(self) -> Iterator[_Opened]:
        """Questions as they left, in order: those of which a row says when they ended, and those
        that never did."""
        held = self._recording.chunks[0].frames
        told = [(row.link, row.question()) for row in self._recording.rows()
                if row.kind == "question"]
        told += [(link, asked) for link, each in self._recording.open.items() for asked in each]
        left = [_Opened(asked.sent_at, link, asked) for link, asked in told
                if link in held and not any(_is_same(asked, one) for one in held[link].asked)]
        return iter(sorted(left, key=lambda each: each.at))

    def _open(self, opened: _Opened) -> None:
        detector = self._detectors.get(opened.link)
        if detector is not None:
            detector.asked(opened.asked.target, opened.at)

    def _take(self, row: Row) -> None:
        match row.kind:
            case "sample":
                self._see(row)
            case "question":
                self._close(row.link, row.question())
            case "around":
                self._around[row.link] = (row.circumstances(), row.word, row.x)
            case "stall" | "lag" | "turn" | "verdict":
                return

    def _close(self, link: str, asked: Asked) -> None:
        detector = self._detectors.get(link)
        if detector is None:
            return
        for token, one in detector.open_questions():
            if _is_same(one, asked):
                detector.answered(token)
                return

    def _see(self, row: Row) -> None:
        detector = self._detectors.get(row.link)
        if detector is None:
            return
        sample = row.sample()
        urgent = sample.layer == "carrier" and not sample.ok
        is_news = self._judgement.see(sample)
        is_news = detector.see(sample) or is_news
        if is_news and (urgent or row.at - self._judged >= JUDGE_EVERY_S):
            self._judge(row.at)

    def _judge(self, now: Mono) -> None:
        self._judged = now
        for link, detector in self._detectors.items():
            around, foreign, prior = self._around.get(link, (Circumstances(), "", 0.0))
            turned = detector.judge(around, self._stalls, now, prior, foreign)
            if turned is not None:
                self._turns.append(turned)
        provable = frozenset(self._recording.provable)
        self._verdicts += self._judgement.judge(self._detectors, provable, now)


def _when(step: _Opened | Row) -> float:
    return step.at


def _is_same(one: Asked, other: Asked) -> bool:
    return one.target == other.target and abs(one.sent_at - other.sent_at) < NEAR_S
