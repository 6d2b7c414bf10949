"""What a metered link may still carry this month: its plan, what was used, and who has to stop.

Law (links.md section 12): clinical interactive traffic (bookings, and all that a pack names but
as passing: reads, referrals, registrations, places) is never cut, at any percentage: overage costs
less than paper. All else has a slice of the plan or a
level of use from which it waits for a link without a meter.

Rule 1: ``SHED`` and the slices are the whole truth about who is barred. A slice that is spent
        stops its own use and nothing else; ``Prefer`` and ``User-Agent`` raise nobody's priority.
Rule 2: total use is what the device's counters say, both ways, since the contract's month began.
        What no request explains (probes, keepalives, telemetry, TCP's own bytes) is ``probes``.
Rule 3: a counter that begins anew has lost nothing: all that it shows is new. Which counter it is
        (boot and device) comes with each reading; figures alone could not tell.
Rule 4: what is not known is said so: without a count from the month's beginning or the carrier's
        figure, ``whole`` is False and the use is "at least".
"""

import calendar
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Literal, TypeAlias, get_args

from gateway.core.instant import Wall
from gateway.core.london import local, midnight
from gateway.core.message import Arrived, Body, Request, Streamed
from gateway.core.pack import READS, Matched

Use: TypeAlias = Literal["clinical", "other", "background", "prefetch", "bulk", "hedges", "probes"]
USES: Final[tuple[Use, ...]] = get_args(Use)
Overlay: TypeAlias = Literal["", "QUOTA_LOW", "QUOTA_OUT"]

SHED: Final[dict[Use, float]] = {"prefetch": 0.50, "background": 0.75, "other": 0.90, "bulk": 0.90,
                                 "hedges": 1.0}
"""Share of the month's bytes from which a use is barred. ``clinical`` and ``probes`` have none:
without probes nobody would know that the backup is dead."""

LOW: Final = 0.75
EARLY_LOW: Final = 0.50
"""From here a forecast that does not reach the end of the month is QUOTA_LOW too; below, a week of
noise after a new contract would be an alarm."""

PRICE: Final = 1e-6
"""Seconds of waiting that a byte is worth on an unused plan: 30 kB cost what 30 ms cost."""
PRICE_MOST: Final = 10.0
"""Times that, on a spent one: 0.3 s for 30 kB, so that a read still prefers it to a bad link."""

DAYS: Final = 7
DAY_S: Final = 86400.0
HOUR_GOES_ON_S: Final = 5 * 3600.0
"""The present hour's rate is taken to go on so long: a severity 1 fault is to be mended in 5 h."""

WEEKEND_SHARE: Final = 0.25
"""What a day without surgery burns of a working day: probes and telemetry go on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the carrier sold for one metered link."""

    month_bytes: int = field(metadata={
        "ge": 1 << 20, "le": 1 << 50, "description": "bytes a month, both directions together"})
    month_starts: int = field(default=1, metadata={
        "ge": 1, "le": 31, "description": "day on which the contract's month begins, local "
                                          "midnight; where a month has no such day, its last"})
    small: bool = field(default=False, metadata={
        "description": "a small plan: fewer probes and warm connections (65 MB a month, not 120)"})
    background_share: float = field(default=0.10, metadata={
        "ge": 0.0, "le": 1.0, "description": "share of the month for what no pack names"})
    bulk_share: float = field(default=0.0, metadata={
        "ge": 0.0, "le": 1.0, "description": "share for bodies over 1 MiB that are not clinical, "
                                             "updates among them; 0: never on this link"})
    hedge_share: float = field(default=0.03, metadata={
        "ge": 0.0, "le": 1.0, "description": "share for second sends of reads"})
    probe_share: float = field(default=0.05, metadata={
        "ge": 0.0, "le": 1.0, "description": "share for probes and keepalives"})
    carrier_bytes: int = field(default=-1, metadata={
        "ge": -1, "description": "bytes that the carrier says were used at carrier_at; -1: not "
                                 "asked"})
    carrier_at: str = field(default="", metadata={
        "description": "when the carrier said so, Europe/London local time, or with an offset"})


@dataclass(frozen=True, slots=True)
class Carrier:
    """The carrier's own figure of the use at ``at``."""

    bytes: int
    at: Wall


@dataclass(frozen=True, slots=True)
class Reading:
    """What a device's counters show, both ways together. ``life`` names this very counter: a boot
    and a device; ``""`` where there is no device and our own sockets are counted."""

    bytes: int
    life: str


