"""SimClock: virtual time for asyncio, so that an hour of weather takes no time at all.

Law: time stands still while anything can run. When everything waits, ``advance`` and ``run`` wake
the earliest sleeper (ties in order of arrival), let everything run until it waits again, and go
on. The same program with the same seed therefore runs the same way, whatever the machine is doing.

It knows only waits that go through ``sleep`` and ``ring``: no sockets, no threads.
"""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, Final, TypeVar

from gateway.core.instant import Mono, Wall

T = TypeVar("T")

ROUNDS_MAX: Final = 100_000
"""Turns of the loop without anybody waiting, after which something must be spinning."""


class Deadlock(Exception):
    """Everybody waits and nobody sleeps: nothing would ever happen again."""


class SimClock:
    """The clock port over virtual time; ``trusted`` and ``step_wall`` play a bad wall clock."""

    def __init__(self, mono: float = 1000.0, wall: float = 1_795_000_000.0) -> None:
        self._mono = mono
        self._offset = wall - mono
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals = count()
        self.trusted = True

    def now(self) -> Mono:
        """Return virtual monotonic seconds."""
        return Mono(self._mono)

    def wall(self) -> Wall:
        """Return virtual seconds since the epoch."""
        return Wall(self._mono + self._offset)

    def wall_is_trusted(self) -> bool:
        """Return what the test set as ``trusted``."""
        return self.trusted

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock, forth or back; monotonic time goes on as it was."""
        self._offset += seconds

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time. Nothing or less lets others run once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._mono + seconds, next(self._arrivals), waiting))
        await waiting

    def ring(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call back after so much virtual time; return what calls it off."""
        ringing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ringing.add_done_callback(lambda rung: None if rung.cancelled() else call())
        due = self._mono + max(0.0, seconds)
        heapq.heappush(self._sleepers, (due, next(self._arrivals), ringing))

        def call_off() -> None:
            ringing.cancel()

        return call_off

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` of virtual time pass, with all that happens in them."""
        end = self._mono + seconds
        await self.settle()
        while self._wake_next(end):
            await self.settle()
        self._mono = end
        await self.settle()

    async def jump(self, seconds: float) -> None:
        """Stand still for ``seconds``, as a stopped process does: nobody wakes before the end."""
        await self.settle()
        self._mono += seconds
        await self.advance(0.0)

    async def run(self, work: Coroutine[Any, Any, T], limit_s: float = 86_400.0) -> T:
        """Return the result of ``work``, moving time on whenever everybody waits.

        Raises:
            Deadlock: nobody sleeps, or ``limit_s`` of virtual time are over, and it is not done.
        """
        end = self._mono + limit_s
        task = asyncio.ensure_future(work)
        try:
            await self.settle()
            while not task.done():
                if not self._wake_next(end):
                    raise Deadlock(f"not done after {limit_s} s, or nobody sleeps")
                await self.settle()
            return task.result()
        finally:
            await _end(task)

    async def settle(self) -> None:
        """Return when everything that could run has run, and all wait."""
        ready = getattr(asyncio.get_running_loop(), "_ready")  # noqa: B009
        for _ in range(ROUNDS_MAX):
            await asyncio.sleep(0)
            if not ready:
                return
        raise Deadlock("something spins without waiting")

    def _wake_next(self, end: float) -> bool:
        """Wake the next sleeper due by ``end``; False if there is none. Who gave up is skipped."""
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, waiting = heapq.heappop(self._sleepers)
            if not waiting.done():
                self._mono = max(self._mono, due)
                waiting.set_result(None)
                return True
        return False


async def _end(task: "asyncio.Future[T]") -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait([task])

