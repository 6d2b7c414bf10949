"""The weather: what can happen to links and upstreams, as verbs.

A verb is a frozen value; a rig makes it happen (``rig/relay.py``, ``rig/toxiproxy.py``,
``rig/namespaces.py``) or says that it cannot. What was done when is kept, so that a failure's
timeline can be replayed in simulation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Cut:
    """Silence: packets vanish both ways, sockets stay open, nothing is reset."""

    link: str


@dataclass(frozen=True, slots=True)
class Heal:
    """Undo every fault of ``link``."""

    link: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Every open connection over ``link`` is reset, new ones are refused, until healed."""

    link: str


@dataclass(frozen=True, slots=True)
class Slow:
    """Each way over ``link`` takes ``delay_s`` longer."""

    link: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Lose:
    """``share`` (0 to 1) of the packets over ``link`` are lost."""

    link: str
    share: float


@dataclass(frozen=True, slots=True)
class Flap:
    """``link`` is cut for ``down_s``, then healed for ``up_s``, and so on until healed."""

    link: str
    down_s: float
    up_s: float


@dataclass(frozen=True, slots=True)
class SwallowReplies:
    """Requests over ``link`` reach the upstream, its replies vanish."""

    link: str


@dataclass(frozen=True, slots=True)
class OneWay:
    """Packets over ``link`` vanish in one direction only: ``"up"`` towards the upstreams, or
    ``"down"`` towards us, where a peer's retransmissions cannot tell us that we are not heard."""

    link: str
    lost: Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Unplug:
    """The far end of ``link``'s cable goes dead: the device sees its carrier go."""

    link: str


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """``upstream`` answers everything with ``status`` (503, say); 0 heals."""

    upstream: str
    status: int


@dataclass(frozen=True, slots=True)
class UpstreamGone:
    """``upstream`` refuses connections (``gone``), or is back."""

    upstream: str
    gone: bool = True


@dataclass(frozen=True, slots=True)
class UpstreamHung:
    """``upstream`` accepts and never answers (``hung``), or is back."""

    upstream: str
    hung: bool = True


@dataclass(frozen=True, slots=True)
class DnsLie:
    """The resolver of ``link`` answers with a wrong address (``lie``) or not at all (``""``)."""

    link: str
    lie: str


@dataclass(frozen=True, slots=True)
class MtuHole:
    """IP packets longer than ``passes_bytes`` vanish over ``link``, both ways, without a word."""

    link: str
    passes_bytes: int


@dataclass(frozen=True, slots=True)
class Bursts:
    """``link`` is silent in short bursts, some ``a_minute`` of them and ``mean_s`` long on average
    (exponential, by ``seed``), until healed: what any mobile or shared line does all day."""

    link: str
    a_minute: float
    mean_s: float
    seed: int


@dataclass(frozen=True, slots=True)
class UpstreamSlow:
    """``upstream`` takes ``delay_s`` longer for each answer; 0 heals."""

    upstream: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class CaptivePortal:
    """Everything over ``link`` is answered by a portal's 200 and a web page."""

    link: str


@dataclass(frozen=True, slots=True)
class Intercept:
    """Every TCP connection over ``link`` ends at ``by`` (an IPv4 address), who claims to be the
    upstream: what a provider's or an attacker's middle box does. It resets those that are open."""

    link: str
    by: str


Verb: TypeAlias = (Cut | Heal | Reset | Slow | Lose | Flap | SwallowReplies | OneWay | Unplug
                   | UpstreamStatus | UpstreamGone | UpstreamHung | UpstreamSlow | DnsLie
                   | CaptivePortal | MtuHole | Bursts | Intercept)


def bursts(verb: Bursts) -> Iterator[tuple[float, float]]:
    """Return for ever (seconds of calm, seconds of silence), the same for the same seed."""
    dice = Random(verb.seed)
    while True:
        yield dice.expovariate(verb.a_minute / 60.0), dice.expovariate(1.0 / verb.mean_s)


class Rig(Protocol):
    """What makes weather. ``can`` tells whether this rig knows the verb."""

    def can(self, verb: Verb) -> bool: ...
    async def apply(self, verb: Verb) -> None: ...
