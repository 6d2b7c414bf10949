"""One link's names: asked of that link's own servers, from its own address, never of another's.

Law (links.md §14): a name that was known is never forgotten because a server went quiet. Answers
live by their TTL (10 s at least, an hour at most) and are asked again before they end; when a
lookup fails, or says that the name does not exist, the last good answer of the past seven days is
used and ``stale_answers`` counts it; before that a second resolver is asked over the same link, and
then what another link knows just now is taken. A name never known fails in the time of these
lookups and is not asked again for a second. Addresses over which the right certificate was once
shown (``proved``) are tried after the present answer's, so that a lie costs one handshake and not
the request.

aiohttp's own resolver keeps answers 10 s whatever the TTL says, forgets at once, and without aiodns
blocks one thread pool for all links (§17): hence this one, over ``aiodns``, or, where the link has
no servers configured, over the system's resolver in a pool of this link's own.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import aiodns
import pycares
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.core.instant import Mono
from gateway.core.link import Link, Sample
from gateway.ports import Clock

LOOKUP_S: Final = 0.8
"""One try; twice the worst round trip over 4G and its server's (links.md §14)."""
TTL_MIN_S: Final = 10.0
TTL_MAX_S: Final = 3600.0
EARLY: Final = 0.8
"""An answer is asked for again, behind the requests, after this part of its life."""
KNOWN_GOOD_S: Final = 7 * 86400.0
FAILURE_S: Final = 1.0
NAMES_MAX: Final = 256
NAME_MAX: Final = 253
"""RFC 1035 §2.3.4, less the two octets that text does not show."""
PROVED_MAX: Final = 4
HOSTS_BYTES_MAX: Final = 1 << 20
SYSTEM_THREADS: Final = 2
NEVER: Final = Mono(float("-inf"))

Found: TypeAlias = tuple[tuple[str, ...], float]
"""Addresses and the seconds they may be used."""


@dataclass(slots=True)
class _Name:
    """What is known of one name. ``lookup`` is the question under way, shared by all who wait."""

    addresses: tuple[str, ...] = ()
    asked_again: Mono = NEVER
    expires: Mono = NEVER
    learned: Mono = NEVER
    failed_until: Mono = NEVER
    failing: bool = False
    lookup: asyncio.Future[None] | None = None
    proved: dict[str, Mono] = field(default_factory=dict)

    def known(self, now: Mono) -> tuple[str, ...]:
        """The last good answer, if it is not too old, then what was proved before."""
        good = self.addresses if now - self.learned <= KNOWN_GOOD_S else ()
        older = tuple(address for address, when in self.proved.items()
                      if now - when <= KNOWN_GOOD_S and address not in good)
        return good + older


