"""The readiness run: every path to every upstream, looked at while there is still time to act.

At ``opening`` less ``lead_s`` (06:30 for 08:00, Europe/London) everything that the morning needs is
tried: names, handshakes, canaries, large packets, echoes, quota, clock, disk, certificates. Law:

- a run belongs to a local day and is made once for it: after a late start at once, on the days of
  23 and of 25 hours like on any other. Without a trusted clock nobody knows the day: then one run
  is made ``UNDATED_FIRST_S`` after the start and one every 24 hours, and they say so.
- what could not be asked ("not_configured", "unknown") is never called good and never called bad.
- an upstream that fails over every link is the upstream's fault: it makes no link unfit.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, TypeAlias

from gateway.core.canary import Found as CanaryFound
from gateway.core.instant import Mono, Wall
from gateway.core.link import Sample
from gateway.core.london import local
from gateway.core.verdict import TOO_LONG

Kind: TypeAlias = Literal[
    "dns", "connect", "tls", "canary", "size", "echo", "sip", "quota", "clock", "disk",
    "certificate"]
Result: TypeAlias = Literal["pass", "fail", "unknown", "not_configured"]
ReadinessCode: TypeAlias = Literal[
    "no_way", "backup_only", "no_backup", "dead_link", "no_names", "large_packets", "quota",
    "clock", "disk", "certificate"]
ReadinessCause: TypeAlias = Literal["opening", "window", "asked", "undated"]

UNDATED_FIRST_S: Final = 900.0
"""Seconds after the start: time enough for a clock to be set, early enough to be of use."""
DAY_S: Final = 86_400.0
SETTLE_S: Final = 20.0
"""Seconds after the start: links have been heard by then, and upstreams tried."""

WORDS: Final[dict[ReadinessCode, str]] = {
    "no_way": "{upstream} cannot be reached on any line: bookings and records from it will not "
              "work at opening. Use the copies and print today's lists.",
    "backup_only": "{upstream} can only be reached over the backup line: it will work, perhaps "
                   "more slowly. The main line needs its supplier.",
    "no_backup": "{upstream} can only be reached over the line {link}: if that fails, nothing "
                 "from it will work.",
    "dead_link": "The line {link} is dead.",
    "no_names": "The line {link} finds no names: new connections over it may fail.",
    "large_packets": "The line {link} loses large packets: long records may hang on it.",
    "quota": "The data allowance of the line {link} is used up or nearly so.",
    "clock": "This device does not know the time: copies cannot be dated.",
    "disk": "The disk of this device is nearly full: new copies may not be kept.",
    "certificate": "A certificate of {upstream} ends within days: after that it cannot be reached.",
}
"""What each finding means at the desk; only the codes leave this device."""

GRAVE: Final[frozenset[ReadinessCode]] = frozenset({"no_way", "backup_only", "no_backup"})
"""These alarm: something will not work, or one more fault and it will not."""


def _opening(default: str) -> str:
    return field(default=default, metadata={
        "pattern": r"^$|^([01][0-9]|2[0-3]):[0-5][0-9]$",
        "description": "when the surgery opens that day, local time; empty: closed, then the run "
                       "is made as for 08:00 and alarms nobody"})


@dataclass(frozen=True, slots=True)
class ReadinessRules:
    """When the run is made, and what it asks of the device."""

    monday: str = _opening("08:00")
    tuesday: str = _opening("08:00")
    wednesday: str = _opening("08:00")
    thursday: str = _opening("08:00")
    friday: str = _opening("08:00")
    saturday: str = _opening("")
    sunday: str = _opening("")
    lead_s: float = field(default=5400.0, metadata={
        "ge": 600, "le": 21600, "description": "seconds before opening at which everything is "
                                               "tried"})
    again_s: float = field(default=60.0, metadata={
        "ge": 1, "le": 3600, "description": "seconds between two runs while a link is distrusted "
                                            "after its maintenance"})
    distrust_most_s: float = field(default=28800.0, metadata={
        "ge": 0, "le": 86400, "description": "seconds after which such a link is used again "
                                             "although no run has passed"})
    disk_free_share: float = field(default=0.05, metadata={
        "ge": 0, "le": 0.9, "description": "share of the disk that must be free"})
    certificate_days: float = field(default=14.0, metadata={
        "ge": 0, "le": 365, "description": "days that a certificate must still be good for"})


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried. ``link`` and ``upstream`` are ``""`` where it is about neither."""

    kind: Kind
    link: str
    upstream: str
    result: Result


