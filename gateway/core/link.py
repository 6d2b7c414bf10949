"""Links, and what was seen on them.

A sample is what was seen, a verdict (``core/verdict.py``) what it means. Samples are kept in
rings by ``flow/board.py`` and judged when asked; nothing counts up and no timer subtracts.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.core.instant import Mono

Layer: TypeAlias = Literal["carrier", "dns", "connect", "tls", "http", "request"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing seen on one link. ``target`` is a probe target's id or an upstream's id.

    ``anchor`` is True where the target is no upstream: what it says is about the link alone.
    ``at`` dates a success when it came, and a miss when the answer was *due*, never when noticed.
    ``sent_at`` is when the question left. ``detail`` is a code (a ``Cause`` or a status), never text.
    """

    link: str
    target: str
    layer: Layer
    ok: bool
    sent_at: Mono
    at: Mono
    anchor: bool = False
    rtt_ms: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to ask on a link: ``kind`` tcp, tls or http, of ``host:port`` (IPv6 in brackets).

    For ``http`` the ``path`` is fetched and the body must equal ``expect`` exactly.
    """

    id: str
    kind: Literal["tcp", "tls", "http"]
    target: str
    path: str = "/"
    expect: str = ""
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """One WAN path out of the building, as the engineer wrote it down.

    Lower ``priority`` is preferred. ``interface`` binds by device, ``source`` by address; a link
    may have neither where its upstreams have a base URL of their own for it (the demo).
    """

    id: str
    priority: int
    kind: str = "other"
    metered: bool = False
    interface: str = ""
    source: str = ""
    resolvers: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()
    tcp_user_timeout_ms: int = 1500


@dataclass(frozen=True, slots=True)
class LinkRules:
    """How links are judged; each limit with its reason, read by config.py for range and schema."""

    probe_every_s: float = field(default=0.5, metadata={
        "ge": 0.05, "description": "seconds between probes of one target on an unmetered link"})
    probe_metered_every_s: float = field(default=10.0, metadata={
        "ge": 0.1, "description": "the same on a metered link that carries no traffic"})
    probe_suspect_every_s: float = field(default=0.2, metadata={
        "ge": 0.05, "description": "the same while a link is suspect, metered or not"})
    probe_timeout_s: float = field(default=0.8, metadata={
        "ge": 0.05, "description": "seconds until a probe without answer counts as missed"})
    silence_s: float = field(default=1.5, metadata={
        "ge": 0.2, "description": "silence on a link, with misses on two targets, that means dead"})
    misses_min: int = field(default=4, metadata={
        "ge": 2, "description": "unanswered probes or requests needed beside the silence"})
    hold_s: float = field(default=60.0, metadata={
        "ge": 0.0, "description": "seconds a healed link must stay good before it carries traffic"})
    samples_max: int = field(default=512, metadata={
        "ge": 64, "description": "samples kept per link"})
    upstream_failures: int = field(default=3, metadata={
        "ge": 1, "description": "failures in a row, on every usable link, that mean upstream down"})
    upstream_window_s: float = field(default=10.0, metadata={
        "ge": 1.0, "description": "how long a failure of an upstream counts"})
    upstream_trial_s: float = field(default=1.0, metadata={
        "ge": 0.1, "description": "seconds between real requests let through to an upstream judged down"})
