"""What the service manager is told: ready, stopping, and that we are alive (sd_notify).

The protocol is a datagram of ``KEY=value`` lines to the socket named by ``NOTIFY_SOCKET``
(sd_notify(3)); a leading ``@`` is an abstract socket. Without the variable nothing is sent. A
notification never blocks and never fails a request: what cannot be sent is dropped.
"""

import contextlib
import os
import socket
from collections.abc import Mapping


class Service:
    """Talks to the service manager that started us, if one did.

    ``watchdog_s`` is how often ``alive`` should be called (half of what the unit allows), None
    where no watchdog is set or it is meant for another process.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        env = os.environ if env is None else env
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(env)

    def ready(self, words: str = "") -> None:
        """Requests are answered from now on. ``words`` are codes and ids only."""
        self._send("READY=1", words)

    def stopping(self, words: str = "") -> None:
        """We are on the way down; requests in flight may still be answered."""
        self._send("STOPPING=1", words)

    def alive(self, words: str = "") -> None:
        """The loop turns: the watchdog may wait again."""
        self._send("WATCHDOG=1", words)

    def _send(self, line: str, words: str) -> None:
        if not self._address:
            return
        text = line + (f"\nSTATUS={words.splitlines()[0]}" if words else "") + "\n"
        with contextlib.suppress(OSError), \
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(text.encode(), self._address)


def _address(text: str) -> str:
    """The address as ``sendto`` wants it; ``""`` for none or one that we do not speak (vsock)."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_s(env: Mapping[str, str]) -> float | None:
    """Half of WATCHDOG_USEC in seconds, if it is ours (sd_watchdog_enabled(3))."""
    pid, microseconds = env.get("WATCHDOG_PID", ""), env.get("WATCHDOG_USEC", "")
    if (pid and pid != str(os.getpid())) or not microseconds.isdigit():
        return None
    return int(microseconds) / 2e6 or None
