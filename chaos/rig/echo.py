"""An anchor beyond the links: one fixed answer, so that a probe can tell it from a portal.

Run as ``python -m chaos.rig.echo HOST:PORT``; prints ``listening PORT`` once it does.
"""

import asyncio
import sys
from typing import Final

ANCHOR: Final = "practice-gateway anchor\n"
HEAD_BYTES_MAX: Final = 8192
HEAD_S: Final = 10.0


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests on one connection until the peer ends it."""
    body = ANCHOR.encode()
    try:
        while True:
            async with asyncio.timeout(HEAD_S):
                await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
                         b"\r\n%s" % (len(body), body))
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return  # the peer went, was too slow or sent too much: TimeoutError is an OSError
    finally:
        writer.close()


async def serve(host: str, port: int) -> None:
    """Serve until cancelled."""
    server = await asyncio.start_server(answer, host, port, limit=HEAD_BYTES_MAX)
    sys.stdout.write(f"listening {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    where = sys.argv[1].rpartition(":")
    asyncio.run(serve(where[0], int(where[2])))
