"""Small files of the state directory, replaced as a whole: after a power cut there is the old
content or the new one, never half of it.
"""

import os
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600


def replace(path: Path, content: bytes | str, synced: bool = True, like: Path | None = None
            ) -> None:
    """Write ``content`` beside ``path``, readable by its owner only, then take its place.

    ``synced``: not before the disk has it; without that a power cut may leave the name and lose
    the content. ``like``: root gives the file to whom that path belongs to, since the daemon runs
    as somebody else. A file left half written by another process is overwritten.

    Raises:
        OSError: the disk does not take it; what was there is there still.
    """
    beside = path.with_name(f"{path.name}.new")
    raw = content if isinstance(content, bytes) else content.encode()
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "wb") as file:
            file.write(raw)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        if like is not None and os.geteuid() == 0:
            owner = like.stat()
            os.chown(beside, owner.st_uid, owner.st_gid)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
