"""argv -> config -> run; exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 promise."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from gateway import cli, config
from gateway.errors import ConfigMistakes, GatewayError

SWITCH_S: Final = 0.0005
"""How long a thread (sealing copies, mostly) may hold up the loop: by default it is 5 ms, as much
as a whole pass-through may add at p99."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks and return the exit code."""
    asked = cli.parser().parse_args(argv)
    if asked.verb == "run":
        return run(asked.config)
    try:
        code = cli.act(asked)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough (``| head``)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return cli.DONE
    return code


def run(path: Path) -> int:
    """Run the gateway on the configuration in ``path`` until it is told to stop."""
    sys.setswitchinterval(SWITCH_S)
    from gateway.build import run as serve  # only here: the other verbs start in a tenth of it
    try:
        found = config.load(path)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(found))
    except ConfigMistakes as mistakes:
        sys.stderr.write(f"{mistakes}\n")
        return cli.BAD_USAGE
    except GatewayError as error:
        sys.stderr.write(f"practice-gateway: {error}\n")
        return cli.FAILED
    except KeyboardInterrupt:
        return cli.DONE
    return cli.DONE


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it imports (measured: about 30 k small requests/s/core), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
