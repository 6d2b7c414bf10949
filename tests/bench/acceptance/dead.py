"""Rows in which nothing answers: both links dead, and a blackhole in the middle of writes.

A heal counts from before its first verb, of which each link needs several: the strict reading.
On wires without delay 60 kB are gone in a millisecond, so a cut hardly ever falls within a body;
half of the writes go over the 10/30 ms relay, where a body takes some round trips.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from chaos.weather import Cut
from tests.bench.acceptance.table import Line, Options, Row, at_most, least, none_failed
from tests.bench.acceptance.taken import Taken, struck, take, tell_slowest
from tests.bench.rig.figures import quantile
from tests.bench.rig.load import write_id
from tests.bench.rig.ours import GAPS, Setting
from tests.bench.rig.records import Record
from tests.bench.rig.runs import Fault

BOTH: Final = "both-dead"
WRITES: Final = "writes"
EARLY_S: Final = 0.3
BACK_S: Final = 0.3
UNKNOWN_S: Final = 3.0


async def both(options: Options) -> list[Line]:
    """Copies and refusals with no link left, learned and fresh; then the first live answer."""
    fault = Fault(BOTH, (Cut("fibre"), Cut("sim")), lasts_s=8.0)
    lines: list[Line] = []
    for words, gaps, limit_ms in (("m and R set", GAPS, 1500), ("fresh", None, 2200)):
        taken = await take(options, options.home / words.split()[-1], fault, options.onsets,
                           Setting(gaps, keep=True), ("seen", "search"))
        tell_slowest(options, taken.records, taken.onsets)
        options.say(f"  {words}:")
        lines += [struck(BOTH, options, taken), _none_failed(taken, options.requests),
                  *_copies(taken), *_refusals(taken, words, limit_ms), _back(taken)]
    return lines


def _none_failed(taken: Taken, wanted: int) -> Line:
    """In the dark a copy is an answer to what was seen, and a refusal to what was not; all that was
    answered before it, or was sent when a link lived again, must be live."""
    dark = list(zip(taken.onsets.began, taken.onsets.healing, strict=True))
    failed = sum(one.kind != "live" and not (
        one.kind == ("copy" if one.stream == "seen" else "refused")
        and any(began <= one.answered and one.due < healing + BACK_S for began, healing in dark))
        for one in taken.records)
    return none_failed(BOTH, failed, len(taken.records), wanted)


def _during(taken: Taken, records: Iterable[Record], early: bool) -> list[float]:
    """Milliseconds that those took which were sent in the dark: in its first 300 ms, or later."""
    found = []
    for began, healed in zip(taken.onsets.began, taken.onsets.healed, strict=True):
        since, until = (began, began + EARLY_S) if early else (began + EARLY_S, healed)
        found += [one.took_s * 1000 for one in records if since <= one.due < until]
    return found


def _copies(taken: Taken) -> list[Line]:
    seen = taken.of("seen")
    early, later = _during(taken, seen, True), _during(taken, seen, False)
    return [least(BOTH, "copies sent in the first 300 ms: max", max(early), 300),
            least(BOTH, "copies later: p99", quantile(later, 0.99), 20),
            least(BOTH, "copies later: max", max(later), 150)]


def _told(taken: Taken) -> list[float]:
    """When STANDALONE came after each onset, in seconds; one that never came is ten."""
    found = (taken.watch.became("STANDALONE", began) for began in taken.onsets.began)
    return [10.0 if each is None else min(each, 10.0) for each in found]


def _refusals(taken: Taken, words: str, limit_ms: float) -> list[Line]:
    asked, late, later = taken.of("search"), list[float](), list[float]()
    for began, healed, after in zip(taken.onsets.began, taken.onsets.healed, _told(taken),
                                    strict=True):
        known = began + after
        late += [(one.answered - known) * 1000 for one in asked if began <= one.due < known]
        later += [one.took_s * 1000 for one in asked if known <= one.due < healed]
    return [least(BOTH, f"STANDALONE p99, {words}",
                  quantile((each * 1000 for each in _told(taken)), 0.99), limit_ms),
            at_most(BOTH, "refusals told after STANDALONE", round(max(late, default=1e4)), 50,
                    "ms"),
            least(BOTH, "refusals later: p99", quantile(later, 0.99) if later else 1e4, 20)]


def _back(taken: Taken) -> Line:
    """The first live answer after each heal began, and the last request that got none."""
    waited = []
    for healing, until in zip(taken.onsets.healing, (*taken.onsets.began[1:], float("inf")),
                              strict=True):
        live = min((one.answered for one in taken.records
                    if one.kind == "live" and one.answered > healing), default=healing + 99)
        last = max((one.due for one in taken.records
                    if one.kind != "live" and healing <= one.answered < until), default=healing)
        waited.append(max(live, last) - healing)
    return least(BOTH, "live again after the heal, and all that is sent",
                 max(waited) * 1000, BACK_S * 1000)


async def writes(options: Options) -> list[Line]:
    """Writes of 0 to 60 kB all the time, so that a cut falls on any byte of some."""
    fault, taken = Fault(WRITES, (Cut("fibre"),)), []
    for name, delay, count in (("near", options.delay, options.onsets - options.onsets // 2),
                               ("far", True, options.onsets // 2)):
        taken.append(await take(replace(options, delay=delay), options.home / name, fault,
                                max(1, count), Setting(GAPS), ("write",), options.requests // 2))
        tell_slowest(options, taken[-1].records, taken[-1].onsets)
    unknown = [(one, each.onsets) for each in taken for one in each.records
               if one.kind == "unknown"]
    waits = [one.answered - max(one.due, *(each for each in onsets.began if each <= one.answered))
             for one, onsets in unknown]
    within = sum(each.ledger["cut"] for each in taken)
    return [struck(WRITES, options, *taken),
            at_most(WRITES, "written twice",
                    sum(len(each.ledger["duplicates"]) for each in taken), 0),
            at_most(WRITES, "told as done and not there", sum(map(_lost, taken)), 0),
            none_failed(WRITES, sum(one.kind not in ("live", "unknown") for each in taken
                                    for one in each.records),
                        sum(len(each.records) for each in taken), options.requests),
            Line(WRITES, "cut in the middle of a body", f"{within}", within > 0),
            Line(WRITES, "outcomes not known, told as such", f"{len(unknown)}", bool(unknown)),
            least(WRITES, "each unknown told", max(waits, default=0.0), UNKNOWN_S, "s")]


def _lost(taken: Taken) -> int:
    """Writes told as done before the ledger was asked, whose whole body was not in it."""
    there, asked = set(taken.ledger["whole"]), taken.ledger["at"]
    return sum(one.kind == "live" and one.answered < asked
               and write_id(one.stream, one.number) not in there for one in taken.records)


ROWS: Final[dict[str, Row]] = {BOTH: both, WRITES: writes}
