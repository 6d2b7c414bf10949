"""Rules between the tables of a configuration: what no single key can tell.

Each takes the whole file, mended where it was wrong, and notes what it finds.
"""

import ipaddress
from collections.abc import Iterable
from itertools import combinations
from urllib.parse import urlsplit

from gateway.config.mistakes import Mistakes, Where
from gateway.config.tables import File, Link, Upstream
from gateway.config.times import to_wall
from gateway.core.maintenance import shared
from gateway.core.quota import Plan as PlanRules


def check(file: File, mistakes: Mistakes) -> None:
    """Note every mistake between tables; the order is that of the file."""
    _unique(file, mistakes)
    _listener(file, mistakes)
    _mqtt(file, mistakes)
    for number, link in enumerate(file.links):
        _link(file, number, link, mistakes)
    _clients(file, mistakes)
    for number, upstream in enumerate(file.upstreams):
        _upstream(file, number, upstream, mistakes)
    _aliases(file, mistakes)
    _windows(file, mistakes)
    _calendars(file, mistakes)


def warnings(file: File, interfaces: frozenset[str] | None) -> list[str]:
    """Return what is allowed and yet should be looked at."""
    found = []
    if len(file.links) < 2:
        found.append("links: only one; with its death every upstream is gone")
    for number, link in enumerate(file.links):
        if link.interface and interfaces is not None and link.interface not in interfaces:
            found.append(f"links[{number}].interface: this machine has no {link.interface} now")
    for number, upstream in enumerate(file.upstreams):
        for url in (upstream.base_url, *upstream.base_urls.values()):
            parts = urlsplit(url)
            if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
                found.append(f"upstreams[{number}].base_url: plain http beyond this machine")
    if not file.listen.certificate and not is_loopback(file.listen.address):
        found.append("listen.certificate: none, so clients speak plain HTTP over the network")
    if {window.link for window in file.maintenance} >= {link.id for link in file.links}:
        found.append("maintenance: every link has a window; make sure that they do not overlap")
    for one, two, part in shared({link.id: frozenset(link.fate) for link in file.links}):
        found.append(f"links.fate: {one} and {two} share {part}: one fault takes both, so neither "
                     "is a backup for the other")
    return found


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this very machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _unique(file: File, mistakes: Mistakes) -> None:
    def each(table: str, key: str, values: Iterable[object]) -> None:
        seen: set[object] = set()
        for number, value in enumerate(values):
            if value in seen:
                mistakes.add((table, number, key), "is used twice", value)
            seen.add(value)

    each("links", "id", (link.id for link in file.links))
    each("links", "priority", (link.priority for link in file.links))
    each("tenants", "ods", (tenant.ods for tenant in file.tenants))
    each("upstreams", "id", (upstream.id for upstream in file.upstreams))
    each("calendars", "id", (calendar.id for calendar in file.calendars))
    each("maintenance", "id", (window.id for window in file.maintenance))


def _listener(file: File, mistakes: Mistakes) -> None:
    listen = file.listen
    _address(listen.address, ("listen", "address"), mistakes)
    _address(file.tunnel.address, ("tunnel", "address"), mistakes)
    if not is_loopback(file.admin.address):
        mistakes.add(("admin", "address"), "must be a loopback address: it asks nobody who he is",
                     file.admin.address)
    if listen.certificate and not listen.key:
        mistakes.add(("listen", "key"), "is needed with a certificate")
    if listen.client_ca and not listen.certificate:
        mistakes.add(("listen", "client_ca"), "needs a listener certificate: without TLS no "
                     "client shows one")
    if file.tunnel.port and not file.tunnel.allow:
        mistakes.add(("tunnel", "allow"), "must name what may be reached, or port be 0")


def _address(text: str, where: Where, mistakes: Mistakes) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        mistakes.add(where, "must be an IP address", text)


def _mqtt(file: File, mistakes: Mistakes) -> None:
    mqtt = file.mqtt
    if not mqtt.host:
        return
    if not mqtt.ca_file and not is_loopback(mqtt.host):
        mistakes.add(("mqtt", "ca_file"), "is needed: plain MQTT is for loopback only")
    if bool(mqtt.certificate) != bool(mqtt.key):
        mistakes.add(("mqtt", "key"), "certificate and key go together")
    if mqtt.session_expiry_s <= mqtt.will_delay_s:
        mistakes.add(("mqtt", "session_expiry_s"), "must be more than will_delay_s: a session "
                     "that ends lets the will out at once", mqtt.session_expiry_s)
    ids = {link.id for link in file.links}
    for name in sorted(set(mqtt.hosts) - ids):
        mistakes.add(("mqtt", "hosts", name), "no link has this id")


