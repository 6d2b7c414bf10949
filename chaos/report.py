"""The report of a run of stories: a page for people, JUnit for machines, an exit code for both.

A broken promise shows in all three. ``write`` makes ``index.html`` (nothing outside the page is
needed to read it) and ``junit.xml`` in a directory of its own.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from chaos.picture import Mark, Told, draw

FAILED_EXIT: Final = 1
BROKEN_EXIT: Final = 3
PROMISES: Final = {
    1: "No safe read fails while any path works.",
    2: "No unsafe write is sent twice without proof that the first never arrived.",
    3: "Every receipt is in exactly one state and ends in a terminal one.",
    4: "No copy is served unmarked, past its ceiling, unasked for, or across tenants.",
    5: "“None” is never said where “not known” is meant.",
    6: "No switch of links when only the upstream is at fault.",
    7: "After failback no flow remains on the backup.",
    8: "An order to isolate is obeyed at once and until released.",
    9: "No patient data in logs, topics, metrics, file names or clear on disk.",
    10: "Every telemetry event reaches the console's store once.",
    11: "A crash at any instant loses nothing that was acknowledged.",
    12: "A fault of one tenant, link or upstream changes nothing for another."}


_GOOD: Final = ("live", "backup", "copy")


@dataclass(frozen=True, slots=True)
class Judged:
    """One promise in one story. ``words`` are the evidence of a broken one, else may be empty."""

    promise: int
    held: Literal["held", "broken", "not exercised"]
    observations: int
    words: str = ""


@dataclass(frozen=True, slots=True)
class Telling:
    """One story as it was played on one rig; ``trouble`` says why not to its end.

    ``figures`` are (what, value with unit) pairs for the page; ``wanted`` the promises the story
    is there to exercise: one of them without an observation counts as broken.
    """

    name: str
    sentence: str
    rig: str
    told: Told
    promises: tuple[Judged, ...]
    wanted: frozenset[int] = frozenset()
    figures: tuple[tuple[str, str], ...] = ()
    trouble: str = ""

    def broken(self) -> tuple[Judged, ...]:
        """Return what was broken, what was wanted and never seen included."""
        return tuple(judged for judged in self.promises
                     if judged.held == "broken"
                     or (judged.promise in self.wanted and judged.observations == 0))

    def is_whole(self) -> bool:
        """Tell whether the story was played to its end and every promise held."""
        return not self.trouble and not self.broken()


def exit_code(tellings: Sequence[Telling]) -> int:
    """Return 3 when any promise is broken, else 1 when a story was not told to its end, else 0."""
    if any(telling.broken() for telling in tellings):
        return BROKEN_EXIT
    return 0 if all(telling.is_whole() for telling in tellings) else FAILED_EXIT


def write(tellings: Sequence[Telling], to: Path, now: datetime) -> int:
    """Write the page and the JUnit file into ``to``; return the exit code."""
    to.mkdir(parents=True, exist_ok=True)
    (to / "index.html").write_text(page(tellings, now), "utf-8")
    (to / "junit.xml").write_bytes(junit(tellings))
    return exit_code(tellings)


def junit(tellings: Sequence[Telling]) -> bytes:
    """Return JUnit XML: a suite for each story, a case for its playing and for each promise."""
    root = ET.Element("testsuites", name="practice-gateway chaos")
    for telling in tellings:
        suite = ET.SubElement(root, "testsuite", name=f"{telling.name} ({telling.rig})",
                              time=f"{telling.told.seconds:.1f}")
        played = ET.SubElement(suite, "testcase", classname=telling.name,
                               name="is played to its end")
        if telling.trouble:
            ET.SubElement(played, "failure", message=_clean(telling.trouble))
        broken = telling.broken()
        for judged in telling.promises:
            _case(suite, telling, judged, judged in broken)
        cases = suite.findall("testcase")
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
        suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _case(suite: ET.Element, telling: Telling, judged: Judged, broken: bool) -> None:
    case = ET.SubElement(suite, "testcase", classname=telling.name,
                         name=f"promise {judged.promise}: {PROMISES[judged.promise]}")
    if broken:
        words = judged.words or "wanted by this story, and never observed"
        ET.SubElement(case, "failure", message=_clean(words))
    elif judged.held == "not exercised":
        ET.SubElement(case, "skipped", message="not exercised by this story")


def _clean(words: str) -> str:
    """Leave out what XML 1.0 cannot hold."""
    return "".join(letter for letter in words if letter >= " " or letter in "\t\n")


def figures_of(marks: Sequence[Mark]) -> tuple[tuple[str, str], ...]:
    """Return the figures that every story has: counts, latencies, longest gap between answers."""
    if not marks:
        return (("requests", "0"),)
    good = sorted(mark.took_ms for mark in marks if mark.kind in _GOOD)
    came = sorted(mark.at + mark.took_ms / 1000 for mark in marks if mark.kind in _GOOD)
    gap = max((after - before for before, after in pairwise(came)), default=0.0)
    failed = sum(mark.kind == "failed" for mark in marks)
    figures = [("requests", str(len(marks))), ("failed", str(failed)),
               ("longest gap between answers", f"{gap:.2f} s")]
    if good:
        figures[2:2] = [("answered in, p50", f"{good[len(good) // 2]:.0f} ms"),
                        ("p99", f"{good[min(len(good) - 1, len(good) * 99 // 100)]:.0f} ms"),
                        ("longest", f"{good[-1]:.0f} ms")]
    return tuple(figures)


_STYLE: Final = """
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:#1c2128;background:#f6f7f9;
margin:0 auto;max-width:1180px;padding:24px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:19px;margin:0}section{background:#fff;border:1px solid
#d5dae1;border-radius:6px;padding:18px 20px;margin:22px 0}p{margin:4px 0 10px}
table{border-collapse:collapse;width:100%;margin:8px 0}th,td{text-align:left;padding:4px 10px 4px 0;
border-bottom:1px solid #e4e7ec;vertical-align:top}th{font-weight:600;color:#4b5563}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;margin:10px 0}svg text{font:12px system-ui,sans-serif;fill:#1c2128}
text.r{text-anchor:end}text.c{text-anchor:middle}
line.g{stroke:#e4e7ec}line.m{stroke:#8a5a20;stroke-dasharray:3 3}
.ok,.bad,.none{white-space:nowrap}.banner{white-space:normal}.ok{color:#1a6b34}.bad{color:#b00020;font-weight:700}.none{color:#6b7280}
dl{display:flex;flex-wrap:wrap;gap:6px 28px;margin:6px 0}dt{color:#4b5563;font-size:13px}
dd{margin:0;font-size:17px;font-variant-numeric:tabular-nums}.banner{border-left:6px solid #1a6b34;
padding:8px 14px;background:#fff;margin:14px 0}.banner.bad{border-color:#b00020}
"""
_SIGNS: Final = {"held": ("ok", "✓ held"), "broken": ("bad", "✗ BROKEN"),
                 "not exercised": ("none", "– not exercised")}


def page(tellings: Sequence[Telling], now: datetime) -> str:
    """Return the whole page: the sum first, then each story with its picture and its promises."""
    body = "\n".join((_summary(tellings), *(_section(telling) for telling in tellings)))
    return (f'<!DOCTYPE html><html lang="en-GB"><head><meta charset="utf-8">'
            f"<title>Practice Gateway: chaos report</title><style>{_STYLE}</style></head><body>"
            f"<h1>Practice Gateway: chaos report</h1><p>{now:%d %B %Y, %H:%M} UTC. Times run from "
            f"each story's start; latencies from the moment a request was due to be sent.</p>\n"
            f"{body}</body></html>\n")


def _summary(tellings: Sequence[Telling]) -> str:
    bad = [telling for telling in tellings if not telling.is_whole()]
    banner = (f'<p class="banner bad">✗ {len(bad)} of {len(tellings)} stories broke a promise or '
              "fell short." if bad else
              f'<p class="banner">✓ All promises held in all {len(tellings)} stories.')
    rows = "".join(_summary_row(telling) for telling in tellings)
    return (f'{banner}</p><table><tr><th>story<th>rig<th class="n">s<th class="n">requests'
            f'<th class="n">failed<th class="n">longest gap<th>promises</tr>{rows}</table>')


def _summary_row(telling: Telling) -> str:
    found = dict(figures_of(telling.told.marks))
    broken = ", ".join(str(judged.promise) for judged in telling.broken())
    css, words = ("ok", "✓ all held") if telling.is_whole() else (
        "bad", f"✗ BROKEN: {broken}" if broken else "✗ fell short")
    return (f'<tr><td><a href="#{escape(telling.name)}">{escape(telling.name)}</a>'
            f'<td>{escape(telling.rig)}<td class="n">{telling.told.seconds:.0f}'
            f'<td class="n">{found["requests"]}<td class="n">{found.get("failed", "0")}'
            f'<td class="n">{found.get("longest gap between answers", "–")}'
            f'<td class="{css}">{words}</tr>')


def _section(telling: Telling) -> str:
    figures = "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>"
                      for what, value in (*figures_of(telling.told.marks), *telling.figures))
    trouble = (f'<p class="banner bad">This story fell short: {escape(telling.trouble)}</p>'
               if telling.trouble else "")
    broken = telling.broken()
    rows = "".join(_promise_row(judged, judged in broken) for judged in telling.promises)
    return (f'<section id="{escape(telling.name)}"><h2>{escape(telling.name)}</h2>'
            f"<p>{escape(telling.sentence)}</p>{trouble}<dl>{figures}</dl>{draw(telling.told)}"
            f'<table><tr><th class="n">no.<th>promise<th>here<th class="n">observations'
            f"<th>evidence</tr>{rows}</table></section>")


def _promise_row(judged: Judged, broken: bool) -> str:
    css, words = _SIGNS["broken" if broken else judged.held]
    evidence = judged.words or ("wanted by this story, and never observed" if broken else "")
    return (f'<tr><td class="n">{judged.promise}<td>{escape(PROMISES[judged.promise])}'
            f'<td class="{css}">{words}<td class="n">{judged.observations}'
            f"<td>{escape(evidence)}</tr>")
