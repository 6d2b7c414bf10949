"""The admin port: ``/healthz``, ``/readyz``, ``/status``, ``/metrics``; loopback only.

Nobody counts for this port: it is given one callable that takes a snapshot, and works out every
metric from it when scraped. Labels are taken by name from the snapshot's rows (tenant, upstream,
link, state, answered, mode, verdict), so no row can bring a label, or a patient, of its own.

The snapshot is a mapping ready for JSON; a section that is absent is not shown as a metric:

    gateway   {name, version, boot, uptime_s, clock_trusted}
    links     [{id, state, active, since_s, verdict, rtt_ms, ...}]       switches  figure
    modes     [{tenant, upstream, mode, cause, since_s}]
    requests  [{tenant, upstream, answered, count}]
    latency   {le: [seconds...], counts: [cumulative...], sum: seconds, count: figure}
    stores    [{tenant, state, copies, bytes, kept_total, dropped_total, evicted_total,
                refused_total, unreadable_total}]
    outbox    {rows, bytes, oldest_s, dropped_total}   mqtt {connected}   tunnels {open}
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from aiohttp import web
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

Snapshot: TypeAlias = Mapping[str, Any]

LINK_STATES: Final = ("UNKNOWN", "VALIDATING", "UP", "SUSPECT", "IMPAIRED", "DOWN", "PROBATION",
                      "QUARANTINED", "DRAINING", "SUPPRESSED")
MODES: Final = ("NORMAL", "BACKUP", "DEGRADED", "STANDALONE", "ISOLATED", "RECOVERING")
LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})

# section, key, metric, words, labels
_ROWS: Final = (
    ("requests", "count", "requests", "requests by how they were answered",
     ("tenant", "upstream", "answered")),
    ("probing", "count", "probes", "questions put on a link by ourselves", ("link", "ask")),
    ("probing", "bytes", "probe_bytes", "what they cost, about, both ways", ("link", "ask")),
    ("stores", "kept_total", "store_kept", "replies kept, counted when durable", ("tenant",)),
    ("stores", "dropped_total", "store_dropped", "copies removed or voided", ("tenant",)),
    ("stores", "evicted_total", "store_evicted", "copies that made room", ("tenant",)),
    ("stores", "refused_total", "store_refused", "replies not kept", ("tenant",)),
    ("stores", "unreadable_total", "store_unreadable", "copies that did not open", ("tenant",)),
)
_GAUGES: Final = (
    ("links", "active", "link_active", "1 on the link that new work takes", ("link",)),
    ("links", "since_s", "link_state_seconds", "how long the link has been so", ("link",)),
    ("links", "rtt_ms", "link_rtt_ms", "round trip of the last good probe", ("link",)),
    ("steering.classes", "cost_s", "class_cost_seconds", "what a class of traffic costs on a link",
     ("link", "traffic")),
    ("steering.classes", "left", "class_left", "1 while the class has left the link",
     ("link", "traffic")),
    ("steering.returning", "share", "ramp_share", "share of the reads on a link on its way back",
     ("link",)),
    ("loops", "times", "loop_mistakes", "mistakes of ours in a row, of a loop that broke lately",
     ("loop",)),
    ("standby", "age_s", "path_proof_age_seconds",
     "since a path last showed that it works", ("link", "upstream")),
    ("standby", "lapsed_s", "path_unproven_seconds",
     "for how long it has not been proven; absent while it is", ("link", "upstream")),
    ("steering.cleared", "flows", "flows_on_wrong_link",
     "flows on a backup whose traffic has gone back", ("link",)),
    ("plans", "total", "plan_bytes", "bytes of this month over a metered link", ("link",)),
    ("plans", "share", "plan_share", "share of the month's bytes that is used", ("link",)),
    ("plans", "days_left", "plan_days_left", "days until it is spent; absent: not this month",
     ("link",)),
    ("slices", "bytes", "plan_slice_bytes", "bytes of this month by use", ("link", "use")),
    ("stores", "copies", "store_copies", "copies held", ("tenant",)),
    ("stores", "bytes", "store_bytes", "bytes on disk", ("tenant",)),
)
_SINGLE: Final = (
    ("outbox", "rows", "outbox_rows", "events waiting for the broker"),
    ("outbox", "bytes", "outbox_bytes", "bytes of events waiting"),
    ("outbox", "oldest_s", "outbox_oldest_seconds", "age of the oldest event waiting"),
    ("mqtt", "connected", "mqtt_connected", "1 while a session with the broker stands"),
    ("tunnels", "open", "tunnels_open", "CONNECT tunnels open"),
    ("maintenance", "minutes_to_next", "minutes_to_next_window",
     "until announced work begins; 0 while it runs; absent: none"),
    ("readiness", "ready", "readiness_ok", "1 where the last readiness run found nothing grave"),
    ("readiness", "age_s", "readiness_age_seconds", "since the last readiness run"),
    ("gateway", "uptime_s", "uptime_seconds", "since the process started"),
    ("gateway", "boot", "boot", "number of this start"),
    ("gateway", "clock_trusted", "clock_trusted", "1 while wall time is synchronised"),
)


class Admin:
    """Serves the admin port until closed. ``ready`` turns False when draining begins."""

    def __init__(self, address: str, port: int, snapshot: Callable[[], Snapshot],
                 ready: Callable[[], bool], healthy: Callable[[], bool] = lambda: True) -> None:
        self._address = address
        self._port = port
        self._snapshot = snapshot
        self._ready = ready
        self._healthy = healthy
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Reader(snapshot))
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that is served, where 0 was asked for."""
        addresses = self._runner.addresses if self._runner else []
        return int(addresses[0][1]) if addresses else self._port

    async def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        app = web.Application(middlewares=[_only_loopback])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/status", self._status)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False,
                                     shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, self._port).start()

    async def close(self) -> None:
        """Stop; calling it twice is harmless."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _said(self._healthy(), "ok", "unhealthy")

    async def _readyz(self, _: web.Request) -> web.Response:
        return _said(self._ready(), "ready", "not ready")

    async def _status(self, _: web.Request) -> web.Response:
        return web.Response(text=json.dumps(self._snapshot(), ensure_ascii=False),
                            content_type="application/json", headers={"Cache-Control": "no-store"})

    async def _metrics(self, _: web.Request) -> web.Response:
        text = generate_latest(self._registry)  # type: ignore[no-untyped-call]
        return web.Response(body=text,
                            headers={"Content-Type": CONTENT_TYPE_LATEST})


def _said(good: bool, yes: str, no: str) -> web.Response:
    return web.Response(status=200 if good else 503, text=(yes if good else no) + "\n",
                        headers={"Cache-Control": "no-store"})


@web.middleware
async def _only_loopback(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse a request by another name: a web page must not read us through its own DNS name."""
    name = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    if name.lower() not in LOOPBACK_NAMES:
        return web.Response(status=403, text="loopback only\n")
    answer: web.StreamResponse = await handler(request)
    return answer


