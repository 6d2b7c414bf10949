"""The bench's relay gives both wires their distance, and passes everything on whole."""

import asyncio
import time
from pathlib import Path

import pytest

from chaos.rig.namespaces import why_not
from chaos.weather import Cut, Heal
from tests.bench.rig.delay import HOLDS_S
from tests.bench.rig.place import DELAY_S, OVER, PORT, place
from tests.bench.rig.wire import Answer, Pool

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"RELAY NOT TESTED: {why_not()}")


async def asked(pool: Pool, size: int) -> tuple[Answer, float]:
    async with asyncio.timeout(5.0):
        connection = await pool.take()
        began = time.monotonic()
        answer = await connection.ask(
            f"GET /Slot?_id=s{size}-one HTTP/1.1\r\nHost: origin\r\n\r\n".encode())
        took = time.monotonic() - began
    pool.give(connection)
    return answer, took


async def test_each_wire_has_its_distance_and_a_cut_is_still_a_cut(tmp_path: Path) -> None:
    async with place(tmp_path, far=True) as where:
        for wire, hold_s in HOLDS_S.items():
            pool = Pool(OVER[wire], PORT)
            await asked(pool, 2000)
            for size in (2000, 30_000):  # the second needs more segments than a first window
                took = []
                for _ in range(10):
                    answer, each = await asked(pool, size)
                    assert answer.status == 200
                    assert len(answer.body) == size
                    took.append(each - DELAY_S)
                assert min(took) >= 2 * hold_s - 0.001  # it wakes by the millisecond
                rounds = 1 if size == 2000 else 2
                # More is retransmission: an offload left on, whose large frames nothing carries.
                assert sorted(took)[5] < rounds * 2 * hold_s + 0.05, took
        pool = Pool(OVER["a"], PORT)
        await asked(pool, 2000)
        await where.rig.apply(Cut("fibre"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asked(pool, 2000), 0.5)
        await where.rig.apply(Heal("fibre"))
        answer, _ = await asked(pool, 2000)
        assert answer.status == 200
