"""TLS on the way out: verified or not at all, and one tenant's identity is never another's."""

import ssl
from pathlib import Path

import pytest

from gateway.core.link import Sample
from gateway.core.message import NeverLeft, NoAnswer
from gateway.edge.http_out import UpstreamAt
from tests.kit.out import asking, reply_of, sending, until
from tests.kit.pki import Ca, Leaf, issue, make_ca
from tests.kit.raw_origin import OK, RawOrigin, Say


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return make_ca(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(ca: Ca) -> Leaf:
    return issue(ca, "provider")


def context(leaf: Leaf, client_ca: Ca | None = None) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(leaf.cert, leaf.key)
    if client_ca is not None:
        made.load_verify_locations(client_ca.cert)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def pair(leaf: Leaf) -> tuple[str, str]:
    return str(leaf.cert), str(leaf.key)


async def test_a_verified_upstream_is_asked_and_its_handshake_is_a_sample(
        ca: Ca, server: Leaf) -> None:
    seen: list[Sample] = []
    async with RawOrigin(tls=context(server)) as origin, \
            sending(UpstreamAt("gpc", origin.url(), str(ca.cert)), seen=seen) as sender:
        for _ in range(2):
            reply_of(await sender.send(asking()))

        assert [each.layer for each in seen] == ["connect", "tls", "request", "request"]
        assert all(each.ok for each in seen)
        assert origin.connections == 1


async def test_a_certificate_of_a_stranger_never_gets_a_byte(
        server: Leaf, tmp_path: Path) -> None:
    other, seen = make_ca(tmp_path, "stranger"), list[Sample]()
    async with RawOrigin(tls=context(server)) as origin, \
            sending(UpstreamAt("gpc", origin.url(), str(other.cert)), seen=seen) as sender:
        assert await sender.send(asking(method="POST")) == NeverLeft("fibre", "certificate")
        assert origin.seen == []
        assert (seen[-1].layer, seen[-1].ok, seen[-1].detail) == ("tls", False, "certificate")


async def test_a_certificate_for_another_name_never_gets_a_byte_but_sni_may_name_it(
        ca: Ca) -> None:
    wrong = issue(ca, "elsewhere", sans=("elsewhere.example",))
    async with RawOrigin(tls=context(wrong)) as origin:
        async with sending(UpstreamAt("gpc", origin.url(), str(ca.cert))) as sender:
            assert await sender.send(asking()) == NeverLeft("fibre", "certificate")
        assert origin.seen == []
        at = UpstreamAt("gpc", origin.url(), str(ca.cert), sni="elsewhere.example")
        async with sending(at) as sender:
            assert reply_of(await sender.send(asking())).status == 200


async def test_a_certificate_of_another_issuer_never_gets_a_byte_although_its_ca_is_trusted(
        ca: Ca, server: Leaf) -> None:
    """An estate's intercepting proxy: its authority is among those that the system trusts."""
    async with RawOrigin(tls=context(server)) as origin:
        pinned = UpstreamAt("gpc", origin.url(), str(ca.cert), issuer="NHS Level 1D")
        seen = list[Sample]()
        async with sending(pinned, seen=seen) as sender:
            assert await sender.send(asking(method="POST")) == NeverLeft("fibre", "certificate")
            assert await sender.warm("B81001", "gpc", 1) == 0
        assert origin.seen == []
        assert [(each.layer, each.detail) for each in seen if not each.ok] == [
            ("tls", "certificate")] * 2
        right = UpstreamAt("gpc", origin.url(), str(ca.cert), issuer="practice-gateway test CA")
        async with sending(right) as sender:
            assert reply_of(await sender.send(asking())).status == 200


async def test_without_a_ca_of_its_own_an_upstream_must_satisfy_the_systems(
        server: Leaf) -> None:
    async with RawOrigin(tls=context(server)) as origin, \
            sending(UpstreamAt("gpc", origin.url())) as sender:
        assert await sender.send(asking()) == NeverLeft("fibre", "certificate")


async def test_tls_below_1_2_is_refused_as_no_handshake(ca: Ca, server: Leaf) -> None:
    old = context(server)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with RawOrigin(tls=old) as origin, \
            sending(UpstreamAt("gpc", origin.url(), str(ca.cert))) as sender:
        assert await sender.send(asking()) == NeverLeft("fibre", "tls")


async def test_plain_http_on_a_tls_url_never_left(ca: Ca) -> None:
    async with RawOrigin() as origin, sending(UpstreamAt(
            "gpc", origin.url().replace("http:", "https:"), str(ca.cert))) as sender:
        outcome = await sender.send(asking(connect_s=0.5))
        assert isinstance(outcome, NeverLeft)
        assert outcome.cause == "tls"


async def test_each_tenant_shows_its_own_certificate_on_its_own_connections(
        ca: Ca, server: Leaf) -> None:
    certificates = {ods: pair(issue(ca, ods, sans=(), client=True)) for ods in ("B81001",
                                                                               "B81002")}
    async with RawOrigin(tls=context(server, ca)) as origin:
        at = UpstreamAt("gpc", origin.url(), str(ca.cert), certificates=certificates)
        async with sending(at) as sender:
            for tenant in ("B81001", "B81002", "B81001", "B81002"):
                reply_of(await sender.send(asking(f"/{tenant}", tenant=tenant)))
            assert await sender.warm("B81002", "gpc", 2) == 2

            shown = [(seen.line.split()[1], origin.subjects[seen.connection - 1])
                     for seen in origin.seen]
            assert shown == [(b"/B81001", "B81001"), (b"/B81002", "B81002")] * 2
            await until(lambda: origin.connections == 3)
            assert origin.subjects[2] == "B81002"

            nobody = await sender.send(asking(tenant="B81003"))
            assert isinstance(nobody, NeverLeft | NoAnswer)
            assert len(origin.seen) == 4


async def test_a_close_while_idle_is_no_fault_over_tls_either(ca: Ca, server: Leaf) -> None:
    seen: list[Sample] = []
    async with RawOrigin(lambda request: Say(OK, "close"), tls=context(server)) as origin, \
            sending(UpstreamAt("gpc", origin.url(), str(ca.cert)), seen=seen) as sender:
        for _ in range(5):
            reply_of(await sender.send(asking()))
            await until(lambda: origin.open_now == 0)
        assert all(each.ok for each in seen)


async def test_files_that_cannot_be_read_are_named_when_the_sender_is_made(
        ca: Ca, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        async with sending(UpstreamAt("gpc", "https://a.example", str(tmp_path / "none.pem"))):
            raise AssertionError("it was made")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    certificates = {"B81001": (str(empty), "")}
    with pytest.raises(ssl.SSLError):
        async with sending(UpstreamAt("gpc", "https://a.example", str(ca.cert),
                                      certificates=certificates)):
            raise AssertionError("it was made")
