"""A world for simulation: links and upstreams on virtual time, with weather, and a long memory.

``World`` is a rig of ``chaos.weather``: ``apply`` takes the same verbs as the real rigs.
``prober(link)`` and ``sender(link, see)`` are the two ports of the gateway that lead into it. What
the real edge would see, it sees: ``sender`` tells samples as ``edge/http_out`` does.

A message crosses a link in ``delay_s``; while the link is cut it does not, and is sent again after
0.2 s, 0.4 s and so on, as TCP does, until who sent it gives up. Chance comes from one seed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal, TypeAlias
from zlib import crc32

from chaos.weather import (
    CaptivePortal,
    Cut,
    DnsLie,
    Flap,
    Heal,
    Lose,
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
)
from gateway.core.gate import Progress
from gateway.core.instant import Mono
from gateway.core.link import Layer, Link, Probe, Sample
from gateway.core.message import (
    Arrived,
    Cause,
    NeverLeft,
    NoAnswer,
    Outbound,
    Outcome,
    Reply,
)
from tests.kit.clock import SimClock

RETRANSMIT_S: Final = 0.2
PROBE_TIMEOUT_S: Final = 0.8
USER_TIMEOUT_S: Final = 1.5
"""TCP_USER_TIMEOUT of a link: data unacknowledged for so long ends the connection."""

GATE_S: Final = 0.09
"""How long a kernel hears nothing of bytes that it sent before somebody is told."""

End: TypeAlias = Literal["crossed", "late", "reset"]


@dataclass
class LinkWeather:
    """One link's weather now. ``flap`` is (since, down_s, up_s)."""

    delay_s: float = 0.015
    cut_up: bool = False
    cut_down: bool = False
    resets: bool = False
    loss: float = 0.0
    flap: tuple[float, float, float] | None = None
    portal: bool = False
    dns: bool = True
    extra_s: float = 0.0

    def passes(self, way: Literal["up", "down"], now: float) -> bool:
        """Whether packets get through at ``now``."""
        if self.flap is not None:
            since, down_s, up_s = self.flap
            if (now - since) % (down_s + up_s) < down_s:
                return False
        return not (self.cut_up if way == "up" else self.cut_down)


@dataclass
class UpstreamWeather:
    """One upstream's weather now. ``work_s`` is how long it takes to answer."""

    status: int = 0
    gone: bool = False
    hung: bool = False
    work_s: float = 0.02


@dataclass(frozen=True)
class Arrival:
    """What an upstream saw: one request, over which link, and when."""

    at: Mono
    link: str
    upstream: str
    tenant: str
    method: str
    target: str = field(repr=False)
    body: bytes = field(repr=False)


def searchset(outbound: Outbound) -> Reply:
    """Return a 200 that any FHIR client would take; its body differs with the target."""
    name = crc32(outbound.target.encode())
    body = b'{"resourceType":"Bundle","type":"searchset","id":"%d"}' % name
    return Reply(200, "OK", (("Content-Type", "application/fhir+json"),
                             ("Content-Length", str(len(body)))), body)


def refused(status: int) -> Reply:
    """Return a reply of ``status`` as a clinical system gives it: not now."""
    body = b'{"resourceType":"OperationOutcome","issue":[{"code":"transient"}]}'
    return Reply(status, "", (("Content-Type", "application/fhir+json"),
                              ("Content-Length", str(len(body)))), body)


