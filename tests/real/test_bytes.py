"""Bytes through the whole gateway: what the client sent is what the origin saw, and back.

The daemon as a process, raw sockets on both ends. What we change is the list of design 5.2 and
nothing else; each test says which part of that list it looks at. Bodies are compared by SHA-256.
"""

import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kit.anchors import two_anchors
from tests.kit.door import Wire, in_chunks
from tests.kit.gateway import KEY, ROOT, Site, one_link_tables, tenant
from tests.kit.pki import issue, make_ca
from tests.kit.raw_origin import RawOrigin, Say, Seen

SAMPLES: Final = ROOT.parent / "shared" / "samples"
TYPE: Final = b"Content-Type: application/fhir+json\r\n"
AUTH: Final = b"X-Gateway-Key: " + KEY.encode() + b"\r\n"
BASIC: Final = base64.b64encode(b"B81001:" + KEY.encode())
VIA: Final = b"practice-gateway-B81001-a"
FRAMINGS: Final = ("length", "gzip", "chunked")
BIG: Final = 48 << 20
SIZES: Final = (BIG, pytest.param(5 << 20, marks=pytest.mark.full))
GROWTH_MAX: Final = 12 << 20
"""What the daemon may grow by while 48 MiB pass or stand still: buffers, never the body."""


def bodies() -> dict[str, bytes]:
    """Every sample file by name; a few made here where the samples are not beside the project."""
    found = {path.relative_to(SAMPLES).as_posix(): path.read_bytes()
             for path in sorted(SAMPLES.rglob("*.json"))}
    if found:
        return found
    return {
        "empty-object": b"{}",
        "spaced": b' {\r\n\t"resourceType" : "Patient",\n "id":"1"}\n',
        "names": json.dumps({"resourceType": "Patient", "name": [{"family": "Ó Núñez 王 \u200f"}]},
                            ensure_ascii=False).encode(),
        "numbers": b'{"resourceType":"Observation","valueQuantity":{"value":1.10e+00}}',
        "large": b'{"resourceType":"Bundle","x":"' + b"abc\\u0041" * 60_000 + b'"}',
    }


@contextlib.asynccontextmanager
async def gateway(folder: Path, origin: RawOrigin, listen: dict[str, Any] | None = None,
                  tenants: list[Any] | None = None, **upstream: object) -> AsyncIterator[Site]:
    """A running gateway before ``origin`` as upstream ``up``, keeping copies."""
    async with two_anchors() as anchors:
        tables = one_link_tables(origin.port, anchors, keep="continuity",
                                 permitted_by="the bytes test", **upstream)
        url = origin.url("/base")
        tables["upstreams"][0] |= {"base_url": url, "base_urls": {"fibre": url}}
        tables["tenants"] = tenants or [{**tenant("B81001"), "body_bytes_max": 2 * BIG}]
        tables["judgement"] = {"upstream_failures": 1000}
        if listen:
            tables["listen"] = listen
        async with Site(folder, tables).running() as site:
            yield site


