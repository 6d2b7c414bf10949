"""The little FHIR that we speak ourselves: OperationOutcomes, and where an entry is spliced in.

Bodies of others are never parsed and written out again: a round trip turns ``Z`` into
``+00:00`` and the digest no longer matches (domain.md, fact 6). So an entry is spliced between
the stored bytes.
"""

import json
import re
from typing import Final

JSON_TYPE: Final = "application/fhir+json"

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]', re.DOTALL)


def operation_outcome(code: str, words: str, severity: str = "error") -> bytes:
    """Return an OperationOutcome as JSON bytes.

    ``code`` is of the issue-type value set (``transient``, ``timeout``, ``forbidden``...);
    ``words`` are ours alone: nothing that a client or an upstream sent may stand in them.
    """
    return json.dumps(_outcome(code, words, severity), ensure_ascii=False).encode()


def outcome_entry(code: str, words: str, searchset: bool) -> bytes:
    """Return a Bundle entry that carries a warning: ``search.mode=outcome`` in a searchset."""
    entry: dict[str, object] = {"resource": _outcome(code, words, "warning")}
    if searchset:
        entry["search"] = {"mode": "outcome"}
    return json.dumps(entry, ensure_ascii=False).encode()


def _outcome(code: str, words: str, severity: str) -> dict[str, object]:
    issue = {"severity": severity, "code": code, "diagnostics": words}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def splice(body: bytes, entry: bytes) -> bytes | None:
    """Return the Bundle ``body`` with ``entry`` added at the end of its ``entry`` array.

    All other bytes stay as they are. A Bundle without the array gets one. None where ``body`` is
    no JSON object, or names ``entry`` twice or as something else than an array: then there is no
    place of which we are sure.
    """
    place = _place(body)
    if place is None:
        return None
    at, has_array, is_empty = place
    if not has_array:
        comma = b"" if is_empty else b","
        return body[:at] + comma + b'"entry":[' + entry + b"]" + body[at:]
    return body[:at] + (b"" if is_empty else b",") + entry + body[at:]


def _place(body: bytes) -> tuple[int, bool, bool] | None:
    """Where to splice: (offset, whether an entry array ends there, whether what ends is empty)."""
    depth, key, awaiting_key = 0, b"", False
    found: tuple[int, bool, bool] | None = None
    inside = False
    end = -1
    start = 0
    for token in _TOKEN.finditer(body):
        text = token[0]
        first = text[:1]
        if depth == 1 and first == b'"' and awaiting_key:
            key, awaiting_key = text, False
        elif depth == 1 and key == b'"entry"' and first == b'"':
            return None
        if first in b"{[":
            if depth == 0 and first != b"{":
                return None
            depth += 1
            if depth == 1:
                awaiting_key, start = True, token.end()
            elif depth == 2 and key == b'"entry"':
                if first != b"[" or found is not None:
                    return None
                inside, start_of_array = True, token.end()
        elif first in b"}]":
            depth -= 1
            if depth == 1 and inside:
                empty = not body[start_of_array:token.start()].strip()
                found, inside = (token.start(), True, empty), False
            elif depth == 0:
                end = token.start()
        elif text == b"," and depth == 1:
            awaiting_key, key = True, b""
    if depth != 0 or end < 0:
        return None
    return found or (end, False, not body[start:end].strip())
