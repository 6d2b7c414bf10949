"""What is remembered of the links over a restart: which were out of use, and why.

One small JSON file, replaced as a whole. It is a hint, never proof: a file that is missing, damaged
or of another configuration only means that nothing is remembered. It is not synced, since a power
cut may cost the hint and must not cost the loop a slow disk's second.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

Remembered: TypeAlias = Mapping[str, tuple[str, str]]
"""Link id -> (state, cause)."""

FILE_BYTES_MAX: Final = 65536


def read(path: Path) -> dict[str, tuple[str, str]]:
    """Return what was remembered; empty where there is nothing to read."""
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(FILE_BYTES_MAX))
        return {str(link): (str(state), str(cause)) for link, (state, cause) in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write(path: Path, links: Remembered) -> None:
    """Remember ``links``; a disk without room costs the hint and nothing else."""
    beside = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        beside.touch(mode=0o600)
        beside.write_text(json.dumps({link: list(each) for link, each in links.items()}))
        beside.replace(path)