@dataclass(frozen=True, slots=True)
class Used:
    """What one link has carried since ``month`` began. ``by`` is what requests explain, by use.

    ``days`` are (local day's ordinal, bytes), the newest last; ``hour`` is (hour, bytes) of the
    present hour. ``whole``: counted from the month's beginning, or from the carrier's figure,
    the date of which is ``reconciled``.
    """

    month: Wall
    total: int = 0
    by: tuple[tuple[Use, int], ...] = ()
    days: tuple[tuple[int, int], ...] = ()
    hour: tuple[int, int] = (0, 0)
    last: Reading | None = None
    whole: bool = False
    reconciled: Wall | None = None


@dataclass(frozen=True, slots=True)
class PlanView:
    """One plan as ``/status`` and telemetry show it. ``share`` is of 1, ``burn`` what the curve
    allows by now; ``days_left`` None where the month ends first or nothing can be said."""

    link: str
    month_bytes: int
    total: int
    whole: bool
    share: float
    burn: float
    days_left: float | None
    overlay: Overlay
    by: tuple[tuple[Use, int], ...]
    barred: tuple[Use, ...]
    counted: str
    price: float


def month_of(wall: Wall, starts: int) -> tuple[Wall, Wall]:
    """Return the contract's month that ``wall`` falls into, from local midnight to midnight."""
    today = local(wall)
    begin = _start(today.year, today.month, starts)
    if wall < begin:
        before = today.replace(day=1) - timedelta(days=1)
        return _start(before.year, before.month, starts), begin
    after = today.replace(day=28) + timedelta(days=4)
    return begin, _start(after.year, after.month, starts)


def _start(year: int, month: int, starts: int) -> Wall:
    return midnight(year, month, min(starts, calendar.monthrange(year, month)[1]))


