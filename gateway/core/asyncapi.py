"""The AsyncAPI 3 document of what we publish, made from the types of ``core/telemetry.py``.

The types are the truth: a field added there is in the document, and ``mistakes`` judges a message
against the same schema. Consumers ignore fields they do not know; an enum's code that the
gateway itself did not list travels as ``unlisted``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin
from typing import get_type_hints as hints

from gateway.core import telemetry
from gateway.core.telemetry import DELIVERY, KINDS, UNLISTED, MessageKind

Schema: TypeAlias = dict[str, Any]
ID_PATTERN: Final = r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$"
HASH_PATTERN: Final = r"^([0-9a-f]{64}|unlisted)?$"
_PATTERNS: Final = {"id": ID_PATTERN, "code": ID_PATTERN, "hash": HASH_PATTERN}
_PLAIN: Final[dict[object, Schema]] = {
    int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    NoneType: {"type": "null"}}
_JSON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "integer": (int,), "number": (int, float), "boolean": (bool,), "null": (NoneType,),
    "string": (str,), "object": (dict,), "array": (list,)}
EVIDENCE: Final[Schema] = {
    "type": "object", "description": "figures of the samples that were judged",
    "additionalProperties": {"anyOf": [{"type": "number"}, {"type": "null"},
                                       {"type": "string", "pattern": ID_PATTERN}]}}
_SUMMARY: Final[dict[MessageKind, str]] = {
    "birth": "Who this gateway is: versions, tenants, links",
    "presence": "Whether it is connected; lost is the will, sent by the broker after its delay",
    "state": "Everything that holds now, on change and every five minutes",
    "hb": "Sign of life without the envelope",
    "evt": "Outbox rows of one box and rank; a row's key is (gw, box, rank, seq)"}


_WANTED: Final = ("Desired settings of the network team: windows and isolated upstreams, signed; "
                  "read, shown in /status, and not obeyed yet")


def schema_of(shape: object) -> Schema:
    """Return the JSON Schema of a type as ``core/telemetry.py`` uses them.

    Raises:
        TypeError: the type has no schema, above all a bare ``str``: it could hold a name.
    """
    if shape in _PLAIN:
        return dict(_PLAIN[shape])
    origin, parts = get_origin(shape), get_args(shape)
    if origin is Annotated:
        return {"type": "string", "pattern": _PATTERNS[parts[1]]}
    if origin is Literal:
        return {"type": "string", "enum": sorted({*parts, UNLISTED})}
    if origin is tuple:
        return {"type": "array", "items": schema_of(parts[0])}
    if origin in (Union, UnionType):
        return _either([schema_of(part) for part in parts])
    if isinstance(shape, type) and hasattr(shape, "__dataclass_fields__"):
        return _object_of(shape)
    raise TypeError(f"{shape!r} has no schema; annotate strings as Id, Hash, Code or Literal")


def _either(choices: list[Schema]) -> Schema:
    enums = [choice for choice in choices if "enum" in choice]
    if len(enums) > 1:
        merged = sorted({code for choice in enums for code in choice["enum"]})
        choices = [c for c in choices if "enum" not in c] + [{"type": "string", "enum": merged}]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _object_of(shape: type) -> Schema:
    known = hints(shape, include_extras=True)
    properties = {each.name: dict(EVIDENCE) if each.name == "evidence"
                  else schema_of(known[each.name]) for each in fields(shape)}
    words = (shape.__doc__ or "").split("\n\n")[0].replace("``", "'")
    return {"type": "object", "description": " ".join(words.split()), "properties": properties,
            "required": list(properties)}


def _joined(head: Schema, more: Mapping[str, Schema]) -> Schema:
    properties = {**head["properties"], **more}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _row() -> Schema:
    """One row: its number, its times, whether it is history, and a body by kind."""
    kinds = [{**schema_of(shape), "title": kind} for kind, shape in KINDS.items()]
    unknown: Schema = {"type": "object", "title": UNLISTED, "maxProperties": 0}
    number: Schema = {"type": "integer"}
    names = {name: dict(number) for name in ("seq", "ts", "mono", "boot")}
    return _joined({"properties": names}, {
        "h": {"type": "integer", "enum": [0, 1]},
        "kind": {"type": "string", "enum": sorted({*KINDS, UNLISTED})},
        "b": {"anyOf": [*kinds, unknown]}})


def payloads() -> dict[MessageKind, Schema]:
    """Return the schema of each message's payload."""
    envelope = schema_of(telemetry.Envelope)
    rev: Schema = {"rev": {"type": "integer"}, "high": schema_of(telemetry.High)}
    return {
        "birth": _joined(envelope, {**rev, "b": schema_of(telemetry.Birth)}),
        "presence": _joined(envelope, {"b": schema_of(telemetry.Presence)}),
        "state": _joined(envelope, {**rev, "b": schema_of(telemetry.State)}),
        "hb": schema_of(telemetry.Heartbeat),
        "evt": _joined(envelope, {
            "box": {"type": "integer"}, "rank": schema_of(telemetry.Rank),
            "rows": {"type": "array", "minItems": 1, "maxItems": telemetry.BATCH_MAX,
                     "items": _row()}})}


