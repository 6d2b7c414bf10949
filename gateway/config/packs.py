"""Packs: the TOML files that say what an API's requests are (``gateway/core/pack.py``).

Ours stand in ``config/packs`` in a working tree and beside this package in a wheel; a site may add
a directory of its own (``packs_dir``), whose files win over ours of the same name.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from gateway.config.mistakes import Mistakes, validated
from gateway.config.tables import Ident, Table, Texts
from gateway.core.pack import READS, Kind, Pack, Route

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
GROUPS: Final = frozenset({"patient", "nhs"})


class RouteTable(Table):
    id: Ident
    kind: Kind = "other"
    methods: Texts = Field(("GET",), min_length=1)
    path: str
    query: str = ""
    body: str = ""
    where_body: str = ""
    interactions: Texts = ()
    keep: bool = False
    ceiling_s: float = Field(0.0, ge=0, le=30 * 86400, description="oldest copy on the wire")
    patience_s: float = Field(0.0, ge=0, le=300, description="wait for an answer; 0: the pack's")
    types: Texts = ()
    identity: bool = False
    clinical: bool = False
    voids: Texts = ()
    voids_subject: bool = False
    removes: Literal["subject", "exact", "none"] = "exact"


class PackTable(Table):
    name: Ident
    content_types: Texts = Field(("application/fhir+json", "application/fhir+xml"), min_length=1)
    key_headers: Texts = ("Accept",)
    interaction_header: str = ""
    interaction_prefix: str = Field("", description="stands before each interaction named here")
    asker_claims: Texts = ()
    subject_codes: Texts = ()
    patience_s: float = Field(30.0, gt=0, le=300)
    canary: str = Field("", pattern=r"^$|^/[^\s#]*$", description="a cheap target that needs no "
                        "credential; empty: none")
    canary_types: Texts = Field(("CapabilityStatement",), min_length=1,
                                description="resource types that its answer may be")
    canary_interaction: str = Field("", description="what stands in interaction_header then")
    routes: Annotated[tuple[RouteTable, ...], Field(strict=False)] = Field(min_length=1)


def own_directory() -> Path:
    """Return where our packs stand: in the wheel beside us, else in the tree's ``config``."""
    installed = Path(__file__).resolve().parent.parent / "packs"
    return installed if installed.is_dir() else installed.parent.parent / "config" / "packs"


def find(name: str, extra: Path | None) -> Path | None:
    """Return the file of the pack ``name``, the site's own before ours, or None."""
    places = [extra, own_directory()] if extra else [own_directory()]
    return next((file for place in places if (file := place / f"{name}.toml").is_file()), None)


def known(extra: Path | None) -> list[str]:
    """Return the names of all packs that can be named."""
    places = [extra, own_directory()] if extra else [own_directory()]
    return sorted({file.stem for place in places for file in place.glob("*.toml")})


def read(file: Path, found: list[str]) -> Pack | None:
    """Return the pack in ``file``; where it is wrong, None, and its mistakes go to ``found``."""
    mistakes = Mistakes(file.name)
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        found.append(f"{file.name}: file: cannot be read as TOML: {error}")
        return None
    table = validated(PackTable, raw, mistakes)
    if table is not None:
        _cross(table, file.stem, mistakes)
    found += mistakes.found
    return None if table is None or mistakes.found else _pack(table)


def _cross(table: PackTable, stem: str, mistakes: Mistakes) -> None:
    """Rules between the keys of a pack."""
    if table.name != stem:
        mistakes.add(("name",), f"must be the file's name, {stem}", table.name)
    ids = [route.id for route in table.routes]
    for number, route in enumerate(table.routes):
        here = ("routes", number)
        if ids.index(route.id) != number:
            mistakes.add((*here, "id"), "another route has this id", route.id)
        for key in ("path", "query", "body", "where_body"):
            _pattern(getattr(route, key), (*here, key), mistakes)
        for name in sorted(set(route.methods) - METHODS):
            mistakes.add((*here, "methods"), f"{name} is no method of ours (HEAD goes with GET)")
        for name in sorted(set(route.voids) - set(ids)):
            mistakes.add((*here, "voids"), f"no route has the id {name}")
        _keeping(route, here, mistakes)


def _pattern(text: str, where: tuple[str | int, ...], mistakes: Mistakes) -> None:
    try:
        groups = set(re.compile(text).groupindex)
    except re.error as error:
        mistakes.add(where, f"is no regular expression: {error}", text)
        return
    for name in sorted(groups - GROUPS):
        mistakes.add(where, f"group {name} is no subject; use patient or nhs", text)


def _keeping(route: RouteTable, here: tuple[str | int, ...], mistakes: Mistakes) -> None:
    reads = route.kind in READS or (route.kind == "other" and route.methods[0] == "GET")
    if route.keep and not reads:
        mistakes.add((*here, "keep"), "only reads are kept")
    if route.keep and route.ceiling_s <= 0:
        mistakes.add((*here, "ceiling_s"), "what is kept needs a ceiling above 0")
    if route.keep and not route.types:
        mistakes.add((*here, "types"), "what is kept must say which resource types it may be")
    if route.keep and route.voids:
        mistakes.add((*here, "voids"), "a read voids nothing")


def _pack(table: PackTable) -> Pack:
    values: dict[str, Any] = table.model_dump(exclude={"interaction_prefix", "routes"})
    if table.canary_interaction:
        values["canary_interaction"] = table.interaction_prefix + table.canary_interaction
    return Pack(routes=tuple(_route(table, each) for each in table.routes), **values)


def _route(pack: PackTable, table: RouteTable) -> Route:
    values: dict[str, Any] = table.model_dump()
    values["interactions"] = tuple(pack.interaction_prefix + each for each in table.interactions)
    values["patience_s"] = table.patience_s or pack.patience_s
    return Route(**values)
