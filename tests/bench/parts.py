"""The parts that benches set side by side: an origin, a bare aiohttp proxy, and an even load.

Each runs as a process of its own (``python -m tests.bench.parts origin ...``), so that what is
measured is one proxy on a core and not the harness.
"""

import argparse
import asyncio
import ssl
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import uvloop
from aiohttp import web

CLIENT_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)


def resource(size: int) -> bytes:
    """Return a FHIR Patient of about ``size`` bytes."""
    head = b'{"resourceType":"Patient","id":"1","text":{"status":"generated","div":"'
    return head + b"x" * max(0, size - len(head) - 3) + b'"}}'


def server_tls(certificate: str, key: str) -> ssl.SSLContext:
    """Return a server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def origin(port: int, tls: ssl.SSLContext | None, delay_s: float) -> None:
    """Serve ``/Patient/s{size}-{n}`` for ever: that many bytes, after ``delay_s``."""
    bodies = {size: resource(size) for size in (2_000, 30_000)}

    async def handle(request: web.BaseRequest) -> web.Response:
        size = int(request.path.rpartition("/s")[2].partition("-")[0])
        if delay_s:
            await asyncio.sleep(delay_s)
        return web.Response(body=bodies.get(size) or resource(size),
                            content_type="application/fhir+json",
                            headers={"Cache-Control": "no-store"})

    await _serve(handle, port, tls)


async def bare(port: int, tls: ssl.SSLContext | None, upstream: str, ca: str) -> None:
    """A proxy as thin as aiohttp allows: no features, no limits, no copy."""
    context = ssl.create_default_context(cafile=ca) if ca else None
    connector = aiohttp.TCPConnector(ssl=context if context is not None else True)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def handle(request: web.BaseRequest) -> web.Response:
            async with session.request(request.method, upstream + request.path_qs,
                                       data=await request.read() or None) as reply:
                body = await reply.read()
                return web.Response(status=reply.status, body=body,
                                    content_type="application/fhir+json")

        await _serve(handle, port, tls)


async def _serve(
    handle: Callable[[web.BaseRequest], Awaitable[web.Response]], port: int,
    tls: ssl.SSLContext | None
) -> None:
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


@dataclass
class Latencies:
    """Milliseconds from the scheduled send time, and what failed."""

    ms: list[float] = field(default_factory=list)
    failed: int = 0

    def at(self, quantile: float) -> float:
        """Return the latency at ``quantile`` (0 to 1)."""
        ordered = sorted(self.ms)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else 0.0

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.ms) if self.ms else 0.0


@dataclass(frozen=True)
class Target:
    """One thing under load: ``url`` has ``{n}`` where a number makes each request distinct."""

    name: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()


async def even_load(
    targets: list[Target], each_per_s: float, seconds: float, ca: str
) -> dict[str, Latencies]:
    """Load all targets in one run, in turn, open loop; latencies count from the schedule."""
    seen = {target.name: Latencies() for target in targets}
    context = ssl.create_default_context(cafile=ca) if ca else None
    connector = aiohttp.TCPConnector(ssl=context if context is not None else True, limit=200)
    begin = time.perf_counter() + 0.2
    step = 1.0 / (each_per_s * len(targets))

    async def one(session: aiohttp.ClientSession, target: Target, number: int) -> None:
        due = begin + number * step
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        try:
            async with session.get(target.url.format(n=number),
                                   headers=dict(target.headers)) as reply:
                await reply.read()
                ok = reply.status == 200
        except (aiohttp.ClientError, TimeoutError):
            ok = False
        if ok:
            seen[target.name].ms.append((time.perf_counter() - due) * 1000)
        else:
            seen[target.name].failed += 1

    async with aiohttp.ClientSession(connector=connector, timeout=CLIENT_TIMEOUT) as session, \
            asyncio.TaskGroup() as group:
        for number in range(int(each_per_s * len(targets) * seconds)):
            group.create_task(one(session, targets[number % len(targets)], number))
    return seen


def main() -> None:
    """Run one part until it is killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.parts")
    parser.add_argument("part", choices=["origin", "bare"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", default="")
    parser.add_argument("--key", default="")
    parser.add_argument("--ca", default="")
    parser.add_argument("--upstream", default="")
    parser.add_argument("--delay-s", type=float, default=0.0)
    given = parser.parse_args()
    tls = server_tls(given.certificate, given.key) if given.certificate else None
    work = (origin(given.port, tls, given.delay_s) if given.part == "origin"
            else bare(given.port, tls, given.upstream, given.ca))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    main()
