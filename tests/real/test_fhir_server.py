"""A FHIR server and a client that no one here wrote, with the gateway between them.

The server is Medplum's router (``server.mjs``), or any R4 server that ``FHIR_UPSTREAM_URL`` names;
the client is fhirpy. It is loaded with generated patients, read, searched, and paged over three
pages whose ``next`` links must lead back through the gateway.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio
from fhirpy import AsyncFHIRClient
from fhirpy.base.exceptions import ResourceNotFound
from yarl import URL

from tests.real.daemon import GATEWAY_KEY, KEY, base_config, free_port, gateway

HERE: Final = Path(__file__).parent
NAMED: Final = os.environ.get("FHIR_UPSTREAM_URL", "")
PATIENTS: Final = 66
PAGE: Final = 25
NAMES: Final = ("O'Neill", "Ødegård", "李", "D’Arcy \"quoted\"", "بن علي", "Smith-Jones", "N" * 200)
ODS: Final = "B81001"

WHY_NOT: Final = "" if NAMED else (
    "no node" if shutil.which("node") is None
    else "" if (HERE / "node_modules" / "@medplum" / "fhir-router").is_dir()
    else "Medplum's packages are not installed (make setup)")
pytestmark = [
    pytest.mark.skipif(bool(WHY_NOT), reason=f"REAL FHIR SERVER NOT TESTED: {WHY_NOT}"),
    pytest.mark.asyncio(loop_scope="module")]


@asynccontextmanager
async def medplum() -> AsyncIterator[str]:
    """Run the harness; its base URL. About 1 s and 160 MB."""
    child = await asyncio.create_subprocess_exec(
        "node", str(HERE / "server.mjs"), "0", stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        async with asyncio.timeout(60.0):
            said = json.loads(await child.stdout.readline())
        yield f"http://127.0.0.1:{said['port']}"
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@dataclass(frozen=True, slots=True)
class World:
    """Where the server and the gateway's route to it are, and the family of this run's patients."""

    direct: str
    through: str
    tag: str
    ids: tuple[str, ...]


def patient(n: int, tag: str, dice: Random) -> dict[str, Any]:
    """Return a generated patient; every one of a run carries the run's tag as an identifier."""
    return {
        "resourceType": "Patient", "active": True,
        "identifier": [{"system": "https://practice-gateway.test/run", "value": tag},
                       {"system": "https://practice-gateway.test/number", "value": f"{tag}-{n}"}],
        "name": [{"family": NAMES[n % len(NAMES)],
                  "given": [dice.choice(("Ava", "Noah", "Siân"))]}],
        "gender": dice.choice(("female", "male", "other")),
        "birthDate": (f"{dice.randint(1930, 2020)}-{dice.randint(1, 12):02}"
                      f"-{dice.randint(1, 28):02}")}


async def load(base: str) -> tuple[str, tuple[str, ...]]:
    """Put PATIENTS patients straight into the server; return (tag, their ids)."""
    tag = f"run-{os.urandom(6).hex()}"
    dice = Random(3)
    ids = []
    async with aiohttp.ClientSession() as session:
        for n in range(PATIENTS):
            async with session.post(f"{base}/Patient", json=patient(n, tag, dice), headers={
                    "Content-Type": "application/fhir+json"}) as reply:
                assert reply.status == 201, reply.status
                ids.append(str((await reply.json(content_type=None))["id"]))
    return tag, tuple(ids)


def configuration(home: Path, upstream: str, anchors: tuple[int, int], port: int,
                  admin: int) -> str:
    """Return a gateway on loopback: two links by source address, two anchors each."""
    text = base_config(home / "state", port, admin)
    for priority, (link, source) in enumerate((("fibre", "127.0.0.1"), ("sim", "127.0.0.2")), 1):
        text += f'\n[[links]]\nid = "{link}"\npriority = {priority}\n'
        text += "" if NAMED else f'source = "{source}"\n'  # a named server may be anywhere
        for name, anchor in zip(("broker", "anchor"), anchors, strict=True):
            text += f'[[links.probes]]\nid = "{name}"\nkind = "tcp"\n'
            text += f'target = "127.0.0.1:{anchor}"\n'
    return text + (f'\n[[upstreams]]\nid = "r4"\ntenants = ["{ODS}"]\nbase_url = "{upstream}"\n'
                   'pack = "fhir-r4"\nforwarded = true\n'
                   f'base_urls = {{ fibre = "{upstream}", sim = "{upstream}" }}\n')


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    home = tmp_path_factory.mktemp("real")
    port, admin = free_port(), free_port()
    one = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    two = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    anchors = one.sockets[0].getsockname()[1], two.sockets[0].getsockname()[1]
    async with one, two, upstream() as base:
        tag, ids = await load(base)
        async with gateway(configuration(home, base, anchors, port, admin), home, port, admin):
            yield World(base, f"http://127.0.0.1:{port}/{ODS}/r4", tag, ids)


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    if NAMED:
        yield NAMED.rstrip("/")
        return
    async with medplum() as base:
        yield base


