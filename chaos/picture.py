"""The timeline picture of one story: weather, link states, and each answer as a mark.

Pure: a ``Told`` in, an SVG out. Time runs to the right, in seconds from the story's start. Above
stand the weather and the links as bars, each with its words; below, each answer at the moment it
was due to be sent and at the height of its latency, on a logarithmic scale. A kind of answer has
its own shape as well as its own colour, so the picture survives a grey printer.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["live", "backup", "copy", "refused", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start`` to ``end`` (seconds) ``lane`` was as ``words`` say."""

    lane: str
    start: float
    end: float
    words: str


@dataclass(frozen=True, slots=True)
class Mark:
    """One answer: due at ``at`` (seconds), ``took_ms`` after that, of ``kind``, by ``link``."""

    at: float
    took_ms: float
    kind: Kind
    link: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What the picture shows: ``phases`` and ``weather`` and ``links`` are spans, in lane order."""

    seconds: float
    phases: tuple[Span, ...]
    weather: tuple[Span, ...]
    links: tuple[Span, ...]
    marks: tuple[Mark, ...]


WIDTH: Final = 1120
LEFT: Final = 132
RIGHT: Final = 16
LANE: Final = 22
GAP: Final = 5
CHART: Final = 300
FLOOR_MS: Final = 1.0
CEILING_MS: Final = 20_000.0
COLOURS: Final[Mapping[Kind, str]] = {
    "live": "#1b66b5", "backup": "#00796b", "copy": "#c46a00", "refused": "#6b7280",
    "failed": "#c8102e", "unknown": "#7b2d8e"}
WORDS: Final[Mapping[Kind, str]] = {
    "live": "live", "backup": "live over the backup", "copy": "copy, marked", "refused": "refused",
    "failed": "failed", "unknown": "unknown, said so"}
# fill, pattern for grey printers: good states are pale, bad ones dark and hatched
STATES: Final[Mapping[str, tuple[str, str]]] = {
    "UP": ("#cfe8d5", ""), "SUSPECT": ("#fbe3a4", "dots"), "DOWN": ("#f1b5b0", "hatch"),
    "PROBATION": ("#d9d3ee", "dots"), "DRAINING": ("#c9dcf2", "lines"), "UNKNOWN": ("#ececec", ""),
    "QUARANTINED": ("#f1b5b0", "lines")}
WEATHER_FILL: Final = ("#e9d9c7", "hatch")

_DEFS: Final = """<defs>
<pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse"
patternTransform="rotate(45)">
<line x1="0" y1="0" x2="0" y2="7" stroke="#000" stroke-opacity=".22" stroke-width="2"/></pattern>
<pattern id="dots" width="6" height="6" patternUnits="userSpaceOnUse">
<circle cx="2" cy="2" r="1" fill="#000" fill-opacity=".25"/></pattern>
<pattern id="lines" width="6" height="6" patternUnits="userSpaceOnUse">
<line x1="0" y1="3" x2="6" y2="3" stroke="#000" stroke-opacity=".2"/></pattern></defs>"""


def _circle(x: float, y: float) -> str:
    return f"M{x - 2:.1f} {y:.1f}a2 2 0 1 0 4 0a2 2 0 1 0-4 0z"


def _ring(x: float, y: float) -> str:
    return f"M{x - 3:.1f} {y:.1f}a3 3 0 1 0 6 0a3 3 0 1 0-6 0z"


def _diamond(x: float, y: float) -> str:
    return f"M{x:.1f} {y - 4:.1f}l3.4 4l-3.4 4l-3.4-4z"


def _square(x: float, y: float) -> str:
    return f"M{x - 2.6:.1f} {y - 2.6:.1f}h5.2v5.2h-5.2z"


def _cross(x: float, y: float) -> str:
    return f"M{x - 4.5:.1f} {y - 4.5:.1f}l9 9m0-9l-9 9"


def _triangle(x: float, y: float) -> str:
    return f"M{x:.1f} {y - 4.5:.1f}l4.5 8h-9z"


SHAPES: Final[Mapping[Kind, Callable[[float, float], str]]] = {
    "live": _circle, "backup": _ring, "copy": _diamond, "refused": _square, "failed": _cross,
    "unknown": _triangle}
_STROKED: Final = {"backup": 1.1, "refused": 1.3, "failed": 2.4}  # outlines; the rest filled


class Scale:
    """Where a second and a millisecond stand on the page."""

    def __init__(self, seconds: float, top: float) -> None:
        self.seconds = max(seconds, 0.001)
        self.top = top

    def x(self, at: float) -> float:
        """Pixels from the left for ``at`` seconds, held within the page."""
        share = min(max(at / self.seconds, 0.0), 1.0)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, took_ms: float) -> float:
        """Pixels from the top for a latency, held between FLOOR_MS and CEILING_MS."""
        held = min(max(took_ms, FLOOR_MS), CEILING_MS)
        share = math.log(held / FLOOR_MS) / math.log(CEILING_MS / FLOOR_MS)
        return self.top + CHART * (1.0 - share)


def draw(told: Told) -> str:
    """Return one inline SVG; it needs nothing from outside the page."""
    lanes = [*_lanes(told.phases), *_lanes(told.weather), *_lanes(told.links)]
    top = 12 + len(lanes) * (LANE + GAP) + 14
    scale = Scale(told.seconds, top)
    height = top + CHART + 64
    parts = [f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
             f'aria-label="Timeline of link states and answers" xmlns="http://www.w3.org/2000/svg">',
             _DEFS, *_grid(scale), *_moments(told, scale, 12)]
    row = 0
    for kind, spans in (("phase", told.phases), ("weather", told.weather), ("link", told.links)):
        for lane in _lanes(spans):
            parts += _lane(lane, [span for span in spans if span.lane == lane], kind, scale,
                           12 + row * (LANE + GAP))
            row += 1
    parts += _answers(told.marks, scale)
    parts += _legend(told.marks, top + CHART + 44)
    return "\n".join((*parts, "</svg>"))


def _lanes(spans: Iterable[Span]) -> list[str]:
    return list(dict.fromkeys(span.lane for span in spans))


def _grid(scale: Scale) -> list[str]:
    bottom = scale.top + CHART
    parts = [f'<rect x="{LEFT}" y="{scale.top}" width="{WIDTH - LEFT - RIGHT}" height="{CHART}" '
             'fill="#fff" stroke="#9aa2ad"/>']
    for took, words in ((1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (500, "0.5 s"),
                        (1000, "1 s"), (10_000, "10 s")):
        y = scale.y(took)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="g"/>'
                     f'<text x="{LEFT - 8}" y="{y + 4:.1f}" class="r">{words}</text>')
    step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300) if scale.seconds / s <= 16), 600)
    for second in range(0, int(scale.seconds) + 1, step):
        x = scale.x(second)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{scale.top}" y2="{bottom}" class="g"/>'
                     f'<text x="{x:.1f}" y="{bottom + 16}" class="c">{second} s</text>')
    middle = scale.top + CHART / 2
    parts.append(f'<text x="22" y="{middle}" class="c" transform="rotate(-90 22 {middle})">'
                 'latency from the scheduled send</text>')
    return parts


def _moments(told: Told, scale: Scale, top: float) -> list[str]:
    """A thin line through everything where the weather changes."""
    edges = sorted({edge for span in told.weather for edge in (span.start, span.end)
                    if 0.0 < edge < told.seconds})
    return [f'<line x1="{scale.x(edge):.1f}" x2="{scale.x(edge):.1f}" y1="{top}" '
            f'y2="{scale.top + CHART}" class="m"/>' for edge in edges]


def _lane(name: str, spans: Sequence[Span], kind: str, scale: Scale, y: float) -> list[str]:
    parts = [f'<text x="{LEFT - 8}" y="{y + 15:.0f}" class="r">{escape(name)}</text>']
    for span in spans:
        x, width = scale.x(span.start), max(scale.x(span.end) - scale.x(span.start), 1.0)
        fill, pattern = ("#eef1f5", "") if kind == "phase" else (
            WEATHER_FILL if kind == "weather" else STATES.get(span.words, STATES["UNKNOWN"]))
        box = f'x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{LANE}"'
        parts.append(f'<g><title>{escape(span.words)}: {span.start:.1f} to {span.end:.1f} s</title>'
                     f'<rect {box} fill="{fill}" stroke="#6b7280" stroke-width=".6"/>')
        if pattern:
            parts.append(f'<rect {box} fill="url(#{pattern})"/>')
        if width >= 7.0 * len(span.words) + 4:
            parts.append(f'<text x="{x + 5:.1f}" y="{y + 15:.0f}" class="l">'
                         f'{escape(span.words)}</text>')
        parts.append("</g>")
    return parts


def _answers(marks: Sequence[Mark], scale: Scale) -> list[str]:
    """One path for each kind: thousands of marks stay small, and trouble is drawn last, on top."""
    parts = []
    for kind, shape in SHAPES.items():
        path = "".join(shape(scale.x(mark.at), scale.y(mark.took_ms))
                       for mark in marks if mark.kind == kind)
        if path:
            parts.append(f'<path d="{path}" {_paint(kind)}/>')
    return parts


def _paint(kind: Kind) -> str:
    colour = COLOURS[kind]
    if kind in _STROKED:
        return f'fill="none" stroke="{colour}" stroke-width="{_STROKED[kind]}"'
    return f'fill="{colour}" fill-opacity="{0.7 if kind == "live" else 0.85}"'


def _legend(marks: Sequence[Mark], y: float) -> list[str]:
    """Every kind with its shape, its words and how many there were; none is worth saying too."""
    parts, x = [], float(LEFT)
    for kind, shape in SHAPES.items():
        words = f"{WORDS[kind]}: {sum(mark.kind == kind for mark in marks)}"
        parts.append(f'<path d="{shape(x + 6, y)}" {_paint(kind)}/>'
                     f'<text x="{x + 16:.0f}" y="{y + 4:.0f}" class="l">{words}</text>')
        x += 30 + 6.9 * len(words)
    return parts
