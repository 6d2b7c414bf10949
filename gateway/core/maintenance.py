"""Announced maintenance: which links are inside a window, and when to leave them."""

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
