"""Watching the plans of metered links: reads the counters, tells the board, keeps the count.

It decides nothing: ``core/quota.py`` says what a count means. While the wall clock is not trusted
nothing is counted into any month; counters go on by themselves, so nothing is lost by waiting.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

from gateway.core.instant import Mono, Wall
from gateway.core.quota import (
    Carrier,
    Overlay,
    Plan,
    PlanView,
    Reading,
    Use,
    Used,
    barred,
    counted,
    month_of,
    overlay,
    price,
    reconciled,
    spent,
    view,
)
from gateway.ports import Clock

LOOK_EVERY_S: Final = 10.0
"""At 10 Mbit/s 12 MB pass between two looks: 1 % of a plan of 1 GB."""
SAVE_EVERY_S: Final = 300.0


class Meter(Protocol):
    """Reads the counters of one link; None where there is no device to read."""

    def read(self, link: str) -> Reading | None: ...
    def has_device(self, link: str) -> bool: ...


class Priced(Protocol):
    """Who is told what bytes cost: the board."""

    def priced(self, prices: Mapping[str, float], spent: Collection[str]) -> None: ...


class Quota:
    """The plans of all metered links that have one.

    ``told`` gets (link, overlay before, view) when an overlay changed, and must not wait. A link
    without a device is counted by its requests' own bodies, which is said (``own``).
    """

    def __init__(self, plans: Mapping[str, tuple[Plan, Carrier | None]], meter: Meter,
                 kept: Mapping[str, Used], save: Callable[[Mapping[str, Used]], Awaitable[None]],
                 board: Priced, clock: Clock,
                 told: Callable[[str, Overlay, PlanView], None]) -> None:
        self._plans = dict(plans)
        self._meter = meter
        self._used = {link: used for link, used in kept.items() if link in self._plans}
        self._save = save
        self._board = board
        self._clock = clock
        self._told = told
        self._own = dict.fromkeys(self._plans, 0)
        self._life = str(clock.wall())
        self._overlays: dict[str, Overlay] = dict.fromkeys(self._plans, "")
        self._since: dict[str, Wall] = {}
        self._barred: dict[Use, frozenset[str]] = {}

    async def run(self) -> None:
        """Look every 10 s and keep the count every 5 minutes, until cancelled; then once more."""
        saved: Mono = self._clock.now()
        try:
            while self._plans:
                self.look()
                if self._clock.now() - saved >= SAVE_EVERY_S:
                    saved = self._clock.now()
                    await self._save(self._used)
                await self._clock.sleep(LOOK_EVERY_S)
        finally:
            self.look()
            if self._plans:
                await self._save(self._used)

    def look(self) -> None:
        """Read every counter once, and tell what follows."""
        if not self._clock.wall_is_trusted():
            return
        wall = self._clock.wall()
        for link, (plan, carrier) in self._plans.items():
            reading = self._read(link)
            used = self._used.get(link)
            if reading is not None:
                used = counted(used, reading, plan, wall)
            elif used is None:  # no counter yet: what the carrier says holds all the same
                used = Used(month_of(wall, plan.month_starts)[0])
            self._used[link] = reconciled(used, carrier)
            self._note(link, plan, wall)
        self._bar()
        self._board.priced({link: price(used, self._plans[link][0])
                            for link, used in self._used.items()},
                           [link for link, each in self._overlays.items() if each])

    def _read(self, link: str) -> Reading | None:
        if self._meter.has_device(link):
            return self._meter.read(link)
        return Reading(self._own[link], f"own/{self._life}")

    def _note(self, link: str, plan: Plan, wall: Wall) -> None:
        before, after = self._overlays[link], overlay(self._used[link], plan, wall)
        if after != before:
            self._overlays[link] = after
            self._since[link] = wall
            self._told(link, before, view(link, self._used[link], plan, wall))

    def _bar(self) -> None:
        found: dict[Use, set[str]] = {}
        for link, used in self._used.items():
            for use in barred(used, self._plans[link][0]):
                found.setdefault(use, set()).add(link)
        self._barred = {use: frozenset(links) for use, links in found.items()}

    def spent(self, link: str, use: Use, size: int) -> None:
        """Take in that a request has moved ``size`` bytes over ``link``."""
        if link in self._plans:
            self._own[link] += size
            if link in self._used:
                self._used[link] = spent(self._used[link], use, size)

    def barred(self, use: Use) -> frozenset[str]:
        """Return the links that ``use`` may not take now."""
        return self._barred.get(use, frozenset())

    def views(self) -> tuple[PlanView, ...]:
        """Return every plan as it stands; one that was never counted is left out."""
        wall = self._clock.wall()
        return tuple(view(link, used, self._plans[link][0], wall)
                     for link, used in self._used.items())

    def alarms(self) -> tuple[tuple[str, Overlay, Wall], ...]:
        """Return (link, overlay, since) of the plans that are low or out."""
        return tuple((link, each, self._since[link])
                     for link, each in self._overlays.items() if each)
