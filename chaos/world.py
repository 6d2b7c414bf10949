"""A practice's whole world on one machine: clinical system, broker, anchor, links, gateway.

``world("relay" | "toxiproxy" | "namespaces", home, ...)`` starts everything as processes of its
own, in the order in which they need each other, and ends them in reverse. The gateway is reached
through its front doors only. In namespaces the caller itself then stands in ``edge``: what it
dials is dialled from there.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from chaos import broker
from chaos.rig.dns import Names
from chaos.rig.echo import ANCHOR
from chaos.rig.namespaces import CONTROL_UP, RESOLVERS, Namespaces, visit
from chaos.rig.pki import NAME, certify
from chaos.rig.relay import Forward, Relay, RelayRig
from chaos.rig.toxiproxy import Toxiproxies
from chaos.wanted import Wanted
from chaos.weather import (
    Heal,
    Rig,
    UpstreamGone,
    UpstreamHung,
    UpstreamSlow,
    UpstreamStatus,
    Verb,
)

RigName: TypeAlias = Literal["relay", "toxiproxy", "namespaces"]
LINKS: Final = ("fibre", "sim")
TENANTS: Final = ("B81001", "A20047")
HAS_BROKER: Final = "has a broker"
READY_S: Final = 20.0
LEAD_S: Final = 5.0
SETTLED_MOST_S: Final = 8.0
STOP_S: Final = 35.0  # the drain's 30 s and a little
SERVICE: Final = {"clinical": ("10.77.100.1", 8080), "r4": ("10.77.100.1", 8081),
                  "broker": ("10.77.100.2", 1883), "echo": ("10.77.100.3", 7)}
ECHO_PORT: Final = 4477
ANCHORS: Final = ("10.77.100.2", "10.77.100.3")
SECRET: Final = "a demonstration's own secret: nothing real is ever signed with it"
UPSTREAM_VERBS: Final = (UpstreamStatus, UpstreamGone, UpstreamHung, UpstreamSlow)
Place: TypeAlias = tuple[str, int]


def api_key(tenant: str, client: str) -> str:
    """Return the API key of a demonstration client; nothing real is ever opened by it."""
    return f"demo-{tenant}-{client}-0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Reach:
    """How the gateway gets at what stands upstream over one link.

    ``device`` binds by interface; without one each place is the link's own door on loopback.
    """

    link: str
    priority: int
    places: Mapping[str, Place]
    device: str = ""


def _ends_trouble(verb: Verb) -> bool:
    """Trouble counts from before it is made, and its end from after."""
    match verb:
        case (Heal() | UpstreamStatus(_, 0) | UpstreamGone(_, False) | UpstreamHung(_, False)
              | UpstreamSlow(_, 0)):
            return True
        case _:
            return False


def _at(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def configuration(wanted: Wanted, reaches: Sequence[Reach], state: Path, port: int, admin: int,
                  epoch: float) -> str:
    """Return the TOML of a gateway with two tenants, two links and a continuity copy."""
    parts = [f'''[gateway]
name = "{TENANTS[0]}-a"
state_dir = "{state}"
clock = "always"

[listen]
address = "127.0.0.1"
port = {port}
hosts = ["localhost"]

[admin]
port = {admin}

[judgement]
hold_s = {wanted.hold_s}
{wanted.judgement}
[failback]
step_s = {wanted.step_s}
wait_most_s = 0.0
''', _mqtt(wanted, reaches)]
    for reach in reaches:
        bind = f'interface = "{reach.device}"\n' if reach.device else ""
        bind += wanted.sim if reach.link == "sim" else ""
        if wanted.names:
            bind += f'resolvers = ["{RESOLVERS[reach.device]}"]\n'
        parts.append(f'[[links]]\nid = "{reach.link}"\nkind = "{reach.link}"\n'
                     f"priority = {reach.priority}\n{bind}"
                     f'[[links.probes]]\nid = "broker"\nkind = "tcp"\n'
                     f'target = "{_at(reach.places["broker"])}"\n'
                     f'[[links.probes]]\nid = "anchor"\nkind = "http"\n'
                     f'target = "{_at(reach.places["echo"])}"\npath = "/echo"\n'
                     f"expect = {json.dumps(ANCHOR)}\n")
        if wanted.anchors and reach.device:
            parts += [f'[[links.probes]]\nid = "echo{n}"\nkind = "echo"\n'
                      f'target = "{address}:{ECHO_PORT}"\nsecret = "file:{_secret(state.parent)}"\n'
                      for n, address in enumerate(ANCHORS, 1)]
    for tenant in TENANTS:
        parts.append(f'[[tenants]]\nods = "{tenant}"\nrequests_max = {wanted.requests_max}\n')
        for client, copies in (("desk", "marked"), ("strict", "never")):
            digest = hashlib.sha256(api_key(tenant, client).encode()).hexdigest()
            parts.append(f'[[tenants.clients]]\nid = "{client}"\nkey_sha256 = "{digest}"\n'
                         f'copies = "{copies}"\n')
    trust = f'ca_file = "{state.parent / "tls" / "upstream.pem"}"\nsni = "{NAME}"\n'
    parts += [_upstream(tenant, reaches, wanted, trust) + _r4(tenant, reaches, wanted, trust)
              for tenant in TENANTS]
    parts += [f'[[maintenance]]\nid = "CHG{n}"\nlink = "{link}"\nstart = "{_utc(epoch + start)}"\n'
              f'end = "{_utc(epoch + end)}"\ndrain_s = {drain_s}\n'
              for n, (link, start, end, drain_s) in enumerate(wanted.windows)]
    return "\n".join(parts)


def _secret(home: Path) -> Path:
    return home / "anchor.secret"


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))


def _mqtt(wanted: Wanted, reaches: Sequence[Reach]) -> str:
    if not wanted.telemetry:
        return '[mqtt]\nhost = ""\n'
    hosts = ", ".join(f'{reach.link} = "{_at(reach.places["broker"])}"' for reach in reaches)
    return (f'[mqtt]\nhost = "127.0.0.1"\nport = 1883\nhosts = {{ {hosts} }}\n'
            f"will_delay_s = {wanted.will_delay_s}\nheartbeat_s = 1.0\nkeep_alive_s = 5\n")


def upstream_id(tenant: str) -> str:
    """Return the id of the tenant's GP Connect upstream, as it stands in URLs."""
    return f"gpc-{tenant}"


