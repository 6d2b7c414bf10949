"""No practice shows as offline while it works: presence through silent link cuts, really cut.

A real mosquitto (TLS, client certificates, the example ACL), the real session and reporting loop,
and two user-space links that fall silent with their sockets open. Each variant that the design
refuses (one identity per link, no will delay) is run too and must show the false "lost".
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from chaos.rig.relay import Forward, Relay
from gateway.core.link import Link
from gateway.core.telemetry import Birth, Event, High, Message, ReportRules, State
from gateway.edge.clock import SystemClock
from gateway.edge.mqtt import Dial, Settings, connected, link_dial, tls_context
from gateway.flow.report import Identity, Report, Sources
from gateway.ports import Broker, Outbox
from tests.kit.broker import Mosquitto, mosquitto

GW: Final = "B81001-a"
CUTS: Final = 50 if os.environ.get("FULL") == "1" else 10
KEEP_ALIVE_S: Final = 2
WILL_DELAY_S: Final = 8
TAIL_S: Final = WILL_DELAY_S + 1.5 * KEEP_ALIVE_S + 5
DETECTED_S: Final = 1.2
"""What a silent link costs to judge; here the test plays the board."""
SLOW_S: Final = 8.5
"""One cut in ten lasts until the broker has noticed it: after 1.5 x keep-alive, looked at each 5 s.
There a will without delay goes out. (mosquitto 2.0.11 sends none on the takeover itself.)"""


class NoOutbox:
    """Takes nothing and has nothing: presence alone is on trial."""

    async def append(self, event: Event) -> None:
        return None

    async def oldest(self, n: int) -> tuple[()]:
        return ()

    async def sent(self, rows: object) -> None:
        return None


async def until(true: Callable[[], bool], within_s: float) -> None:
    """Wait for ``true``, asked every 20 ms; TimeoutError after ``within_s``."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110  # what is waited for lives in another process
            await asyncio.sleep(0.02)


@dataclass
class Practice:
    """A reporting gateway with two links to the broker; ``active`` is what its board would say."""

    broker: Mosquitto
    relays: dict[str, Relay]
    outbox: Outbox
    changes: dict[str, object] = field(default_factory=dict)
    identity_per_link: bool = False
    active: str = "fibre"
    report: Report = field(init=False)

    def __post_init__(self) -> None:
        sources = Sources(lambda: self.active, lambda: State(self.active),
                          lambda: Birth("1.0", "", "", (), (), (), 10.0))
        ids = frozenset({GW, "1.0", *self.relays})
        self.report = Report(Identity(GW, 1, ids), tuple(self.relays), sources, self.outbox,
                             self.connect, SystemClock(), Random(4), ReportRules(), High())

    def connect(self, link: str, will: Message,
                topics: tuple[str, ...]) -> AbstractAsyncContextManager[Broker]:
        leaf = self.broker.leaf(GW)
        tls = tls_context(str(self.broker.ca.cert), str(leaf.cert), str(leaf.key))
        settings = Settings("127.0.0.1", self.broker.port, GW, tls, keep_alive_s=KEEP_ALIVE_S,
                            will_delay_s=WILL_DELAY_S, connect_s=5.0, ack_s=5.0)
        settings = replace(settings, **self.changes)  # type: ignore[arg-type]  # test's own words
        if self.identity_per_link:
            settings = replace(settings, client_id=f"{GW}-{link}")
        return connected(settings, self._dial(link), will, topics)

    def _dial(self, link: str) -> Dial:
        async def itself(host: str) -> tuple[str, ...]:
            return (host,)

        async def over_relay(host: str, port: int) -> socket.socket:
            return await dial(host, self.relays[link].ports["broker"])

        dial = link_dial(Link(link, 1), itself)
        return over_relay

    async def reach(self, link: str) -> None:
        """Wait until reporting stands on ``link``."""
        await until(lambda: self.report.view().link == link, 30)

    async def survive_cuts(self, count: int) -> None:
        """The active link falls silent; when that is noticed the other takes over; it heals."""
        for n in range(count):
            await self._survive_a_cut(SLOW_S if n % 10 == 0 else DETECTED_S)

    async def _survive_a_cut(self, silent_s: float) -> None:
        dead = self.active
        self.relays[dead].cut()
        await asyncio.sleep(silent_s)
        self.active = next(link for link in self.relays if link != dead)
        self.report.switched()
        await self.reach(self.active)
        await asyncio.sleep(0.2)
        self.relays[dead].heal()


