"""Recordings of the black box on disk: ``state_dir/blackbox/NNNNNN-link-state.gz`` of a
turn, ``NNNNNN-link-upstream-verdict.gz`` of a verdict.

Written on a thread of its own, squeezed there, so that the loop never waits for a disk; the newest
``FILES_MAX`` are kept. A disk without room costs the recording, and that is said once.
"""

import asyncio
import gzip
import logging
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from gateway.core.blackbox import Recording, from_bytes, to_bytes
from gateway.edge import whole_file

LOG: Final = logging.getLogger(__name__)

FILE_BYTES_MAX: Final = 256 * 1024
FILES_MAX: Final = 200
WAITING_MAX: Final = 16
"""Recordings in the queue: two links and the turns of a bad minute."""

READ_BYTES_MAX: Final = 64 * 1024 * 1024
"""Unsqueezed, some five times what the fullest ring can hold."""


class BlackBoxes:
    """The writer of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._dir = state_dir / "blackbox"
        self._thread = ThreadPoolExecutor(1, "black-boxes")
        self._waiting = 0
        self._is_broken = False
        self._loop = asyncio.get_running_loop()

    def keep(self, recording: Recording) -> bool:
        """Have ``recording`` written; return False, and drop it, where too many wait already."""
        if self._waiting >= WAITING_MAX:
            return False
        self._waiting += 1
        self._thread.submit(self._keep, recording)
        return True

    async def close(self) -> None:
        """Write what waits, and stop."""
        await self._loop.run_in_executor(None, self._thread.shutdown)

    def _keep(self, recording: Recording) -> None:
        try:
            write(self._dir, recording)
        except OSError as trouble:
            if not self._is_broken:
                LOG.error("recordings of the black box cannot be written; the next are dropped "
                          "until the disk takes them",
                          extra={"error": type(trouble).__name__, "code": trouble.errno})
            self._is_broken = True
        else:
            if self._is_broken:
                LOG.info("recordings of the black box are written again")
            self._is_broken = False
        finally:
            self._waiting -= 1


def write(directory: Path, recording: Recording) -> Path | None:
    """Write ``recording``, cut until it fits ``FILE_BYTES_MAX``, and let go of the oldest files.

    Returns None, and writes nothing, where even the chunk of the turn itself is too large.

    Raises:
        OSError: the disk does not take it.
    """
    squeezed = gzip.compress(to_bytes(recording), 6, mtime=0)
    while len(squeezed) > FILE_BYTES_MAX:
        shorter = recording.shorter()
        if shorter is None:
            return None
        recording = shorter
        squeezed = gzip.compress(to_bytes(recording), 6, mtime=0)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = sorted(directory.glob("*.gz"))
    number = int(kept[-1].name.partition("-")[0]) + 1 if kept else 1
    path = directory / f"{number:06d}-{recording.name}.gz"
    whole_file.replace(path, squeezed, synced=False)
    for old in kept[:max(0, len(kept) + 1 - FILES_MAX)]:
        old.unlink(missing_ok=True)
    return path


def read(path: Path) -> Recording:
    """Return the recording at ``path``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or no recording.
    """
    try:
        with gzip.open(path) as file:
            return from_bytes(file.read(READ_BYTES_MAX))
    except (EOFError, gzip.BadGzipFile, zlib.error) as damaged:
        raise ValueError(f"{path.name} is damaged") from damaged
