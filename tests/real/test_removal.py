"""What removes a copy and what does not: a 403 to the backup's address is evidence about that path.

Two links with source addresses of their own before one upstream that tells them apart, as a real
provider's allow-list does. The copy of a patient must survive every refusal over a path that never
granted anything, and must go with the first 403, 404 or 410 over one that did (design 5.2).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.kit.anchors import two_anchors
from tests.kit.door import Wire
from tests.kit.gateway import KEY, Site, link, tenant
from tests.kit.raw_origin import RawOrigin, Say, Seen

PRIMARY: Final = "127.0.0.2"
BACKUP: Final = "127.0.0.3"
TYPE: Final = b"Content-Type: application/fhir+json\r\n"
REFUSED: Final = (b'{"resourceType":"OperationOutcome","issue":[{"severity":"error",'
                  b'"code":"deleted"}]}')
"""A code that speaks of the patient (``subject_codes`` of the pack): where it counts, all goes."""


def reply(status: int, body: bytes) -> Say:
    """A reply with a length."""
    return Say(b"HTTP/1.1 %d \r\n" % status + TYPE + b"Content-Length: %d\r\n\r\n" % len(body)
               + body)


@dataclass
class Provider:
    """An upstream that knows its callers by address: ``says`` gives the status to each one."""

    says: dict[str, int] = field(default_factory=lambda: {PRIMARY: 200, BACKUP: 403})
    origin: RawOrigin = field(default_factory=RawOrigin)

    def script(self, seen: Seen) -> Say:
        """Answer ``/base/Patient/{id}`` as this caller is answered; 0 hangs up."""
        status = self.says[self.origin.peers[seen.connection - 1]]
        name = seen.line.split(b" ")[1].rsplit(b"/", 1)[1]
        if status == 200:
            return reply(200, b'{"resourceType":"Patient","id":"%s"}' % name)
        return Say(b"", "close") if not status else reply(status, REFUSED)


@contextlib.asynccontextmanager
async def site(folder: Path) -> AsyncIterator[tuple[Site, Provider]]:
    """A gateway with two links before a provider; client ``desk`` takes copies."""
    provider = Provider()
    async with RawOrigin(provider.script) as origin, two_anchors() as anchors:
        provider.origin = origin
        tables = {
            "links": [link("fibre", 1, anchors, source=PRIMARY),
                      link("sim", 2, anchors, source=BACKUP)],
            "tenants": [tenant("B81001")],
            "judgement": {"upstream_trial_s": 0.3},
            "upstreams": [{
                "id": "up", "tenants": ["B81001"], "base_url": origin.url("/base"),
                "pack": "fhir-r4", "keep": "continuity", "permitted_by": "the removal test"}]}
        pinned = {**tenant("B81001", KEY + "p")["clients"][0],  # type: ignore[index]
                  "id": "over-the-backup", "pinned_link": "sim"}
        tables["tenants"][0]["clients"].append(pinned)  # type: ignore[index]
        async with Site(folder, tables).running() as made:
            await both_up(made)
            yield made, provider


async def both_up(made: Site) -> None:
    """Wait until both links take new work: each proves itself first."""
    for _ in range(200):
        if {each["state"] for each in (await made.status())["links"]} == {"UP"}:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the links never proved themselves")


async def read(made: Site, name: str, pinned: bool = False) -> tuple[int, str, bytes]:
    """Ask for a patient: (status, the Continuity field, body)."""
    wire = Wire(*await asyncio.open_connection("127.0.0.1", made.port))
    key = KEY + ("p" if pinned else "")
    await wire.send(f"GET /B81001/up/Patient/{name} HTTP/1.1\r\nHost: gateway\r\n"
                    f"X-Gateway-Key: {key}\r\n\r\n".encode())
    status, head, body = await wire.answer()
    wire.close()
    mark = [line[12:].decode() for line in head.split(b"\r\n") if line.startswith(b"Continuity: ")]
    return status, mark[0] if mark else "", body


async def copies(made: Site) -> int:
    """How many copies the store holds, once it is at rest."""
    await made.stored()
    found: int = (await made.status())["stores"][0]["copies"]
    return found


async def fill(made: Site) -> None:
    """Keep two patients over the primary: that path is proven now."""
    for name in ("1", "2"):
        status, mark, _ = await read(made, name)
        assert (status, mark) == (200, "class=live; link=fibre")
    assert await copies(made) == 2


async def test_a_403_to_the_backups_address_wipes_nothing_and_reaches_nobody(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as (made, provider):
        await fill(made)
        for _ in range(20):
            status, mark, body = await read(made, "1", pinned=True)
            assert (status, mark) == (200, "class=live; link=fibre")
            assert body == b'{"resourceType":"Patient","id":"1"}'
        assert await copies(made) == 3, "both of the desk's, and one of the other client's own"
    refused = provider.origin.peers.count(BACKUP)
    assert refused, "the backup's address was never asked, so nothing was tested"


@pytest.mark.parametrize("status", [403, 410, *(pytest.param(each, marks=pytest.mark.full)
                                                for each in (401, 404, 407))])
async def test_without_the_primary_no_refusal_over_an_unproven_path_wipes_anything(
    tmp_path: Path, status: int
) -> None:
    async with site(tmp_path) as (made, provider):
        await fill(made)
        provider.says = {PRIMARY: 0, BACKUP: status}
        got = [(await read(made, "1", pinned))[0] for pinned in (True, False) * 3]
        assert await copies(made) == 2
        provider.says = {PRIMARY: 0, BACKUP: 0}
        answer = await read(made, "1")
        provider.says = {PRIMARY: 200, BACKUP: status}
        back = [await read(made, "1", pinned) for pinned in (True, False) * 4]
    assert set(got) <= {status, 200}
    assert answer[0] == 200
    assert answer[1].startswith("class=as-of")
    if status in (401, 403, 407):
        assert {each[0] for each in back} == {200}, "the primary grants"


@pytest.mark.parametrize("status", [403, *(pytest.param(each, marks=pytest.mark.full)
                                           for each in (404, 410))])
async def test_a_refusal_over_a_proven_path_removes_the_copy(tmp_path: Path, status: int) -> None:
    async with site(tmp_path) as (made, provider):
        await fill(made)
        provider.says = {PRIMARY: status, BACKUP: 0}
        assert (await read(made, "1"))[0] == status
        assert await copies(made) == 1
        provider.says = {PRIMARY: 0, BACKUP: 0}
        one, two = await read(made, "1"), await read(made, "2")
    assert one[0] in (502, 503, 504), "the removed copy is gone for good"
    assert two[0] == 200, "and the other patient's is not"
    assert two[1].startswith("class=as-of")


async def test_a_refusal_over_the_primary_while_the_backup_is_proven_too(tmp_path: Path) -> None:
    """Both paths have granted: a 404 over either is the provider's own word."""
    async with site(tmp_path) as (made, provider):
        provider.says = {PRIMARY: 200, BACKUP: 200}
        await fill(made)
        assert (await read(made, "2", pinned=True))[1] == "class=live; link=sim"
        provider.says = {PRIMARY: 200, BACKUP: 404}
        assert (await read(made, "1", pinned=True))[0] == 404
        assert await copies(made) == 2, "only the two of the other patient stay"
        provider.says = {PRIMARY: 0, BACKUP: 0}
        assert (await read(made, "1"))[0] in (502, 503, 504)
