"""One link's names against a real name server that answers, lies, is slow, or is dead."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.instant import Mono
from gateway.core.link import Link, Sample
from gateway.edge import resolver as resolver_module
from gateway.edge.http_out import UpstreamAt
from gateway.edge.resolver import (
    FAILURE_S,
    KNOWN_GOOD_S,
    LOOKUP_S,
    NAMES_MAX,
    TTL_MAX_S,
    TTL_MIN_S,
    LinkResolver,
)
from tests.edge.test_http_out_tls import context
from tests.kit.name_server import NameServer, name_server
from tests.kit.out import LoopClock, asking, reply_of, sending
from tests.kit.pki import issue, make_ca
from tests.kit.raw_origin import RawOrigin


class ShiftedClock(LoopClock):
    """The machine's time, put forward at will: caches grow old, sockets stay real."""

    ahead_s = 0.0

    def now(self) -> Mono:
        return Mono(super().now() + self.ahead_s)


@contextlib.asynccontextmanager
async def resolving(server: NameServer, clock: ShiftedClock | None = None,
                    seen: list[Sample] | None = None) -> AsyncIterator[LinkResolver]:
    link = Link("fibre", 1, resolvers=(server.address,), source="127.0.0.1")
    made = LinkResolver(link, clock or ShiftedClock(),
                        (seen if seen is not None else list[Sample]()).append)
    try:
        yield made
    finally:
        await made.close()


async def addresses(resolver: LinkResolver, host: str = "gpc.example") -> list[str]:
    return [each["host"] for each in await resolver.resolve(host, 443)]


async def settled(resolver: LinkResolver, host: str = "gpc.example") -> None:
    """Wait for the lookup that goes on behind an answer from memory."""
    lookup = resolver._names[host].lookup
    if lookup is not None:
        await lookup


async def test_a_name_is_asked_of_this_links_own_server_and_kept_for_its_ttl() -> None:
    clock, seen = ShiftedClock(), list[Sample]()
    async with name_server(gpc=["127.0.0.1", "127.0.0.2"]) as server, \
            resolving(server, clock, seen) as resolver:
        for _ in range(5):
            assert await addresses(resolver) == ["127.0.0.1", "127.0.0.2"]
        assert server.asked == [("gpc.example", 1)]
        assert [(each.layer, each.target, each.ok) for each in seen] == [("dns", "own", True)]

        clock.ahead_s = 61
        assert await addresses(resolver) == ["127.0.0.1", "127.0.0.2"]
        assert not resolver.failing


@pytest.mark.parametrize(("ttl_s", "lives_s"), [(0, TTL_MIN_S), (10**6, TTL_MAX_S)])
async def test_a_ttl_has_a_floor_and_a_ceiling(ttl_s: int, lives_s: float) -> None:
    clock = ShiftedClock()
    async with name_server(gpc=["127.0.0.1"]) as server, resolving(server, clock) as resolver:
        server.ttl_s = ttl_s
        await addresses(resolver)
        name = resolver._names["gpc.example"]
        assert name.expires - name.learned == pytest.approx(lives_s)


async def test_an_answer_is_asked_for_again_before_it_ends_and_nobody_waits() -> None:
    clock = ShiftedClock()
    async with name_server(gpc=["127.0.0.1"]) as server, resolving(server, clock) as resolver:
        server.ttl_s = 1
        await addresses(resolver)
        server.names["gpc.example"] = ["127.0.0.9"]
        clock.ahead_s = TTL_MIN_S * 0.9
        assert await addresses(resolver) == ["127.0.0.1"]
        await settled(resolver)
        assert await addresses(resolver) == ["127.0.0.9"]


