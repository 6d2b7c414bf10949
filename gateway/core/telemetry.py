"""What the network team is told: messages, ranks, numbering (telemetry.md Protocol).

Law: every string in a message is a code of ``CODES``, a configured id or a hash. ``encode``
replaces any other by ``unlisted``, so a field that could hold a name, a number or a URL does not
exist on the wire and promise 9 holds by construction (``stray_strings`` is its test).

Snapshots (birth, presence, state) are retained and replaced; events are numbered rows that leave
the outbox when they are acknowledged. Order is by number, never by time: clocks drift in outages.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Final, Literal, TypeAlias, get_args

from gateway.core.failback import RampReason, Stage
from gateway.core.instant import Mono, Wall
from gateway.core.link import Layer
from gateway.core.maintenance import Finding, Source, Step
from gateway.core.message import Cause
from gateway.core.readiness import ReadinessCause, ReadinessCode
from gateway.core.route import LinkState, Mode
from gateway.core.steer import TrafficClass
from gateway.core.verdict import VerdictKind

VERSION: Final = 1
"""Minor schema version, ``v`` of the envelope; the major one is in the topic."""
LATE_S: Final = 30.0
"""A row sent this long after it happened is history (``h`` = 1) and never changes "now"."""
BATCH_MAX: Final = 20
"""Rows in one message, hence rows unacknowledged at once: a broker's default in-flight limit."""

Id: TypeAlias = Annotated[str, "id"]
"""A name that the engineer wrote into the configuration, or our own version."""
Hash: TypeAlias = Annotated[str, "hash"]
"""64 lower-case hex digits: a SHA-256."""
Code: TypeAlias = Annotated[str, "code"]
"""A member of ``CODES``."""
Figure: TypeAlias = str | float | int | None

Rank: TypeAlias = Literal["a", "b", "c"]
PresenceCode: TypeAlias = Literal["online", "leaving", "lost"]
Severity: TypeAlias = Literal["ok", "minor", "major", "critical"]
StateCode: TypeAlias = Literal[
    "unknown", "validating", "up", "suspect", "impaired", "down", "probation", "quarantined",
    "draining", "suppressed"]
Phase: TypeAlias = Literal["began", "ended"]
StopCause: TypeAlias = Literal["term", "config", "crash"]
StartCause: TypeAlias = Literal["first", "orderly", "crash"]
StoreFile: TypeAlias = Literal["records", "outbox"]
StoreCode: TypeAlias = Literal["set_aside", "full", "busy", "keys_missing", "healed"]
Reason: TypeAlias = VerdictKind | Literal["MAINTENANCE", "ROLLED_BACK", ""]
"""Why a link, a mode or the active link changed: a verdict, announced work, or healed."""
AlarmCode: TypeAlias = Literal[
    "no_path", "one_link", "copy_stale", "store_damaged", "store_full", "keys_missing",
    "certificate", "clock", "outbox_full", "flows_on_wrong_link",
    "quota_low", "quota_out", "backup_unproven", "window_at_risk", "window_refused",
    "calendar_unread", "not_ready"]
ReadinessResult: TypeAlias = Literal["ready", "not_ready"]
QuotaCode: TypeAlias = Literal["", "quota_low", "quota_out"]
ClockCode: TypeAlias = Literal["ntp", "rtc", "none"]
EventKind: TypeAlias = Literal[
    "start", "stop", "link", "verdict", "mode", "switch", "class", "ramp", "flows", "quota",
    "store", "gap", "window", "readiness"]
MessageKind: TypeAlias = Literal["birth", "presence", "state", "hb", "evt"]

UNLISTED: Final = "unlisted"
CODES: Final[frozenset[str]] = frozenset(
    code
    for registry in (
        Rank, PresenceCode, Severity, StateCode, Phase, StopCause, StartCause, StoreFile, StoreCode,
        AlarmCode, ClockCode, EventKind, MessageKind, LinkState, Mode, VerdictKind,
        Cause, Layer, TrafficClass, Stage, RampReason,
        Finding, Source, Step, ReadinessCause, ReadinessCode, ReadinessResult)
    for code in get_args(registry)
) | {UNLISTED, "", "MAINTENANCE", "ROLLED_BACK", "fibre", "dsl", "cellular", "satellite",
    "other"} | {
    str(status) for status in range(100, 600)}  # a sample's detail may be an HTTP status

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_FIELD: Final = re.compile(r"[a-zA-Z][a-zA-Z_]{0,23}\d{0,3}[a-z_]{0,8}")  # rtt95_ms; no NHS number


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, not yet numbered. ``body`` are pairs of a field and a code/figure.

    Evidence stands in the body as ``e.{name}``; ``boot`` there tells which start it happened in.
    """

    rank: Rank
    kind: str
    at: Wall
    mono: Mono
    body: tuple[tuple[str, str | float | int | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A numbered event in the outbox: ``seq`` is dense within (``box``, ``rank``)."""

    box: int
    rank: Rank
    seq: int
    event: Event


