"""A WAN link in user space: a TCP relay that needs neither root nor Go.

One ``Relay`` is one simulated link. It holds any number of forwards, each a listening port and
the address that stands behind it, and lets through, delays or swallows whatever passes.

What silence means here. A relay that merely stopped reading would still have its kernel
acknowledge every byte and complete every handshake, so a sender's TCP_USER_TIMEOUT would never
fire and a connect would succeed. On Linux the relay therefore puts a socket filter that drops
every packet (classic BPF, no privilege needed) on its listening sockets and on both ends of each
connection: SYNs, data, ACKs, FINs and RSTs vanish, the peer retransmits and backs off exactly
as on a dead line. The same filter with the kernel's own dice makes ``Lose``. Where the platform
has no such filter a cut only stops reading and accepting (``SILENT`` is False).

What it cannot do: single packets (TTL, MTU, reordering), DNS (see ``rig/dns.py``), and its losses
have no seed.
"""

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, TypeAlias

from chaos.rig.portal import gives_away
from chaos.weather import (
    Bursts,
    CaptivePortal,
    Cut,
    Flap,
    Heal,
    Lose,
    Reset,
    Slow,
    SwallowReplies,
    Verb,
    bursts,
)

SILENT: Final = sys.platform == "linux"
"""Whether a cut is silence to the kernel at the other end, too."""

CHUNK_BYTES: Final = 65536
CHUNKS_IN_FLIGHT_MAX: Final = 64
CONNECTIONS_MAX: Final = 1024
CONNECT_S: Final = 10.0

_ATTACH_FILTER: Final = 26
_DETACH_FILTER: Final = 27
_TAKE_ALL: Final = 0xFFFFFFFF

_PAGE: Final = (b"<!DOCTYPE html><html><head><title>Sign in to continue</title></head>"
                b"<body><h1>Welcome to Guest WiFi</h1><p>Accept the terms.</p></body></html>")
PORTAL: Final = (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: "
                 + str(len(_PAGE)).encode() + b"\r\nConnection: close\r\n\r\n" + _PAGE)

Way: TypeAlias = Literal["out", "back"]


@dataclass(frozen=True, slots=True)
class Forward:
    """A door of the link: connections to ``listen`` come out at ``target``; port 0 is any free."""

    name: str
    target: tuple[str, int]
    listen: tuple[str, int] = ("127.0.0.1", 0)


@dataclass(slots=True)
class Count:
    """What passed one forward: connections ever and open now, bytes out and back."""

    connections: int = 0
    open: int = 0
    bytes_out: int = 0
    bytes_back: int = 0


@dataclass(slots=True, eq=False)
class _Pair:
    """One connection: the client's socket, and the target's once there is one."""

    near: socket.socket
    far: socket.socket | None = None
    task: "asyncio.Task[None] | None" = None

    def ends(self) -> list[socket.socket]:
        return [self.near] if self.far is None else [self.near, self.far]


@dataclass(slots=True, eq=False)
class _Door:
    """A forward at work. ``holder`` is bound and never listens: it keeps the port."""

    forward: Forward
    holder: socket.socket
    listener: socket.socket | None = None
    task: "asyncio.Task[None] | None" = None
    count: Count = field(default_factory=Count)
    pairs: set[_Pair] = field(default_factory=set)


