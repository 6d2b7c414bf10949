"""The black box in simulated weather: what it recorded replays to the same turn, through a file."""

from pathlib import Path

import pytest

from chaos.weather import (
    CaptivePortal,
    Cut,
    Flap,
    Heal,
    OneWay,
    Slow,
    UpstreamGone,
    UpstreamSlow,
    Verb,
)
from gateway.core.blackbox import Recording
from gateway.core.link import LinkTurned
from gateway.core.replay import replay, replay_verdicts
from gateway.core.verdict import Judged
from gateway.edge.black_boxes import FILE_BYTES_MAX, read, write
from tests.sim.watched import Watched, watched

ONE_SAMPLE_S = 0.1
"""How far apart a suspect link's echoes are; the board's own tick is half of that."""


async def weathered(verb: Verb, per_s: float, seed: int) -> tuple[Watched, list[Recording]]:
    """A good minute, half a minute of ``verb`` on the fibre, and until all is recorded."""
    recordings: list[Recording] = []
    async with watched(per_s=per_s, warm_s=70.0, seed=seed, recorded=recordings.append) as it:
        await it.world.apply(verb)
        await it.clock.advance(30.0)
        await it.world.apply(Heal("fibre"))
        await it.clock.advance(120.0)
    return it, recordings


def told(it: Watched, since: float, until: float) -> list[tuple[str, str, str]]:
    return [(t.link, t.before, t.after) for t in it.told
            if isinstance(t, LinkTurned) and since <= t.at <= until]


@pytest.mark.parametrize("per_s", [2.0, 50.0])
@pytest.mark.parametrize("verb", [
    Cut("fibre"), OneWay("fibre", "up"), Flap("fibre", 2.0, 2.0), CaptivePortal("fibre"),
    Slow("fibre", 1.0)], ids=lambda verb: type(verb).__name__)
async def test_every_turn_replays_from_its_recording(verb: Verb, per_s: float) -> None:
    it, recordings = await weathered(verb, per_s, seed=7)

    turns = [t for t in it.told if isinstance(t, LinkTurned)]
    recorded = [each.told for each in recordings if isinstance(each.told, LinkTurned)]
    assert recorded == turns[:len(recorded)]
    assert len(recorded) >= 4
    for recording in recordings:
        turned = recording.told
        if not isinstance(turned, LinkTurned):
            continue
        found = [turn.at for turn in replay(recording)
                 if (turn.link, turn.before, turn.after) == (
                     turned.link, turned.before, turned.after)]
        assert min((abs(at - turned.at) for at in found), default=9.0) <= ONE_SAMPLE_S, turned


@pytest.mark.parametrize(("verb", "kinds"), [
    (UpstreamGone("gpc", True), {"UPSTREAM_DOWN"}), (CaptivePortal("fibre"), {"TLS_INTERCEPT"}),
    (UpstreamSlow("gpc", 2.0), {"UPSTREAM_SLOW"})],
    ids=lambda each: type(each).__name__)
async def test_every_verdict_replays_from_its_recording(verb: Verb, kinds: set[str],
                                                        tmp_path: Path) -> None:
    it, recordings = await weathered(verb, 20.0, seed=7)

    reached = [t for t in it.told if isinstance(t, Judged) and not t.over]
    recorded = [each for each in recordings if isinstance(each.told, Judged)]
    assert {each.verdict.kind for each in reached} >= kinds
    assert {each.told for each in recorded} <= set(reached)
    assert {each.told.verdict.kind for each in recorded if isinstance(each.told, Judged)} == {
        each.verdict.kind for each in reached}
    for recording in recorded:
        path = write(tmp_path, recording)
        assert path is not None
        back = read(path)
        assert back.told == recording.told
        assert isinstance(back.told, Judged)
        verdict = back.told.verdict
        found = [each for each in replay_verdicts(back) if not each.over and (
            each.verdict.kind, each.verdict.link, each.verdict.upstream) == (
                verdict.kind, verdict.link, verdict.upstream)]
        assert min((abs(each.at - back.told.at) for each in found), default=9.0) <= ONE_SAMPLE_S
        assert {name for name, _ in verdict.evidence} in [
            {name for name, _ in each.verdict.evidence} for each in found]


async def test_a_death_replays_through_a_file_with_all_that_led_to_it(tmp_path: Path) -> None:
    it, recordings = await weathered(Cut("fibre"), 100.0, seed=11)
    recording = next(each for each in recordings if each.name == "fibre-down")
    path = write(tmp_path, recording)
    assert path is not None
    assert path.stat().st_size < FILE_BYTES_MAX / 2  # 100 reads a second, ninety seconds

    back = read(path)
    again = replay(back)
    assert [(t.link, t.before, t.after) for t in again] == told(
        it, back.begins, recording.turned.at + 30.0)
    death = next(turn for turn in again if turn.after == "DOWN")
    assert (death.cause, abs(death.at - recording.turned.at) <= ONE_SAMPLE_S) == ("BLACKHOLE", True)
    assert dict(death.evidence).keys() == dict(recording.turned.evidence).keys()


async def test_no_line_of_a_request_is_in_a_recording(tmp_path: Path) -> None:
    _, recordings = await weathered(Cut("fibre"), 10.0, seed=3)
    path = write(tmp_path, recordings[-1])
    assert path is not None
    words = set(read(path).names)
    assert words <= {"", "fibre", "sim", "echo", "broker", "gpc", "200", "timeout", "abandoned",
                     "connect", "connect_timeout", "first_byte_timeout", "no_answer", "UNKNOWN",
                     "VALIDATING",
                     "UP", "SUSPECT", "DOWN", "PROBATION", "deadline", "reset",
                     "cancelled"}, words
