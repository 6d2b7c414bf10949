"""What an API's requests are: the rules of one pack, read from ``config/packs/{name}.toml``.

A pack names routes; the first whose method and path match wins; what no route names is
``other``, passed through and never kept. Paths are matched against the raw target under the
upstream's base, as sent, with no decoding: an encoded ``%24gpc`` is another request.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from gateway.core.message import Request

Kind: TypeAlias = Literal["booking_read", "record_read", "booking", "write", "other"]
Traffic: TypeAlias = Literal["read", "booking", "write", "stream", "tunnel"]
"""How a request may be rescued and steered (links.md section 8)."""

READS: Final = frozenset({"booking_read", "record_read"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request.

    ``path`` is matched whole (``re.fullmatch``) against the raw path without leading slash and
    without query. Its named groups, if any, and those of ``query`` (searched in ``?{query}``) and
    ``body`` (searched in the request body) give *subjects*: ``patient`` is a logical id,
    ``nhs`` an NHS number; they become ``Patient/{id}`` and ``nhs/{number}``. With ``where_body``
    the route matches only a request whose whole body holds it: some APIs say in the body alone
    what is asked (``$process-message``, the sections of a structured record).

    ``keep``, ``ceiling_s`` (oldest copy served on the wire), ``patience_s`` (client's wait) and
    ``types`` (resourceTypes that a kept reply may be) govern the copy. ``voids`` names routes
    whose copies a write drops: all of the upstream's, or with ``voids_subject`` only those about
    the write's subjects, where these are known. ``removes`` says whom a 403/404/410 concerns:
    ``subject`` drops the patient's copies, ``exact`` this request's own, ``none`` nothing.
    """

    id: str
    kind: Kind
    methods: tuple[str, ...]
    path: str
    query: str = ""
    body: str = ""
    where_body: str = ""
    interactions: tuple[str, ...] = ()
    keep: bool = False
    ceiling_s: float = 0.0
    patience_s: float = 30.0
    types: tuple[str, ...] = ()
    identity: bool = False
    clinical: bool = False
    voids: tuple[str, ...] = ()
    voids_subject: bool = False
    removes: Literal["subject", "exact", "none"] = "exact"

    @property
    def is_read(self) -> bool:
        """Whether it only reads, whatever its method: it may be retried, hedged and kept."""
        return self.kind in READS or (self.kind == "other" and self.methods[0] in SAFE_METHODS)


@dataclass(frozen=True, slots=True)
class Pack:
    """An API. ``content_types`` are what it speaks; ``key_headers`` enter a kept reply's key.

    ``asker_claims`` are dotted paths into the bearer token's payload (unsigned in GP Connect, so
    they say who asks, never who may); where they cannot be read the client stands for the asker.
    ``subject_codes`` are the OperationOutcome codes by which a 403/404/410 speaks of the patient;
    an empty tuple means any does. ``canary`` is a cheap unauthenticated target, ``""`` if none:
    what it answers must be one of ``canary_types``; ``canary_interaction`` goes into the header.
    """

    name: str
    routes: tuple[Route, ...]
    content_types: tuple[str, ...] = ("application/fhir+json", "application/fhir+xml")
    key_headers: tuple[str, ...] = ("Accept",)
    interaction_header: str = ""
    asker_claims: tuple[str, ...] = ()
    subject_codes: tuple[str, ...] = ()
    patience_s: float = 30.0
    canary: str = ""
    canary_types: tuple[str, ...] = ("CapabilityStatement",)
    canary_interaction: str = ""


@dataclass(frozen=True, slots=True)
class Matched:
    """What a request is: its route and whom it speaks of (``Patient/2``, ``nhs/9990000018``)."""

    route: Route
    subjects: tuple[str, ...] = field(default=(), repr=False)


def traffic_of(matched: Matched, request: Request) -> Traffic:
    """Return the class of ``request``: a body that is not whole in memory streams."""
    if not isinstance(request.body, bytes):
        return "stream"
    if matched.route.is_read:
        return "read"
    return "booking" if matched.route.kind == "booking" else "write"


OTHER_READ: Final = Route("other", "other", ("GET",), r".*", removes="none")
OTHER_WRITE: Final = Route("other-write", "other", ("POST",), r".*", removes="none")


def match(pack: Pack, request: Request) -> Matched:
    """Return what ``request`` is to ``pack``. A HEAD is matched as the GET it stands for.

    Where the pack has an ``interaction_header``, a route that lists ``interactions`` matches only
    if the header names one of them (amend and cancel share method and path, domain.md).
    """
    method = "GET" if request.method == "HEAD" else request.method
    named = request.header(pack.interaction_header) if pack.interaction_header else None
    for route in pack.routes:
        if method not in route.methods:
            continue
        if route.interactions and named is not None and named not in route.interactions:
            continue
        found = re.fullmatch(route.path, request.path)
        if found is None or not _says(route.where_body, request):
            continue
        return Matched(route, _subjects(route, request, found.groupdict()))
    return Matched(OTHER_READ if method in SAFE_METHODS else OTHER_WRITE)


def _says(where_body: str, request: Request) -> bool:
    """Whether the body, where one is asked for, holds what it must."""
    if not where_body:
        return True
    return re.search(where_body, _text(request)) is not None


def _text(request: Request) -> str:
    """A whole body as text; a streamed one is too large to look into and says nothing."""
    return request.body.decode("utf-8", "replace") if isinstance(request.body, bytes) else ""


def _subjects(route: Route, request: Request, groups: dict[str, str | None]) -> tuple[str, ...]:
    if route.query:
        for found in re.finditer(route.query, "?" + request.query):
            groups |= {key: value for key, value in found.groupdict().items() if value}
    if route.body:
        for found in re.finditer(route.body, _text(request)):
            groups |= {key: value for key, value in found.groupdict().items() if value}
    names = {"patient": "Patient/", "nhs": "nhs/"}
    return tuple(names[key] + value for key, value in groups.items() if value and key in names)