class Relay:
    """One link. Use it as ``async with Relay("fibre", [Forward(...)]) as relay``.

    ``ports`` tells where each forward listens. The verbs take effect at once and last until
    ``heal``; each replaces the one before.
    """

    def __init__(self, link: str, forwards: Sequence[Forward]) -> None:
        self.link = link
        self.weather: Verb = Heal(link)
        self.asked = self.told = 0  # what its portal was asked, and told of a client's
        self._forwards = tuple(forwards)
        self._doors: dict[str, _Door] = {}
        self._group = asyncio.TaskGroup()
        self._open: dict[Way, asyncio.Event] = {"out": asyncio.Event(), "back": asyncio.Event()}
        self._delay_s = 0.0
        self._filter: bytes | None = None
        self._flapping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Relay":
        self._let("out", "back")
        try:
            for forward in self._forwards:
                self._doors[forward.name] = _Door(forward, bound(forward.listen))
        except OSError:
            self._let_go()
            raise
        await self._group.__aenter__()
        for door in self._doors.values():
            self._listen(door)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        self._stop_flapping()
        for door in self._doors.values():
            self._deafen(door)
            for pair in tuple(door.pairs):
                _cancel(pair.task)
        ours = isinstance(error, asyncio.CancelledError)  # the group must know; others pass by
        try:
            await (self._group.__aexit__(kind, error, trace) if ours
                   else self._group.__aexit__(None, None, None))
        finally:
            self._let_go()

    def _let_go(self) -> None:
        for door in self._doors.values():
            door.holder.close()

    @property
    def ports(self) -> Mapping[str, int]:
        """Where each forward listens, by its name."""
        return {name: int(door.holder.getsockname()[1]) for name, door in self._doors.items()}

    @property
    def counts(self) -> Mapping[str, Count]:
        """What has passed each forward, by its name."""
        return {name: door.count for name, door in self._doors.items()}

    # -- the verbs

    def cut(self) -> None:
        """Silence both ways: sockets stay open, nothing is answered, not even a SYN."""
        self._begin(Cut(self.link))
        self._silence()

    def heal(self) -> None:
        """Undo every fault. What was held back now goes on, as a retransmission would."""
        self._begin(Heal(self.link))
        self._let("out", "back")

    def reset(self) -> None:
        """Abort every connection with RST on both ends, and refuse new ones."""
        self._begin(Reset(self.link))
        for door in self._doors.values():
            self._deafen(door)
            _abort(door.pairs)

    def slow(self, delay_s: float) -> None:
        """Take ``delay_s`` longer each way. (The TCP handshake itself is not slowed.)"""
        self._begin(Slow(self.link, delay_s))
        self._delay_s = delay_s
        self._let("out", "back")

    def lose(self, share: float) -> None:
        """Lose ``share`` of the packets that reach the relay from either end. Linux only."""
        self._begin(Lose(self.link, share))
        self._let("out", "back")
        self._sift(_keep_share(1.0 - share))

    def swallow_replies(self) -> None:
        """Let requests pass and hold all that comes back."""
        self._begin(SwallowReplies(self.link))
        self._let("out")

    def portal(self) -> None:
        """Reset what is open; answer everything new with a portal's 200 and a web page."""
        self._begin(CaptivePortal(self.link))
        self._let("out", "back")
        for door in self._doors.values():
            _abort(door.pairs)

    def flap(self, down_s: float, up_s: float) -> None:
        """Cut for ``down_s``, heal for ``up_s``, and so on."""
        self._begin(Flap(self.link, down_s, up_s))
        self._flapping = self._group.create_task(self._flap(down_s, up_s))

    def burst(self, verb: Bursts) -> None:
        """Cut for short whiles, as ``verb`` draws them."""
        self._begin(verb)
        self._let("out", "back")
        self._flapping = self._group.create_task(self._burst(verb))

    async def _burst(self, verb: Bursts) -> None:
        for calm_s, silent_s in bursts(verb):
            await asyncio.sleep(calm_s)
            self._silence()
            await asyncio.sleep(silent_s)
            self._sift(None)
            self._let("out", "back")

    async def _flap(self, down_s: float, up_s: float) -> None:
        while True:
            self._silence()
            await asyncio.sleep(down_s)
            self._sift(None)
            self._let("out", "back")
            await asyncio.sleep(up_s)

    # -- what the verbs are made of

    def _begin(self, verb: Verb) -> None:
        """Leave the weather before, and open the listeners that it closed."""
        self._stop_flapping()
        self.weather = verb
        self._delay_s = 0.0
        for event in self._open.values():
            event.clear()
        self._sift(None)
        for door in self._doors.values():
            if door.listener is None:
                self._listen(door)

    def _stop_flapping(self) -> None:
        _cancel(self._flapping)
        self._flapping = None

    def _silence(self) -> None:
        for event in self._open.values():
            event.clear()
        self._sift(_KEEP_NOTHING if SILENT else None)

    def _let(self, *ways: Way) -> None:
        for way in ways:
            self._open[way].set()

    def _sift(self, program: bytes | None) -> None:
        """Put the packet filter ``program`` (None: no filter) on every socket we have."""
        if program == self._filter:
            return
        self._filter = program
        for door in self._doors.values():
            ends = [end for pair in door.pairs for end in pair.ends()]
            for end in ends if door.listener is None else [door.listener, *ends]:
                _set_filter(end, program)

    def _listen(self, door: _Door) -> None:
        listener = bound(door.holder.getsockname()[:2], door.holder.family)
        listener.listen(256)
        _set_filter(listener, self._filter)
        door.listener = listener
        door.task = self._group.create_task(self._accept(door, listener))

    def _deafen(self, door: _Door) -> None:
        _cancel(door.task)
        if door.listener is not None:
            asyncio.get_running_loop().remove_reader(door.listener)
            door.listener.close()
        door.listener, door.task = None, None

    async def _accept(self, door: _Door, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not SILENT:
                await self._open["out"].wait()
            try:
                near, _ = await loop.sock_accept(listener)
            except OSError:  # out of descriptors, or the caller left first: the next may do better
                await asyncio.sleep(0.05)
                continue
            if len(door.pairs) >= CONNECTIONS_MAX:
                _close_with_reset(near)
                continue
            pair = _Pair(near)
            _set_filter(near, self._filter)
            door.pairs.add(pair)
            door.count.connections += 1
            door.count.open += 1
            pair.task = self._group.create_task(self._carry(door, pair))

    async def _carry(self, door: _Door, pair: _Pair) -> None:
        """Carry one connection to its end. Trouble on either side ends both with a reset."""
        try:
            if isinstance(self.weather, CaptivePortal):
                await self._impersonate(pair.near)
                return
            pair.far = await self._reach(door.forward.target)
            _set_filter(pair.far, self._filter)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(door, pair.near, pair.far, "out"))
                both.create_task(self._pump(door, pair.far, pair.near, "back"))
        except (OSError, ExceptionGroup):
            for end in pair.ends():
                linger_zero(end)
        finally:
            door.pairs.discard(pair)
            door.count.open -= 1
            for end in pair.ends():
                end.close()

    async def _reach(self, target: tuple[str, int]) -> socket.socket:
        await self._open["out"].wait()
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        far = socket.socket(family, socket.SOCK_STREAM)
        try:
            far.setblocking(False)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(far, target)
        except BaseException:
            far.close()
            raise
        return far

    async def _pump(self, door: _Door, source: socket.socket, sink: socket.socket,
                    way: Way) -> None:
        """Carry one direction until its end of stream, ``_delay_s`` behind, in order."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_IN_FLIGHT_MAX)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._read(source, queue))
            both.create_task(self._write(door, sink, way, queue))

    async def _read(self, source: socket.socket,
                    queue: "asyncio.Queue[tuple[float, bytes]]") -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await loop.sock_recv(source, CHUNK_BYTES)
            await queue.put((loop.time() + self._delay_s, data))
            if not data:
                return

    async def _write(self, door: _Door, sink: socket.socket, way: Way,
                     queue: "asyncio.Queue[tuple[float, bytes]]") -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self._open[way].wait()
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(sink, data)
            if way == "out":
                door.count.bytes_out += len(data)
            else:
                door.count.bytes_back += len(data)

    async def _impersonate(self, near: socket.socket) -> None:
        """Answer one HTTP request as a portal; a TLS hello, or whatever else, is closed on."""
        loop = asyncio.get_running_loop()
        head = b""
        async with asyncio.timeout(CONNECT_S):
            try:
                while b"\r\n\r\n" not in head and len(head) < CHUNK_BYTES:
                    data = await loop.sock_recv(near, CHUNK_BYTES)
                    head += data
                    if not data or head[:1] == b"\x16":
                        return
            finally:
                self.asked += bool(head)
                self.told += gives_away(head)
            await loop.sock_sendall(near, PORTAL)


class RelayRig:
    """Weather for relays, by the links' ids; what stands upstream is not its business."""

    def __init__(self, relays: Sequence[Relay]) -> None:
        self.relays: Final = {relay.link: relay for relay in relays}

    @property
    def caught(self) -> dict[str, tuple[int, int]]:
        """How often each link's portal was asked, and how often a client's request was in it."""
        return {link: (relay.asked, relay.told) for link, relay in self.relays.items()}

    def can(self, verb: Verb) -> bool:
        """Tell whether ``verb`` is one for a relay of ours."""
        if isinstance(verb, Lose) and not SILENT:
            return False
        return (isinstance(verb, Cut | Heal | Reset | Slow | Lose | Flap | SwallowReplies
                           | CaptivePortal | Bursts) and verb.link in self.relays)

    async def apply(self, verb: Verb) -> None:
        """Make ``verb`` happen. Raises ValueError for one that this rig cannot."""
        match verb:
            case _ if not self.can(verb):
                raise ValueError(f"a relay cannot make {verb}")
            case Cut(link):
                self.relays[link].cut()
            case Heal(link):
                self.relays[link].heal()
            case Reset(link):
                self.relays[link].reset()
            case Slow(link, delay_s):
                self.relays[link].slow(delay_s)
            case Lose(link, share):
                self.relays[link].lose(share)
            case Flap(link, down_s, up_s):
                self.relays[link].flap(down_s, up_s)
            case Bursts(link):
                self.relays[link].burst(verb)
            case SwallowReplies(link):
                self.relays[link].swallow_replies()
            case CaptivePortal(link):
                self.relays[link].portal()


