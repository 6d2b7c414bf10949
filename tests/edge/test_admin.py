"""The admin port over real loopback HTTP, and what Prometheus would read there."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.edge.admin import Admin

SNAPSHOT: dict[str, Any] = {
    "gateway": {"name": "B81001-a", "boot": 7, "uptime_s": 1.5, "clock_trusted": True},
    "links": [{"id": "fibre", "state": "DOWN", "active": False, "since_s": 3.0, "rtt_ms": None,
               "verdict": "BLACKHOLE"},
              {"id": "sim", "state": "UP", "active": True, "since_s": 9.0, "rtt_ms": 40.0}],
    "switches": 1,
    "modes": [{"tenant": "B81001", "upstream": "gpc", "mode": "BACKUP", "cause": "BLACKHOLE"}],
    "requests": [{"tenant": "B81001", "upstream": "gpc", "answered": "live", "count": 41}],
    "latency": {"le": [0.1, 1.0], "counts": [30, 40], "sum": 5.5, "count": 41},
    "stores": [{"tenant": "B81001", "state": "good", "copies": 12, "bytes": 34567,
                "kept_total": 15, "dropped_total": 2, "evicted_total": 1}],
    "outbox": {"rows": 3, "bytes": 400, "oldest_s": 12.5},
    "mqtt": {"connected": False}, "tunnels": {"open": 2},
    "steering": {
        "classes": [{"link": "fibre", "traffic": "small", "cost_s": 0.9, "left": True},
                    {"link": "sim", "traffic": "small", "cost_s": None, "left": False}],
        "returning": [{"link": "fibre", "share": 0.1}], "cleared": [{"link": "sim", "flows": 2}]},
}


class World:
    """What the admin port is told: a snapshot and whether we are ready."""

    def __init__(self) -> None:
        self.snapshot = dict(SNAPSHOT)
        self.ready = True


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def url(world: World) -> AsyncIterator[str]:
    admin = Admin("127.0.0.1", 0, lambda: world.snapshot, lambda: world.ready)
    await admin.start()
    yield f"http://127.0.0.1:{admin.port}"
    await admin.close()
    await admin.close()


async def get(url: str, **headers: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        return reply.status, reply.headers["Content-Type"], await reply.text()


def metrics(text: str) -> dict[tuple[str, str], float]:
    """Samples by (name, labels as ``k=v`` in order)."""
    return {(sample.name, " ".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))):
            sample.value
            for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
            for sample in family.samples}


async def test_ready_turns_with_the_gateway_and_health_does_not(world: World, url: str) -> None:
    assert (await get(url + "/readyz"))[0] == 200
    world.ready = False
    assert (await get(url + "/readyz"))[0] == 503
    assert (await get(url + "/healthz"))[0] == 200


async def test_status_is_the_snapshot(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(url + "/status") as reply:
        assert await reply.json() == SNAPSHOT


async def test_metrics_are_worked_out_of_the_snapshot(world: World, url: str) -> None:
    status, kind, text = await get(url + "/metrics")
    assert status == 200
    assert kind.startswith("application/openmetrics-text")
    found = metrics(text)
    assert found["gateway_link_state", "link=fibre state=DOWN"] == 1
    assert found["gateway_link_state", "link=fibre state=UP"] == 0
    assert found["gateway_link_active", "link=sim"] == 1
    assert found["gateway_mode", "mode=BACKUP tenant=B81001 upstream=gpc"] == 1
    assert found["gateway_requests_total", "answered=live tenant=B81001 upstream=gpc"] == 41
    assert found["gateway_switches_total", ""] == 1
    assert found["gateway_request_seconds_bucket", "le=1.0"] == 40
    assert found["gateway_request_seconds_count", ""] == 41
    assert found["gateway_store_copies", "tenant=B81001"] == 12
    assert found["gateway_store_kept_total", "tenant=B81001"] == 15
    assert found["gateway_outbox_oldest_seconds", ""] == 12.5
    assert found["gateway_mqtt_connected", ""] == 0
    assert found["gateway_class_cost_seconds", "link=fibre traffic=small"] == 0.9
    assert ("gateway_class_cost_seconds", "link=sim traffic=small") not in found
    assert found["gateway_class_left", "link=fibre traffic=small"] == 1
    assert found["gateway_ramp_share", "link=fibre"] == 0.1
    assert found["gateway_flows_on_wrong_link", "link=sim"] == 2
    assert ("gateway_link_rtt_ms", "link=fibre") not in found
    world.snapshot["outbox"] = {"rows": 4}
    assert metrics((await get(url + "/metrics"))[2])["gateway_outbox_rows", ""] == 4


async def test_no_row_can_bring_a_label_of_its_own(world: World, url: str) -> None:
    world.snapshot["requests"] = [{"tenant": "B81001", "upstream": "gpc", "answered": "live",
                                   "count": 1, "patient": "Marked", "path": "/Patient/1"}]
    text = (await get(url + "/metrics"))[2]
    assert "Marked" not in text
    assert "/Patient" not in text


async def test_an_empty_snapshot_is_no_error(world: World, url: str) -> None:
    world.snapshot = {}
    assert (await get(url + "/metrics"))[0] == 200


@pytest.mark.parametrize(("host", "status"), [
    ("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:9464", 200), ("[::1]", 200),
    ("evil.example", 403), ("127.0.0.1.evil.example:80", 403)])
async def test_a_page_that_reaches_us_by_its_own_name_reads_nothing(url: str, host: str,
                                                                    status: int) -> None:
    assert (await get(url + "/status", Host=host))[0] == status


async def test_what_is_not_there_is_404_and_nothing_can_be_changed(url: str) -> None:
    assert (await get(url + "/"))[0] == 404
    async with aiohttp.ClientSession() as session, session.post(url + "/status") as reply:
        assert reply.status == 405
