"""A clinical system that does not exist: GP Connect's rules and a real provider's wire manners.

Roots, below every listener:

- ``/{ods}/STU3/1/gpconnect`` GP Connect 1.2 (appointments, foundations) and, below
  ``/structured``, Access Record Structured; manners as measured on a real provider: ETags in whole
  seconds and on reads only, no reason phrase, every body chunked, gzip without ``Vary``,
  ``no-store`` on everything, a 400 or each 100th answer closes, idle connections close after
  60 s, ``Accept`` must name one JSON type (else 415), HEAD is 400, a booking is check-then-write
  without a transaction.
- ``/{ods}/R4`` an ordinary FHIR R4 server: Content-Length, 412, ``next`` links that follow
  X-Forwarded-*.

It remembers all it saw. The control port, for tests in other processes: ``GET /__seen?since=N``,
``POST /__weather`` (``{"verb": "UpstreamStatus", "upstream": "gpc", "status": 503}``),
``GET /__practice``, ``POST /__forget``. Fault scopes: a system's name (``gpc``, ``r4``) or one
tenant of it (``gpc:B81001``).
"""

import argparse
import asyncio
import contextlib
import gzip
import hashlib
import json
import re
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web

from chaos import practice as made
from chaos.practice import Practice, Tree
from chaos.rig.relay import bound, linger_zero

ARRIVALS_MAX: Final = 200_000
JSON_TYPES: Final = frozenset({"application/fhir+json", "application/json"})
GPC: Final = "urn:nhs:names:services:gpconnect:"
SPINE: Final = "https://fhir.nhs.uk/STU3/ValueSet/Spine-ErrorOrWarningCode-1"
ANSWERS_PER_CONNECTION: Final = 100
IDLE_S: Final = 60.0
GZIP_FROM_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it arrived. ``token`` is the sender's own mark (a trace or request id).

    ``target`` and the bodies are digests (SHA-256, hex): a memory of requests must hold no
    patient either. ``reply_sha`` is of the body before any Content-Encoding. ``took_effect`` tells
    that a write changed something. Times are seconds of the Unix epoch.
    """

    n: int
    at: float
    listener: str
    system: str
    ods: str
    method: str
    interaction: str
    target_sha: str
    token: str
    body_sha: str
    status: int = 0
    reply_sha: str = ""
    took_effect: bool = False


@dataclass(slots=True)
class Trouble:
    """What is wrong with one scope now. All at rest: nothing is."""

    status: int = 0
    hung: bool = False
    gone: bool = False
    swallow: bool = False
    delay_s: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer before its manners. ``close`` ends the connection; ``html`` is Tomcat's page."""

    status: int
    tree: Tree | None = None
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False
    html: bool = False


class Refused(Exception):
    """The rules say no: (status, Spine code, issue type, words)."""

    def __init__(self, status: int, code: str, issue: str, words: str) -> None:
        super().__init__(code)
        self.said = Said(status, _outcome(code, issue, words), close=status == 400)