class LinkResolver(AbstractResolver):
    """Resolves names for ``link``; must be made inside the running loop.

    ``see`` is told of each real lookup as a Sample of layer ``dns`` (target ``own``, or ``other``
    for the second resolver; a miss is dated when the answer was due). ``hosts_file`` names that
    need no lookup. Set ``elsewhere`` to what other links know of a host (their ``fresh``).
    """

    def __init__(self, link: Link, clock: Clock, see: Callable[[Sample], None],
                 hosts_file: str = "/etc/hosts") -> None:
        self._link, self._clock, self._see = link, clock, see
        self._loop = asyncio.get_running_loop()
        self._names: dict[str, _Name] = {}
        self._hosts = _read_hosts(Path(hosts_file))
        self._families = _families(link)
        self._channels: set[aiodns.DNSResolver] = set()
        self._spent: list[aiodns.DNSResolver] = []
        self._threads = None if link.resolvers else ThreadPoolExecutor(
            SYSTEM_THREADS, thread_name_prefix=f"dns-{link.id}")
        self._closed = False
        self.stale_answers = 0
        self.elsewhere: Callable[[str], tuple[str, ...]] = lambda host: ()

    async def resolve(self, host: str, port: int = 0,
                      family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Return the addresses of ``host``, the present answer's first.

        Raises:
            OSError: the name has no address on this link and never had one in seven days.
        """
        if not host.isascii() or not 0 < len(host) <= NAME_MAX:
            raise OSError(None, "no name of a host")
        addresses = self._fixed(host) or await self._look_up(host.lower().rstrip("."))
        results = [_result(host, address, port) for address in addresses]
        wanted = [each for each in results if family in (socket.AF_UNSPEC, each["family"])]
        if not wanted:
            raise OSError(None, "the name has no address on this link")
        return wanted

    async def check(self, host: str) -> bool:
        """Ask for ``host`` anew at both resolvers, whatever is known of it: a probe of names.

        Returns False, and asks nobody, where the name needs no lookup.
        """
        if not host.isascii() or not 0 < len(host) <= NAME_MAX or self._fixed(host):
            return False
        host = host.lower().rstrip(".")
        own = self._begin(host, self._name(host))
        if self._link.other_resolver and not self._closed:
            await self._ask_other(host)
        await own
        return True

    def is_failing(self, host: str) -> bool:
        """Whether the last lookup of ``host`` found no address, or it was never looked up."""
        name = self._names.get(host.lower().rstrip("."))
        return name is None or name.failing or not name.addresses

    def fresh(self, host: str) -> tuple[str, ...]:
        """Return the addresses of ``host`` that a resolver gave and that still live; else none."""
        name = self._names.get(host.lower().rstrip("."))
        return name.addresses if name is not None and self._clock.now() < name.expires else ()

    def proved(self, host: str, address: str) -> None:
        """Note that ``address`` showed the right certificate for ``host`` just now."""
        name = self._names.get(host.lower().rstrip("."))
        if name is None:
            return
        name.proved.pop(address, None)
        name.proved[address] = self._clock.now()
        while len(name.proved) > PROVED_MAX:
            del name.proved[next(iter(name.proved))]

    @property
    def failing(self) -> int:
        """How many names are being answered from memory because their last lookup failed."""
        return sum(name.failing for name in self._names.values())

    async def close(self) -> None:
        """Let go of the channel or the threads; lookups under way end as failures."""
        self._closed = True
        for channel in (*self._channels, *self._spent):
            await channel.close()
        self._spent.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _fixed(self, host: str) -> tuple[str, ...]:
        """Addresses that need no lookup: literals, and what the hosts file says."""
        with contextlib.suppress(ValueError):
            return (str(ipaddress.ip_address(host.strip("[]"))),)
        return self._hosts.get(host.lower().rstrip("."), ())

    async def _look_up(self, host: str) -> tuple[str, ...]:
        while self._spent:
            await self._spent.pop().close()
        now = self._clock.now()
        name = self._name(host)
        if now < name.expires:
            if now >= name.asked_again:
                self._begin(host, name)
            return name.known(now)
        if now < name.failed_until:
            return self._from_memory(host, name, now)
        lookup = self._begin(host, name)
        known = name.known(now)
        if not (known and name.failing):  # while it goes on failing nobody waits for it twice
            patience = LOOKUP_S if known else self._patience_s
            await asyncio.wait({lookup}, timeout=patience)
        now = self._clock.now()
        return name.known(now) if now < name.expires else self._from_memory(host, name, now)

    @property
    def _patience_s(self) -> float:
        return (4 if self._link.other_resolver else 2) * LOOKUP_S + 0.2

    def _from_memory(self, host: str, name: _Name, now: Mono) -> tuple[str, ...]:
        neighbours = self.elsewhere(host)
        if neighbours:
            return neighbours
        known = name.known(now)
        if not known:
            raise OSError(None, "the name has no address on this link")
        self.stale_answers += 1
        return known

    def _name(self, host: str) -> _Name:
        name = self._names.get(host)
        if name is None:
            while len(self._names) >= NAMES_MAX:
                del self._names[next(iter(self._names))]
            name = self._names[host] = _Name()
        return name

    def _begin(self, host: str, name: _Name) -> asyncio.Future[None]:
        """Start a lookup, or join the one under way. It outlives whoever asked first."""
        if name.lookup is not None:
            return name.lookup
        channel = None if self._threads or self._closed else _channel(self._link)
        done = name.lookup = self._loop.create_future()  # after what may raise: else it never ends
        sent_at = self._clock.now()
        questions = self._ask(host, channel)
        answers: list[asyncio.Future[Found]] = []

        def heard(answer: asyncio.Future[Found] | None) -> None:
            answers.extend([answer] if answer is not None else [])
            if len(answers) < len(questions):
                return
            self._spend(channel)
            found = _gather(answers)
            self._told("own", bool(found[0]), sent_at)
            if found[0] or not self._link.other_resolver or self._closed:
                self._learn(name, found)
                done.set_result(None)
                return
            try:
                self._ask_other(host).add_done_callback(second_heard)
            except (OSError, pycares.AresError):  # no socket left: as if it had not answered
                self._learn(name, found)
                done.set_result(None)

        def second_heard(answer: asyncio.Future[Found]) -> None:
            self._learn(name, ((), 0.0) if answer.cancelled() else answer.result())
            if not done.done():
                done.set_result(None)

        for question in questions:
            question.add_done_callback(heard)
        if not questions:
            heard(None)
        return done

    def _ask(self, host: str, channel: aiodns.DNSResolver | None) -> set[asyncio.Future[Found]]:
        if self._closed:
            return set()
        if channel is None:
            return {self._loop.run_in_executor(self._threads, _system, host)}
        self._channels.add(channel)
        return {_query(self._loop, channel, host, kind) for kind in self._families}

    def _spend(self, channel: aiodns.DNSResolver | None) -> None:
        """Its callbacks run inside the channel, so it is closed by whoever asks next."""
        if channel is not None:
            self._channels.discard(channel)
            self._spent.append(channel)

    def _ask_other(self, host: str) -> asyncio.Future[Found]:
        """Ask the second resolver, over this link as well, and tell how that went."""
        sent_at = self._clock.now()
        done: asyncio.Future[Found] = self._loop.create_future()
        channel = _channel(self._link, (self._link.other_resolver,))
        self._channels.add(channel)
        answers = [_query(self._loop, channel, host, kind) for kind in self._families]

        def heard(_: asyncio.Future[Found]) -> None:
            if done.done() or not all(answer.done() for answer in answers):
                return
            self._spend(channel)
            found = _gather(answers)
            self._told("other", bool(found[0]), sent_at)
            done.set_result(found)

        for answer in answers:
            answer.add_done_callback(heard)
        return done

    def _learn(self, name: _Name, answer: Found) -> None:
        name.lookup = None
        found, ttl = answer
        now = self._clock.now()
        name.failing = not found
        if found:
            life = min(max(ttl, TTL_MIN_S), TTL_MAX_S)
            name.addresses, name.learned = found, now
            name.expires, name.asked_again = Mono(now + life), Mono(now + life * EARLY)
        else:  # asked again in a second; an answer that still lives is used to its end
            name.failed_until = Mono(now + FAILURE_S)
            name.asked_again = Mono(now + FAILURE_S)

    def _told(self, whom: str, found: bool, sent_at: Mono) -> None:
        now = self._clock.now()
        due = now if found else Mono(min(now, sent_at + LOOKUP_S))
        self._see(Sample(self._link.id, whom, "dns", found, sent_at, due,
                         rtt_ms=(now - sent_at) * 1000 if found else None,
                         detail="" if found else "resolve"))


def _channel(link: Link, servers: tuple[str, ...] = ()) -> aiodns.DNSResolver:
    """A c-ares channel bound like the link. With two servers the second is the retry.

    Each lookup has its own (0.3 ms): c-ares keeps a cache of its own that pycares cannot turn off,
    and an answer out of that would count as a sign of life of a link that is dead.
    """
    asked = servers or link.resolvers
    tries = 2 if len(asked) == 1 else 1
    return aiodns.DNSResolver(
        nameservers=list(asked), timeout=LOOKUP_S, tries=tries,
        local_dev=link.interface or None, local_ip=link.source or None)


def _families(link: Link) -> tuple[str, ...]:
    """Which records to ask for: those that a socket bound to this link's source could use."""
    if not link.source:
        return ("A", "AAAA")
    return ("AAAA",) if ":" in link.source else ("A",)


def _query(loop: asyncio.AbstractEventLoop, channel: aiodns.DNSResolver, host: str,
           kind: str) -> asyncio.Future[Found]:
    """Ask for one kind of record; the future holds addresses and TTL, or a DNSError."""
    found: asyncio.Future[Found] = loop.create_future()

    def heard(answer: asyncio.Future[pycares.DNSResult]) -> None:
        trouble = answer.exception()
        if trouble is not None:
            found.set_exception(trouble)
            return
        records = [(str(each.data.addr), float(each.ttl)) for each in answer.result().answer
                   if isinstance(each.data, (pycares.ARecordData, pycares.AAAARecordData))]
        found.set_result((tuple(address for address, _ in records),
                          min((ttl for _, ttl in records), default=0.0)))

    channel.query_dns(host, kind).add_done_callback(heard)
    return found


def _system(host: str) -> Found:
    """Ask the system's resolver: blocking, so only ever in this link's own threads."""
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(info[4][0]) for info in infos)), TTL_MIN_S


def _gather(answers: list[asyncio.Future[Found]]) -> Found:
    """Put together what came; IPv6 and IPv4 are interleaved later, by who connects."""
    found: list[str] = []
    ttls: list[float] = []
    for answer in answers:
        if answer.cancelled() or answer.exception() is not None:
            continue
        addresses, ttl = answer.result()
        found += addresses
        ttls += [ttl] if addresses else []
    return tuple(found), min(ttls, default=0.0)


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0,
                         flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)


def _read_hosts(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Read ``address name...`` lines; localhost is known even without a file (RFC 6761 §6.3)."""
    names: dict[str, tuple[str, ...]] = {}
    text = ""
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(HOSTS_BYTES_MAX)
    for line in text.splitlines():
        address, *aliases = line.partition("#")[0].split() or [""]
        with contextlib.suppress(ValueError):
            plain = str(ipaddress.ip_address(address))
            for alias in aliases:
                names[alias.lower()] = (*names.get(alias.lower(), ()), plain)
    names.setdefault("localhost", ("127.0.0.1", "::1"))
    return names
