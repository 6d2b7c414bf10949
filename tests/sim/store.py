"""A record store that survives a crash with what it had committed, and may be full or broken.

As the real one it gathers for ``COMMIT_S`` and then commits; a drop is durable when it returns, and
refuses every later keep of what was fetched before it. ``crash`` loses what was not committed.
"""

from dataclasses import dataclass, field
from typing import Final

from gateway.core.keeping import Drop, Keep, Kept, Key
from gateway.errors import StoreDamaged
from gateway.ports import Clock

COMMIT_S: Final = 0.005
QUEUE_MAX: Final = 64


@dataclass
class SimStore:
    """One tenant's store. ``committed`` is the disk; ``queued`` are (due, keep) in memory."""

    clock: Clock
    full: bool = False
    broken: bool = False
    committed: dict[bytes, Keep] = field(default_factory=dict)
    queued: list[tuple[float, Keep]] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)

    def keep(self, keep: Keep) -> bool:
        """Queue it; False where the queue or the disk is full."""
        self.settle()
        if self.full or self.broken or len(self.queued) >= QUEUE_MAX:
            return False
        self.queued.append((self.clock.now() + COMMIT_S, keep))
        return True

    async def look_up(self, key: Key) -> Kept | None:
        """Return what is committed under ``key``."""
        self.settle()
        keep = None if self.broken else self.committed.get(key.content)
        if keep is None:
            return None
        return Kept(keep.status, keep.reason, keep.headers, keep.body, keep.fetched,
                    keep.ceiling_s)

    async def drop(self, drop: Drop) -> None:
        """Forget durably. A store that cannot forget serves nothing more (RecordStore's rule)."""
        self.settle()
        if self.broken:
            self.committed.clear()
            raise StoreDamaged("planted")
        self.drops.append(drop)
        for content in [c for c, keep in self.committed.items() if is_about(drop, keep)]:
            del self.committed[content]

    def settle(self) -> None:
        """Commit what has been gathered long enough."""
        now = self.clock.now()
        for due, keep in self.queued:
            if due <= now and not any(
                    is_about(drop, keep) and keep.fetched <= drop.before for drop in self.drops):
                self.committed[keep.key.content] = keep
        self.queued = [(due, keep) for due, keep in self.queued if due > now]

    def crash(self) -> int:
        """Lose what is not committed; return how many copies are on the disk."""
        self.settle()
        self.queued.clear()
        return len(self.committed)


def is_about(drop: Drop, keep: Keep) -> bool:
    """Whether ``drop`` means this copy (no subjects are simulated)."""
    if drop.upstream != keep.key.upstream:
        return False
    return drop.key == keep.key if drop.key else keep.key.route in drop.routes
