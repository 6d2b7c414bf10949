"""Every mistake at once: validate, note what is wrong, mend it for the moment, go on.

A mistake is ``file: links[1].probe_every_s = 0: must be at least 0.1``. What is mended never
leaves this package: whoever had a mistake gets no configuration.
"""

import copy
import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.config.tables import SECRET_KEYS, WORDS_FOR

ROUNDS_MAX: Final = 40
"""Each round mends at least one place; no file of ours is wrong in layers so deep."""

STAND_IN: Final[dict[str, Any]] = {
    "name": "mended", "id": "mended", "link": "mended", "pack": "mended", "ods": "XXX",
    "priority": 99, "kind": "tcp", "target": "mended.invalid:1", "tenants": ["XXX"],
    "base_url": "https://mended.invalid", "start": "2000-01-01T00:00", "end": "2000-01-01T01:00",
    "certificate": "mended", "key": "file:mended", "links": [], "upstreams": [], "gateway": {},
    "methods": ["GET"], "path": "mended", "routes": [],
}
"""What stands in for a missing key so that the rest can be looked at."""

Where: TypeAlias = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(slots=True)
class Mistakes:
    """The mistakes of one file, in order, each place once."""

    file: str
    found: list[str] = field(default_factory=list)
    places: set[Where] = field(default_factory=set)

    def add(self, where: Where, words: str, value: object = None) -> None:
        """Note ``words`` at ``where``, unless that place or one above it is noted already.

        ``value`` is shown as TOML would write it, cut at 60 characters; never where it may be
        a secret, and not at all if None.
        """
        if any(where[:depth] in self.places for depth in range(1, len(where) + 1)):
            return
        self.places.add(where)
        shown = "" if value is None or _secret(where) else f" = {_toml(value)}"
        self.found.append(f"{self.file}: {dotted(where)}{shown}: {words}")


def dotted(where: Where) -> str:
    """Return ``links[1].probe_every_s`` for ``("links", 1, "probe_every_s")``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "file"


def _secret(where: Where) -> bool:
    return any(part in SECRET_KEYS for part in where)


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{...}"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def validated(model: type[M], raw: Mapping[str, Any], mistakes: Mistakes) -> M | None:
    """Return ``raw`` as a ``model``; what was wrong is noted and stands mended in the value.

    None where nothing could be made of it; then ``mistakes`` holds why.
    """
    mended = copy.deepcopy(dict(raw))
    for _ in range(ROUNDS_MAX):
        try:
            return model.model_validate(mended)
        except ValidationError as error:
            errors = [each for each in error.errors(include_url=False) if _is_own(each)]
            for each in errors:
                _note(model, each, mistakes)
            for each in errors:
                _mend(mended, each["loc"], each["type"])
    return None


def _is_own(error: Any) -> bool:
    """False for a list that is called too short only because an item of it is wrong."""
    return not (error["type"] == "too_short"
                and len(error["input"]) >= error["ctx"]["min_length"])


def _note(model: type[BaseModel], error: Any, mistakes: Mistakes) -> None:
    where: Where = tuple(error["loc"])
    if where and where[-1] == "[key]":
        mistakes.add(where[:-1], "its name " + _words(error))
    elif error["type"] == "missing":
        mistakes.add(where, "is missing")
    elif error["type"] == "extra_forbidden":
        name = str(where[-1])
        near = difflib.get_close_matches(name, _keys(model, where), 1)
        mistakes.add(where, "unknown key" + (f"; did you mean {near[0]}?" if near else ""))
    else:
        mistakes.add(where, _words(error), error["input"])


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _keys(model: type[BaseModel], where: Where) -> list[str]:
    """The keys that the table at ``where`` knows."""
    node = _schema(model)  # 40 ms to make, so made once
    definitions = node.get("$defs", {})
    for part in where[:-1]:
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part, node.get("additionalProperties", {}))
        if isinstance(node, dict) and "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[-1]]
    return list(node.get("properties", {})) if isinstance(node, dict) else []


def _words(error: Any) -> str:
    """Return the rule that was broken, in words."""
    kind, context = error["type"], error.get("ctx", {})
    plain = {
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "greater_than": f"must be more than {context.get('gt')}",
        "less_than_equal": f"must be at most {context.get('le')}",
        "less_than": f"must be less than {context.get('lt')}",
        "literal_error": f"must be one of {str(context.get('expected')).replace(chr(39), '')}",
        "too_short": f"must have at least {context.get('min_length')}",
        "string_too_short": "must not be empty",
        "string_too_long": f"must be at most {context.get('max_length')} characters",
        "string_type": "must be a text in quotes",
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "bool_type": "must be true or false",
        "tuple_type": "must be a list",
        "model_type": "must be a table",
        "dict_type": "must be a table",
    }
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern"))
        return "must be " + WORDS_FOR.get(pattern, f"of the form {pattern}")
    return plain.get(kind) or re.sub(r"^Value error, ", "", str(error["msg"]))


def _mend(raw: Any, where: Where, kind: str) -> None:
    """Take out what is wrong at ``where``, or put a stand-in where something is missing."""
    if where and where[-1] == "[key]":
        where = where[:-1]
    at = raw
    for depth, part in enumerate(where[:-1]):
        below = where[depth + 1]
        try:
            if isinstance(below, int) and depth + 2 == len(where):
                at.pop(part)  # a wrong item of a plain list: the whole list goes
                return
            at = at[part]
        except (KeyError, IndexError, TypeError, AttributeError):
            return
    last = where[-1] if where else ""
    if not isinstance(at, dict):
        return
    if kind == "missing":
        at[str(last)] = copy.deepcopy(STAND_IN.get(str(last), "mended"))
    elif kind == "too_short" and at.get(str(last)) == []:
        at[str(last)] = [{}]
    else:
        at.pop(str(last), None)
