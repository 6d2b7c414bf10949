"""The picture of a comparison, pure: a row for each fault, a column for each party.

Each panel folds all onsets of the fault upon each other: time since the onset to the right, the
latency from the scheduled send upwards, on a logarithmic scale. Each request is one mark, with its
own shape as well as its own colour; marks that would cover each other are drawn once. Needs nothing
from outside; written as one SVG with its own white ground.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal, TypeAlias

Mark: TypeAlias = Literal["a", "b", "copy", "old", "no", "failed"]

PANEL: Final = 272
HIGH: Final = 128
LEFT: Final = 62
TOP: Final = 74
ROW: Final = HIGH + 56
GAP: Final = 16
FLOOR_MS: Final = 1.0
CEILING_MS: Final = 10_000.0
LINES: Final = ((1, "1 ms"), (10, "10"), (100, "100"), (1000, "1 s"), (10_000, "10 s"))
# colour, width of the stroke
PAINT: Final[Mapping[Mark, tuple[str, float]]] = {
    "a": ("#1b66b5", 2.4), "b": ("#00796b", 1.1), "copy": ("#c46a00", 1.2),
    "old": ("#7b2d8e", 1.4), "no": ("#6b7280", 1.2), "failed": ("#c8102e", 2)}
WORDS: Final[Mapping[Mark, str]] = {
    "a": "answered over A", "b": "answered over B", "copy": "a copy that says so",
    "old": "a copy that does not", "no": 'a plain "no" with both links dead', "failed": "failed"}
_STYLE: Final = """<style>
text{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:12px;fill:#1f2937}
.h{font-weight:600;font-size:14px}.s{font-size:11px}.c{text-anchor:middle}.r{text-anchor:end}
.g{stroke:#e1e5ea}.f{fill:#f6ece0}</style>"""


@dataclass(frozen=True, slots=True)
class Dot:
    """One request: due ``at`` seconds after the onset, ``took_ms`` from then."""

    at: float
    took_ms: float
    mark: Mark


@dataclass(frozen=True, slots=True)
class Panel:
    """One party under one fault; ``words`` stand over it."""

    words: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One fault: from ``since`` to ``until`` seconds; the fault itself holds in ``bad``."""

    title: str
    since: float
    until: float
    bad: tuple[tuple[float, float], ...]
    panels: tuple[Panel, ...]


def draw(parties: Sequence[str], rows: Sequence[Row], below: str = "") -> str:
    """Return the SVG; each row has a panel for each party, in their order."""
    width = LEFT + len(parties) * (PANEL + GAP)
    height = TOP + len(rows) * ROW + 24
    parts = [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
             'aria-label="Latency of each request round each fault, by party" '
             'xmlns="http://www.w3.org/2000/svg">', _STYLE,
             f'<rect width="{width}" height="{height}" fill="#fff"/>', *_legend(24)]
    parts += [f'<text x="{_left(place) + PANEL / 2:.0f}" y="52" class="h c">{escape(party)}</text>'
              for place, party in enumerate(parties)]
    for number, row in enumerate(rows):
        top = TOP + number * ROW
        parts.append(f'<text x="{LEFT}" y="{top}" class="h">{escape(row.title)}</text>')
        for place, panel in enumerate(row.panels):
            parts += _panel(panel, row, _left(place), top + 22, scale=place == 0)
    parts.append(f'<text x="{LEFT}" y="{height - 10}" class="s">{escape(below)}</text>')
    return "\n".join((*parts, "</svg>\n"))


def _left(place: int) -> int:
    return LEFT + place * (PANEL + GAP)


def height_of(took_ms: float) -> float:
    """Return how far below a panel's top a latency stands, held between floor and ceiling."""
    held = min(max(took_ms, FLOOR_MS), CEILING_MS)
    return HIGH * (1.0 - math.log(held / FLOOR_MS) / math.log(CEILING_MS / FLOOR_MS))


def _panel(panel: Panel, row: Row, left: float, top: float, scale: bool) -> list[str]:
    def x(at: float) -> float:
        share = (at - row.since) / (row.until - row.since)
        return left + PANEL * min(max(share, 0.0), 1.0)

    parts = [f'<text x="{left}" y="{top - 6}" class="s">{escape(panel.words)}</text>',
             *(f'<rect x="{x(begun):.1f}" y="{top}" width="{x(ended) - x(begun):.1f}" '
               f'height="{HIGH}" class="f"/>' for begun, ended in row.bad)]
    for took, words in LINES:
        y = top + height_of(took)
        parts.append(f'<line x1="{left}" x2="{left + PANEL}" y1="{y:.1f}" y2="{y:.1f}" class="g"/>')
        if scale:
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" class="s r">{words}</text>')
    step = 1 if row.until - row.since <= 10 else 4
    for second in range(math.ceil(row.since), math.floor(row.until) + 1):
        if second % step == 0:
            parts.append(f'<text x="{x(second):.1f}" y="{top + HIGH + 13}" class="s c">'
                         f'{second}{" s" if second == 0 else ""}</text>')
    parts.append(f'<rect x="{left}" y="{top}" width="{PANEL}" height="{HIGH}" fill="none" '
                 'stroke="#9aa2ad"/>')
    for mark in PAINT:  # trouble is drawn last, on top
        places = {(round(x(dot.at)), round(top + height_of(dot.took_ms)))
                  for dot in panel.dots if dot.mark == mark and row.since <= dot.at <= row.until}
        parts += _path(mark, sorted(places))
    return parts


def _path(mark: Mark, places: Iterable[tuple[int, int]]) -> list[str]:
    shape = {"a": "h0", "b": "m0-2l2 4h-4z", "copy": "m0-3l3 3l-3 3l-3-3z", "old": "m-2 0h4m-2-2v4",
             "no": "m-1-1h2v2h-2z", "failed": "m-3-3l6 6m0-6l-6 6"}
    path = "".join(f"M{x} {y}{shape[mark]}" for x, y in places)
    colour, stroke = PAINT[mark]
    return [f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{stroke}" '
            'stroke-linecap="round"/>'] if path else []


def _legend(y: float) -> list[str]:
    parts, x = [], LEFT + 6
    for mark, words in WORDS.items():
        parts += _path(mark, [(x, round(y))])
        parts.append(f'<text x="{x + 10}" y="{y + 4:.0f}">{escape(words)}</text>')
        x += 34 + 7 * len(words)
    parts.append(f'<rect x="{x - 6}" y="{y - 7:.0f}" width="14" height="14" class="f"/>'
                 f'<text x="{x + 14}" y="{y + 4:.0f}">the fault holds</text>')
    return parts
