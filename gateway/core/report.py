"""What of the gateway's life is told to the network team: the board's words turned into messages.

Pure: transitions and views in, events and snapshots out. ``flow/report.py`` carries them.
"""

from typing import Final

from gateway.core.course import RampTold, SweepTold
from gateway.core.instant import Mono, Wall
from gateway.core.link import CARRIES, OUT_OF_USE, UNPROVED, LinkTurned
from gateway.core.maintenance import Finding, MaintenanceView, Step, Window
from gateway.core.mode import BoardView, ModeTurned, Transition
from gateway.core.quota import Overlay, PlanView
from gateway.core.readiness import ReadinessRules, Report, alarming
from gateway.core.route import Switched
from gateway.core.steer import ClassMoved
from gateway.core.telemetry import (
    Alarm,
    ClassTold,
    Failover,
    FlowsTold,
    Happening,
    Health,
    LinkMoved,
    LinkNow,
    ModeChanged,
    ModeNow,
    OutboxNow,
    PathNow,
    QuotaCode,
    QuotaTold,
    RampStep,
    ReadinessTold,
    Reason,
    State,
    SwitchTold,
    VerdictTold,
    WindowTold,
    dated,
    ms,
    state_code,
)
from gateway.core.verdict import Judged

REASONS: Final[dict[str, Reason]] = {
    "LINK_DOWN": "LINK_DOWN", "BLACKHOLE": "BLACKHOLE", "BROWNOUT": "BROWNOUT",
    "ROUTE_FAULT": "ROUTE_FAULT", "DNS_FAULT": "DNS_FAULT", "CAPTIVE": "CAPTIVE",
    "TLS_INTERCEPT": "TLS_INTERCEPT", "MTU_HOLE": "MTU_HOLE", "UPSTREAM_DOWN": "UPSTREAM_DOWN",
    "UPSTREAM_SLOW": "UPSTREAM_SLOW", "LOCAL_STALL": "LOCAL_STALL", "MAINTENANCE": "MAINTENANCE",
    "ROLLED_BACK": "ROLLED_BACK"}


def happening(transition: Transition) -> Happening:
    """Return what is written into the outbox about ``transition``."""
    match transition:
        case LinkTurned():
            return LinkMoved(transition.link, state_code(transition.before),
                             state_code(transition.after), _reason(transition.cause),
                             transition.lasted_s, transition.evidence)
        case Judged():
            verdict = transition.verdict
            return VerdictTold(verdict.kind, "ended" if transition.over else "began",
                               verdict.link, verdict.upstream,
                               transition.lasted_s if transition.over else None,
                               verdict.evidence)
        case ModeTurned():
            return ModeChanged(transition.tenant, transition.upstream, transition.before,
                               transition.after, _reason(transition.cause), transition.lasted_s)
        case Switched():
            return SwitchTold(transition.before, transition.after, _reason(transition.cause),
                              transition.lasted_s)
        case ClassMoved():
            return ClassTold(transition.kind, transition.before, transition.after,
                             "ended" if transition.back else "began", _reason(transition.cause),
                             (("cost_s", transition.cost_s), ("other_s", transition.other_s)))
        case RampTold():
            return _ramp(transition)
        case SweepTold():
            return FlowsTold(transition.link, "began" if transition.wrong else "ended",
                             transition.wrong, transition.lasted_s)


def _ramp(told: RampTold) -> RampStep:
    back, backup = told.back, told.backup_figures
    return RampStep(told.link, told.backup, told.stage, told.share, told.reason, told.lasted_s,
                    (("n", back.n), ("fails", back.fails), ("p95_s", back.p95_s),
                     ("backup_n", backup.n), ("backup_fails", backup.fails),
                     ("backup_p95_s", backup.p95_s)))


def _reason(cause: str) -> Reason:
    return REASONS.get(cause, "")


def state(view: BoardView, alarms: tuple[Alarm, ...], outbox: OutboxNow, config: str,
          uptime_s: float, wall: Wall) -> State:
    """Return everything that holds now; ``config`` is the configuration's SHA-256."""
    now = view.at
    links = tuple(
        LinkNow(link.id, link.kind, state_code(link.state), dated(link.since, wall, now),
                link.metered, link.rtt_ms, link.loss) for link in view.links)
    paths = tuple(
        PathNow(verdict.link, verdict.upstream, verdict.kind, dated(verdict.since, wall, now))
        for verdict in view.verdicts if verdict.upstream)
    modes = tuple(
        ModeNow(mode.tenant, mode.upstream, mode.mode, dated(mode.since, wall, now))
        for mode in view.modes)
    last = view.last_switch
    failover = Failover(view.switches, None if last is None else dated(last.at, wall, now),
                        "" if last is None else _reason(last.cause))
    found = (*alarms, *link_alarms(view, wall))
    return State(view.active, links, paths, modes, failover, found, outbox, config,
                 Health(uptime_s))


