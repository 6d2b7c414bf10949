"""Orders for a drill and what came of them: two small files under ``state_dir/drill``.

As with windows by hand, who may write into the state directory (0700) may give the order, and
nobody else on this machine. The daemon takes the order away when it begins, so that a restart does
not drill again; reports are kept, the newest ``KEPT`` of them, each signed over its very text by
the device's key where there is one (HMAC-SHA256, in hex).
"""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from gateway.core.drill import SECONDS_MOST, WAIT_MOST, Order, Report
from gateway.core.instant import Wall
from gateway.core.marking import stamp
from gateway.edge import whole_file
from gateway.errors import GatewayError

FOLDER: Final = "drill"
ORDER: Final = "order.json"
BYTES_MAX: Final = 4096
REPORT_BYTES_MAX: Final = 65_536
KEPT: Final = 50
_ID: Final = re.compile(r"[0-9a-f]{16}")


def give(state_dir: Path, seconds: float, wait_s: float) -> str:
    """Write an order down and return its id.

    Raises:
        GatewayError: another one waits, a figure is out of range, or the disk refuses.
    """
    if not 0 < seconds <= SECONDS_MOST or not 0 <= wait_s <= WAIT_MOST:
        raise GatewayError(f"a drill lasts up to {SECONDS_MOST:.0f} s and waits up to "
                           f"{WAIT_MOST:.0f} s")
    name = secrets.token_hex(8)
    folder = state_dir / FOLDER
    try:
        owner = state_dir.stat()
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / ORDER
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"id": name, "seconds": seconds, "wait_s": wait_s}, file)
        if os.geteuid() == 0:
            for each in (folder, path):
                os.chown(each, owner.st_uid, owner.st_gid)
    except FileExistsError:
        raise GatewayError(f"an order waits already: {folder / ORDER}; is the gateway running?"
                           ) from None
    except OSError as error:
        raise GatewayError(f"cannot write {folder / ORDER}: {error.strerror}") from None
    return name


def withdraw(state_dir: Path, name: str) -> bool:
    """Take the order ``name`` back if nobody has begun it; tell whether it was there."""
    path = state_dir / FOLDER / ORDER
    try:
        with path.open("rb") as file:
            if json.loads(file.read(BYTES_MAX))["id"] != name:
                return False
        path.unlink()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return True


def take(state_dir: Path) -> Order | None:
    """Return the order that waits and remove it; one that cannot be read is removed as well."""
    path = state_dir / FOLDER / ORDER
    try:
        with path.open("rb") as file:
            raw = file.read(BYTES_MAX)
        path.unlink()
        told = json.loads(raw)
        order = Order(str(told["id"]), float(told["seconds"]), float(told["wait_s"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    good = _ID.fullmatch(order.id) and 0 < order.seconds <= SECONDS_MOST and (
        0 <= order.wait_s <= WAIT_MOST)
    return order if good else None


def keep(state_dir: Path, report: Report, wall: Wall,
         sign: Callable[[bytes], str] | None = None) -> None:
    """Write a report down, the newest state of its drill; a full disk costs the record only."""
    body = {**asdict(report), "at": stamp(wall), "good": report.is_good, "over": report.is_over,
            "promises": {str(number): held for number, held in report.promises},
            "modes": [dict(zip(("upstream", "mode"), each, strict=True))
                      for each in report.modes]}
    text = json.dumps(body, sort_keys=True)
    whole = json.dumps({"report": text, "signature": sign(text.encode()) if sign else ""})
    folder = state_dir / FOLDER
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        whole_file.replace(folder / f"{report.id}.report.json", whole)
        old = sorted(folder.glob("*.report.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in old[:-KEPT]:
            path.unlink()


def read(state_dir: Path, name: str) -> dict[str, Any] | None:
    """Return the report of the drill ``name`` with its ``signature``, None while there is none."""
    try:
        with (state_dir / FOLDER / f"{name}.report.json").open("rb") as file:
            whole = json.loads(file.read(REPORT_BYTES_MAX))
        return {**json.loads(whole["report"]), "signature": str(whole["signature"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