@dataclass
class Watcher:
    """A console that writes down every presence it is told, and the rows of events."""

    presences: list[tuple[str, int]] = field(default_factory=list)
    rows: list[tuple[int, str]] = field(default_factory=list)

    @property
    def lost(self) -> list[int]:
        return [sess for st, sess in self.presences if st == "lost"]

    async def until_lost(self, within_s: float) -> None:
        await until(lambda: bool(self.lost), within_s)

    async def listen(self, broker: Mosquitto, ready: asyncio.Event) -> None:
        async with broker.console("watcher") as console:
            await console.subscribe("gpgw/1/+/up/#", qos=1)
            ready.set()
            async for message in console.messages:
                self.note(message.topic.value, json.loads(message.payload))

    def note(self, topic: str, told: dict[str, Any]) -> None:
        if topic.endswith("/presence"):
            self.presences.append((told["b"]["st"], told["sess"]))
        elif topic.endswith("/evt"):
            for row in told["rows"]:
                self.rows.append((row["seq"], json.dumps([row["ts"], row["kind"], row["b"]])))


async def retained(broker: Mosquitto) -> tuple[str, int]:
    """The presence that a console sees which comes only now."""
    async with broker.console("late") as console:
        await console.subscribe(f"gpgw/1/{GW}/up/presence", qos=1)
        async with asyncio.timeout(5):
            told = json.loads((await anext(console.messages)).payload)
    return told["b"]["st"], told["sess"]


@contextlib.asynccontextmanager
async def practice(folder: Path, outbox: Outbox | None = None, *, identity_per_link: bool = False,
                   **changes: object) -> AsyncIterator[tuple[Practice, Watcher]]:
    """Broker, two links, a watcher and a reporting gateway that is online over the first."""
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(mosquitto(folder))
        target = [Forward("broker", ("127.0.0.1", broker.port))]
        relays = {link: await stack.enter_async_context(Relay(link, target))
                  for link in ("fibre", "lte")}
        gateway = Practice(broker, relays, outbox or NoOutbox(), changes, identity_per_link)
        watcher, ready = Watcher(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            chores = [tasks.create_task(watcher.listen(broker, ready))]
            await ready.wait()
            chores.append(tasks.create_task(gateway.report.run()))
            await gateway.reach("fibre")
            try:
                yield gateway, watcher
            finally:
                for chore in chores:
                    chore.cancel()


async def test_presence_shows_no_false_offline_through_silent_link_cuts(tmp_path: Path) -> None:
    async with practice(tmp_path) as (gateway, watcher):
        await gateway.survive_cuts(CUTS)
        await asyncio.sleep(TAIL_S)

        assert watcher.lost == []
        assert watcher.presences[-1][0] == "online"
        assert len({sess for _, sess in watcher.presences}) >= CUTS + 1
        assert await retained(gateway.broker) == ("online", gateway.report.view().sess)


async def test_one_identity_per_link_would_show_a_practice_as_lost_while_it_works(
        tmp_path: Path) -> None:
    async with practice(tmp_path, identity_per_link=True) as (gateway, watcher):
        await gateway.survive_cuts(2)

        await watcher.until_lost(TAIL_S)
        assert gateway.report.view().connected


async def test_a_will_without_delay_would_show_a_practice_as_lost_while_it_works(
        tmp_path: Path) -> None:
    async with practice(tmp_path, will_delay_s=0) as (gateway, watcher):
        await gateway.survive_cuts(2)

        await watcher.until_lost(TAIL_S)
        assert gateway.report.view().connected


async def test_a_real_loss_is_shown_and_ends_when_a_link_is_back(tmp_path: Path) -> None:
    async with practice(tmp_path) as (gateway, watcher):
        for relay in gateway.relays.values():
            relay.cut()
        await watcher.until_lost(TAIL_S + 5)

        gateway.relays["lte"].heal()
        gateway.active = "lte"
        gateway.report.switched()
        await gateway.reach("lte")
        assert await retained(gateway.broker) == ("online", gateway.report.view().sess)


async def test_a_stale_loss_on_the_broker_is_put_right_by_the_gateway_itself(
        tmp_path: Path) -> None:
    async with practice(tmp_path) as (gateway, watcher):
        stale = json.dumps({"b": {"st": "lost"}, "boot": 1, "sess": 0}).encode()
        async with gateway.broker.console("restored-backup") as console:
            await console.publish(f"gpgw/1/{GW}/up/presence", stale, qos=1, retain=True)
        await until(lambda: bool(watcher.lost) and watcher.presences[-1][0] == "online", 10)

        assert await retained(gateway.broker) == ("online", gateway.report.view().sess)


async def test_an_orderly_stop_says_that_it_leaves_and_is_no_loss(tmp_path: Path) -> None:
    async with practice(tmp_path, will_delay_s=1) as (gateway, watcher):
        await gateway.report.leave()
        await asyncio.sleep(2.0)

        assert watcher.lost == []
        assert watcher.presences[-1][0] == "leaving"
