"""The whole gateway in seeded weather, judged by the promises; as many seeds as the time allows.

``SIM_SECONDS`` bounds the run (60; with ``FULL=1`` 300). A seed that fails is printed with its
timeline and the command that replays it: ``SIM_SEED=17 python -m pytest tests/sim``.
"""

import asyncio
import logging
import os
import time
from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from chaos.observed import Observed
from chaos.promises import Kept, judge
from chaos.weather import Heal, SwallowReplies
from gateway.core import exchange, hedge, marking, route
from gateway.core.hedge import Race, Step
from gateway.core.instant import Mono
from gateway.core.keeping import Leave
from gateway.core.message import NeverLeft, NoAnswer
from gateway.flow import board as board_room
from gateway.flow import forward
from tests.sim.story import Story, broken, script_of

SECONDS: Final = float(os.environ.get("SIM_SECONDS", "300" if os.environ.get("FULL") else "60"))
ONE: Final = os.environ.get("SIM_SEED", "")
LAST_LINES: Final = 400


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """A store broken on purpose says so at each write: not here."""
    logging.getLogger("gateway.serve").setLevel(logging.CRITICAL)


def played(seed: int) -> tuple[Story, Observed]:
    """Play one seed from its beginning to its end."""
    story = Story(script_of(seed))
    return story, asyncio.run(story.run())


def test_no_promise_breaks_in_any_weather() -> None:
    end = time.monotonic() + SECONDS
    seed, runs = int(ONE or 0), 0
    exercised: Counter[int] = Counter()
    while runs == 0 or (not ONE and time.monotonic() < end):
        story, observed = played(seed)
        wrong = broken(story, observed)
        if wrong:
            timeline = "\n".join(story.timeline[-LAST_LINES:])
            pytest.fail(f"{timeline}\nseed {seed} breaks {wrong}\n"
                        f"replay: SIM_SEED={seed} python -m pytest tests/sim/test_whole_gateway.py")
        judged = judge(observed)
        judged |= {number: judge(story.settled(observed))[number] for number in (6, 12)}
        exercised.update({number: one.observations for number, one in judged.items()
                          if isinstance(one, Kept)})
        seed, runs = seed + 1, runs + 1
    print_line = f"{runs} seeds, observations {dict(sorted(exercised.items()))}"
    logging.getLogger("sim").info(print_line)
    if runs >= 20:
        assert {1, 2, 4, 5, 6, 11, 12} <= exercised.keys(), print_line


def test_the_same_seed_tells_the_same_story() -> None:
    assert played(3)[0].digest() == played(3)[0].digest()


def broken_within(number: int, seeds: int) -> bool:
    """Whether promise ``number`` breaks in one of the first ``seeds`` stories."""
    return any(number in broken(*played(seed)) for seed in range(seeds))


def test_a_gateway_that_never_tries_the_other_link_breaks_promise_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = route.order
    monkeypatch.setattr("gateway.flow.board.order", lambda s, pinned="": right(s, pinned)[:1])

    assert broken_within(1, 5)


def test_a_gateway_that_sends_a_doubtful_write_again_breaks_promise_2(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def again(race: Race, now: Mono) -> Step:
        forgot = tuple(
            replace(attempt, outcome=NeverLeft(attempt.link, "reset"))
            if isinstance(attempt.outcome, NoAnswer) else attempt for attempt in race.attempts)
        return hedge.decide(race if race.plan.is_read else replace(race, attempts=forgot), now)

    monkeypatch.setattr(forward, "decide", again)

    swallows = tuple((at, what) for start in (10.0, 30.0, 50.0, 70.0) for at, what in (
        (start, SwallowReplies("fibre")), (start + 6.0, Heal("fibre"))))
    story = Story(replace(script_of(1), windows=(), events=swallows), write_share=0.8)

    assert 2 in broken(story, asyncio.run(story.run()))


def test_a_gateway_that_serves_whoever_asks_breaks_promise_4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = marking.copy_answer
    monkeypatch.setattr("gateway.flow.serve.leave", lambda opted_in, request: Leave(True))
    monkeypatch.setattr(exchange, "copy_answer", right)

    assert broken_within(4, 8)


def test_a_gateway_that_leaves_a_link_for_an_ill_upstream_breaks_promise_6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = route.active
    ill: list[bool] = [False]
    judged = board_room.Board._judge_upstreams

    def note(self: board_room.Board, now: float) -> None:
        judged(self, now)  # type: ignore[arg-type]
        ill[0] = any(verdict.kind == "UPSTREAM_DOWN" for verdict in self._judgement.verdicts)

    monkeypatch.setattr(board_room.Board, "_judge_upstreams", note)
    monkeypatch.setattr("gateway.flow.board.active", lambda preferred, states, held=(): right(
        tuple(reversed(preferred)) if ill[0] else preferred, states, held))

    assert broken_within(6, 12)


def test_a_gateway_that_blames_every_upstream_for_one_breaks_promise_12(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board_room.Board, "_is_down", lambda self, upstream: any(
        verdict.kind == "UPSTREAM_DOWN" for verdict in self._judgement.verdicts))

    assert broken_within(12, 12)
