"""What flow needs from the world: Protocols of four methods or fewer.

Each is implemented once in ``edge`` and once, as a fake for time and chance only, in
``tests/kit``. Nothing here raises for network trouble: trouble is a value.
"""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from gateway.core.canary import Found
from gateway.core.gate import Progress
from gateway.core.instant import Mono, Wall
from gateway.core.keeping import Drop, Keep, Kept, Key
from gateway.core.link import Probe, Sample
from gateway.core.message import Outbound, Outcome
from gateway.core.readiness import Connected, Result
from gateway.core.telemetry import Event, Row


class Clock(Protocol):
    """Time as a port. ``wall_is_trusted`` is False before the device has synchronised.

    ``ring`` calls back after ``seconds``, once, unless what it returns was called before.
    """

    def now(self) -> Mono: ...
    def wall(self) -> Wall: ...
    def wall_is_trusted(self) -> bool: ...
    async def sleep(self, seconds: float) -> None: ...
    def ring(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]: ...


class Sender(Protocol):
    """One link's HTTP client: ``send`` returns one of three outcomes and raises only cancellation.

    ``tell`` hears of a send's progress until its reply begins (``core/gate.py``).
    ``renew`` begins a new epoch: pooled connections are aborted and replaced, standby ones opened.
    """

    async def send(self, outbound: Outbound,
                   tell: Callable[[Progress], None] | None = None) -> Outcome: ...
    def renew(self) -> None: ...


class Prober(Protocol):
    """Asks one probe target over one link; a miss is a Sample too."""

    async def ask(self, probe: Probe) -> Sample: ...


class Records(Protocol):
    """One tenant's record store. ``keep`` queues and returns at once (False: queue full, not kept).

    ``drop`` returns when the drop is durable: what a write voids is gone before its answer leaves.
    ``look_up`` returns None where nothing is kept, or where what is kept cannot be read.
    """

    def keep(self, keep: Keep) -> bool: ...
    async def look_up(self, key: Key) -> Kept | None: ...
    async def drop(self, drop: Drop) -> None: ...


class Outbox(Protocol):
    """Telemetry rows on disk, numbered densely per rank, bounded.

    ``append`` returns when the row is durable. ``oldest`` gives rows in order, at most ``n``.
    """

    async def append(self, event: Event) -> Row | None: ...
    async def oldest(self, n: int) -> tuple[Row, ...]: ...
    async def sent(self, rows: tuple[Row, ...]) -> None: ...


class Broker(Protocol):
    """One MQTT session over one link. Raises OSError when the connection is gone."""

    async def publish(self, topic: str, payload: bytes, qos: int, retain: bool,
                      expiry_s: int | None) -> None: ...
    def received(self) -> AsyncIterator[tuple[str, bytes, bool]]: ...


class Trial(Protocol):
    """One link, tried for a readiness run. Trouble is a value; everything has an end."""

    async def names(self, upstream: str) -> Result: ...
    async def connect(self, upstream: str) -> Connected: ...
    async def echoes(self) -> tuple[Sample, ...]: ...
    async def ladder(self, sizes: tuple[int, ...]) -> tuple[Sample, ...]: ...


class CanaryNow(Protocol):
    """Sends one path's canary at once; None where its pack has none."""

    async def ask(self, link: str, upstream: str) -> Found | None: ...
