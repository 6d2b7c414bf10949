"""What a reply must be to be kept, and whom it speaks of (continuity.md §3; domain.md).

The caller parses; this module is given the tree and reads it leniently, as published examples
are themselves not strictly valid. It changes nothing: what is kept are the bytes as they came.

- Kept only if whole and of a type that the route names.
- Never kept: a patient whose record is marked restricted (R) or very restricted (V) in
  ``meta.security``, which is how a sensitive (S-flagged) patient shows on the wire.
- ``restricted`` where a GP Connect list extension says that something was left out; it stays so
  for as long as the copy lives.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from gateway.core.keeping import Keep

Refusal: TypeAlias = Literal[
    "coding",  # a Content-Encoding that we cannot undo, or that undoes to too much
    "not_whole",  # not one whole document
    "wrong_type",  # not a type that the route keeps
    "sensitive",  # a patient who must never be kept
    "too_many",  # more people than a copy may be filed under
]

SUBJECTS_MAX: Final = 1000
"""People per copy; a whole day's list of a large practice is about 400."""
NHS_SYSTEMS: Final = ("https://fhir.nhs.uk/Id/nhs-number", "http://fhir.nhs.net/Id/nhs-number")
RESTRICTIONS: Final = (b"confidential-items", b"data-in-transit", b"data-awaiting-filing")
SENSITIVE_CODES: Final = ("R", "V")
_CONFIDENTIALITY: Final = "v3-Confidentiality"

_XML_ROOT: Final = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*|<!--.*?-->\s*)*<([A-Za-z]{1,64})[\s>]",
                              re.DOTALL)


@dataclass(frozen=True, slots=True)
class Examined:
    """A reply that may be kept. ``tied`` says that its subjects are one and the same person."""

    restricted: bool = False
    subjects: tuple[str, ...] = field(default=(), repr=False)
    tied: bool = False


def examine_json(tree: object, text: bytes, keep: Keep) -> Examined | Refusal:
    r"""Judge a JSON body: ``tree`` as parsed, ``text`` the same without ``\u`` escapes."""
    kind = tree.get("resourceType") if isinstance(tree, dict) else None
    if keep.types and kind not in keep.types:
        return "wrong_type"
    patients = tuple(_patients(tree))
    if any(_is_sensitive(patient) for patient in patients):
        return "sensitive"
    subjects = dict.fromkeys(keep.subjects)
    for patient in patients:
        subjects |= dict.fromkeys(_names(patient))
    if len(subjects) > SUBJECTS_MAX:
        return "too_many"
    restricted = any(mark in text for mark in RESTRICTIONS)
    return Examined(restricted, tuple(subjects), keep.identity and len(patients) == 1)


def examine_xml(text: bytes, keep: Keep) -> Examined | Refusal:
    """Judge an XML body by its first and last tag; it is never parsed.

    So whom it speaks of cannot be learnt beyond ``keep.subjects``, and any Patient in it might be
    sensitive: a body that holds one is kept only if it holds no confidentiality code at all, and
    one that should tie a person's names together is not kept.
    """
    root = _XML_ROOT.match(text)
    if root is None or not text.rstrip().endswith(b"</" + root[1] + b">"):
        return "not_whole"
    if keep.types and root[1].decode("ascii") not in keep.types:
        return "wrong_type"
    if keep.identity or _CONFIDENTIALITY.encode() in text:
        return "sensitive"
    return Examined(any(mark in text for mark in RESTRICTIONS), keep.subjects)


def _patients(tree: object) -> Iterator[dict[str, object]]:
    """The Patient resources of a body: itself, or the entries of a Bundle (never contained)."""
    if not isinstance(tree, dict):
        return
    if tree.get("resourceType") == "Patient":
        yield tree
    for entry in _list(tree.get("entry")):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and resource.get("resourceType") == "Patient":
            yield resource


def _is_sensitive(patient: dict[str, object]) -> bool:
    meta = patient.get("meta")
    return any(
        isinstance(label, dict) and label.get("code") in SENSITIVE_CODES
        and str(label.get("system", _CONFIDENTIALITY)).endswith(_CONFIDENTIALITY)
        for label in _list(meta.get("security") if isinstance(meta, dict) else None))


def _names(patient: dict[str, object]) -> Iterator[str]:
    """``Patient/2`` and ``nhs/9990000018`` (spaces taken out, as people write 3-3-4)."""
    logical = patient.get("id")
    if isinstance(logical, str) and logical:
        yield "Patient/" + logical
    for identifier in _list(patient.get("identifier")):
        if isinstance(identifier, dict) and identifier.get("system") in NHS_SYSTEMS:
            value = identifier.get("value")
            if isinstance(value, str) and value:
                yield "nhs/" + value.replace(" ", "")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
