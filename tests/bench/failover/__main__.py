"""Ours beside nginx, HAProxy and Envoy, in one run on the rig: ``python -m tests.bench.failover``.

Prints a table for each fault and leaves text, figures and a picture in ``bench-report/``. The
order wants ``--onsets 10`` or more; the default is to look at. With ``--delay`` A is 10 ms away and
B 30 ms, each way, and the files are ``failover-delay.*``. A party whose program is not here is
left out, and said so.
"""

import argparse
import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from chaos.rig.namespaces import why_not
from tests.bench.failover.cases import CASES, OURS, PARTIES, sat
from tests.bench.failover.peers import PEERS, version
from tests.bench.failover.report import FAIR, Compared
from tests.kit.gateway import ROOT

REPORT: Final = ROOT / "bench-report"


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code: 0 if everybody asked for was measured."""
    given = _given(argv)
    if why_not():
        print(f"NOT MEASURED: {why_not()}")
        return 1
    here = [party for party in given.parties if party == OURS or not PEERS[party].why_not()]
    for party in given.parties:
        if party not in here:
            print(f"NOT MEASURED: {PEERS[party].why_not()}")
    if not here:
        return 1
    with TemporaryDirectory() as scratch:
        asyncio.run(_compare(given, here, given.home or Path(scratch)))
    return 0 if here == given.parties else 1


def _given(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.failover", description=__doc__)
    parser.add_argument("--onsets", type=int, default=3, help="per fault")
    parser.add_argument("--faults", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--parties", nargs="+", default=list(PARTIES), choices=PARTIES)
    parser.add_argument("--delay", action="store_true", help="A 10 ms away, B 30 ms, each way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=REPORT, help="folder of the three files")
    parser.add_argument("--home", type=Path, help="keep records, logs and configurations here")
    given = parser.parse_args(argv)
    if not 1 <= given.onsets <= 1000:
        parser.error(f"--onsets {given.onsets}: must be 1 to 1000")
    given.parties = [party for party in PARTIES if party in given.parties]
    return given


async def _compare(given: argparse.Namespace, parties: list[str], home: Path) -> None:
    compared = Compared(parties)
    versions = {party: await version(PEERS[party], home) for party in parties if party != OURS}
    said = ", ".join(f"{party} {versions.get(party, '')}".strip() for party in parties)
    compared.heads = [f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, seed "
                      f"{given.seed}, {given.onsets} onsets a fault"
                      f"{', A 10 ms and B 30 ms away' if given.delay else ''}: {said}"]
    print("\n".join((*compared.heads, *FAIR)), flush=True)
    for name in given.faults:
        began = time.monotonic()
        # Each fault has its own dice, so that leaving one out moves no onset of the others.
        dice = Random(f"{given.seed} {name}")
        sittings = await sat(CASES[name], parties, given.onsets, home / name, dice, _say,
                             given.delay)
        print("\n".join(compared.add(CASES[name], sittings)), flush=True)
        _say(f"{name}: {time.monotonic() - began:.0f} s")
        written = compared.write(given.report, "failover-delay" if given.delay else "failover", {
            "measured": datetime.now(UTC).isoformat(), "cores": os.cpu_count(),
            "seed": given.seed, "onsets": given.onsets, "versions": versions})
    print("\nwritten: " + ", ".join(str(each) for each in written))


def _say(words: str) -> None:
    print(f"# {words}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
