"""The clock port: the only module that reads the time.

``now`` and the event loop's own time are the same monotonic clock. Wall time is a claim: a device
may boot before it is synchronised, and then the kernel says so (``adjtimex``, STA_UNSYNC: no
daemon has to be asked).
"""

import asyncio
import ctypes
import time
from collections.abc import Callable
from typing import ClassVar, Final, Literal

from gateway.core.instant import Mono, Wall

STA_UNSYNC: Final = 0x0040
TIME_ERROR: Final = 5
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
"""Opened once: it is asked with every request."""


class _Timex(ctypes.Structure):
    """The head of Linux' ``struct timex``; the rest is room for the kernel to write into."""

    _fields_: ClassVar = [
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long), ("esterror", ctypes.c_long), ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512)]


class SystemClock:
    """Time from the kernel. ``trust``: ``kernel`` asks whether wall time is synchronised;
    ``always`` takes it as it is, for machines whose clock something else vouches for.
    """

    def __init__(self, trust: Literal["kernel", "always"] = "kernel") -> None:
        self._trust = trust

    def now(self) -> Mono:
        """Seconds from an arbitrary start; never steps."""
        return Mono(time.monotonic())

    def wall(self) -> Wall:
        """Seconds since 1970 in UTC, as far as the device knows."""
        return Wall(time.time())

    def wall_is_trusted(self) -> bool:
        """Whether wall time may be relied upon: a copy's age, a window's start."""
        return self._trust == "always" or kernel_is_synchronised()

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellation ends it at once."""
        await asyncio.sleep(seconds)

    def ring(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call back after ``seconds``, once; return what calls it off."""
        return asyncio.get_running_loop().call_later(seconds, call).cancel


def kernel_is_synchronised() -> bool:
    """Whether the kernel's clock is disciplined; False where that cannot be told."""
    told = _Timex()
    try:
        state = _LIBC.adjtimex(ctypes.byref(told))
    except (OSError, AttributeError):
        return False
    return bool(state >= 0 and state != TIME_ERROR and not told.status & STA_UNSYNC)
