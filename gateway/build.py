"""The composition root: builds every room, starts them in order, stops them in reverse.

The only room that knows everyone. It decides nothing about requests; what stands here is who is
given what, and what becomes of a start or a stop. A store that cannot be opened, or keys that are
missing, cost that tenant its copy and nothing else: live traffic starts all the same.
"""

import asyncio
import contextlib
import dataclasses
import gc
import hashlib
import logging
import random
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from gateway.config import Config
from gateway.core import asyncapi
from gateway.core.blackbox import Recording
from gateway.core.budget import Budget
from gateway.core.canary import canary
from gateway.core.drill import BACK_S, MOVE_S, READY_S, Count
from gateway.core.drill import Report as DrillReport
from gateway.core.exchange import UpstreamRules
from gateway.core.instant import Wall
from gateway.core.link import Link, LinkTurned, Probe
from gateway.core.maintenance import Finding, Plan, Step, Window, merged
from gateway.core.mode import Transition
from gateway.core.quota import Overlay, PlanView
from gateway.core.readiness import Report as ReadinessReport
from gateway.core.report import (
    alarm,
    happening,
    proven,
    quota_alarm,
    quota_told,
    readiness_alarms,
    readiness_told,
    state,
    unproven,
    window_alarms,
    window_told,
)
from gateway.core.route import Switched, preference
from gateway.core.status import MqttView, OutboxView, Rest, StoreView, document
from gateway.core.telemetry import (
    Alarm,
    Birth,
    BirthLink,
    Happening,
    High,
    Message,
    OutboxNow,
    ReportRules,
    StartCause,
    Started,
    State,
    Stopped,
    StoreFile,
    StoreTold,
    event,
)
from gateway.core.verdict import Judged
from gateway.core.want import Heard, heard
from gateway.edge import (
    added_windows,
    calendar,
    drill_file,
    link_memory,
    log,
    maintenance_memory,
    mqtt,
    quota_file,
    readiness_file,
)
from gateway.edge.admin import Admin
from gateway.edge.black_boxes import BlackBoxes
from gateway.edge.clock import SystemClock
from gateway.edge.http_in import Door, DoorSettings, Noted, server_context
from gateway.edge.http_out import LinkSender, UpstreamAt
from gateway.edge.meter import Meter
from gateway.edge.netlink import Netlink
from gateway.edge.outbox_store import OutboxStore
from gateway.edge.probe import LinkProber
from gateway.edge.record_store import RecordStore
from gateway.edge.resolver import LinkResolver
from gateway.edge.service import Service
from gateway.edge.trial import LinkTrial
from gateway.edge.tunnel import Streams, Tunnels, TunnelSettings
from gateway.edge.vault import Vault, count_boot, records_path
from gateway.errors import GatewayError, KeysMissing, StoreFull
from gateway.flow.board import Board, tenants_of
from gateway.flow.canaries import Canaries
from gateway.flow.drill import Drills
from gateway.flow.fence import Fences
from gateway.flow.forward import Forwarder
from gateway.flow.ladder import Ladder
from gateway.flow.maintenance import Maintenance
from gateway.flow.names import Names
from gateway.flow.prune import prune
from gateway.flow.quota import Quota
from gateway.flow.readiness import Readiness
from gateway.flow.remember import remember
from gateway.flow.report import Connect, Identity, Report, Sources
from gateway.flow.serve import Policy, Serve
from gateway.flow.standby import Standby
from gateway.flow.sweep import Sweep
from gateway.flow.tally import Tally
from gateway.flow.watch import Watch

LOG: Final = logging.getLogger("gateway.build")

DIAL_S: Final = 2.0
"""A tunnel's connect, name included: then the next link is tried."""

METERED_KEEP_ALIVE_S: Final = 60
"""MQTT keep-alive on a metered link: every 20 s would cost 1 MB a month for nothing."""

FIRST_LOOK_S: Final = 1.0
"""How long a start waits at most for its preferred link: echo, handshake and fixed page are three
round trips of it."""

NOTICE_S: Final = 0.5
"""The port goes on accepting this long after /readyz says 503, so that who watches it sees it."""

LINKS: Final = "links.json"
"""The file in the state directory that remembers which links were out of use."""

GAPS: Final = "gaps.json"
"""The file in the state directory that keeps what the gaps of each link have taught."""

QUOTA: Final = "quota.json"
"""The file in the state directory that keeps what metered links have carried this month."""

ORDERLY: Final = "orderly"
"""The file in the state directory that says the last run ended in good order."""

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
"""Starts a loop beside the others."""


