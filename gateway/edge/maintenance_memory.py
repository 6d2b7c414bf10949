"""What was done about announced work, and when each link last passed a readiness run.

One small JSON file in the state directory, replaced as a whole and synced: a restart must neither
page twice nor believe a link that nobody has tried since its work ended. A file that is missing or
damaged means that nothing was done: then a step is said again, and a link proves itself again.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.core.instant import Wall
from gateway.edge import whole_file

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
    with contextlib.suppress(OSError):
        whole_file.replace(state_dir / FILE, text)
