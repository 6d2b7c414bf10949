"""The real daemon at 100 % of its plan: bookings and reads still flow, the rest waits."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from tests.kit.anchors import two_anchors
from tests.kit.gateway import KEY, Site, link, tenant
from tests.kit.raw_origin import RawOrigin, Say, Seen

HEADERS = {"X-Gateway-Key": KEY, "Content-Type": "application/fhir+json"}
BODY = b'{"resourceType":"Patient","id":"1"}'
SAID = Say(b"HTTP/1.1 200 \r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\n\r\n%s"
           % (len(BODY), BODY))


@contextlib.asynccontextmanager
async def site(folder: Path, links: tuple[str, ...]) -> AsyncIterator[tuple[Site, list[Seen]]]:
    """A gateway whose metered link has carried more than its plan, by the carrier's word."""
    arrived: list[Seen] = []

    def script(seen: Seen) -> Say:
        arrived.append(seen)
        return SAID

    async with RawOrigin(script) as origin, two_anchors() as ports:
        made = {"fibre": link("fibre", 1, ports), "sim": link("sim", 2, ports)}
        made["sim"] |= {"metered": True, "plan": {
            "month_bytes": 10_000_000, "carrier_bytes": 11_000_000,
            "carrier_at": datetime.now(UTC).isoformat()}}
        tables = {
            "links": [made[each] for each in links], "tenants": [tenant("B81001")],
            "upstreams": [{
                "id": "up", "tenants": ["B81001"], "base_url": origin.url("/base"),
                "base_urls": {each: origin.url("/base") for each in links}, "pack": "fhir-r4"}]}
        async with Site(folder, tables).running() as running:
            yield running, arrived


async def ask(where: Site, method: str, target: str, size: int = 0) -> tuple[int, str | None]:
    async with aiohttp.ClientSession() as session, session.request(
            method, f"{where.base}/B81001/up/{target}", headers=HEADERS,
            data=b"x" * size or None) as reply:
        await reply.read()
        return reply.status, reply.headers.get("Retry-After")


async def status(where: Site) -> dict[str, list[dict[str, object]]]:
    async with aiohttp.ClientSession() as session, session.get(
            f"http://127.0.0.1:{where.admin}/status") as reply:
        told: dict[str, list[dict[str, object]]] = json.loads(await reply.read())
        return told


async def test_a_spent_plan_stops_what_is_not_clinical_and_nothing_else(tmp_path: Path) -> None:
    async with site(tmp_path, ("sim",)) as (where, arrived):
        assert (await ask(where, "GET", "Patient/1"))[0] == 200
        assert (await ask(where, "POST", "Appointment", 200))[0] == 200
        assert (await ask(where, "POST", "ServiceRequest", 200))[0] == 200
        assert (await ask(where, "GET", "Location/7"))[0] == 200
        before = len([each for each in arrived if b"base" in each.line])

        for method, target, size in (("GET", "software/update.bin", 0),
                                     ("POST", "Binary", 2 << 20)):
            assert await ask(where, method, target, size) == (503, "300")

        assert len([each for each in arrived if b"base" in each.line]) == before
        plans = (await status(where))["plans"]
        assert [plan["overlay"] for plan in plans] == ["QUOTA_OUT"]


@pytest.mark.parametrize("target", ["software/update.bin", "Patient/1"])
async def test_over_the_link_without_a_meter_nothing_is_shed(tmp_path: Path, target: str) -> None:
    async with site(tmp_path, ("fibre", "sim")) as (where, _):
        await asyncio.sleep(0.5)
        assert (await ask(where, "GET", target))[0] == 200
