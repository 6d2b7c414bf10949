"""All that one link's detector holds at one moment, frozen: where a replay begins.

Taking one copies references, no more, so that the black box can take one each ten seconds. JSON
is made of it when it is written, off the loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from gateway.core.instant import Mono
from gateway.core.likelihood import Sums
from gateway.core.link import BEGINNING, Link, LinkMemory, Probe, Sample
from gateway.core.silence import Day, Learned, Silence
from gateway.core.verdict import Asked


@dataclass(frozen=True, slots=True)
class Frame:
    """What ``core/detector.py`` holds. ``recent`` are the last few samples of each target,
    ``counts`` its small counters, in its own order."""

    memory: LinkMemory
    learned: Learned
    silence: Silence
    heard: Mono | None
    signed: Mono | None
    pinned: Mono | None
    carrier: Sample | None
    proven: frozenset[str]
    shown: frozenset[str]
    asked: tuple[Asked, ...]
    recent: tuple[Sample, ...]
    trips: tuple[float, ...]
    usual_rtt_ms: float | None
    rtt95_ms: float | None
    sums: Sums
    carried: float
    hold_from: Mono
    counted: Mono
    tailed: Mono | None
    counts: tuple[int, ...]
    revived: Mono = BEGINNING


def as_json(value: Any) -> Any:
    """Return ``value``, dataclasses and all, as what ``json`` can write."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_json(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): as_json(each) for name, each in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    return value


def frame_of(told: Mapping[str, Any]) -> Frame:
    """Return the frame of which ``as_json`` made ``told``.

    Raises:
        KeyError, TypeError: it is none.
    """
    memory = dict(told["memory"])
    memory["episodes"] = tuple(memory["episodes"])
    carrier = told["carrier"]
    return Frame(**{
        **told,
        "memory": LinkMemory(**memory),
        "learned": learned_of(told["learned"]),
        "silence": Silence(**told["silence"]),
        "carrier": None if carrier is None else Sample(**carrier),
        "proven": frozenset(told["proven"]),
        "shown": frozenset(told["shown"]),
        "asked": tuple(Asked(**each) for each in told["asked"]),
        "recent": tuple(Sample(**each) for each in told["recent"]),
        "trips": tuple(told["trips"]),
        "sums": Sums(**told["sums"]),
        "counts": tuple(told["counts"])})


def learned_of(told: Mapping[str, Any]) -> Learned:
    """Return what ``as_json`` made of a link's past."""
    return Learned(**{**told, "days": tuple(
        Day(**{**day, "lengths": tuple(day["lengths"])}) for day in told["days"])})


def link_as_json(link: Link) -> dict[str, Any]:
    """Return what a detector needs to know of ``link``: no address, no key, no certificate."""
    return {"id": link.id, "priority": link.priority, "kind": link.kind, "metered": link.metered,
            "probes": [[probe.id, probe.kind] for probe in link.probes]}


def link_of(told: Mapping[str, Any]) -> Link:
    """Return the link of which ``link_as_json`` told."""
    probes: Sequence[tuple[str, Any]] = told["probes"]
    return Link(told["id"], told["priority"], told["kind"], told["metered"],
                probes=tuple(Probe(name, kind, "") for name, kind in probes))
