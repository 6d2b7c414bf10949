"""A body that stops in the middle is hedged like a first byte that never came (order 4, rescue).

The real daemon with two links of loopback, each with an origin of its own: the preferred one's says
the head and half of the body of some answers, and then nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.kit.anchors import two_anchors
from tests.kit.gateway import KEY, Site, link, one_link_tables
from tests.kit.raw_origin import RawOrigin, Say, Seen

BODY = b'{"resourceType":"Bundle","type":"searchset","total":0,"x":"' + b"x" * 2000 + b'"}'
HEAD = (b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nCache-Control: no-store\r\n"
        b"Content-Length: %d\r\n\r\n" % len(BODY))
WHOLE = Say(HEAD + BODY)
HALF = Say(HEAD + BODY[:1000], "hang")
ONCE_S = 1.0
"""Less than the second after which any read that was not answered goes to another link."""


def halved(seen: Seen) -> Say:
    """Half an answer for whoever asks for half."""
    return HALF if b"half" in seen.line else WHOLE


@dataclass
class Place:
    """A running gateway and the origins behind its links."""

    site: Site
    session: aiohttp.ClientSession
    fibre: RawOrigin
    sim: RawOrigin

    async def read(self, name: str) -> tuple[int, bytes, float]:
        """One search: its status, its body, and how long it took."""
        began = time.monotonic()
        async with self.session.get(
                f"{self.site.base}/B81001/up/Slot?name={name}", headers={"X-Gateway-Key": KEY}
        ) as reply:
            return reply.status, await reply.read(), time.monotonic() - began


@asynccontextmanager
async def two_links(folder: Path) -> AsyncIterator[Place]:
    """A gateway whose reads go over the fibre, after enough of them to know how long they take."""
    async with AsyncExitStack() as stack:
        fibre, sim = [await stack.enter_async_context(RawOrigin(script))
                      for script in (halved, lambda seen: WHOLE)]
        anchors = await stack.enter_async_context(two_anchors())
        tables = one_link_tables(fibre.port, anchors, base_urls={
            "fibre": fibre.url("/base"), "sim": sim.url("/base")})
        tables["links"].append(link("sim", 2, anchors))
        site = await stack.enter_async_context(Site(folder, tables).running())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        place = Place(site, session, fibre, sim)
        for number in range(30):
            status, body, _ = await place.read(f"warm{number}")
            assert (status, body) == (200, BODY)
            await asyncio.sleep(0.02)
        yield place


async def test_a_body_that_stops_half_way_comes_whole_over_the_other_link(tmp_path: Path) -> None:
    async with two_links(tmp_path) as place:
        assert len(place.fibre.seen) >= 30
        before = len(place.sim.seen)
        status, body, took_s = await place.read("half")

        assert (status, body) == (200, BODY)
        assert took_s < ONCE_S
        assert [b"half" in seen.line for seen in place.sim.seen[before:]].count(True) == 1
