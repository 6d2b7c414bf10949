"""``make bench``: every bench in turn. Figures are compared within one run, never across runs."""

import asyncio
import sys

from tests.bench import passthrough


def main() -> None:
    """Run the pass-through and memory bench; the store's own is ``python -m tests.bench.store``."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    asyncio.run(passthrough.run(seconds))


if __name__ == "__main__":
    main()
