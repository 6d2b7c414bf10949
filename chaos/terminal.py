"""A terminal for the demo: a panel redrawn in place, and single keys. Plain where there is none."""

import asyncio
import contextlib
import os
import shutil
import termios
import time
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Final

PLAIN_EVERY_S: Final = 10.0
"""Without a terminal the panel is written only when its words changed, this often at most."""
_UP: Final = "\x1b[{}A"
_CLEAR_LINE: Final = "\x1b[2K"
_BOLD: Final = "\x1b[1m"
_RED: Final = "\x1b[31m"
_YELLOW: Final = "\x1b[33m"
_GREEN: Final = "\x1b[32m"
_PLAIN: Final = "\x1b[0m"
_COLOURS: Final = (
    (_RED, (" DOWN", "STANDALONE", "failed")), (_YELLOW, ("SUSPECT", "BACKUP", "DEGRADED",
                                                         "PROBATION", "DRAINING")),
    (_GREEN, ("<- active",)))


class Panel:
    """Lines that replace each other on a terminal; on anything else a page now and then."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._drawn = 0
        self._last: list[str] = []
        self._said_at = float("-inf")

    def show(self, lines: Sequence[str]) -> None:
        """Show ``lines`` in place of those shown before."""
        if self._out.isatty():
            self._redraw(lines)
        elif (time.monotonic() - self._said_at >= PLAIN_EVERY_S
              and list(lines) != self._last):
            self._said_at, self._last = time.monotonic(), list(lines)
            self._out.write("\n".join(lines) + "\n\n")
            self._out.flush()

    def _redraw(self, lines: Sequence[str]) -> None:
        width = shutil.get_terminal_size().columns - 1
        text = _UP.format(self._drawn) if self._drawn else ""
        padded = [*lines, *[""] * (self._drawn - len(lines))]
        text += "".join(f"{_CLEAR_LINE}{coloured(line[:width])}\n" for line in padded)
        self._drawn = len(padded)
        self._out.write(text)
        self._out.flush()


def coloured(line: str) -> str:
    """Return ``line`` with colour added to its words: the words alone say it, too."""
    if line and not line.startswith(" "):
        return f"{_BOLD}{line}{_PLAIN}"
    for colour, words in _COLOURS:
        if any(word in line for word in words) and "failed 0" not in line:
            return f"{colour}{line}{_PLAIN}"
    return line


class Keys:
    """Single key presses of a terminal; from anything else none ever come."""

    def __init__(self, source: IO[str]) -> None:
        self._source = source
        self._pressed: asyncio.Queue[str] = asyncio.Queue(64)
        self._before: list[Any] | None = None

    def __enter__(self) -> "Keys":
        if self._source.isatty():
            self._before = termios.tcgetattr(self._source)
            tty.setcbreak(self._source)
            asyncio.get_running_loop().add_reader(self._source, self._read)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._before is not None:
            asyncio.get_running_loop().remove_reader(self._source)
            termios.tcsetattr(self._source, termios.TCSADRAIN, self._before)

    async def next(self) -> str:
        """Wait for the next key."""
        return await self._pressed.get()

    def _read(self) -> None:
        for key in os.read(self._source.fileno(), 64).decode("utf-8", "replace"):
            with contextlib.suppress(asyncio.QueueFull):  # nobody presses 64 keys in earnest
                self._pressed.put_nowait(key)
