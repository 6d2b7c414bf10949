"""The readiness run: everything the morning needs is tried, over every link, while there is time.

``core/readiness.py`` says when a run is due and what its checks mean; here they are made: links
beside each other, what is about one link one after another, so that a SIM is not flooded.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, Protocol

from gateway.core.cadence import Ask
from gateway.core.echo import LADDER
from gateway.core.instant import Mono
from gateway.core.link import Sample
from gateway.core.readiness import (
    CANARIES,
    Check,
    ReadinessCause,
    ReadinessRules,
    Report,
    cause_due,
    climbed,
    day_of,
    findings,
    has_room,
    heard,
    is_fit,
    lasts,
)
from gateway.ports import CanaryNow, Clock, Trial

LOOK_S: Final = 1.0


class Board(Protocol):
    """Who is told what was seen on the way, and what was asked for it: bytes cost money."""

    def counted(self, link: str, ask: Ask) -> None: ...
    def see(self, sample: Sample) -> None: ...
    def climbed(self, rungs: Iterable[Sample]) -> None: ...


class Device(Protocol):
    """What a run asks of the device: links whose plan is low or out, those that have one, and the
    share of the disk that is free."""

    def spent(self) -> Collection[str]: ...
    def planned(self) -> Collection[str]: ...
    def free_share(self) -> float | None: ...


class Readiness:
    """Makes runs when they are due. ``trials`` stand in order of preference.

    ``told`` gets each report and the links that passed. ``distrusted`` are links whose maintenance
    is over and that wait for that. ``last`` is the newest report before the restart.
    """

    def __init__(self, board: Board, trials: Mapping[str, Trial], upstreams: tuple[str, ...],
                 canaries: CanaryNow, device: Device, rules: ReadinessRules, clock: Clock,
                 distrusted: Callable[[], Collection[str]],
                 told: Callable[[Report, tuple[str, ...]], None],
                 last: Report | None = None) -> None:
        self._board, self._trials, self._upstreams = board, trials, upstreams
        self._canaries, self._device, self._rules, self._clock = canaries, device, rules, clock
        self._distrusted, self._told, self._last = distrusted, told, last
        self._begun = clock.now()
        self._last_at: Mono | None = None

    async def run(self) -> None:
        """Look once a second whether a run is due, until cancelled."""
        while True:
            cause = cause_due(self._rules, self._last, self._begun, self._last_at,
                              bool(self._distrusted()), self._clock.wall_is_trusted(),
                              self._clock.wall(), self._clock.now())
            if cause is not None:
                await self._make(cause)
            await self._clock.sleep(LOOK_S)

    async def ask(self, link: str) -> bool:
        """Make a run now because a person asked; return whether ``link`` passed it."""
        await self._make("asked")
        links = tuple(self._trials)
        return self._last is not None and is_fit(self._last, link, links)

    def last(self) -> Report | None:
        """Return the newest report, None before the first one."""
        return self._last

    async def _make(self, cause: ReadinessCause) -> None:
        began, wall, links = self._clock.now(), self._clock.wall(), tuple(self._trials)
        checks = list(self._about_us())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._try(link)) for link in links]
        checks += [check for task in tasks for check in task.result()]
        report = Report(day_of(cause, self._last, wall), cause, wall, self._clock.now() - began,
                        tuple(checks), findings(checks, links, self._upstreams),
                        self._clock.wall_is_trusted())
        self._last, self._last_at = report, self._clock.now()
        self._told(report, tuple(link for link in links if is_fit(report, link, links)))

    def _about_us(self) -> tuple[Check, ...]:
        spent, planned = self._device.spent(), self._device.planned()
        return (
            Check("clock", "", "", "pass" if self._clock.wall_is_trusted() else "fail"),
            Check("disk", "", "", has_room(self._device.free_share(), self._rules)),
            Check("sip", "", "", "not_configured"),
            *(Check("quota", link, "", "fail" if link in spent else "pass")
              for link in self._trials if link in planned))

    async def _try(self, link: str) -> list[Check]:
        trial = self._trials[link]
        echoes = await trial.echoes()
        self._board.counted(link, "size")
        rungs = await trial.ladder(LADDER)
        for sample in echoes:
            self._board.counted(link, "anchor")
            self._board.see(sample)
        self._board.climbed(rungs)
        found = [Check("echo", link, "", heard(echoes)), Check("size", link, "", climbed(rungs))]
        for upstream in self._upstreams:
            self._board.counted(link, "names")
            found.append(Check("dns", link, upstream, await trial.names(upstream)))
            self._board.counted(link, "connect")
            made = await trial.connect(upstream)
            found += [
                Check("connect", link, upstream, made.connect),
                Check("tls", link, upstream, made.tls),
                Check("certificate", link, upstream, lasts(
                    made.ends, self._rules, self._clock.wall(), self._clock.wall_is_trusted())),
                Check("canary", link, upstream,
                      CANARIES[await self._canaries.ask(link, upstream)])]
        return found
