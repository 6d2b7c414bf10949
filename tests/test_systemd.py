"""The service unit, as systemd itself reads it."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.config.tables import Gateway

UNIT = Path(__file__).resolve().parent.parent / "config" / "systemd" / "practice-gateway.service"


def service() -> dict[str, str]:
    """The [Service] section; of a key that stands twice the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return dict(parser["Service"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    good = subprocess.run(["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True,
                          check=False)
    assert (good.returncode, good.stderr) == (0, "")
    bad = tmp_path / "bad.service"
    bad.write_text(UNIT.read_text().replace("WatchdogSec=", "WatchDogSeconds="))
    told = subprocess.run(["systemd-analyze", "verify", str(bad)], capture_output=True, text=True,
                          check=False)
    assert "WatchDogSeconds" in told.stderr


def test_the_unit_waits_longer_than_a_drain_and_restarts_on_all_but_a_wrong_config() -> None:
    told = service()
    assert int(told["TimeoutStopSec"]) > Gateway(name="x").drain_s
    assert (told["Type"], told["Restart"], told["RestartPreventExitStatus"]) == (
        "notify", "always", "2")


@pytest.mark.parametrize(("key", "value"), [
    ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("CapabilityBoundingSet", ""),
    ("DynamicUser", "yes"), ("LimitCORE", "0"), ("UMask", "0077")])
def test_the_unit_is_hardened(key: str, value: str) -> None:
    assert service()[key] == value