def _link(file: File, number: int, link: Link, mistakes: Mistakes) -> None:
    here = ("links", number)
    if link.interface and link.source:
        mistakes.add((*here, "source"), "either interface or source, not both", link.source)
    if link.source:
        _address(link.source, (*here, "source"), mistakes)
    if not link.interface and not link.source:
        without = [each.id for each in file.upstreams if link.id not in each.base_urls]
        if without:
            mistakes.add((*here, "interface"), "needs an interface or a source, or a base_urls."
                         f"{link.id} in every upstream (not in {', '.join(without)})")
    for index, resolver in enumerate(link.resolvers):
        _resolver(resolver, (*here, "resolvers", index), mistakes)
    if link.other_resolver:
        _resolver(link.other_resolver, (*here, "other_resolver"), mistakes)
        if link.other_resolver in link.resolvers:
            mistakes.add((*here, "other_resolver"), "must be another than the link's own",
                         link.other_resolver)
    _probes(file, here, link, mistakes)
    _plan(here, link, mistakes)


def _resolver(resolver: str, where: tuple[str | int, ...], mistakes: Mistakes) -> None:
    host, _, port = resolver.rpartition(":") if resolver.count(":") == 1 else (resolver, "", "")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        host = ""
    if not host or (port and not port.isdigit()):
        mistakes.add(where, "must be an IP address, or IPv4:port", resolver)


def _plan(here: tuple[str | int, ...], link: Link, mistakes: Mistakes) -> None:
    if link.plan is None:
        return
    plan = PlanRules(**link.plan.model_dump())
    if not link.metered:
        mistakes.add((*here, "plan"), "a link with a plan must be metered")
    if plan.carrier_bytes >= 0:
        try:
            to_wall(plan.carrier_at, "start")
        except ValueError as error:
            mistakes.add((*here, "plan", "carrier_at"), str(error), plan.carrier_at)


def _probes(file: File, here: tuple[str | int, ...], link: Link, mistakes: Mistakes) -> None:
    theirs = {place for upstream in file.upstreams for url in
              (upstream.base_url, *upstream.base_urls.values()) for place in _places(url)}
    good = set()
    ids: set[str] = set()
    for index, probe in enumerate(link.probes):
        host = probe.target.rpartition(":")[0]
        if probe.id in ids:
            mistakes.add((*here, "probes", index, "id"), "is used twice on this link", probe.id)
        ids.add(probe.id)
        if probe.target in theirs or host in theirs:
            mistakes.add((*here, "probes", index, "target"), "is an upstream: its silence would "
                         "not be the link's", probe.target)
        else:
            good.add(probe.target)
        if probe.kind == "http" and not probe.expect:
            mistakes.add((*here, "probes", index, "expect"), "an http probe needs the body that "
                         "it must find: a captive portal answers too")
        where = (*here, "probes", index)
        if probe.kind == "echo" and not probe.secret:
            mistakes.add((*where, "secret"), "an echo probe needs the secret that it shares with "
                         "its anchor (make one with: practice-gateway keys anchor)")
        for key in ("secret", "tls_target"):
            if probe.kind != "echo" and getattr(probe, key):
                mistakes.add((*where, key), f"is for echo probes only, this one is {probe.kind}")
    if len(good) < 2:
        mistakes.add((*here, "probes"), "needs at least two targets that are no upstream, so that "
                     f"one dead target is not a dead link (has {len(good)})")