def sha(data: bytes) -> str:
    """Return the hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


class Surgery:
    """One practice at work: its bookings and the versions of what changed."""

    def __init__(self, here: Practice, now: Callable[[], float]) -> None:
        self.here = here
        self.patients = {who.id: who for who in here.patients}
        self.by_nhs = {who.nhs: who for who in here.patients}
        self.slots = {slot.id: slot for slot in here.slots}
        self.appointments: dict[str, Tree] = {}
        self.versions: dict[str, int] = {}
        self.changes = 0
        self._now = now
        self._taken: set[str] = set()
        self._free = {slot.id: _encoded({"resource": made.slot_resource(slot, "free")})
                      for slot in here.slots}
        self._furniture = [_encoded({"resource": tree}) for tree in (
            *(made.schedule_resource(here, str(n + 1)) for n in range(made.CLINICIANS)),
            *(made.practitioner_resource(here, str(n + 1)) for n in range(made.CLINICIANS)),
            made.location_resource(here), made.organization_resource(here))]
        for n, slot in enumerate(here.slots[:: 9]):
            self._book(slot.id, str(n % len(here.patients) + 1), "Booked before")

    def version(self) -> int:
        """A version as the real provider makes it: the time in ms, in whole seconds."""
        return int(self._now()) * 1000

    def is_free(self, slot: str) -> bool:
        return slot not in self._taken

    def book(self, tree: Tree) -> Tree:
        """Write the appointment down, whatever its slot is: the check was a moment ago."""
        slot = _reference_id(tree["slot"][0]["reference"])
        patient = next(_reference_id(one["actor"]["reference"]) for one in tree["participant"]
                       if one["actor"]["reference"].startswith("Patient/"))
        return self._book(slot, patient, str(tree.get("description", "")), tree)

    def _book(self, slot: str, patient: str, words: str, sent: Tree | None = None) -> Tree:
        id_ = str(len(self.appointments) + 1)
        at = self.slots[slot]
        tree: Tree = dict(sent or {})
        tree |= {"resourceType": "Appointment", "id": id_, "status": "booked",
                 "description": words, "start": made.local(at.start), "end": made.local(at.end),
                 "slot": [{"reference": f"Slot/{slot}"}],
                 "participant": [{"actor": {"reference": f"Patient/{patient}"},
                                  "status": "accepted"},
                                 {"actor": {"reference": "Location/1"}, "status": "accepted"}]}
        self.change(id_, tree)
        self._taken.add(slot)
        return tree

    def change(self, id_: str, tree: Tree) -> None:
        """Put ``tree`` in place of appointment ``id_`` with a new version."""
        self.changes += 1
        self.versions[id_] = self.version()
        tree["meta"] = {"versionId": str(self.versions[id_]),
                        "profile": [made.PROFILE + "GPConnect-Appointment-1"]}
        self.appointments[id_] = tree
        if tree["status"] == "cancelled":
            self._taken.discard(_reference_id(tree["slot"][0]["reference"]))

    def of_patient(self, id_: str, first: str, last: str) -> list[Tree]:
        reference = f"Patient/{id_}"
        return [tree for tree in self.appointments.values()
                if first <= tree["start"][:10] <= last
                and any(one["actor"]["reference"] == reference for one in tree["participant"])]

    def free_slots(self, start: str, end: str) -> bytes:
        """Return the searchset of free slots wholly inside; what they hang on, unless none."""
        found = [self._free[slot.id] for slot in self.here.slots
                 if slot.id not in self._taken and start <= made.local(slot.start)[:len(start)]
                 and made.local(slot.end)[:len(end)] <= end]
        head = b'{"resourceType":"Bundle","type":"searchset","total":%d' % len(found)
        if not found:
            return head + b"}"
        return head + b',"entry":[' + b",".join([*found, *self._furniture]) + b"]}"


def _reference_id(reference: str) -> str:
    return reference.rpartition("/")[2]


def _encoded(tree: Tree) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


def _outcome(code: str, issue: str, words: str) -> Tree:
    return {"resourceType": "OperationOutcome",
            "meta": {"profile": [made.PROFILE + "GPConnect-OperationOutcome-1"]},
            "issue": [{"severity": "error", "code": issue, "details": {"coding": [{
                "system": SPINE, "code": code, "display": words}]}, "diagnostics": words}]}


def _searchset(trees: Sequence[Tree], total: int | None = None) -> Tree:
    """Return the trees as a search's answer; with no match there is no ``entry`` at all."""
    bundle: Tree = {"resourceType": "Bundle", "type": "searchset",
                    "total": len(trees) if total is None else total}
    if trees:
        bundle["entry"] = [{"resource": tree} for tree in trees]
    return bundle


