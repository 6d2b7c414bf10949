"""How long a client waits, and how long an upstream wants to be left alone.

Law: deadlines travel. ``Prefer: wait=N`` (RFC 7240 section 4.3) is the client's own patience in
seconds; without it the pack's holds. A write is never cut short on a living path, whatever its
client says: it would only become an outcome that nobody knows. ``Retry-After`` of a 429 or 503
(RFC 9110 section 10.2.3) is obeyed by whatever we do of our own accord: hedges and trials.
"""

import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Final

from gateway.core.message import Headers, Reply, every

WAIT_MOST_S: Final = 300.0
"""As the longest patience that a pack may have; a hung request must not hold a place for good."""
REST_MOST_S: Final = 300.0
_WAIT: Final = re.compile(r'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def wait_s(headers: Headers) -> float | None:
    """Return the client's patience, None where it names none; the first of several counts."""
    for each in _preferences(every(headers, "Prefer")):
        found = _WAIT.fullmatch(each)
        if found:
            return min(float(found[1]), WAIT_MOST_S)
    return None


def _preferences(lines: Iterable[str]) -> list[str]:
    return [each for line in lines for each in line.split(",")]


def patience_s(headers: Headers, is_read: bool, usual_s: float) -> float:
    """Return how long one request may take: the client's own wait, else ``usual_s``.

    At least a second, so that a send can succeed at all; for a write never less than usual.
    """
    asked = wait_s(headers)
    if asked is None:
        return usual_s
    return max(1.0, asked) if is_read else max(usual_s, asked)


def rest_s(reply: Reply) -> float:
    """Return for how long an upstream asked to be left alone, 0 where it did not.

    A date is taken from the reply's own ``Date``: its clock may not be ours.
    """
    if reply.status not in (429, 503):
        return 0.0
    said = (reply.header("Retry-After") or "").strip()
    if _SECONDS.fullmatch(said):
        return min(float(said), REST_MOST_S)
    until, now = _date_s(said), _date_s(reply.header("Date") or "")
    return min(max(0.0, until - now), REST_MOST_S) if until and now else 0.0


def _date_s(said: str) -> float:
    """Seconds since 1970 of an HTTP date (RFC 9110 section 5.6.7), 0 where it is none."""
    try:
        return parsedate_to_datetime(said.strip()).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
