"""Bytes held on a disk beside a store, so that what must be written still can be on a full one.

A practice whose disk fills up must not lose its copies because a booking has to void one of
them. The reserve is given up for that, and until it stands again nothing else may be written.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from gateway.core.instant import Mono

RETRY_S: Final = 2.0
"""Between attempts to take the reserve back from a full disk."""


class Reserve:
    """``size`` bytes at ``path``, really allocated. A size of 0 is no reserve and always stands."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self.held = size == 0
        self._tried: Mono | None = None

    def stands(self, now: Mono) -> bool:
        """Whether it is held; takes it where it is not, at most every RETRY_S."""
        if self.held or (self._tried is not None and now - self._tried < RETRY_S):
            return self.held
        self._tried = now
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size == self._size:
                self.held = True
                return True
        handle = -1
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(handle, 0, self._size)
            self.held = True
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()
        finally:
            if handle >= 0:
                os.close(handle)
        return self.held

    def release(self) -> bool:
        """Give the bytes back to the disk; whether there were any to give."""
        if self._size == 0:
            return False
        self.held = False
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
