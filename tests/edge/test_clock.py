"""The clock against the real kernel."""

import asyncio

import pytest

from gateway.edge import clock
from gateway.edge.clock import SystemClock, kernel_is_synchronised


async def test_monotonic_time_is_the_loops_own_and_sleep_takes_its_time() -> None:
    ours = SystemClock()
    before = ours.now()
    assert abs(before - asyncio.get_running_loop().time()) < 1.0
    await ours.sleep(0.02)
    assert ours.now() - before >= 0.02


async def test_it_rings_once_in_time_unless_it_is_called_off() -> None:
    ours, rung = SystemClock(), asyncio.Event()
    call_off = ours.ring(0.01, lambda: pytest.fail("it was called off"))
    ours.ring(0.02, rung.set)
    before = ours.now()
    call_off()
    await asyncio.wait_for(rung.wait(), 5.0)
    assert ours.now() - before >= 0.018  # uvloop counts in whole milliseconds


def test_wall_time_is_a_date_of_this_century() -> None:
    assert SystemClock().wall() > 1_750_000_000


def test_a_clock_that_is_always_trusted_asks_nobody() -> None:
    assert SystemClock("always").wall_is_trusted() is True


def test_the_kernels_word_is_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SystemClock("kernel").wall_is_trusted() is kernel_is_synchronised()
    monkeypatch.setattr(clock, "kernel_is_synchronised", lambda: False)
    assert SystemClock("kernel").wall_is_trusted() is False