def _root(wanted: Wanted, place: Place) -> str:
    """Where an upstream stands: by its name, or by its address."""
    scheme = "https" if wanted.tls else "http"
    return f"{scheme}://{NAME}:{place[1]}" if wanted.names else f"{scheme}://{_at(place)}"


def _upstream(tenant: str, reaches: Sequence[Reach], wanted: Wanted, trust: str) -> str:
    root = f"/{tenant}/STU3/1/gpconnect"
    text = (f'[[upstreams]]\nid = "{upstream_id(tenant)}"\ntenants = ["{tenant}"]\n'
            f'base_url = "{_root(wanted, reaches[0].places["clinical"])}{root}"\n'
            'pack = "gp-connect-stu3"\nkeep = "continuity"\npermitted_by = "demonstration"\n')
    text += trust if wanted.tls else ""
    if not reaches[0].device:
        urls = ", ".join(f'{reach.link} = "{_root(wanted, reach.places["clinical"])}{root}"'
                         for reach in reaches)
        text += f"base_urls = {{ {urls} }}\n"
    return text


def _r4(tenant: str, reaches: Sequence[Reach], wanted: Wanted, trust: str) -> str:
    """The tenant's second upstream: an ordinary FHIR R4 server, on listeners of its own."""
    text = (f'[[upstreams]]\nid = "r4-{tenant}"\ntenants = ["{tenant}"]\n'
            f'base_url = "{_root(wanted, reaches[0].places["r4"])}/{tenant}/R4"\n'
            'pack = "fhir-r4"\nkeep = "continuity"\npermitted_by = "demonstration"\n')
    text += trust if wanted.tls else ""
    if not reaches[0].device:
        urls = ", ".join(f'{reach.link} = "{_root(wanted, reach.places["r4"])}/{tenant}/R4"'
                         for reach in reaches)
        text += f"base_urls = {{ {urls} }}\n"
    return text


