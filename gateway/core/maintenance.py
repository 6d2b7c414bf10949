"""Announced maintenance: which links are inside a window, when to leave them, what is due.

Windows are in UTC here (``config`` and ``core/calendar`` turn Europe/London into it: an hour
occurs twice in October) and keep the local words that they came as. Law (links.md section 11):

- a window that would take the last path is not applied, whoever announced it;
- one in surgery hours, or longer than the other link's quota lasts, is asked twice of a person
  (``asks``). A calendar cannot be asked: the supplier works whether we agree or not;
- from the drain to the end, and until the link has passed a readiness run, failback is locked
  however good its pings look. A false notice costs a night on the backup; a missed one a rescue.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from gateway.core.instant import Wall
from gateway.core.london import local

Source: TypeAlias = Literal["config", "added", "calendar", "order"]
"""Who announced a window. ``order`` is parsed and shown, and not obeyed yet."""
Refusal: TypeAlias = Literal["last_path", "unknown_link", "too_many", "bad_times"]
Question: TypeAlias = Literal["surgery_hours", "beyond_quota"]
Finding: TypeAlias = Literal["no_other_link", "unproven", "shared_fate", "quota"]
Step: TypeAlias = Literal["preflight", "refresh", "page", "drain", "begin", "end"]
Phase: TypeAlias = Literal["planned", "checked", "refreshing", "draining", "open", "over"]

PREFLIGHT_S: Final = 86_400.0
"""The other link is looked at a day before: a SIM can still be replaced."""
REFRESH_S: Final = 1_800.0
"""Copies are wanted fresh half an hour before, and a person is called if the backup is unproven."""
WINDOWS_MAX: Final = 256
"""Windows held at once, from all sources: a practice has a handful."""
LONGEST_S: Final = 7 * 86_400.0
"""A window longer than a week is a mistake in its dates."""


@dataclass(frozen=True, slots=True)
class Window:
    """Planned work on one link, in UTC. ``drain_s`` before it begins the link takes no new work.

    ``origin`` is the id of the calendar that announced it, ``rule`` its times as they were written.
    """

    id: str
    link: str
    start: Wall
    end: Wall
    drain_s: float = 300.0
    reason: str = ""
    source: Source = "config"
    origin: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A window that is not applied, and why."""

    window: Window
    why: Refusal


@dataclass(frozen=True, slots=True)
class Plan:
    """The windows that hold, in order of their beginning, and those that were refused."""

    windows: tuple[Window, ...] = ()
    refused: tuple[Refused, ...] = ()


def binding(windows: Iterable[Window], link: str, wall: Wall) -> Window | None:
    """Return the window that binds ``link`` at ``wall``, from its drain to its end; else None."""
    for window in windows:
        if window.link == link and window.start - window.drain_s <= wall < window.end:
            return window
    return None


def upcoming(windows: Iterable[Window], wall: Wall) -> Window | None:
    """Return the window that begins (or drains) next after ``wall``, None if there is none."""
    ahead = [window for window in windows if window.start - window.drain_s > wall]
    return min(ahead, key=lambda window: window.start - window.drain_s, default=None)


