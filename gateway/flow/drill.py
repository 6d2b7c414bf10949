"""Drills: carries out what ``core/drill.py`` allows, step by step, and tells each step."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

from gateway.core import drill
from gateway.core.drill import Count, Order, Report, Why
from gateway.core.mode import BoardView
from gateway.ports import Clock

LOOK_S: Final = 1.0
STEP_S: Final = 0.1
REMEMBERED: Final = 600


class Board(Protocol):
    """What a drill asks of the board, and tells it. ``drain("")`` ends it."""

    def view(self) -> BoardView: ...
    def drain(self, link: str) -> None: ...


async def _ready(link: str) -> bool:
    """Nothing is tried beforehand."""
    return True


class Drills:
    """Takes an order when one is there (``orders``), and tells how it goes (``told``).

    ``count`` is what was answered so far, ``spent`` the links whose plan is low or out. ``ready``
    tries everything over the backup first, as the readiness run does.
    """

    def __init__(self, board: Board, orders: Callable[[], Order | None],
                 told: Callable[[Report], None], count: Callable[[], Count],
                 spent: Callable[[], frozenset[str]], clock: Clock,
                 ready: Callable[[str], Awaitable[bool]] = _ready) -> None:
        self._ready = ready
        self._board, self._orders, self._told = board, orders, told
        self._count, self._spent, self._clock = count, spent, clock
        self._totals: deque[int] = deque(maxlen=REMEMBERED)

    async def run(self) -> None:
        """Look once a second, until cancelled; a drill under way is ended with it."""
        while True:
            self._totals.append(self._count().latency.count)
            order = self._orders()
            if order is not None:
                await self._drill(order)
            await self._clock.sleep(LOOK_S)

    async def _drill(self, order: Order) -> None:
        report = Report(order.id, "waiting")
        self._told(report)
        why = drill.refusal(self._board.view(), self._spent())
        if not why and not await self._ready(drill.backup_of(self._board.view())):
            why = "backup_not_ready"
        why = why or await self._wait(order)
        if why:
            self._told(replace(report, stage="refused", why=why))
            return
        view = self._board.view()
        before, link, down = self._count(), view.active, drill.down(view)
        try:
            self._board.drain(link)
            report = await self._moved(replace(report, link=link), order)
        finally:
            self._board.drain("")
        if report.stage == "returning":
            report = await self._back(report)
        told = drill.felt(before, self._count(), down)
        left = drill.left_behind(self._board.view(), report.backup) or report.why == "not_back"
        self._told(replace(report, felt=told, promises=drill.promises(told, left)))

    async def _wait(self, order: Order) -> Why:
        """Return why not, ``""`` once a quiet moment is there."""
        begun = self._clock.now()
        while True:
            why = drill.refusal(self._board.view(), self._spent())
            if why:
                return why
            if order.wait_s <= 0 or drill.is_quiet(self._totals):
                return ""
            if drill.is_due(begun, order.wait_s, self._clock.now()):
                return "no_quiet_minute"
            await self._clock.sleep(LOOK_S)
            self._totals.append(self._count().latency.count)

    async def _moved(self, report: Report, order: Order) -> Report:
        begun = self._clock.now()
        while self._board.view().active in ("", report.link):
            if drill.is_due(begun, drill.MOVE_S, self._clock.now()):
                return replace(report, stage="aborted", why="not_moved")
            await self._clock.sleep(STEP_S)
        backup, arrived = self._board.view().active, self._clock.now()
        modes = tuple((each.upstream, each.mode) for each in self._board.view().modes)
        report = replace(report, stage="moved", backup=backup, moved_s=arrived - begun, modes=modes)
        self._told(report)
        while not drill.is_due(arrived, order.seconds, self._clock.now()):
            if self._board.view().active != backup:
                return replace(report, stage="aborted", why="backup_lost",
                               stayed_s=self._clock.now() - arrived)
            await self._clock.sleep(STEP_S)
        return replace(report, stage="returning", stayed_s=self._clock.now() - arrived)

    async def _back(self, report: Report) -> Report:
        self._told(report)
        begun = self._clock.now()
        while not drill.is_back(self._board.view(), report.link):
            if drill.is_due(begun, drill.BACK_S, self._clock.now()):
                return replace(report, stage="done", why="not_back")
            await self._clock.sleep(LOOK_S)
        return replace(report, stage="done", back_s=self._clock.now() - begun)