@dataclass(slots=True)
class World:
    """A world at work. Times are seconds of the Unix epoch."""

    rig: Rig
    home: Path
    port: int
    admin: int
    control: Place
    broker: Place | None  # None: no broker can be had here, and telemetry is off
    config: Path
    epoch: float  # when a story with maintenance windows begins: they are counted from here
    child: asyncio.subprocess.Process | None = None
    changes: list[tuple[float, Verb]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """The gateway's own log, of all its lives."""
        return self.home / "gateway.log"

    async def weather(self, verb: Verb) -> None:
        """Make ``verb`` happen, by the rig or, for an upstream's manners, by the upstream."""
        if not _ends_trouble(verb):
            self.changes.append((time.time(), verb))
        if isinstance(verb, UPSTREAM_VERBS):
            said = {"verb": type(verb).__name__, **dataclasses.asdict(verb)}
            status, _ = await fetch(self.control, "POST", "/__weather", json.dumps(said).encode())
            if status != 200:
                raise RuntimeError(f"the clinical system refused {said['verb']}: {status}")
        else:
            await self.rig.apply(verb)
        if _ends_trouble(verb):
            self.changes.append((time.time(), verb))

    async def start(self) -> float:
        """Start the gateway and wait for ``/readyz``; return the seconds that took."""
        began = time.monotonic()
        with self.log.open("ab") as out:
            self.child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "run", "--config", str(self.config),
                stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out)
        while time.monotonic() - began < READY_S and self.child.returncode is None:
            with contextlib.suppress(OSError, ValueError, IndexError):
                if (await fetch(("127.0.0.1", self.admin), "GET", "/readyz"))[0] == 200:
                    return time.monotonic() - began
            await asyncio.sleep(0.02)
        raise RuntimeError(f"the gateway is not ready:\n{_tail(self.log)}")

    async def settled(self) -> None:
        """Wait a while until a start that took the first link to answer is on the preferred one."""
        for _ in range(round(SETTLED_MOST_S / 0.1)):
            said = await self.status()
            if not said.get("steering", {}).get("returning", ()) and any(
                    link["id"] == LINKS[0] and link["active"] for link in said.get("links", ())):
                return
            await asyncio.sleep(0.1)

    async def kill(self) -> None:
        """kill -9."""
        if self.child is not None and self.child.returncode is None:
            self.child.kill()
            await self.child.wait()

    async def stop(self) -> None:
        """TERM, and KILL where that takes longer than a drain may."""
        child = self.child
        if child is None or child.returncode is not None:
            return
        child.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await child.wait()
        except TimeoutError:
            await self.kill()

    async def status(self) -> dict[str, Any]:
        """Return ``/status``, ``{}`` where nobody answers."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            code, body = await fetch(("127.0.0.1", self.admin), "GET", "/status")
            if code == 200:
                return dict(json.loads(body))
        return {}


async def fetch(place: Place, method: str, path: str, body: bytes = b"",
                within_s: float = 2.0) -> tuple[int, bytes]:
    """Ask once over a connection of its own; return (status, body). Raises OSError, ValueError."""
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection(*place)
        try:
            writer.write(f"{method} {path} HTTP/1.0\r\nHost: {_at(place)}\r\nContent-Type: "
                         f"application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            raw = await reader.read()
        finally:
            writer.close()
    head, _, found = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), found


@asynccontextmanager
async def world(rig: RigName, home: Path, wanted: Wanted | None = None,
                patients: int = 200) -> AsyncIterator[World]:
    """Build a world and let it run until the block is left.

    Raises:
        RuntimeError: something did not start; the message says what and shows its last words.
    """
    wanted = wanted or Wanted()
    tls = ("--tls", *map(str, certify(home / "tls"))) if wanted.tls else ()
    async with AsyncExitStack() as stack:
        made: Rig
        if rig == "namespaces":
            spaces = await stack.enter_async_context(Namespaces(*LINKS))
            inside = spaces.inside("up")
            places = await _services(stack, home, inside, SERVICE, CONTROL_UP, patients, tls)
            if wanted.anchors:
                await _anchors(stack, home, inside)
            if wanted.names:
                with visit(spaces.name("up")):
                    await _resolvers(stack)
            reaches = [Reach(link, n, SERVICE, device)
                       for n, (link, device) in enumerate(zip(LINKS, "ab", strict=True), 1)]
            stack.enter_context(visit(spaces.name("edge")))
            made = spaces
        else:
            free = dict.fromkeys(SERVICE, ("127.0.0.1", 0))
            places = await _services(stack, home, (), free, "127.0.0.1", patients, tls)
            doors = {link: [Forward(name, places.get(f"{name}-{link}") or places[name])
                            for name in SERVICE] for link in LINKS}
            made, ports = await _doors(stack, rig, doors)
            reaches = [Reach(link, n, {name: ("127.0.0.1", port)
                                       for name, port in ports[link].items()})
                       for n, link in enumerate(LINKS, 1)]
        yield await _gateway(stack, made, home, wanted, reaches, places)


async def _doors(stack: AsyncExitStack, rig: RigName, doors: Mapping[str, list[Forward]],
                 ) -> tuple[Rig, Mapping[str, Mapping[str, int]]]:
    if rig == "toxiproxy":
        toxic = await stack.enter_async_context(Toxiproxies(doors))
        return toxic, toxic.ports
    relays = [await stack.enter_async_context(Relay(link, doors[link])) for link in LINKS]
    return RelayRig(relays), {relay.link: relay.ports for relay in relays}


async def _services(stack: AsyncExitStack, home: Path, inside: tuple[str, ...],
                    at: Mapping[str, Place], control: str, patients: int,
                    tls: Sequence[str]) -> dict[str, Place]:
    """Start clinical system, anchor and broker; return where each listens."""
    host, port = at["clinical"]
    r4 = _at(at["r4"])
    # A dot says whose the listener is: "r4.sim" stays open when "gpc" is gone, and the reverse.
    listen = [f"--listen={owner}.{name}={place}" for owner, name, place in (
        *(("gpc", f"clinical-{link}", f"{host}:{port}") for link in LINKS if port == 0),
        *(("r4", f"r4-{link}", r4) for link in LINKS if port == 0),
        *((("gpc", "clinical", f"{host}:{port}"), ("r4", "r4", r4)) if port else ()))]
    said = await _start(stack, home / "clinical.log", (
        *inside, sys.executable, "-m", "chaos.clinical_system", *listen,
        f"--control={control}:0", f"--patients={patients}", "--pace=0.1", *tls))
    ports = json.loads(said)
    places: dict[str, Place] = {name.rpartition(".")[2]: (host, number)
                                for name, number in ports.items()}
    places["control"] = (control, ports["control"])
    said = await _start(stack, home / "echo.log", (
        *inside, sys.executable, "-m", "chaos.rig.echo", _at(at["echo"])))
    places["echo"] = (at["echo"][0], int(said.split()[1]))
    found = await _broker(stack, home, inside, at["broker"])
    places["broker"] = found or places["echo"]  # a second target to probe, whoever it is
    if found is not None:
        places[HAS_BROKER] = found
    return places


async def _resolvers(stack: AsyncExitStack) -> None:
    """Start each link's own name server: it knows the upstreams, by one name."""
    loop = asyncio.get_running_loop()
    for address in RESOLVERS.values():
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Names({NAME: SERVICE["clinical"][0]}), (address, 53))
        stack.callback(transport.close)