async def connect(site: Site, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Wire:
    """A raw connection to the proxy port."""
    return Wire(*await asyncio.open_connection(
        host, site.port, ssl=tls, server_hostname="localhost" if tls else None, limit=1 << 20))


def head(method: bytes, target: bytes, *fields: bytes, version: bytes = b"1.1",
         auth: bytes = AUTH) -> bytes:
    """A request head with our key; ``target`` is what stands behind ``/B81001/up``."""
    lines = b"".join(field + b"\r\n" for field in fields)
    return (method + b" /B81001/up" + target + b" HTTP/" + version + b"\r\nHost: gateway\r\n"
            + auth + lines + b"\r\n")


def framed(body: bytes, framing: str) -> tuple[bytes, bytes, bytes]:
    """(header lines, body as content, body on the wire)."""
    if framing == "chunked":
        return b"Transfer-Encoding: chunked\r\n", body, in_chunks(body)
    coding = b""
    if framing == "gzip":
        body, coding = gzip.compress(body, mtime=0), b"Content-Encoding: gzip\r\n"
    return coding + b"Content-Length: %d\r\n" % len(body), body, body


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def send(wire: Wire, raw: bytes) -> None:
    wire.writer.write(raw)
    await wire.writer.drain()


# --- bodies


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_every_sample_passes_unchanged_as_request_and_as_reply(
    tmp_path: Path, framing: str
) -> None:
    samples = bodies()
    names = list(samples)

    def script(seen: Seen) -> Say:
        name = names[int(seen.line.split(b" ")[1].rsplit(b"/", 1)[1])]
        lines, _, raw = framed(samples[name], framing)
        return Say(b"HTTP/1.1 200 OK\r\n" + TYPE + lines + b"\r\n" + raw)

    wrong: list[str] = []
    async with RawOrigin(script) as origin, gateway(tmp_path, origin) as site:
        wire = await connect(site)
        for number, name in enumerate(names):
            lines, content, raw = framed(samples[name], framing)
            posted = head(b"POST", b"/Bundle/%d" % number, *lines.split(b"\r\n")[:-1]) + raw
            for method, request in (("POST", posted),
                                    ("GET", head(b"GET", b"/Patient/%d" % number))):
                await send(wire, request)
                status, told, body = await wire.answer()
                arrived = origin.seen[-1].body
                expected = digest(content)
                if status != 200 or digest(body) != expected:
                    wrong.append(f"{name}: the reply to {method} is changed ({status})")
                if (b"\r\nContent-Encoding: gzip\r\n" in told) != (framing == "gzip"):
                    wrong.append(f"{name}: the coding is not as sent")
                if method == "POST" and digest(arrived) != expected:
                    wrong.append(f"{name}: the request is changed")
        wire.close()
    assert not wrong, "\n".join(wrong)


# --- heads


async def test_header_fields_keep_their_order_case_and_repeats_both_ways(tmp_path: Path) -> None:
    sent = [b"accept: application/fhir+json", b"X-b: 2", b"x-A: 1", b"X-B: 1", b"X-b: 2",
            b"USER-agent: odd/1.0 (x; y)", b"Cookie: a=1", b"Cookie: b=2",
            b'If-None-Match: W/"1", "2"', b"Authorization: Bearer t0ken", b"X-Empty:",
            b"X-Utf: \xc3\xa9", b"via: 1.0 other", b"Accept-Encoding: br;q=0"]
    gone = [b"Connection: close-not, X-Hop", b"X-Hop: 1", b"TE: trailers", b"Keep-Alive: timeout=5",
            b"Upgrade: h2c", b"Proxy-Authorization: Basic " + BASIC]
    replied = [b"Server: odd", b"x-A: 1", b"X-b: 2", b"X-a: 3", b'ETag: W/"7"', b"Set-Cookie: a=1",
               b"set-cookie: b=2", b"Cache-Control: no-store", b"cache-control: private",
               b"CONTENT-type: application/fhir+json;charset=utf-8", b"Content-Length: 2",
               b"X-Utf: \xc3\xa9", b"Date: Tue, 24 Nov 2026 09:00:00 GMT",
               b"Location: http://elsewhere/base/Patient/1?x=|", b"Via: 1.1 theirs"]
    hidden = [b'Continuity: class=live; link="forged"', b"Connection: X-Once", b"X-Once: 1",
              b"Keep-Alive: timeout=9"]
    raw = b"HTTP/1.1 200 Fine By Me\r\n" + b"\r\n".join(replied + hidden) + b"\r\n\r\n{}"
    async with RawOrigin(lambda seen: Say(raw)) as origin, gateway(tmp_path, origin) as site:
        wire = await connect(site)
        await send(wire, head(b"GET", b"/Patient/1", *sent[:5], *gone, *sent[5:]))
        told = await wire.head()
        wire.close()
    seen = origin.seen[0]
    assert seen.line == b"GET /base/Patient/1 HTTP/1.1"
    assert seen.fields == [b"Host: 127.0.0.1:%d" % origin.port,
                           *(b"X-Empty: " if each == b"X-Empty:" else each for each in sent),
                           b"Via: 1.1 " + VIA]
    lines = told.split(b"\r\n")[:-2]
    assert lines == [b"HTTP/1.1 200 Fine By Me", *replied, b"Via: 1.1 " + VIA,
                     b"Cache-Status: practice-gateway; fwd=miss", b"Continuity: class=live; "
                     b"link=fibre"]


TARGETS: Final = (
    b"", b"/", b"//", b"?", b"/a?", b"/a", b"/a??", b"/a//b/", b"//a", b"/%24gpc.getstructured",
    b"/$gpc", b"/Slot?a=1|2", b"/Slot?a=1%7C2", b"/a+b?c+d", b"/a;x=1;y?z;w", b"/a%2Fb", b"/A%2fb",
    b"/%41", b"/a?b=/../c", b"/a...b/...", b"/a?q=%zz&%", b"/a'(),*!~@:=&", b"/{x}^`[y]\"<>\\z",
    b"/caf%C3%A9?n=%e7%8e%8b", b"/a?_lastUpdated=ge2026-11-24T00:00:00%2B00:00&&b=",
    b"/Patient?identifier=https://fhir.nhs.uk/Id/nhs-number|9000000009",
)


async def test_targets_go_upstream_byte_for_byte(tmp_path: Path) -> None:
    cases = [(method, target) for method in (b"GET", b"POST") for target in TARGETS]
    async with RawOrigin() as origin, gateway(tmp_path, origin) as site:
        wire = await connect(site)
        got = []
        for method, target in cases:
            before = len(origin.seen)
            fields = (b"Content-Length: 0",) if method == b"POST" else ()
            await send(wire, head(method, target, *fields))
            status, _, _ = await wire.answer()
            line = origin.seen[-1].line if len(origin.seen) > before else b"nothing"
            got.append((status, line))
        wire.close()
    assert got == [(200, method + b" /base" + target + b" HTTP/1.1") for method, target in cases]


async def test_a_status_line_without_reason_and_an_unusual_one_pass(tmp_path: Path) -> None:
    lines = [b"200 ", b"200 Oh \xc3\xa9", b"299 x", b"404 ", b"422 Unprocessable", b"200"]

    def script(seen: Seen) -> Say:
        line = lines[int(seen.line.split(b" ")[1].rsplit(b"/", 1)[1])]
        return Say(b"HTTP/1.1 " + line + b"\r\n" + TYPE + b"Content-Length: 2\r\n\r\n{}")

    async with RawOrigin(script) as origin, gateway(tmp_path, origin) as site:
        wire = await connect(site)
        got = []
        for number in range(len(lines)):
            await send(wire, head(b"GET", b"/x/%d" % number))
            _, told, body = await wire.answer()
            got.append((told.split(b"\r\n")[0].removeprefix(b"HTTP/1.1 "), body))
        wire.close()
    assert got == [(line if b" " in line else line + b" ", b"{}") for line in lines]


async def test_a_reply_that_ends_by_close_is_passed_on_ending_by_close(tmp_path: Path) -> None:
    body = b'{"resourceType":"Patient","id":"1"}'
    raw = b"HTTP/1.1 200 OK\r\n" + TYPE + b"\r\n" + body
    async with RawOrigin(lambda seen: Say(raw, "close")) as origin, \
            gateway(tmp_path, origin) as site:
        wire = await connect(site)
        await send(wire, head(b"GET", b"/Patient/1"))
        told = await wire.head()
        rest = await wire.rest()
        await site.stored()
        copies = (await site.status())["stores"][0]["copies"]
    assert rest == body
    assert b"Connection: close" in told
    assert b"content-length" not in told.lower()
    assert b"transfer-encoding" not in told.lower()
    assert copies == 0, "what could have been cut is never kept"


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_an_http_1_0_client_gets_a_length_and_no_chunks(
    tmp_path: Path, framing: str
) -> None:
    body = b'{"resourceType":"Patient","id":"1"}'
    lines, _, raw = framed(body, framing)
    reply = b"HTTP/1.1 200 OK\r\n" + TYPE + lines + b"\r\n" + raw
    async with RawOrigin(lambda seen: Say(reply)) as origin, gateway(tmp_path, origin) as site:
        wire = await connect(site)
        for fields in ((b"Connection: keep-alive",), (b"connection: Keep-Alive",), ()):
            await send(wire, head(b"GET", b"/Patient/1", *fields, version=b"1.0"))
            told = await wire.head()
            assert b"\r\nContent-Length: %d\r\n" % len(body) in told
            assert b"transfer-encoding" not in told.lower()
            assert await wire.reader.readexactly(len(body)) == body
        assert await wire.rest() == b""
        wire.close()
    assert origin.seen[0].line == b"GET /base/Patient/1 HTTP/1.1"
    assert origin.seen[0].fields[-1] == b"Via: 1.0 " + VIA


async def test_expect_is_answered_here_and_goes_no_further(tmp_path: Path) -> None:
    body = b'{"resourceType":"Patient"}' * 400
    async with RawOrigin() as origin, gateway(tmp_path, origin) as site:
        for expect in (b"Expect: 100-continue", b"expect: 100-Continue"):
            wire = await connect(site)
            await send(wire, head(b"POST", b"/Patient", expect, b"Content-Length: %d" % len(body)))
            assert await wire.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert not origin.seen, "the upstream is asked only once there is a body"
            await send(wire, body)
            status, _, _ = await wire.answer()
            wire.close()
            seen = origin.seen.pop()
            assert (status, digest(seen.body)) == (200, digest(body))
            assert not [each for each in seen.fields if each.lower().startswith(b"expect")]
        wire = await connect(site)  # who is refused is not asked for a body
        await send(wire, head(b"POST", b"/Patient", b"Expect: 100-continue", b"Content-Length: 5",
                              auth=b""))
        assert (await wire.head()).startswith(b"HTTP/1.1 40")
        wire.close()


# --- large bodies


def rss(site: Site) -> int:
    """The daemon's resident bytes."""
    text = Path(f"/proc/{site.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) * 1024


def rss_peak(site: Site) -> int:
    """The most it ever was since ``forget_peak``."""
    text = Path(f"/proc/{site.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) * 1024


def forget_peak(site: Site) -> int:
    """Begin a new high-water mark (proc(5), clear_refs 5); return the present size."""
    Path(f"/proc/{site.pid}/clear_refs").write_text("5")
    return rss(site)


def filler(size: int) -> bytes:
    """Bytes that repeat nowhere near, so that a piece in the wrong place shows."""
    return b"".join(hashlib.sha256(b"%d" % n).digest() * 32 for n in range(size // 1024))


class Tap:
    """An origin for one large body: it streams ``data`` or takes one in, no faster than told."""

    def __init__(self, data: bytes = b"", chunked: bool = False) -> None:
        self.data, self.chunked = data, chunked
        self.go = asyncio.Event()
        self.written = self.read = 0
        self.arrived = hashlib.sha256()
        self.port = 0

    async def __aenter__(self) -> "Tap":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 16)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                if asked.startswith(b"GET"):
                    await self._pour(writer)
                else:
                    await self._drink(asked, reader, writer)
        writer.close()

    async def _pour(self, writer: asyncio.StreamWriter) -> None:
        ending = (b"Transfer-Encoding: chunked" if self.chunked
                  else b"Content-Length: %d" % len(self.data))
        writer.write(b"HTTP/1.1 200 OK\r\n" + TYPE + ending + b"\r\n\r\n")
        for at in range(0, len(self.data), 1 << 16):
            piece = self.data[at:at + (1 << 16)]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if self.chunked else piece)
            await writer.drain()
            self.written += len(piece)
        writer.write(b"0\r\n\r\n" if self.chunked else b"")

    async def _drink(self, asked: bytes, reader: asyncio.StreamReader,
                     writer: asyncio.StreamWriter) -> None:
        await self.go.wait()
        if b"\r\nTransfer-Encoding: chunked\r\n" in asked:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                self._took((await reader.readexactly(size + 2))[:-2])
            await reader.readuntil(b"\r\n")
        else:
            left = int(re.findall(rb"Content-Length: (\d+)", asked)[0])
            while left:
                piece = await reader.read(min(left, 1 << 16))
                left -= len(piece)
                self._took(piece)
        writer.write(b"HTTP/1.1 200 OK\r\n" + TYPE + b"Content-Length: 2\r\n\r\n{}")

    def _took(self, piece: bytes) -> None:
        self.read += len(piece)
        self.arrived.update(piece)


async def still(count: Any) -> int:
    """Wait until ``count()`` no longer grows and return it."""
    before = -1
    for _ in range(100):
        now = int(count())
        if now == before:
            return now
        before = now
        await asyncio.sleep(0.15)
    raise AssertionError("it never stood still: there is no back-pressure")


@pytest.mark.parametrize("size", SIZES, ids=["48MiB", "5MiB"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_large_reply_is_streamed_no_faster_than_its_client_takes_it(
    tmp_path: Path, chunked: bool, size: int
) -> None:
    data = filler(size)
    async with Tap(data, chunked) as origin, \
            gateway(tmp_path, origin) as site:  # type: ignore[arg-type]  # port and url are enough
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", site.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
        await site.status()
        before = forget_peak(site)
        writer.write(head(b"GET", b"/Binary/1"))
        wire = Wire(reader, writer)
        told = await wire.head()
        stood_at = await still(lambda: origin.written)
        got = hashlib.sha256()
        if b"chunked" in told.lower():
            while length := int(await reader.readuntil(b"\r\n"), 16):
                got.update((await reader.readexactly(length + 2))[:-2])
            assert await reader.readexactly(2) == b"\r\n"
        else:
            left = size
            while left:
                piece = await reader.read(left)
                assert piece, "cut short"
                left -= len(piece)
                got.update(piece)
        grown = rss_peak(site) - before
        wire.close()
    assert told.startswith(b"HTTP/1.1 200 OK")
    assert (b"\r\nTransfer-Encoding: chunked\r\n" in told) is chunked
    assert got.hexdigest() == digest(data)
    assert grown < GROWTH_MAX, f"the daemon grew by {grown} bytes"
    if size == BIG:
        assert stood_at < size * 0.8, "the upstream was drained though nobody read"


@pytest.mark.parametrize("size", SIZES, ids=["48MiB", "5MiB"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_large_upload_is_streamed_no_faster_than_the_upstream_takes_it(
    tmp_path: Path, chunked: bool, size: int
) -> None:
    data = filler(size)
    async with Tap() as origin, \
            gateway(tmp_path, origin) as site:  # type: ignore[arg-type]  # port and url are enough
        wire = await connect(site)
        await site.status()
        before = forget_peak(site)
        fields = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        await send(wire, head(b"POST", b"/Binary", fields))
        written = 0

        async def upload() -> None:
            nonlocal written
            for at in range(0, size, 1 << 16):
                piece = data[at:at + (1 << 16)]
                await send(wire, b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                written += len(piece)
            await send(wire, b"0\r\n\r\n" if chunked else b"")

        async with asyncio.TaskGroup() as group:
            group.create_task(upload())
            stood_at = await still(lambda: written)
            origin.go.set()
        status, _, _ = await wire.answer()
        grown = rss_peak(site) - before
        wire.close()
    assert status == 200
    assert origin.arrived.hexdigest() == digest(data)
    assert grown < GROWTH_MAX, f"the daemon grew by {grown} bytes"
    if size == BIG:
        assert stood_at < size * 0.8, "the client was drained though the upstream read nothing"


# --- doors and families


async def test_tls_at_both_ends_with_client_certificates(tmp_path: Path) -> None:
    ca, theirs = make_ca(tmp_path / "ca"), make_ca(tmp_path / "theirs", "their CA")
    door, by_file = issue(ca, "localhost"), issue(ca, "by-file", client=True)
    by_print, stranger = issue(ca, "by-print", client=True), issue(ca, "stranger", client=True)
    ours, server = issue(theirs, "B81001-client", client=True), issue(theirs, "provider")
    who = tenant("B81001")
    who["clients"] = [{"id": "by-file", "certificate": str(by_file.cert)},
                      {"id": "by-print", "certificate_sha256": by_print.fingerprint}]
    listen = {"certificate": str(door.cert), "key": f"file:{door.key}", "client_ca": str(ca.cert),
              "hosts": ["localhost"]}
    upstream_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    upstream_tls.load_cert_chain(server.cert, server.key)
    upstream_tls.load_verify_locations(theirs.cert)
    upstream_tls.verify_mode = ssl.CERT_REQUIRED
    async with RawOrigin(tls=upstream_tls) as origin, gateway(
            tmp_path / "site", origin, listen, [who], ca_file=str(theirs.cert), certificates={
                "B81001": {"certificate": str(ours.cert), "key": f"file:{ours.key}"}}) as site:
        statuses = {}
        for name, leaf in (("by-file", by_file), ("by-print", by_print), ("stranger", stranger),
                           ("none", None)):
            context = ssl.create_default_context(cafile=str(ca.cert))
            if leaf is not None:
                context.load_cert_chain(leaf.cert, leaf.key)
            wire = await connect(site, tls=context)
            await send(wire, head(b"GET", b"/Patient/1", auth=b""))
            statuses[name], _, _ = await wire.answer()
            wire.close()
    assert (statuses["by-file"], statuses["by-print"]) == (200, 200)
    assert {statuses["stranger"], statuses["none"]} <= {401, 403}
    assert len(origin.seen) == 2
    assert set(origin.subjects) == {"B81001-client"}


async def test_ipv6_at_both_ends(tmp_path: Path) -> None:
    async with RawOrigin(host="::1") as origin, \
            gateway(tmp_path, origin, {"address": "::1"}) as site:
        wire = await connect(site, "::1")
        await send(wire, head(b"GET", b"/Patient/1"))
        status, _, body = await wire.answer()
        authority = b"[::1]:%d" % site.port
        await send(wire, b"GET http://" + authority + b"/B81001/up/x?y HTTP/1.1\r\nHost: "
                   + authority + b"\r\n" + AUTH + b"\r\n")
        absolute, _, _ = await wire.answer()
        wire.close()
    assert (status, body, absolute) == (200, b"{}", 200)
    assert origin.peers[0] == "::1"
    assert origin.seen[0].fields[0] == b"Host: [::1]:%d" % origin.port
    assert origin.seen[1].line == b"GET /base/x?y HTTP/1.1"


async def test_page_two_of_a_client_that_uses_us_as_its_proxy_comes_through_us(
    tmp_path: Path,
) -> None:
    page = json.dumps({"resourceType": "Bundle", "type": "searchset", "link": [
        {"relation": "next", "url": "http://provider.example/base/Patient?page=2|x"}]}).encode()
    raw = b"HTTP/1.1 200 OK\r\n" + TYPE + b"Content-Length: %d\r\n\r\n" % len(page) + page
    async with RawOrigin(lambda seen: Say(raw)) as origin, gateway(
            tmp_path, origin, aliases=["http://provider.example/base"]) as site:
        wire = await connect(site)
        url = b"http://Provider.example:80/base/Patient"
        for _ in range(2):
            await send(wire, b"GET " + url + b" HTTP/1.1\r\nHost: provider.example\r\n" + AUTH
                       + b"\r\n")
            status, _, body = await wire.answer()
            assert (status, body) == (200, page), "bodies are not rewritten"
            url = json.loads(body)["link"][0]["url"].encode()
        wire.close()
    assert [seen.line for seen in origin.seen] == [
        b"GET /base/Patient HTTP/1.1", b"GET /base/Patient?page=2|x HTTP/1.1"]
    assert all(b"provider.example" not in seen.head.lower() for seen in origin.seen)


FORWARDED: Final = (b"X-Forwarded-Host: evil.example", b"x-forwarded-proto: gopher",
                    b"X-Forwarded-Prefix: /other", b"X-Forwarded-Prefix: /again",
                    b"X-Forwarded-For: 10.0.0.1")


async def test_x_forwarded_fields_are_ours_where_asked_for(tmp_path: Path) -> None:
    async with RawOrigin() as origin, gateway(tmp_path, origin, forwarded=True) as site:
        wire = await connect(site)
        await send(wire, head(b"GET", b"/Patient/1", *FORWARDED))
        await wire.answer()
        wire.close()
    assert origin.seen[0].fields[1:] == [
        FORWARDED[-1], b"Via: 1.1 " + VIA, b"X-Forwarded-Host: gateway",
        b"X-Forwarded-Proto: http", b"X-Forwarded-Prefix: /B81001/up"]


async def test_x_forwarded_fields_pass_like_any_other_where_not(tmp_path: Path) -> None:
    async with RawOrigin() as origin, gateway(tmp_path, origin) as site:
        wire = await connect(site)
        await send(wire, head(b"GET", b"/Patient/1", *FORWARDED))
        await wire.answer()
        wire.close()
    assert origin.seen[0].fields[1:] == [*FORWARDED, b"Via: 1.1 " + VIA]
