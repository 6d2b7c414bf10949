"""Whoever looks on: /status asked over and over, the broker listened to, marks searched for.

All from outside, through the gateway's front doors and the files it leaves. What is noted of a
message is its topic, its time and its rows' numbers; its payload is searched for marks and let go.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiomqtt

from chaos.observed import Leak, Move

LOOK_EVERY_S: Final = 0.1
RECONNECT_S: Final = 0.5
MESSAGES_MAX: Final = 100_000
FILE_BYTES_MAX: Final = 256 << 20

Row: TypeAlias = tuple[int, str, int]


class StatusWatch:
    """Asks ``/status`` ten times a second and notes every change of mode and of active link.

    A change is dated when it was first seen, up to 0.1 s after it was made. The first look after
    the gateway was away (a crash) begins anew: a restart is no switch.
    """

    def __init__(self, ask: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        self.moves: list[Move] = []
        self.last: Mapping[str, Any] = {}
        self.told: Callable[[Move], None] = lambda _: None
        self._ask = ask

    async def run(self) -> None:
        """Look on until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> Mapping[str, Any]:
        """Look once; return what was said (empty where nobody answered)."""
        try:
            said = await self._ask()
        except (OSError, ValueError):
            said = {}
        if said and self.last:
            for move in moves_between(self.last, said, time.time()):
                self.moves.append(move)
                self.told(move)
        self.last = said
        return said


def moves_between(before: Mapping[str, Any], after: Mapping[str, Any], at: float) -> list[Move]:
    """Return the switch and the changes of mode between two ``/status`` documents."""
    found: list[Move] = []
    active = [next((link["id"] for link in said["links"] if link["active"]), "")
              for said in (before, after)]
    if active[0] != active[1]:
        last = after.get("last_switch") or {}
        found.append(Move(at, "switch", active[0], active[1], cause=last.get("cause", "")))
    modes = {(one["tenant"], one["upstream"]): one["mode"] for one in before["modes"]}
    for one in after["modes"]:
        was = modes.get((one["tenant"], one["upstream"]), one["mode"])
        if was != one["mode"]:
            found.append(Move(at, "mode", was, one["mode"], one["tenant"], one["upstream"],
                              one["cause"]))
    return found


def copies_of(status: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return the copies each tenant's store has counted, which is to say acknowledged."""
    return tuple((one["tenant"], one["copies"]) for one in status.get("stores", [])
                 if one["state"] == "open")


def rows_of(status: Mapping[str, Any]) -> frozenset[Row]:
    """Return the number of every event row that ``/status`` says was written."""
    outbox = status.get("outbox")
    if not outbox:
        return frozenset()
    return frozenset((int(outbox["box"]), rank, seq) for rank, high in outbox["high"].items()
                     for seq in range(1, high + 1))


@dataclass(slots=True)
class BrokerWatch:
    """Listens to all that gateways say at ``place``; it never leaves while the story lasts."""

    place: tuple[str, int]
    marks: tuple[tuple[str, bytes], ...] = ()
    topics: set[str] = field(default_factory=set)
    rows: list[Row] = field(default_factory=list)
    presences: list[tuple[float, str]] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    messages: int = 0
    listening: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Listen until cancelled, dialling again where the broker went away."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError, OSError):
                async with aiomqtt.Client(
                        *self.place, identifier="chaos-watcher", clean_session=False,
                        max_queued_incoming_messages=10_000) as client:
                    await client.subscribe("gpgw/#", qos=1)
                    self.listening.set()
                    async for message in client.messages:
                        self.hear(str(message.topic), message.payload)
            await asyncio.sleep(RECONNECT_S)

    def hear(self, topic: str, payload: object) -> None:
        """Note one message."""
        data = payload if isinstance(payload, bytes) else str(payload).encode()
        self.messages += 1
        if self.messages > MESSAGES_MAX:
            return
        self.topics.add(topic)
        self.leaks += find_marks("an MQTT topic", topic.encode(), self.marks)
        self.leaks += find_marks("an MQTT payload", data, self.marks)
        kind = topic.rpartition("/")[2]
        with contextlib.suppress(ValueError):  # a cleared retained topic has an empty payload
            tree = json.loads(data)
            if kind == "evt":
                self.rows += numbered(tree)
            elif kind == "presence":
                self.presences.append((time.time(), str(tree.get("b", {}))))


def numbered(tree: Mapping[str, Any]) -> list[Row]:
    """Return the row numbers in an ``evt`` message: one row, or a batch that shares its box."""
    rows = tree.get("rows", [tree])
    return [(int(row.get("box", tree.get("box", 0))), str(row.get("rank", tree.get("rank", ""))),
             int(row["seq"])) for row in rows if "seq" in row]


def find_marks(place: str, data: bytes, marks: Iterable[tuple[str, bytes]]) -> list[Leak]:
    """Return a leak for each mark (what it is, its bytes) that stands in ``data``."""
    return [Leak(place, what) for what, mark in marks if mark in data]


def search(home: Iterable[Path], marks: tuple[tuple[str, bytes], ...]) -> tuple[int, list[Leak]]:
    """Search every file below ``home``, its bytes and its name; return (files, leaks).

    A leak names the file's kind by its last part only; the mark itself is never repeated.
    """
    count = 0
    leaks: list[Leak] = []
    for root in home:
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            leaks += find_marks("a file name", str(path).encode("utf-8", "surrogateescape"), marks)
            if not path.is_file() or path.stat().st_size > FILE_BYTES_MAX:
                continue
            count += 1
            leaks += find_marks(f"file {path.name}", path.read_bytes(), marks)
    return count, leaks