class World:
    """Links and upstreams. ``arrivals`` is everything any upstream ever saw, in order."""

    def __init__(self, clock: SimClock, links: tuple[Link, ...], upstreams: tuple[str, ...],
                 seed: int = 0, answer: Callable[[Outbound], Reply] = searchset) -> None:
        self.clock = clock
        self.links = {link.id: LinkWeather() for link in links}
        self.upstreams = {upstream: UpstreamWeather() for upstream in upstreams}
        self.anchors_gone: set[str] = set()
        self.arrivals: list[Arrival] = []
        self.verbs: list[tuple[Mono, Verb]] = []
        self.answer = answer
        self._rng = Random(seed)

    def can(self, verb: Verb) -> bool:
        """All verbs are known here."""
        return True

    async def apply(self, verb: Verb) -> None:
        """Make the weather ``verb`` from now on."""
        self.verbs.append((self.clock.now(), verb))
        match verb:
            case Heal(link):
                self.links[link] = LinkWeather()
            case Cut(link) | Unplug(link):
                self.links[link].cut_up = self.links[link].cut_down = True
            case OneWay(link, lost):
                self.links[link].cut_up = lost == "up"
                self.links[link].cut_down = lost == "down"
            case SwallowReplies(link):
                self.links[link].cut_down = True
            case Reset(link):
                self.links[link].resets = True
            case Slow(link, delay_s):
                self.links[link].extra_s = delay_s
            case Lose(link, share):
                self.links[link].loss = share
            case Flap(link, down_s, up_s):
                self.links[link].flap = (self.clock.now(), down_s, up_s)
            case CaptivePortal(link):
                self.links[link].portal = True
            case DnsLie(link):
                self.links[link].dns = False
            case UpstreamStatus(upstream, status):
                self.upstreams[upstream].status = status
            case UpstreamSlow(upstream, delay_s):
                self.upstreams[upstream].work_s = delay_s
            case UpstreamGone(upstream, gone):
                self.upstreams[upstream].gone = gone
            case UpstreamHung(upstream, hung):
                self.upstreams[upstream].hung = hung

    def prober(self, link: str) -> "SimProber":
        """Return the probe port of ``link``."""
        return SimProber(self, link)

    def sender(self, link: str, see: Callable[[Sample], None]) -> "SimSender":
        """Return the HTTP port of ``link``; its samples go to ``see``."""
        return SimSender(self, link, see)

    def works(self, link: str) -> bool:
        """Whether a request over ``link`` would be answered now: what promise 1 asks."""
        weather, now = self.links[link], self.clock.now()
        return (weather.passes("up", now) and weather.passes("down", now)
                and not weather.resets and not weather.portal and weather.loss < 1.0)

    async def cross(self, link: str, way: Literal["up", "down"], until: float) -> End:
        """Carry one message over ``link``, sending it again as TCP does, until it is too late."""
        pause = RETRANSMIT_S
        while True:
            weather = self.links[link]
            if weather.resets:
                await self.clock.sleep(weather.delay_s)
                return "reset"
            lost = not weather.passes(way, self.clock.now()) or self._rng.random() < weather.loss
            if not lost:
                await self._wait(weather.delay_s + weather.extra_s, until)
                return "late" if self.clock.now() >= until else "crossed"
            await self._wait(pause, until)
            if self.clock.now() >= until:
                return "late"
            pause = min(pause * 2, 3.0)

    async def _wait(self, seconds: float, until: float) -> None:
        await self.clock.sleep(min(seconds, max(0.0, until - self.clock.now())))


class SimProber:
    """The probe port of one link. ``once`` packets are not sent again: a lost one is a miss."""

    def __init__(self, world: World, link: str) -> None:
        self._world = world
        self._link = link

    async def ask(self, probe: Probe) -> Sample:
        """Ask one target, an anchor or (by its id) an upstream; a miss takes 0.8 s."""
        world, clock = self._world, self._world.clock
        sent = clock.now()
        due = Mono(sent + PROBE_TIMEOUT_S)
        upstream = world.upstreams.get(probe.id)
        gone = probe.id in world.anchors_gone or (upstream is not None and upstream.gone)
        layer: Layer = "http" if probe.kind == "http" else "tls"
        weather = world.links[self._link]
        if weather.portal:
            await clock.sleep(weather.delay_s * 2)
            return Sample(self._link, probe.id, layer, False, sent, clock.now(), True,
                          detail="not_the_api" if layer == "http" else "certificate")
        end = await world.cross(self._link, "up", due)
        if end == "crossed":
            end = await world.cross(self._link, "down", due)
        if end != "crossed" or gone:
            at = due if end == "late" else clock.now()
            return Sample(self._link, probe.id, layer, False, sent, at, True, detail="connect")
        rtt = (clock.now() - sent) * 1000
        return Sample(self._link, probe.id, layer, True, sent, clock.now(), True, rtt)


