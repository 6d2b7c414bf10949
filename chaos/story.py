"""What a story is: phases of weather over a steady load, and the promises that it puts to the test.

Each module of ``chaos/stories/`` holds one, as ``STORY``. A story names links ``fibre`` (the
preferred) and ``sim``, and upstreams by what the clinical system calls them: ``gpc`` for all,
``gpc:B81001`` for one tenant's.
"""

from dataclasses import dataclass, field
from typing import Final

from chaos.demands import Demand
from chaos.wanted import Wanted
from chaos.weather import Verb

ALWAYS: Final = frozenset({1, 2, 9})
"""Promises that any story exercises: it reads, it books, and it leaves files to be searched."""


@dataclass(frozen=True, slots=True)
class Phase:
    """``verbs`` happen, in order, when the phase begins; then it lasts ``seconds``.

    ``unread`` asks in this phase, a few times a second, for patients never read before: without a
    path they must be refused, and said to be not known. ``cut_off`` phases have no way to any
    upstream: every known read of a client that takes copies must be answered all the same.
    ``surge_a_second`` are asked beside the load: lists of codes, which no pack names.
    """

    name: str
    seconds: float
    verbs: tuple[Verb, ...] = ()
    unread: bool = False
    cut_off: bool = False
    surge_a_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Story:
    """One story. ``windows`` are maintenance windows (link, from, to, drain) in seconds of it.

    ``hold_s`` is how long a healed link must prove itself here; a practice's own is a minute.
    ``switches_max`` bounds the switches of links that the whole story may take. ``leaves_before``
    demands that traffic had left for announced work before the first cut. ``demands`` are what else
    its weather must have done (``demands.py``); ``rigs`` those that can make this weather.
    ``wanted`` is what its gateway's configuration has beside ``hold_s`` and ``windows``.
    ``failback_grace_s`` judges promise 7: nothing of ours comes over the backup so long after the
    gateway said that it was cleared.
    """

    name: str
    sentence: str
    phases: tuple[Phase, ...]
    exercises: frozenset[int]
    hold_s: float = 3.0
    windows: tuple[tuple[str, float, float, float], ...] = ()
    reads_a_second: float = 30.0
    switches_max: int | None = None
    leaves_before: bool = False
    demands: tuple[Demand, ...] = ()
    rigs: tuple[str, ...] = ("namespaces", "relay", "toxiproxy")
    wanted: Wanted = field(default_factory=Wanted)
    failback_grace_s: float | None = None

    @property
    def seconds(self) -> float:
        """How long it lasts, without what it takes to build its world (2 to 4 s)."""
        return sum(phase.seconds for phase in self.phases)