class ClinicalSystem:
    """Serve ``practices`` on named listeners until left: ``async with ClinicalSystem(...)``.

    Give each link's relay a listener of its own, and every arrival tells which way it came.
    A listener called ``gpc.fibre`` is gone with ``gpc``; one without a dot with any system.
    ``pace`` scales the real provider's times (1.0: slot search 0.4 s, record 0.1 s). ``strict``
    asks for every header of GP Connect; without it those that are there must agree.
    """

    def __init__(self, practices: Sequence[Practice], *,
                 listeners: Mapping[str, tuple[str, int]] | None = None,
                 control: tuple[str, int] | None = ("127.0.0.1", 0), strict: bool = False,
                 pace: float = 0.1, now: Callable[[], float] = time.time) -> None:
        self.surgeries = {here.ods: Surgery(here, now) for here in practices}
        self.arrivals: deque[Arrival] = deque(maxlen=ARRIVALS_MAX)
        self.troubles: dict[str, Trouble] = {}
        self.strict = strict
        self.pace = pace
        self.base = ""
        self._now = now
        self._addresses = dict(listeners or {"direct": ("127.0.0.1", 0)})
        self._control_address = control
        self._holders: dict[str, socket.socket] = {}
        self._sites: dict[str, web.SockSite] = {}
        self._runner: web.AppRunner | None = None
        self._control: web.AppRunner | None = None
        self._answers: dict[int, int] = {}
        self._serial = 0

    @property
    def ports(self) -> dict[str, int]:
        """Where each listener listens, by its name; ``control`` is the control port."""
        found = {name: int(holder.getsockname()[1]) for name, holder in self._holders.items()}
        if self._control is not None:
            found["control"] = int(self._control.addresses[0][1])
        return found

    async def __aenter__(self) -> "ClinicalSystem":
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{rest:.*}", self._serve)
        self._runner = web.AppRunner(app, keepalive_timeout=IDLE_S, access_log=None,
                                     max_line_size=65536, max_field_size=8190)
        await self._runner.setup()
        for name, address in self._addresses.items():
            self._holders[name] = bound(address)
        await self._open("")
        self.base = self.base or f"http://127.0.0.1:{next(iter(self.ports.values()))}"
        if self._control_address is not None:
            self._control = web.AppRunner(self._control_app(), access_log=None)
            await self._control.setup()
            await web.TCPSite(self._control, *self._control_address).start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        for trouble in self.troubles.values():
            trouble.over.set()
        for runner in (self._control, self._runner):
            if runner is not None:
                await runner.cleanup()
        for holder in self._holders.values():
            holder.close()

    async def _open(self, system: str) -> None:
        assert self._runner is not None
        for name, holder in self._holders.items():
            if name not in self._sites and _serves(name, system):
                site = web.SockSite(self._runner, bound(holder.getsockname()[:2], holder.family))
                await site.start()
                self._sites[name] = site

    async def _shut(self, system: str) -> None:
        """Refuse connections to ``system``, and reset those that are open."""
        ports = {port for name, port in self.ports.items() if _serves(name, system)}
        for name in [name for name in self._sites if _serves(name, system)]:
            await self._sites.pop(name).stop()
        assert self._runner is not None
        assert self._runner.server is not None
        for handler in tuple(self._runner.server.connections):
            at = handler.transport.get_extra_info("sockname") if handler.transport else None
            if at and at[1] in ports:
                _reset(handler.transport)

    # -- weather

    def trouble(self, scope: str) -> Trouble:
        """Return the trouble of ``scope`` to be looked at or changed."""
        return self.troubles.setdefault(scope, Trouble())

    async def weather(self, verb: str, upstream: str, **how: Any) -> None:
        """Make a verb of ``weather.py`` (by its class's name) happen, or two of our own.

        ``Swallow`` does what is asked and never answers; ``Delay`` takes ``delay_s`` longer.
        ``UpstreamGone`` for a whole system closes its listeners, for one tenant it resets that
        tenant's requests. Raises ValueError for an unknown verb.
        """
        trouble = self.trouble(upstream)
        match verb:
            case "UpstreamStatus":
                trouble.status = int(how["status"])
            case "UpstreamGone":
                trouble.gone = bool(how.get("gone", True))
                if ":" not in upstream:
                    await (self._shut(upstream) if trouble.gone else self._open(upstream))
            case "UpstreamHung":
                trouble.hung = bool(how.get("hung", True))
            case "Swallow":
                trouble.swallow = bool(how.get("swallow", True))
            case "Delay":
                trouble.delay_s = float(how["delay_s"])
            case _:
                raise ValueError(f"a clinical system knows no {verb}")
        if not (trouble.hung or trouble.swallow):
            trouble.over.set()
            trouble.over = asyncio.Event()

    def _troubles_of(self, system: str, ods: str) -> list[Trouble]:
        return [self.troubles[scope] for scope in (system, f"{system}:{ods}")
                if scope in self.troubles]

    # -- one request

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = request.raw_path
        path, _, query = raw.partition("?")
        body = await request.read()
        ods, system, rest = _split(path)
        arrival = self._note(request, ods, system, raw, body)
        troubles = self._troubles_of(system, ods)
        for trouble in troubles:
            if trouble.delay_s:
                await asyncio.sleep(trouble.delay_s)
            if trouble.gone:
                return _broken_off(request)
            if trouble.hung:
                await trouble.over.wait()
                return _broken_off(request)
        said = next((_down(trouble.status) for trouble in troubles if trouble.status), None)
        effects = self._effects(ods)
        if said is None:
            said = await self._answer(request, ods, system, rest, query, body)
        reply, plain = self._mannered(request, system, said)
        self._settle(arrival, said.status, plain, self._effects(ods) != effects)
        for trouble in troubles:
            if trouble.swallow:
                await trouble.over.wait()
                return _broken_off(request)
        return reply

    def _effects(self, ods: str) -> int:
        surgery = self.surgeries.get(ods)
        return 0 if surgery is None else surgery.changes

    def _note(self, request: web.Request, ods: str, system: str, raw: str, body: bytes) -> int:
        self._serial += 1
        sock = request.transport.get_extra_info("sockname") if request.transport else None
        names = {port: name for name, port in self.ports.items()}
        headers = request.headers
        self.arrivals.append(Arrival(
            self._serial, self._now(), names.get(sock[1] if sock else 0, "?"), system, ods,
            request.method, headers.get("Ssp-InteractionID", "").removeprefix(GPC),
            sha(raw.encode()), headers.get("Ssp-TraceID") or headers.get("X-Request-ID") or "",
            sha(body) if body else ""))
        return self._serial

    def _settle(self, n: int, status: int, plain: bytes, took_effect: bool) -> None:
        at = n - self.arrivals[0].n
        if 0 <= at < len(self.arrivals):
            seen = asdict(self.arrivals[at])
            seen |= {"status": status, "reply_sha": sha(plain) if plain else "",
                     "took_effect": took_effect}
            self.arrivals[at] = Arrival(**seen)

    async def _answer(self, request: web.Request, ods: str, system: str, rest: str, query: str,
                      body: bytes) -> Said:
        surgery = self.surgeries.get(ods)
        try:
            if surgery is None or system not in ("gpc", "r4"):
                raise Refused(404, "ORGANISATION_NOT_FOUND", "not-found", "No such practice")
            if system == "r4":
                return _R4(self, surgery, request).answer(rest, query, body)
            return await _GpConnect(self, surgery, request).answer(rest, query, body)
        except Refused as no:
            return no.said

    def _mannered(self, request: web.Request, system: str,
                  said: Said) -> tuple[web.StreamResponse, bytes]:
        """Return ``said`` as the provider puts it on the wire, and its body before any coding."""
        plain = said.body if said.body is not None else (
            b"" if said.tree is None else _encoded(said.tree))
        kind = "text/html" if said.html else "application/fhir+json"
        reply = web.Response(status=said.status, reason="" if system != "r4" else None,
                             body=plain or None)
        reply.headers["Server"] = "Apache-Coyote/1.1"
        if plain:
            reply.headers["Content-Type"] = f"{kind};charset=UTF-8"
        for name, value in said.headers:
            reply.headers[name] = value
        if system == "r4":
            return reply, plain
        reply.headers["Cache-Control"] = "no-store"
        if len(plain) >= GZIP_FROM_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
            reply.body = gzip.compress(plain, 1, mtime=0)
            reply.headers["Content-Encoding"] = "gzip"
        if plain and request.version >= (1, 1):
            reply.enable_chunked_encoding()
        if said.close or self._is_hundredth(request):
            reply.force_close()
        return reply, plain

    def _is_hundredth(self, request: web.Request) -> bool:
        protocol = request.protocol
        count = self._answers.get(id(protocol), 0) + 1
        if len(self._answers) > 4096:
            self._answers.clear()
        self._answers[id(protocol)] = count
        if count < ANSWERS_PER_CONNECTION:
            return False
        del self._answers[id(protocol)]
        return True

    async def wait(self, seconds: float) -> None:
        """Take the real provider's ``seconds``, scaled by the pace."""
        if self.pace:
            await asyncio.sleep(seconds * self.pace)

    @property
    def today(self) -> date:
        """The day that the system lives in."""
        return datetime.fromtimestamp(self._now(), UTC).date()

    # -- the control port

    def _control_app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/__seen", self._seen), web.get("/__practice", self._practices),
                        web.post("/__weather", self._make_weather),
                        web.post("/__forget", self._forget)])
        return app

    async def _seen(self, request: web.Request) -> web.Response:
        since = int(request.query.get("since", "0"))
        found = [asdict(one) for one in self.arrivals if one.n > since]
        return web.json_response({"arrivals": found, "next": self._serial})

    async def _practices(self, request: web.Request) -> web.Response:
        return web.json_response({ods: {
            "name": surgery.here.name, "today": surgery.here.today.isoformat(),
            "patients": [{"id": who.id, "nhs": who.nhs} for who in surgery.here.patients]}
            for ods, surgery in self.surgeries.items()})

    async def _make_weather(self, request: web.Request) -> web.Response:
        try:
            asked = await request.json()
            await self.weather(asked.pop("verb"), asked.pop("upstream"), **asked)
        except (ValueError, KeyError, TypeError) as wrong:
            return web.json_response({"wrong": str(wrong)}, status=400)
        return web.json_response({"done": True})

    async def _forget(self, request: web.Request) -> web.Response:
        self.arrivals.clear()
        return web.json_response({"done": True})


