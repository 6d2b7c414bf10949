"""What metered links have carried this month, kept over restarts in one small JSON file.

Written beside, synced, then renamed, in a thread: after a power cut there is the old count or the
new one. Without the sync a file system may keep the name and lose the content, and with it the
month. Every 5 minutes is often enough: counters die with the power too, so what was not yet kept
is lost either way, 5 minutes of a month at most (0.01 %). A damaged file is no file: the count
begins from the carrier's figure, or is not ``whole``, and ``/status`` says so.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from gateway.core.instant import Wall
from gateway.core.quota import USES, Reading, Used
from gateway.edge import whole_file

BYTES_MAX: Final = 1 << 20


def read(path: Path) -> dict[str, Used]:
    """Return what was kept, by link; a link whose entry is damaged is left out."""
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(BYTES_MAX))
    except (OSError, ValueError):
        return {}
    found: dict[str, Used] = {}
    for link, each in (told.items() if isinstance(told, dict) else ()):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found[str(link)] = _used(each)
    return found


def _used(told: Mapping[str, Any]) -> Used:
    by = tuple((use, int(dict(told["by"])[use])) for use in USES if use in dict(told["by"]))
    days = tuple((int(day), int(n)) for day, n in told["days"])
    hour, n = told["hour"]
    last = told["last"]
    reading = None if last is None else Reading(int(last["bytes"]), str(last["life"]))
    at = told["reconciled"]
    used = Used(Wall(float(told["month"])), int(told["total"]), by, days, (int(hour), int(n)),
                reading, bool(told["whole"]), None if at is None else Wall(float(at)))
    figures = (used.total, *(n for _, n in by), *(n for _, n in days), used.hour[1])
    if min(figures) < 0:
        raise ValueError("not what we wrote")
    return used


async def write(path: Path, links: Mapping[str, Used]) -> None:
    """Keep ``links``; a disk without room costs what was counted since the last time."""
    text = json.dumps({link: asdict(used) for link, used in links.items()})
    await asyncio.to_thread(_replace, path, text)


def _replace(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        whole_file.replace(path, text)
