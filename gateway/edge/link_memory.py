"""What is remembered of the links over a restart: which were out of use, and why, and what their
gaps have taught.

One small JSON file, replaced as a whole. It is a hint, never proof: a file that is missing, damaged
or of another configuration only means that nothing is remembered. It is not synced, since a power
cut may cost the hint and must not cost the loop a slow disk's second.
"""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeAlias

from gateway.core.silence import DAYS, EDGES_S, Day, Learned
from gateway.edge import whole_file

Remembered: TypeAlias = Mapping[str, tuple[str, str]]
"""Link id -> (state, cause)."""

FILE_BYTES_MAX: Final = 65536
LEARNED_BYTES_MAX: Final = 1 << 20


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
    _replace(path, json.dumps({link: list(each) for link, each in links.items()}))


def _replace(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        whole_file.replace(path, text, synced=False)


def read_learned(path: Path) -> dict[str, Learned]:
    """Return what the gaps of each link had taught; a link whose entry is damaged is left out."""
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(LEARNED_BYTES_MAX))
    except (OSError, ValueError):
        return {}
    found: dict[str, Learned] = {}
    for link, each in (told.items() if isinstance(told, dict) else ()):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found[str(link)] = _learned(each)
    return found


def _learned(told: Mapping[str, Any]) -> Learned:
    days = tuple(_day(day) for day in told["days"])[-(DAYS + 1):]
    loss, interval = float(told["loss"]), float(told["interval_s"])
    if not days or not 0.0 <= loss <= 1.0 or not interval > 0.0:
        raise ValueError("not what we wrote")
    return Learned(days, loss, interval)


def _day(told: Mapping[str, Any]) -> Day:
    figures = tuple(float(told[name]) for name in ("watched_s", "from_s", "lost_s", "width_s"))
    lengths = tuple(int(each) for each in told["lengths"])
    gaps, tails, ended = (int(told[name]) for name in ("gaps", "tails", "ended"))
    if len(lengths) != len(EDGES_S) or min(*figures, gaps, tails, ended, *lengths) < 0 or not all(
            math.isfinite(figure) for figure in figures):
        raise ValueError("not what we wrote")
    return Day(figures[0], gaps, tails, ended, figures[1], figures[2], figures[3], lengths)


def write_learned(path: Path, learned: Mapping[str, Learned]) -> None:
    """Keep ``learned`` (2 kB a link); a disk without room costs what was learned since."""
    _replace(path, json.dumps({link: asdict(each) for link, each in learned.items()}))
