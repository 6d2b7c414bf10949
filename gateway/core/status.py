"""``/status``: the whole state of the gateway as one JSON document, and the values it is made of.

It holds codes, configured ids, times and figures only: no URL, name or number of a patient can be
in it (promise 9). Durations are seconds, ``None`` is "not known". The shape:

    gateway    {name, version, boot, uptime_s, ready, draining, wall, clock_trusted, stalls}
    links[]    {id, kind, metered, state, active, since_s, cause, verdict, silent, heard_s, rtt_ms,
                loss, judged_by {age_s, mean_gap_s, gaps_a_day, source, loss, likelihood, silence_s,
                epoch, episodes, penalty}}
    verdicts[] {kind, link, upstream, since_s, evidence{}}
    modes[]    {tenant, upstream, mode, cause, since_s}
    proofs[]   {tenant, upstream, link, age_s}
    standby[]  {link, upstream, age_s, lapsed_s, provable}: when a path last showed that it works;
                lapsed_s is null while that counts; not provable: it has no canary
    probing[]  {link, ask, count, bytes}: questions put since the start, and what they cost about
    steering   {classes[] {link, traffic, cost_s, left, recent{}, day{}}, impaired[],
                returning[] {link, backup, stage, share, since_s, begun_s, stayed_s},
                cleared[] {link, since_s, flows, clean_s, alarmed}}
    switches, last_switch {before, after, cause, ago_s} | null
    requests[] {tenant, upstream, answered, count}     in_flight[] {tenant, count}
    latency    {le[] (s), counts[] (cumulative), sum (s), count}
    stores[]   {tenant, state, copies, kept_total, bytes, queue, dropped_total, evicted_total,
                refused_total, unreadable_total}
    outbox     {state, box, rows, bytes, oldest_s, dropped_total, high{a, b, c}} | absent
    mqtt       {connected, link, sess, since_s} | absent
    tunnels    {open}
    plans[]    {link, month_bytes, total, whole, share, burn, days_left, overlay, barred[], counted,
                price}: metered links, bytes of this month
    slices[]   {link, use, bytes}
    maintenance {windows[] {id, link, start, end, drain_s, source, phase, reason, rule}, refused[]
                {id, link, start, end, source, why}, at_risk[] {id, link, findings, grave},
                refresh_wanted {id, link} | null, distrusted[], minutes_to_next | null, unread[]
                {calendar, why}, unreadable, left_out} | absent
    readiness  {day, cause, at, age_s, took_s, ready, trusted, checks, failed[] {kind, link,
                upstream}, found[] {code, link, upstream, words}} | absent: no run since enrolment
    orders     {source, note, version, hash, windows[] {id, link, start, end, source}, isolate[],
                unknown, refused {code: count}}: what dn/want says, read and not obeyed | absent
    loops[]    {loop, times, kind, ago_s}: loops beside the requests that met a mistake of ours
    warm[]     {link, tenant, upstream, declared}: idle connections that a link may hold
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from gateway.core.cadence import COST_BYTES
from gateway.core.course import CourseView
from gateway.core.failback import share
from gateway.core.instant import Mono, Wall
from gateway.core.maintenance import (
    MaintenanceView,
    Window,
    minutes_to_next,
    phase,
    refresh_wanted,
)
from gateway.core.marking import stamp
from gateway.core.mode import BoardView, Silences
from gateway.core.quota import PlanView
from gateway.core.readiness import Report, words
from gateway.core.steer import Figures
from gateway.core.want import NOTE, Heard


@dataclass(frozen=True, slots=True)
class StoreView:
    """One tenant's record store. ``state``: open, off, keys_missing, set_aside, full, closed."""

    tenant: str
    state: str
    copies: int = 0
    kept_total: int = 0
    bytes: int = 0
    queue: int = 0
    dropped_total: int = 0
    evicted_total: int = 0
    refused_total: int = 0
    unreadable_total: int = 0


