"""Rows of single faults of the primary: loss, flapping, reset, loss of carrier."""

from dataclasses import replace
from typing import Final

from chaos.weather import Flap, Lose, Reset, Unplug, Verb
from tests.bench.acceptance.table import Line, Options, Row, least, none_failed
from tests.bench.acceptance.taken import Taken, death, struck, take, tell_slowest
from tests.bench.rig.figures import Figures, measure, moved_after, share_by
from tests.bench.rig.load import Asking
from tests.bench.rig.ours import Setting
from tests.bench.rig.runs import Fault

LOSS_S: Final = 12.0
FLAP_S: Final = 20.0
NEVER_S: Final = 99.0
LEFT_S: Final = 5.0
STAYED: Final = 0.05  # of what is asked after a class has left: its canaries' share and no more


async def _under(row: str, options: Options, verb: Verb, asking: Asking = "search",
                 lasts_s: float | None = None) -> tuple[Taken, Figures]:
    fault = Fault(row, (verb,)) if lasts_s is None else Fault(row, (verb,), lasts_s)
    taken = await take(options, options.home, fault, options.onsets, asking=(asking,))
    tell_slowest(options, taken.records, taken.onsets)
    return taken, measure(taken.records, taken.onsets.began)


def _loss(row: str, asking: Asking) -> Row:
    async def run(options: Options) -> list[Line]:
        taken, found = await _under(row, options, Lose("fibre", 0.2), asking, LOSS_S)
        left = [moved_after((one for one in taken.records if began <= one.due <= began + LOSS_S),
                            began, "b") for began in taken.onsets.began]
        worst = max(NEVER_S if each is None else each for each in left)
        stayed = max(share_by(taken.records, "a", began + LEFT_S, began + LOSS_S)
                     for began in taken.onsets.began)
        return [struck(row, options, taken),
                none_failed(row, found.failed, found.requests, options.requests),
                least(row, "p99", found.p99_ms, 170), least(row, "max", found.max_ms, 1000),
                least(row, "class left the lossy link after", worst, LEFT_S, "s"),
                least(row, "of one loss, by that link from then on", stayed, STAYED, "of all")]
    return run


def _flapping(row: str) -> Row:
    async def run(options: Options) -> list[Line]:
        """Each run on a fresh device, nothing shortened: the first cut decides where it stays."""
        records, onsets, runs = [], [], []
        for number in range(max(1, options.runs)):
            taken = await take(options, options.home / str(number),
                               Fault(row, (Flap("fibre", 2.0, 2.0),), FLAP_S), 1,
                               Setting(damped=True), requests=0)
            runs.append(taken)
            records += taken.records
            onsets += [taken.onsets.began[0] + 4.0 * n for n in range(int(FLAP_S / 4.0))]
            tell_slowest(options, taken.records, taken.onsets)
        found = measure(records, onsets)
        died = sum(death(each.watch, each.onsets.began[0]) is not None for each in runs)
        return [struck(row, replace(options, onsets=options.runs), *runs),
                Line(row, f"runs of {len(runs)} with a death of the link", f"{died}",
                     died == len(runs)),
                none_failed(row, found.failed, found.requests, options.requests),
                least(row, "p99", found.p99_ms, 140)]
    return run


def _sudden(row: str, verb: Verb, moves: bool) -> Row:
    async def run(options: Options) -> list[Line]:
        taken, found = await _under(row, options, verb)
        lines = [struck(row, options, taken),
                 none_failed(row, found.failed, found.requests, options.requests),
                 least(row, "p99", found.p99_ms, 40)]
        if moves:
            took = [death(taken.watch, began) for began in taken.onsets.began]
        else:
            took = [moved_after(taken.records, began, "b") for began in taken.onsets.began]
        worst = max(NEVER_S if each is None else each for each in took)
        return [*lines, least(row, "link left" if moves else "last answer by the primary after",
                              worst * 1000, 50)]
    return run


ROWS: Final[dict[str, Row]] = {
    "loss-2k": _loss("loss-2k", "search"),
    "loss-30k": _loss("loss-30k", "read"),
    "flapping": _flapping("flapping"),
    "reset": _sudden("reset", Reset("fibre"), moves=False),
    "carrier": _sudden("carrier", Unplug("fibre"), moves=True),
}
