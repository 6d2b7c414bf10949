"""Bodies through the door: whole, streamed, compressed and chunked, both ways, equal by SHA-256."""

import asyncio
import gzip
import hashlib
import json
from pathlib import Path

import pytest

from gateway.core.message import WHOLE_BYTES_MAX, Answer, Ending, Request, Streamed
from tests.kit.door import flow, opened, posted, read

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"


def samples() -> list[tuple[str, bytes]]:
    """The published examples where they stand beside the project, and always some like them."""
    found = [(str(path.relative_to(SAMPLES)), path.read_bytes())
             for path in sorted(SAMPLES.rglob("*")) if path.is_file()]
    entry = {"resource": {"resourceType": "Slot", "start": "2026-11-20T08:55:00Z", "comment": "é"}}
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [entry] * 300}
    text = json.dumps(bundle, ensure_ascii=False, indent=1).encode()
    edges = [b"", b"\x00\r\n\r\n0\r\n\r\n", b"x" * WHOLE_BYTES_MAX, b"y" * (WHOLE_BYTES_MAX + 1)]
    return [*found, ("bundle", text), *((f"edge {len(edge)}", edge) for edge in edges)]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("squeezed", [False, True], ids=["plain", "gzip"])
async def test_every_sample_passes_both_ways_byte_for_byte(chunked: bool, squeezed: bool) -> None:
    """The reply carries what the request did, whole or streamed, framed as the request was."""
    received: list[str] = []

    async def echo(request: Request) -> Answer:
        body = await read(request.body)
        received.append(digest(body))
        assert request.chunked == chunked
        ending: Ending = "chunked" if chunked else "length"
        if isinstance(request.body, Streamed):
            assert len(body) > WHOLE_BYTES_MAX
            streamed = Streamed(flow(body), None if chunked else len(body))
            return Answer(200, "OK", (("Content-Encoding", "gzip"),), streamed, ending)
        return Answer(200, "OK", (("Content-Encoding", "gzip"),), body, ending)

    async with opened(echo) as gateway:
        wire = await gateway.connect()
        for name, plain in samples():
            body = gzip.compress(plain) if squeezed else plain
            fields = (b"Content-Encoding: gzip",) * squeezed
            raw = gateway.render(posted(body, chunked, *fields))
            async with asyncio.TaskGroup() as group:
                sent = group.create_task(wire.send(raw))
                status, head, back = await wire.answer()
                await sent
            assert status == 200, name
            assert received.pop() == digest(body) == digest(back), name
            assert (b"Transfer-Encoding: chunked" in head) == chunked
        wire.close()
