"""One TOML file, read once: read, parse, validate, freeze. Every mistake in one message.

``load`` returns a ``Config`` of core types and plain frozen settings, or raises
``ConfigMistakes`` that names each mistake as ``file: key = value: rule``. Secrets are never
values here, only paths of the files that hold them. There is no reload: restarting is cheap, and
is the tested way.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.config import files, packs, rules, tables
from gateway.config.mistakes import Mistakes, Where, validated
from gateway.config.times import to_wall
from gateway.core.access import Client, Tenant
from gateway.core.admission import Shares
from gateway.core.cadence import CadenceRules
from gateway.core.calendar import Calendar
from gateway.core.echo import SECRET_BYTES_MIN
from gateway.core.failback import FailbackRules
from gateway.core.link import Link, LinkRules, Probe
from gateway.core.maintenance import Window
from gateway.core.pack import Pack
from gateway.core.quota import Carrier, Plan
from gateway.core.readiness import ReadinessRules
from gateway.core.steer import SteerRules
from gateway.errors import ConfigMistakes


@dataclass(frozen=True, slots=True)
class Upstream:
    """One remote system. ``certificates`` maps a tenant to paths of (certificate, key)."""

    id: str
    tenants: tuple[str, ...]
    base_url: str
    pack: str
    base_urls: Mapping[str, str] = field(default_factory=dict)
    keep: Literal["off", "continuity", "http"] = "off"
    permitted_by: str = ""
    ca_file: str = ""
    sni: str = ""
    forwarded: bool = False
    aliases: tuple[str, ...] = ()
    certificates: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    canary: bool = True
    issuer: str = ""

    def url_over(self, link: str) -> str:
        """Return the service root as reached over ``link``."""
        return self.base_urls.get(link, self.base_url)


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without mistakes. All paths are absolute, all references resolved.

    ``client_pems`` are certificates that the listener trusts beside ``listen.client_ca``.
    ``device_key`` is a path, ``""`` where the key stands in the state directory.
    """

    path: Path
    gateway: tables.Gateway
    listen: tables.Listen
    tunnel: tables.Tunnel
    admin: tables.Admin
    mqtt: tables.Mqtt
    store: tables.Store
    rules: LinkRules
    links: tuple[Link, ...]
    tenants: tuple[Tenant, ...]
    upstreams: tuple[Upstream, ...]
    packs: Mapping[str, Pack]
    windows: tuple[Window, ...]
    client_pems: tuple[str, ...] = ()
    device_key: str = ""
    warnings: tuple[str, ...] = ()
    steering: SteerRules = field(default_factory=SteerRules)
    failback: FailbackRules = field(default_factory=FailbackRules)
    plans: Mapping[str, tuple[Plan, Carrier | None]] = field(default_factory=dict)
    cadence: CadenceRules = field(default_factory=CadenceRules)
    readiness: ReadinessRules = field(default_factory=ReadinessRules)
    calendars: tuple[Calendar, ...] = ()
    fates: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def state_dir(self) -> Path:
        """Where copies, outbox and keys live."""
        return Path(self.gateway.state_dir)


