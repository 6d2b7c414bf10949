"""One link, tried for a readiness run: names, connections, handshakes, certificates, echoes.

Law: nothing here raises for what the network does, and everything has an end. Sockets are bound and
names looked up as those of requests; each upstream's own trust and our certificate for it are used,
so that what passes here passes for a request as well. Nothing is sent over a connection made here.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.core.link import Link, Sample
from gateway.core.readiness import Connected, Result
from gateway.edge.dial import Dialler
from gateway.edge.http_out import UpstreamAt
from gateway.edge.http_wire import issuers
from gateway.edge.probe import LinkProber
from gateway.edge.resolver import LinkResolver

CONNECT_S: Final = 5.0
"""A SIM that slept needs two seconds for its first packet; a morning can wait for five."""


@dataclass(frozen=True, slots=True)
class LinkTrial:
    """Implements ``ports.Trial`` for ``link``."""

    link: Link
    resolver: LinkResolver
    dialler: Dialler
    prober: LinkProber
    upstreams: Mapping[str, UpstreamAt]

    async def names(self, upstream: str) -> Result:
        """Whether the upstream's host has an address over this link."""
        host = urlsplit(self.upstreams[upstream].base_url).hostname or ""
        if not await self.resolver.check(host):
            return "not_configured"  # an address, or the hosts file says it: nobody is asked
        return "fail" if self.resolver.is_failing(host) else "pass"

    async def connect(self, upstream: str) -> Connected:
        """Connect and shake hands; tell when the certificate that was shown ends."""
        at = self.upstreams[upstream]
        parts = urlsplit(at.base_url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        try:
            _, writer = await self.dialler.dial(parts.hostname or "", port, CONNECT_S)
        except OSError:
            return Connected("fail", "unknown" if secure else "not_configured")
        try:
            if not secure:
                return Connected("pass", "not_configured")
            async with asyncio.timeout(CONNECT_S):
                await writer.start_tls(_context(at), server_hostname=at.sni or parts.hostname)
            if at.issuer and at.issuer not in issuers(writer.transport):
                return Connected("pass", "fail")
            shown = writer.get_extra_info("peercert") or {}
            ends = shown.get("notAfter")
            return Connected("pass", "pass", None if ends is None
                             else float(ssl.cert_time_to_seconds(ends)))
        except (OSError, asyncio.IncompleteReadError):
            return Connected("pass", "fail")
        finally:
            writer.transport.abort()

    async def echoes(self) -> tuple[Sample, ...]:
        """Ask each probe target of the link once."""
        return tuple([await self.prober.ask(probe) for probe in self.link.probes])

    async def ladder(self, sizes: tuple[int, ...]) -> tuple[Sample, ...]:
        """Ask the first echo probe with packets of each of ``sizes``; nothing without one."""
        for probe in self.link.probes:
            if probe.kind == "echo":
                return await self.prober.ladder(probe, sizes)
        return ()


def _context(at: UpstreamAt) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=at.ca_file or None)
    for certificate, key in tuple(at.certificates.values())[:1]:
        made.load_cert_chain(certificate, key)
    return made
