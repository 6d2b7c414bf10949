"""What a comparison leaves: the text that was printed, the figures as JSON, and the picture."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.failover.cases import Case
from tests.bench.failover.picture import Dot, Mark, Panel, Row, draw
from tests.bench.failover.table import SAYS_NO, Score, Sitting, as_json, lines, score, was_kept
from tests.bench.rig.figures import AFTER_S, BEFORE_S, quantile, within
from tests.bench.rig.records import Record

FAIR: Final = (
    "All parties in one run, under one load process, the same faults at the same instants; each",
    "party is asked 100 requests/s, open loop, latencies in ms from the scheduled send time, a",
    "client gives up after 10 s. The same cores carry everything: load, origin, anchors and all",
    "parties, so each party pays for the others too; kernel settings are the defaults, one worker",
    "each. Figures are of each onset, median (least-most); only ratios within one run count.",
    "Percentiles: requests sent 1 s before to 5 s after an onset; failed: of the whole run. Who",
    "was not on A when A was struck was not tried: that onset is left out of its figures. Envoy",
    "hedges; nginx and HAProxy have no way to ask twice, and try the other link after a failure.",
    "Stalled is what took more than twice the party's own median in its windows.")


@dataclass
class Compared:
    """All that was measured: scores and rows of the picture by the fault's name."""

    parties: Sequence[str]
    heads: list[str] = field(default_factory=list)
    scores: dict[str, list[Score]] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def add(self, case: Case, sittings: Sequence[Sitting]) -> list[str]:
        """Judge one fault; return its part of the text."""
        name = case.fault.name
        scores = [score(party, sittings, case.steps, case.dark) for party in self.parties]
        onsets = sum(len(each.began) for each in sittings)
        self.scores[name] = scores
        self.rows[name] = row(case, self.parties, sittings, scores)
        self.texts[name] = ["", f"{name}: {case.words} ({onsets} onsets)",
                            *lines(scores, case.dark, case.keep)]
        return self.texts[name]

    def write(self, folder: Path, stem: str, facts: Mapping[str, object]) -> list[Path]:
        """Write the three files, ``stem`` with their endings; return them."""
        folder.mkdir(parents=True, exist_ok=True)
        text, figures, picture = (folder / f"{stem}.{end}" for end in ("txt", "json", "svg"))
        said = [*self.heads, *FAIR, *(line for part in self.texts.values() for line in part)]
        text.write_text("\n".join(said) + "\n", "utf-8")
        figures.write_text(json.dumps({**facts, "faults": {
            name: [as_json(each) for each in scores] for name, scores in self.scores.items()}},
            indent=1) + "\n", "utf-8")
        picture.write_text(draw(self.parties, list(self.rows.values()), "; ".join(self.heads)),
                           "utf-8")
        return [text, figures, picture]


def row(case: Case, parties: Sequence[str], sittings: Sequence[Sitting],
        scores: Sequence[Score]) -> Row:
    """Return the picture's row of one fault, all its strikes folded upon each other."""
    lasts = case.fault.lasts_s
    after = lasts + 2.0 if case.dark or case.damped else AFTER_S + 1.0
    bad = tuple((step, step + 2.0) for step in case.steps) if case.damped else ((0.0, lasts),)
    panels = tuple(Panel(_words(found), tuple(
        dot for sitting in sittings for began, healed, _ in sitting.tried(party)
        for dot in _dots(sitting.of(party), began, after, healed if case.dark else None)))
        for party, found in zip(parties, scores, strict=True))
    return Row(f"{case.fault.name}: {case.words}", -BEFORE_S, after,
               tuple((begun, min(ended, after)) for begun, ended in bad), panels)


def _dots(records: Sequence[Record], began: float, after_s: float, dark_until: float | None
          ) -> list[Dot]:
    return [Dot(one.due - began, one.took_s * 1000, mark_of(one, began, dark_until))
            for one in within(records, began, BEFORE_S, after_s)]


def mark_of(one: Record, began: float, dark_until: float | None) -> Mark:
    """Return how a request is drawn; ``dark_until``: when no link is alive, until then."""
    if one.kind == "copy":
        return "copy"
    if one.kind == "live":
        if dark_until is not None and was_kept(one, began, dark_until):
            return "old"
        return "b" if one.link == "b" else "a"
    return "no" if dark_until is not None and one.status >= SAYS_NO else "failed"


def _words(found: Score) -> str:
    if not found.onsets:
        return f"{found.failed} failed; never on A when it was struck"
    if found.dark and any(one.early or one.later for one in found.dark):
        took = [each for one in found.dark for each in (*one.early, *one.later)]
        return (f"copies: p50 {quantile(took, 0.5):.0f}, p99 {quantile(took, 0.99):.0f}, "
                f"max {max(took):.0f} ms")
    if found.dark:
        took = [each for one in found.dark for each in one.no]
        return (f'"no" p50 {quantile(took, 0.5):.0f}, p99 {quantile(took, 0.99):.0f} ms; '
                f"live {quantile([one.live_s for one in found.dark], 0.5):.2f} s after the heal")
    return (f"{found.failed} failed, p99 {found.pooled_p99_ms:.0f} ms, "
            f"max {found.pooled_max_ms:.0f} ms")
