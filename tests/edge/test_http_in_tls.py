"""TLS on the listener, client certificates, and the same door on uvloop."""

import asyncio
import ssl
from pathlib import Path

import pytest
import uvloop

from gateway.core.access import Client, Tenant
from gateway.core.message import Answer, Request, Streamed
from gateway.edge.http_in import DoorSettings
from tests.kit.bad_requests import CASES, GOOD, request
from tests.kit.door import KEY, ODS, VIA, Opened, Wire, flow, hashed, opened, tenants
from tests.kit.pki import Leaf, issue, make_ca


def settings(tmp_path: Path, **more: str | tuple[str, ...]) -> tuple[DoorSettings, Path]:
    ca = make_ca(tmp_path / "server", "server CA")
    leaf = issue(ca, "gateway.local", ("gateway.local", "127.0.0.1"))
    made = DoorSettings(
        via=VIA, address="127.0.0.1", certificate=str(leaf.cert), key=str(leaf.key),
        hosts=("gateway.local",), **more,  # type: ignore[arg-type]  # strings and tuples only
    )  # fmt: skip
    return made, ca.cert


async def secure(gateway: Opened, ca: Path, leaf: Leaf | None = None) -> Wire:
    context = ssl.create_default_context(cafile=str(ca))
    if leaf is not None:
        context.load_cert_chain(leaf.cert, leaf.key)
    return Wire(
        *await asyncio.open_connection(
            "127.0.0.1", gateway.door.port, ssl=context, server_hostname="gateway.local"
        )
    )


def keyless() -> bytes:
    return GOOD.replace(b"X-Gateway-Key: @KEY@\r\n", b"")


async def test_requests_pass_over_tls_and_say_so(tmp_path: Path) -> None:
    made, ca = settings(tmp_path)
    async with opened(settings=made) as gateway:
        wire = await secure(gateway, ca)
        own = request(target=b"https://Gateway.Local:%d/B81001/gpc/x" % gateway.door.port)
        await wire.send(gateway.render(own + GOOD))
        assert (await wire.answer())[0] == (await wire.answer())[0] == 200
        assert gateway.arrived[0].forwarded[1] == "https"
        wire.close()


async def test_nothing_under_tls_1_2_is_spoken(tmp_path: Path) -> None:
    made, ca = settings(tmp_path)
    async with opened(settings=made) as gateway:
        context = ssl.create_default_context(cafile=str(ca))
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(
                "127.0.0.1", gateway.door.port, ssl=context, server_hostname="gateway.local"
            )


async def test_a_certificate_names_its_client_by_ca_or_by_itself(tmp_path: Path) -> None:
    client_ca = make_ca(tmp_path / "clients", "client CA")
    hub = issue(client_ca, "hub", client=True)
    stranger = issue(client_ca, "stranger", client=True)
    who = [Tenant(ODS, (Client("hub", certificate_sha256=hub.fingerprint),
                        Client("booking", hashed(KEY))))]
    for more in ({"client_ca": str(client_ca.cert)},
                 {"client_certificates": (str(hub.cert),)}):
        made, ca = settings(tmp_path, **more)
        async with opened(settings=made, who=who) as gateway:
            wire = await secure(gateway, ca, hub)
            await wire.send(gateway.render(keyless()))
            assert (await wire.answer())[0] == 200
            assert gateway.arrived[-1].client == "hub"
            await wire.send(gateway.render(GOOD))
            assert (await wire.answer())[0] == 403, "key and certificate name two clients"
            wire.close()

            wire = await secure(gateway, ca)
            await wire.send(gateway.render(GOOD + keyless()))
            assert ((await wire.answer())[0], (await wire.answer())[0]) == (200, 403)
            wire.close()

    made, ca = settings(tmp_path, client_ca=str(client_ca.cert))
    async with opened(settings=made, who=who) as gateway:
        wire = await secure(gateway, ca, stranger)
        await wire.send(gateway.render(keyless() + GOOD))
        assert ((await wire.answer())[0], (await wire.answer())[0]) == (403, 403)
        wire.close()


async def test_a_certificate_of_another_ca_does_not_get_in(tmp_path: Path) -> None:
    trusted = make_ca(tmp_path / "clients", "client CA")
    forged = issue(make_ca(tmp_path / "forged", "client CA"), "hub", client=True)
    made, ca = settings(tmp_path, client_ca=str(trusted.cert))
    async with opened(settings=made) as gateway:

        async def ask() -> None:
            wire = await secure(gateway, ca, forged)
            await wire.send(gateway.render(GOOD))
            await wire.answer()

        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask()
        assert not gateway.arrived


async def test_a_cut_stream_is_seen_through_tls(tmp_path: Path) -> None:
    async def cut(request: Request) -> Answer:
        return Answer(200, "OK", (), Streamed(flow(b"abc", 1), 9))

    made, ca = settings(tmp_path)
    async with opened(cut, settings=made) as gateway:
        wire = await secure(gateway, ca)
        await wire.send(gateway.render(GOOD))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await wire.answer()


async def test_plain_http_on_the_tls_port_gets_nothing(tmp_path: Path) -> None:
    made, _ = settings(tmp_path)
    async with opened(settings=made) as gateway:
        wire = await gateway.connect()
        await wire.send(gateway.render(GOOD))
        assert KEY.encode() not in await wire.rest()
        assert not gateway.arrived


def test_the_door_is_the_same_on_uvloop() -> None:
    async def cut(request: Request) -> Answer:
        if request.target == "/cut":
            return Answer(200, "OK", (), Streamed(flow(b"abc", 1), 9))
        return Answer(200, "OK", (), b"hello")

    async def battery() -> None:
        quick = DoorSettings(via=VIA, address="::", head_s=2.0)
        async with opened(cut, settings=quick, who=tenants()) as gateway:
            for case in CASES:
                wire = await gateway.connect()
                await wire.send(gateway.render(case.raw + GOOD))
                statuses, _, _ = await wire.until_answers(1 + case.survives)
                assert statuses == [case.status] + [200] * case.survives, case.name
                wire.close()
            wire = await gateway.connect()
            await wire.send(gateway.render(request(target=b"/@ODS@/@UPSTREAM@/cut")))
            with pytest.raises(ConnectionResetError):
                await wire.rest()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(battery())
