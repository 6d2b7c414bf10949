"""Every key of the shipped configuration is known, present and commented."""

import re
import tomllib
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from gateway.config import load, schema
from gateway.config.tables import File, Judgement, table_of
from gateway.core.link import LinkRules

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "practice.toml"
LINE = re.compile(r'^(#\s+)?([a-z_0-9]+) = (?P<rest>.+)$')
HEAD = re.compile(r"^(#\s+)?\[\[?([a-zA-Z0-9_.]+)\]\]?")
TITLES = {"maintenance": "maintenance"}


def keys_by_table(text: str) -> dict[str, set[str]]:
    """Keys per table of the example, those that stand as comments too."""
    found: dict[str, set[str]] = {}
    table = ""
    for line in text.splitlines():
        if head := HEAD.match(line):
            table = head[2]
            found.setdefault(table, set())
        elif key := LINE.match(line):
            found.setdefault(table, set()).add(key[2])
    return found


def tables(model: type[BaseModel], prefix: str = "") -> dict[str, set[str]]:
    """Keys per table of the models, sub-tables by dotted name; names of open tables as ``*``."""
    found: dict[str, set[str]] = {prefix: set()}
    for name, field in model.model_fields.items():
        below, is_open = inner(field.annotation)
        path = f"{prefix}.{name}" if prefix else name
        if below is None:
            found[prefix].add(name)
        else:
            found |= tables(below, path + (".B81001" if is_open else ""))
    return found


def inner(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model inside an annotation, and whether its name is free (a table of tables)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin = get_origin(annotation)
    if origin in (tuple, Annotated, Union, types.UnionType):
        for each in get_args(annotation):
            found, is_open = inner(each)
            if found:
                return found, is_open
    if origin is dict:
        found, _ = inner(get_args(annotation)[1])
        return found, found is not None
    return None, False


def test_every_known_key_is_in_the_shipped_example() -> None:
    shown = keys_by_table(EXAMPLE.read_text())
    for table, keys in tables(File).items():
        missing = keys - shown.get(table, set()) - {"hosts" if table == "mqtt" else ""}
        assert not missing, f"config/practice.toml: [{table}] lacks {sorted(missing)}"


def test_every_key_of_the_shipped_example_has_a_comment() -> None:
    for number, line in enumerate(EXAMPLE.read_text().splitlines(), 1):
        if key := LINE.match(line):
            bare = re.sub(r'"(\\.|[^"\\])*"', "", key["rest"])
            assert "#" in bare, f"config/practice.toml:{number}: {key[2]} has no comment"


def test_the_example_holds_no_key_that_is_unknown_or_wrong() -> None:
    found = load(EXAMPLE, look=False)
    assert [link.id for link in found.links] == ["fibre", "sim"]


def test_the_example_shows_the_defaults_of_judgement() -> None:
    shown = tomllib.loads(EXAMPLE.read_text())["judgement"]
    assert LinkRules(**shown) == LinkRules()


def test_the_example_with_its_optional_keys_switched_on_is_still_known() -> None:
    text = EXAMPLE.read_text()
    for optional in ("certificate", "networks", "pinned_link", "base_urls"):
        text = re.sub(rf"^# ({optional} = )", r"\1", text, count=1, flags=re.MULTILINE)
    head, _, tail = text.partition("# [upstreams.certificates.B81001]")
    tail = "# [upstreams.certificates.B81001]" + tail
    text = head + re.sub(r"^# (?=\[|[a-z_]+ = )", "", tail, flags=re.MULTILINE)
    File.model_validate(tomllib.loads(text))


def test_limits_come_from_the_rules_metadata() -> None:
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.05"):
        Judgement.model_validate({"probe_every_s": 0})
    assert set(table_of(LinkRules, "Again").model_fields) == set(LinkRules.__dataclass_fields__)


def test_the_schema_describes_every_key() -> None:
    told = schema()
    definitions = told["$defs"]
    assert isinstance(definitions, dict)
    silent = [f"{name}.{key}" for name, table in definitions.items()
              for key, value in table.get("properties", {}).items()
              if "description" not in value and "$ref" not in str(value)]
    assert not silent
