"""Rows in which a link looks alive and is not what it seems: names dead, a portal, an interceptor,
a hole for large packets. Never a wrong switch, and nothing is told to an interceptor.

A portal or an interceptor first stands on the backup, where nothing may move, and then on the
primary, which may be left once. The interceptor's certificate is of an authority that the gateway
trusts; only the pinned issuer tells it from the origin's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from chaos.rig.namespaces import CONTROL_UP, LIAR, RESOLVERS
from chaos.weather import CaptivePortal, DnsLie, Intercept, MtuHole, Verb
from tests.bench.acceptance.table import Line, Options, Row, at_most, least, none_failed
from tests.bench.acceptance.taken import Open, opened, tell_slowest
from tests.bench.rig.figures import share_by
from tests.bench.rig.load import Asking
from tests.bench.rig.ours import Setting
from tests.bench.rig.place import ORIGIN, Place
from tests.bench.rig.records import Record
from tests.bench.rig.runs import Onsets, heal
from tests.kit.pki import issue, make_ca

LASTS_S: Final = 8.0
STRAYED: Final = 0.02  # what a rescue may take elsewhere, where the primary is to keep its work
NAMELESS_S: Final = 25.0  # three lookups in a row fail, one each 5 s, and the last times out
FOREIGN_S: Final = 20.0  # new connections are made every 15 s to see whether they still are
CALM_S: Final = 180.0  # a class that left comes back a minute after its link is well
HOST: Final = "up.bench.example"
TLS_PORT: Final = 8443
NAMED_PORT: Final = 8090
TOLD_PORT: Final = 8078
ORIGIN_MODULE: Final = "tests.bench.rig.origin"
SECRET_HEAD: Final = "Authorization: Bearer bench\r\n"


async def _struck(run: Open, verb: Verb, onsets: Onsets, lasts_s: float) -> int:
    """Make the fault from calm; return how often the active link changed until it was healed."""
    if not await run.load.calm("a", CALM_S):
        onsets.uncalm += 1
    await asyncio.sleep(2.0)
    before = run.watch.switches
    onsets.began.append(time.monotonic())
    await run.where.rig.apply(verb)
    await asyncio.sleep(lasts_s)
    turned = run.watch.switches - before
    await heal(run.where.rig)
    onsets.healed.append(time.monotonic())
    return turned


def _judged(row: str, options: Options, records: list[Record], onsets: Onsets, named: str,
            causes: Sequence[set[str]]) -> list[Line]:
    """``causes`` are the verdicts of each daemon; each must have named the fault."""
    tell_slowest(options, records, onsets)
    failed = sum(one.kind != "live" for one in records)
    begun = len(onsets.began)
    return [none_failed(row, failed, len(records), options.requests),
            Line(row, f"struck from calm, of {begun}", f"{begun - onsets.uncalm}",
                 not onsets.uncalm),
            Line(row, f"named: {named}", ", ".join(sorted(set[str]().union(*causes))) or "nothing",
                 bool(causes) and all(named in each for each in causes))]


async def _unmoved(row: str, options: Options, verb: Verb, named: str, asking: Asking = "search",
                   setting: Setting | None = None, beside: Sequence[tuple[str, ...]] = (),
                   lasts_s: float = LASTS_S, keeps: bool = True) -> list[Line]:
    """A fault of the primary that is no reason to leave it. ``keeps``: nor for any request.

    Each on a fresh device: a class that leaves a bad link stays away for five minutes.
    """
    onsets, turned, records, causes = Onsets(), 0, list[Record](), list[set[str]]()
    for number in range(max(1, options.runs)):
        async with opened(options.home / str(number), setting or Setting(), (asking,),
                          options.delay, beside) as run:
            turned += await _struck(run, verb, onsets, lasts_s)
            await asyncio.sleep(2.0)
        records += run.load.records
        causes.append(run.watch.causes)
    spans = list(zip(onsets.began, onsets.healed, strict=True))
    return [at_most(row, f"switches in {len(spans)} faults", turned, 0),
            *([_kept(row, records, spans)] if keeps else []),
            *_judged(row, options, records, onsets, named, causes)]


async def names_dead(options: Options) -> list[Line]:
    """No resolver answers over the primary; the origin ends each connection after 50 answers."""
    at = tuple((device, f"{address}:53") for device, address in RESOLVERS.items())
    setting = Setting(upstream=(("base_url", f"http://{HOST}:{NAMED_PORT}"),), resolvers=at)
    beside = (("tests.bench.rig.names", *(place for _, place in at), f"{HOST}={ORIGIN}"),
              (ORIGIN_MODULE, "0.02", f"{ORIGIN}:{NAMED_PORT}", "answers=50"))
    return await _unmoved("dns-dead", options, DnsLie("fibre", ""), "DNS_FAULT", setting=setting,
                          beside=beside, lasts_s=NAMELESS_S)


async def hole(options: Options) -> list[Line]:
    """Packets over 1,400 bytes vanish on the primary while it carries answers of 30 kB. Those may
    leave it: connections that are open send nothing else into the hole."""
    return await _unmoved("mtu-hole", options, MtuHole("fibre", 1400), "MTU_HOLE", "read",
                          keeps=False)


async def _both_ways(row: str, options: Options, run: Open, verbs: Sequence[Verb],
                     after: Callable[[], Awaitable[None]] | None = None
                     ) -> tuple[list[Line], Onsets]:
    on_backup, on_primary = verbs
    onsets, backup, most = Onsets(), 0, 0
    for _ in range(options.runs):
        backup += await _struck(run, on_backup, onsets, FOREIGN_S)
        if after:
            await after()
        most = max(most, await _struck(run, on_primary, onsets, FOREIGN_S))
        if after:
            await after()
    await run.load.calm("a", CALM_S)
    return [at_most(row, f"switches in {options.runs} faults of the backup", backup, 0),
            at_most(row, "switches in a fault of the primary", most, 1)], onsets


def _kept(row: str, records: list[Record], spans: Sequence[tuple[float, float]]) -> Line:
    """Demand that the primary went on carrying, where no switch was called for: not only the active
    link may stay, its work must."""
    strayed = max(1.0 - share_by(records, "a", began, healed) for began, healed in spans)
    return least(row, "of one fault, answered by the backup", strayed, STRAYED, "of all")


def _secured(home: Path) -> tuple[Setting, list[tuple[str, ...]]]:
    """An origin and an interceptor with certificates of two authorities, both trusted."""
    ours, theirs = make_ca(home, "bench CA"), make_ca(home, "middle box CA")
    trusted = home / "trusted.pem"
    trusted.write_bytes(ours.cert.read_bytes() + theirs.cert.read_bytes())
    beside = []
    for ca, name, place, told in ((ours, "right", ORIGIN, ()),
                                  (theirs, "wrong", LIAR, (f"plain={CONTROL_UP}:{TOLD_PORT}",))):
        leaf = issue(ca, name, (HOST, ORIGIN))
        beside.append((ORIGIN_MODULE, "0.02", f"{place}:{TLS_PORT}",
                       f"tls={leaf.cert},{leaf.key}", "answers=50", *told))
    return Setting(upstream=(
        ("base_url", f"https://{ORIGIN}:{TLS_PORT}"), ("ca_file", str(trusted)),
        ("issuer", "bench CA"))), beside


async def intercepted(options: Options) -> list[Line]:
    """Somebody with a certificate of a trusted authority answers for the origin."""
    row = "intercepted"
    setting, beside = _secured(options.home)
    verbs = [Intercept(link, LIAR) for link in ("sim", "fibre")]
    async with opened(options.home, setting, ("search",), options.delay, beside,
                      SECRET_HEAD) as run:
        middle, hellos = Place(run.where.rig, options.home, TOLD_PORT), [0]

        async def count() -> None:
            hellos.append(int((await middle.ledger())["hellos"]))

        lines, onsets = await _both_ways(row, options, run, verbs, count)
        told = await middle.ledger()
    asked, each = told["hellos"], [after - before for before, after in pairwise(hellos)]
    return [*lines, _kept(row, run.load.records, _of_backup(onsets)),
            *_judged(row, options, run.load.records, onsets, "TLS_INTERCEPT", [run.watch.causes]),
            at_most(row, f"credentials told in {asked} handshakes", told["credentials"], 0),
            at_most(row, "requests told", sum(told["links"].values()), 0),
            Line(row, "handshakes with the interceptor in each fault",
                 ", ".join(map(str, each)), len(each) == 2 * options.runs and min(each) > 0)]


def _of_backup(onsets: Onsets) -> list[tuple[float, float]]:
    """The faults of the backup: every other one."""
    return list(zip(onsets.began[::2], onsets.healed[::2], strict=True))


async def captive(options: Options) -> list[Line]:
    """A portal's page answers what is asked over new connections; the origin ends each after 50
    answers, so that there are some."""
    row = "captive"
    verbs = [CaptivePortal(link) for link in ("sim", "fibre")]
    setting = Setting(upstream=(("base_url", f"http://{ORIGIN}:{NAMED_PORT}"),))
    beside = ((ORIGIN_MODULE, "0.02", f"{ORIGIN}:{NAMED_PORT}", "answers=50"),)
    async with opened(options.home, setting, ("search",), options.delay, beside) as run:
        lines, onsets = await _both_ways(row, options, run, verbs)
    return [*lines, _kept(row, run.load.records, _of_backup(onsets)),
            *_judged(row, options, run.load.records, onsets, "CAPTIVE", [run.watch.causes])]


ROWS: Final[dict[str, Row]] = {"dns-dead": names_dead, "captive": captive,
                               "intercepted": intercepted, "mtu-hole": hole}
