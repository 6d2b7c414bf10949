"""Canaries on virtual hours: how often a path is asked, and when its silence alarms somebody.

The links' anchors answer every ten seconds here and nothing is late, so that an hour is quick.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

import pytest

from chaos.weather import Cut, Heal
from gateway.core.cadence import CadenceRules
from gateway.core.canary import canary
from gateway.core.gate import Progress
from gateway.core.instant import Mono
from gateway.core.link import Layer, LinkRules, Sample
from gateway.core.message import Arrived, NoAnswer, Outbound, Outcome, Reply
from gateway.core.pack import Pack
from gateway.core.report import link_alarms, unproven
from gateway.core.telemetry import Alarm
from gateway.flow.board import Board
from gateway.flow.canaries import AGAIN_IDLE_S, Canaries
from gateway.ports import Sender
from tests.kit.clock import SimClock
from tests.sim.watched import FIBRE, SIM, watched

PACK = Pack("gpc", (), canary="/metadata")
JSON = (("Content-Type", "application/fhir+json"),)
RIGHT = Reply(200, "OK", JSON, b'{"resourceType": "CapabilityStatement"}')
PORTAL = Reply(200, "OK", (("Content-Type", "text/html"),), b"<html>")
ASKED = canary(PACK, "B81001", "gpc", "gw")
assert ASKED is not None


@dataclass
class Path:
    """A sender whose upstream says what it is told to say, None: nothing; and when it was asked."""

    clock: SimClock
    link: str
    reply: Reply | None = RIGHT
    asked: list[Mono] = field(default_factory=list)

    async def send(self, outbound: Outbound, tell: Callable[[Progress], None] | None = None
                   ) -> Outcome:
        self.asked.append(self.clock.now())
        if self.reply is None:
            await self.clock.sleep(outbound.patience_s)
            return NoAnswer(self.link, "timeout")
        await self.clock.sleep(0.05)
        return Arrived(self.link, self.reply, 0.05)

    def renew(self) -> None:
        """Nothing is pooled here."""


@dataclass
class Rigged:
    """A board with canaries over both links."""

    clock: SimClock
    board: Board
    paths: dict[str, Path]
    canaries: Canaries

    def alarms(self) -> tuple[Alarm, ...]:
        return tuple(each for each in link_alarms(self.board.view(), self.clock.wall())
                     if each.code == "backup_unproven")

    def age(self, link: str) -> float:
        age = self.board.proof_age(link, "gpc")
        assert age is not None
        return age


@asynccontextmanager
async def rigged(cadence: CadenceRules | None = None) -> AsyncIterator[Rigged]:
    clock = SimClock()
    board = Board((FIBRE, SIM), {"gpc": ("B81001",)}, LinkRules(), (), clock, lambda told: None)
    paths = {link: Path(clock, link) for link in ("fibre", "sim")}
    senders: dict[str, Sender] = {**paths}
    assert ASKED is not None
    canaries = Canaries(board, senders, {"gpc": (ASKED, PACK)}, ("fibre", "sim"),
                        cadence or CadenceRules(), LinkRules(), clock, Random(3))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(canaries.run()), group.create_task(_well(board, clock))]
        await clock.advance(25.0)
        yield Rigged(clock, board, paths, canaries)
        for task in tasks:
            task.cancel()


async def _well(board: Board, clock: SimClock) -> None:
    """Each anchor of both links answers now and then."""
    while True:
        for link in (FIBRE, SIM):
            for probe in link.probes:
                layer: Layer = "http" if probe.kind == "http" else "tls"
                board.see(Sample(link.id, probe.id, layer, True, clock.now(), clock.now(),
                                 anchor=True, rtt_ms=9.0))
        board.tick()
        await clock.sleep(10.0)


async def test_each_path_is_proven_at_once_and_a_metered_one_once_an_hour() -> None:
    async with rigged() as it:
        assert {link: len(path.asked) for link, path in it.paths.items()} == {"fibre": 1, "sim": 1}
        await it.clock.advance(7200.0)
        assert 3 <= len(it.paths["sim"].asked) <= 4
        assert 115 <= len(it.paths["fibre"].asked) <= 140
        assert it.age("sim") < 3600
        assert it.alarms() == ()


async def test_a_real_success_spares_the_canary() -> None:
    async with rigged() as it:
        for serial in range(60):
            await it.clock.advance(10.0)
            it.board.saw_status("B81001", "gpc", "", "fibre", 200, serial)
        assert len(it.paths["fibre"].asked) <= 2
        assert it.age("fibre") == 0.0


@pytest.mark.parametrize("reply", [None, PORTAL, Reply(403, "", JSON, b"{}")])
async def test_a_sim_that_is_silently_dead_alarms_within_65_minutes_and_no_sooner_than_known(
        reply: Reply | None) -> None:
    """Its anchors answer, so that no link is judged dead: only the upstream is not reached."""
    async with rigged() as it:
        await it.clock.advance(1800.0)
        it.paths["sim"].reply = reply
        died = it.clock.now()
        while not it.alarms():
            await it.clock.advance(10.0)
            assert it.clock.now() - died < 65 * 60
        told, = it.alarms()
        assert (told.link, told.upstream, told.sev) == ("sim", "gpc", "major")
        assert it.board.state("sim").state == "UP"
        assert it.board.view().switches == 0
        it.paths["sim"].reply = RIGHT
        await it.clock.advance(AGAIN_IDLE_S + 10.0)
        assert it.alarms() == ()


async def test_an_upstream_that_wants_to_be_left_alone_is_asked_by_no_canary_meanwhile() -> None:
    async with rigged() as it:
        await it.clock.advance(120.0)
        for path in it.paths.values():
            path.reply = Reply(429, "", (*JSON, ("Retry-After", "280")), b"{}")
        while not it.paths["fibre"].asked or it.clock.now() - it.paths["fibre"].asked[-1] > 1.0:
            await it.clock.advance(1.0)
        asked = len(it.paths["fibre"].asked)
        await it.clock.advance(270.0)
        assert len(it.paths["fibre"].asked) == asked
        await it.clock.advance(20.0)
        assert len(it.paths["fibre"].asked) == asked + 1


async def test_a_failing_upstream_is_asked_again_sparingly_over_a_metered_link() -> None:
    async with rigged() as it:
        for path in it.paths.values():
            path.reply = Reply(503, "", JSON, b"{}")
        await it.clock.advance(4000.0)
        for path in it.paths.values():
            path.asked.clear()
        await it.clock.advance(3600.0)
        assert 11 <= len(it.paths["sim"].asked) <= 13
        assert 150 <= len(it.paths["fibre"].asked) <= 245


async def test_a_dead_link_is_not_asked_and_one_that_is_back_is_asked_anew() -> None:
    async with watched((FIBRE, SIM)) as it:
        path = Path(it.clock, "fibre")
        assert ASKED is not None
        canaries = Canaries(it.board, {"fibre": path}, {"gpc": (ASKED, PACK)}, ("fibre",),
                            CadenceRules(), LinkRules(), it.clock, Random(3))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(canaries.run())
            await it.world.apply(Cut("fibre"))
            await it.clock.advance(4.0)
            path.asked.clear()
            await it.clock.advance(90.0)
            assert path.asked == []
            assert unproven(it.board.view(), it.clock.wall()) == ()  # its death is told by itself
            await it.world.apply(Heal("fibre"))
            await it.clock.advance(5.0)
            assert len(path.asked) == 1
            task.cancel()


async def test_a_portal_s_page_is_a_sample_against_the_path_and_a_proof_one_for_it() -> None:
    async with rigged() as it:
        before = it.age("sim")
        it.paths["sim"].reply = PORTAL
        assert await it.clock.run(it.canaries.ask("sim", "gpc")) == "foreign"
        assert it.age("sim") > before
        it.paths["sim"].reply = RIGHT
        assert await it.clock.run(it.canaries.ask("sim", "gpc")) == "proved"
        assert it.age("sim") == 0.0
        assert await it.clock.run(it.canaries.ask("sim", "other")) is None


async def test_a_path_with_a_verdict_against_it_is_asked_every_other_second() -> None:
    """Else a reset of five seconds kept an upstream on the backup for thirty (route_retry_s)."""
    async with rigged() as it:
        for n in range(5):
            at = Mono(it.clock.now() + n)
            it.board.see(Sample("fibre", "gpc", "request", False, at, at, detail="reset"))
            it.board.see(Sample("sim", "gpc", "request", True, at, at, rtt_ms=50.0, detail="200"))
            await it.clock.advance(1.0)
        it.board.tick()
        assert it.board.is_faulty("fibre", "gpc")
        it.paths["fibre"].asked.clear()
        await it.clock.advance(2.5)
        assert len(it.paths["fibre"].asked) == 1
        it.board.tick()
        assert not it.board.is_faulty("fibre", "gpc")


async def test_a_link_that_hangs_delays_no_other_ones_proofs() -> None:
    async with rigged() as it:
        it.paths["sim"].reply = None  # ten seconds each
        await it.clock.advance(4000.0)
        asked = [round(later - earlier) for earlier, later in
                 pairwise(it.paths["fibre"].asked)]
        assert max(asked) <= 62


async def test_a_portals_page_is_told_as_a_sample_and_a_new_epoch_hurries_only_who_was_well(
        ) -> None:
    async with rigged() as it:
        seen: list[Sample] = []
        told = it.board.see

        def see(sample: Sample) -> None:
            seen.append(sample)
            told(sample)

        it.board.see = see  # type: ignore[method-assign]
        it.paths["sim"].reply = PORTAL
        await it.clock.run(it.canaries.ask("sim", "gpc"))
        assert [(each.layer, each.ok, each.detail) for each in seen
                if each.target == "gpc"] == [("http", False, "not_the_api")]
        it.paths["sim"].asked.clear()
        memory = it.board.state("sim")
        it.board._detectors["sim"].memory = replace(memory, epoch=memory.epoch + 1)
        await it.clock.advance(5.0)
        assert it.paths["sim"].asked == []
        it.paths["sim"].reply = RIGHT
        await it.clock.run(it.canaries.ask("sim", "gpc"))
        it.board._detectors["sim"].memory = replace(memory, epoch=memory.epoch + 2)
        await it.clock.advance(5.0)
        assert len(it.paths["sim"].asked) == 2


async def test_a_path_without_a_canary_alarms_nobody() -> None:
    clock = SimClock()
    board = Board((FIBRE, SIM), {"gpc": ("B81001",)}, LinkRules(), (), clock, lambda told: None,
                  provable=frozenset())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_well(board, clock))
        await clock.advance(5000.0)
        task.cancel()
    path = next(each for each in board.view().paths if each.link == "sim")
    assert path.lapsed_s is not None
    assert not path.provable
    assert unproven(board.view(), clock.wall()) == ()