def link_alarms(view: BoardView, wall: Wall) -> tuple[Alarm, ...]:
    """Return the alarms that the links themselves raise: none is left, or only one, or flows stand
    on the wrong one."""
    now = view.at
    wrong = tuple(Alarm("flows_on_wrong_link", "major", dated(each.alarmed, wall, now), each.link)
                  for each in view.course.clearings if each.alarmed is not None)
    return _lost_links(view, wall) + wrong + unproven(view, wall)


def unproven(view: BoardView, wall: Wall) -> tuple[Alarm, ...]:
    """Return an alarm for each path of a standing-by link that has not shown lately that it works.

    Not for an upstream that is down anyway, nor for a link that is out of use: those are told.
    """
    down = {each.upstream for each in view.verdicts if each.kind == "UPSTREAM_DOWN"}
    out = {link.id for link in view.links if link.state in OUT_OF_USE}
    return tuple(
        Alarm("backup_unproven", "major", dated(Mono(view.at - path.lapsed_s), wall, view.at),
              path.link, path.upstream)
        for path in view.paths if path.lapsed_s is not None and path.provable
        and path.link != view.active
        and path.link not in out and path.upstream not in down)


def proven(view: BoardView) -> frozenset[str]:
    """Return the links that carry and none of whose paths has lost its proof."""
    down = {each.upstream for each in view.verdicts if each.kind == "UPSTREAM_DOWN"}
    lapsed = {path.link for path in view.paths
              if path.lapsed_s is not None and path.upstream not in down}
    return frozenset(link.id for link in view.links if link.state in CARRIES) - lapsed


def _lost_links(view: BoardView, wall: Wall) -> tuple[Alarm, ...]:
    now = view.at
    working = [link for link in view.links if link.state in CARRIES | UNPROVED | {"SUPPRESSED"}]
    lost = [link for link in view.links if link.state in OUT_OF_USE]
    if not working:
        since = max((link.since for link in lost), default=now)
        return (Alarm("no_path", "critical", dated(Mono(since), wall, now)),)
    if len(working) == 1 and lost:
        since = max(link.since for link in lost)
        return (Alarm("one_link", "major", dated(Mono(since), wall, now), lost[0].id),)
    return ()


QUOTAS: Final[dict[Overlay, QuotaCode]] = {
    "": "", "QUOTA_LOW": "quota_low", "QUOTA_OUT": "quota_out"}


def quota_told(before: Overlay, plan: PlanView) -> QuotaTold:
    """Return the event that a plan became low or out, or is neither any more."""
    return QuotaTold(plan.link, QUOTAS[before], QUOTAS[plan.overlay], plan.share, plan.days_left)


def quota_alarm(link: str, overlay: Overlay, since: Wall) -> Alarm:
    """Return a plan that is low or out as an alarm."""
    if overlay == "QUOTA_OUT":
        return Alarm("quota_out", "major", ms(since), link)
    return Alarm("quota_low", "minor", ms(since), link)


def window_told(window: Window, step: Step, findings: tuple[Finding, ...]) -> WindowTold:
    """Return the event that a step of announced work was due; its words and id stay here."""
    return WindowTold(window.link, window.source, step, ms(window.start), ms(window.end),
                      tuple((finding, 1) for finding in findings))


def window_alarms(view: MaintenanceView, wall: Wall) -> tuple[Alarm, ...]:
    """Return what about announced work a person must mend: critical where it begins within half an
    hour and the practice would not get through it."""
    risky = tuple(Alarm("window_at_risk", "critical" if each.grave else "major",
                        ms(each.window.start), each.window.link) for each in view.risks)
    refused = tuple(Alarm("window_refused", "minor", ms(each.window.start), each.window.link)
                    for each in view.plan.refused if each.window.end > wall)
    since = min((each[2] for each in view.unread), default=None)
    unread = () if since is None else (Alarm("calendar_unread", "minor", ms(since)),)
    return risky + refused + unread


def readiness_told(report: Report) -> ReadinessTold:
    """Return a readiness run as an event: codes and counts."""
    codes = [each.code for each in report.found]
    return ReadinessTold(report.cause, "ready" if report.is_ready else "not_ready",
                         len(report.checks), report.took_s,
                         tuple((code, codes.count(code)) for code in dict.fromkeys(codes)))


def readiness_alarms(report: Report | None, rules: ReadinessRules, wall: Wall
                     ) -> tuple[Alarm, ...]:
    """Return an alarm for each thing that will not work at opening, by the newest run."""
    if report is None:
        return ()
    return tuple(Alarm("not_ready", "critical", ms(report.at), each.link, each.upstream)
                 for each in alarming(report, rules, wall))


def alarm(code: str, wall: Wall) -> Alarm:
    """Return a store's or key's trouble as an alarm."""
    if code == "keys_missing":
        return Alarm("keys_missing", "major", ms(wall))
    if code == "full":
        return Alarm("store_full", "major", ms(wall))
    return Alarm("store_damaged", "major", ms(wall))
