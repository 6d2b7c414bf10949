"""The shape of a configuration file: every table, key, default, unit and range.

Read by pydantic for validation and for the JSON Schema alike; ``config/practice.toml`` shows each
key with its reason. An unknown key is a mistake. Secrets stand here as references only
(``file:/path``, or ``env:NAME/rest`` for a file whose directory an environment variable names).
"""

from dataclasses import MISSING, fields
from typing import Annotated, Any, Final, Literal, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from gateway.core.cadence import CadenceRules
from gateway.core.failback import FailbackRules
from gateway.core.link import LinkRules
from gateway.core.quota import Plan as PlanRules
from gateway.core.readiness import ReadinessRules
from gateway.core.steer import SteerRules

Ident: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Ods: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{3,12}$")]
HostPort: TypeAlias = Annotated[str, StringConstraints(
    pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")]
OptionalHostPort: TypeAlias = Annotated[str, StringConstraints(
    pattern=r"^$|^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")]
Reference: TypeAlias = Annotated[str, StringConstraints(
    pattern=r"^$|^file:.+$|^env:[A-Za-z_][A-Za-z0-9_]*(/.+)?$")]
Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=r"^$|^[0-9a-f]{64}$")]
Url: TypeAlias = Annotated[str, StringConstraints(
    pattern=r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[^\s?#]*[^\s?#/])?$")]
Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]
Part: TypeAlias = Annotated[str, StringConstraints(
    pattern=r"^(carrier|exchange|firewall|concentrator|resolver|zone|power|duct):"
            r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
CalendarUrl: TypeAlias = Annotated[str, StringConstraints(
    pattern=r"^$|^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[^\s#]*)?$")]
Texts: TypeAlias = Annotated[tuple[str, ...], Field(strict=False)]

WORDS_FOR: Final[dict[str, str]] = {
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$": "letters, digits, - and _; 64 at most",
    r"^[A-Za-z0-9]{3,12}$": "an ODS code: 3 to 12 letters and digits",
    r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$": "host:port, IPv6 in brackets",
    r"^$|^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$": "host:port, IPv6 in brackets",
    r"^$|^file:.+$|^env:[A-Za-z_][A-Za-z0-9_]*(/.+)?$":
        'a reference, "file:/path" or "env:NAME", never the secret itself',
    r"^$|^[0-9a-f]{64}$": "64 lower-case hex digits (SHA-256)",
    r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[^\s?#]*[^\s?#/])?$":
        "http(s)://host[:port][/path] without query, fragment, user or last slash",
    r"^(carrier|exchange|firewall|concentrator|resolver|zone|power|duct):"
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}$":
        "kind:name; kinds: carrier exchange firewall concentrator resolver zone power duct",
    r"^$|^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[^\s#]*)?$":
        "http(s)://host[:port]/path without user or fragment",
    r"^$|^([01][0-9]|2[0-3]):[0-5][0-9]$": 'a time of day such as "08:00", or "" for closed',
}
"""What a pattern says to a person."""

SECRET_KEYS: Final = frozenset({"key", "key_sha256", "password", "device_key", "secret"})
"""Keys whose values no mistake ever repeats: people paste the secret itself."""


class Table(BaseModel):
    """A table of the file: frozen, no unknown keys, no coercion between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Gateway(Table):
    name: Ident = Field(description="this device; the common name of its MQTT certificate")
    state_dir: str = Field("/var/lib/practice-gateway", min_length=1,
                           description="directory for copies, outbox and keys")
    packs_dir: str = Field("", description="directory of packs beside those that come with us")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe line that is logged")
    clock: Literal["kernel", "always"] = Field(
        "kernel", description="kernel: wall time counts once it is synchronised; always: at once")
    drain_s: float = Field(30.0, ge=0, le=300,
                           description="seconds that requests in flight get after TERM")


class Listen(Table):
    address: str = Field("::", description="address of the proxy port; :: is every one")
    port: Port = Field(8443, description="the proxy port; 0 takes a free one")
    hosts: Texts = Field((), description="names by which clients call us")
    certificate: str = Field("", description="PEM chain of the listener; empty: plain HTTP")
    key: Reference = Field("", description="reference to its private key")
    client_ca: str = Field("", description="PEM of the CA of client certificates")
    line_bytes_max: int = Field(16384, ge=1024, le=1 << 20, description="bytes of request line")
    head_bytes_max: int = Field(65536, ge=4096, le=1 << 20, description="bytes of header fields")
    head_s: float = Field(10.0, gt=0, le=120, description="seconds for a whole head")
    idle_s: float = Field(75.0, gt=0, le=3600, description="seconds an idle connection lives")
    connections_max: int = Field(512, ge=1, le=65536, description="connections at once")


class Tunnel(Table):
    port: Port = Field(0, description="port for CONNECT; 0 is off")
    address: str = Field("::", description="address of that port")
    allow: Annotated[tuple[HostPort, ...], Field(strict=False)] = Field(
        (), description="host:port that may be reached")
    tunnels_max: int = Field(64, ge=1, le=4096, description="tunnels at once")


class Admin(Table):
    address: str = Field("127.0.0.1", description="loopback address")
    port: Port = Field(9464, description="/healthz /readyz /status /metrics; 0 takes a free one")


class Mqtt(Table):
    host: str = Field("", description="broker; empty sends no telemetry")
    port: Port = Field(8883, description="its port")
    hosts: dict[Ident, HostPort] = Field(
        default_factory=dict, description="host:port of the broker as seen over each link")
    ca_file: str = Field("", description="PEM of its CA; empty: plain MQTT, loopback only")
    certificate: str = Field("", description="PEM of our client certificate")
    key: Reference = Field("", description="reference to its private key")
    keep_alive_s: int = Field(20, ge=2, le=1200, description="seconds between signs of life")
    will_delay_s: int = Field(30, ge=0, le=3600, description="seconds until a silence is told")
    session_expiry_s: int = Field(900, ge=10, le=86400, description="seconds a session lives on")
    heartbeat_s: float = Field(10.0, ge=0.1, le=3600, description="seconds between heartbeats")
    heartbeat_metered_s: float = Field(60.0, ge=0.1, le=3600,
                                       description="the same while the active link is metered")
    outbox_bytes_max: int = Field(64 << 20, ge=16 << 20, le=16 << 30,
                                  description="bytes on disk for events that wait")


class Store(Table):
    bytes_max: int = Field(2 << 30, ge=1 << 20, le=1 << 40,
                           description="bytes on disk per tenant; the oldest copies go first")
    queue_max: int = Field(256, ge=1, le=65536, description="replies waiting to be stored")
    device_key: Reference = Field("", description="reference to the device key; empty: state_dir")


def table_of(rules: type[Any], name: str) -> type[Table]:
    """Return the table whose keys are the fields of a rules dataclass of core.

    Each limit is written once, in the field's ``metadata``: ranges and words come from there.
    """
    hints = get_type_hints(rules)
    columns: dict[str, Any] = {}
    for each in fields(rules):
        default = ... if each.default is MISSING else each.default
        columns[each.name] = (hints[each.name], Field(default, **each.metadata))
    return create_model(name, __base__=Table, **columns)


Judgement: Final = table_of(LinkRules, "Judgement")
Steering: Final = table_of(SteerRules, "Steering")
Failback: Final = table_of(FailbackRules, "Failback")
Cadence: Final = table_of(CadenceRules, "Cadence")
Readiness: Final = table_of(ReadinessRules, "Readiness")


class Probe(Table):
    id: Ident = Field(description="name of the target")
    kind: Literal["echo", "tcp", "tls", "http"] = Field(description="how it is asked")
    target: HostPort = Field(description="host:port, no upstream")
    path: str = Field("/", pattern=r"^/", description="path, for http")
    expect: str = Field("", max_length=4096, description="the body, for http, exactly")
    ca_file: str = Field("", description="PEM of the CA, for tls; empty: the system's")
    secret: Reference = Field("", description="reference to what the anchor shares, for echo")
    tls_target: OptionalHostPort = Field(
        "", description="host:port of the anchor's TLS, for echo where datagrams are filtered")


Plan: Final = table_of(PlanRules, "Plan")


class Link(Table):
    id: Ident = Field(description="name of the link")
    kind: str = Field("other", pattern=r"^[a-z0-9-]{1,20}$", description="fibre, sim, ...")
    priority: int = Field(ge=1, le=99, description="lower is preferred")
    interface: str = Field("", pattern=r"^$|^[^\s/]{1,15}$", description="bind by device")
    source: str = Field("", description="bind by address")
    metered: bool = Field(False, description="each byte costs")
    resolvers: Texts = Field((), description="its own DNS servers; empty: the system's")
    other_resolver: str = Field("", description="another operator's DNS server, asked over it")
    tcp_user_timeout_ms: int = Field(1500, ge=100, le=60000,
                                     description="age of unacknowledged data that ends a socket")
    plan: Plan | None = Field(  # type: ignore[valid-type]
        None, description="what a metered link's carrier sold")
    fate: Annotated[tuple[Part, ...], Field(strict=False)] = Field(
        (), max_length=16, description="what it would die with: kind:name")
    probes: Annotated[tuple[Probe, ...], Field(strict=False)] = Field(
        (), description="at least two targets that are no upstream")


class Client(Table):
    id: Ident = Field(description="name of the program or desk")
    key_sha256: Sha256 = Field("", description="SHA-256 of its API key")
    certificate: str = Field("", description="its certificate, PEM")
    certificate_sha256: Sha256 = Field("", description="fingerprint of its certificate (DER)")
    networks: Texts = Field((), description="networks from which it needs no credential, CIDR")
    copies: Literal["marked", "never"] = Field("never", description="whether it takes copies")
    pinned_link: str = Field("", description="its traffic over one link while that is usable")


class Tenant(Table):
    ods: Ods = Field(description="ODS code, exactly as in URLs")
    requests_max: int = Field(64, ge=1, le=4096, description="requests at once")
    reads_share: float = Field(0.9, ge=0, le=1, description="share of them that reads of slots, "
                               "lists and places may take; bookings and records may take all")
    other_share: float = Field(0.75, ge=0, le=1, description="share that what no pack names, and "
                               "bodies too large to hold, may take")
    body_bytes_max: int = Field(32 << 20, ge=1024, le=1 << 32, description="request body")
    clients: Annotated[tuple[Client, ...], Field(strict=False)] = Field(
        (), description="who may ask")


class Certificate(Table):
    certificate: str = Field(min_length=1, description="client certificate, PEM")
    key: Reference = Field(min_length=1, description="reference to its private key")


class Upstream(Table):
    id: Ident = Field(description="name in URLs: /{ods}/{upstream}/...")
    tenants: Texts = Field(min_length=1, description="tenants that may use it")
    base_url: Url = Field(description="service root, no last slash")
    base_urls: dict[Ident, Url] = Field(
        default_factory=dict, description="service root as reached over each link")
    pack: Ident = Field(description="the pack that describes its API")
    keep: Literal["off", "continuity", "http"] = Field("off", description="whether copies are kept")
    permitted_by: str = Field("", max_length=200, description="who permitted the copy")
    ca_file: str = Field("", description="PEM of its CA; empty: the system's")
    issuer: str = Field("", description="who must have issued its certificate: common name or "
                        "organisation; empty: any that ca_file vouches for")
    sni: str = Field("", description="name in the TLS handshake and certificate; empty: the host")
    canary: bool = Field(True, description="ask for its pack's canary: false where that needs a "
                         "credential there")
    forwarded: bool = Field(False, description="send X-Forwarded-Host, -Proto and -Prefix")
    aliases: Annotated[tuple[Url, ...], Field(strict=False)] = Field(
        (), description="http:// prefixes of absolute-form requests that mean this upstream")
    certificates: dict[Ods, Certificate] = Field(
        default_factory=dict, description="client certificate per tenant")


class Window(Table):
    id: Ident = Field(description="name of the work")
    link: Ident = Field(description="the link that it concerns")
    start: str = Field(description="Europe/London local time, or with an offset")
    end: str = Field(description="the same")
    drain_s: float = Field(300.0, ge=0, le=86400, description="seconds before it to leave the link")
    reason: str = Field("", max_length=200, description="for people; never sent anywhere")


class Calendar(Table):
    id: Ident = Field(description="name of the calendar")
    link: Ident = Field(description="the link that its work concerns")
    url: CalendarUrl = Field("", description="where it is fetched, over a link that works")
    file: str = Field("", description="or its path on this device")
    match: str = Field("", max_length=200, description="words sought in title and categories, "
                                                       "parted by |; empty takes all")
    ca_file: str = Field("", description="PEM of the CA of its https; empty: the system's")
    refresh_s: float = Field(3600.0, ge=1, le=86400, description="seconds between two readings")
    bytes_max: int = Field(1 << 20, ge=1024, le=16 << 20, description="bytes of the whole file")
    windows_max: int = Field(100, ge=1, le=200, description="windows taken from it, the next")
    drain_s: float = Field(300.0, ge=0, le=86400, description="seconds before it to leave the link")


class File(Table):
    """A whole configuration file."""

    gateway: Gateway
    listen: Listen = Listen()
    tunnel: Tunnel = Tunnel()
    admin: Admin = Admin()
    mqtt: Mqtt = Mqtt()
    store: Store = Store()
    judgement: Judgement = Field(default_factory=Judgement)  # type: ignore[valid-type]
    steering: Steering = Field(default_factory=Steering)  # type: ignore[valid-type]
    failback: Failback = Field(default_factory=Failback)  # type: ignore[valid-type]
    cadence: Cadence = Field(default_factory=Cadence)  # type: ignore[valid-type]
    readiness: Readiness = Field(default_factory=Readiness)  # type: ignore[valid-type]
    links: Annotated[tuple[Link, ...], Field(strict=False)] = Field(min_length=1)
    tenants: Annotated[tuple[Tenant, ...], Field(strict=False)] = Field(min_length=1)
    upstreams: Annotated[tuple[Upstream, ...], Field(strict=False)] = Field(min_length=1)
    maintenance: Annotated[tuple[Window, ...], Field(strict=False)] = ()
    calendars: Annotated[tuple[Calendar, ...], Field(strict=False)] = Field((), max_length=16)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, for editors."""
    return File.model_json_schema()
