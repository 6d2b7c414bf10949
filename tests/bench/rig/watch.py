"""What our gateway says of its links: ``/status`` ten times a second, turned into dated changes.

A change is dated by the document's own ``since_s``, so by when it happened and not by when it was
seen; what began and ended between two looks is not seen.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.bench.rig.wire import Broken, Pool

LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """``link`` became ``state`` at ``at`` (monotonic seconds), because of ``cause``."""

    at: float
    link: str
    state: str
    cause: str


@dataclass
class Watch:
    """``changes`` in the order seen; ``said`` is the newest document, looked at ``looked``.

    ``modes`` are the changes of the mode of any tenant's upstream, as ``tenant/upstream``.
    """

    changes: list[Change] = field(default_factory=list)
    causes: set[str] = field(default_factory=set)
    said: dict[str, Any] = field(default_factory=dict)
    modes: list[Change] = field(default_factory=list)
    looked: float = 0.0
    _states: dict[str, str] = field(default_factory=dict)

    @property
    def switches(self) -> int:
        """How often the active link has changed since the gateway's start."""
        return int(self.said["switches"])

    def note(self, said: dict[str, Any], at: float) -> None:
        """Take one document, asked for at ``at``."""
        self.said, self.looked = said, at
        for link in said.get("links", ()):
            if self._states.get(link["id"]) != link["state"]:
                self._states[link["id"]] = link["state"]
                self.changes.append(Change(at - (link["since_s"] or 0.0), link["id"],
                                           link["state"], link["cause"] or ""))
        for row in said.get("modes", ()):
            name = f"{row['tenant']}/{row['upstream']}"
            if self._states.get(name) != row["mode"]:
                self._states[name] = row["mode"]
                self.modes.append(Change(at - (row["since_s"] or 0.0), name, row["mode"],
                                         row["cause"] or ""))
        self.causes |= {verdict["kind"] for verdict in said.get("verdicts", ())}

    def first(self, link: str, states: frozenset[str], since: float) -> float | None:
        """Return how long after ``since`` the link first took one of ``states``."""
        return next((change.at - since for change in self.changes if change.link == link
                     and change.state in states and change.at >= since - 0.02), None)

    def became(self, mode: str, since: float) -> float | None:
        """Return how long after ``since`` the last of all upstreams was in ``mode`` first."""
        first: dict[str, float] = {}
        for change in self.modes:
            if change.state == mode and change.at >= since - 0.02:
                first.setdefault(change.link, change.at - since)
        return max(first.values(), default=None)

    def is_live(self, now: float) -> bool:
        """Whether the gateway was heard of within the last second."""
        return now - self.looked < 1.0


@asynccontextmanager
async def watching(admin: int) -> AsyncIterator[Watch]:
    """Look at the admin port until the block is left."""
    watch = Watch()
    async with asyncio.TaskGroup() as group:
        looker = group.create_task(_look(admin, watch))
        yield watch
        looker.cancel()


async def _look(admin: int, watch: Watch) -> None:
    pool = Pool("127.0.0.1", admin)
    while True:
        with suppress(OSError, Broken, ValueError):
            async with asyncio.timeout(1.0):
                connection = await pool.take()
                answer = await connection.ask(
                    b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                at = time.monotonic()
                pool.give(connection)
            watch.note(json.loads(answer.body), at)
        await asyncio.sleep(LOOK_S)
