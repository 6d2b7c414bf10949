"""The log: JSON lines on stderr, codes and ids only.

First line of defence: nobody logs what a client or an upstream sent. Second line, here: whatever
looks like a URL, a query, a key, a token or an NHS number is struck out; of an exception only
type and places are told, for its text may quote anything; of other people's libraries only the
template of the message, never its arguments.
"""

import json
import logging
import re
import sys
import traceback
from typing import IO, Final

STRUCK: Final = (
    (re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+"), "[url]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), "[token]"),
    (re.compile(r"\S*\?\S*=\S*"), "[query]"),
    (re.compile(r"\bpgw[-_]\S+"), "[key]"),
    (re.compile(r"\b[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), "[token]"),
    (re.compile(r"\b[0-9a-fA-F]{64}\b"), "[hash]"),
    (re.compile(r"(?<![0-9])[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}(?![0-9])"), "[number]"),
)
"""What never reaches a log line. An NHS number is struck whether or not its check digit fits."""

OWN: Final = ("gateway", "chaos", "practice")
TEXT_MAX: Final = 500
"""Characters of a message or field; nothing of ours is longer."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def strike(text: str) -> str:
    """Return ``text`` without what must not be told, cut at TEXT_MAX."""
    for pattern, instead in STRUCK:
        text = pattern.sub(instead, text)
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "..."


class Lines(logging.Formatter):
    """One JSON object per record: ``ts level room what`` and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return ``record`` as one line."""
        ours = record.name.split(".")[0] in OWN
        line: dict[str, object] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "room": record.name.removeprefix("gateway."),
            "what": strike(record.getMessage() if ours else str(record.msg)),
        }
        if ours:
            line |= {key: _field(value) for key, value in vars(record).items()
                     if key not in _STANDARD}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["places"] = _places(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def _field(value: object) -> object:
    """A field as it may be told: figures as they are, texts struck, anything else by its type."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return strike(value) if isinstance(value, str) else type(value).__name__


def _places(error: BaseException | None) -> list[str]:
    """Where an exception came from, innermost last; never what it said."""
    if error is None:
        return []
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]


def start(level: str, stream: IO[str] | None = None) -> None:
    """Send every record of ``level`` (debug, info, warning, error) and above to ``stream``.

    Other people's libraries speak from WARNING on only, and the server's access log not at all.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OWN:
        logging.getLogger(name).setLevel(level.upper())
    logging.getLogger("aiohttp.access").disabled = True
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
