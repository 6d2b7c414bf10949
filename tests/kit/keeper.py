"""A program to be killed: keeps copies and events as fast as asked, and says what is committed.

``python -m tests.kit.keeper FOLDER FIRST PER_SECOND`` writes to its output one line each:
``k N``: N copies are committed (as ``/status`` would count them); ``d N``: the drop of copy N
returned; ``o BOX SEQ``: an event got its number. The copies are ``a_copy(FIRST)`` and on.
"""

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from gateway.core.keeping import Drop, Keep
from gateway.core.telemetry import Event
from gateway.edge.clock import SystemClock
from gateway.edge.outbox_store import OutboxStore
from gateway.edge.record_store import RecordStore
from gateway.edge.vault import Vault, records_path
from tests.kit.copies import a_keep, a_key, searchset_of

ODS = "B81001"


def a_copy(number: int, fetched: float) -> Keep:
    """Return copy ``number``: its key and bytes follow from the number alone."""
    rng = random.Random(number)
    return a_keep(a_key(str(number), "slots"), body=searchset_of(rng.choice(
        (400, 2_000, 30_000)), rng), fetched=fetched, subjects=(f"Patient/{number % 50}",))


def say(line: str) -> None:
    """Write ``line`` in one piece, so that a kill leaves whole lines only."""
    os.write(1, line.encode() + b"\n")


async def main(folder: Path, first: int, per_second: float) -> None:
    """Keep until killed."""
    clock = SystemClock("always")
    vault = Vault.open(folder)
    store = await RecordStore.open(records_path(folder, ODS), vault.safe(ODS), clock)
    outbox = await OutboxStore.open(folder / "outbox.db", vault.boot, vault.next_box, clock)
    number = first
    told = 0
    while True:
        if store.keep(a_copy(number, time.time())):
            number += 1
        if number % 10 == 0:
            row = await outbox.append(
                Event("b", "link", clock.wall(), clock.now(), (("n", number),)))
            if row is not None:
                say(f"o {row.box} {row.seq}")
        if number % 25 == 0:
            old = number - 20
            await store.drop(Drop("gpc", clock.wall(), key=a_key(str(old), "slots")))
            say(f"d {old}")
        if store.figures.kept != told:
            told = store.figures.kept
            say(f"k {told}")
        await asyncio.sleep(1 / per_second)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