def load(path: Path, env: Mapping[str, str] | None = None, *, look: bool = True) -> Config:
    """Return the configuration in ``path``.

    ``env`` serves ``env:`` references (default: the process's). With ``look`` False the files
    that it points at are not looked for: for the shape of an example on another machine.

    Raises:
        ConfigMistakes: all that is wrong, in one pass.
    """
    mistakes = Mistakes(str(path))
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigMistakes((f"{path}: file: cannot be read: {error.strerror}",)) from None
    except UnicodeDecodeError:
        raise ConfigMistakes((f"{path}: file: must be UTF-8",)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigMistakes((f"{path}: file: must be TOML: {error}",)) from None
    file = validated(tables.File, raw, mistakes)
    if file is None:
        raise ConfigMistakes(tuple(mistakes.found))
    rules.check(file, mistakes)
    reader = _Reader(file, path.resolve().parent, os.environ if env is None else env, look,
                     mistakes)
    config = reader.config(path)
    if mistakes.found:
        raise ConfigMistakes(tuple(mistakes.found))
    return config


class _Reader:
    """Turns a valid file into a ``Config``, following what it points at."""

    def __init__(self, file: tables.File, base: Path, env: Mapping[str, str], look: bool,
                 mistakes: Mistakes) -> None:
        self.file = file
        self.base = base
        self.env = env
        self.look = look
        self.mistakes = mistakes
        self.pems: list[str] = []
        self.warned: list[str] = []

    def config(self, path: Path) -> Config:
        file = self.file
        known = self.packs()
        return Config(
            path,
            file.gateway.model_copy(update={"state_dir": str(self.base / file.gateway.state_dir)}),
            self.listen(), file.tunnel, file.admin, self.mqtt(), file.store,
            LinkRules(**file.model_dump(include={"judgement"})["judgement"]),
            tuple(self.link(n, each) for n, each in enumerate(file.links)),
            tuple(self.tenant(n, each) for n, each in enumerate(file.tenants)),
            tuple(self.upstream(n, each) for n, each in enumerate(file.upstreams)),
            known, self.windows(), tuple(self.pems),
            self.secret(file.store.device_key, ("store", "device_key")),
            (*rules.warnings(file, files.interfaces() if self.look else None), *self.warned),
            SteerRules(**file.model_dump(include={"steering"})["steering"]),
            FailbackRules(**file.model_dump(include={"failback"})["failback"]), self.plans(),
            CadenceRules(**file.model_dump(include={"cadence"})["cadence"]),
            ReadinessRules(**file.model_dump(include={"readiness"})["readiness"]),
            tuple(self.calendar(n, each) for n, each in enumerate(file.calendars)),
            {each.id: frozenset(each.fate) for each in file.links})

    def there(self, path: str, where: Where) -> str:
        """A path, looked for."""
        found = files.located(path, self.base)
        if found and self.look:
            files.must_read(found, where, self.mistakes)
        return found

    def secret(self, reference: str, where: Where) -> str:
        """The path behind a reference, looked for."""
        if not self.look:
            return reference.removeprefix("file:")
        try:
            found = files.resolve(reference, self.base, self.env)
        except ValueError as error:
            self.mistakes.add(where, str(error))
            return ""
        if found:
            files.must_read(found, where, self.mistakes)
        return found

    def shared(self, reference: str, where: Where) -> str:
        """The path of a secret shared with an anchor, looked at: how long, and open to whom."""
        path = self.secret(reference, where)
        if path and self.look:
            words, warning = files.look_at_secret(path, SECRET_BYTES_MIN)
            if words:
                self.mistakes.add(where, words)
            if warning and warning not in self.warned:
                self.warned.append(warning)
        return path

    def listen(self) -> tables.Listen:
        listen = self.file.listen
        return listen.model_copy(update={
            "certificate": self.there(listen.certificate, ("listen", "certificate")),
            "key": self.secret(listen.key, ("listen", "key")),
            "client_ca": self.there(listen.client_ca, ("listen", "client_ca"))})

    def mqtt(self) -> tables.Mqtt:
        mqtt = self.file.mqtt
        if not mqtt.host:
            return mqtt
        return mqtt.model_copy(update={
            "ca_file": self.there(mqtt.ca_file, ("mqtt", "ca_file")),
            "certificate": self.there(mqtt.certificate, ("mqtt", "certificate")),
            "key": self.secret(mqtt.key, ("mqtt", "key"))})

    def link(self, number: int, link: tables.Link) -> Link:
        probes = tuple(
            Probe(each.id, each.kind, each.target, each.path, each.expect,
                  self.there(each.ca_file, ("links", number, "probes", n, "ca_file")),
                  self.shared(each.secret, ("links", number, "probes", n, "secret")),
                  each.tls_target)
            for n, each in enumerate(link.probes))
        return Link(link.id, link.priority, link.kind, link.metered, link.interface, link.source,
                    link.resolvers, probes, link.tcp_user_timeout_ms, link.other_resolver)

    def plans(self) -> dict[str, tuple[Plan, Carrier | None]]:
        """The plans of metered links, with what the carrier said last."""
        found: dict[str, tuple[Plan, Carrier | None]] = {}
        for each in self.file.links:
            if each.plan is None:
                continue
            plan = Plan(**each.plan.model_dump())
            carrier = None
            if plan.carrier_bytes >= 0:
                try:
                    carrier = Carrier(plan.carrier_bytes, to_wall(plan.carrier_at, "start"))
                except ValueError:
                    continue  # noted by rules.check
            found[each.id] = (plan, carrier)
        return found

    def tenant(self, number: int, tenant: tables.Tenant) -> Tenant:
        clients = tuple(self.client(("tenants", number, "clients", n), each)
                        for n, each in enumerate(tenant.clients))
        return Tenant(tenant.ods, clients, tenant.requests_max, tenant.body_bytes_max,
                      Shares(tenant.reads_share, tenant.other_share))

    def client(self, where: Where, client: tables.Client) -> Client:
        digest = client.certificate_sha256
        pem = self.there(client.certificate, (*where, "certificate"))
        if pem and self.look and os.path.isfile(pem):
            digest = self.fingerprint(pem, digest, (*where, "certificate"))
            self.pems.append(pem)
        return Client(client.id, client.key_sha256, digest, client.networks, client.copies,
                      client.pinned_link)

    def fingerprint(self, pem: str, said: str, where: Where) -> str:
        try:
            found = files.fingerprint(pem)
        except ValueError as error:
            self.mistakes.add(where, str(error))
            return said
        if said and said != found:
            self.mistakes.add(where, "is not the certificate whose certificate_sha256 is given")
        return found

    def upstream(self, number: int, upstream: tables.Upstream) -> Upstream:
        here = ("upstreams", number)
        certificates = {
            ods: (self.there(pair.certificate, (*here, "certificates", ods, "certificate")),
                  self.secret(pair.key, (*here, "certificates", ods, "key")))
            for ods, pair in upstream.certificates.items()}
        return Upstream(
            upstream.id, upstream.tenants, upstream.base_url, upstream.pack, upstream.base_urls,
            upstream.keep, upstream.permitted_by, self.there(upstream.ca_file, (*here, "ca_file")),
            upstream.sni, upstream.forwarded, upstream.aliases, certificates,
            upstream.canary, upstream.issuer)

    def packs(self) -> dict[str, Pack]:
        """The packs that upstreams name, each read once."""
        extra = Path(files.located(self.file.gateway.packs_dir, self.base)) \
            if self.file.gateway.packs_dir else None
        found: dict[str, Pack] = {}
        seen: set[str] = set()
        for number, upstream in enumerate(self.file.upstreams):
            file = packs.find(upstream.pack, extra)
            if file is None:
                self.mistakes.add(("upstreams", number, "pack"), "no such pack; there are "
                                  + ", ".join(packs.known(extra)), upstream.pack)
            elif upstream.pack not in seen:
                pack = packs.read(file, self.mistakes.found)
                if pack is not None:
                    found[upstream.pack] = pack
            seen.add(upstream.pack)
        return found

    def calendar(self, number: int, calendar: tables.Calendar) -> Calendar:
        """A calendar; its file may come later, so it is not looked for: each reading does that."""
        return Calendar(**{
            **calendar.model_dump(), "file": files.located(calendar.file, self.base),
            "ca_file": self.there(calendar.ca_file, ("calendars", number, "ca_file"))})

    def windows(self) -> tuple[Window, ...]:
        found = []
        for each in self.file.maintenance:
            try:
                start, end = to_wall(each.start, "start"), to_wall(each.end, "end")
            except ValueError:
                continue  # noted by rules.check
            found.append(Window(each.id, each.link, start, end, each.drain_s, each.reason))
        return tuple(found)


def schema() -> dict[str, object]:
    """Return the JSON Schema of a configuration file."""
    return tables.schema()
