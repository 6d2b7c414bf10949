"""What the kernel says of each link's device: carrier, address and route, the moment it changes.

Law: the kernel's messages, and a carrier that its driver says has changed, are only the sign that
something changed; what there is is then looked up whole. So a burst of messages costs one look, a
full buffer (ENOBUFS) is one more sign, and a device that was deleted and made again is found under
its name, a source under whichever device holds it.

pyroute2's sockets fail on uvloop (links.md section 17), so both they and the socket that hears the
signs live in a thread of their own; samples cross to the loop by ``call_soon_threadsafe``. What was
never there is no evidence against a link: said once, then silence.
"""

import asyncio
import ctypes
import errno
import fcntl
import logging
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from gateway.core.instant import Mono
from gateway.core.link import Link, Sample
from gateway.ports import Clock

try:
    from pyroute2 import IPRoute, NetlinkError  # type: ignore[import-untyped]
except ImportError:  # no Linux: probes judge the links alone
    IPRoute = None

LOG: Final = logging.getLogger("gateway.edge.netlink")

LOOK_EVERY_S: Final = 0.005
"""Least time between two looks (2 ms each, measured with 14 routes): a flood costs half a core at
most, and an event is told within 10 ms."""

CARRIER_EVERY_S: Final = 0.02
"""How often each device's carrier is asked of its driver (2 us): the kernel tells of carriers at
most once a second over all devices (net/core/link_watch.c); a move is due within 50 ms."""

_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GLINK: Final = 0x0A

LOOK_AGAIN_S: Final = 30.0
"""A look without any sign: should a sign ever be lost, it is made good after this."""

JOIN_S: Final = 2.0
BUFFER_BYTES: Final = 1 << 16

