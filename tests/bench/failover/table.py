"""What the parties are judged by, pure: sittings in, scores, lines of text and JSON out.

Percentiles are over the requests sent from 1 s before to 5 s after an onset, those in flight
included, from the scheduled send time; a failed request counts with the time until it failed.
"failed" counts the whole of each sitting. Each onset gives its own figures, said as ``median
(least-most)``; ``all p99`` is over the windows of all onsets together. A party that was not on the
primary when it was struck was not tried by that onset, which is left out of its figures (never of
its failures). In the dark, where nobody can answer, a plain 5xx is a "no", and what counts is how
soon it is said and when it ends.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.bench.rig.figures import BEFORE_S, Figures, measure, near, quantile, spread
from tests.bench.rig.place import DELAY_S
from tests.bench.rig.records import Record

NEVER_S: Final = 99.0
EDGE_S: Final = 0.3  # what the verbs of a busy machine take to cut both links, and to heal them
SAYS_NO: Final = 500  # the least status that is a plain "no"
EARLY_S: Final = 0.3  # of a dark: the acceptance asks of copies sent earlier and later
LOOK_S: Final = 4.0  # after a heal, for those that go on refusing


@dataclass(frozen=True, slots=True)
class Sitting:
    """One load of all parties. ``began`` and ``healed`` are monotonic seconds, in pairs;
    ``strayed`` tells for each who was not on the primary then, so was not tried."""

    records: tuple[Record, ...]
    began: tuple[float, ...]
    healed: tuple[float, ...]
    strayed: tuple[frozenset[str], ...] = ()

    def tried(self, party: str) -> list[tuple[float, float, float]]:
        """Return the faults that tried ``party``: begun, healed, and when the next one began."""
        afters = (*self.began[1:], math.inf)
        strayed = self.strayed or (frozenset(),) * len(self.began)
        return [(began, healed, after) for began, healed, after, gone
                in zip(self.began, self.healed, afters, strayed, strict=True) if party not in gone]

    def of(self, party: str) -> list[Record]:
        """The records of one party."""
        return [one for one in self.records if one.stream == party]


@dataclass(frozen=True, slots=True)
class Dark:
    """One outage of everything: ``no`` are the ms until each "no" of those sent in the dark.

    ``silent`` counts those that got no answer of any kind; ``live_s`` and ``last_no_s`` are the
    first live answer and the last sending of what was refused, in seconds after the heal. Of those
    ``sent`` in the dark, ``early`` and ``later`` are the ms until something kept was given, before
    EARLY_S and after it; ``marked`` of them say that they are copies.
    """

    no: tuple[float, ...]
    silent: int
    live_s: float
    last_no_s: float
    sent: int = 0
    early: tuple[float, ...] = ()
    later: tuple[float, ...] = ()
    marked: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """One party under one fault: ``onsets`` has the figures of each, ``pooled`` is all together.

    ``stalls_ms`` (p50, p99, max) is of the ``stalled`` alone, which took more than twice the
    party's own median: the calm ones would hide how long those waited.
    """

    party: str
    requests: int
    failed: int
    onsets: tuple[Figures, ...]
    pooled_p99_ms: float
    pooled_max_ms: float
    stalled: int = 0
    stalls_ms: tuple[float, float, float] = (0.0, 0.0, 0.0)
    dark: tuple[Dark, ...] = ()


def score(party: str, sittings: Sequence[Sitting], steps: Sequence[float] = (0.0,),
          dark: bool = False) -> Score:
    """Judge ``party``; ``steps`` are the onsets of one strike, counted from its beginning."""
    figures: list[Figures] = []
    took: list[float] = []
    darks: list[Dark] = []
    requests = failed = 0
    for sitting in sittings:
        mine = sitting.of(party)
        requests += len(mine)
        failed += sum(one.kind != "live" for one in mine)
        tried = sitting.tried(party)
        strikes = [[began + step for step in steps] for began, _, _ in tried]
        figures += [measure(mine, onsets) for onsets in strikes]
        took += [one.took_s * 1000
                 for one in near(mine, [onset for onsets in strikes for onset in onsets])]
        if dark:
            darks += [_dark(mine, *times) for times in tried]
    stalls = [each for each in took if each > 2.0 * quantile(took, 0.5)]
    return Score(party, requests, failed, tuple(figures), quantile(took, 0.99),
                 max(took, default=0.0), len(stalls),
                 (quantile(stalls, 0.5), quantile(stalls, 0.99), max(stalls, default=0.0)),
                 tuple(darks))


def was_kept(one: Record, began: float, healed: float) -> bool:
    """Tell whether an answer in the dark was an old one; a peer's copy does not say so itself.

    At the edges, where a link may live still or again, only what came sooner than the origin can
    answer is surely old.
    """
    if one.kind == "copy":
        return one.answered < healed
    inside = began + EDGE_S <= one.answered <= healed - EDGE_S
    return (one.kind == "live" and began <= one.due and one.answered < healed
            and (inside or one.took_s < DELAY_S))


def _dark(records: Sequence[Record], began: float, healed: float, after: float) -> Dark:
    looked = min(healed + LOOK_S, after - BEFORE_S)  # those in flight then are the next one's
    sent = [one for one in records if began <= one.due < healed]
    refused = [one for one in sent if one.status >= SAYS_NO]
    live = [one.answered - healed for one in records
            if one.kind == "live" and healed < one.answered]
    late = [one.due - healed for one in records
            if one.kind != "live" and healed <= one.due < looked]
    given = [one for one in sent if was_kept(one, began, healed)]
    early, later = ([one.took_s * 1000 for one in given if (one.due < began + EARLY_S) is soon]
                    for soon in (True, False))
    return Dark(tuple(one.took_s * 1000 for one in refused),
                sum(one.status == 0 for one in sent), min(live, default=NEVER_S),
                max(late, default=0.0), len(sent), tuple(early), tuple(later),
                sum(one.kind == "copy" for one in given))


Column = tuple[str, Callable[[Score], str]]


def _each(get: Callable[[Figures], float]) -> Callable[[Score], str]:
    return lambda found: spread([get(each) for each in found.onsets])


def _dark_each(get: Callable[[Dark], float], digits: int = 0) -> Callable[[Score], str]:
    """Of each outage; one in which there was nothing to measure, so NaN, is left out."""
    return lambda found: spread(
        [figure for figure in map(get, found.dark) if not math.isnan(figure)],
        f"{{:.{digits}f}}".format)


COLUMNS: Final[tuple[Column, ...]] = (
    ("party", lambda found: found.party),
    ("onsets", lambda found: f"{len(found.onsets)}"),
    ("failed of all", lambda found: f"{found.failed} of {found.requests}"),
    ("p50 ms", _each(lambda one: one.p50_ms)),
    ("p99 ms", _each(lambda one: one.p99_ms)),
    ("max ms", _each(lambda one: one.max_ms)),
    ("longest gap ms", _each(lambda one: one.gap_ms)),
    ("stalled", lambda found: f"{found.stalled}" if found.onsets else "-"),
    ("stall p50/p99/max ms", lambda found: "/".join(f"{each:.0f}" for each in found.stalls_ms)
                                           if found.stalled else "-"),
    ("all p99", lambda found: f"{found.pooled_p99_ms:.0f}" if found.onsets else "-"),
    ("all max", lambda found: f"{found.pooled_max_ms:.0f}" if found.onsets else "-"),
)
DARK_COLUMNS: Final[tuple[Column, ...]] = (
    ("party", lambda found: found.party),
    ("onsets", lambda found: f"{len(found.onsets)}"),
    ("no answer at all", lambda found: f"{sum(one.silent for one in found.dark)} "
                                       f"of {found.requests}"),
    ('"no" p50 ms', _dark_each(lambda one: quantile(one.no, 0.5))),
    ('"no" p99 ms', _dark_each(lambda one: quantile(one.no, 0.99))),
    ('"no" max ms', _dark_each(lambda one: max(one.no, default=0.0))),
    ("live after heal s", _dark_each(lambda one: one.live_s, 2)),
    ("refusing after heal s", _dark_each(lambda one: one.last_no_s, 2)),
)
KEPT_COLUMNS: Final[tuple[Column, ...]] = (
    *DARK_COLUMNS[:2],
    ("answered in the dark", lambda found: _share(
        sum(len(one.early) + len(one.later) for one in found.dark),
        sum(one.sent for one in found.dark))),
    ("marked as copies", lambda found: _share(
        sum(one.marked for one in found.dark),
        sum(len(one.early) + len(one.later) for one in found.dark))),
    ("first 0.3 s max ms", _dark_each(lambda one: max(one.early, default=math.nan))),
    ("later p50 ms", _dark_each(lambda one: quantile(one.later or (math.nan,), 0.5))),
    ("later p99 ms", _dark_each(lambda one: quantile(one.later or (math.nan,), 0.99))),
    ("later max ms", _dark_each(lambda one: max(one.later, default=math.nan))),
    *DARK_COLUMNS[-1:],
)


def _share(some: int, whole: int) -> str:
    return f"{100 * some / whole:.0f} %" if whole else "-"


def lines(scores: Sequence[Score], dark: bool = False, keep: bool = False) -> list[str]:
    """Return the table of one fault, its heads first; the dark and what is kept have their own."""
    columns = KEPT_COLUMNS if keep else DARK_COLUMNS if dark else COLUMNS
    rows = [[head for head, _ in columns],
            *([say(found) for _, say in columns] for found in scores)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    said = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]
    return [said[0], "-+-".join("-" * width for width in widths), *said[1:]]


def as_json(found: Score) -> dict[str, Any]:
    """Return a score as plain values; of the dark only its quantiles, not every "no"."""
    made = asdict(found)
    made["dark"] = [{"silent": one.silent, "no_p50_ms": quantile(one.no, 0.5),
                     "no_p99_ms": quantile(one.no, 0.99), "no_max_ms": max(one.no, default=0.0),
                     "live_s": one.live_s, "last_no_s": one.last_no_s, "sent": one.sent,
                     "given": len(one.early) + len(one.later), "marked": one.marked,
                     "early_max_ms": max(one.early, default=0.0),
                     "later_p99_ms": quantile(one.later, 0.99),
                     "later_max_ms": max(one.later, default=0.0)} for one in found.dark]
    return made