# What an event may say, by kind. ``evidence`` holds the samples' figures that were judged.
Evidence: TypeAlias = tuple[tuple[str, str | float], ...]


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon began; ``after`` says how the run before it ended."""

    version: Id
    after: StartCause
    config: Hash


@dataclass(frozen=True, slots=True)
class Stopped:
    """The daemon is ending in good order."""

    cause: StopCause
    uptime_s: float


@dataclass(frozen=True, slots=True)
class LinkMoved:
    """A link went from one state to another. ``lasted_s`` is its time in the state before."""

    link: Id
    before: StateCode
    after: StateCode
    cause: Reason = ""
    lasted_s: float | None = None
    evidence: Evidence = ()


@dataclass(frozen=True, slots=True)
class VerdictTold:
    """A verdict on a link, an upstream or a path began or ended. ``""`` is "not this one"."""

    verdict: VerdictKind
    phase: Phase
    link: Id = ""
    upstream: Id = ""
    lasted_s: float | None = None
    evidence: Evidence = ()


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """An upstream's mode, as one tenant meets it, changed."""

    tenant: Id
    upstream: Id
    before: Mode
    after: Mode
    cause: Reason = ""
    lasted_s: float | None = None


@dataclass(frozen=True, slots=True)
class SwitchTold:
    """The active link changed; ``""`` is "none"."""

    before: Id
    after: Id
    cause: Reason = ""
    lasted_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClassTold:
    """A class of traffic left a link that works badly (``began``) or came back (``ended``).

    The evidence is what the class cost on the bad link and on the other, in seconds.
    """

    traffic: TrafficClass
    before: Id
    after: Id
    phase: Phase
    cause: Reason = ""
    evidence: Evidence = ()


@dataclass(frozen=True, slots=True)
class RampStep:
    """A link takes its traffic back from ``backup``: a stage began, or (``reason``) it ended.

    ``share`` of the reads goes over it. The evidence is what the stage before it showed.
    """

    link: Id
    backup: Id
    stage: Stage
    share: float
    reason: RampReason = ""
    lasted_s: float | None = None
    evidence: Evidence = ()


@dataclass(frozen=True, slots=True)
class FlowsTold:
    """Flows stand on a link that should carry none any more (``began``), or none do (``ended``)."""

    link: Id
    phase: Phase
    n: int
    lasted_s: float | None = None


@dataclass(frozen=True, slots=True)
class QuotaTold:
    """A metered link's plan became low or out, or (``after`` empty) is neither any more.

    ``share`` of the month's bytes is used; ``days_left`` None: the month ends first.
    """

    link: Id
    before: QuotaCode
    after: QuotaCode
    share: float
    days_left: float | None = None


@dataclass(frozen=True, slots=True)
class StoreTold:
    """A store was set aside, is full, has lost its keys, or is well again."""

    file: StoreFile
    code: StoreCode
    tenant: Id = ""


@dataclass(frozen=True, slots=True)
class WindowTold:
    """A step of announced work on a link was due: looked at, copies wanted, drained, begun, ended.

    ``start`` and ``end`` are ms UTC. The evidence of ``preflight`` and ``page`` names what speaks
    against the links that must carry the practice meanwhile.
    """

    link: Id
    source: Source
    step: Step
    start: int
    end: int
    evidence: Evidence = ()


