"""What tests of one link's way out share: a clock that reads the loop, a sender, an outbound."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from gateway.core.link import Link, Sample
from gateway.core.message import Arrived, Headers, Outbound, Outcome, Reply, Streamed
from gateway.edge.clock import SystemClock
from gateway.edge.http_out import LinkSender, UpstreamAt
from gateway.edge.resolver import LinkResolver

FIBRE = Link("fibre", priority=1)
HOST: Headers = (("Host", "provider.example"),)


class LoopClock(SystemClock):
    """The machine's own time, its wall trusted: for doors, tested against real sockets."""

    def __init__(self) -> None:
        super().__init__("always")


@contextlib.asynccontextmanager
async def sending(*upstreams: UpstreamAt, link: Link = FIBRE, seen: list[Sample] | None = None,
                  connections_max: int = 512, path_connections_max: int = 128,
                  resolver: LinkResolver | None = None, acks: bool = False
                  ) -> AsyncIterator[LinkSender]:
    """A LinkSender over loopback, closed afterwards with its resolver. ``acks``: ``seen`` also gets
    what the gate saw of bytes under way, which depends on the machine's speed."""
    clock, samples = LoopClock(), seen if seen is not None else []

    def see(sample: Sample) -> None:
        if acks or sample.layer != "ack":
            samples.append(sample)

    resolver = resolver or LinkResolver(link, clock, samples.append)
    at: Mapping[str, UpstreamAt] = {each.id: each for each in upstreams}
    sender = LinkSender(link, at, resolver, see, clock,
                        connections_max=connections_max, path_connections_max=path_connections_max)
    try:
        yield sender
    finally:
        await sender.close()
        await resolver.close()


def asking(target: str = "/Slot", method: str = "GET", headers: Headers = HOST,
           body: bytes | Streamed = b"", *, tenant: str = "B81001", upstream: str = "gpc",
           chunked: bool = False, connect_s: float = 1.5, patience_s: float = 10.0,
           idle_s: float = 5.0) -> Outbound:
    """An outbound with patience fit for a busy machine."""
    return Outbound(tenant, upstream, method, target, headers, body, chunked, connect_s,
                    patience_s, idle_s)


def reply_of(outcome: Outcome) -> Reply:
    """The reply of an outcome that must have arrived."""
    assert isinstance(outcome, Arrived), outcome
    return outcome.reply


async def poured(body: bytes | Streamed) -> bytes:
    """All of a body, streamed or not."""
    if isinstance(body, bytes):
        return body
    assert isinstance(body.source, AsyncIterator)
    return b"".join([piece async for piece in body.source])


async def until(condition: Callable[[], object], patience_s: float = 5.0) -> None:
    """Wait until ``condition()`` holds; fail when it does not."""
    for _ in range(int(patience_s / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to hold")
