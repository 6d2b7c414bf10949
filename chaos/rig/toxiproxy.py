"""Weather through Toxiproxy: a link is a set of its proxies, one for each forward.

Toxiproxy ends TCP itself, so its kernel acknowledges everything: a cut here is a peer that takes
all and says nothing, which tests our timers and never the gate that watches for missing ACKs
(links.md §16). A heal ends the connections that stood cut, because Toxiproxy closes a connection
whose ``timeout`` toxic is taken away (measured, 2.12.0). Its ``reset_peer``
sends RST only on connections made after it, so ``Reset`` ends open ones with a plain FIN, mid-reply
too, and refuses new ones (measured, likewise). Use it where there is no root.

The client library is blocking, and keeps its address in the class, so there can be one rig in a
process; every call runs in a thread. Its server is a child of ours on loopback.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from chaos.weather import (
    Cut,
    Flap,
    Heal,
    Reset,
    Slow,
    SwallowReplies,
    UpstreamGone,
    UpstreamHung,
    Verb,
)

START_S: Final = 10.0
WAYS: Final = ("upstream", "downstream")
LINK_VERBS: Final = (Cut, Heal, Reset, Slow, Flap, SwallowReplies)
Answer = TypeVar("Answer")


class Door(Protocol):
    """What a link's forward must say of itself; ``chaos.rig.relay.Forward`` does."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> tuple[str, int]: ...


def server_program(root: Path | None = None) -> str:
    """Return the path of Toxiproxy's server, ``""`` where there is none.

    ``.tools/server`` below ``root`` (by default the project) comes first, then the PATH.
    """
    ours = (root or Path(__file__).resolve().parents[2]) / ".tools" / "server"
    if os.access(ours, os.X_OK):
        return str(ours)
    return shutil.which("toxiproxy-server") or ""


def why_not() -> str:
    """Return why this machine cannot carry the rig, or ``""``."""
    if not server_program():
        return "Toxiproxy's server is neither in .tools nor on the PATH"
    try:
        import toxiproxy  # type: ignore[import-untyped]  # noqa: F401  # it has no stubs
    except ImportError:
        return "toxiproxy-python is not installed"
    return ""