class SimSender:
    """The HTTP port of one link: three outcomes, and the samples that belong to them."""

    def __init__(self, world: World, link: str, see: Callable[[Sample], None]) -> None:
        self._world = world
        self._link = link
        self._see = see
        self._pooled = 0
        self.renewed = 0

    def renew(self) -> None:
        """Begin a new epoch: nothing is pooled."""
        self._pooled = 0
        self.renewed += 1

    async def send(self, outbound: Outbound,
                   tell: Callable[[Progress], None] | None = None) -> Outcome:
        """Send over the simulated link; raises only cancellation. ``tell`` hears what a kernel
        says of the bytes: nothing back ``GATE_S`` after they left, or acknowledged."""
        world, clock = self._world, self._world.clock
        sent = clock.now()
        refused = await self._connect(outbound, sent)
        if refused is not None:
            self._miss(outbound, "connect", sent, refused)
            return NeverLeft(self._link, refused)
        patience = sent + outbound.patience_s
        until = min(patience, clock.now() + USER_TIMEOUT_S)
        end = await world.cross(self._link, "up", min(until, clock.now() + GATE_S))
        if end == "late":
            self._tell(tell, "unacked")
            self._see(Sample(self._link, outbound.upstream, "ack", False, sent, clock.now(),
                             detail="unacked"))
            end = await world.cross(self._link, "up", until)
        if end == "crossed":
            self._tell(tell, "acked")
        if end != "crossed":
            return self._nothing(outbound, sent, "reset")
        body = outbound.body if isinstance(outbound.body, bytes) else b""
        world.arrivals.append(Arrival(clock.now(), self._link, outbound.upstream, outbound.tenant,
                                      outbound.method, outbound.target, body))
        upstream = world.upstreams[outbound.upstream]
        if upstream.hung:
            await clock.sleep(max(0.0, patience - clock.now()))
            return self._nothing(outbound, sent, "timeout")
        await clock.sleep(upstream.work_s)
        end = await world.cross(self._link, "down", patience)
        if end != "crossed":
            return self._nothing(outbound, sent, "timeout" if end == "late" else "reset")
        return self._arrived(outbound, sent, upstream)

    @staticmethod
    def _tell(tell: Callable[[Progress], None] | None, progress: Progress) -> None:
        if tell is not None:
            tell(progress)

    async def _connect(self, outbound: Outbound, sent: Mono) -> Cause | None:
        world, clock = self._world, self._world.clock
        weather = world.links[self._link]
        if not weather.dns:
            await clock.sleep(0.8)
            return "resolve"
        if weather.portal:
            await clock.sleep(weather.delay_s * 2)
            return "certificate"
        if self._pooled and not world.upstreams[outbound.upstream].gone and not weather.resets:
            return None
        until = sent + outbound.connect_s
        if await world.cross(self._link, "up", until) != "crossed":
            return "connect"
        if await world.cross(self._link, "down", until) != "crossed":
            return "connect"
        if world.upstreams[outbound.upstream].gone:
            return "connect"
        self._pooled += 1
        return None

    def _arrived(self, outbound: Outbound, sent: Mono, upstream: UpstreamWeather) -> Outcome:
        now = self._world.clock.now()
        reply = refused(upstream.status) if upstream.status else self._world.answer(outbound)
        took = now - sent
        self._see(Sample(self._link, outbound.upstream, "request", True, sent, now, False,
                         took * 1000, str(reply.status)))
        return Arrived(self._link, reply, took)

    def _nothing(self, outbound: Outbound, sent: Mono, cause: Cause) -> NoAnswer:
        self._pooled = 0
        self._miss(outbound, "request", sent, cause)
        return NoAnswer(self._link, cause)

    def _miss(self, outbound: Outbound, layer: Layer, sent: Mono, cause: Cause) -> None:
        self._see(Sample(self._link, outbound.upstream, layer, False, sent,
                         self._world.clock.now(), False, None, cause))