def _serves(listener: str, system: str) -> bool:
    """A listener called ``gpc.fibre`` belongs to ``gpc`` alone, one without a dot to all."""
    owner, dot, _ = listener.partition(".")
    return not dot or not system or owner == system


def _split(path: str) -> tuple[str, str, str]:
    """Return (ods, system, what stands after the root with its slash)."""
    found = re.fullmatch(r"/([^/]+)/(STU3/1/gpconnect(?:/structured)?|R4)(/.*)?", path)
    if found is None:
        return "", "", path
    system = "r4" if found[2] == "R4" else "gpc"
    return found[1], system, found[3] or ""


def _down(status: int) -> Said:
    return Said(status, _outcome("INTERNAL_SERVER_ERROR", "transient", "Not available"))


def _broken_off(request: web.Request) -> web.Response:
    """Reset the connection; what is returned then goes nowhere."""
    _reset(request.transport)
    return web.Response()


def _reset(transport: asyncio.BaseTransport | None) -> None:
    if transport is None:
        return
    end = transport.get_extra_info("socket")
    if end is not None:
        linger_zero(end)
    with contextlib.suppress(RuntimeError):  # the loop is closing: so is the transport
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class _GpConnect:
    """GP Connect's rules for one request of one practice."""

    def __init__(self, system: ClinicalSystem, surgery: Surgery, request: web.Request) -> None:
        self._system = system
        self._surgery = surgery
        self._request = request

    async def answer(self, rest: str, query: str, body: bytes) -> Said:
        """Return the answer, or raise Refused."""
        self._check_wire(rest, query)
        method, path = self._request.method, rest.removeprefix("/")
        handlers: tuple[tuple[str, str, str, Callable[..., Any]], ...] = (
            ("GET", r"metadata", "metadata-1", self._metadata),
            ("GET", r"Patient", "patient-1", self._find_patient),
            ("GET", r"Patient/([^/]+)", "patient-1", self._read_patient),
            ("GET", r"Patient/([^/]+)/Appointment", "patient_appointments-1",
             self._patient_appointments),
            ("POST", r"Patient/\$gpc\.getstructuredrecord", "gpc.getstructuredrecord-1",
             self._structured),
            ("GET", r"Practitioner/([^/]+)", "practitioner-1", self._read_practitioner),
            ("GET", r"Organization/([^/]+)", "organization-1", self._read_organization),
            ("GET", r"Location/([^/]+)", "location-1", self._read_location),
            ("GET", r"Slot", "slot-1", self._slots),
            ("POST", r"Appointment", "create:appointment-1", self._book),
            ("GET", r"Appointment/([^/]+)", "appointment-1", self._read_appointment),
            ("PUT", r"Appointment/([^/]+)", "appointment-1", self._amend))
        for wanted, pattern, interaction, handler in handlers:
            found = re.fullmatch(pattern, path)
            if wanted == method and found is not None:
                self._check_headers(interaction)
                said = await handler(*found.groups(), query=query, body=body)
                assert isinstance(said, Said)
                return said
        raise Refused(501 if path else 404, "NOT_IMPLEMENTED", "not-supported", "Not implemented")

    def _check_wire(self, rest: str, query: str) -> None:
        if self._request.method == "HEAD":
            raise _bad("HEAD is not supported")
        if "%24" in rest:
            raise _bad("Unknown operation")
        if "//" in rest:
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such resource")
        if "|" in query or "|" in rest:
            raise _html()
        if not self._takes_json(query):
            raise Refused(415, "BAD_REQUEST", "not-supported", "Unsupported media type")

    def _takes_json(self, query: str) -> bool:
        wanted = dict(parse_qsl(query)).get("_format")
        if wanted is None:
            wanted = self._request.headers.get("Accept")
        if wanted is None:
            wanted = self._request.headers.get("Content-Type") or "application/fhir+json"
        return wanted.partition(";")[0].strip().lower() in JSON_TYPES

    def _check_headers(self, interaction: str) -> None:
        headers = self._request.headers
        named = headers.get("Ssp-InteractionID")
        if named is not None and not ((named.startswith(GPC) and named.endswith(interaction))
                                      or self._is_cancel(named, interaction)):
            raise _bad("The interaction does not match the request")
        if not self._system.strict:
            return
        for name in ("Ssp-TraceID", "Ssp-From", "Ssp-To", "Ssp-InteractionID", "Authorization"):
            if not headers.get(name):
                raise _bad(f"Header {name} is missing")
        if not re.fullmatch(r"Bearer [\w-]+\.[\w-]+\.", headers["Authorization"]):
            raise _bad("The token is not an unsigned JWT")

    @staticmethod
    def _is_cancel(named: str, interaction: str) -> bool:
        return interaction == "appointment-1" and named.endswith("cancel:appointment-1")

    async def _metadata(self, query: str, body: bytes) -> Said:
        return Said(200, {"resourceType": "CapabilityStatement", "status": "active",
                          "fhirVersion": "3.0.1", "kind": "instance",
                          "software": {"name": "A clinical system that does not exist"},
                          "format": ["application/fhir+json"], "rest": [{"mode": "server"}]})

    async def _find_patient(self, query: str, body: bytes) -> Said:
        value = dict(parse_qsl(query)).get("identifier", "")
        system, _, number = value.rpartition("|")
        if system != made.NHS:
            raise Refused(400, "INVALID_IDENTIFIER_SYSTEM", "value", "Unknown system")
        if not made.nhs_is_valid(number):
            raise Refused(400, "INVALID_NHS_NUMBER", "value", "Not an NHS number")
        who = self._surgery.by_nhs.get(number)
        await self._system.wait(0.008)
        return Said(200, _searchset(
            [made.patient_resource(self._surgery.here, who)] if who else []))

    async def _read_patient(self, id_: str, query: str, body: bytes) -> Said:
        who = self._surgery.patients.get(id_)
        if who is None:  # the real provider says 400 here, not 404 (domain.md)
            raise Refused(400, "PATIENT_NOT_FOUND", "not-found", "No patient with this id")
        await self._system.wait(0.008)
        return self._read(made.patient_resource(self._surgery.here, who), f"Patient/{id_}")

    async def _read_practitioner(self, id_: str, query: str, body: bytes) -> Said:
        if id_ not in {str(n + 1) for n in range(made.CLINICIANS)}:
            raise Refused(404, "PRACTITIONER_NOT_FOUND", "not-found", "No such practitioner")
        return self._read(made.practitioner_resource(self._surgery.here, id_),
                          f"Practitioner/{id_}")

    async def _read_organization(self, id_: str, query: str, body: bytes) -> Said:
        if id_ != "1":
            raise Refused(404, "ORGANISATION_NOT_FOUND", "not-found", "No such organisation")
        return self._read(made.organization_resource(self._surgery.here), "Organization/1")

    async def _read_location(self, id_: str, query: str, body: bytes) -> Said:
        if id_ != "1":
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such location")
        return self._read(made.location_resource(self._surgery.here), "Location/1")

    async def _read_appointment(self, id_: str, query: str, body: bytes) -> Said:
        tree = self._surgery.appointments.get(id_)
        if tree is None:
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such appointment")
        return self._read(tree, f"Appointment/{id_}")

    def _read(self, tree: Tree, where: str) -> Said:
        etag = f'W/"{tree["meta"]["versionId"]}"'
        place = self._place(where)
        if self._request.headers.get("If-None-Match") == etag:
            return Said(304, headers=(("ETag", etag), place))
        return Said(200, tree, headers=(("ETag", etag), place))

    def _place(self, where: str) -> tuple[str, str]:
        """The configured absolute base, never the Host that was asked (domain.md)."""
        root = f"{self._system.base}/{self._surgery.here.ods}/STU3/1/gpconnect"
        return ("Location", f"{root}/{where}")

    async def _patient_appointments(self, id_: str, query: str, body: bytes) -> Said:
        starts = [value for name, value in parse_qsl(query) if name == "start"]
        dates = {value[:2]: value[2:] for value in starts}
        today = self._system.today.isoformat()
        is_proper = (len(starts) == 2 and set(dates) == {"ge", "le"}
                     and all(re.fullmatch(r"\d{4}-\d\d-\d\d", value) for value in dates.values()))
        if not is_proper or dates["ge"] < today or dates["le"] < dates["ge"]:
            raise Refused(422, "INVALID_PARAMETER", "invalid", "Two dates, none of them past")
        if id_ not in self._surgery.patients:
            raise Refused(404, "PATIENT_NOT_FOUND", "not-found", "No patient with this id")
        await self._system.wait(0.02)
        return Said(200, _searchset(self._surgery.of_patient(id_, dates["ge"], dates["le"])))

    async def _slots(self, query: str, body: bytes) -> Said:
        pairs = parse_qsl(query)
        starts = [value for name, value in pairs if name == "start" and value[:2] == "ge"]
        ends = [value for name, value in pairs if name == "end" and value[:2] == "le"]
        is_proper = (len(starts) == len(ends) == 1 and ("status", "free") in pairs
                     and [value for name, value in pairs if name == "status"] == ["free"]
                     and ("_include", "Slot:schedule") in pairs)
        if not is_proper:
            raise Refused(422, "INVALID_PARAMETER", "invalid", "status, start, end, _include")
        first, last = _moment(starts[0][2:]), _moment(ends[0][2:])
        if last[:10] < first[:10] or _days(first, last) > made.DAYS:
            raise Refused(422, "INVALID_PARAMETER", "invalid", "Two weeks at most")
        await self._system.wait(0.4)
        if len(last) == 10:  # a date as an end takes in the whole day
            last += "T23:59:59+00:00"
        return Said(200, body=self._surgery.free_slots(first, last))

    async def _structured(self, query: str, body: bytes) -> Said:
        try:
            parameters = json.loads(body)["parameter"]
            number = next(one["valueIdentifier"]["value"] for one in parameters
                          if one["name"] == "patientNHSNumber")
            sections = frozenset(one["name"] for one in parameters)
        except (ValueError, KeyError, TypeError, StopIteration):
            raise Refused(422, "INVALID_RESOURCE", "invalid", "Not the Parameters") from None
        if not made.nhs_is_valid(number):
            raise Refused(400, "INVALID_NHS_NUMBER", "value", "Not an NHS number")
        who = self._surgery.by_nhs.get(number)
        if who is None:
            raise Refused(404, "PATIENT_NOT_FOUND", "not-found", "No record for this number")
        await self._system.wait(0.1)
        trace = self._request.headers.get("Ssp-TraceID", "1")
        return Said(200, made.structured_record(self._surgery.here, who, sections, trace))

    async def _book(self, query: str, body: bytes) -> Said:
        tree = _appointment(body)
        slots = [_reference_id(one["reference"]) for one in tree["slot"]]
        known = self._surgery.slots
        if "reason" in tree or "specialty" in tree or tree["status"] != "booked":
            raise Refused(422, "INVALID_RESOURCE", "invalid", "Not a booking")
        if any(slot not in known for slot in slots):
            raise Refused(422, "REFERENCE_NOT_FOUND", "not-found", "No such slot")
        if not all(self._surgery.is_free(slot) for slot in slots):
            raise Refused(409, "DUPLICATE_REJECTED", "duplicate", "The slot is not free")
        await self._system.wait(0.012)  # no transaction: racing bookings all win (domain.md)
        booked = self._surgery.book(tree)
        place = self._place(f"Appointment/{booked['id']}")
        if self._request.headers.get("Prefer") == "return=minimal":
            return Said(201, headers=(place, ("Content-Length", "0")))
        return Said(201, booked, headers=(place,))

    async def _amend(self, id_: str, query: str, body: bytes) -> Said:
        tree, there = _appointment(body), self._surgery.appointments.get(id_)
        if there is None:
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such appointment")
        if self._request.headers.get("If-Match") != f'W/"{self._surgery.versions[id_]}"':
            raise Refused(409, "FHIR_CONSTRAINT_VIOLATION", "conflict", "Another version")
        named = self._request.headers.get("Ssp-InteractionID", "")
        cancels = tree["status"] == "cancelled"
        if named and cancels != named.endswith("cancel:appointment-1"):
            raise _bad("The interaction does not match the body")
        allowed = ("status", "extension") if cancels else ("description", "comment")
        changed = dict(there) | {name: tree[name] for name in allowed if name in tree}
        self._surgery.change(id_, changed)
        return Said(200, changed, headers=(self._place(f"Appointment/{id_}"),))


