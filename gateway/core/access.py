"""Who asks: tenants, their clients, and how a credential names one of them.

The tenant and client come from the credential alone (certificate fingerprint, API key, source
network) and must agree with the ``{ods}`` of the path; a token in the request proves nothing.
"""

from dataclasses import dataclass, field
from typing import Literal


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