@dataclass(frozen=True, slots=True)
class Connected:
    """How one connection went; ``ends`` is when the certificate that was shown ends."""

    connect: Result
    tls: Result
    ends: float | None = None


def heard(samples: Iterable[Sample]) -> Result:
    """Return whether a link echoes: one answer of any of its probes shows that it does."""
    told = tuple(samples)
    return "not_configured" if not told else "pass" if any(each.ok for each in told) else "fail"


def climbed(rungs: Iterable[Sample]) -> Result:
    """Return what a ladder of sizes shows, smallest first: a hole is a large rung that is missed
    three times where the smallest passes. Where none passes, the echo tells, not the ladder."""
    told = tuple(rungs)
    if not told:
        return "not_configured"
    if not told[0].ok:
        return "unknown"
    return "pass" if all(each.ok or each.detail == TOO_LONG for each in told) else "fail"


CANARIES: Final[dict[CanaryFound | None, Result]] = {
    "proved": "pass", "answered": "unknown", "foreign": "fail", "failed": "fail",
    None: "not_configured"}
"""What a canary's end means. Another status than 200 may only want a credential."""


def lasts(ends: float | None, rules: ReadinessRules, wall: Wall, trusted: bool) -> Result:
    """Return whether a certificate that ends at ``ends`` is good for long enough."""
    if ends is None:
        return "not_configured"
    if not trusted:
        return "unknown"
    return "pass" if ends - wall >= rules.certificate_days * DAY_S else "fail"


def has_room(free_share: float | None, rules: ReadinessRules) -> Result:
    """Return whether the disk has the share free that it should, None: nobody could say."""
    if free_share is None:
        return "unknown"
    return "pass" if free_share >= rules.disk_free_share else "fail"


@dataclass(frozen=True, slots=True)
class Found:
    """What will not work, by code; ``words`` turns it into a sentence."""

    code: ReadinessCode
    link: str = ""
    upstream: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One run: for which local day (``""``: undated), when, what was tried, what was found."""

    day: str
    cause: ReadinessCause
    at: Wall
    took_s: float
    checks: tuple[Check, ...]
    found: tuple[Found, ...]
    trusted: bool = True

    @property
    def is_ready(self) -> bool:
        """Whether the practice can open as usual."""
        return not any(each.code in GRAVE for each in self.found)


def opening(rules: ReadinessRules, wall: Wall) -> tuple[float, bool]:
    """Return the hour of opening on the local day of ``wall``, and whether the surgery is open."""
    days = (rules.monday, rules.tuesday, rules.wednesday, rules.thursday, rules.friday,
            rules.saturday, rules.sunday)
    told = days[local(wall).weekday()]
    hour, _, minute = (told or "08:00").partition(":")
    return int(hour) + int(minute) / 60, bool(told)


def day_due(rules: ReadinessRules, done: str, wall: Wall) -> str:
    """Return the local day (ISO) for which a run is due at ``wall``, ``""`` if none is.

    ``done`` is the day of the last run. The clock on the wall decides, never a count of hours.
    """
    now = local(wall)
    day = now.date().isoformat()
    at, _ = opening(rules, wall)
    seconds = max(0.0, at * 3600.0 - rules.lead_s)
    return day if day != done and _seconds(now) >= seconds else ""


def cause_due(rules: ReadinessRules, last: Report | None, begun: Mono, last_at: Mono | None,
              distrusted: bool, trusted: bool, wall: Wall, now: Mono) -> ReadinessCause | None:
    """Return why a run is due now, None if none is.

    ``last_at`` is when the last one of this process ended. None begins in the first
    ``SETTLE_S``: links that nobody has heard yet would all be found dead.
    """
    if now - begun < SETTLE_S:
        return None
    if not trusted:
        return "undated" if is_undated_due(begun, last_at, now) else None
    done = last.day if last is not None else ""
    if day_due(rules, done, wall) or is_again_due(rules, last, wall):
        return "opening"
    if distrusted and (last_at is None or now - last_at >= rules.again_s):
        return "window"
    return None


def day_of(cause: ReadinessCause, last: Report | None, wall: Wall) -> str:
    """Return the local day for which a run counts: a run after a window, or asked for by a person,
    before the morning's own must not take its place."""
    if cause == "undated":
        return ""
    if cause in ("window", "asked"):
        return last.day if last is not None else ""
    return local(wall).date().isoformat()