async def _anchors(stack: AsyncExitStack, home: Path, inside: tuple[str, ...]) -> None:
    """Start anchors of ours, as they would stand in two other networks."""
    secret = _secret(home)
    _write(secret, SECRET + "\n").chmod(0o600)
    for address in ANCHORS:
        await _start(stack, home / f"anchor-{address}.log", (
            *inside, sys.executable, "-m", "gateway", "anchor", "--listen",
            f"{address}:{ECHO_PORT}", "--secret", str(secret)))


async def _broker(stack: AsyncExitStack, home: Path, inside: tuple[str, ...],
                  at: Place) -> Place | None:
    """Start a broker, plain and open: a demonstration on loopback or in a namespace of ours."""
    program = await broker.find(Path.cwd() / ".tools")
    if program is None:
        return None
    host, port = at
    port = port or _free_port()
    env = [f"{name}={value}" for name, value in program.env.items()]
    argv = [*inside, *(["env", *env] if env else []), *program.argv(host, port, home)]
    await _start(stack, home / "broker.log", argv, says=False)
    return host, port


async def _start(stack: AsyncExitStack, log: Path, argv: Sequence[str], says: bool = True) -> str:
    """Start a program and return its first line; it is ended when the stack is left."""
    with log.open("wb") as errors:
        child = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stderr=errors,
            stdout=asyncio.subprocess.PIPE if says else errors)
    stack.push_async_callback(_end, child)
    if not says or child.stdout is None:
        return ""
    async with asyncio.timeout(READY_S):
        line = await child.stdout.readline()
    if not line:
        raise RuntimeError(f"{argv[-1]} did not start:\n{_tail(log)}")
    return line.decode()


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    await child.wait()


async def _gateway(stack: AsyncExitStack, rig: Rig, home: Path, wanted: Wanted,
                   reaches: Sequence[Reach], places: Mapping[str, Place]) -> World:
    port, admin = _free_port(), _free_port()
    epoch = float(int(time.time() + LEAD_S))
    wanted = dataclasses.replace(wanted, telemetry=HAS_BROKER in places)
    config = _write(home / "gateway.toml",
                    configuration(wanted, reaches, home / "state", port, admin, epoch))
    made = World(rig, home, port, admin, places["control"],
                 places.get(HAS_BROKER), config, epoch)
    keys = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "keys", "init", "--config", str(config),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT)
    try:
        out, _ = await keys.communicate()
    finally:  # a run that is stopped meanwhile leaves no process behind
        await _end(keys)
    if keys.returncode:
        raise RuntimeError(f"keys init failed:\n{out.decode(errors='replace')}")
    stack.push_async_callback(made.stop)
    await made.start()
    return made


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-3000:] if log.exists() else ""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])