def counted(used: Used | None, reading: Reading, plan: Plan, wall: Wall) -> Used:
    """Return ``used`` after one more ``reading``; None: nothing was ever kept of this link.

    What fell between two readings belongs to the later one's month: 10 s of error at most while
    we run; over an outage of ours the bytes are counted all the same.
    """
    month, _ = month_of(wall, plan.month_starts)
    if used is None:
        return Used(month, last=reading)
    new = _new_bytes(used.last, reading)
    if used.month < month:  # a clock that steps back begins no month a second time
        used = Used(month, days=used.days, hour=used.hour, whole=used.last is not None)
    day, hour = local(wall).toordinal(), int(wall // 3600)
    days = dict(used.days)
    days[day] = days.get(day, 0) + new
    this_hour = used.hour[1] + new if used.hour[0] == hour else new
    return replace(used, total=used.total + new, last=reading, hour=(hour, this_hour),
                   days=tuple(sorted(days.items()))[-(DAYS + 1):])


def _new_bytes(last: Reading | None, reading: Reading) -> int:
    if last is None:
        return 0
    if last.life != reading.life or reading.bytes < last.bytes:
        return reading.bytes
    return reading.bytes - last.bytes


def spent(used: Used, use: Use, size: int) -> Used:
    """Return ``used`` with ``size`` bytes explained by ``use``. The total is the counters' word."""
    by = dict(used.by)
    by[use] = by.get(use, 0) + size
    return replace(used, by=tuple(by.items()))


def reconciled(used: Used, carrier: Carrier | None) -> Used:
    """Return ``used`` corrected by the carrier's figure, once per figure.

    The carrier is right, even where it counts less. What we saw after its date is added from the
    days that we know; the rest of the figure's own day is thereby counted twice, at most.
    """
    if carrier is None or carrier.at < used.month or (
            used.reconciled is not None and carrier.at <= used.reconciled):
        return used
    day = local(carrier.at).toordinal()
    since = sum(n for ordinal, n in used.days if ordinal >= day)
    return replace(used, total=carrier.bytes + since, whole=True, reconciled=carrier.at)


def uses(used: Used) -> dict[Use, int]:
    """Return the bytes of every use; ``probes`` is what no request explains."""
    by = dict(used.by)
    found: dict[Use, int] = {use: by.get(use, 0) for use in USES}
    found["probes"] = max(0, used.total - sum(n for use, n in found.items() if use != "probes"))
    return found


def share(used: Used, plan: Plan) -> float:
    """Return how much of the month's bytes is used, 1 at its end."""
    return used.total / plan.month_bytes


def burn(plan: Plan, wall: Wall) -> float:
    """Return the share that may be used by ``wall``: the daily curve, working days 1, others a
    quarter."""
    begin, end = month_of(wall, plan.month_starts)
    whole = passed = 0.0
    day = local(begin)
    while (at := midnight(day.year, day.month, day.day)) < end:
        weight = 1.0 if day.weekday() < 5 else WEEKEND_SHARE
        whole += weight
        passed += weight * min(1.0, max(0.0, wall - at) / DAY_S)
        day += timedelta(days=1)
    return passed / whole


def days_left(used: Used, plan: Plan, wall: Wall) -> float | None:
    """Return the days until the plan is spent, None where the month ends first.

    The present hour goes on for ``HOUR_GOES_ON_S``, then the mean of the last 7 days.
    """
    left = plan.month_bytes - used.total
    if left <= 0:
        return 0.0
    now_rate = _hour_rate(used, wall)
    if now_rate * HOUR_GOES_ON_S >= left:
        found = left / now_rate
    else:
        usual = _usual_rate(used, wall)
        if usual <= 0.0:
            return None
        found = HOUR_GOES_ON_S + (left - now_rate * HOUR_GOES_ON_S) / usual
    return None if wall + found >= month_of(wall, plan.month_starts)[1] else found / DAY_S


def _hour_rate(used: Used, wall: Wall) -> float:
    """Bytes a second of the present hour; its first ten minutes count as ten."""
    hour, n = used.hour
    return n / max(600.0, wall - hour * 3600.0) if hour == int(wall // 3600) else 0.0


def _usual_rate(used: Used, wall: Wall) -> float:
    """Bytes a second of the last 7 whole days that we know: an idle day has no row and counts."""
    today = local(wall).toordinal()
    before = [(day, n) for day, n in used.days if today - DAYS <= day < today]
    if not before:
        return 0.0
    return sum(n for _, n in before) / ((today - before[0][0]) * DAY_S)


def overlay(used: Used, plan: Plan, wall: Wall) -> Overlay:
    """Return how the link is marked beside its state: ``QUOTA_LOW``, ``QUOTA_OUT`` or nothing."""
    part = share(used, plan)
    if part >= 1.0:
        return "QUOTA_OUT"
    if part >= LOW or (part >= EARLY_LOW and days_left(used, plan, wall) is not None):
        return "QUOTA_LOW"
    return ""


def price(used: Used, plan: Plan) -> float:
    """Return the seconds of waiting that a byte is worth, for J: rising from half the plan on."""
    return PRICE * math.pow(PRICE_MOST, max(0.0, min(1.0, 2.0 * share(used, plan) - 1.0)))


def barred(used: Used, plan: Plan) -> frozenset[Use]:
    """Return the uses that may not take this link now. Never ``clinical``."""
    part, by = share(used, plan), uses(used)
    slices: dict[Use, float] = {
        "background": plan.background_share, "bulk": plan.bulk_share, "hedges": plan.hedge_share,
        "probes": plan.probe_share}
    over = {use for use, level in SHED.items() if part >= level}
    return frozenset(over | {use for use, slice_share in slices.items()
                             if by[use] >= slice_share * plan.month_bytes})


def use_of(matched: Matched, request: Request) -> Use:
    """Return what a request is to a plan, by the pack's route and the size of its body alone."""
    route = matched.route
    if route.clinical or route.keep or route.kind in READS or route.kind == "booking":
        return "clinical"  # ``keep``: a place or a service, without which nothing can be booked
    if route.kind == "write":  # a referral, a registration; with a scan beside it, it may wait
        return "other" if isinstance(request.body, Streamed) else "clinical"
    if isinstance(request.body, Streamed):
        return "bulk"
    return "background" if route.is_read else "other"


def bytes_of(matched: Matched, request: Request, arrived: Arrived | None, links: Iterable[str]
             ) -> list[tuple[str, Use, int]]:
    """Return what each send of a request (over ``links``) moved, as (link, use, bytes of bodies).

    The reply is the winner's; a send that lost was a hedge and is charged the reply too, which is
    what it may have cost. Heads and TLS are not counted here: they stay with ``probes``.
    """
    use = use_of(matched, request)
    reply = 0 if arrived is None else _size(arrived.reply.body)
    found: list[tuple[str, Use, int]] = []
    for link in links:
        wins = arrived is None or arrived.link == link
        found.append((link, use if wins else "hedges", _size(request.body) + reply))
    return found


def _size(body: Body) -> int:
    return (body.length or 0) if isinstance(body, Streamed) else len(body)


def view(link: str, used: Used, plan: Plan, wall: Wall) -> PlanView:
    """Return everything about one plan at ``wall``."""
    by = uses(used)
    life = "" if used.last is None else used.last.life
    return PlanView(link, plan.month_bytes, used.total, used.whole, share(used, plan),
                    burn(plan, wall), days_left(used, plan, wall), overlay(used, plan, wall),
                    tuple(by.items()), tuple(use for use in USES if use in barred(used, plan)),
                    _counter(life), price(used, plan))


def _counter(life: str) -> str:
    """By what is counted: a device, or only our own requests' bodies."""
    return "own" if life.startswith("own/") else "device" if life else "unknown"
