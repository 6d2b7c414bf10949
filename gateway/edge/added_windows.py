"""Windows that a person added or cancelled by hand: small files under ``state_dir/maintenance``.

The command line writes them and the daemon reads them when the folder changes. A file and not a
port: who may write into the state directory (0700) may change what the gateway does, and nobody
else on this machine; it survives restarts of both, and works while the daemon is down. One file is
one window; ``NAME.cancelled`` cancels one that came from elsewhere. What cannot be read is counted.
"""

import contextlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.core.instant import Wall
from gateway.core.maintenance import Window
from gateway.edge import whole_file
from gateway.errors import GatewayError

FILES_MAX: Final = 256
BYTES_MAX: Final = 4096
FOLDER: Final = "maintenance"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Added:
    """What was added, the ids of what was cancelled, and how many files could not be read."""

    windows: tuple[Window, ...] = ()
    cancelled: frozenset[str] = frozenset()
    unreadable: int = 0


def changed(state_dir: Path) -> int:
    """Return a number that is another after every change, 0 while there is nothing."""
    try:
        return (state_dir / FOLDER).stat().st_mtime_ns
    except OSError:
        return 0


def read(state_dir: Path) -> Added:
    """Return all that was added and cancelled, at most FILES_MAX files of it, in order of name."""
    try:
        names = sorted(each for each in os.listdir(state_dir / FOLDER)
                       if not each.endswith(".new"))
    except OSError:
        return Added()
    windows: list[Window] = []
    cancelled: set[str] = set()
    unreadable = max(0, len(names) - FILES_MAX)
    for name in names[:FILES_MAX]:
        id, _, kind = name.rpartition(".")
        try:
            if not _ID.fullmatch(id) or kind not in ("json", "cancelled"):
                raise ValueError("no file of ours")
            if kind == "cancelled":
                cancelled.add(id)
            else:
                windows.append(_window(id, state_dir / FOLDER / name))
        except (OSError, ValueError, KeyError, TypeError):
            unreadable += 1
    return Added(tuple(windows), frozenset(cancelled), unreadable)


def _window(id: str, path: Path) -> Window:
    with path.open("rb") as file:
        told = json.loads(file.read(BYTES_MAX))
    return Window(id, str(told["link"]), Wall(float(told["start"])), Wall(float(told["end"])),
                  float(told["drain_s"]), str(told.get("reason", ""))[:200], "added", "",
                  str(told.get("rule", ""))[:200])


def add(state_dir: Path, window: Window) -> None:
    """Write ``window`` down, durably; one cancelled under the same id before stands again.

    Raises:
        GatewayError: the id is taken or is none, there are too many, or the disk refuses.
    """
    if not _ID.fullmatch(window.id):
        raise GatewayError("the id must be letters, digits, - and _; 64 at most")
    there = read(state_dir)
    if window.id in {each.id for each in there.windows}:
        raise GatewayError(f"{window.id} was added before; cancel it first")
    if len(there.windows) + len(there.cancelled) + there.unreadable >= FILES_MAX:
        raise GatewayError(f"there are {FILES_MAX} windows by hand; cancel some first")
    text = json.dumps({"link": window.link, "start": window.start, "end": window.end,
                       "drain_s": window.drain_s, "reason": window.reason, "rule": window.rule})
    _write(state_dir, f"{window.id}.json", text)
    with contextlib.suppress(OSError):
        (state_dir / FOLDER / f"{window.id}.cancelled").unlink(missing_ok=True)


def cancel(state_dir: Path, id: str) -> None:
    """Take an added window away, or write down that one from elsewhere does not hold.

    Raises:
        GatewayError: ``id`` is none, or the disk refuses.
    """
    if not _ID.fullmatch(id):
        raise GatewayError("no window has such an id")
    path = state_dir / FOLDER / f"{id}.json"
    try:
        if path.exists():
            path.unlink()
            return
    except OSError as error:
        raise GatewayError(f"cannot write {path}: {error.strerror}") from None
    _write(state_dir, f"{id}.cancelled", "")


def _write(state_dir: Path, name: str, text: str) -> None:
    """Replace one file as a whole and sync it; root gives it to whom the state belongs to."""
    folder = state_dir / FOLDER
    try:
        owner = state_dir.stat()
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, owner.st_uid, owner.st_gid)
        whole_file.replace(folder / name, text, like=state_dir)
    except OSError as error:
        raise GatewayError(f"cannot write {folder / name}: {error.strerror}") from None
