"""Readiness runs on disk: the newest ``KEPT``, each signed over its very text by the device's key.

One file, replaced as a whole and synced: a restart at 06:31 must not run again, and who asks why
the surgery was not ready last Tuesday finds it here.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from gateway.core.instant import Wall
from gateway.core.readiness import Check, Found, Report
from gateway.edge import whole_file

FILE: Final = "readiness.json"
BYTES_MAX: Final = 16 << 20
KEPT: Final = 30
"""A month of mornings."""
CHECKS_MAX: Final = 4096


def keep(state_dir: Path, report: Report, sign: Callable[[bytes], str] | None = None) -> None:
    """Add ``report``; a full disk costs the record only."""
    text = json.dumps(asdict(report), sort_keys=True)
    whole = [*_read(state_dir), {"report": text, "signature": sign(text.encode()) if sign else ""}]
    with contextlib.suppress(OSError):
        whole_file.replace(state_dir / FILE, json.dumps(whole[-KEPT:]))


def last(state_dir: Path) -> Report | None:
    """Return the newest report that can be read, None without one."""
    for each in reversed(_read(state_dir)):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return _report(json.loads(each["report"]))
    return None


def _read(state_dir: Path) -> list[Any]:
    try:
        with (state_dir / FILE).open("rb") as file:
            told = json.loads(file.read(BYTES_MAX))
    except (OSError, ValueError):
        return []
    return told if isinstance(told, list) else []


def _report(told: dict[str, Any]) -> Report:
    checks = tuple(Check(**each) for each in told["checks"][:CHECKS_MAX])
    found = tuple(Found(**each) for each in told["found"][:CHECKS_MAX])
    return Report(str(told["day"]), told["cause"], Wall(float(told["at"])), float(told["took_s"]),
                  checks, found, bool(told["trusted"]))
