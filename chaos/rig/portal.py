"""A captive portal: answers whatever is asked with 200 and a page, as a SIM out of credit does.

Run as ``python -m chaos.rig.portal PORT``; prints one line once it listens, then ``asked`` for each
head that it got and ``told`` for one in which it could read a client's request or credential.
"""

import asyncio
import sys
from typing import Final

PAGE: Final = b"<html><title>Top up</title><p>Your data has run out. Buy more to go on.</html>"
HEAD_BYTES_MAX: Final = 65536


GIVES_AWAY: Final = (b"authorization:", b"cookie:", b"ssp-", b"x-request-id:", b"x-gateway-key:")
"""Fields of a client's request: a probe has none of them, and a TLS hello shows none."""


def gives_away(head: bytes) -> bool:
    """Whether whoever intercepts ``head`` learns a client's request or credential."""
    lower = head.lower()
    return any(field in lower for field in GIVES_AWAY)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read one head, say the portal's page, close. A TLS hello gets it too: it is no FHIR."""
    try:
        head = await reader.read(HEAD_BYTES_MAX)
        if head:
            sys.stdout.write("told\n" if gives_away(head) else "asked\n")
            sys.stdout.flush()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
                         b"Content-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE))
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def main(port: int) -> None:
    """Serve on every address of the namespace until killed."""
    server = await asyncio.start_server(answer, "0.0.0.0", port)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