def _places(url: str) -> set[str]:
    """``host:port`` of an upstream, and its host alone unless that is this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {f"{shown}:{port}"} | (set() if is_loopback(host) else {shown})


def _clients(file: File, mistakes: Mistakes) -> None:
    links = {link.id for link in file.links}
    keys: dict[str, str] = {}
    prints: dict[str, str] = {}
    for t, tenant in enumerate(file.tenants):
        ids: set[str] = set()
        for c, client in enumerate(tenant.clients):
            here = ("tenants", t, "clients", c)
            if client.id in ids:
                mistakes.add((*here, "id"), "is used twice in this tenant", client.id)
            ids.add(client.id)
            if client.pinned_link and client.pinned_link not in links:
                mistakes.add((*here, "pinned_link"), "no link has this id", client.pinned_link)
            has_certificate = bool(client.certificate or client.certificate_sha256)
            if not (client.key_sha256 or has_certificate or client.networks):
                mistakes.add((*here, "key_sha256"), "a client needs a key, a certificate or a "
                             "network")
            if has_certificate and not file.listen.certificate:
                mistakes.add((*here, "certificate"), "needs TLS on the listener "
                             "(listen.certificate)")
            elif client.certificate_sha256 and not (client.certificate or file.listen.client_ca):
                mistakes.add((*here, "certificate_sha256"), "needs the certificate itself "
                             "(certificate) or its CA (listen.client_ca): TLS takes it only so")
            for seen, value, key in ((keys, client.key_sha256, "key_sha256"),
                                     (prints, client.certificate_sha256, "certificate_sha256")):
                owner = f"{tenant.ods}/{client.id}"
                if value and value in seen:
                    mistakes.add((*here, key), f"is that of {seen[value]} too: one credential "
                                 "names one client")
                seen.setdefault(value, owner)
    _networks(file, mistakes)


def _networks(file: File, mistakes: Mistakes) -> None:
    known = []
    for t, tenant in enumerate(file.tenants):
        for c, client in enumerate(tenant.clients):
            for n, text in enumerate(client.networks):
                where = ("tenants", t, "clients", c, "networks", n)
                try:
                    known.append((ipaddress.ip_network(text), f"{tenant.ods}/{client.id}", where))
                except ValueError:
                    mistakes.add(where, 'must be a network such as "10.1.2.0/24"', text)
    for (one, owner, _), (two, other, where) in combinations(known, 2):
        if owner != other and one.version == two.version and one.overlaps(two):
            mistakes.add(where, f"overlaps a network of {owner}: one address names one client",
                         str(two))


def _upstream(file: File, number: int, upstream: Upstream, mistakes: Mistakes) -> None:
    here = ("upstreams", number)
    tenants = {tenant.ods for tenant in file.tenants}
    links = {link.id for link in file.links}
    for name in sorted(set(upstream.tenants) - tenants):
        mistakes.add((*here, "tenants"), f"no tenant has the ODS code {name}")
    for name in sorted(set(upstream.base_urls) - links):
        mistakes.add((*here, "base_urls", name), "no link has this id")
    for name in sorted(set(upstream.certificates) - set(upstream.tenants)):
        mistakes.add((*here, "certificates", name), "is no tenant of this upstream")
    if upstream.keep == "continuity" and not upstream.permitted_by.strip():
        mistakes.add((*here, "permitted_by"), 'keep = "continuity" needs who permitted it, such '
                     'as "DPIA 2026-014"')
    schemes = {urlsplit(url).scheme for url in (upstream.base_url, *upstream.base_urls.values())}
    if "https" not in schemes and (upstream.certificates or upstream.ca_file or upstream.sni
                                    or upstream.issuer):
        mistakes.add((*here, "base_url"), "certificates, ca_file, issuer and sni need https",
                     upstream.base_url)


def _aliases(file: File, mistakes: Mistakes) -> None:
    known: list[tuple[str, str]] = []
    for number, upstream in enumerate(file.upstreams):
        for index, alias in enumerate(upstream.aliases):
            where = ("upstreams", number, "aliases", index)
            if not alias.startswith("http://"):
                mistakes.add(where, "must be http://: an https request comes as CONNECT", alias)
            for other, owner in known:
                one, two = f"{alias}/", f"{other}/"
                if owner != upstream.id and (one.startswith(two) or two.startswith(one)):
                    mistakes.add(where, f"clashes with {other} of {owner}", alias)
            known.append((alias, upstream.id))


def _windows(file: File, mistakes: Mistakes) -> None:
    links = {link.id for link in file.links}
    for number, window in enumerate(file.maintenance):
        here = ("maintenance", number)
        if window.link not in links:
            mistakes.add((*here, "link"), "no link has this id", window.link)
        start = end = None
        try:
            start = to_wall(window.start, "start")
        except ValueError as error:
            mistakes.add((*here, "start"), str(error), window.start)
        try:
            end = to_wall(window.end, "end")
        except ValueError as error:
            mistakes.add((*here, "end"), str(error), window.end)
        if start is not None and end is not None and end <= start:
            mistakes.add((*here, "end"), "must be after start", window.end)


def _calendars(file: File, mistakes: Mistakes) -> None:
    links = {link.id for link in file.links}
    for number, calendar in enumerate(file.calendars):
        here = ("calendars", number)
        if calendar.link not in links:
            mistakes.add((*here, "link"), "no link has this id", calendar.link)
        if bool(calendar.url) == bool(calendar.file):
            mistakes.add((*here, "url"), "a calendar has either a url or a file")
        if calendar.ca_file and not calendar.url.startswith("https://"):
            mistakes.add((*here, "ca_file"), "is for an https url only", calendar.ca_file)