@dataclass(frozen=True, slots=True)
class ReadinessTold:
    """A readiness run is over: ``checks`` things were tried. The evidence counts findings by code.
    """

    cause: ReadinessCause
    result: ReadinessResult
    checks: int
    took_s: float
    evidence: Evidence = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows that will never come: ``n`` of them, or a whole box that had to be set aside."""

    of: Rank
    n: int
    first: int | None = None
    last: int | None = None
    lost_box: int | None = None


Happening: TypeAlias = (
    Started | Stopped | LinkMoved | VerdictTold | ModeChanged | SwitchTold | ClassTold | RampStep
    | FlowsTold | QuotaTold | StoreTold | WindowTold | ReadinessTold | Gap)
KINDS: Final[dict[str, type[Happening]]] = {
    "start": Started, "stop": Stopped, "link": LinkMoved, "verdict": VerdictTold,
    "mode": ModeChanged, "switch": SwitchTold, "class": ClassTold, "ramp": RampStep,
    "flows": FlowsTold, "quota": QuotaTold, "store": StoreTold, "gap": Gap,
    "window": WindowTold, "readiness": ReadinessTold}
_KIND_OF: Final = {shape: kind for kind, shape in KINDS.items()}


def event(happening: Happening, at: Wall, now: Mono) -> Event:
    """Return ``happening`` as an event for the outbox. Gap records are rank A, all else B."""
    body: list[tuple[str, str | float | int | None]] = []
    for each in fields(happening):
        value = getattr(happening, each.name)
        if each.name == "evidence":
            body += [(f"e.{name}", figure) for name, figure in value]
        else:
            body.append((each.name, value))
    kind = _KIND_OF[type(happening)]
    return Event("a" if kind == "gap" else "b", kind, at, now, tuple(body))


def state_code(state: LinkState) -> StateCode:
    """Return a link's state as it is written on the wire: the same word in lower case."""
    codes: dict[LinkState, StateCode] = {
        "UNKNOWN": "unknown", "VALIDATING": "validating", "UP": "up", "SUSPECT": "suspect",
        "IMPAIRED": "impaired", "DOWN": "down", "PROBATION": "probation",
        "QUARANTINED": "quarantined", "DRAINING": "draining", "SUPPRESSED": "suppressed"}
    return codes[state]


# Snapshots: what holds now, whole.

@dataclass(frozen=True, slots=True)
class ClockQuality:
    """State of the wall clock and its error estimate in ms, None where nobody knows it."""

    s: ClockCode
    e: int | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every message but the heartbeat begins with. ``ts``, ``mono``, ``sent`` are ms."""

    gw: Id
    boot: int
    sess: int
    ts: int
    mono: int
    sent: int
    clk: ClockQuality
    v: int = VERSION


@dataclass(frozen=True, slots=True)
class BirthLink:
    """A link as configured."""

    id: Id
    kind: Id
    metered: bool
    priority: int


@dataclass(frozen=True, slots=True)
class Birth:
    """Who this gateway is. ``schema`` and ``config`` are SHA-256; ``ops`` the orders it obeys."""

    version: Id
    schema: Hash
    config: Hash
    tenants: tuple[Id, ...]
    upstreams: tuple[Id, ...]
    links: tuple[BirthLink, ...]
    heartbeat_s: float
    ops: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True)
class Presence:
    """``lost`` is the will: composed at connect, so its ``ts`` means nothing."""

    st: PresenceCode


@dataclass(frozen=True, slots=True)
class LinkNow:
    """A link now. ``since`` is ms UTC, ``rtt`` and ``jit`` ms, ``loss`` a share of 1."""

    id: Id
    kind: Id
    st: StateCode
    since: int
    metered: bool = False
    rtt: float | None = None
    loss: float | None = None
    jit: float | None = None
    bytes_today: int | None = None


@dataclass(frozen=True, slots=True)
class PathNow:
    """An unhealthy path; ``link`` ``""`` means on every link."""

    link: Id
    upstream: Id
    verdict: VerdictKind
    since: int


@dataclass(frozen=True, slots=True)
class ModeNow:
    """An upstream's mode as one tenant meets it. ``copy_age_s`` is its oldest kept list's."""

    tenant: Id
    upstream: Id
    mode: Mode
    since: int
    copy_age_s: float | None = None
    cover_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failover:
    """Moves of the active link since UTC midnight; ``last`` in ms UTC."""

    n_today: int = 0
    last: int | None = None
    cause: Reason = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person must mend."""

    code: AlarmCode
    sev: Severity
    since: int
    link: Id = ""
    upstream: Id = ""


