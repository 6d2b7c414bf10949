"""Distance for a wire: a relay of whole frames that holds each for a set time, each way.

It joins two veths at the packet level (AF_PACKET), so that nothing of TCP ends in it: what is cut,
lost or reset beyond it stays so, only later. It stands between ``wan_x`` and ``up``, behind all
that the weather touches. TX checksums, TSO, GSO and GRO are off on the four ends, or the frames
that it reads were never checksummed and larger than any wire takes.

``near`` is the end that the far side's cable leads to, ``far`` leads on to the device that was
there before; neither answers ARP for itself. Run in ``up`` as ``python -m tests.bench.rig.delay
HOLD_S NEAR FAR``; prints ``ready``.
"""

import fcntl
import gc
import select
import socket
import struct
import sys
import time
from array import array
from collections import deque
from contextlib import suppress
from typing import Final

from chaos.rig.namespaces import FIBRE, SIM, Namespaces, Wire, visit

HOLDS_S: Final = {"a": 0.010, "b": 0.030}  # each way: links.md §16
HELD_MAX: Final = 50_000  # frames in one direction; 30 ms of a gigabit are 2,500
FRAME_MAX: Final = 65_536
BATCH: Final = 64
BUFFER_BYTES: Final = 8 << 20
EVERY_PROTOCOL: Final = 0x0003  # ETH_P_ALL
SIOCETHTOOL: Final = 0x8946
# ETHTOOL_STXCSUM, ETHTOOL_SSG, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO: linux/ethtool.h
OFFLOADS: Final = (0x17, 0x19, 0x1F, 0x24, 0x2C)


class Held:
    """The frames of one direction, first in, first out; at most ``HELD_MAX``, the rest is lost."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._frames: deque[tuple[float, bytes]] = deque()

    def take(self, frame: bytes, now: float) -> None:
        """Hold ``frame`` from ``now`` on."""
        if len(self._frames) < HELD_MAX:
            self._frames.append((now + self._hold_s, frame))

    def due(self, now: float) -> list[bytes]:
        """Return and forget the frames whose time has come."""
        found = []
        while self._frames and self._frames[0][0] <= now:
            found.append(self._frames.popleft()[1])
        return found

    def next_s(self, now: float) -> float | None:
        """Return the seconds until the next frame is due, ``None`` with none held."""
        return max(0.0, self._frames[0][0] - now) if self._frames else None


def relay(hold_s: float, near: str, far: str) -> None:
    """Relay between the two devices until killed."""
    ends = [_opened(each) for each in (near, far)]
    ways = {ends[0]: (Held(hold_s), ends[1]), ends[1]: (Held(hold_s), ends[0])}
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        now = time.monotonic()
        waits = [wait for held, _ in ways.values()
                 if (wait := held.next_s(now)) is not None]
        readable, _, _ = select.select(ends, (), (), min(waits, default=None))
        for end in readable:
            _read(end, ways[end][0])
        now = time.monotonic()
        for held, out in ways.values():
            for frame in held.due(now):
                with suppress(OSError):  # no room, or the wire is down: a lost frame
                    out.send(frame)


def _opened(device: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    end.bind((device, EVERY_PROTOCOL))
    end.setblocking(False)
    return end


def _read(end: socket.socket, held: Held) -> None:
    with suppress(BlockingIOError):
        for _ in range(BATCH):
            frame, place = end.recvfrom(FRAME_MAX)
            if place[2] != socket.PACKET_OUTGOING:
                held.take(frame, time.monotonic())


def no_offloads(device: str) -> None:
    """Turn off what would let a frame leave ``device`` unfinished; the caller stands there.

    Raises:
        OSError: no such device, or not permitted.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in OFFLOADS:
            value = array("B", struct.pack("II", command, 0))
            where, _ = value.buffer_info()
            fcntl.ioctl(any_socket, SIOCETHTOOL, struct.pack("16sP", device.encode(), where))


def spliced(wire: Wire) -> list[str]:
    """Return the ``ip -batch`` lines that make room for the relay in ``up``: near, far."""
    device, near, far = wire.device, f"near-{wire.device}", f"far-{wire.device}"
    return [
        f"link set dev {device} down", f"addr flush dev {device}",
        f"link set dev {device} name {near} arp off",
        f"link add name {far} arp off type veth peer name {device}",
        f"addr add {wire.up_side}/30 dev {device}",
        *(f"link set dev {each} up" for each in (near, far, device)),
        f"route add {wire.ours}/32 via {wire.wan_side} dev {device}"]


def commands(rig: Namespaces) -> list[tuple[str, ...]]:
    """Return the command line of each wire's relay."""
    return [rig.inside("up", sys.executable, "-m", "tests.bench.rig.delay",
                       str(HOLDS_S[wire.device]), f"near-{wire.device}", f"far-{wire.device}")
            for wire in (FIBRE, SIM)]


def bare(rig: Namespaces) -> None:
    """Turn the offloads off on the four ends of each wire."""
    for wire in (FIBRE, SIM):
        with visit(rig.name(wire.place)):
            no_offloads("wan")
        with visit(rig.name("up")):
            for device in (f"near-{wire.device}", f"far-{wire.device}", wire.device):
                no_offloads(device)


if __name__ == "__main__":
    relay(float(sys.argv[1]), sys.argv[2], sys.argv[3])