def _appointment(body: bytes) -> Tree:
    try:
        tree = json.loads(body)
        shape = (tree["resourceType"] == "Appointment" and tree["status"]
                 and [one["reference"] for one in tree["slot"]]
                 and any(one["actor"]["reference"].startswith("Patient/")
                         for one in tree["participant"]))
    except (ValueError, KeyError, TypeError):
        shape = False
    if not shape:
        raise Refused(422, "INVALID_RESOURCE", "invalid", "Not an Appointment")
    assert isinstance(tree, dict)
    return tree


def _moment(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d[ +]0[01]:00)?", text):
        raise Refused(422, "INVALID_PARAMETER", "invalid", "Not a date or local time")
    return text.replace(" ", "+")  # a bare plus in a query is a space to whoever decodes it


def _days(first: str, last: str) -> int:
    return (date.fromisoformat(last[:10]) - date.fromisoformat(first[:10])) // timedelta(days=1)


def _bad(words: str) -> Refused:
    return Refused(400, "BAD_REQUEST", "invalid", words)


def _html() -> Refused:
    refused = _bad("")
    refused.said = Said(400, body=b"<html><body><h1>HTTP Status 400</h1></body></html>",
                        close=True, html=True)
    return refused


class _R4:
    """An ordinary R4 server for one request: reads, a paged search, a booking."""

    PAGE: Final = 20

    def __init__(self, system: ClinicalSystem, surgery: Surgery, request: web.Request) -> None:
        self._system = system
        self._surgery = surgery
        self._request = request

    def answer(self, rest: str, query: str, body: bytes) -> Said:
        """Return the answer, or raise Refused."""
        path, method = rest.removeprefix("/"), self._request.method
        if method == "POST" and path == "Appointment":
            return self._book(body)
        if method not in ("GET", "HEAD"):
            raise Refused(405, "BAD_REQUEST", "not-supported", "Not supported")
        if path == "metadata":
            return Said(200, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1",
                              "status": "active", "kind": "instance", "format": ["json"],
                              "rest": [{"mode": "server"}]})
        if path == "Patient":
            return self._patients(dict(parse_qsl(query)))
        if path == "Appointment":
            return self._appointments(dict(parse_qsl(query)))
        return self._read(path)

    def _read(self, path: str) -> Said:
        kind, _, id_ = path.partition("/")
        tree: Tree | None = None
        if kind == "Patient" and id_ in self._surgery.patients:
            tree = made.patient_resource(self._surgery.here, self._surgery.patients[id_], False)
            tree["meta"] = {"versionId": "1"}
        elif kind == "Appointment" and id_ in self._surgery.appointments:
            tree = dict(self._surgery.appointments[id_])
        if tree is None:
            raise Refused(404, "NO_RECORD_FOUND", "not-found", "No such resource")
        etag = f'W/"{tree["meta"]["versionId"]}"'
        if self._request.headers.get("If-None-Match") == etag:
            return Said(304, headers=(("ETag", etag),))
        return Said(200, tree, headers=(("ETag", etag), ("Cache-Control", "private")))

    def _patients(self, asked: dict[str, str]) -> Said:
        found = [who for who in self._surgery.here.patients
                 if asked.get("identifier", "").rpartition("|")[2] in ("", who.nhs)]
        try:
            size = max(1, min(int(asked.get("_count", self.PAGE)), 100))
            page = max(1, int(asked.get("page", "1")))
        except ValueError:
            raise _bad("_count and page are numbers") from None
        part = found[(page - 1) * size: page * size]
        tree = _searchset([made.patient_resource(self._surgery.here, who, False)
                           for who in part], len(found))
        if page * size < len(found):
            tree["link"] = [{"relation": "next",
                             "url": f"{self._base()}/Patient?_count={size}&page={page + 1}"}]
        return Said(200, tree, headers=(("Cache-Control", "private"),))

    def _appointments(self, asked: dict[str, str]) -> Said:
        patient = asked.get("patient", "").removeprefix("Patient/")
        return Said(200, _searchset(self._surgery.of_patient(patient, "0000", "9999")))

    def _book(self, body: bytes) -> Said:
        tree = _appointment(body)
        slot = _reference_id(tree["slot"][0]["reference"])
        if slot not in self._surgery.slots:
            raise Refused(422, "REFERENCE_NOT_FOUND", "not-found", "No such slot")
        if not self._surgery.is_free(slot):
            raise Refused(409, "DUPLICATE_REJECTED", "duplicate", "The slot is not free")
        booked = self._surgery.book(tree)
        return Said(201, booked, headers=(
            ("Location", f"{self._base()}/Appointment/{booked['id']}/_history/1"),))

    def _base(self) -> str:
        headers = self._request.headers
        if "X-Forwarded-Host" in headers:
            scheme, prefix = (headers.get("X-Forwarded-Proto", "http"),
                              headers.get("X-Forwarded-Prefix", ""))
            return f"{scheme}://{headers['X-Forwarded-Host']}{prefix}"
        return f"{self._system.base}/{self._surgery.here.ods}/R4"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


async def _run(args: argparse.Namespace) -> None:
    practices = [made.practice(ods, args.seed, datetime.now(UTC).date(), args.patients)
                 for ods in args.practice]
    listeners = dict(one.split("=", 1) for one in args.listen)
    over = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, over.set)
    async with ClinicalSystem(
            practices, listeners={name: _address(at) for name, at in listeners.items()},
            control=_address(args.control), strict=args.strict, pace=args.pace) as system:
        sys.stdout.write(json.dumps(system.ports) + "\n")
        sys.stdout.flush()
        await over.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a process of its own; the first line on stdout is JSON: each listener's port."""
    parser = argparse.ArgumentParser(prog="python -m chaos.clinical_system",
                                     description="a clinical system that does not exist")
    parser.add_argument("--listen", action="append", default=[], metavar="NAME=HOST:PORT")
    parser.add_argument("--control", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--practice", action="append", default=[], metavar="ODS")
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pace", type=float, default=0.1)
    parser.add_argument("--strict", action="store_true")
    args = parser.parse_args(argv)
    args.listen = args.listen or ["direct=127.0.0.1:0"]
    args.practice = args.practice or ["B81001", "A20047"]
    asyncio.run(_run(args))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