def client(world: World) -> AsyncFHIRClient:
    return AsyncFHIRClient(world.through, extra_headers={GATEWAY_KEY: KEY})


async def test_a_patient_is_read_by_the_client_library(world: World) -> None:
    found = await client(world).reference("Patient", world.ids[2]).to_resource()
    assert found["name"][0]["family"] == "李"


async def test_a_patient_is_searched_by_identifier(world: World) -> None:
    number = f"https://practice-gateway.test/number|{world.tag}-5"
    found = await client(world).resources("Patient").search(identifier=number).fetch()
    assert [one["id"] for one in found] == [world.ids[5]]


async def test_three_pages_are_followed_through_the_gateway(world: World) -> None:
    seen: list[str] = []
    pages: list[str] = []
    asking = client(world)
    bundle = await asking.resources("Patient").search(
        identifier=f"https://practice-gateway.test/run|{world.tag}").limit(PAGE).fetch_raw()
    while True:
        seen += [entry["resource"]["id"] for entry in bundle.get("entry", [])]
        onward = [one["url"] for one in bundle.get("link", []) if one["relation"] == "next"]
        if not onward:
            break
        pages.append(onward[0])
        assert onward[0].startswith(world.through), "page 2 would go round the gateway"
        bundle = await asking.execute(onward[0], "GET")
    assert len(pages) >= 2
    assert sorted(seen) == sorted(world.ids)


async def test_the_client_library_follows_all_pages_by_itself(world: World) -> None:
    found = await client(world).resources("Patient").search(
        identifier=f"https://practice-gateway.test/run|{world.tag}").limit(PAGE).fetch_all()
    assert sorted(one["id"] for one in found) == sorted(world.ids)


async def test_what_is_not_there_is_the_servers_own_404(world: World) -> None:
    with pytest.raises(ResourceNotFound):
        await client(world).reference("Patient", "no-such-patient").to_resource()


async def test_a_patient_is_created_and_updated_through_the_gateway(world: World) -> None:
    made = client(world).resource("Patient", active=True, name=[{"family": "Nûñez"}])
    await made.save()
    made["name"][0]["family"] = "Nûñez-Ó"
    await made.save()
    async with aiohttp.ClientSession() as session, session.get(
            f"{world.direct}/Patient/{made['id']}") as reply:
        assert (await reply.json(content_type=None))["name"][0]["family"] == "Nûñez-Ó"


async def test_bodies_are_the_bytes_of_a_direct_request(world: World) -> None:
    """Direct, with the X-Forwarded-* that the gateway sends, so that links in bodies agree."""
    authority = world.through.removeprefix("http://").split("/")[0]
    same = {"X-Forwarded-Host": authority, "X-Forwarded-Proto": "http",
            "X-Forwarded-Prefix": f"/{ODS}/r4"}
    asked = [f"/Patient/{id_}" for id_ in world.ids[:10]]
    asked += [f"/Patient?identifier=https://practice-gateway.test/run%7C{world.tag}"
              f"&_count={PAGE}&_offset={offset}" for offset in (0, PAGE, 2 * PAGE)]
    asked += ["/Patient/no-such-patient", "/Patient?name=%C3%98deg%C3%A5rd&_count=3"]
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for target in asked:
            through = await _whole(session, world.through + target, {GATEWAY_KEY: KEY})
            direct = await _whole(session, world.direct + target, same)
            assert through[0] == direct[0], target
            assert _stable(through[1]) == _stable(direct[1]), target


def _stable(body: bytes) -> bytes:
    """Take out what a server named by FHIR_UPSTREAM_URL makes anew for each bundle."""
    if not NAMED:
        return body
    tree = json.loads(body)
    if tree.get("resourceType") == "Bundle":
        tree.pop("id", None)
        tree.pop("meta", None)
    return json.dumps(tree).encode()


async def _whole(session: aiohttp.ClientSession, url: str,
                 headers: dict[str, str]) -> tuple[int, bytes]:
    async with session.get(URL(url, encoded=True), headers=headers) as reply:
        return reply.status, await reply.read()
