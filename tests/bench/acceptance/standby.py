"""Row "standby": what an idle metered backup carries in a month on the small plan.

Each kind of question is asked once a second, by itself, for ``COUNT`` events at least; the bytes
are the interface's own (Ethernet headers with them), and count times the events of a month at the
shipped cadence. A keepalive is the kernel's: a bare connection shows it, with an idle time of a
second for 300. Then the gateway stands idle as it is shipped, with three upstreams: what the
interface carries and none of these kinds explains (ARP of the wire, a kind that was forgotten) is
added to the month, and it may hold no more connections than it declares.
"""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from chaos.rig.namespaces import SIM
from gateway.core.cadence import ASKS, MONTH_S, Ask, CadenceRules, every_s
from gateway.core.link import LinkRules
from tests.bench.acceptance.table import Line, Options, Row, least
from tests.bench.acceptance.upstream import counters
from tests.bench.rig.left import established
from tests.bench.rig.ours import Setting, tables
from tests.bench.rig.place import ORIGIN, PORT, child, place, secret
from tests.bench.rig.wire import Pool
from tests.kit.gateway import Site

ROW: Final = "standby"
COUNT: Final = 22
WEEK_S: Final = 604_800.0
UPSTREAMS: Final = 3
KEEPALIVE_S: Final = 300.0
MOST_MB: Final = 65.0
IDLE_S: Final = 900.0
SHORT_S: Final = 120.0
SETTLED_S: Final = 30.0
RESOLVERS: Final = ("10.77.100.2:5353", "10.77.100.3:5353")
HOST: Final = "up.bench.example"
KEYS: Final[dict[Ask, str]] = {
    "connect": "connect_metered_s", "canary": "canary_metered_s", "names": "names_metered_s",
    "size": "size_metered_s", "anchor": "anchor_small_s"}


async def run(options: Options) -> list[Line]:
    """Measure each kind, say it, and add the month up."""
    costs: dict[Ask, float] = {}
    async with place(options.home) as where, child(*where.rig.inside(
            "up", sys.executable, "-m", "tests.bench.rig.names", *RESOLVERS, f"{HOST}={ORIGIN}")):
        for ask in ASKS:
            costs[ask] = await _cost(options.home / ask, ask)
        keepalive = await _keepalive()
        forgotten, held, declared = await _idle(
            options.home / "idle", costs, keepalive, IDLE_S if options.requests else SHORT_S)
    rules, links = CadenceRules(), LinkRules()
    many: dict[Ask, int] = {"connect": UPSTREAMS, "canary": UPSTREAMS}
    rows = [("keepalive", keepalive, declared * MONTH_S / KEEPALIVE_S)]
    rows += [(ask, cost, many.get(ask, 1) * MONTH_S / every_s(
        ask, "idle", rules, links, metered=True, small=True)) for ask, cost in costs.items()]
    for kind, cost, events in rows:
        options.say(f"  {kind}: {cost:.0f} bytes each, {events:.0f} a month, "
                    f"{events * cost / 1e6:.1f} MB")
    month = sum(cost * events for _, cost, events in rows) / 1e6
    return [least(ROW, f"bytes a month, {UPSTREAMS} upstreams", month, MOST_MB, "MB"),
            least(ROW, "with what an idle stretch shows beside", month + forgotten, MOST_MB, "MB"),
            Line(ROW, f"connections held, of {declared} declared", f"{held}",
                 0 < held <= declared)]


def _tables(home: Path, ask: Ask | None) -> dict[str, Any]:
    """The bench's gateway on a small plan, which asks one kind once a second and no other; without
    one it is as shipped, with ``UPSTREAMS`` upstreams."""
    made = tables(Setting(metered=True), secret(home))
    if ask:
        made["cadence"] = {key: 1.0 if kind == ask else WEEK_S for kind, key in KEYS.items()}
    else:
        first = made["upstreams"][0]
        made["upstreams"] += [first | {"id": f"up{n}"} for n in range(2, UPSTREAMS + 1)]
    made["links"][1] |= {"plan": {"month_bytes": 2_000_000_000, "small": True},
                         "resolvers": [RESOLVERS[0]], "other_resolver": RESOLVERS[1]}
    for upstream in made["upstreams"]:
        upstream["base_url"] = f"http://{HOST}:{PORT}"
    made["links"][0] |= {"resolvers": [RESOLVERS[0]]}
    return made


async def _cost(home: Path, ask: Ask) -> float:
    async with _running(home, ask, SETTLED_S) as site:
        count, carried = await _asked(site, ask), counters(SIM.device)
        while await _asked(site, ask) - count < COUNT:  # noqa: ASYNC110  # a daemon is polled
            await asyncio.sleep(0.5)
        await asyncio.sleep(0.5)
        return (counters(SIM.device) - carried) / (await _asked(site, ask) - count)


@contextlib.asynccontextmanager
async def _running(home: Path, ask: Ask | None, settled_s: float) -> AsyncIterator[Site]:
    async with Site(home, _tables(home, ask)).running() as site:
        await asyncio.sleep(settled_s)  # validated, warm, and the first of each kind asked
        yield site


async def _idle(home: Path, costs: dict[Ask, float], keepalive: float, lasts_s: float
                ) -> tuple[float, int, int]:
    """Stand idle: the megabytes a month that no kind explains, and the connections held to the
    origin and declared."""
    async with _running(home, None, SETTLED_S) as site:
        before, carried = {ask: await _asked(site, ask) for ask in ASKS}, counters(SIM.device)
        await asyncio.sleep(lasts_s)
        bytes_ = counters(SIM.device) - carried
        known = sum([costs[ask] * (await _asked(site, ask) - before[ask]) for ask in ASKS])
        declared = sum(int(row["declared"]) for row in (await _told(site))["warm"]
                       if row["link"] == "sim")
        held = established(SIM.device, f"{ORIGIN}:{PORT}")
    kept = keepalive * declared * lasts_s / KEEPALIVE_S
    return max(0.0, bytes_ - known - kept) * MONTH_S / lasts_s / 1e6, held, declared


async def _asked(site: Site, ask: Ask) -> int:
    rows = (await _told(site))["probing"]
    return sum(int(row["count"]) for row in rows if (row["link"], row["ask"]) == ("sim", ask))


async def _told(site: Site) -> dict[str, Any]:
    pool = Pool("127.0.0.1", site.admin)
    connection = await pool.take()
    answer = await connection.ask(b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    connection.end()
    told: dict[str, Any] = json.loads(answer.body)
    return told


async def _keepalive() -> float:
    """Bytes of one keepalive and its answer; the kernel sends one a second here."""
    with socket.socket() as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, SIM.device.encode())
        idle.connect((ORIGIN, PORT))
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            idle.setsockopt(socket.IPPROTO_TCP, option, 1)
        await asyncio.sleep(1.5)
        carried = counters(SIM.device)
        await asyncio.sleep(float(COUNT))
        return (counters(SIM.device) - carried) / COUNT


ROWS: Final[dict[str, Row]] = {ROW: run}
