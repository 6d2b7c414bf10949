"""The seams we reach through in aiohttp: held at start, so an upgrade cannot loosen them unseen."""

import asyncio

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from gateway.core.message import NeverLeft
from gateway.edge.http_out import UpstreamAt
from gateway.edge.http_wire import POOLED_S, LinkConnector, assert_aiohttp_is_the_one_we_know
from tests.kit.out import asking, reply_of, sending, until
from tests.kit.raw_origin import RawOrigin


async def test_a_session_that_would_retry_by_itself_does_not_start() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(RuntimeError, match="_retry_connection"):
            assert_aiohttp_is_the_one_we_know(session)
        session._retry_connection = False
        assert_aiohttp_is_the_one_we_know(session)


@pytest.mark.parametrize("seam", [
    "_create_direct_connection", "_wrap_create_connection", "_get", "_release", "_close"])
async def test_a_seam_that_changed_stops_the_start(seam: str,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    async with aiohttp.ClientSession() as session:
        session._retry_connection = False
        with monkeypatch.context() as patched:
            patched.setattr(aiohttp.TCPConnector, seam, lambda self: None)
            with pytest.raises(RuntimeError, match=seam):
                assert_aiohttp_is_the_one_we_know(session)


async def test_the_pools_key_has_the_field_that_keeps_tenants_apart() -> None:
    assert ConnectionKey._fields[6] == "proxy_headers_hash"


async def test_an_idle_connection_is_let_go_before_a_provider_would() -> None:
    assert POOLED_S < 60.0


async def test_the_flag_is_down_until_the_connection_is_handed_over(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised before that moment, even in our own connector, never left."""
    async def refuse(self: LinkConnector, *args: object, **kwargs: object) -> None:
        raise aiohttp.ServerDisconnectedError

    async with RawOrigin() as origin, sending(UpstreamAt("gpc", origin.url())) as sender:
        with monkeypatch.context() as patched:
            patched.setattr(LinkConnector, "_create_connection", refuse)
            assert await sender.send(asking(method="POST")) == NeverLeft("fibre", "connect")
        assert reply_of(await sender.send(asking())).status == 200


async def test_a_cancelled_wait_for_a_connection_leaves_nothing_behind() -> None:
    async with RawOrigin() as origin, sending(UpstreamAt("gpc", origin.url())) as sender:
        for turns in range(12):
            async with asyncio.TaskGroup() as group:
                send = group.create_task(sender.send(asking()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                send.cancel()
            assert sender.in_flight == 0
        await until(lambda: origin.open_now <= 1)
        assert not sender._epoch.connector._acquired
