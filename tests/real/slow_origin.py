"""An origin for measurements: any GET is a small Patient after a set delay; two anchors beside it.

Run as ``python -m tests.real.slow_origin ADDRESS PORT DELAY_S ANCHOR:PORT... [--tls CERT KEY]
[--close-each N]``; prints one line once all listen. ``--close-each`` ends the connection with each
N-th answer, as a real provider does with each 100th.
"""

import argparse
import asyncio
import itertools
import ssl
import sys
from typing import Final

from aiohttp import web

PATIENT: Final = ('{"resourceType":"Patient","id":"%s","active":true,"text":{"div":"'
                  + "x" * 1500 + '"}}')


async def serve(asked: argparse.Namespace) -> None:
    """Serve until killed."""
    count = itertools.count(1)
    context = None
    if asked.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*asked.tls)

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(asked.delay_s)
        found = web.Response(text=PATIENT % request.path.rpartition("/")[2],
                             content_type="application/fhir+json")
        if asked.close_each and next(count) % asked.close_each == 0:
            found.force_close()
        return found

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, asked.address, asked.port, ssl_context=context).start()
    for anchor in asked.anchors:
        host, _, number = anchor.rpartition(":")
        await asyncio.start_server(hang_up, host, int(number))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(prog="python -m tests.real.slow_origin")
    top.add_argument("address")
    top.add_argument("port", type=int)
    top.add_argument("delay_s", type=float)
    top.add_argument("anchors", nargs="*")
    top.add_argument("--tls", nargs=2)
    top.add_argument("--close-each", type=int, default=0)
    return top


if __name__ == "__main__":
    asyncio.run(serve(parser().parse_args()))
