"""Rows from disk to the console through a broker that freezes: none lost, none doubled by number.

Real mosquitto, real ``outbox.db``, the real reporting loop.
"""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.core.telemetry import StoreTold, event
from gateway.edge.clock import SystemClock
from gateway.edge.outbox_store import OutboxStore
from tests.edge.test_mqtt_presence import Practice, practice, until

EVENTS: Final = 300
CLOCK: Final = SystemClock()


async def tell(gateway: Practice, count: int) -> float:
    """Tell ``count`` events, a hundred a second; return the longest that one call took."""
    slowest = 0.0
    for _ in range(count):
        began = CLOCK.now()
        gateway.report.tell(event(StoreTold("records", "full"), CLOCK.wall(), CLOCK.now()))
        slowest = max(slowest, CLOCK.now() - began)
        await asyncio.sleep(0.01)
    return slowest


async def stalls(until_done: asyncio.Event) -> float:
    """The longest that the event loop stood still meanwhile, in seconds."""
    worst = 0.0
    while not until_done.is_set():
        began = CLOCK.now()
        await asyncio.sleep(0.01)
        worst = max(worst, CLOCK.now() - began - 0.01)
    return worst


def memory_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def through(folder: Path, trouble: Callable[[Practice], None],
                  relief: Callable[[Practice], None]) -> tuple[float, int]:
    """Tell events before, during and after ``trouble``; check that each row arrives once.

    Returns the loop's longest stall and the growth of memory during the trouble, in KiB.
    """
    store = await OutboxStore.open(folder / "outbox.db", 1, lambda: 2, CLOCK)
    try:
        async with practice(folder, store, ack_s=0.5, connect_s=0.5) as (gateway, watcher):
            await tell(gateway, 20)
            await until(lambda: len(watcher.rows) >= 20, 10)
            done = asyncio.Event()
            before = memory_kib()
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(stalls(done))
                trouble(gateway)
                await tell(gateway, EVENTS)
                assert store.figures.rows >= EVENTS - 40  # they wait on disk, not in memory
                assert gateway.report.view().waiting < 20
                grown = memory_kib() - before
                relief(gateway)
                done.set()
            await tell(gateway, 20)
            await until(lambda: store.figures.rows == 0, 90)
            await until(lambda: len({seq for seq, _ in watcher.rows}) == EVENTS + 40, 10)

            assert {seq for seq, _ in watcher.rows} == set(range(1, EVENTS + 41))
            assert len(set(watcher.rows)) == EVENTS + 40, "one number, two contents"
            assert gateway.report.view().dropped == 0
            assert gateway.report.view().restarts == 0
            return watching.result(), grown
    finally:
        await store.close()


async def test_a_frozen_broker_costs_neither_rows_nor_memory_nor_a_stall(tmp_path: Path) -> None:
    stall_s, grown_kib = await through(
        tmp_path, lambda gateway: gateway.broker.freeze(), lambda gateway: gateway.broker.thaw())

    assert stall_s < 0.25  # the dial alone has 0.5 s, the acknowledgement 0.5: none is waited for
    assert grown_kib < 8192


async def test_a_black_holed_broker_costs_neither_rows_nor_memory_nor_a_stall(
        tmp_path: Path) -> None:
    def cut(gateway: Practice) -> None:
        for relay in gateway.relays.values():
            relay.cut()

    def heal(gateway: Practice) -> None:
        for relay in gateway.relays.values():
            relay.heal()

    stall_s, grown_kib = await through(tmp_path, cut, heal)

    assert stall_s < 0.25
    assert grown_kib < 8192