async def run(config: Config) -> None:
    """Run the gateway on ``config`` until TERM or INT, then drain and stop.

    Raises:
        GatewayError: it could not start (a port is taken, a certificate cannot be read).
    """
    log.start(config.gateway.log_level)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopping.set)
    try:
        async with AsyncExitStack() as stack:
            gateway = Gateway(config)
            await gateway.start(stack)
            gc.freeze()  # what start made lives to the end: no collection walks it (some 10 ms)
            await stopping.wait()
            await gateway.drain()
    except OSError as error:
        raise GatewayError(f"cannot start: {error.strerror or type(error).__name__}") from error


def drill(state_dir: Path, seconds: float, wait_s: float,
          shown: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    """Order a drill from the gateway that runs on ``state_dir`` and return its last report.

    ``shown`` is told of each stage. None: it was not ended in time; an order that nobody began is
    withdrawn, also when this is interrupted.

    Raises:
        GatewayError: the order cannot be given.
    """
    name = drill_file.give(state_dir, seconds, wait_s)
    try:
        within_s = READY_S + wait_s + MOVE_S + seconds + BACK_S + 30.0
        return asyncio.run(_follow(state_dir, name, within_s, shown))
    finally:
        drill_file.withdraw(state_dir, name)


async def _follow(state_dir: Path, name: str, within_s: float,
                  shown: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    clock = SystemClock("always")
    until, stage = clock.now() + within_s, ""
    while clock.now() < until:
        report = drill_file.read(state_dir, name)
        if report is not None and report["stage"] != stage:
            stage = str(report["stage"])
            shown(report)
        if report is not None and report["over"]:
            return report
        await clock.sleep(0.2)
    return None


def announced(config: Config, wall: Wall) -> Plan:
    """Return the plan of the windows that are written down now, asking nobody over the network:
    the configuration's, those by hand, and what calendars said when they were read last."""
    reader = calendar.Reader(config.state_dir, lambda: ())
    added = added_windows.read(config.state_dir)

    async def told() -> tuple[Window, ...]:
        reads = [await reader.read(each, wall) for each in config.calendars]
        return tuple(window for read in reads for window in read.windows)

    return merged((*config.windows, *added.windows, *asyncio.run(told())), added.cancelled,
                  tuple(link.id for link in config.links), wall)


def add_window(state_dir: Path, window: Window) -> None:
    """Write a window down for the gateway on ``state_dir``. Raises GatewayError."""
    added_windows.add(state_dir, window)


def cancel_window(state_dir: Path, id: str) -> None:
    """Take a window away, or write down that it does not hold. Raises GatewayError."""
    added_windows.cancel(state_dir, id)


def wall_now() -> Wall:
    """Return what time this machine says it is."""
    return SystemClock("always").wall()


class Gateway:
    """One running gateway; ``start`` puts every stop on the stack it is given."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clock = SystemClock(config.gateway.clock)
        self._begun = self._clock.now()
        seed = secrets.randbits(32)
        self._rng = random.Random(seed)
        LOG.info("starting", extra={"seed": seed, "version": release()})
        self._service = Service()
        self._tally = Tally()
        self._boot = 0
        self._is_ready = self._is_draining = False
        self._records: dict[str, RecordStore] = {}
        self._store_states: dict[str, str] = {}
        self._alarms: dict[tuple[str, str], Alarm] = {}
        self._unproven: set[tuple[str, str]] = set()
        self._fences = Fences(self._clock)
        self._outbox: OutboxStore | None = None
        self._report: Report | None = None
        self._tunnels: Tunnels | None = None
        self._standby: Standby | None = None
        self._readiness: Readiness | None = None
        self._orders = Heard()
        self._boxes: BlackBoxes | None = None
        self._resolvers: dict[str, LinkResolver] = {}
        self._senders: dict[str, LinkSender] = {}
        self._config_hash = hashlib.sha256(config.path.read_bytes()).hexdigest()
        self._paths = tuple((ods, upstream.id) for upstream in config.upstreams
                            for ods in upstream.tenants)
        self._board = Board(config.links, tenants_of(self._paths), config.rules, config.windows,
                            self._clock, self._transition,
                            link_memory.read(config.state_dir / LINKS),
                            link_memory.read_learned(config.state_dir / GAPS),
                            _share(config.gateway.name), self._recorded, config.steering,
                            config.failback, frozenset(
                                each.id for each in config.upstreams
                                if each.canary and config.packs[each.pack].canary))

        self._quota = Quota(
            config.plans, Meter({link.id: (link.interface, link.source) for link in config.links}),
            quota_file.read(config.state_dir / QUOTA),
            lambda used: quota_file.write(config.state_dir / QUOTA, used), self._board,
            self._clock, self._quota_news)

        self._maintenance = Maintenance(
            self._board, config.windows, _ByHand(config.state_dir), config.calendars,
            calendar.Reader(config.state_dir, self._dials),
            tuple(link.id for link in config.links), config.fates, self,
            config.readiness.distrust_most_s, self._clock, self._window_step, self._window_news,
            maintenance_memory.read(config.state_dir),
            lambda done, passed: maintenance_memory.write(config.state_dir, done, passed))

    async def start(self, stack: AsyncExitStack) -> None:
        """Open stores, links, ports and loops; ready when it returns."""
        for warning in self._config.warnings:
            LOG.warning("configuration", extra={"what": warning})
        self._config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        vault = self._open_vault()
        await self._open_records(stack, vault)
        await self._open_outbox(stack, vault)
        self._boxes = BlackBoxes(self._config.state_dir)
        stack.push_async_callback(self._boxes.close)
        probers = self._open_links(stack)
        carriers = Netlink(self._config.links, self._clock, self._board.see).start()
        stack.push_async_callback(carriers.close)
        serve = self._serve()
        loops = await stack.enter_async_context(_loops())

        def aside(name: str, loop: Callable[[], Awaitable[None]]) -> None:
            loops(self._fences.run(name, loop))

        self._open_report(stack, loops)
        loops(Watch(self._board, probers, self._config.links, self._clock, self._rng,
                    self._connects(), self._alive(), self._config.cadence, self._config.rules,
                    self._small).run())
        canaries = self._canaries()
        aside("canaries", canaries.run)
        self._readiness = self._readied(canaries, probers, vault)
        aside("readiness", self._readiness.run)
        aside("drills", self._drills(vault).run)
        aside("names", Names(
            self._board, self._resolvers, self._hosts, self._config.cadence, self._config.rules,
            self._clock, lambda link: self._board.counted(link, "names")).run)
        self._standby = Standby(self._board, self._senders, self._paths, self._metered,
                                self._clock, self._config.failback.warm_most,
                                self._small)
        loops(self._standby.run())
        loops(Sweep(self._board, self._senders, lambda: self._tunnels, self._standby.declared,
                    self._config.failback.tunnel_gap_s, self._clock).run())
        loops(prune(tuple(self._records.values()), self._clock))
        aside("ladder", Ladder(self._board, probers, self._config.links, self._clock,
                               self._config.cadence).run)
        aside("remember", lambda: remember(lambda: link_memory.write_learned(
            self._config.state_dir / GAPS, self._board.learned()), self._clock))
        aside("quota", self._quota.run)
        aside("maintenance", self._maintenance.run)
        await self._first_look()
        await self._open_tunnels(stack)
        self._door = Door(self._door_settings(), self._config.tenants, self._upstreams_of(),
                          self._aliases(), serve, self._clock, self._noted, serve.only_reads,
                          serve.priority)
        await self._door.start()
        stack.push_async_callback(self._door.close)
        admin = Admin(self._config.admin.address, self._config.admin.port, self.status,
                      lambda: self._is_ready)
        await admin.start()
        stack.push_async_callback(admin.close)
        self._is_ready = True
        self._service.ready()
        LOG.info("ready", extra={"port": self._door.port, "boot": self._boot})

    async def drain(self) -> None:
        """Say 503 on /readyz first, let requests in flight finish, say that we leave."""
        self._is_ready, self._is_draining = False, True
        self._service.stopping()
        LOG.info("draining")
        await self._clock.sleep(min(NOTICE_S, self._config.gateway.drain_s))
        await self._door.drain(self._config.gateway.drain_s)
        self._tell(Stopped("term", self._clock.now() - self._begun))
        if self._report is not None:
            await self._report.leave()
            with contextlib.suppress(OSError):  # a full disk: the next start says "crash"
                (self._config.state_dir / ORDERLY).touch()

    # --- stores

    def _open_vault(self) -> Vault | None:
        state_dir = self._config.state_dir
        key = Path(self._config.device_key) if self._config.device_key else None
        try:
            vault = Vault.open(state_dir, key)
        except KeysMissing as missing:
            self._boot = count_boot(state_dir)
            LOG.error("no copy is kept or served: the device key is missing; "
                      "restore it, or run: practice-gateway keys init",
                      extra={"error": type(missing).__name__})
            return None
        self._boot = vault.boot
        return vault

    async def _open_records(self, stack: AsyncExitStack, vault: Vault | None) -> None:
        keeping = {ods for upstream in self._config.upstreams if upstream.keep != "off"
                   for ods in upstream.tenants}
        for tenant in self._config.tenants:
            ods = tenant.ods
            if ods not in keeping:
                self._store_states[ods] = "off"
                continue
            try:
                if vault is None:
                    raise KeysMissing("the device key is missing")
                safe = vault.safe(ods)
            except (KeysMissing, StoreFull) as trouble:
                why = "full" if isinstance(trouble, StoreFull) else "keys_missing"
                self._store_states[ods] = why
                self._store_news(why, ods)
                continue
            store = await RecordStore.open(
                records_path(self._config.state_dir, ods), safe, self._clock,
                bytes_max=self._config.store.bytes_max, queue_max=self._config.store.queue_max,
                told=lambda news, ods=ods: self._store_news(news, ods))  # type: ignore[misc]
            stack.push_async_callback(store.close)
            self._records[ods] = store

    async def _open_outbox(self, stack: AsyncExitStack, vault: Vault | None) -> None:
        next_box = vault.next_box if vault else lambda: count_boot(self._config.state_dir)
        self._outbox = await OutboxStore.open(
            self._config.state_dir / "outbox.db", self._boot, next_box, self._clock,
            bytes_max=self._config.mqtt.outbox_bytes_max,
            told=lambda news: self._store_news(news, ""))
        stack.push_async_callback(self._outbox.close)

    def _store_news(self, news: str, ods: str) -> None:
        """A store was set aside, is full, has room again, or has lost its keys."""
        file: StoreFile = "records" if ods else "outbox"
        wall = self._clock.wall()
        if news == "room":
            self._alarms.pop((ods, "full"), None)
            LOG.info("a store has room again", extra={"tenant": ods, "file": file})
            self._tell(StoreTold(file, "healed", ods))
            return
        self._alarms[ods, news] = alarm(news, wall)
        LOG.error("a store is in trouble", extra={"tenant": ods, "file": file, "what": news})
        if news in ("set_aside", "full", "keys_missing"):
            self._tell(StoreTold(file, news, ods))  # type: ignore[arg-type]

    # --- links

    def _open_links(self, stack: AsyncExitStack) -> dict[str, LinkProber]:
        probers = {}
        for link in self._config.links:
            resolver = LinkResolver(link, self._clock, self._board.see)
            stack.push_async_callback(resolver.close)
            sender = LinkSender(link, self._upstreams_at(link), resolver, self._board.see,
                                self._clock)
            stack.push_async_callback(sender.close)
            self._resolvers[link.id], self._senders[link.id] = resolver, sender
            probers[link.id] = LinkProber(link, sender.dialler, self._clock,
                                          self._config.rules.probe_timeout_s, self._board.see)
            stack.callback(probers[link.id].close)
        for name, resolver in self._resolvers.items():
            resolver.elsewhere = self._elsewhere(name)
        return probers

    def _elsewhere(self, link: str) -> Callable[[str], tuple[str, ...]]:
        """What the resolvers of the other links know of a host just now."""
        others = [each for name, each in self._resolvers.items() if name != link]
        return lambda host: next((found for each in others if (found := each.fresh(host))), ())

    def _upstreams_at(self, link: Link) -> dict[str, UpstreamAt]:
        return {each.id: UpstreamAt(
            each.id, each.url_over(link.id), each.ca_file,
            each.sni or (urlsplit(each.base_url).hostname or ""), each.certificates,
            each.issuer)
            for each in self._config.upstreams}

    @property
    def _hosts(self) -> tuple[str, ...]:
        """The hosts of all upstreams, each once."""
        found = (urlsplit(each.base_url).hostname or "" for each in self._config.upstreams)
        return tuple(dict.fromkeys(host for host in found if host))

    @property
    def _small(self) -> frozenset[str]:
        return frozenset(link for link, (plan, _) in self._config.plans.items() if plan.small)

    @property
    def _metered(self) -> frozenset[str]:
        return frozenset(link.id for link in self._config.links if link.metered)

    def _canaries(self) -> Canaries:
        """Whole requests to each upstream over each link, as the first of its tenants."""
        config = self._config
        asked = {each.id: (canary(pack, each.tenants[0], each.id, self._via), pack)
                 for each in config.upstreams for pack in (config.packs[each.pack],)
                 if each.canary}
        return Canaries(
            self._board, self._senders,
            {name: (outbound, pack) for name, (outbound, pack) in asked.items() if outbound},
            [link.id for link in config.links], config.cadence, config.rules, self._clock,
            self._rng, self._note_alarms)

    def _note_alarms(self) -> None:
        """A proof lapsed, or came back: the network team's retained state is to say so."""
        found = {(each.link, each.upstream)
                 for each in unproven(self._board.view(), self._clock.wall())}
        for link, upstream in sorted(found ^ self._unproven):
            LOG.log(logging.WARNING if (link, upstream) in found else logging.INFO,
                    "a backup path's proof", extra={"link": link, "upstream": upstream,
                                                    "lapsed": (link, upstream) in found})
        if found != self._unproven and self._report is not None:
            self._report.changed()
        self._unproven = found

    # --- announced work

    def proven(self) -> frozenset[str]:
        """Return the links that carry, and all of whose paths have lately shown that they work."""
        return proven(self._board.view())

    def spent(self) -> frozenset[str]:
        """Return the links whose plan is low or out."""
        return frozenset(each.link for each in self._quota.views() if each.overlay)

    def _dials(self) -> tuple[calendar.Dial, ...]:
        """The ways out for calendars: the links that take background work now, best first."""
        barred = self._quota.barred("background")
        return tuple(self._senders[link].dial for link in self._board.links("read")
                     if link in self._senders and link not in barred)

    def _window_step(self, window: Window, step: Step, findings: tuple[Finding, ...]) -> None:
        LOG.log(logging.WARNING if findings else logging.INFO, "announced work", extra={
            "id": window.id, "link": window.link, "step": step, "findings": list(findings)})
        self._tell(window_told(window, step, findings))

    def planned(self) -> frozenset[str]:
        """Return the links that have a plan."""
        return frozenset(self._config.plans)

    def free_share(self) -> float | None:
        """Return the share of the state directory's disk that is free."""
        try:
            disk = shutil.disk_usage(self._config.state_dir)
        except OSError:
            return None
        return disk.free / disk.total if disk.total else None

    def _readied(self, canaries: Canaries, probers: dict[str, LinkProber], vault: Vault | None
                 ) -> Readiness:
        """Tries everything at 06:30, and each link after its announced work."""
        config, sign = self._config, None if vault is None else vault.sign
        ordered = [link for name in preference(config.links) for link in config.links
                   if link.id == name]
        trials = {link.id: LinkTrial(link, self._resolvers[link.id], self._senders[link.id].dialler,
                                     probers[link.id], self._upstreams_at(link))
                  for link in ordered}

        def told(report: ReadinessReport, passed: tuple[str, ...]) -> None:
            LOG.log(logging.INFO if report.is_ready else logging.WARNING, "readiness", extra={
                "cause": report.cause, "ready": report.is_ready, "passed": list(passed),
                "found": [each.code for each in report.found]})
            readiness_file.keep(config.state_dir, report, sign)
            self._tell(readiness_told(report))
            self._maintenance.passed(passed, report.at)
            self._window_news()

        return Readiness(self._board, trials, tuple(each.id for each in config.upstreams),
                         canaries, self, config.readiness, self._clock,
                         lambda: self._maintenance.view().distrusted, told,
                         readiness_file.last(config.state_dir))

    def _wanted(self, payload: bytes) -> None:
        """Take in what the network team wants: shown, and not obeyed before commands come."""
        before = self._orders
        self._orders = heard(before, payload, tuple(link.id for link in self._config.links))
        if self._orders.refused != before.refused:
            LOG.warning("an order cannot be read", extra={"refused": dict(self._orders.refused)})

    def _window_news(self) -> None:
        if self._report is not None:
            self._report.changed()

    async def _is_ready_on(self, link: str) -> bool:
        return self._readiness is not None and await self._readiness.ask(link)

    def _drills(self, vault: Vault | None) -> Drills:
        """Carries out drills that the command line orders through the state directory."""
        state_dir, sign = self._config.state_dir, None if vault is None else vault.sign

        def told(report: DrillReport) -> None:
            LOG.info("drill", extra={"id": report.id, "stage": report.stage, "why": report.why,
                                     "link": report.link, "backup": report.backup})
            drill_file.keep(state_dir, report, self._clock.wall(), sign)

        return Drills(self._board, lambda: drill_file.take(state_dir), told,
                      lambda: Count(self._tally.requests(), self._tally.latency()),
                      self.spent, self._clock,
                      self._is_ready_on)

    def _connects(self) -> dict[str, dict[str, Probe]]:
        """A TCP connect to each upstream over each link: it tells recovery, and proves nothing."""
        return {link.id: {each.id: Probe(each.id, "tcp", _place(each.url_over(link.id)))
                          for each in self._config.upstreams} for link in self._config.links}

    def _alive(self) -> Callable[[], None]:
        """Feed the watchdog from the judging loop: a loop that stands still is not alive."""
        every = self._service.watchdog_s
        last = self._clock.now()

        def beat() -> None:
            nonlocal last
            if every is not None and self._clock.now() - last >= every / 2:
                last = self._clock.now()
                self._service.alive()

        return beat

    async def _first_look(self) -> None:
        """Wait until the preferred link was proved, a second at most: then requests find a state,
        and none goes over a backup only because that was heard first."""
        until = self._clock.now() + FIRST_LOOK_S
        preferred = preference(self._config.links)[0]
        while self._clock.now() < until:
            if self._board.state(preferred).state == "UP":
                return
            await self._clock.sleep(0.01)

    def _transition(self, transition: Transition) -> None:
        """The board says it once when it breaks and once when it heals."""
        told = happening(transition)
        LOG.log(_level(told), "changed", extra=_fields(told))
        self._tell(told)
        if isinstance(transition, LinkTurned):
            link_memory.write(self._config.state_dir / LINKS, {
                link.id: (self._board.state(link.id).state, self._board.state(link.id).cause)
                for link in self._config.links})
        if isinstance(transition, Judged) and transition.verdict.kind == "MTU_HOLE":
            self._cap(transition)
        if self._report is not None:
            self._report.changed()
            if isinstance(transition, Switched):
                self._report.switched()
        if isinstance(transition, Switched):  # told after the death of the link that was active
            for link in self._config.links:
                if self._board.state(link.id).state in ("DOWN", "QUARANTINED"):
                    self._link_lost(link.id)
        elif getattr(transition, "after", "") in ("DOWN", "QUARANTINED"):
            self._link_lost(getattr(transition, "link", ""))

    def _recorded(self, recording: Recording) -> None:
        """What was seen around a turn of a link goes to the disk, or is lost there, said once."""
        if self._boxes is not None:
            self._boxes.keep(recording)

    def _cap(self, judged: Judged) -> None:
        """Keep TCP segments on a link with an MTU hole below what passes, until it is gone."""
        sender = self._senders[judged.verdict.link]
        passes = float(dict(judged.verdict.evidence).get("passes_bytes", 0))
        sender.dialler.packet_cap = None if judged.over else int(passes)
        sender.renew()  # connections made before would still send segments that are lost

    def _link_lost(self, link: str) -> None:
        """A dead link's pool is replaced and its tunnels reset, if another link can take over.

        When the active link dies that is known only once the switch is told: the board tells a
        link's death first, while that link still counts as the active one.
        """
        if self._board.active() and self._board.active() != link:
            self._senders[link].renew()
            if self._tunnels is not None:
                self._tunnels.reset_link(link)

    def _quota_news(self, link: str, before: Overlay, plan: PlanView) -> None:
        """A metered link's plan became low or out, or is neither any more."""
        LOG.log(logging.WARNING if plan.overlay else logging.INFO, "a plan changed", extra={
            "link": link, "before": before, "after": plan.overlay, "share": round(plan.share, 3),
            "days_left": plan.days_left})
        self._tell(quota_told(before, plan))
        if self._report is not None:
            self._report.changed()

    # --- requests

    def _serve(self) -> Serve:
        config = self._config
        upstreams = {
            each.id: UpstreamRules(each.id, urlsplit(each.base_url).netloc,
                                   config.packs[each.pack], each.keep, each.forwarded)
            for each in config.upstreams}
        policies = {
            (tenant.ods, client.id): Policy(client.copies == "marked", client.pinned_link)
            for tenant in config.tenants for client in tenant.clients}
        forwarder = Forwarder(self._senders, self._board, self._clock, Budget(self._metered),
                              self._quota.spent)
        return Serve(upstreams, policies, self._board, forwarder, self._records, self._clock,
                     self._via, self._tally, self._quota.barred)

    @property
    def _via(self) -> str:
        return f"practice-gateway-{self._config.gateway.name}"

    def _door_settings(self) -> DoorSettings:
        listen = self._config.listen
        return DoorSettings(
            self._via, listen.address, listen.port, listen.hosts, listen.certificate,
            listen.key, listen.client_ca, self._config.client_pems,
            listen.line_bytes_max, listen.head_bytes_max, listen.head_s, listen.idle_s,
            connections_max=listen.connections_max)

    def _upstreams_of(self) -> dict[str, frozenset[str]]:
        return {tenant.ods: frozenset(name for ods, name in self._paths if ods == tenant.ods)
                for tenant in self._config.tenants}

    def _aliases(self) -> dict[str, str]:
        return {alias: each.id for each in self._config.upstreams for alias in each.aliases}

    def _noted(self, noted: Noted) -> None:
        if noted.fault is not None:
            LOG.error("a request met a mistake of ours", exc_info=noted.fault,
                      extra={"tenant": noted.tenant})  # edge.log tells type and places only
            return
        LOG.debug("refused at the door", extra={"status": noted.status, "code": noted.code})

    async def _open_tunnels(self, stack: AsyncExitStack) -> None:
        tunnel = self._config.tunnel
        if not tunnel.port:
            return
        settings = TunnelSettings(
            tunnel.address, tunnel.port, frozenset(each.lower() for each in tunnel.allow),
            tunnel.tunnels_max, tls=server_context(self._door_settings()))
        self._tunnels = Tunnels(settings, self._config.tenants, self._dial)
        await self._tunnels.start()
        stack.push_async_callback(self._tunnels.close)

    async def _dial(self, host: str, port: int, tenant: str) -> tuple[*Streams, str] | None:
        """Open a tunnel's connection over the best link; the next one where it fails."""
        for link in self._board.links("tunnel"):
            with contextlib.suppress(OSError):
                reader, writer = await self._senders[link].dial(host, port, DIAL_S)
                return reader, writer, link
        return None

    # --- telemetry and status

    def _open_report(self, stack: AsyncExitStack, loops: Spawn) -> None:
        config = self._config
        assert self._outbox is not None
        if not config.mqtt.host:
            return
        identity = Identity(config.gateway.name, self._boot, self._ids())
        rules = ReportRules(config.mqtt.heartbeat_s, config.mqtt.heartbeat_metered_s,
                            self._metered)
        self._report = Report(identity, tuple(link.id for link in config.links),
                              Sources(self._board.active, self._state, self._birth,
                                      self._wanted),
                              self._outbox, self._connect(), self._clock, self._rng, rules,
                              self._outbox.high)
        loops(self._report.run())
        self._tell(Started(release(), self._ended(), self._config_hash))

    def _ended(self) -> StartCause:
        """How the run before this one ended; from now on it counts as a crash until we stop."""
        mark = self._config.state_dir / ORDERLY
        was_orderly = mark.exists()
        mark.unlink(missing_ok=True)
        return "orderly" if was_orderly else "first" if self._boot <= 1 else "crash"

    def _connect(self) -> Connect:
        settings = self._config.mqtt
        tls = mqtt.tls_context(settings.ca_file, settings.certificate,
                               settings.key) if settings.ca_file else None
        links = {link.id: link for link in self._config.links}

        def connect(link: str, will: Message, topics: tuple[str, ...]
                    ) -> contextlib.AbstractAsyncContextManager[mqtt.Session]:
            host, port = _host_port(settings.hosts.get(link, ""), settings.host, settings.port)
            resolver = self._resolvers[link]

            async def addresses(name: str) -> tuple[str, ...]:
                return tuple(str(each["host"]) for each in await resolver.resolve(name))

            keep_alive = max(settings.keep_alive_s, METERED_KEEP_ALIVE_S
                             if link in self._metered else 0)
            how = mqtt.Settings(host, port, self._config.gateway.name, tls, keep_alive,
                                settings.will_delay_s, settings.session_expiry_s)
            return mqtt.connected(how, mqtt.link_dial(links[link], addresses), will, topics)

        return connect

    def _ids(self) -> frozenset[str]:
        config = self._config
        probes = {probe.id for link in config.links for probe in link.probes}
        return frozenset(
            {config.gateway.name, release()} | probes
            | {link.id for link in config.links} | {link.kind for link in config.links}
            | {tenant.ods for tenant in config.tenants} | {each.id for each in config.upstreams})

    def _birth(self) -> Birth:
        config = self._config
        links = tuple(BirthLink(link.id, link.kind, link.metered, link.priority)
                      for link in config.links)
        schema = hashlib.sha256(asyncapi.text().encode()).hexdigest()
        return Birth(release(), schema, self._config_hash,
                     tuple(tenant.ods for tenant in config.tenants),
                     tuple(each.id for each in config.upstreams), links, config.mqtt.heartbeat_s)

    def _state(self) -> State:
        wall = self._clock.wall()
        outbox = self._outbox_now()
        alarms = (*self._alarms.values(), *(quota_alarm(*each) for each in self._quota.alarms()),
                  *window_alarms(self._maintenance.view(), wall),
                  *readiness_alarms(self._readied_last(), self._config.readiness, wall))
        return state(self._board.view(), alarms, outbox, self._config_hash,
                     self._clock.now() - self._begun, wall)

    def _readied_last(self) -> ReadinessReport | None:
        return None if self._readiness is None else self._readiness.last()

    def _outbox_now(self) -> OutboxNow:
        assert self._outbox is not None
        figures = self._outbox.figures
        oldest = 0.0 if figures.oldest is None else self._clock.wall() - figures.oldest
        return OutboxNow(figures.rows, figures.bytes, max(0.0, oldest), 0, figures.dropped)

    def _tell(self, told: Happening) -> None:
        if self._report is not None:
            self._report.tell(event(told, self._clock.wall(), self._clock.now()))

    def status(self) -> dict[str, object]:
        """Return the ``/status`` document."""
        now = self._clock.now()
        report = None if self._report is None else self._report.view()
        rest = Rest(
            self._config.gateway.name, release(), self._boot, self._is_ready, self._is_draining,
            now - self._begun, self._clock.wall(), self._clock.wall_is_trusted(),
            self._tally.requests(), self._tally.latency(), self._store_views(),
            self._outbox_view(),
            None if report is None else MqttView(report.connected, report.link, report.sess,
                                                 report.since_s),
            0 if self._tunnels is None else self._tunnels.count(), self._warm(),
            in_flight={tenant.ods: self._door.in_flight(tenant.ods)
                       for tenant in self._config.tenants},
            plans=self._quota.views(), maintenance=self._maintenance.view(),
            readiness=self._readied_last(),
            orders=None if self._report is None else self._orders, loops=self._fences.view())
        return document(self._board.view(), rest)

    def _warm(self) -> tuple[tuple[str, str, str, int], ...]:
        if self._standby is None:
            return ()
        return tuple((link.id, *path, n) for link in self._config.links
                     for path, n in self._standby.declared(link.id))

    def _store_views(self) -> tuple[StoreView, ...]:
        shown = []
        for tenant in self._config.tenants:
            store = self._records.get(tenant.ods)
            if store is None:
                shown.append(StoreView(tenant.ods, self._store_states.get(tenant.ods, "off")))
                continue
            told = store.figures
            shown.append(StoreView(
                tenant.ods, "open" if told.state == "ok" else told.state, told.copies, told.kept,
                told.bytes, told.waiting, told.dropped, told.evicted,
                sum(count for _, count in told.refused), told.unreadable))
        return tuple(shown)

    def _outbox_view(self) -> OutboxView | None:
        if self._outbox is None:
            return None
        told = self._outbox.figures
        oldest = None if told.oldest is None else max(0.0, self._clock.wall() - told.oldest)
        high: High = told.high
        return OutboxView("full" if told.full else "open", told.box, told.rows, told.bytes, oldest,
                          told.dropped, {"a": high.a, "b": high.b, "c": high.c})


class _ByHand:
    """The folder of windows by hand, as flow asks for it."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def changed(self) -> int:
        """Return another number after every change."""
        return added_windows.changed(self._state_dir)

    def read(self) -> tuple[tuple[Window, ...], frozenset[str], int]:
        """Return what was added, what was cancelled, and how many files cannot be read."""
        added = added_windows.read(self._state_dir)
        return added.windows, added.cancelled, added.unreadable


@contextlib.asynccontextmanager
async def _loops() -> AsyncIterator[Spawn]:
    """Run loops beside each other; one that fails ends the process (the fourth fence)."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []
        yield lambda loop: tasks.append(group.create_task(loop))
        for task in tasks:
            task.cancel()


def _fields(told: Happening) -> dict[str, object]:
    """The codes, ids and figures of an event for a log line, evidence aside."""
    return {each.name: getattr(told, each.name) for each in dataclasses.fields(told)
            if each.name != "evidence"}


def _level(told: Happening) -> int:
    """A fault is a warning, its end and what was announced are information."""
    fields = _fields(told)
    ended = fields.get("phase") == "ended" or fields.get("after") in ("up", "NORMAL")
    planned = fields.get("cause") == "MAINTENANCE" or fields.get("before") in ("unknown", "")
    ramp = "stage" in fields and fields["reason"] in ("", "done", "needless")
    return logging.INFO if ended or planned or ramp else logging.WARNING


def release() -> str:
    """Return our version, also where we run from a tree that was never installed."""
    try:
        return metadata.version("practice-gateway")
    except metadata.PackageNotFoundError:
        return "0-tree"


def _share(name: str) -> float:
    """A device's own share of a jitter, 0 to 1: the same at each start, another for each name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32


def _place(url: str) -> str:
    """``host:port`` of a URL, IPv6 in brackets."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _host_port(place: str, host: str, port: int) -> tuple[str, int]:
    """The broker as seen over a link: ``host:port``, else what holds for all links."""
    if not place:
        return host, port
    name, _, number = place.rpartition(":")
    return name.strip("[]"), int(number)
