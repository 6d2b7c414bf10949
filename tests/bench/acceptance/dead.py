"""Rows in which nothing answers: both links dead, and a blackhole in the middle of writes."""

from collections.abc import Iterable
from typing import Final

from chaos.weather import Cut
from tests.bench.acceptance.table import Line, Options, Row, at_most, least, none_failed
from tests.bench.acceptance.taken import Taken, death, take, tell_slowest
from tests.bench.rig.figures import quantile
from tests.bench.rig.ours import GAPS, Setting
from tests.bench.rig.records import Record
from tests.bench.rig.runs import Fault

BOTH: Final = "both-dead"
WRITES: Final = "writes"
EARLY_S: Final = 0.3
UNKNOWN_S: Final = 3.0


async def both(options: Options) -> list[Line]:
    """Copies and refusals with no link left, learned and fresh; then the first live answer."""
    fault = Fault(BOTH, (Cut("fibre"), Cut("sim")), lasts_s=8.0)
    taken = await take(options, options.home / "set", fault, options.onsets,
                       Setting(keep=True), ("seen", "search"))
    tell_slowest(options, taken.records, taken.onsets)
    lines = [_none_failed(taken), *_copies(taken), *_refusals(taken, 1500), _back(taken)]
    fresh = await take(options, options.home / "fresh", fault, max(2, options.onsets // 2),
                       Setting(None, keep=True), ("seen", "search"), requests=0)
    return [*lines, _standalone(fresh, "STANDALONE p99, fresh", 2200)]


def _none_failed(taken: Taken) -> Line:
    failed = sum(one.kind == "failed" for one in taken.records)
    seen_refused = sum(one.kind == "refused" for one in taken.of("seen"))
    return none_failed(BOTH, failed + seen_refused, len(taken.records))


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
    """When STANDALONE came after each onset, in seconds: when the second link was judged dead."""
    found = []
    for began in taken.onsets.began:
        both = [death(taken.watch, began, link) for link in ("fibre", "sim")]
        found.append(max(10.0 if each is None else each for each in both))
    return found


def _standalone(taken: Taken, must: str, limit_ms: float) -> Line:
    return least(BOTH, must, quantile((each * 1000 for each in _told(taken)), 0.99), limit_ms)


def _refusals(taken: Taken, limit_ms: float) -> list[Line]:
    asked, late, later = taken.of("search"), list[float](), list[float]()
    for began, healed, after in zip(taken.onsets.began, taken.onsets.healed, _told(taken),
                                    strict=True):
        known = began + after
        late += [(one.answered - known) * 1000 for one in asked if began <= one.due < known]
        later += [one.took_s * 1000 for one in asked if known <= one.due < healed]
    return [_standalone(taken, "STANDALONE p99, m and R set", limit_ms),
            at_most(BOTH, "refusals told after STANDALONE", round(max(late, default=1e4)), 50,
                    "ms"),
            least(BOTH, "refusals later: p99", quantile(later, 0.99) if later else 1e4, 20)]


def _back(taken: Taken) -> Line:
    waited = [min((one.answered for one in taken.records
                   if one.kind == "live" and one.answered > healed), default=healed + 99) - healed
              for healed in taken.onsets.healed]
    return least(BOTH, "live again after the heal", max(waited) * 1000, 300)


async def writes(options: Options) -> list[Line]:
    """Writes of 0 to 60 kB all the time, so that a cut falls on any byte of some."""
    taken = await take(options, options.home, Fault(WRITES, (Cut("fibre"),)), options.onsets,
                       Setting(GAPS), ("write",))
    tell_slowest(options, taken.records, taken.onsets)
    doubled = taken.ledger["duplicates"]
    unknown = [one for one in taken.records if one.kind == "unknown"]
    waits = [one.answered - max(one.due, *(each for each in taken.onsets.began
                                           if each <= one.answered)) for one in unknown]
    failed = sum(one.kind == "failed" for one in taken.records)
    told_live = {one.number for one in taken.records if one.kind == "live"}
    lost = max(0, len(told_live) - taken.ledger["writes"])
    return [at_most(WRITES, "written twice", len(doubled), 0),
            at_most(WRITES, "told as done and not there", lost, 0),
            none_failed(WRITES, failed, len(taken.records), options.requests),
            Line(WRITES, "outcomes not known, told as such", f"{len(unknown)}", bool(unknown)),
            least(WRITES, "each unknown told", max(waits, default=0.0), UNKNOWN_S, "s")]


ROWS: Final[dict[str, Row]] = {BOTH: both, WRITES: writes}