async def test_literals_and_the_hosts_file_need_no_server(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.3 local.example alias # said so\n::9 six.example\nrubbish x\n")
    async with name_server() as server:
        server.dead = True
        link = Link("fibre", 1, resolvers=(server.address,))
        resolver = LinkResolver(link, LoopClock(), lambda sample: None, str(hosts))
        assert await addresses(resolver, "127.0.0.8") == ["127.0.0.8"]
        assert await addresses(resolver, "::1") == ["::1"]
        assert await addresses(resolver, "ALIAS") == ["127.0.0.3"]
        assert await addresses(resolver, "six.example") == ["::9"]
        assert await addresses(resolver, "localhost") == ["127.0.0.1", "::1"]
        four = await resolver.resolve("localhost", 1, socket.AF_INET)
        assert [each["host"] for each in four] == ["127.0.0.1"]
        assert server.asked == []
        await resolver.close()


async def test_a_dead_server_is_waited_for_once_and_then_memory_answers_at_once() -> None:
    clock, seen = ShiftedClock(), list[Sample]()
    async with name_server(gpc=["127.0.0.1"]) as server, \
            resolving(server, clock, seen) as resolver:
        await addresses(resolver)
        server.dead, clock.ahead_s = True, 3600 * 24
        loop = asyncio.get_running_loop()

        started = loop.time()
        assert await addresses(resolver) == ["127.0.0.1"]
        assert loop.time() - started < LOOKUP_S + 1.0
        started = loop.time()
        await settled(resolver)
        for _ in range(50):
            assert await addresses(resolver) == ["127.0.0.1"]
        clock.ahead_s += FAILURE_S + 0.1
        assert await addresses(resolver) == ["127.0.0.1"]  # asked again, behind the answer
        assert resolver.failing == 1
        assert resolver.stale_answers == 52
        assert asyncio.get_running_loop().time() - started < LOOKUP_S * 3

        miss = seen[1]
        assert (miss.ok, miss.rtt_ms, miss.detail) == (False, None, "resolve")
        assert miss.at == pytest.approx(miss.sent_at + LOOKUP_S)


async def test_a_name_that_is_said_to_be_gone_is_still_answered_from_memory_and_heals() -> None:
    clock = ShiftedClock()
    async with name_server(gpc=["127.0.0.1"]) as server, resolving(server, clock) as resolver:
        server.ttl_s = 1
        await addresses(resolver)
        server.names.clear()
        clock.ahead_s = 100
        assert await addresses(resolver) == ["127.0.0.1"]
        assert resolver.failing == 1

        server.names["gpc.example"] = ["127.0.0.4"]
        clock.ahead_s += FAILURE_S + 0.1
        assert await addresses(resolver) == ["127.0.0.1"]
        await settled(resolver)
        assert await addresses(resolver) == ["127.0.0.4"]
        assert resolver.failing == 0


async def test_after_seven_days_even_memory_is_silent() -> None:
    clock = ShiftedClock()
    async with name_server(gpc=["127.0.0.1"]) as server, resolving(server, clock) as resolver:
        await addresses(resolver)
        server.dead, clock.ahead_s = True, KNOWN_GOOD_S + 1
        with pytest.raises(OSError, match="no address"):
            await addresses(resolver)


async def test_a_name_never_known_fails_fast_and_is_not_asked_again_for_a_second() -> None:
    async with name_server() as server, resolving(server) as resolver:
        for _ in range(5):
            with pytest.raises(OSError, match="no address"):
                await addresses(resolver)
        assert len(server.asked) == 1


async def test_a_slow_server_is_asked_once_for_all_who_wait_and_outlives_who_asked_first() -> None:
    async with name_server(gpc=["127.0.0.1"]) as server, resolving(server) as resolver:
        server.slow_s = 0.3
        async with asyncio.TaskGroup() as group:
            first = group.create_task(addresses(resolver))
            others = [group.create_task(addresses(resolver)) for _ in range(20)]
            await asyncio.sleep(0.05)
            first.cancel()
        assert all(each.result() == ["127.0.0.1"] for each in others)
        assert len(server.asked) == 1


async def test_a_dead_server_of_one_link_delays_no_other_link() -> None:
    async with name_server(gpc=["127.0.0.1"]) as good, name_server() as dead, \
            resolving(good) as resolver, resolving(dead) as other:
        dead.dead = True
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(other.resolve(f"n{n}.example", 1)) for n in range(30)]
            await asyncio.sleep(0.05)
            started = asyncio.get_running_loop().time()
            assert await addresses(resolver) == ["127.0.0.1"]
            assert asyncio.get_running_loop().time() - started < LOOKUP_S / 2
            for each in waiting:
                each.cancel()


async def test_names_remembered_are_bounded() -> None:
    async with name_server() as server, resolving(server) as resolver:
        for number in range(NAMES_MAX + 20):
            resolver._name(f"n{number}.example")
        assert len(resolver._names) == NAMES_MAX


async def test_a_lie_costs_a_handshake_and_not_the_request(tmp_path: Path) -> None:
    """The server sends everybody to 127.0.0.66, where a stranger's certificate waits."""
    ca, stranger = make_ca(tmp_path, "ours"), make_ca(tmp_path, "theirs")
    sans = ("gpc.example",)
    clock = ShiftedClock()
    async with name_server(gpc=["127.0.0.1"]) as server, \
            RawOrigin(tls=context(issue(ca, "gpc", sans))) as origin, \
            RawOrigin(tls=context(issue(stranger, "liar", sans)), host="127.0.0.66",
                      port=origin.port) as liar:
        server.ttl_s = 1
        link = Link("fibre", 1, resolvers=(server.address,))
        at = UpstreamAt("gpc", f"https://gpc.example:{origin.port}", str(ca.cert))
        resolver = LinkResolver(link, clock, lambda sample: None)
        async with sending(at, link=link, resolver=resolver) as sender:
            reply_of(await sender.send(asking()))
            server.names["gpc.example"] = ["127.0.0.66"]
            clock.ahead_s = 100
            sender.renew()
            reply_of(await sender.send(asking()))

            assert liar.seen == []
            assert liar.connections == 0 or len(origin.seen) == 2
            assert await addresses(resolver) == ["127.0.0.66", "127.0.0.1"]