@dataclass(frozen=True, slots=True)
class OutboxNow:
    """What waits to be sent; ``dropped`` counts events that found no room since the start."""

    rows: int = 0
    bytes: int = 0
    oldest_s: float = 0.0
    rolled: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """The device: ``cpu`` and ``disk`` are shares of 1 in use, ``mem`` bytes, ``temp`` Celsius."""

    uptime_s: float
    cpu: float | None = None
    mem: int | None = None
    disk: float | None = None
    temp: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Everything that holds now, in one document. ``active`` is ``""`` with no usable link."""

    active: Id
    links: tuple[LinkNow, ...] = ()
    paths: tuple[PathNow, ...] = ()
    modes: tuple[ModeNow, ...] = ()
    failover: Failover = Failover()
    alarms: tuple[Alarm, ...] = ()
    outbox: OutboxNow = OutboxNow()
    cfg: Hash = ""
    health: Health | None = None
    cert_days: int | None = None


@dataclass(frozen=True, slots=True)
class High:
    """Newest row number given, per rank: a gap shows without waiting for the next row."""

    a: int = 0
    b: int = 0
    c: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """About 60 bytes, without the envelope: the topic names the gateway."""

    boot: int
    sess: int
    rev: int
    high: High
    active: Id
    sev: Severity


Snapshot: TypeAlias = Birth | State


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message. ``expiry_s`` None never expires."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    expiry_s: int | None = None


@dataclass(frozen=True, slots=True)
class ReportRules:
    """When we report; seconds, each with its reason. ``metered`` are ids of metered links."""

    heartbeat_s: float = 10.0
    heartbeat_metered_s: float = 60.0
    metered: frozenset[str] = frozenset()
    gather_s: float = 1.0  # a flap's many changes make one document
    state_every_s: float = 300.0  # a console that lost one has it again within five minutes
    outage_s: float = 60.0  # an outage this long hit others too: they return together
    drain_jitter_s: float = 120.0  # so each waits its own while before it drains
    steady_s: float = 60.0  # a connection this old proves that the broker can hold us
    reassert_s: float = 5.0  # between two presences put over a stale "lost"
    leave_s: float = 3.0  # what an orderly stop waits for the broker
    outbox_look_s: float = 60.0  # it is asked this often although nothing was told
    outbox_pause_s: float = 10.0  # before a full or busy outbox is asked again
    intake_max: int = 1024  # events in memory until the outbox has them; beyond it counted only


@dataclass(frozen=True, slots=True)
class Delivery:
    """How messages of one kind travel."""

    qos: int
    retain: bool
    expiry_s: int | None = None


DELIVERY: Final[dict[MessageKind, Delivery]] = {
    "birth": Delivery(1, True), "presence": Delivery(1, True), "state": Delivery(1, True),
    "hb": Delivery(0, False, 30),  # three heartbeats old says nothing about now
    "evt": Delivery(1, False)}  # no expiry: the outbox repeats


def topic(gw: str, kind: MessageKind) -> str:
    """Return ``gpgw/1/{gw}/up/{kind}``.

    Raises:
        ValueError: ``gw`` could not be one topic segment equal to a common name.
    """
    if not _ID.fullmatch(gw):
        raise ValueError("gateway name must be letters, digits, '.', '_' or '-'")
    return f"gpgw/1/{gw}/up/{kind}"


def want_topic(gw: str) -> str:
    """Return ``gpgw/1/{gw}/dn/want``, where the network team's desired settings stand.

    Raises:
        ValueError: as ``topic``.
    """
    return topic(gw, "hb").removesuffix("up/hb") + "dn/want"


def is_stale(payload: bytes, boot: int, sess: int) -> bool:
    """Tell whether a presence read back contradicts us: not online, and not newer than we are.

    Nothing is believed of a payload that is no presence of ours: then there is nothing to mend.
    """
    try:
        told = json.loads(payload)
        return told["b"]["st"] != "online" and (told["boot"], told["sess"]) <= (boot, sess)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def worst(state: State) -> Severity:
    """Return the gravest severity among the alarms, ``ok`` without any."""
    order: tuple[Severity, ...] = get_args(Severity)
    return max((alarm.sev for alarm in state.alarms), key=order.index, default="ok")


def ms(at: Wall | Mono) -> int:
    """Return seconds as whole milliseconds; 0 for what is no number of any clock."""
    return round(at * 1000) if math.isfinite(at) else 0


def dated(since: Mono, wall: Wall, now: Mono) -> int:
    """Return the ms UTC at which the monotonic clock showed ``since``."""
    return round((wall - max(0.0, now - since)) * 1000)


def presence(st: PresenceCode, envelope: Envelope, ids: frozenset[str]) -> Message:
    """Return a presence message; ``lost`` is for the will."""
    return _message("presence", envelope, {"b": plain(Presence(st))}, ids)


def snapshot(body: Snapshot, rev: int, high: High, envelope: Envelope,
             ids: frozenset[str]) -> Message:
    """Return a birth or a state, numbered ``rev`` within the boot."""
    kind: MessageKind = "birth" if isinstance(body, Birth) else "state"
    return _message(kind, envelope, {"rev": rev, "high": plain(high), "b": plain(body)}, ids)


def heartbeat(body: Heartbeat, gw: str, ids: frozenset[str]) -> Message:
    """Return a heartbeat."""
    return _sealed("hb", gw, _listed(plain(body), ids))


def batches(rows: Iterable[Row]) -> Iterator[tuple[Row, ...]]:
    """Cut ``rows`` into runs of one box and rank, at most BATCH_MAX each, order kept."""
    run: list[Row] = []
    for row in rows:
        if run and (len(run) == BATCH_MAX or (run[0].box, run[0].rank) != (row.box, row.rank)):
            yield tuple(run)
            run = []
        run.append(row)
    if run:
        yield tuple(run)


def events(rows: tuple[Row, ...], envelope: Envelope, ids: frozenset[str]) -> Message:
    """Return one message with ``rows``, all of one box and rank (see ``batches``).

    A row stands as ``{seq, ts, mono, boot, h, kind, b}``, in ``rows[]`` even when it is alone.
    """
    late_before = envelope.sent - LATE_S * 1000
    told_rows = [_row(row, envelope.boot, late_before) for row in rows]
    head = {"box": rows[0].box, "rank": rows[0].rank}
    return _message("evt", envelope, head | {"rows": told_rows}, ids)


def _row(row: Row, boot: int, late_before: float) -> dict[str, object]:
    shape = KINDS.get(row.event.kind)  # none: a later version wrote this row, then was taken back
    names = {each.name for each in fields(shape)} if shape else set()
    body: dict[str, object] = {name: figure for name, figure in row.event.body if name in names}
    if "evidence" in names:
        body["evidence"] = {name[2:]: figure for name, figure in row.event.body
                            if name.startswith("e.")}
    kind = row.event.kind if shape else UNLISTED
    return {"seq": row.seq, "ts": ms(row.event.at), "mono": ms(row.event.mono),
            "boot": dict(row.event.body).get("boot", boot),
            "h": int(ms(row.event.at) < late_before), "kind": kind, "b": body}


def _message(kind: MessageKind, envelope: Envelope, rest: Mapping[str, object],
             ids: frozenset[str]) -> Message:
    head = {each.name: plain(getattr(envelope, each.name)) for each in fields(envelope)}
    return _sealed(kind, envelope.gw, _listed(head | dict(rest), ids | {envelope.gw}))


def _sealed(kind: MessageKind, gw: str, tree: object) -> Message:
    payload = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode()
    how = DELIVERY[kind]
    return Message(topic(gw, kind), payload, how.qos, how.retain, how.expiry_s)


def plain(value: object) -> object:
    """Return a dataclass as the dicts, lists and figures that JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value


