"""Keeps on disk what the links' gaps have taught, so that a restart does not begin anew.

Every quarter of an hour, and once more when it is told to stop: a crash costs at most that of 14
days, and a slow disk is not bothered more often.
"""

from collections.abc import Callable
from typing import Final

from gateway.ports import Clock

EVERY_S: Final = 900.0


async def remember(write: Callable[[], None], clock: Clock, every_s: float = EVERY_S) -> None:
    """Call ``write`` every ``every_s`` seconds until cancelled, and then a last time."""
    try:
        while True:
            await clock.sleep(every_s)
            write()
    finally:
        write()
