"""``python -m chaos``: play stories on a rig and write the report. See ``--help``.

Exit codes: 0 all promises held, 1 a story could not be told to its end, 2 bad usage, 3 a promise
is broken.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

from chaos.play import play
from chaos.report import Telling, write
from chaos.rig import namespaces, toxiproxy
from chaos.stories import STORIES
from chaos.world import RigName

RIGS: Final[tuple[RigName, ...]] = get_args(RigName)


def best_rig() -> RigName:
    """Return the rig nearest to a real network that this machine can carry."""
    return "relay" if namespaces.why_not() else "namespaces"


def why_not(rig: RigName) -> str:
    """Return why ``rig`` cannot be used here, or ``""``."""
    match rig:
        case "namespaces":
            return namespaces.why_not()
        case "toxiproxy":
            return toxiproxy.why_not()
        case _:
            return ""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(
        prog="python -m chaos", description="Play incidents against a running gateway; report "
        "what its promises were worth. Exit 3 if one is broken.")
    top.add_argument("--story", action="append", choices=sorted(STORIES), metavar="NAME",
                     help=f"one of {', '.join(STORIES)}; may be repeated (all)")
    top.add_argument("--rig", choices=RIGS, help="where the weather is made (namespaces where "
                     "the machine has root, else relay)")
    top.add_argument("--to", type=Path, default=Path("chaos-report"), metavar="DIR",
                     help="directory of the report (chaos-report)")
    return top


def cannot(names: Sequence[str], rig: RigName) -> list[str]:
    """Return in words which of the stories ``rig`` cannot tell, and which rig can."""
    return [f"{name}: {rig} cannot make its weather; {' or '.join(STORIES[name].rigs)} can"
            for name in names if rig not in STORIES[name].rigs]


async def tell_all(names: Sequence[str], rig: RigName) -> list[Telling]:
    """Play the stories, one after another, each in a world of its own."""
    tellings = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="pgw-chaos-") as home:
            telling = await play(STORIES[name], rig, Path(home))
        tellings.append(telling)
        _say(f"{name} on {rig}: {summary(telling)}")
    return tellings


def summary(telling: Telling) -> str:
    """Return one line: whole or not, how long, what was broken."""
    if telling.is_whole():
        return f"all held, {telling.told.seconds:.0f} s, {len(telling.told.marks)} requests"
    words = [f"promise {judged.promise}: {judged.words or 'never observed'}"
             for judged in telling.broken()]
    return " | ".join(["BROKEN", *words, *([telling.trouble] if telling.trouble else [])])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Play what was asked for; return the exit code."""
    asked = parser().parse_args(argv)
    rig: RigName = asked.rig or best_rig()
    refusal = why_not(rig)
    if refusal:
        sys.stderr.write(f"the {rig} rig cannot be used here: {refusal}\n")
        return 2
    missed = cannot(asked.story or list(STORIES), rig)
    if asked.story and missed:
        sys.stderr.write("\n".join(missed) + "\n")
        return 2
    for words in missed:
        _say(f"not told: {words}")
    names = asked.story or [name for name in STORIES if rig in STORIES[name].rigs]
    tellings = asyncio.run(tell_all(names, rig))
    code = write(tellings, asked.to, datetime.now(UTC))
    _say(f"report: {asked.to / 'index.html'}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