def without_path(windows: tuple[Window, ...], links: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ids of windows at whose beginning no link at all would take new work.

    A planner refuses these (links.md section 11). It is enough to look at beginnings: the number
    of bound links only grows there.
    """
    return tuple(
        window.id for window in windows
        if all(binding(windows, link, Wall(window.start - window.drain_s)) for link in links))


def refusal(window: Window, others: Iterable[Window], links: tuple[str, ...]) -> Refusal | None:
    """Return why ``window`` cannot stand beside ``others``, None if it can."""
    if window.link not in links:
        return "unknown_link"
    if not 0 < window.end - window.start <= LONGEST_S:
        return "bad_times"
    near = tuple(each for each in others if each.start - each.drain_s < window.end
                 and window.start - window.drain_s < each.end)
    return "last_path" if without_path((*near, window), links) else None


def merged(announced: Iterable[Window], cancelled: Collection[str], links: tuple[str, ...],
           wall: Wall) -> Plan:
    """Return the plan of all ``announced`` windows, first come first kept.

    ``announced`` stands in the order of who is believed first: config, added, calendars. Those
    that are cancelled (by id) or that ended over a day ago are left out; a window announced twice
    with the same times counts once.
    """
    kept: list[Window] = []
    refused: list[Refused] = []
    for window in announced:
        if window.id in cancelled or window.end < wall - 86_400.0:
            continue
        if any((each.link, each.start, each.end) == (window.link, window.start, window.end)
               for each in kept):
            continue
        why = "too_many" if len(kept) >= WINDOWS_MAX else refusal(window, kept, links)
        if why is not None:
            refused.append(Refused(window, why))
            continue
        kept.append(window)
    return Plan(tuple(sorted(kept, key=lambda each: (each.start, each.id))),
                tuple(refused[:WINDOWS_MAX]))


def asks(window: Window, from_h: float, until_h: float, cover_s: float | None
         ) -> tuple[Question, ...]:
    """Return what a person must confirm before ``window`` is planned.

    ``from_h`` and ``until_h`` bound the surgery of a local weekday; ``cover_s`` is how long the
    other link's quota lasts, None where that is not known or has no end.
    """
    found: list[Question] = []
    begin = window.start - window.drain_s
    moments = [begin + 900.0 * n for n in range(int((window.end - begin) // 900.0) + 1)]
    shown = [local(Wall(at)) for at in (*moments, window.end - 1.0)]
    if any(now.weekday() < 5 and from_h <= now.hour + now.minute / 60 < until_h for now in shown):
        found.append("surgery_hours")
    if cover_s is not None and window.end - window.start > cover_s:
        found.append("beyond_quota")
    return tuple(found)


def preflight(window: Window, links: tuple[str, ...], fates: Mapping[str, frozenset[str]],
              proven: Collection[str], spent: Collection[str]) -> tuple[Finding, ...]:
    """Return what speaks against the links that must carry the practice; empty: all is well.

    ``fates`` are the declared common parts (``exchange:X``): a link that shares one with the link
    under work is no backup. One good link among the others is enough.
    """
    theirs = fates.get(window.link, frozenset())
    others = [link for link in links if link != window.link]
    if not others:
        return ("no_other_link",)
    best: tuple[Finding, ...] | None = None
    for link in others:
        found: list[Finding] = []
        if theirs & fates.get(link, frozenset()):
            found.append("shared_fate")
        if link not in proven:
            found.append("unproven")
        if link in spent:
            found.append("quota")
        if best is None or len(found) < len(best):
            best = tuple(found)
    return best or ()


def shared(fates: Mapping[str, frozenset[str]]) -> tuple[tuple[str, str, str], ...]:
    """Return each (link, link, part) of declared fate that two links share."""
    names = sorted(fates)
    return tuple((one, two, part) for n, one in enumerate(names) for two in names[n + 1:]
                 for part in sorted(fates[one] & fates[two]))


def phase(window: Window, wall: Wall) -> Phase:
    """Return where ``wall`` stands in the life of ``window``."""
    until = window.start - wall
    if wall >= window.end:
        return "over"
    if until <= 0:
        return "open"
    if until <= window.drain_s:
        return "draining"
    if until <= REFRESH_S:
        return "refreshing"
    return "checked" if until <= PREFLIGHT_S else "planned"


def key(window: Window, step: Step) -> str:
    """Return the name under which a step that was done is remembered over a restart."""
    return f"{window.link}/{round(window.start)}/{round(window.end)}/{step}"


def due(windows: Iterable[Window], done: Collection[str], wall: Wall
        ) -> tuple[tuple[Window, Step], ...]:
    """Return the steps whose time has come and that were not done, in order of time.

    What a restart or a late announcement made us miss is done late while it is of use: the steps
    before a window until it begins, its end within a day.
    """
    found: list[tuple[float, Window, Step]] = []
    for window in windows:
        spans: tuple[tuple[Step, float, float], ...] = (
            ("preflight", window.start - PREFLIGHT_S, window.start),
            ("refresh", window.start - REFRESH_S, window.start),
            ("page", window.start - REFRESH_S, window.start),
            ("drain", window.start - window.drain_s, window.start),
            ("begin", window.start, window.end),
            ("end", window.end, window.end + 86_400.0))
        found += [(at, window, step) for step, at, until in spans
                  if at <= wall < until and key(window, step) not in done]
    found.sort(key=lambda each: (each[0], each[1].id, get_args(Step).index(each[2])))
    return tuple((window, step) for _, window, step in found)


def still(done: Collection[str], windows: Iterable[Window]) -> frozenset[str]:
    """Return what of ``done`` is about a window that is still known; the rest is forgotten."""
    known = {key(window, step) for window in windows for step in get_args(Step)}
    return frozenset(done) & known


def refresh_wanted(windows: Iterable[Window], wall: Wall) -> Window | None:
    """Return the window for which copies should be fetched fresh now, None if there is none."""
    return next((window for window in windows
                 if window.start - REFRESH_S <= wall < window.start), None)


def distrusted(windows: Iterable[Window], passed: Mapping[str, Wall], most_s: float, wall: Wall
               ) -> frozenset[str]:
    """Return the links whose work ended less than ``most_s`` ago and that have not passed since.

    ``passed`` is when each link last passed a readiness run.
    """
    return frozenset(each.link for each in windows if each.end <= wall < each.end + most_s
                     and passed.get(each.link, 0.0) < each.end)


@dataclass(frozen=True, slots=True)
class Risk:
    """A window whose work the practice would not get through well, and why. ``grave``: it begins
    within half an hour, so a person is called."""

    window: Window
    findings: tuple[Finding, ...]
    grave: bool


def risks(windows: Iterable[Window], links: tuple[str, ...], fates: Mapping[str, frozenset[str]],
          proven: Collection[str], spent: Collection[str], wall: Wall) -> tuple[Risk, ...]:
    """Return what speaks against each window from a day before it to its end."""
    found = []
    for window in windows:
        now = phase(window, wall)
        if now in ("planned", "over"):
            continue
        findings = preflight(window, links, fates, proven, spent)
        if findings:
            found.append(Risk(window, findings, now != "checked"))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class MaintenanceView:
    """All that is known of announced work, for ``/status``. ``unread`` are calendars that could not
    be read lately (id, why, since when), ``unreadable`` files of added windows that cannot be
    read at all."""

    plan: Plan = Plan()
    cancelled: frozenset[str] = frozenset()
    risks: tuple[Risk, ...] = ()
    distrusted: frozenset[str] = frozenset()
    unread: tuple[tuple[str, str, Wall], ...] = ()
    unreadable: int = 0
    left_out: int = 0


def minutes_to_next(windows: Iterable[Window], wall: Wall) -> float | None:
    """Return the minutes until the next window begins; 0 inside one, None without any."""
    left = [max(0.0, window.start - wall) for window in windows if wall < window.end]
    return min(left) / 60.0 if left else None


def is_outside(link: str, windows: Iterable[Window], wall: Wall) -> bool:
    """Whether a fault of ``link`` at ``wall`` is outside the announced work: some other link has
    an open window, and this one has none."""
    open_on = {window.link for window in windows
               if window.start - window.drain_s <= wall < window.end}
    return bool(open_on) and link not in open_on
