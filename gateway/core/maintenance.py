"""Announced maintenance: which links are inside a window, and when to leave them.

Windows are in UTC here; ``config.py`` turns Europe/London into it (an hour occurs twice in
October). A false notice costs a night on the backup; a missed one costs a rescue.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.instant import Wall


@dataclass(frozen=True, slots=True)
class Window:
    """Planned work on one link, in UTC. ``drain_s`` before it begins the link takes no new work."""

    id: str
    link: str
    start: Wall
    end: Wall
    drain_s: float = 300.0
    reason: str = ""


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
