"""Seeded weather over the board: whatever comes, a path that works is offered, and soon first."""

from random import Random

import pytest

from chaos.weather import Cut, Flap, Heal, Lose, OneWay, Reset, Slow, Verb
from gateway.core.link import LinkTurned
from gateway.core.mode import ModeTurned
from gateway.core.route import Switched
from tests.sim.watched import TENANTS, Watched, watched

PATIENCE_S = 1.2
"""A link that worked so long, alone, must be first in order: 0.7 s until the other is suspect."""


def some_verb(rng: Random) -> Verb:
    """Return a verb of the weather on one of the links; half of them heal."""
    link = rng.choice(("fibre", "sim"))
    if rng.random() < 0.5:
        return Heal(link)
    return rng.choice((
        Cut(link), Cut(link), OneWay(link, "up"), OneWay(link, "down"), Reset(link),
        Slow(link, 0.05), Lose(link, 0.05), Flap(link, 2.0, 2.0)))


def check(it: Watched, alone: dict[str, float]) -> None:
    """Look at one moment: ``alone`` gives how long each link has worked while the other did not."""
    works = [link for link in ("fibre", "sim") if it.world.works(link)]
    now = it.clock.now()
    for link in ("fibre", "sim"):
        if works != [link]:
            alone[link] = now
    links = it.board.standing(TENANTS[0], "gpc").links
    for link in works:
        if now - alone[link] > PATIENCE_S:
            assert links[:1] == (link,), f"{now - 1000:.2f}: {link} works, {links} offered"


@pytest.mark.parametrize("seed", range(8))
async def test_a_link_that_works_alone_is_first_within_its_time(seed: int) -> None:
    rng = Random(seed)
    async with watched(seed=seed, per_s=5) as it:
        alone: dict[str, float] = {link: it.clock.now() for link in ("fibre", "sim")}
        for _ in range(25):
            await it.world.apply(some_verb(rng))
            for _ in range(rng.randrange(2, 60)):
                await it.clock.advance(0.1)
                check(it, alone)


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_told_is_a_story_without_gaps(seed: int) -> None:
    """Each transition begins where the last one of its kind ended, and lasts what it says."""
    rng = Random(seed)
    async with watched(seed=seed, per_s=5) as it:
        for _ in range(25):
            await it.world.apply(some_verb(rng))
            await it.clock.advance(rng.uniform(0.2, 6.0))
        ends: dict[tuple[str, ...], tuple[str, float]] = {}
        for told in it.told:
            if isinstance(told, LinkTurned):
                key: tuple[str, ...] = ("link", told.link)
            elif isinstance(told, ModeTurned):
                key = ("mode", told.tenant, told.upstream)
            elif isinstance(told, Switched):
                key = ("switch",)
            else:
                continue
            if key in ends:
                assert ends[key][0] == told.before
                assert told.lasted_s == pytest.approx(told.at - ends[key][1])
            assert told.before != told.after
            ends[key] = (told.after, told.at)


async def test_the_same_seed_tells_the_same_story() -> None:
    stories = []
    for _ in range(2):
        rng = Random(3)
        async with watched(seed=3, per_s=5) as it:
            for _ in range(15):
                await it.world.apply(some_verb(rng))
                await it.clock.advance(rng.uniform(0.2, 6.0))
            stories.append(it.told)
    assert stories[0] == stories[1]
