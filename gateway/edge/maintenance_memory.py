"""What was done about announced work, and when each link last passed a readiness run.

One small JSON file in the state directory, replaced as a whole and synced: a restart must neither
page twice nor believe a link that nobody has tried since its work ended. A file that is missing or
damaged means that nothing was done: then a step is said again, and a link proves itself again.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.core.instant import Wall

FILE: Final = "maintenance.json"
BYTES_MAX: Final = 1 << 20


def read(state_dir: Path) -> tuple[frozenset[str], dict[str, Wall]]:
    """Return the keys of the steps that were done, and by link when it last passed a run."""
    try:
        with (state_dir / FILE).open("rb") as file:
            told = json.loads(file.read(BYTES_MAX))
        return (frozenset(str(each) for each in told["done"]),
                {str(link): Wall(float(at)) for link, at in told["passed"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return frozenset(), {}


def write(state_dir: Path, done: frozenset[str], passed: Mapping[str, Wall]) -> None:
    """Keep both; a disk without room costs what a restart then says twice."""
    text = json.dumps({"done": sorted(done), "passed": dict(passed)})
    beside = state_dir / f"{FILE}.new"
    with contextlib.suppress(OSError):
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(state_dir / FILE)