def bound(address: tuple[str, int],
           family: socket.AddressFamily | int | None = None) -> socket.socket:
    if family is None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _cancel(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()


def _abort(pairs: set[_Pair]) -> None:
    for pair in tuple(pairs):
        for end in pair.ends():
            linger_zero(end)
        _cancel(pair.task)


def linger_zero(end: socket.socket) -> None:
    """Make the coming close send RST and wait for nothing."""
    with contextlib.suppress(OSError):  # already closed: nothing left to linger
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _close_with_reset(end: socket.socket) -> None:
    linger_zero(end)
    end.close()


def _instruction(code: int, jump_true: int, jump_false: int, k: int) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, k)


_KEEP_NOTHING: Final = _instruction(0x06, 0, 0, 0)  # ret #0: drop


def _keep_share(share: float) -> bytes:
    """Return a program that keeps ``share`` of the packets, by the kernel's own dice."""
    below = min(int(max(share, 0.0) * 2**32), 2**32 - 1)
    return (_instruction(0x20, 0, 0, 0xFFFFF000 + 56)  # ld [SKF_AD_OFF + SKF_AD_RANDOM]
            + _instruction(0x35, 0, 1, below)  # jge #below
            + _instruction(0x06, 0, 0, 0)
            + _instruction(0x06, 0, 0, _TAKE_ALL))


def _set_filter(end: socket.socket, program: bytes | None) -> None:
    """Attach ``program`` to ``end``, or take its filter away."""
    if not SILENT:
        return
    if program is None:
        with contextlib.suppress(OSError):  # ENOENT: it had none
            end.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
        return
    kept = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HP", len(program) // 8, ctypes.addressof(kept))
    with contextlib.suppress(OSError):  # a socket that just closed needs no filter
        end.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, fprog)
