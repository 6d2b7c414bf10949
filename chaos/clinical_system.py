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
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any, Final

from aiohttp import web

from chaos import practice as made
from chaos.gp_connect import GPC, GpConnect
from chaos.practice import Practice
from chaos.r4 import R4
from chaos.rig.relay import bound, linger_zero
from chaos.surgery import Refused, Said, Surgery, encoded, outcome

ARRIVALS_MAX: Final = 200_000
ANSWERS_PER_CONNECTION: Final = 100
IDLE_S: Final = 60.0
GZIP_FROM_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it arrived. ``token`` is the sender's own mark (a trace or request id).

    ``target`` and the bodies are digests (SHA-256, hex): a memory of requests must hold no
    patient either. ``reply_sha`` is of the body before any Content-Encoding. ``took_effect`` tells
    that a write changed something; ``peer`` is the address it came from. Times are seconds of the
    Unix epoch.
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
    peer: str = ""


@dataclass(slots=True)
class Trouble:
    """What is wrong with one scope now. All at rest: nothing is."""

    status: int = 0
    hung: bool = False
    gone: bool = False
    swallow: bool = False
    delay_s: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)


def sha(data: bytes) -> str:
    """Return the hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


class ClinicalSystem:
    """Serve ``practices`` on named listeners until left: ``async with ClinicalSystem(...)``.

    Give each link's relay a listener of its own, and every arrival tells which way it came.
    A listener called ``gpc.fibre`` is gone with ``gpc``; one without a dot with any system.
    ``pace`` scales the real provider's times (1.0: slot search 0.4 s, record 0.1 s). ``strict``
    asks for every header of GP Connect; without it those that are there must agree. ``tls`` are
    the files of a certificate and its key.
    """

    def __init__(self, practices: Sequence[Practice], *,
                 listeners: Mapping[str, tuple[str, int]] | None = None,
                 control: tuple[str, int] | None = ("127.0.0.1", 0), strict: bool = False,
                 pace: float = 0.1, now: Callable[[], float] = time.time,
                 tls: tuple[str, str] | None = None) -> None:
        self.surgeries = {here.ods: Surgery(here, now) for here in practices}
        self.arrivals: deque[Arrival] = deque(maxlen=ARRIVALS_MAX)
        self.troubles: dict[str, Trouble] = {}
        self.strict = strict
        self.pace = pace
        self.base = ""
        self._now = now
        self._tls: ssl.SSLContext | None = None
        if tls is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(*tls)
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
                site = web.SockSite(self._runner, bound(holder.getsockname()[:2], holder.family),
                                    ssl_context=self._tls)
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
        """Make a verb of ``weather.py`` (by its class's name) happen, or one of our own.

        ``Swallow`` does what is asked and never answers.
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
            case "UpstreamSlow":
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
        peer = request.transport.get_extra_info("peername") if request.transport else None
        names = {port: name for name, port in self.ports.items()}
        headers = request.headers
        self.arrivals.append(Arrival(
            self._serial, self._now(), names.get(sock[1] if sock else 0, "?"), system, ods,
            request.method, headers.get("Ssp-InteractionID", "").removeprefix(GPC),
            sha(raw.encode()), headers.get("Ssp-TraceID") or headers.get("X-Request-ID") or "",
            sha(body) if body else "", peer=str(peer[0]) if peer else ""))
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
                return R4(self, surgery, request).answer(rest, query, body)
            return await GpConnect(self, surgery, request).answer(rest, query, body)
        except Refused as no:
            return no.said

    def _mannered(self, request: web.Request, system: str,
                  said: Said) -> tuple[web.StreamResponse, bytes]:
        """Return ``said`` as the provider puts it on the wire, and its body before any coding."""
        plain = said.body if said.body is not None else (
            b"" if said.tree is None else encoded(said.tree))
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
    return Said(status, outcome("INTERNAL_SERVER_ERROR", "transient", "Not available"))


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
            control=_address(args.control), strict=args.strict, pace=args.pace,
            tls=tuple(args.tls) if args.tls else None) as system:
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
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    args = parser.parse_args(argv)
    args.listen = args.listen or ["direct=127.0.0.1:0"]
    args.practice = args.practice or ["B81001", "A20047"]
    asyncio.run(_run(args))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
