"""Windows in local time: summer, winter, and the two nights when the clocks change."""

from datetime import UTC, datetime
from typing import Literal

import pytest

from gateway.config.times import to_wall


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("local", "which", "told"), [
    ("2026-11-26T02:00", "start", "2026-11-26T02:00"),  # winter: GMT
    ("2026-07-01T02:00", "start", "2026-07-01T01:00"),  # summer: BST
    ("2026-10-25T01:30", "start", "2026-10-25T00:30"),  # twice: the first
    ("2026-10-25T01:30", "end", "2026-10-25T01:30"),  # twice: the second
    ("2026-10-25T02:00", "end", "2026-10-25T02:00"),
    ("2026-03-29T00:59", "end", "2026-03-29T00:59"),
    ("2026-03-29T02:00", "end", "2026-03-29T01:00"),
    ("2026-07-01T02:00Z", "start", "2026-07-01T02:00"),
    ("2026-07-01T02:00:05+01:00", "start", "2026-07-01T01:00:05"),
])
def test_a_local_time_is_one_instant(local: str, which: Literal["start", "end"],
                                     told: str) -> None:
    assert to_wall(local, which) == utc(told)


@pytest.mark.parametrize("which", ["start", "end"])
@pytest.mark.parametrize("local", ["2026-03-29T01:00", "2026-03-29T01:59:59"])
def test_the_hour_that_the_clocks_skip_is_refused(local: str,
                                                  which: Literal["start", "end"]) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        to_wall(local, which)


def test_a_window_across_the_doubled_hour_is_never_shorter_than_meant() -> None:
    assert to_wall("2026-10-25T01:30", "end") - to_wall("2026-10-25T01:00", "start") == 5400


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-02-30T00:00", "25:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time such as"):
        to_wall(text, "start")