def is_undated_due(begun: Mono, last: Mono | None, now: Mono) -> bool:
    """Whether a run is due that no trusted clock can date."""
    return now - begun >= UNDATED_FIRST_S if last is None else now - last >= DAY_S


AGAIN_S: Final = 900.0
"""A morning that is not ready is looked at again so often until an hour after opening: what was
mended is seen, and four runs an hour over a SIM cost some 0.1 MB."""


def is_again_due(rules: ReadinessRules, last: Report | None, wall: Wall) -> bool:
    """Whether the morning's run should be made again, since the last one found it not ready."""
    if last is None or last.is_ready or not last.trusted or wall - last.at < AGAIN_S:
        return False
    at, _ = opening(rules, wall)
    now = local(wall)
    return last.day == now.date().isoformat() and _seconds(now) < (at + 1.0) * 3600.0


def alarming(report: Report, rules: ReadinessRules, wall: Wall) -> tuple[Found, ...]:
    """Return the grave findings that hold at ``wall``: those of this very day, if it is a day of
    surgery. A run without a date alarms for a day."""
    if not report.trusted:
        return _grave(report) if wall - report.at < DAY_S else ()
    is_today = report.day == local(wall).date().isoformat()
    return _grave(report) if is_today and opening(rules, wall)[1] else ()


def _grave(report: Report) -> tuple[Found, ...]:
    return tuple(each for each in report.found if each.code in GRAVE)


def _seconds(now: datetime) -> float:
    return now.hour * 3600.0 + now.minute * 60.0 + now.second


def findings(checks: Iterable[Check], links: tuple[str, ...], upstreams: tuple[str, ...]
             ) -> tuple[Found, ...]:
    """Return what the checks say of the morning. ``links`` stand in order of preference."""
    told = tuple(checks)
    found: list[Found] = []
    for upstream in upstreams:
        ways = [link for link in links if _carries(told, link, upstream)]
        if not ways:
            found.append(Found("no_way", "", upstream))
        elif ways[0] != links[0]:
            found.append(Found("backup_only", links[0], upstream))
        elif len(ways) == 1 and len(links) > 1:
            found.append(Found("no_backup", ways[0], upstream))
    codes: tuple[tuple[Kind, ReadinessCode], ...] = (
        ("echo", "dead_link"), ("dns", "no_names"), ("size", "large_packets"), ("quota", "quota"),
        ("clock", "clock"), ("disk", "disk"), ("certificate", "certificate"))
    for kind, code in codes:
        where = dict.fromkeys((each.link if kind != "certificate" else "",
                               each.upstream if kind == "certificate" else "")
                              for each in told if each.kind == kind and each.result == "fail")
        found += [Found(code, link, upstream) for link, upstream in where]
    return tuple(found)


def _carries(checks: tuple[Check, ...], link: str, upstream: str) -> bool:
    """Whether the path was tried and nothing about it failed."""
    about = [each.result for each in checks if each.link == link and each.upstream == upstream
             and each.kind != "certificate"]
    return "pass" in about and "fail" not in about


def is_fit(report: Report, link: str, links: tuple[str, ...]) -> bool:
    """Whether ``link`` passed: it echoes, no large packet is lost, and it reaches every upstream
    that any link reaches."""
    own = [each for each in report.checks if each.link == link and not each.upstream]
    if any(each.result == "fail" for each in own if each.kind in ("echo", "size")):
        return False
    upstreams = {each.upstream for each in report.checks if each.upstream}
    reached = [name for name in upstreams if _carries(report.checks, link, name)]
    elsewhere = [name for name in upstreams
                 if any(_carries(report.checks, other, name) for other in links if other != link)]
    echoed = any(each.kind == "echo" and each.result == "pass" for each in own)
    return (bool(reached) or (not elsewhere and echoed)) and set(elsewhere) <= set(reached)


def words(found: Found) -> str:
    """Return the sentence for a receptionist."""
    return WORDS[found.code].format(link=found.link, upstream=found.upstream)
