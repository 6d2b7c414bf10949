"""What a network device has carried, both ways, as the kernel counts it.

A source-bound link is counted by the device that has its address. A link with neither has no
device of its own, and reads as None. Which counter it is (boot and device number) comes with the
figure, since a device that is made again counts from nothing.
"""

import fcntl
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.core.quota import Reading

DEVICES: Final = Path("/sys/class/net")
BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
SIOCGIFADDR: Final = 0x8915


class Meter:
    """Reads the counters of links; ``links`` gives each one's (interface, source), one or none."""

    def __init__(self, links: Mapping[str, tuple[str, str]], devices: Path = DEVICES,
                 boot: Path = BOOT) -> None:
        self._links = dict(links)
        self._devices = devices
        self._boot = boot

    def read(self, link: str) -> Reading | None:
        """Return what the link's device shows; None: it has none now, or it cannot be read."""
        interface, source = self._links[link]
        device = interface or (device_of(source) if source else "")
        if not device:
            return None
        try:
            there = self._devices / device
            figures = [int((there / "statistics" / name).read_text())
                       for name in ("rx_bytes", "tx_bytes")]
            life = f"{self._boot.read_text().strip()}/{(there / 'ifindex').read_text().strip()}"
        except (OSError, ValueError):
            return None
        return Reading(sum(figures), life)

    def has_device(self, link: str) -> bool:
        """Whether the link is bound to a device or an address, so that there is one to read."""
        return any(self._links[link])


def device_of(source: str) -> str:
    """Return the device whose first IPv4 address is ``source``, ``""`` where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                told = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # a device without such an address
            if socket.inet_ntoa(told[20:24]) == source:
                return name
    return ""
