"""Carrier, address and route: what is missing by table, and the real kernel's word in time."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chaos.rig.namespaces import Namespaces, visit, why_not
from gateway.core.link import Link, LinkRules, Sample
from gateway.edge.clock import SystemClock
from gateway.edge.netlink import Device, Netlink, lacking
from gateway.flow.board import Board

FIBRE = Link("fibre", 1, interface="a")
SIM = Link("sim", 2, source="10.77.2.2")
HERE = Device("a", True, frozenset({"10.77.1.2"}), True)
rig = pytest.mark.skipif(bool(why_not()), reason=f"NETLINK NOT TESTED ON A KERNEL: {why_not()}")


@pytest.mark.parametrize(("link", "devices", "seen", "lacks"), [
    (FIBRE, (HERE,), (), ""),
    (FIBRE, (), (), None),  # never there: no evidence
    (FIBRE, (), ("device",), "carrier"),  # deleted
    (FIBRE, (Device("a", False, HERE.addresses, True),), (), "carrier"),
    (FIBRE, (Device("a", True, frozenset(), True),), (), "address"),
    (FIBRE, (Device("a", True, HERE.addresses, False),), ("device",), ""),  # never had a route
    (FIBRE, (Device("a", True, HERE.addresses, False),), ("device", "route"), "route"),
    (FIBRE, (Device("b", True, HERE.addresses, True),), ("device",), "carrier"),
    (SIM, (HERE,), (), None),
    (SIM, (HERE,), ("device",), "address"),
    (SIM, (HERE, Device("w", True, frozenset({"10.77.2.2"}))), ("device",), ""),
    (SIM, (Device("w", False, frozenset({"10.77.2.2"})),), ("device",), "carrier"),
])
def test_what_a_link_lacks(link: Link, devices: tuple[Device, ...], seen: tuple[str, ...],
                           lacks: str | None) -> None:
    assert lacking(link, devices, seen) == lacks


class Heard:
    """What was told, and a way to wait for the next of it."""

    def __init__(self) -> None:
        self.samples: asyncio.Queue[Sample] = asyncio.Queue()

    async def next(self, link: str) -> Sample:
        async with asyncio.timeout(5):
            while True:
                sample = await self.samples.get()
                if sample.link == link:
                    return sample


@asynccontextmanager
async def watching(*links: Link) -> AsyncIterator[tuple[Namespaces, Heard]]:
    heard = Heard()
    async with Namespaces() as built:
        run(built, "edge", "route add default via 10.77.1.1 dev a metric 5")
        with visit(built.name("edge")):
            watch = Netlink(links, SystemClock("always"), heard.samples.put_nowait).start()
        try:
            yield built, heard
        finally:
            await watch.close()


def run(built: Namespaces, place: str, what: str) -> float:
    """Do it in ``place`` and return when it had been done."""
    subprocess.run(("ip", "-n", built.name(place), *what.split()), check=True)  # type: ignore[arg-type]
    return time.monotonic()


@rig
async def test_the_far_end_goes_down_and_comes_back_within_fifty_milliseconds() -> None:
    async with watching(FIBRE, SIM) as (built, heard):
        assert (await heard.next("fibre")).ok
        for _ in range(5):
            before = time.monotonic()
            run(built, "wan_a", "link set dev lan down")
            lost = await heard.next("fibre")
            took = time.monotonic() - before
            assert (lost.ok, lost.layer, lost.detail) == (False, "carrier", "carrier")
            assert took < 0.25, took  # `ip` itself included
            run(built, "wan_a", "link set dev lan up")
            assert (await heard.next("fibre")).ok
        assert heard.samples.qsize() <= 1  # the other link said once that it is there, no more


@rig
async def test_an_address_a_route_and_a_device_that_go_are_each_told_and_so_is_their_return(
) -> None:
    async with watching(FIBRE, SIM) as (built, heard):
        assert (await heard.next("fibre")).ok
        run(built, "edge", "route del default dev a")
        run(built, "edge", "route flush dev a via 10.77.1.1")
        assert (await heard.next("fibre")).detail == "route"
        run(built, "edge", "route add default via 10.77.1.1 dev a")
        assert (await heard.next("fibre")).ok
        run(built, "edge", "addr flush dev a")
        assert (await heard.next("fibre")).detail == "address"
        run(built, "edge", "link del dev a")
        assert (await heard.next("fibre")).detail == "carrier"
        run(built, "edge", "link add name a type veth peer name a-far")
        for line in ("link set dev a up", "link set dev a-far up", "addr add 10.77.1.2/30 dev a",
                     "route add default via 10.77.1.1 dev a"):
            run(built, "edge", line)
        async with asyncio.timeout(5):
            while not (told := await heard.next("fibre")).ok:
                assert told.layer == "carrier"
        run(built, "edge", "addr flush dev b")
        while (told := await heard.next("sim")).ok:
            assert told.detail == ""
        assert told.detail == "address"


@rig
async def test_a_flood_that_overruns_the_buffer_is_survived() -> None:
    async with watching(FIBRE) as (built, heard):
        assert (await heard.next("fibre")).ok
        many = "\n".join(f"route add 10.99.{n // 256}.{n % 256}/32 via 10.77.1.1 dev a"
                         for n in range(5000))
        subprocess.run(("ip", "-n", built.name("edge"), "-batch", "-"), input=many.encode(),  # noqa: ASYNC221
                       check=True)
        run(built, "wan_a", "link set dev lan down")
        assert (await heard.next("fibre")).detail == "carrier"


@rig
async def test_a_lost_carrier_moves_the_traffic_at_once() -> None:
    clock = SystemClock("always")
    board = Board((FIBRE, SIM), {"gpc": ("B81001",)}, LinkRules(), (), clock, lambda told: None)
    for link in ("fibre", "sim"):
        for _ in range(3):
            now = clock.now()
            board.see(Sample(link, "echo", "http", True, now, now, anchor=True, rtt_ms=1.0))
            await asyncio.sleep(0.03)
            board.tick()
    assert board.active() == "fibre"
    async with watching(FIBRE) as (built, heard):
        board.see(await heard.next("fibre"))
        run(built, "wan_a", "link set dev lan down")
        board.see(await heard.next("fibre"))  # and no tick
        assert board.state("fibre").state == "DOWN"
        assert board.state("fibre").cause == "LINK_DOWN"
        assert board.active() == "sim"


async def test_where_there_is_no_device_nothing_is_said_and_the_end_is_clean(
        caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    caplog.set_level("INFO")
    watch = Netlink((Link("x", 1), Link("y", 2, interface="no-such-dev")), SystemClock("always"),
                    heard.samples.put_nowait).start()
    await asyncio.sleep(0.1)
    await watch.close()
    await watch.close()
    assert heard.samples.empty()
    assert [record.getMessage() for record in caplog.records].count(
        "a link's device is not there; it is watched for") == 1
