"""From what the board says to what the network team is told.

The board speaks in transitions and in one frozen view; here they become events and the state
document. Its causes are verdict kinds by contract, whatever the type says; a word that is none
would travel as ``unlisted``.
"""

from dataclasses import replace
from typing import cast

from gateway.core.instant import Mono, Wall
from gateway.core.link import LinkTurned
from gateway.core.mode import BoardView, ModeTurned, Transition
from gateway.core.route import Switched
from gateway.core.telemetry import (
    Alarm,
    Event,
    Failover,
    LinkMoved,
    LinkNow,
    ModeChanged,
    ModeNow,
    PathNow,
    Reason,
    State,
    SwitchTold,
    VerdictTold,
    dated,
    event,
    state_code,
)


def event_of(transition: Transition, wall: Wall, now: Mono) -> Event:
    """Return the event that tells ``transition``, dated at the instant it happened."""
    at = Wall(wall - max(0.0, now - transition.at))
    if isinstance(transition, LinkTurned):
        moved = LinkMoved(
            transition.link, state_code(transition.before), state_code(transition.after),
            cast(Reason, transition.cause), transition.lasted_s, transition.evidence)
        return event(moved, at, transition.at)
    if isinstance(transition, ModeTurned):
        changed = ModeChanged(transition.tenant, transition.upstream, transition.before,
                              transition.after, cast(Reason, transition.cause),
                              transition.lasted_s)
        return event(changed, at, transition.at)
    if isinstance(transition, Switched):
        switched = SwitchTold(transition.before, transition.after, cast(Reason, transition.cause),
                              transition.lasted_s)
        return event(switched, at, transition.at)
    verdict = transition.verdict
    judged = VerdictTold(verdict.kind, "ended" if transition.over else "began", verdict.link,
                         verdict.upstream, transition.lasted_s if transition.over else None,
                         verdict.evidence)
    return event(judged, at, transition.at)


def state_of(view: BoardView, rest: State, wall: Wall, now: Mono) -> State:
    """Return ``rest`` (outbox, configuration, health, alarms) with what the board knows.

    ``failover.n_today`` counts from the start of the process: no clock is asked for midnight.
    """
    links = tuple(LinkNow(
        each.id, each.kind, state_code(each.state), dated(each.since, wall, now), each.metered,
        each.rtt_ms, each.loss) for each in view.links)
    paths = tuple(PathNow(each.link, each.upstream, each.kind, dated(each.since, wall, now))
                  for each in view.verdicts)
    modes = tuple(ModeNow(each.tenant, each.upstream, each.mode, dated(each.since, wall, now))
                  for each in view.modes)
    last = view.last_switch
    failover = Failover(view.switches) if last is None else Failover(
        view.switches, dated(last.at, wall, now), cast(Reason, last.cause))
    return replace(rest, active=view.active, links=links, paths=paths, modes=modes,
                   failover=failover, alarms=_alarms(view, wall, now) + rest.alarms)


def _alarms(view: BoardView, wall: Wall, now: Mono) -> tuple[Alarm, ...]:
    """No path at all is critical; a single link left is minor: the practice works, unprotected."""
    lost = [each for each in view.links if each.state in ("UNKNOWN", "DOWN", "DRAINING")]
    if not lost:
        return ()
    since = dated(max(each.since for each in lost), wall, now)
    if not view.active:
        return (Alarm("no_path", "critical", since),)
    if len(view.links) - len(lost) == 1:
        return (Alarm("one_link", "minor", since, view.active),)
    return ()
