"""FakeUpstream, FakeBoard and FakeStore: scripts of what the world does, memories of what it saw.

Fakes only for time and chance: each is told beforehand what it will do, and remembers all that it
was told, so that a test reads like the story of one request.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.core.gate import Progress
from gateway.core.instant import Mono
from gateway.core.keeping import Drop, Keep, Kept, Key
from gateway.core.message import Arrived, NeverLeft, NoAnswer, Outbound, Outcome, Reply
from gateway.core.route import Standing
from gateway.core.steer import Completion
from gateway.errors import StoreDamaged
from gateway.ports import Clock

FHIR = (("Content-Type", "application/fhir+json"),)


@dataclass
class Line:
    """One link's script: each send takes the next (delay in s, outcome); the last one repeats."""

    clock: Clock
    link: str
    script: list[tuple[float, Outcome]]
    sent: list[Outbound] = field(default_factory=list)
    cancelled: int = 0

    async def send(self, outbound: Outbound,
                   tell: Callable[[Progress], None] | None = None) -> Outcome:
        """Remember ``outbound`` and do what the script says."""
        self.sent.append(outbound)
        delay, outcome = self.script[min(len(self.sent), len(self.script)) - 1]
        try:
            await self.clock.sleep(delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return outcome

    def renew(self) -> None:
        """Nothing is pooled here."""


def answers(link: str, status: int = 200, body: bytes = b'{"resourceType":"Slot"}',
            after: float = 0.02) -> tuple[float, Outcome]:
    """Return a script line: a whole reply ``after`` so many seconds."""
    return after, Arrived(link, Reply(status, "", FHIR, body))


def silent(link: str) -> tuple[float, Outcome]:
    """Return a script line: nothing for longer than any patience."""
    return 3600.0, NoAnswer(link, "timeout")


def refuses(link: str) -> tuple[float, Outcome]:
    """Return a script line: no connection."""
    return 0.001, NeverLeft(link, "connect")


class FakeBoard:
    """Says what it was told to say, and remembers the statuses it was shown."""

    def __init__(self, standing: Standing) -> None:
        self.now = standing
        self.seen: list[tuple[str, str, str, int, int]] = []
        self.ends: list[tuple[str, str, str, str, Completion]] = []
        self.foreign: list[tuple[str, str]] = []
        self.open = 0
        self.episodes = 0
        self.rests: list[tuple[str, str, float]] = []
        self.trials: list[bool] = []
        self._watchers: list[Callable[[], None]] = []

    def standing(self, tenant: str, upstream: str, pinned: str = "", root: str = "",
                 asking: bool = True, traffic: str = "read", serial: int = 0,
                 route: str = "") -> Standing:
        """Return the standing as the test last set it."""
        self.trials.append(asking)
        return self.now

    def watch_state(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` on each change until the returned function is called."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def asked(self, link: str, target: str) -> int:
        """Count one more open question."""
        self.open += 1
        return self.open

    def rest(self, tenant: str, upstream: str, seconds: float) -> None:
        """Remember it."""
        self.rests.append((tenant, upstream, seconds))

    def expected_bytes(self, upstream: str, route: str) -> int:
        """Replies are small here."""
        return 2000

    def episode(self, link: str) -> int:
        """Nothing is in trouble here, unless the test says so."""
        return self.episodes

    def answered(self, link: str, token: int) -> None:
        """Count one less."""
        self.open -= 1

    def saw_status(self, tenant: str, upstream: str, root: str, link: str, status: int,
                   serial: int) -> None:
        """Remember it."""
        self.seen.append((tenant, upstream, link, status, serial))

    def saw_foreign(self, link: str, upstream: str, sent_at: Mono) -> None:
        """Remember it."""
        self.foreign.append((link, upstream))

    def completed(self, link: str, upstream: str, traffic: str, route: str,
                  completion: Completion) -> None:
        """Remember it."""
        self.ends.append((link, upstream, traffic, route, completion))

    def change(self, **fields: object) -> None:
        """Set fields of the standing and tell all who watch."""
        self.now = replace(self.now, **fields)  # type: ignore[arg-type]
        for callback in tuple(self._watchers):
            callback()

    @property
    def watchers(self) -> int:
        """How many still watch."""
        return len(self._watchers)


class FakeStore:
    """A record store in a dict: may be full, or broken."""

    def __init__(self, full: bool = False, broken: bool = False) -> None:
        self.kept: dict[bytes, Keep] = {}
        self.drops: list[Drop] = []
        self.full = full
        self.broken = broken

    def keep(self, keep: Keep) -> bool:
        """Keep it, unless full."""
        if not self.full:
            self.kept[keep.key.content] = keep
        return not self.full

    async def look_up(self, key: Key) -> Kept | None:
        """Return what was kept under ``key``."""
        keep = self.kept.get(key.content)
        if keep is None:
            return None
        return Kept(keep.status, keep.reason, keep.headers, keep.body, keep.fetched,
                    keep.ceiling_s)

    async def drop(self, drop: Drop) -> None:
        """Remember the drop; a broken store raises."""
        if self.broken:
            raise StoreDamaged("planted")
        self.drops.append(drop)