class _Reader(Collector):
    """Works the metrics out of a snapshot each time somebody asks."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of this moment."""
        now = self._snapshot()
        yield from _counters(now)
        yield from _gauges(now)
        yield _states("link_state", "1 for the state the link is in", ("link",),
                      ((row.get("id", ""), row.get("state")) for row in now.get("links", ())),
                      LINK_STATES)
        yield _modes(now)
        if "switches" in now:
            yield CounterMetricFamily("gateway_switches", "times that new work changed links",
                                      value=float(now["switches"]))
        if "latency" in now:
            yield _latency(now["latency"])


def _labels(row: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    return [str(row.get("id", row.get("link", "")) if name == "link" else row.get(name, ""))
            for name in names]


def _rows(now: Snapshot, section: str) -> Iterable[Mapping[str, Any]]:
    """The rows of ``section``, or of ``table.section``; none where it is absent."""
    table, _, inner = section.rpartition(".")
    rows: Iterable[Mapping[str, Any]] = (now.get(table, {}) if table else now).get(inner, ())
    return rows


def _counters(now: Snapshot) -> Iterator[Metric]:
    for section, key, name, words, labels in _ROWS:
        family = CounterMetricFamily("gateway_" + name, words, labels=labels)
        for row in now.get(section, ()):
            if row.get(key) is not None:
                family.add_metric(_labels(row, labels), float(row[key]))
        yield family


def _gauges(now: Snapshot) -> Iterator[Metric]:
    for section, key, name, words, labels in _GAUGES:
        family = GaugeMetricFamily("gateway_" + name, words, labels=labels)
        for row in _rows(now, section):
            if row.get(key) is not None:
                family.add_metric(_labels(row, labels), float(row[key]))
        yield family
    for section, key, name, words in _SINGLE:
        value = now.get(section, {}).get(key)
        if value is not None:
            yield GaugeMetricFamily("gateway_" + name, words, value=float(value))


def _states(name: str, words: str, labels: tuple[str, ...],
            rows: Iterable[tuple[str, object]], every: tuple[str, ...]) -> Metric:
    family = GaugeMetricFamily("gateway_" + name, words, labels=(*labels, "state"))
    for who, state in rows:
        for each in every:
            family.add_metric([str(who), each], float(state == each))
    return family


def _modes(now: Snapshot) -> Metric:
    family = GaugeMetricFamily("gateway_mode", "1 for the mode of an upstream as a tenant meets it",
                               labels=("tenant", "upstream", "mode"))
    for row in now.get("modes", ()):
        for each in MODES:
            family.add_metric([str(row.get("tenant", "")), str(row.get("upstream", "")), each],
                              float(row.get("mode") == each))
    return family


def _latency(told: Mapping[str, Any]) -> Metric:
    buckets = [(repr(float(le)), float(count))
               for le, count in zip(told["le"], told["counts"], strict=True)]
    return HistogramMetricFamily(
        "gateway_request_seconds", "from the whole request to the whole answer",
        buckets=[*buckets, ("+Inf", float(told["count"]))], sum_value=float(told["sum"]))
