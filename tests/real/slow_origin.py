"""An origin for measurements: any GET is a small Patient after a set delay; two anchors beside it.

Run as ``python -m tests.real.slow_origin ADDRESS PORT DELAY_S ANCHOR:PORT ANCHOR:PORT``; prints one
line once all listen.
"""

import asyncio
import sys
from typing import Final

from aiohttp import web

PATIENT: Final = ('{"resourceType":"Patient","id":"%s","active":true,"text":{"div":"'
                  + "x" * 1500 + '"}}')


async def serve(address: str, port: int, delay_s: float, anchors: tuple[str, ...]) -> None:
    """Serve until killed."""
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(delay_s)
        return web.Response(text=PATIENT % request.path.rpartition("/")[2],
                            content_type="application/fhir+json")

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    for anchor in anchors:
        host, _, number = anchor.rpartition(":")
        await asyncio.start_server(hang_up, host, int(number))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]),
                      tuple(sys.argv[4:])))