def is_listed(text: str, ids: frozenset[str]) -> bool:
    """Tell whether ``text`` may stand in a message: a code, a configured id or a hash."""
    return text in CODES or text in ids or _HASH.fullmatch(text) is not None


def _listed(tree: object, ids: frozenset[str]) -> object:
    """Return ``tree`` with every other string replaced, and figures that JSON lacks made null."""
    if isinstance(tree, dict):
        return {name: _listed(each, ids) for name, each in tree.items()
                if _FIELD.fullmatch(name) or name in ids}
    if isinstance(tree, list):
        return [_listed(each, ids) for each in tree]
    if isinstance(tree, str):
        return tree if is_listed(tree, ids) else UNLISTED
    if isinstance(tree, float):
        return round(tree, 3) if math.isfinite(tree) else None
    return tree


def stray_strings(tree: object, ids: frozenset[str]) -> tuple[str, ...]:
    """Return every string of a decoded message that is no code, id or hash (promise 9: none)."""
    if isinstance(tree, dict):
        names = tuple(name for name in tree if not (_FIELD.fullmatch(name) or name in ids))
        return names + tuple(stray for each in tree.values() for stray in stray_strings(each, ids))
    if isinstance(tree, list):
        return tuple(stray for each in tree for stray in stray_strings(each, ids))
    return (tree,) if isinstance(tree, str) and not is_listed(tree, ids) else ()
