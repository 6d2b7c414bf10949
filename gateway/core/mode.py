"""Modes: how an upstream meets a tenant's requests now, and what the board shows of itself.

``STANDALONE`` means that no path is left: answers come from the copy. ``DEGRADED`` means that
there is a path and the upstream itself is down: the copy answers its errors, and a trial request
goes out now and then. ``BACKUP``: its traffic is not on the preferred link. Never one global flag.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.core.cadence import Ask
from gateway.core.course import CourseView, RampTold, SweepTold
from gateway.core.instant import Mono
from gateway.core.link import LinkState, LinkTurned
from gateway.core.proof import PathProof
from gateway.core.route import Mode, Switched
from gateway.core.steer import ClassMoved
from gateway.core.verdict import Judged, Verdict


@dataclass(frozen=True, slots=True)
class ModeTurned:
    """An upstream's mode changed for one tenant; it had been ``before`` for ``lasted_s``."""

    tenant: str
    upstream: str
    before: Mode
    after: Mode
    cause: str
    at: Mono
    lasted_s: float


Transition: TypeAlias = (
    LinkTurned | ModeTurned | Switched | Judged | ClassMoved | RampTold | SweepTold)
"""What the board tells, each once when it breaks and once when it heals."""


def mode_of(belongs_on: str, preferred: str, upstream_down: bool, isolated: bool = False) -> Mode:
    """Return the mode of an upstream whose traffic ``belongs_on`` a link (``""``: no path left).

    ``preferred`` is the link that it would be on if all were well.
    """
    if isolated:
        return "ISOLATED"
    if not belongs_on:
        return "STANDALONE"
    if upstream_down:
        return "DEGRADED"
    return "NORMAL" if belongs_on == preferred else "BACKUP"


@dataclass(frozen=True, slots=True)
class Silences:
    """By what a link's silence is judged, in units that an operator can audit (links.md §5).

    ``age_s`` is A*, from gaps of ``mean_gap_s`` on average, ``gaps_a_day`` of them; ``source`` says
    whether that is fresh, learned, a quantile or set by hand. ``likelihood`` is S and ``silence_s``
    the silence of this moment; ``loss`` the link's everyday loss. ``penalty`` damps its return.
    """

    age_s: float
    mean_gap_s: float
    gaps_a_day: float
    source: str
    loss: float
    likelihood: float
    silence_s: float
    epoch: int
    episodes: int
    penalty: float


@dataclass(frozen=True, slots=True)
class LinkView:
    """One link as ``/status`` and telemetry show it. Times are in seconds before ``BoardView.at``.

    ``rtt_ms`` is the median of its anchors' recent answers, ``loss`` the share of their probes
    that were missed in the last ring, None while nothing was asked.
    """

    id: str
    kind: str
    metered: bool
    state: LinkState
    since: Mono
    cause: str
    silent: bool
    heard_s: float | None
    rtt_ms: float | None
    loss: float | None
    judged_by: Silences | None = None


@dataclass(frozen=True, slots=True)
class ModeView:
    """The mode of ``upstream`` for ``tenant``, and why."""

    tenant: str
    upstream: str
    mode: Mode
    since: Mono
    cause: str


@dataclass(frozen=True, slots=True)
class BoardView:
    """All that the board knows, frozen, for ``/status`` and telemetry.

    ``proofs`` are (tenant, upstream, link, age in seconds of the newest 2xx): never a root.
    ``paths`` says of each path whether it was shown to work lately, ``asks`` how many questions of
    which kind were put on each link.
    """

    at: Mono
    links: tuple[LinkView, ...]
    modes: tuple[ModeView, ...]
    verdicts: tuple[Verdict, ...]
    active: str
    switches: int
    last_switch: Switched | None
    stalls: int
    proofs: tuple[tuple[str, str, str, float], ...] = ()
    course: CourseView = field(default_factory=CourseView)
    paths: tuple[PathProof, ...] = ()
    asks: tuple[tuple[str, Ask, int], ...] = ()
