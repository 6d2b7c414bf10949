"""Which links a request may take, in order: the board's reading as one frozen value."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

LinkState: TypeAlias = Literal["UNKNOWN", "UP", "SUSPECT", "DOWN", "PROBATION", "DRAINING"]
Mode: TypeAlias = Literal["NORMAL", "BACKUP", "DEGRADED", "STANDALONE", "ISOLATED", "RECOVERING"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one upstream stands for one tenant now.

    ``links`` are the usable ones, best first; empty means no path is left. ``states`` gives each
    link's state by id. ``cause`` is the verdict's kind that explains a mode other than NORMAL
    (``""`` if none). ``upstream_down`` is True when the upstream is judged down on every link:
    ``trial`` then says whether this very request may be sent to find out.
    ``proven`` are the links over which a client of this tenant had a 2xx on the same capability
    root in the last 65 minutes: only there may a 403/404/410 remove a copy (design 5.2).
    ``hedge_after_s`` is the wait before a read starts on the next link, by link id.
    """

    links: tuple[str, ...]
    states: tuple[tuple[str, LinkState], ...]
    mode: Mode
    cause: str = ""
    upstream_down: bool = False
    trial: bool = False
    proven: frozenset[str] = frozenset()
    ineligible: frozenset[str] = frozenset()
    hedge_after_s: tuple[tuple[str, float], ...] = ()
