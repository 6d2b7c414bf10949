"""A name server for measurements: ``python -m tests.bench.rig.names PLACE ... NAME=ADDRESS``.

Each place answers honestly for each name given; prints ``ready`` when all listen.
"""

import asyncio
import sys

from chaos.rig.dns import Names


async def _serve(places: list[str], known: dict[str, str]) -> None:
    loop = asyncio.get_running_loop()
    for place in places:
        host, _, port = place.rpartition(":")
        await loop.create_datagram_endpoint(lambda: Names(known), local_addr=(host, int(port)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    known = dict(each.split("=", 1) for each in sys.argv[1:] if "=" in each)
    asyncio.run(_serve([each for each in sys.argv[1:] if "=" not in each], known))


if __name__ == "__main__":
    main()
