"""A link tried against real sockets: names, connections, handshakes, the end of a certificate."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.core.link import Link, Probe
from gateway.core.readiness import Connected
from gateway.edge.dial import Dialler
from gateway.edge.http_out import UpstreamAt
from gateway.edge.probe import LinkProber
from gateway.edge.resolver import LinkResolver
from gateway.edge.trial import LinkTrial
from tests.edge.test_http_out_tls import context
from tests.kit.gateway import free_port
from tests.kit.out import LoopClock
from tests.kit.pki import issue, make_ca
from tests.kit.raw_origin import RawOrigin


@contextlib.asynccontextmanager
async def trying(*upstreams: UpstreamAt, probes: tuple[Probe, ...] = ()
                 ) -> AsyncIterator[LinkTrial]:
    link = Link("fibre", 1, probes=probes)
    resolver = LinkResolver(link, LoopClock(), lambda sample: None)
    dialler = Dialler(link, resolver)
    try:
        yield LinkTrial(link, resolver, dialler, LinkProber(link, dialler, LoopClock(), 2.0),
                        {each.id: each for each in upstreams})
    finally:
        await resolver.close()


async def test_a_handshake_passes_with_the_upstreams_own_ca_and_tells_when_it_ends(
        tmp_path: Path) -> None:
    ca = make_ca(tmp_path)
    async with RawOrigin(tls=context(issue(ca, "origin"))) as origin:
        url = f"https://127.0.0.1:{origin.port}/x"
        ours = UpstreamAt("ours", url, str(ca.cert))
        async with trying(ours, UpstreamAt("other", url)) as trial:
            made = await trial.connect("ours")
            assert (made.connect, made.tls) == ("pass", "pass")
            assert made.ends is not None
            assert 29 < (made.ends - time.time()) / 86_400 < 31
            assert await trial.connect("other") == Connected("pass", "fail")


async def test_plain_http_has_no_handshake_and_a_closed_port_is_a_failure() -> None:
    async with RawOrigin() as origin:
        plain = UpstreamAt("plain", f"http://127.0.0.1:{origin.port}")
        shut = UpstreamAt("shut", f"https://127.0.0.1:{free_port()}")
        async with trying(plain, shut) as trial:
            assert await trial.connect("plain") == Connected("pass", "not_configured")
            assert await trial.connect("shut") == Connected("fail", "unknown")


async def test_an_address_asks_nobody_for_its_name() -> None:
    async with trying(UpstreamAt("plain", "http://127.0.0.1:1")) as trial:
        assert await trial.names("plain") == "not_configured"


async def test_a_name_that_nobody_knows_fails() -> None:
    async with trying(UpstreamAt("gone", "http://gone.invalid:1")) as trial:
        assert await trial.names("gone") == "fail"


async def test_probes_echo_and_only_echo_probes_have_a_ladder() -> None:
    async with RawOrigin() as origin:
        probe = Probe("anchor", "tcp", f"127.0.0.1:{origin.port}")
        async with trying(probes=(probe,)) as trial:
            (sample,) = await trial.echoes()
            assert sample.ok
            assert await trial.ladder((64, 1472)) == ()


async def test_another_name_that_failed_says_nothing_of_this_one() -> None:
    async with trying(UpstreamAt("here", "http://here.example:1"),
                      UpstreamAt("gone", "http://gone.example:1")) as trial:
        assert await trial.names("gone") == "fail"
        known = trial.resolver._name("here.example")
        known.addresses, known.failing = ("127.0.0.1",), False
        assert not trial.resolver.is_failing("here.example")
        assert trial.resolver.is_failing("gone.example")


async def test_another_issuer_than_the_pinned_fails_the_handshake(tmp_path: Path) -> None:
    ca = make_ca(tmp_path)
    async with RawOrigin(tls=context(issue(ca, "provider"))) as origin:
        url = f"https://127.0.0.1:{origin.port}"
        async with trying(UpstreamAt("right", url, str(ca.cert), issuer="practice-gateway test CA"),
                          UpstreamAt("wrong", url, str(ca.cert), issuer="NHS")) as trial:
            assert (await trial.connect("right")).tls == "pass"
            assert await trial.connect("wrong") == Connected("pass", "fail")
