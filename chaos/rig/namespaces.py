"""Weather on a real kernel: four network namespaces, two WAN links, faults that send no word.

    edge ---- a ---- wan_a ---- a ---- up        10.77.1.2 -> 10.77.1.1 | 10.77.11.1 -> 10.77.11.2
      | '---- b ---- wan_b ---- b ---- '         10.77.2.2 -> 10.77.2.1 | 10.77.12.1 -> 10.77.12.2
      '------------- ctl --------------'         10.77.9.1 -> 10.77.9.2: the harness's own wire

The gateway runs in ``edge`` and knows its links as the devices ``a`` and ``b``; origins, broker,
echo and name server run in ``up`` on addresses of their own (``SERVICES``) that both links lead
to. Nothing of it touches the machine's own network. Needs root, ``ip`` and ``nft``; the names are
``pgw-{pid}-{n}-{place}``, so a later run finds and removes what a killed one left behind.

A silent cut is a permanent neighbour with a wrong hardware address on *both* ends of the link
(links.md §16): no reset, no ICMP, no loss of carrier. Losses are made on the far side, for a
local drop would show in the sender's own stack.
"""

import asyncio
import ctypes
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, assert_never

from chaos.weather import (
    Bursts,
    CaptivePortal,
    Cut,
    DnsLie,
    Flap,
    Heal,
    Intercept,
    Lose,
    MtuHole,
    OneWay,
    Reset,
    Slow,
    SwallowReplies,
    Unplug,
    UpstreamGone,
    UpstreamHung,
    UpstreamSlow,
    UpstreamStatus,
    Verb,
    bursts,
)

Place: TypeAlias = Literal["edge", "wan_a", "wan_b", "up"]
LinkVerb: TypeAlias = (Cut | Heal | Reset | Slow | Lose | Flap | SwallowReplies | OneWay | Unplug
                      | DnsLie | CaptivePortal | MtuHole | Bursts | Intercept)
PLACES: Final[tuple[Place, ...]] = ("edge", "wan_a", "wan_b", "up")
PREFIX: Final = "pgw-"
RUN_DIR: Final = Path("/run/netns")
WRONG_MAC: Final = "02:00:00:00:00:99"  # locally administered, nobody's: frames to it are dropped
CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
SIOCETHTOOL: Final = 0x8946  # linux/sockios.h
PORTAL_PORT: Final = 8079  # inside wan_a or wan_b, where the portal's own listener stands
_COUNT: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Wire:
    """One WAN link as the kernel knows it: ``device`` in edge and in up, ``place`` between them.

    In ``place`` the devices are called ``lan`` (towards edge) and ``wan``.
    """

    device: str
    place: Place
    ours: str
    gateway: str
    wan_side: str
    up_side: str


FIBRE: Final = Wire("a", "wan_a", "10.77.1.2", "10.77.1.1", "10.77.11.1", "10.77.11.2")
SIM: Final = Wire("b", "wan_b", "10.77.2.2", "10.77.2.1", "10.77.12.1", "10.77.12.2")
CONTROL_EDGE: Final = "10.77.9.1"
CONTROL_UP: Final = "10.77.9.2"
SERVICES: Final = "10.77.100.0/24"  # every service address in `up`: 10.77.100.1, .2, ...
RESOLVERS: Final = {"a": "10.77.100.53", "b": "10.77.100.54"}
LIAR: Final = "10.77.100.66"  # where DnsLie sends the questions of a link


class NeedsRoot(RuntimeError):
    """This rig makes network namespaces, which takes root and the programs ``ip`` and ``nft``."""


def why_not() -> str:
    """Return why this machine cannot carry the rig, or ``""``."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    probe = f"{PREFIX}{os.getpid()}-0-probe"
    made = subprocess.run(("ip", "netns", "add", probe), capture_output=True, check=False)
    if made.returncode == 0:
        subprocess.run(("ip", "netns", "del", probe), capture_output=True, check=False)
        return ""
    return "this kernel or container refuses network namespaces"


def sweep() -> tuple[str, ...]:
    """Remove namespaces that a dead run of ours left, and what still runs in them; return them.

    Only names of our own form whose process no longer exists are touched.
    """
    if not RUN_DIR.is_dir():
        return ()
    left = [entry.name for entry in RUN_DIR.iterdir() if _is_orphan(entry.name)]
    for name in left:
        _end_all_in(name)
        subprocess.run(("ip", "netns", "del", name), capture_output=True, check=False)
    return tuple(sorted(left))


def _end_all_in(name: str) -> None:
    said = subprocess.run(("ip", "netns", "pids", name), capture_output=True, text=True,
                          check=False)
    for pid in said.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _is_orphan(name: str) -> bool:
    ours = re.fullmatch(rf"{PREFIX}(\d+)-\d+-\w+", name)
    return ours is not None and not Path(f"/proc/{ours[1]}").exists()


def enter(name: str) -> None:
    """Move the calling thread into the network namespace ``name``; its children follow.

    Raises:
        OSError: no such namespace, or not permitted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(RUN_DIR / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)