@dataclass(frozen=True, slots=True)
class OutboxView:
    """Telemetry that waits. ``high`` is the newest number given, by rank."""

    state: str
    box: int
    rows: int
    bytes: int
    oldest_s: float | None
    dropped_total: int
    high: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MqttView:
    """The telemetry session: over which link, and its number within this boot."""

    connected: bool
    link: str
    sess: int
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """A histogram of answer times in seconds: ``counts[i]`` took at most ``le[i]``, cumulative."""

    le: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    count: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A loop that met mistakes: how many in a row, of which kind the last, and how long ago."""

    loop: str
    times: int
    kind: str
    ago_s: float


@dataclass(frozen=True, slots=True)
class Rest:
    """All of the document that does not come from the board."""

    gateway: str
    version: str
    boot: int
    ready: bool
    draining: bool
    uptime_s: float
    wall: Wall
    trusted: bool
    requests: tuple[tuple[str, str, str, int], ...] = ()
    latency: Latency | None = None
    store: tuple[StoreView, ...] = ()
    outbox: OutboxView | None = None
    mqtt: MqttView | None = None
    tunnels: int = 0
    warm: tuple[tuple[str, str, str, int], ...] = ()
    in_flight: Mapping[str, int] = field(default_factory=dict)
    plans: tuple[PlanView, ...] = ()
    maintenance: MaintenanceView | None = None
    readiness: Report | None = None
    orders: Heard | None = None
    loops: tuple[Broken, ...] = ()


def document(view: BoardView, rest: Rest) -> dict[str, object]:
    """Return the ``/status`` document (see the head of this module)."""
    told: dict[str, object] = {
        "gateway": {
            "name": rest.gateway, "version": rest.version, "boot": rest.boot,
            "uptime_s": round(rest.uptime_s, 3), "ready": rest.ready, "draining": rest.draining,
            "wall": stamp(rest.wall), "clock_trusted": rest.trusted, "stalls": view.stalls},
        **_board(view),
        "requests": [dict(zip(("tenant", "upstream", "answered", "count"), row, strict=True))
                     for row in rest.requests],
        "in_flight": [{"tenant": tenant, "count": count}
                      for tenant, count in sorted(rest.in_flight.items())],
        "stores": [asdict(each) for each in rest.store],
        "tunnels": {"open": rest.tunnels},
        "loops": [asdict(each) for each in rest.loops],
        "plans": [{name: figure for name, figure in asdict(plan).items() if name != "by"}
                  for plan in rest.plans],
        "slices": [{"link": plan.link, "use": use, "bytes": size}
                   for plan in rest.plans for use, size in plan.by],
        "warm": [dict(zip(("link", "tenant", "upstream", "declared"), row, strict=True))
                 for row in rest.warm],
    }
    if rest.maintenance is not None:
        told["maintenance"] = _maintenance(rest.maintenance, rest.wall)
    if rest.readiness is not None:
        told["readiness"] = _readiness(rest.readiness, rest.wall)
    if rest.orders is not None:
        told["orders"] = _orders(rest.orders)
    for name, each in (("latency", rest.latency), ("outbox", rest.outbox), ("mqtt", rest.mqtt)):
        if each is not None:
            told[name] = asdict(each)
    return told


def _window(window: Window) -> dict[str, object]:
    return {"id": window.id, "link": window.link, "start": stamp(window.start),
            "end": stamp(window.end), "source": window.source}


def _maintenance(view: MaintenanceView, wall: Wall) -> dict[str, object]:
    windows = view.plan.windows
    wanted = refresh_wanted(windows, wall)
    minutes = minutes_to_next(windows, wall)
    return {
        "windows": [{**_window(each), "drain_s": each.drain_s, "phase": phase(each, wall),
                     "reason": each.reason, "rule": each.rule} for each in windows],
        "refused": [{**_window(each.window), "why": each.why} for each in view.plan.refused],
        "at_risk": [{"id": each.window.id, "link": each.window.link,
                     "findings": list(each.findings), "grave": each.grave}
                    for each in view.risks],
        "refresh_wanted": None if wanted is None else {"id": wanted.id, "link": wanted.link},
        "distrusted": sorted(view.distrusted),
        "minutes_to_next": None if minutes is None else round(minutes, 1),
        "unread": [{"calendar": name, "why": why} for name, why, _ in view.unread],
        "unreadable": view.unreadable, "left_out": view.left_out}


def _orders(heard: Heard) -> dict[str, object]:
    want = heard.want
    return {
        "source": "order", "note": NOTE, "version": None if want is None else want.version,
        "hash": "" if want is None else want.hash,
        "windows": [] if want is None else [_window(each) for each in want.windows],
        "isolate": [] if want is None else list(want.isolate),
        "unknown": 0 if want is None else want.unknown, "refused": dict(heard.refused)}


def _readiness(report: Report, wall: Wall) -> dict[str, object]:
    return {
        "day": report.day, "cause": report.cause, "at": stamp(report.at),
        "age_s": round(max(0.0, wall - report.at), 1), "took_s": _round(report.took_s),
        "ready": report.is_ready, "trusted": report.trusted, "checks": len(report.checks),
        "failed": [{"kind": each.kind, "link": each.link, "upstream": each.upstream}
                   for each in report.checks if each.result == "fail"],
        "found": [{"code": each.code, "link": each.link, "upstream": each.upstream,
                   "words": words(each)} for each in report.found]}


def _board(view: BoardView) -> dict[str, object]:
    now = view.at
    last = view.last_switch
    faults = {verdict.link: verdict.kind for verdict in view.verdicts
              if verdict.link and not verdict.upstream}
    return {
        "links": [
            {"id": link.id, "kind": link.kind, "metered": link.metered, "state": link.state,
             "active": link.id == view.active, "since_s": _ago(link.since, now),
             "cause": link.cause, "verdict": faults.get(link.id, ""), "silent": link.silent,
             "heard_s": _round(link.heard_s),
             "rtt_ms": _round(link.rtt_ms), "loss": _round(link.loss),
             "judged_by": _judged_by(link.judged_by)} for link in view.links],
        "verdicts": [
            {"kind": verdict.kind, "link": verdict.link, "upstream": verdict.upstream,
             "since_s": _ago(verdict.since, now), "evidence": dict(verdict.evidence)}
            for verdict in view.verdicts],
        "modes": [
            {"tenant": mode.tenant, "upstream": mode.upstream, "mode": mode.mode,
             "cause": mode.cause, "since_s": _ago(mode.since, now)} for mode in view.modes],
        "proofs": [
            {"tenant": tenant, "upstream": upstream, "link": link, "age_s": _round(age)}
            for tenant, upstream, link, age in view.proofs],
        "standby": [
            {"link": path.link, "upstream": path.upstream, "age_s": _round(path.age_s),
             "lapsed_s": _round(path.lapsed_s), "provable": path.provable} for path in view.paths],
        "probing": [{"link": link, "ask": ask, "count": n, "bytes": n * COST_BYTES[ask]}
                    for link, ask, n in view.asks],
        "steering": _steering(view.course, now),
        "switches": view.switches,
        "last_switch": None if last is None else {
            "before": last.before, "after": last.after, "cause": last.cause,
            "ago_s": _ago(last.at, now)},
    }


def _steering(course: CourseView, now: Mono) -> dict[str, object]:
    return {
        "classes": [
            {"link": row.link, "traffic": row.kind, "cost_s": _round(row.cost_s), "left": row.left,
             "recent": _figures(row.recent), "day": _figures(row.day)}
            for row in course.classes if row.day.n or row.cost_s is not None],
        "impaired": sorted(course.impaired),
        "returning": [
            {"link": ramp.link, "backup": ramp.backup, "stage": ramp.stage,
             "share": share(ramp, "read"), "since_s": _ago(ramp.since, now),
             "begun_s": _ago(ramp.begun, now), "stayed_s": _round(ramp.stayed_s)}
            for ramp in course.ramps],
        "cleared": [
            {"link": each.link, "since_s": _ago(each.since, now), "flows": each.wrong,
             "clean_s": None if each.clean_at is None else _round(each.clean_at - each.since),
             "alarmed": each.alarmed is not None} for each in course.clearings],
    }


def _figures(figures: Figures) -> dict[str, object]:
    return {name: _round(figure) for name, figure in asdict(figures).items()}


def _judged_by(silences: Silences | None) -> dict[str, object] | None:
    if silences is None:
        return None
    return {name: round(figure, 3) if isinstance(figure, float) else figure
            for name, figure in asdict(silences).items()}


def _ago(since: Mono, now: Mono) -> float:
    return round(max(0.0, now - since), 3)


def _round(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)
