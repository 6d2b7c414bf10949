"""Our gateway under measurement: the configuration an expert writes for two unmetered links.

Hold, damping and the limit of class moves are shortened, as the acceptance allows (not under
flapping), and so is the ramp that ends a hold (not under failback); everything else is the default.
The device's name draws 0.97 of the site's jitter, so nearly the latest verdicts that any site
gives. ``gaps`` sets m and R by hand, ``None`` leaves the device fresh.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.rig.load import Stream
from tests.bench.rig.place import ANCHORS, ECHO_PORT, ORIGIN, PORT, secret
from tests.kit.gateway import KEY, Site, sha256

LINKS: Final = (("fibre", "a"), ("sim", "b"))
NAME: Final = "B81001-a"
GAPS: Final = (0.1, 200.0)  # m in seconds, R a day: what the acceptance sets
HEAD: Final = f"X-Gateway-Key: {KEY}\r\n"


@dataclass(frozen=True, slots=True)
class Setting:
    """What differs between the rows."""

    gaps: tuple[float, float] | None = GAPS
    metered: bool = False
    keep: bool = False
    damped: bool = False
    ramped: bool = False  # with the shipped ramp
    hold_s: float = 1.0
    upstream: tuple[tuple[str, str], ...] = ()  # further keys, or others
    resolvers: tuple[tuple[str, str], ...] = ()  # by device; the other's is the second
    tunnel_port: int = 0


def tables(setting: Setting, shared: Path) -> dict[str, Any]:
    """Return the configuration as tables; ``shared`` is the file of the anchors' secret."""
    judgement: dict[str, Any] = {}
    if setting.gaps:
        judgement |= dict(zip(("gap_mean_s", "gaps_a_day"), setting.gaps, strict=True))
    made: dict[str, Any] = {
        "gateway": {"name": NAME},
        "judgement": judgement,
        "listen": {"connections_max": 2048},
        "links": [_link(name, device, rank, shared, metered=setting.metered and device == "b")
                  | _names(setting, device) for rank, (name, device) in enumerate(LINKS, 1)],
        "tenants": [{"ods": "B81001", "requests_max": 2048, "clients": [
            {"id": "desk", "key_sha256": sha256(KEY),
             "copies": "marked" if setting.keep else "never"}]}],
        "upstreams": [{"id": "up", "tenants": ["B81001"], "base_url": f"http://{ORIGIN}:{PORT}",
                       "pack": "fhir-r4", **(
                           {"keep": "continuity", "permitted_by": "the bench"}
                           if setting.keep else {}), **dict(setting.upstream)}],
    }
    if setting.tunnel_port:
        made["tunnel"] = {"port": setting.tunnel_port, "allow": [f"{ORIGIN}:{PORT}"]}
    if not setting.damped:
        judgement |= {"hold_s": setting.hold_s, "hold_most_s": setting.hold_s,
                      "penalty_limit": 1e6, "penalty_release": 1e5}
        made["steering"] = {"moves_per_hour": 100_000, "back_s": 2.0}
    if not setting.damped and not setting.ramped:
        made["failback"] = {"step_s": 0.2, "wait_most_s": 0.0}
    return made


def _link(name: str, device: str, rank: int, shared: Path, metered: bool) -> dict[str, Any]:
    probes = [{"id": f"anchor{n}", "kind": "echo", "target": f"{address}:{ECHO_PORT}",
               "secret": f"file:{shared}"}
              for n, address in enumerate(ANCHORS, 1)]
    return {"id": name, "priority": rank, "interface": device, "metered": metered,
            "probes": probes}


def _names(setting: Setting, device: str) -> dict[str, Any]:
    return {("resolvers" if mine == device else "other_resolver"):
            [at] if mine == device else at for mine, at in setting.resolvers}


def stream(site: Site, name: str = "ours", **more: Any) -> Stream:
    """Return a stream of requests to the gateway."""
    head = HEAD + more.pop("head", "")
    return Stream(name, site.port, "/B81001/up", head=head, **more)


@asynccontextmanager
async def ours(home: Path, setting: Setting) -> AsyncIterator[Site]:
    """Run the real daemon, which stands where the calling thread stands: in ``edge``."""
    async with Site(home, tables(setting, secret(home))).running() as site:
        yield site