@contextmanager
def visit(name: str) -> Iterator[None]:
    """Let the calling thread stand in ``name`` for a while, to make a socket there, say."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(name)
        yield
    finally:
        ctypes.CDLL(None).setns(home, CLONE_NEWNET)
        os.close(home)


class Namespaces:
    """The rig. Enter it to build the world, leave it to take the world down.

    ``fibre`` and ``sim`` name the two wires; ``services`` are the addresses to give to ``up``;
    ``upstreams`` maps an upstream's id to its service address, for ``UpstreamGone``. A verb that
    names another link raises KeyError. ``caught`` is, by link, how often its portal was asked, and
    how often it could read a client's request in it.
    """

    def __init__(self, fibre: str = "fibre", sim: str = "sim",
                 services: tuple[str, ...] = ("10.77.100.1", "10.77.100.2", "10.77.100.3"),
                 upstreams: Mapping[str, str] | None = None) -> None:
        self.links: Final = {fibre: FIBRE, sim: SIM}
        self._upstreams: Final = dict(upstreams or {})
        self._services = (*services, *RESOLVERS.values(), LIAR)
        self._run = f"{PREFIX}{os.getpid()}-{next(_COUNT)}"
        self._netem = False
        self._flaps: dict[str, asyncio.Task[None]] = {}
        self._portals: dict[str, asyncio.subprocess.Process] = {}
        self.caught: dict[str, tuple[int, int]] = {}
        self._stack = AsyncExitStack()

    def name(self, place: Place) -> str:
        """Return the namespace's name, as ``ip netns`` shows it."""
        return f"{self._run}-{place}"

    def inside(self, place: Place, *argv: str) -> tuple[str, ...]:
        """Return the command line that runs ``argv`` in ``place``; its pid is the program's own."""
        return ("ip", "netns", "exec", self.name(place), *argv)

    async def __aenter__(self) -> Self:
        refusal = why_not()
        if refusal:
            raise NeedsRoot(refusal)
        sweep()
        self._stack.callback(self._take_down)
        try:
            await self._build()
            self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        for flap in self._flaps.values():
            flap.cancel()
        for portal in self._portals.values():
            portal.kill()
            await portal.wait()
        await self._stack.aclose()

    def _take_down(self) -> None:
        for place in PLACES:
            subprocess.run(("ip", "netns", "del", self.name(place)), capture_output=True,
                           check=False)

    async def _build(self) -> None:
        for place in PLACES:
            await _must("ip", "netns", "add", self.name(place))
        lines: dict[Place, list[str]] = {place: ["link set dev lo up"] for place in PLACES}
        for wire in self.links.values():
            await self._pair("edge", wire.device, wire.place, "lan")
            await self._pair("up", wire.device, wire.place, "wan")
            _address_wire(lines, wire)
        await self._pair("edge", "ctl", "up", "ctl")
        for place, address in (("edge", CONTROL_EDGE), ("up", CONTROL_UP)):
            lines[place] += [f"addr add {address}/30 dev ctl", "link set dev ctl up"]
        lines["up"] += [f"addr add {address}/32 dev lo" for address in self._services]
        for place in PLACES:
            await self._kernel_settings(place)
            await self._batch(place, lines[place])
        self._netem = await self._try_netem()

    async def _pair(self, one: Place, device: str, other: Place, peer: str) -> None:
        await _must("ip", "-n", self.name(one), "link", "add", "name", device, "type", "veth",
                    "peer", "name", peer, "netns", self.name(other))

    async def _kernel_settings(self, place: Place) -> None:
        """Forward between the wires, and let a socket bound to a device hear its answers."""
        settings = ["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"]
        if place.startswith("wan"):
            settings.append("net.ipv4.ip_forward=1")
        script = "; ".join(
            f"echo {value} > /proc/sys/{key.replace('.', '/')}"
            for key, value in (setting.split("=") for setting in settings))
        script += "; for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done"
        await _must(*self.inside(place, "sh", "-ec", script))

    async def _try_netem(self) -> bool:
        tried = await _run("tc", "-n", self.name("wan_a"), "qdisc", "add", "dev", "lan", "root",
                           "netem", "delay", "0ms")
        await _run("tc", "-n", self.name("wan_a"), "qdisc", "del", "dev", "lan", "root")
        return tried == 0

    async def _batch(self, place: Place, lines: list[str], force: bool = False) -> None:
        argv = ["ip", *(["-force"] if force else []), "-n", self.name(place), "-batch", "-"]
        code = await _run(*argv, stdin="\n".join(lines) + "\n")
        if code and not force:
            raise RuntimeError(f"ip -batch in {place} failed with {code}")

    async def _nft(self, place: Place, rules: str) -> None:
        text = f"table inet weather\ndelete table inet weather\n{rules}\n"
        if await _run(*self.inside(place, "nft", "-f", "-"), stdin=text):
            raise RuntimeError(f"nft refused the rules for {place}")

    def can(self, verb: Verb) -> bool:
        """Tell whether this rig knows ``verb``: slowness needs netem, which kernels often lack.

        What an upstream itself does (a status, hanging) is the upstream's own affair.
        """
        if isinstance(verb, Slow):
            return self._netem
        if isinstance(verb, UpstreamGone):
            return verb.upstream in self._upstreams
        return not isinstance(verb, UpstreamStatus | UpstreamHung | UpstreamSlow)

    async def apply(self, verb: Verb) -> None:
        """Make ``verb`` happen; return when it has.

        Raises:
            KeyError: no such link.
            ValueError: ``can`` says no.
        """
        if not self.can(verb):
            raise ValueError(f"the namespace rig cannot {type(verb).__name__}")
        match verb:
            case UpstreamGone(upstream, gone):
                await self._gone(self._upstreams[upstream], gone)
            case UpstreamStatus() | UpstreamHung() | UpstreamSlow():
                raise ValueError("an upstream's own manners are its own to change")
            case _:
                await self._end_flap(verb.link)
                await self._on_link(verb)

    async def _on_link(self, verb: LinkVerb) -> None:
        match verb:
            case Cut(link):
                await asyncio.gather(self._deafen(link, "up"), self._deafen(link, "down"))
            case OneWay(link, lost):
                await self._deafen(link, lost)
            case Heal(link):
                await self._heal(link)
            case Reset(link):
                await self._forward_rule(link, "meta l4proto tcp reject with tcp reset")
            case Lose(link, share):
                below = round(share * 1000)
                await self._forward_rule(link, f"numgen random mod 1000 < {below} drop")
            case SwallowReplies(link):
                # Handshakes and bare ACKs (at most 80 bytes) pass; what carries a reply does not.
                await self._forward_rule(
                    link, 'iifname "wan" meta l4proto tcp meta length > 100 drop')
            case Slow(link, delay_s):
                await self._slow(link, delay_s)
            case Unplug(link):
                await self._batch(self.links[link].place, ["link set dev lan down"])
            case Flap(link, down_s, up_s):
                self._flaps[link] = self._group.create_task(self._flapping(link, down_s, up_s))
            case Bursts(link):
                self._flaps[link] = self._group.create_task(self._bursting(verb))
            case MtuHole(link, passes_bytes):
                await self._hole(link, passes_bytes)
            case DnsLie(link, lie):
                await self._dns(link, lie)
            case CaptivePortal(link):
                await self._portal(link)
            case Intercept(link, by):
                await self._turn_rule(link, f"meta l4proto tcp dnat ip to {by}")
            case _:
                assert_never(verb)

    async def _end_flap(self, link: str) -> None:
        flap = self._flaps.pop(link, None)
        if flap is not None:
            flap.cancel()
            await asyncio.wait((flap,))

    async def _deafen(self, link: str, lost: Literal["up", "down"]) -> None:
        wire = self.links[link]
        if lost == "up":
            place, peer, device = "edge", wire.gateway, wire.device
        else:
            place, peer, device = wire.place, wire.ours, "lan"
        await self._batch(place, [  # type: ignore[arg-type]  # a Place
            f"neigh replace {peer} lladdr {WRONG_MAC} nud permanent dev {device}"])

    async def _heal(self, link: str) -> None:
        wire = self.links[link]
        portal = self._portals.pop(link, None)
        if portal is not None:
            portal.kill()
            await portal.wait()
        await asyncio.gather(self._hear(wire), self._nft(wire.place, ""))
        if self._netem:
            await _run("tc", "-n", self.name(wire.place), "qdisc", "del", "dev", "lan", "root")
            await _run("tc", "-n", self.name(wire.place), "qdisc", "del", "dev", "wan", "root")

    async def _hear(self, wire: Wire) -> None:
        await asyncio.gather(
            self._batch("edge", [f"neigh del {wire.gateway} dev {wire.device}"], force=True),
            self._batch(wire.place, ["link set dev lan up", f"neigh del {wire.ours} dev lan"],
                        force=True))

    async def _slow(self, link: str, delay_s: float) -> None:
        place = self.links[link].place
        for device in ("lan", "wan"):
            await _must("tc", "-n", self.name(place), "qdisc", "replace", "dev", device, "root",
                        "netem", "delay", f"{round(delay_s * 1000)}ms", "limit", "100000")

    async def _flapping(self, link: str, down_s: float, up_s: float) -> None:
        while True:
            await self._on_link(Cut(link))
            await asyncio.sleep(down_s)
            await self._heal(link)
            await asyncio.sleep(up_s)

    async def _bursting(self, verb: Bursts) -> None:
        for calm_s, silent_s in bursts(verb):
            await asyncio.sleep(calm_s)
            await self._on_link(Cut(verb.link))
            await asyncio.sleep(silent_s)
            await self._hear(self.links[verb.link])

    async def _hole(self, link: str, passes_bytes: int) -> None:
        """First the offloads go, and stay gone: an aggregate of segments that fit would be lost as
        one that does not (links.md section 16). ``gso_max_segs 1`` is not enough where BBR paces:
        half of a burst was lost (measured, Linux 6.18)."""
        wire = self.links[link]
        spots: tuple[tuple[Place, str], ...] = (
            ("edge", wire.device), (wire.place, "lan"), (wire.place, "wan"), ("up", wire.device))
        for place, device in spots:
            with visit(self.name(place)):
                _without_offloads(device)
        await self._forward_rule(link, f"meta length > {passes_bytes} drop")

    async def _dns(self, link: str, lie: str) -> None:
        """No answer to any question where ``lie`` is empty, else let the liar answer them.

        The story runs the liar itself, in ``up`` at ``LIAR``: it alone knows the port and the lie.
        """
        if lie:
            every = "meta l4proto { tcp, udp } th dport 53"
            await self._turn_rule(link, f"{every} dnat ip to {LIAR}")
        else:
            await self._forward_rule(link, "meta l4proto { tcp, udp } th dport 53 drop")

    async def _portal(self, link: str) -> None:
        place = self.links[link].place
        portal = await asyncio.create_subprocess_exec(
            *self.inside(place, sys.executable, "-m", "chaos.rig.portal", str(PORTAL_PORT)),
            stdout=asyncio.subprocess.PIPE)
        self._portals[link] = portal
        if portal.stdout is not None:
            await portal.stdout.readline()  # one line, once it listens
            self._group.create_task(self._listen(link, portal.stdout))
        await self._turn_rule(link, f"meta l4proto tcp redirect to :{PORTAL_PORT}")

    async def _listen(self, link: str, said: asyncio.StreamReader) -> None:
        while line := await said.readline():
            asked, told = self.caught.get(link, (0, 0))
            self.caught[link] = (asked + 1, told + (line == b"told\n"))

    async def _forward_rule(self, link: str, rule: str) -> None:
        await self._nft(self.links[link].place, _table(
            "chain passing { type filter hook forward priority 0;", rule))

    async def _turn_rule(self, link: str, rule: str) -> None:
        await self._nft(self.links[link].place, _table(
            "chain turning { type nat hook prerouting priority -100;", f'iifname "lan" {rule}'))

    async def _gone(self, address: str, gone: bool) -> None:
        """Refuse connections to a service address in ``up``, by whichever link they come."""
        rule = f"ip daddr {address} meta l4proto tcp reject with tcp reset"
        await self._nft("up", _table("chain coming { type filter hook input priority 0;", rule)
                        if gone else "")


