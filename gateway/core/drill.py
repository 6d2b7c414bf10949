"""A drill: traffic really moves to the backup for a quiet minute, and what happened is told.

Law (links.md section 13):

- a drill never costs what it tests: it is refused where the backup is not well, not proven or
  nearly spent, and ended at once where the backup stops carrying;
- it is the failover of announced work: the link takes no new work, what runs there ends by itself;
- it fails if one request failed, or was refused, while it lasted, or if anything stayed behind.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from gateway.core.instant import Mono
from gateway.core.link import CARRIES
from gateway.core.mode import BoardView
from gateway.core.route import Mode
from gateway.core.status import Latency

Stage: TypeAlias = Literal["waiting", "moved", "returning", "done", "refused", "aborted"]
Why: TypeAlias = Literal[
    "", "one_link", "on_backup", "backup_not_well", "backup_unproven", "backup_not_ready", "quota",
    "returning", "no_quiet_minute", "backup_lost", "not_moved", "not_back"]

WORDS: Final[dict[Why, str]] = {
    "": "the drill went through",
    "one_link": "there is no second link to move to",
    "on_backup": "traffic is on the backup already, or there is announced work now",
    "backup_not_well": "the backup is not up",
    "backup_unproven": "the backup has not shown lately that it reaches every upstream",
    "backup_not_ready": "the readiness run over the backup did not pass: look at `status`",
    "quota": "the backup's data plan is low or spent",
    "returning": "a link is on its way back just now",
    "no_quiet_minute": "no quiet moment came in the time given: try again, or give --now",
    "backup_lost": "the backup stopped carrying: everything went back at once",
    "not_moved": "the backup did not take over within a minute",
    "not_back": "the main link did not take everything back in time: look at `status`",
}

READY_S: Final = 300.0
"""How long the readiness run may take that comes first: an upstream that hangs costs some 20 s."""
MOVE_S: Final = 60.0
BACK_S: Final = 900.0
"""A hold of a minute, a ramp of another and its clearing; more only after earlier episodes."""
SECONDS_MOST: Final = 3600.0
WAIT_MOST: Final = 3600.0

QUIET_S: Final = 10
QUIET_SHARE: Final = 0.5
QUIET_LEAST: Final = 5
"""Quiet is half of the usual number of requests of ten seconds, or five of them."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asked for: so long on the backup, and so long to wait for a quiet moment."""

    id: str
    seconds: float = 60.0
    wait_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Count:
    """What was answered so far, by kind, and how soon."""

    requests: tuple[tuple[str, str, str, int], ...]
    latency: Latency

    def by(self, without: Collection[str], *kinds: str) -> int:
        """Answers of these kinds (live, copy, refused, failed, unknown) but of some upstreams."""
        return sum(n for _, upstream, answered, n in self.requests
                   if answered in kinds and upstream not in without)


@dataclass(frozen=True, slots=True)
class Felt:
    """What clients felt while it lasted. Times are upper bounds of the histogram's buckets; None is
    "beyond the last", and for no request at all."""

    requests: int
    failed: int
    refused: int
    copies: int
    unknown: int
    p50_s: float | None
    p99_s: float | None
    slowest_s: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """How a drill stands or ended. ``promises`` by number: True held, False broken."""

    id: str
    stage: Stage
    why: Why = ""
    link: str = ""
    backup: str = ""
    moved_s: float | None = None
    stayed_s: float | None = None
    back_s: float | None = None
    felt: Felt | None = None
    modes: tuple[tuple[str, Mode], ...] = ()
    promises: tuple[tuple[int, bool], ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will follow."""
        return self.stage in ("done", "refused", "aborted")

    @property
    def is_good(self) -> bool:
        """Whether it went through and no promise broke."""
        return self.stage == "done" and not self.why and all(held for _, held in self.promises)


def backup_of(view: BoardView) -> str:
    """Return the link that would take over now, ``""`` if none carries beside the active one."""
    return next((link.id for link in view.links
                 if link.id != view.active and link.state in CARRIES), "")


def refusal(view: BoardView, spent: Collection[str]) -> Why:
    """Return why no drill may begin now, ``""`` if one may."""
    if len(view.links) < 2:
        return "one_link"
    preferred = view.links[0]
    if view.active != preferred.id or preferred.state not in CARRIES:
        return "on_backup"
    if not is_back(view, preferred.id):
        return "returning"
    backup = next((link for link in view.links[1:] if link.state == "UP"), None)
    if backup is None:
        return "backup_not_well"
    if any(path.link == backup.id and path.provable and path.upstream not in down(view)
           and (path.age_s is None or path.lapsed_s is not None) for path in view.paths):
        return "backup_unproven"
    return "quota" if backup.id in spent else ""


def is_quiet(totals: Iterable[int]) -> bool:
    """Whether the last ten seconds were quiet; ``totals`` are all answers ever, second by second.

    What is usual is the mean of what is remembered, ten minutes at most.
    """
    seen = list(totals)
    if len(seen) <= QUIET_S:
        return False
    lately = seen[-1] - seen[-1 - QUIET_S]
    usual = (seen[-1] - seen[0]) / (len(seen) - 1) * QUIET_S
    return lately <= max(QUIET_LEAST, QUIET_SHARE * usual)


def down(view: BoardView) -> frozenset[str]:
    """Return the upstreams that are down anyway: what they answer is not the drill's doing."""
    return frozenset(each.upstream for each in view.verdicts if each.kind == "UPSTREAM_DOWN")


def felt(before: Count, after: Count, without: Collection[str] = ()) -> Felt:
    """Return what was felt between two counts, ``without`` upstreams that were down anyway."""
    new = Latency(after.latency.le, tuple(
        late - early for late, early in zip(after.latency.counts, before.latency.counts,
                                            strict=True)),
        0.0, after.latency.count - before.latency.count)

    def more(*kinds: str) -> int:
        return after.by(without, *kinds) - before.by(without, *kinds)

    return Felt(new.count, more("failed"), more("refused"), more("copy"), more("unknown"),
                _quantile(new, 0.5), _quantile(new, 0.99), _quantile(new, 1.0))


def _quantile(latency: Latency, share: float) -> float | None:
    wanted = share * latency.count
    if not latency.count:
        return None
    return next((le for le, count in zip(latency.le, latency.counts, strict=True)
                 if count >= wanted), None)


def promises(told: Felt, left: int) -> tuple[tuple[int, bool], ...]:
    """Return which promises of design.md section 7 held: 1 no request failed or was refused (or
    had to take a copy) while a path worked, 2 nothing is in doubt, 7 nothing is ``left`` on the
    backup."""
    return ((1, not (told.failed or told.refused or told.copies)),
            (2, not told.unknown), (7, not left))


def left_behind(view: BoardView, backup: str) -> int:
    """Return the flows on a backup that should carry nothing any more."""
    return sum(each.wrong for each in view.course.clearings if each.link == backup)


def is_back(view: BoardView, link: str) -> bool:
    """Whether ``link`` carries everything again and its backup was cleared."""
    clean = all(each.clean_at is not None for each in view.course.clearings)
    return view.active == link and not view.course.ramps and clean


def is_due(since: Mono, seconds: float, now: Mono) -> bool:
    """Whether ``seconds`` have passed."""
    return now - since >= seconds