_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""rtnetlink groups LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE (linux/rtnetlink.h)."""

_IFF_UP: Final = 0x1
_LINK_SCOPE: Final = 253
_UNICAST: Final = 1


@dataclass(frozen=True, slots=True)
class Device:
    """One device as the kernel has it; ``routed`` tells a default route or one by a gateway."""

    name: str
    up: bool
    addresses: frozenset[str] = frozenset()
    routed: bool = False


@dataclass(slots=True)
class _Standing:
    """What was last told of one link, and what it was ever seen to have."""

    link: Link
    lacks: str | None = None
    seen: set[str] = field(default_factory=set)
    told_missing: bool = False


def lacking(link: Link, devices: Iterable[Device], seen: Iterable[str]) -> str | None:
    """Return what ``link`` lacks: "" for nothing, "carrier", "address", "route", or None where
    nothing can be said because its device or address was never there.

    ``seen`` names what it had at some time: a route that never was is not missed.
    """
    had = set(seen)
    holder = next((each for each in devices if _is_of(link, each)), None)
    if holder is None:
        if not had:
            return None
        return "address" if link.source else "carrier"
    if not holder.up:
        return "carrier"
    if not (link.source in holder.addresses if link.source else holder.addresses):
        return "address"
    return "route" if "route" in had and not holder.routed else ""


def _is_of(link: Link, device: Device) -> bool:
    if link.interface:
        return device.name == link.interface
    return bool(link.source) and link.source in device.addresses


class Netlink:
    """Watches the devices of ``links`` from ``start`` to ``close``, both called on the loop.

    ``see`` gets a Sample of layer ``carrier`` for each change, and at start for each link that
    has a device: ``ok`` when carrier, address and route are all there, else ``detail`` says which
    is gone. Links with neither interface nor source are not watched.
    """

    def __init__(self, links: Iterable[Link], clock: Clock, see: Callable[[Sample], None]) -> None:
        self._standings = [_Standing(link) for link in links if link.interface or link.source]
        self._clock, self._see = clock, see
        self._thread: threading.Thread | None = None
        self._stop: tuple[socket.socket, socket.socket] | None = None

    def start(self) -> Self:
        """Begin, in the namespace of the calling thread; where there is no netlink say so once."""
        if not self._standings:
            return self
        try:
            if IPRoute is None:
                raise OSError(errno.ENOSYS, "pyroute2 is not installed")
            signs = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            signs.bind((0, _GROUPS))
        except OSError as error:
            LOG.warning("carrier, address and route events are not heard; probes judge alone",
                        extra={"error": error.strerror})
            return self
        signs.setblocking(False)
        self._stop = socket.socketpair()
        self._thread = threading.Thread(
            target=self._run, args=(signs, self._stop[1], asyncio.get_running_loop()),
            name="netlink", daemon=True)
        self._thread.start()
        return self

    async def close(self) -> None:
        """End the thread; it is waited for, two seconds at most."""
        if self._thread is None or self._stop is None:
            return
        self._stop[0].send(b"x")
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, JOIN_S)
        for end in self._stop:
            end.close()
        self._thread = None

    # --- in the thread

    def _run(self, signs: socket.socket, stop: socket.socket,
             loop: asyncio.AbstractEventLoop) -> None:
        with signs, IPRoute() as kernel:
            waiting = select.poll()
            for each in (signs, stop):
                waiting.register(each, select.POLLIN)
            while True:
                at = self._clock.now()
                try:
                    devices = look(kernel)
                except (NetlinkError, OSError) as error:  # a table changed while it was read
                    LOG.debug("a look at the devices failed", extra={"error": str(error)})
                else:
                    self._judge(devices, at, loop)
                if self._rests(select.poll(), stop, LOOK_EVERY_S):
                    return
                if self._hears_the_end(waiting, stop):
                    return
                _drain(signs)

    def _hears_the_end(self, waiting: select.poll, stop: socket.socket) -> bool:
        """Wait for a sign, a carrier that changed, or a while; return whether the end has come."""
        names = tuple(each.link.interface for each in self._standings if each.link.interface)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            before = [has_carrier(asking, name) for name in names]
            for _ in range(int(LOOK_AGAIN_S / CARRIER_EVERY_S)):
                heard = {fd for fd, _ in waiting.poll(CARRIER_EVERY_S * 1000)}
                if heard or [has_carrier(asking, name) for name in names] != before:
                    return stop.fileno() in heard
        return False

    @staticmethod
    def _rests(waiting: select.poll, stop: socket.socket, seconds: float) -> bool:
        """Rest between two looks; return whether the end has come."""
        waiting.register(stop, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def _judge(self, devices: tuple[Device, ...], at: Mono,
               loop: asyncio.AbstractEventLoop) -> None:
        for standing in self._standings:
            holder = next((each for each in devices if _is_of(standing.link, each)), None)
            if holder is not None:
                standing.seen |= {"device"} | ({"route"} if holder.routed else set())
            lacks = lacking(standing.link, devices, standing.seen)
            if lacks is None and not standing.told_missing:
                standing.told_missing = True
                LOG.info("a link's device is not there; it is watched for",
                         extra={"link": standing.link.id})
            if lacks is None or lacks == standing.lacks:
                continue
            standing.lacks = lacks
            sample = Sample(standing.link.id, "device", "carrier", not lacks, at, at, detail=lacks)
            try:
                loop.call_soon_threadsafe(self._see, sample)
            except RuntimeError:  # the loop ended before its close was called
                return


def _drain(signs: socket.socket) -> None:
    """Read away all signs that wait; a full buffer is a sign like any other."""
    while True:
        try:
            signs.recv(BUFFER_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise


def has_carrier(asking: socket.socket, device: str) -> bool | None:
    """Return whether ``device`` has a carrier at this instant; None where it does not say."""
    value = bytearray(struct.pack("II", _ETHTOOL_GLINK, 0))
    held = (ctypes.c_char * len(value)).from_buffer(value)
    wanted = struct.pack("16sP16x", device.encode(), ctypes.addressof(held))
    try:
        fcntl.ioctl(asking, _SIOCETHTOOL, wanted)
    except OSError:
        return None
    return bool(struct.unpack("II", bytes(value))[1])


def look(kernel: Any) -> tuple[Device, ...]:
    """Return all devices with their addresses and whether a route leads out by them.

    Raises:
        NetlinkError, OSError: the kernel did not tell.
    """
    links = {each["index"]: each for each in kernel.get_links()}
    addresses: dict[int, set[str]] = {}
    for each in kernel.get_addr():
        if each["scope"] != _LINK_SCOPE:
            text = each.get("local") or each.get("address")
            addresses.setdefault(each["index"], set()).add(str(text))
    routed = {index for each in kernel.get_routes() for index in _leads_by(each)}
    return tuple(Device(
        str(each.get("ifname")), bool(each["flags"] & _IFF_UP) and each.get("carrier") != 0,
        frozenset(addresses.get(index, ())), index in routed) for index, each in links.items())


def _leads_by(route: Any) -> tuple[int, ...]:
    """Indexes of the devices by which a route leads out: a default route, or one by a gateway."""
    if route["type"] != _UNICAST:
        return ()
    if hops := route.get("multipath"):
        return tuple(hop["oif"] for hop in hops)
    out = route.get("oif")
    leads = route["dst_len"] == 0 or route.get("gateway") or route.get("via")
    return (out,) if out and leads else ()
