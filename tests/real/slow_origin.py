"""An origin for measurements: any GET is a small Patient after a set delay; two anchors beside it.

Run as ``python -m tests.real.slow_origin ADDRESS PORT DELAY_S ANCHOR:PORT ANCHOR:PORT``; prints one
line once all listen. With ``tls=CERT,KEY`` (PEM files) among the last arguments it speaks TLS; with
``close_every=N`` each Nth answer ends its connection, as a real provider's does.
"""

import asyncio
import itertools
import ssl
import sys
from typing import Final

from aiohttp import web

PATIENT: Final = ('{"resourceType":"Patient","id":"%s","active":true,"text":{"div":"'
                  + "x" * 1500 + '"}}')


async def serve(address: str, port: int, delay_s: float, anchors: tuple[str, ...],
                tls: ssl.SSLContext | None = None, close_every: int = 0) -> None:
    """Serve until killed."""
    asked = itertools.count(1)

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(delay_s)
        made = web.Response(text=PATIENT % request.path.rpartition("/")[2],
                            content_type="application/fhir+json")
        if close_every and next(asked) % close_every == 0:
            made.force_close()
        return made

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, port, ssl_context=tls).start()
    for anchor in anchors:
        host, _, number = anchor.rpartition(":")
        await asyncio.start_server(hang_up, host, int(number))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def context(said: str) -> ssl.SSLContext | None:
    """The server's context of ``CERT,KEY``."""
    if not said:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*said.split(","))
    return made


def main(address: str, port: str, delay_s: str, *rest: str) -> None:
    """Read the arguments and serve."""
    options = dict(each.split("=", 1) for each in rest if "=" in each)
    anchors = tuple(each for each in rest if "=" not in each)
    asyncio.run(serve(address, int(port), float(delay_s), anchors,
                      context(options.get("tls", "")), int(options.get("close_every", "0"))))


if __name__ == "__main__":
    main(*sys.argv[1:])