async def test_without_servers_the_system_is_asked_in_threads_of_this_links_own(
        monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    hold = threading.Event()

    def slow(host: str) -> tuple[tuple[str, ...], float]:
        asked.append(f"{threading.current_thread().name}:{host}")
        hold.wait(5)
        return ("127.0.0.1",), 10.0

    monkeypatch.setattr(resolver_module, "_system", slow)
    blocked = LinkResolver(Link("a", 1), LoopClock(), lambda sample: None)
    free = LinkResolver(Link("b", 2), LoopClock(), lambda sample: None)
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(blocked.resolve(f"n{n}.example", 1)) for n in range(4)]
        await asyncio.sleep(0.05)
        other = group.create_task(free.resolve("b.example", 1))
        await asyncio.sleep(0.05)
        assert [each.split("_")[0] for each in asked] == ["dns-a", "dns-a", "dns-b"]
        hold.set()
    assert all(each.result() for each in [*waiting, other])
    await blocked.close()
    await free.close()


@pytest.mark.parametrize("host", ["", "zoë.example", "a" * 254, "a" * 64 + ".example", "a..b",
                                  "a b.example", "%", "a\x00b"])
async def test_what_is_no_name_of_a_host_has_no_address(host: str) -> None:
    async with name_server() as server, resolving(server) as resolver:
        with pytest.raises(OSError, match="no"):
            await addresses(resolver, host)


async def test_a_closed_resolver_fails_instead_of_hanging() -> None:
    async with name_server(gpc=["127.0.0.1"]) as server, resolving(server) as resolver:
        await resolver.close()
        with pytest.raises(OSError, match="no address"):
            await addresses(resolver)


@contextlib.asynccontextmanager
async def with_another(own: NameServer, other: NameServer, seen: list[Sample]
                       ) -> AsyncIterator[LinkResolver]:
    link = Link("fibre", 1, resolvers=(own.address,), source="127.0.0.1",
                other_resolver=other.address)
    made = LinkResolver(link, ShiftedClock(), seen.append)
    try:
        yield made
    finally:
        await made.close()


def told(seen: list[Sample]) -> list[tuple[str, bool]]:
    return [(each.target, each.ok) for each in seen]


async def test_where_its_own_server_is_silent_another_is_asked_over_the_same_link() -> None:
    seen = list[Sample]()
    async with name_server() as own, name_server(gpc=["127.0.0.1"]) as other, \
            with_another(own, other, seen) as resolver:
        own.dead = True
        assert await addresses(resolver) == ["127.0.0.1"]
        assert told(seen) == [("own", False), ("other", True)]
        assert not resolver.failing
        assert resolver.fresh("gpc.example") == ("127.0.0.1",)


async def test_a_probe_of_names_asks_both_servers_whatever_is_known() -> None:
    seen = list[Sample]()
    async with name_server(gpc=["127.0.0.1"]) as own, name_server(gpc=["127.0.0.1"]) as other, \
            with_another(own, other, seen) as resolver:
        await addresses(resolver)
        assert await resolver.check("gpc.example")
        assert (len(own.asked), len(other.asked)) == (2, 1)
        assert sorted(told(seen)) == [("other", True), ("own", True), ("own", True)]
        assert not await resolver.check("192.0.2.1")
        assert not await resolver.check("localhost")
        assert len(own.asked) == 2


async def test_what_another_link_knows_now_is_taken_before_what_was_known_once() -> None:
    seen = list[Sample]()
    clock = ShiftedClock()
    async with name_server(gpc=["127.0.0.1"]) as own, resolving(own, clock, seen) as resolver:
        await addresses(resolver)
        own.dead = True
        clock.ahead_s = 100.0
        resolver.elsewhere = lambda host: ("127.0.0.9",) if host == "gpc.example" else ()
        assert await addresses(resolver) == ["127.0.0.9"]
        assert resolver.stale_answers == 0
        assert resolver.fresh("gpc.example") == ()
        resolver.elsewhere = lambda host: ()
        assert await addresses(resolver) == ["127.0.0.1"]
        assert resolver.stale_answers == 1
