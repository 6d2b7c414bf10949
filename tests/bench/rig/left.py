"""What is left on a link: connections as the kernel counts them, and a tunnel that speaks."""

import asyncio
import base64
import subprocess
import time
from contextlib import suppress


def established(device: str, place: str) -> int:
    """Established connections to ``place`` (address:port) over ``device``."""
    told = subprocess.run(["ss", "-tnH", "state", "established", "dst", place],
                          capture_output=True, text=True, check=True).stdout
    return sum(f"%{device}:" in line for line in told.splitlines())


async def talking_tunnel(port: int, place: str, key: str, every_s: float = 0.2) -> float:
    """Hold a tunnel to ``place`` that asks every ``every_s``; return when it ended (monotonic)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    who = base64.b64encode(f"B81001:{key}".encode()).decode()
    writer.write(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"
                 f"Proxy-Authorization: Basic {who}\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    with suppress(OSError):
        while True:
            writer.write(b"GET /Patient/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            if not await reader.read(65536):
                break
            await asyncio.sleep(every_s)
    writer.close()
    return time.monotonic()