class Toxiproxies:
    """The rig. ``links`` maps each link's id to its forwards; ``ports[link][forward]`` listens.

    An upstream that is gone or hung is so for every forward of its name, on every link.
    """

    def __init__(self, links: Mapping[str, Sequence[Door]]) -> None:
        self._links: Final = {link: tuple(doors) for link, doors in links.items()}
        self._proxies: dict[tuple[str, str], Any] = {}
        self._flaps: dict[str, asyncio.Task[None]] = {}
        self._server: asyncio.subprocess.Process | None = None
        self._group = asyncio.TaskGroup()
        self._one_call = asyncio.Lock()

    async def __aenter__(self) -> Self:
        refusal = why_not()
        if refusal:
            raise RuntimeError(refusal)
        port = _free_port()
        self._server = await asyncio.create_subprocess_exec(
            server_program(), "-host", "127.0.0.1", "-port", str(port),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
        try:
            await self._call(lambda: self._connect(port))
            await _until(lambda: self._call(self._toxiproxy.running), START_S)
            for link, doors in self._links.items():
                for door in doors:
                    host, number = door.target
                    self._proxies[link, door.name] = await self._call(
                        self._toxiproxy.create, f"{host}:{number}", f"{link}-{door.name}")
            await self._group.__aenter__()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        for flap in self._flaps.values():
            flap.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._server is not None:
            with suppress(ProcessLookupError):
                self._server.kill()
            await self._server.wait()

    def _connect(self, port: int) -> None:
        from toxiproxy import Toxiproxy
        from toxiproxy.api import APIConsumer  # type: ignore[import-untyped]  # it has no stubs

        # requests would read proxies from the environment, and this is loopback.
        os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")
        APIConsumer.host, APIConsumer.port = "127.0.0.1", port
        self._toxiproxy = Toxiproxy()

    async def _call(self, work: Callable[..., Answer], *given: object, **named: object) -> Answer:
        """Run one blocking call of the library in a thread, one after another."""
        async with self._one_call:
            return await asyncio.to_thread(work, *given, **named)

    @property
    def ports(self) -> dict[str, dict[str, int]]:
        """Where each forward of each link listens on loopback."""
        found: dict[str, dict[str, int]] = {link: {} for link in self._links}
        for (link, name), proxy in self._proxies.items():
            found[link][name] = int(proxy.listen.rpartition(":")[2])
        return found

    def can(self, verb: Verb) -> bool:
        """Tell whether Toxiproxy can play ``verb``: no packets, no names, no answers of its own."""
        if isinstance(verb, UpstreamGone | UpstreamHung):
            return any(name == verb.upstream for _, name in self._proxies)
        return isinstance(verb, LINK_VERBS)

    async def apply(self, verb: Verb) -> None:
        """Make ``verb`` happen. Each verb of a link ends the one before it.

        Raises:
            KeyError: no such link.
            ValueError: ``can`` says no.
        """
        match verb:
            case _ if not self.can(verb):
                raise ValueError(f"Toxiproxy cannot {type(verb).__name__}")
            case UpstreamGone(upstream, gone):
                for proxy in self._of(name=upstream):
                    await self._call(proxy.disable if gone else proxy.enable)
            case UpstreamHung(upstream, hung):
                for proxy in self._of(name=upstream):
                    await self._poison(proxy, ("downstream",) if hung else ())
            case Cut(link) | Heal(link) | Reset(link) | Slow(link) | Flap(link) | SwallowReplies(
                    link):
                await self._end_flap(link)
                await self._on_link(self._known(link), verb)

    def _known(self, link: str) -> str:
        self._links[link]
        return link

    async def _on_link(self, link: str, verb: Verb) -> None:
        if isinstance(verb, Flap):
            self._flaps[link] = self._group.create_task(
                self._flapping(link, verb.down_s, verb.up_s))
            return
        for proxy in self._of(link=link):
            await self._clear(proxy)
            match verb:
                case Cut():
                    await self._poison(proxy, WAYS)
                case SwallowReplies():
                    await self._poison(proxy, ("downstream",))
                case Slow(_, delay_s):
                    await self._add(proxy, "latency", WAYS, latency=round(delay_s * 1000))
                case Reset():
                    await self._call(proxy.disable)

    async def _flapping(self, link: str, down_s: float, up_s: float) -> None:
        while True:
            await self._on_link(link, Cut(link))
            await asyncio.sleep(down_s)
            await self._on_link(link, Heal(link))
            await asyncio.sleep(up_s)

    async def _end_flap(self, link: str) -> None:
        flap = self._flaps.pop(link, None)
        if flap is not None:
            flap.cancel()
            await asyncio.wait((flap,))

    def _of(self, link: str = "", name: str = "") -> list[Any]:
        return [proxy for (a_link, a_name), proxy in self._proxies.items()
                if link in ("", a_link) and name in ("", a_name)]

    async def _poison(self, proxy: Any, ways: Sequence[str]) -> None:
        await self._clear(proxy)
        await self._add(proxy, "timeout", ways, timeout=0)

    async def _add(self, proxy: Any, kind: str, ways: Sequence[str], **attributes: int) -> None:
        for way in ways:
            await self._call(proxy.add_toxic, type=kind, stream=way, attributes=attributes)

    async def _clear(self, proxy: Any) -> None:
        if not proxy.enabled:
            await self._call(proxy.enable)
        for name in await self._call(proxy.toxics):
            await self._call(proxy.destroy_toxic, name)


async def _until(asked: Callable[[], Any], within_s: float) -> None:
    """Ask until the answer is yes. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await asked():  # noqa: ASYNC110  # another process: no event can tell us
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])
