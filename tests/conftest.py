"""What all tests share: the ``full`` marker, and a count of what was skipped.

``FULL=1`` in the environment runs every test with its full counts; without it those marked
``full`` are deselected (not skipped: a skip means that this machine lacks something).
"""

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked ``full`` unless ``FULL=1``."""
    if os.environ.get("FULL") == "1":
        return
    held_back = [item for item in items if item.get_closest_marker("full")]
    if held_back:
        config.hook.pytest_deselected(items=held_back)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped: 0 on a machine with root, apt, Go and node."""
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_line(f"skipped tests: {len(skipped)}")
