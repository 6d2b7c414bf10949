"""Modes: one per tenant and upstream, each with one meaning."""

import pytest

from gateway.core.mode import mode_of
from gateway.core.route import Mode


@pytest.mark.parametrize(("belongs_on", "down", "isolated", "mode"), [
    ("fibre", False, False, "NORMAL"),
    ("sim", False, False, "BACKUP"),
    ("fibre", True, False, "DEGRADED"),
    ("sim", True, False, "DEGRADED"),
    ("", False, False, "STANDALONE"),
    ("", True, False, "STANDALONE"),
    ("fibre", True, True, "ISOLATED"),
    ("", False, True, "ISOLATED"),
])
def test_the_mode_follows_path_upstream_and_order(
        belongs_on: str, down: bool, isolated: bool, mode: Mode) -> None:
    assert mode_of(belongs_on, "fibre", down, isolated) == mode
