"""What the whole daemon says over MQTT holds to the published document, from birth to leaving."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from gateway.core.asyncapi import mistakes
from gateway.core.telemetry import stray_strings
from tests.real.test_broker_trouble import GW, Scene, scene

DOCUMENT: Final = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "asyncapi.json").read_text())
IDS: Final = frozenset({GW, "B81001", "up", "fibre", "other", "anchor-0", "anchor-1"})


async def listen(there: Scene, heard: list[tuple[str, Any]], ready: asyncio.Event) -> None:
    async with there.broker.console("listener") as console:
        await console.subscribe("gpgw/1/+/up/#", qos=1)
        ready.set()
        async for message in console.messages:
            assert isinstance(message.payload, bytes)
            heard.append((message.topic.value, json.loads(message.payload)))


def test_the_stored_document_has_a_channel_for_each_kind() -> None:
    assert set(DOCUMENT["channels"]) == {"birth", "presence", "state", "hb", "evt", "want"}


async def test_all_that_the_daemon_says_holds_to_the_document_and_it_leaves_in_order(
        tmp_path: Path) -> None:
    heard: list[tuple[str, Any]] = []
    async with scene(tmp_path) as there:
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listen(there, heard, ready))
            await ready.wait()
            await there.p99_ms()
            await there.site.stop()
            await asyncio.sleep(0.5)
            listening.cancel()

    kinds = [topic.removeprefix(f"gpgw/1/{GW}/up/") for topic, _ in heard]
    assert {"birth", "presence", "state", "hb"} <= set(kinds)
    assert [told["b"]["st"] for _, told in heard if "st" in told.get("b", ())][-1] == "leaving"
    for kind, (_, told) in zip(kinds, heard, strict=True):
        schema = DOCUMENT["components"]["messages"][kind]["payload"]
        assert mistakes(told, schema) == ()
        version = told["b"]["version"] if kind == "birth" else "0"
        allowed = IDS | {version} | {row["b"].get("version", "0") for row in told.get("rows", ())}
        assert stray_strings(told, allowed) == ()
        assert "Patient" not in json.dumps(told)
