"""Who asks: tenants, their clients, and how a credential names one of them.

The tenant and client come from the credential alone (certificate fingerprint, API key, source
network) and must agree with the ``{ods}`` of the path; a token in the request proves nothing.

Rule 1: every credential that was presented must name the same client. A source network is not
        presented, only observed: it counts where nothing else was presented.
Rule 2: whoever is refused learns nothing. Unknown practice, unknown key and another practice's
        key get the same words, after the same comparisons, each of them in constant time.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.core.admission import Shares
from gateway.core.message import Headers, every
from gateway.core.wire import Refusal

KEY_FIELD: Final = "X-Gateway-Key"
PROXY_FIELD: Final = "Proxy-Authorization"


@dataclass(frozen=True, slots=True)
class Client:
    """A program or desk of a tenant.

    ``key_sha256`` is the lower-case hex SHA-256 of its API key; ``certificate_sha256`` that of its
    certificate in DER; ``networks`` are CIDR ranges. ``copies`` opts in to marked copy answers.
    ``pinned_link`` sends its traffic over one link while that link is usable (tests, drills).
    """

    id: str
    key_sha256: str = field(default="", repr=False)
    certificate_sha256: str = ""
    networks: tuple[str, ...] = ()
    copies: Literal["marked", "never"] = "never"
    pinned_link: str = ""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One practice by its ODS code, compared exactly (ODS codes are case-sensitive in URLs)."""

    ods: str
    clients: tuple[Client, ...]
    requests_max: int = 64
    body_bytes_max: int = 32 << 20
    shares: Shares = field(default_factory=Shares)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one request presented: ``keys`` are hex SHA-256 of API keys, one per field that held
    one; ``users`` are the names beside passwords, which must be the tenant's ODS code;
    ``certificate`` is the hex SHA-256 of the peer's certificate, ``""`` where it showed none.
    ``unreadable`` is True for a credential that is no Basic ``user:password``.
    """

    keys: tuple[str, ...] = field(default=(), repr=False)
    users: tuple[str, ...] = ()
    certificate: str = ""
    peer: str = ""
    unreadable: bool = False


REFUSED: Final = Refusal(
    403, "forbidden", "This credential gives no access to this practice through this gateway."
)


def credentials(headers: Headers, certificate: str, peer: str) -> Credentials:
    """Return what ``headers`` present beside ``certificate`` and the ``peer`` address.

    An API key stands in ``X-Gateway-Key``, or as the password of ``Proxy-Authorization: Basic``
    (RFC 7617), whose user is the ODS code.
    """
    keys = [_sha256(value) for value in every(headers, KEY_FIELD)]
    users: list[str] = []
    unreadable = False
    for value in every(headers, PROXY_FIELD):
        pair = _basic(value)
        if pair is None:
            unreadable = True
        else:
            users.append(pair[0])
            keys.append(_sha256(pair[1]))
    return Credentials(tuple(keys), tuple(users), certificate, peer, unreadable)


def identify(
    tenants: Iterable[Tenant], ods: str | None, shown: Credentials
) -> tuple[Tenant, Client] | Refusal:
    """Return whose request it is, or the one refusal that tells nothing.

    ``ods`` is the practice of the path, compared exactly; None where the path names none (an
    alias, a tunnel), and the credential alone decides.
    """
    if shown.unreadable:
        return REFUSED
    everyone = [(tenant, client) for tenant in tenants for client in tenant.clients]
    named = [_named_by(everyone, shown, presented) for presented in _presented(shown)]
    if not named:
        named = [_by_network(everyone, shown.peer, ods)]
    found = named[0]
    if found is None or any(other != found for other in named):
        return REFUSED
    wanted = (*shown.users, *(() if ods is None else (ods,)))
    return found if all(name == found[0].ods for name in wanted) else REFUSED


def _presented(shown: Credentials) -> Iterator[tuple[str, str]]:
    for key in shown.keys:
        yield "key", key
    if shown.certificate:
        yield "certificate", shown.certificate


def _named_by(
    everyone: list[tuple[Tenant, Client]], shown: Credentials, presented: tuple[str, str]
) -> tuple[Tenant, Client] | None:
    """Compare with every client, also after a match: the time tells nothing (rule 2)."""
    kind, value = presented
    found = None
    for tenant, client in everyone:
        held = client.key_sha256 if kind == "key" else client.certificate_sha256
        same = hmac.compare_digest(held.lower().encode(), value.encode())
        found = (tenant, client) if held and same else found
    return found


def _by_network(
    everyone: list[tuple[Tenant, Client]], peer: str, ods: str | None
) -> tuple[Tenant, Client] | None:
    """Return the only client whose networks hold ``peer``; two tenants in one network are told
    apart by the path, since the address alone speaks for both. The narrowest network wins."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    held = [
        (network.prefixlen, tenant, client)
        for tenant, client in everyone
        if ods is None or tenant.ods == ods
        for network in map(ipaddress.ip_network, client.networks)
        if address.version == network.version and address in network
    ]
    narrowest = max((prefix for prefix, _, _ in held), default=0)
    best = {(tenant, client) for prefix, tenant, client in held if prefix == narrowest}
    return best.pop() if len(best) == 1 else None


def _basic(value: str) -> tuple[str, str] | None:
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
