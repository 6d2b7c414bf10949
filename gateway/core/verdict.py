"""From samples to verdicts: what was seen -> what it means (links.md section 4)."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.core.instant import Mono

VerdictKind: TypeAlias = Literal[
    "LINK_DOWN", "BLACKHOLE", "BROWNOUT", "ROUTE_FAULT", "DNS_FAULT", "CAPTIVE",
    "TLS_INTERCEPT", "MTU_HOLE", "UPSTREAM_DOWN", "UPSTREAM_SLOW", "LOCAL_STALL"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A named fault and its scope: ``link`` or ``upstream`` or both (a path), ``""`` where neither.

    ``evidence`` are pairs of a code and a figure, ready for telemetry: never free text.
    """

    kind: VerdictKind
    link: str
    upstream: str
    since: Mono
    evidence: tuple[tuple[str, str | float], ...] = ()