def _table(chain: str, rule: str) -> str:
    return f"table inet weather {{\n{chain}\n{rule}\n}}\n}}"


def _without_offloads(device: str) -> None:
    """Turn off what makes one packet of several on ``device`` of the namespace that we stand in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for command in (0x1F, 0x24, 0x2C):  # ETHTOOL_STSO, _SGSO, _SGRO (linux/ethtool.h)
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            wanted = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
            fcntl.ioctl(asking, SIOCETHTOOL, wanted)


def _address_wire(lines: dict[Place, list[str]], wire: Wire) -> None:
    metric = 100 if wire.device == "a" else 200
    lines["edge"] += [
        f"addr add {wire.ours}/24 dev {wire.device}",
        f"link set dev {wire.device} up",
        f"route add default via {wire.gateway} dev {wire.device} metric {metric}"]
    lines[wire.place] += [
        f"addr add {wire.gateway}/24 dev lan", "link set dev lan up",
        f"addr add {wire.wan_side}/30 dev wan", "link set dev wan up",
        f"route add {SERVICES} via {wire.up_side}"]
    lines["up"] += [
        f"addr add {wire.up_side}/30 dev {wire.device}",
        f"link set dev {wire.device} up",
        f"route add {wire.ours}/32 via {wire.wan_side} dev {wire.device}"]


async def _run(*argv: str, stdin: str = "") -> int:
    child = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL)
    await child.communicate(stdin.encode())
    return child.returncode or 0


async def _must(*argv: str) -> None:
    code = await _run(*argv)
    if code:
        raise RuntimeError(f"{' '.join(argv[:4])} failed with {code}")
