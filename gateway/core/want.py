"""``dn/want``: the network team's desired settings, read and shown; nothing obeys them yet.

Law: the message is a stranger's until its signature is checked, and that comes with the commands.
So it is bounded and its shape is checked, what it says is shown under the source "order, not
obeyed yet", and what is malformed is counted, reported and never crashes (telemetry.md Commands).
The outer form is ``{kid, body, sig}``; the body is base64 of ``{version, hash, windows[],
isolate[]}`` with windows ``{id, link, start, end}`` in ms UTC.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from gateway.core.instant import Wall
from gateway.core.maintenance import LONGEST_S, Window

WantCode: TypeAlias = Literal["TOO_BIG", "MALFORMED"]
"""As the codes of checks 2 and 3 in telemetry.md; the signature (5) is not checked yet."""

BYTES_MAX: Final = 65_536
WINDOWS_MAX: Final = 64
ISOLATE_MAX: Final = 64
NUMBER_MAX: Final = 2**53
NOTE: Final = "order, not obeyed yet: its signature is not checked"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Want:
    """What ``dn/want`` says. ``unknown`` counts windows on links that we do not have."""

    version: int
    hash: str
    windows: tuple[Window, ...]
    isolate: tuple[str, ...]
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard on ``dn/want`` since the start: the newest that could be read, and how many
    could not, by code."""

    want: Want | None = None
    refused: tuple[tuple[WantCode, int], ...] = ()


def heard(before: Heard, payload: bytes, links: tuple[str, ...]) -> Heard:
    """Return ``before`` and ``payload``. One that cannot be read changes nothing but a count; an
    empty one, which is how MQTT deletes what is retained, takes the want away."""
    if not payload:
        return Heard(None, before.refused)
    told = parse(payload, links)
    if isinstance(told, Want):
        return Heard(told, before.refused)
    counts = dict(before.refused)
    counts[told] = counts.get(told, 0) + 1
    return Heard(before.want, tuple(sorted(counts.items())))


def parse(payload: bytes, links: tuple[str, ...]) -> Want | WantCode:
    """Return what ``payload`` says, or the code of the first check that it fails."""
    if len(payload) > BYTES_MAX:
        return "TOO_BIG"
    try:
        outer = json.loads(payload)
        if set(outer) != {"kid", "body", "sig"} or not _ID.fullmatch(outer["kid"]):
            return "MALFORMED"
        if len(base64.b64decode(outer["sig"], validate=True)) != 64:  # Ed25519
            return "MALFORMED"
        return _want(json.loads(base64.b64decode(outer["body"], validate=True)), links)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error):
        return "MALFORMED"


def _want(body: Any, links: tuple[str, ...]) -> Want:
    windows, isolate = body["windows"], body["isolate"]
    if not isinstance(windows, list) or not isinstance(isolate, list):
        raise ValueError("lists are wanted")
    if len(windows) > WINDOWS_MAX or len(isolate) > ISOLATE_MAX:
        raise ValueError("too many")
    told = tuple(_window(each) for each in windows)
    known = tuple(each for each in told if each.link in links)
    return Want(_number(body["version"]), _matching(_HASH, body["hash"]), known,
                tuple(_matching(_ID, each) for each in isolate), len(told) - len(known))


def _window(told: Any) -> Window:
    start, end = _number(told["start"]) / 1000.0, _number(told["end"]) / 1000.0
    if not 0 < end - start <= LONGEST_S:
        raise ValueError("times")
    return Window(_matching(_ID, told["id"]), _matching(_ID, told["link"]), Wall(start), Wall(end),
                  source="order")


def _number(told: Any) -> int:
    if not isinstance(told, int) or isinstance(told, bool) or not 0 <= told < NUMBER_MAX:
        raise ValueError("a whole number is wanted")
    return told


def _matching(pattern: re.Pattern[str], told: Any) -> str:
    if not isinstance(told, str) or not pattern.fullmatch(told):
        raise ValueError("an id is wanted")
    return told
