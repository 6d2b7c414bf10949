"""How often each kind of question is asked on a link, and what that costs (links.md section 3).

Law: an unmetered link is asked freely; a metered one that only stands by is asked as seldom as its
proof allows; in trouble every link is asked fast, for then its answer may be what users wait for.
What one question costs is measured on the rig (``tests/bench/acceptance/standby.py``).
"""

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from gateway.core.link import LinkRules

Pace: TypeAlias = Literal[
    "fast",  # suspect, not yet proved, or none is known to be well
    "busy",  # unmetered, or it carries traffic, or is about to
    "idle",  # a metered standby
]
Ask: TypeAlias = Literal["anchor", "connect", "canary", "names", "size"]
"""Echo or other probe of an anchor; TCP connect to an upstream; a whole request to one; names asked
of two resolvers; the size ladder (11.3 kB both ways, three times that where rungs are lost)."""

ASKS: Final[tuple[Ask, ...]] = get_args(Ask)
MONTH_S: Final = 30.0 * 86_400.0

COST_BYTES: Final[dict[str, int]] = {
    "anchor": 175, "connect": 470, "canary": 500, "names": 740, "size": 11_400, "keepalive": 126}
"""Bytes of one event, both ways, Ethernet headers with them, as measured there (a canary over a
warm connection, without its page; keepalive: of one idle connection)."""


def _every(default: float, words: str) -> float:
    return field(default=default, metadata={"ge": 0.5, "le": 7 * 86400.0, "description": words})


@dataclass(frozen=True, slots=True)
class CadenceRules:
    """Seconds between two questions of a kind on one link; of anchors see ``LinkRules``."""

    anchor_small_s: float = _every(
        30.0, "seconds between probes on a metered standby with a small plan")
    connect_s: float = _every(15.0, "seconds between connects to each upstream")
    connect_metered_s: float = _every(900.0, "the same on a metered standby")
    canary_s: float = _every(
        60.0, "seconds between whole requests to each upstream, not needed where traffic passed")
    canary_metered_s: float = _every(3500.0, "the same on a metered standby: within the hour")
    names_s: float = _every(5.0, "seconds between lookups by each of a link's two resolvers")
    names_metered_s: float = _every(900.0, "the same on a metered standby")
    size_s: float = _every(3600.0, "seconds between size ladders")
    size_metered_s: float = _every(86_400.0, "the same on a metered link")


def every_s(ask: Ask, pace: Pace, rules: CadenceRules, links: LinkRules, *, metered: bool = False,
            small: bool = False) -> float:
    """Return the seconds between two questions of the kind ``ask``, of one target each.

    On an idle standby the anchors are asked in turn, one in each such time.
    """
    idle = pace == "idle"
    match ask:
        case "anchor" if pace == "fast":
            return links.probe_suspect_every_s
        case "anchor" if idle:
            return rules.anchor_small_s if small else links.probe_metered_every_s
        case "anchor":
            return links.probe_every_s
        case "connect":
            return rules.connect_metered_s if idle else rules.connect_s
        case "canary":
            return rules.canary_metered_s if idle else rules.canary_s
        case "names":
            return rules.names_metered_s if idle else rules.names_s
        case "size":
            return rules.size_metered_s if metered else rules.size_s
