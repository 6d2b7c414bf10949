"""One send is one arrival, whatever the method and however the connection dies.

aiohttp by itself sends GET, HEAD, OPTIONS, TRACE, PUT and DELETE twice (links.md §17); the last
test here shows that these tests would see it.
"""

import pytest

from gateway.core.message import NoAnswer
from gateway.edge.http_out import LinkSender, UpstreamAt
from tests.kit.out import HOST, asking, reply_of, sending
from tests.kit.raw_origin import RawOrigin, Say, Seen, Then

METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"]


def cutting(then: Then) -> RawOrigin:
    """An origin that answers the first ``/warm`` and cuts whatever else it has read."""
    def script(seen: Seen) -> Say:
        return Say() if b"/warm" in seen.line else Say(b"", then)

    return RawOrigin(script)


def arrivals(origin: RawOrigin) -> int:
    return sum(b"/warm" not in seen.line for seen in origin.seen)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("pooled", [False, True], ids=["fresh", "pooled"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_request_that_was_read_and_cut_arrives_once(method: str, pooled: bool,
                                                            then: Then) -> None:
    body = b"{}" if method in ("PUT", "POST", "PATCH") else b""
    async with cutting(then) as origin, sending(UpstreamAt("gpc", origin.url())) as sender:
        if pooled:
            reply_of(await sender.send(asking("/warm")))
        outcome = await sender.send(asking("/x", method, HOST, body))

        assert outcome == NoAnswer("fibre", "reset", fresh=not pooled)
        assert arrivals(origin) == 1
        assert origin.connections == 1


async def test_with_aiohttps_own_retry_the_origin_would_count_two(
        monkeypatch: pytest.MonkeyPatch) -> None:
    async with cutting("close") as origin, sending(UpstreamAt("gpc", origin.url())) as sender:
        _let_aiohttp_retry(sender, monkeypatch)
        await sender.send(asking("/x", "PUT", HOST, b"{}"))

        assert arrivals(origin) == 2


def _let_aiohttp_retry(sender: LinkSender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender._epoch.session, "_retry_connection", True)
