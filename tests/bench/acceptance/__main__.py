"""Measure rows of the acceptance for our gateway: ``python -m tests.bench.acceptance [row ...]``.

Prints ``row | must show | figure | met / NOT met``; exit 0 only if every demand asked for is met.
The counts are small unless told: ``--onsets 50 --runs 5 --requests 100000`` is the whole order.
``--again`` judges what the same rows left in ``--home`` and runs nothing: rows of single faults.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from chaos.rig.namespaces import why_not
from tests.bench.acceptance import blackhole, dead, failback, faults, lies, standby, upstream
from tests.bench.acceptance.table import Line, Options, Row

ROWS: Final[dict[str, Row]] = {
    blackhole.ROW: blackhole.run, **faults.ROWS, **dead.ROWS, **upstream.ROWS,
    **standby.ROWS, **lies.ROWS, **failback.ROWS,
}


def main(argv: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.acceptance", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; none: all")
    parser.add_argument("--onsets", type=int, default=3)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--requests", type=int, default=0, help="that '0 failed' must count")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slowest", type=int, default=5, help="requests to tell of, per row")
    parser.add_argument("--delay", action="store_true",
                        help="the primary 10 ms away, the backup 30 ms, each way")
    parser.add_argument("--again", action="store_true", help="judge what is in --home anew")
    parser.add_argument("--home", type=Path, help="keep records, logs and configurations here")
    given = parser.parse_args(argv)
    unknown = sorted(set(given.rows) - set(ROWS))
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")
    if given.again and not given.home:
        parser.error("--again needs the --home of the run that is judged anew")
    if why_not():
        print(f"NOT MEASURED: {why_not()}")
        return 1
    with TemporaryDirectory() as scratch:
        home = given.home or Path(scratch)
        lines = [line for name in given.rows or ROWS for line in _row(name, given, home / name)]
    return 0 if lines and all(line.met for line in lines) else 1


def _row(name: str, given: argparse.Namespace, home: Path) -> list[Line]:
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    options = Options(given.onsets, given.runs, given.requests, home, Random(given.seed),
                      delay=given.delay, again=given.again, slowest=given.slowest, say=_say)
    lines = asyncio.run(_measured(name, options))
    for line in lines:
        print(line)
    print(f"# {name}: {time.monotonic() - began:.0f} s, seed {given.seed}", flush=True)
    return lines


async def _measured(name: str, options: Options) -> list[Line]:
    return await ROWS[name](options)


def _say(words: str) -> None:
    print(f"# {words}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