def document() -> Schema:
    """Return the whole AsyncAPI 3.0 document (asyncapi.com, specification 3.0.0; MQTT binding
    0.2.0)."""
    schemas = payloads()
    text: Schema = {"type": "string", "contentEncoding": "base64"}
    want: Schema = _joined({"properties": {"kid": {"type": "string"}}}, {"body": text, "sig": text})
    where = _channel("hb") | {"address": telemetry.want_topic("GW").replace("GW", "{gw}"),
                              "messages": {"want": {"$ref": "#/components/messages/want"}}}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Practice Gateway telemetry", "version": f"1.{telemetry.VERSION}.0",
                 "description": "What one gateway tells the network team over MQTT 5. No message "
                                "has a field that could hold a patient, a person or a URL."},
        "defaultContentType": "application/json",
        "channels": {kind: _channel(kind) for kind in schemas} | {"want": where},
        "operations": {f"send_{kind}": _operation(kind) for kind in schemas} | {"receive_want": {
            "action": "receive", "channel": {"$ref": "#/channels/want"}, "summary": _WANTED,
            "messages": [{"$ref": "#/channels/want/messages/want"}],
            "bindings": {"mqtt": {"qos": 1, "retain": True, "bindingVersion": "0.2.0"}}}},
        "components": {"messages": {
            kind: {"name": kind, "title": _SUMMARY[kind], "contentType": "application/json",
                   "payload": schema} for kind, schema in schemas.items()} | {"want": {
                "name": "want", "title": _WANTED, "contentType": "application/json",
                "payload": want}}}}


def _channel(kind: MessageKind) -> Schema:
    return {"address": telemetry.topic("GW", kind).replace("GW", "{gw}"),
            "parameters": {"gw": {"description": "the gateway's name, equal to its certificate's "
                                                 "common name; never parse it"}},
            "messages": {kind: {"$ref": f"#/components/messages/{kind}"}}}


def _operation(kind: MessageKind) -> Schema:
    how = DELIVERY[kind]
    binding: Schema = {"qos": how.qos, "retain": how.retain, "bindingVersion": "0.2.0"}
    if how.expiry_s is not None:
        binding["messageExpiryInterval"] = how.expiry_s
    return {"action": "send", "channel": {"$ref": f"#/channels/{kind}"},
            "summary": _SUMMARY[kind],
            "messages": [{"$ref": f"#/channels/{kind}/messages/{kind}"}],
            "bindings": {"mqtt": binding}}


def text() -> str:
    """Return the document as it stands in ``docs/asyncapi.json``."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def mistakes(value: object, schema: Schema, where: str = "$") -> tuple[str, ...]:
    """Return where and how a decoded message breaks ``schema``; empty when it holds.

    Knows what ``schema_of`` writes and no more: type, enum, pattern, properties, required,
    additionalProperties, items, minItems, maxItems, maxProperties, anyOf. Properties that the
    schema does not name are mistakes too: our own messages have none.
    """
    if "anyOf" in schema:
        tried = [mistakes(value, choice, where) for choice in schema["anyOf"]]
        return () if any(not found for found in tried) else min(tried, key=len)
    kinds = _JSON_TYPES[schema["type"]]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return (f"{where}: not {schema['type']}",)
    if "enum" in schema and value not in schema["enum"]:
        return (f"{where}: not in the enum",)
    if isinstance(value, str):
        pattern = schema.get("pattern", "")
        return () if re.search(pattern, value) else (f"{where}: breaks its pattern",)
    if isinstance(value, list):
        return _list_mistakes(value, schema, where)
    return _object_mistakes(value, schema, where) if isinstance(value, dict) else ()


def _list_mistakes(value: list[object], schema: Schema, where: str) -> tuple[str, ...]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return (f"{where}: {len(value)} items",)
    return tuple(found for n, each in enumerate(value)
                 for found in mistakes(each, schema["items"], f"{where}[{n}]"))


def _object_mistakes(value: dict[str, object], schema: Schema, where: str) -> tuple[str, ...]:
    known = schema.get("properties", {})
    other = schema.get("additionalProperties")
    absent = tuple(f"{where}.{name}: absent" for name in schema.get("required", ())
                   if name not in value)
    found = absent
    for name, each in value.items():
        rule = known.get(name, other)
        found += (mistakes(each, rule, f"{where}.{name}") if rule is not None
                  else (f"{where}.{name}: not in the schema",))
    return found
