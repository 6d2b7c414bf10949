"""Announced work, carried out: windows are gathered, merged, told to the board, and prepared for.

It decides nothing: ``core/maintenance.py`` says which windows hold and which step is due, and the
board what a link does in one. Each step is done once, also over a restart (``keep``). While the
wall clock is not trusted no step is due, since nobody knows what time it is.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from gateway.core.calendar import Calendar, Read
from gateway.core.instant import Mono, Wall
from gateway.core.maintenance import (
    Finding,
    MaintenanceView,
    Plan,
    Step,
    Window,
    distrusted,
    due,
    key,
    merged,
    preflight,
    risks,
    still,
)
from gateway.ports import Clock

LOOK_S: Final = 1.0
AGAIN_S: Final = 300.0
"""A calendar that could not be read is tried again so soon, whatever its own pace."""


class Board(Protocol):
    """Who is told which windows hold."""

    def set_windows(self, windows: tuple[Window, ...], distrusted: frozenset[str]) -> None: ...


class ByHand(Protocol):
    """Windows that a person added or cancelled: (windows, ids cancelled, files unreadable)."""

    def changed(self) -> int: ...
    def read(self) -> tuple[tuple[Window, ...], frozenset[str], int]: ...


class Calendars(Protocol):
    """Reads a calendar; trouble is a value."""

    async def read(self, calendar: Calendar, wall: Wall) -> Read: ...


class Backup(Protocol):
    """What is known of the links that must carry the practice meanwhile."""

    def proven(self) -> Collection[str]: ...
    def spent(self) -> Collection[str]: ...


class Maintenance:
    """The windows of all sources. ``told`` hears of each step, ``changed`` of a new state of risk.

    ``done`` and ``passed`` are what ``keep`` kept before the restart. ``most_s`` is how long a link
    is distrusted after its work at most.
    """

    def __init__(self, board: Board, configured: tuple[Window, ...], by_hand: ByHand,
                 calendars: tuple[Calendar, ...], reader: Calendars, links: tuple[str, ...],
                 fates: Mapping[str, frozenset[str]], backup: Backup, most_s: float, clock: Clock,
                 told: Callable[[Window, Step, tuple[Finding, ...]], None],
                 changed: Callable[[], None],
                 kept: tuple[frozenset[str], Mapping[str, Wall]],
                 keep: Callable[[frozenset[str], Mapping[str, Wall]], None]) -> None:
        self._board, self._configured, self._by_hand = board, configured, by_hand
        self._calendars, self._reader = calendars, reader
        self._links, self._fates, self._backup = links, fates, backup
        self._most_s, self._clock = most_s, clock
        self._told, self._changed, self._keep = told, changed, keep
        self._done, self._passed = kept[0], dict(kept[1])
        self._reads: dict[str, Read] = {}
        self._asked: dict[str, Mono] = {}
        self._unread: dict[str, Wall] = {}
        self._seen = -1
        self._added: tuple[Window, ...] = ()
        self._view = MaintenanceView()

    async def run(self) -> None:
        """Look once a second until cancelled; a calendar under way holds up nothing."""
        async with asyncio.TaskGroup() as group:
            for calendar in self._calendars:
                group.create_task(self._read(calendar))
            while True:
                self.look()
                await self._clock.sleep(LOOK_S)

    async def _read(self, calendar: Calendar) -> None:
        while True:
            if self._is_due(calendar):
                self._asked[calendar.id] = self._clock.now()
                self._take(calendar.id, await self._reader.read(calendar, self._clock.wall()))
                self.look()
            await self._clock.sleep(LOOK_S)

    def _take(self, name: str, read: Read) -> None:
        self._reads[name] = read
        if read.trouble:
            self._unread.setdefault(name, self._clock.wall())
        else:
            self._unread.pop(name, None)

    def look(self) -> None:
        """Merge what is announced now, and do what is due."""
        seen = self._by_hand.changed()
        cancelled, unreadable = self._view.cancelled, self._view.unreadable
        if seen != self._seen:
            self._seen = seen
            self._added, cancelled, unreadable = self._by_hand.read()
        wall = self._clock.wall()
        trusted = self._clock.wall_is_trusted()
        windows = (*self._configured, *self._added,
                   *(each for read in self._reads.values() for each in read.windows))
        plan = merged(windows, cancelled, self._links, wall)
        before = self._view
        proven, spent = self._backup.proven(), self._backup.spent()
        self._view = MaintenanceView(
            plan, cancelled,
            risks(plan.windows, self._links, self._fates, proven, spent, wall) if trusted else (),
            self._distrusted(plan, wall) if trusted else frozenset(),
            tuple((name, read.trouble, self._unread[name])
                  for name, read in self._reads.items() if read.trouble),
            unreadable, sum(read.left_out for read in self._reads.values()))
        self._board.set_windows(plan.windows, self._view.distrusted)
        if trusted:
            self._step(plan, proven, spent, wall)
        if self._view != before:
            self._changed()

    def _is_due(self, calendar: Calendar) -> bool:
        asked = self._asked.get(calendar.id)
        if asked is None:
            return True
        read = self._reads.get(calendar.id)
        troubled = read is not None and bool(read.trouble)
        every = min(AGAIN_S, calendar.refresh_s) if troubled else calendar.refresh_s
        return self._clock.now() - asked >= every

    def _distrusted(self, plan: Plan, wall: Wall) -> frozenset[str]:
        return distrusted(plan.windows, self._passed, self._most_s, wall)

    def _step(self, plan: Plan, proven: Collection[str], spent: Collection[str], wall: Wall
              ) -> None:
        steps = due(plan.windows, self._done, wall)
        for window, step in steps:
            findings = preflight(window, self._links, self._fates, proven, spent) if step in (
                "preflight", "page") else ()
            self._told(window, step, findings)
        if steps:
            self._done |= {key(*each) for each in steps}
            if len(self._reads) == len(self._calendars):  # else windows to come look forgotten
                self._done = still(self._done, plan.windows)
            self._keep(self._done, self._passed)

    def passed(self, links: Collection[str], at: Wall) -> None:
        """Take in the links that passed a readiness run begun ``at``: they are trusted again,
        unless it began before their work was over."""
        self._passed.update(dict.fromkeys(links, at))
        self._keep(self._done, self._passed)
        self.look()

    def view(self) -> MaintenanceView:
        """Return all that is known of announced work."""
        return self._view
