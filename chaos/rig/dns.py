"""A name server of a few lines: says one address for each name that it knows, and counts.

Honest or a liar, as it is told; ``NXDOMAIN`` for what it does not know, and no IPv6. Only what a
stub resolver asks for is understood (RFC 1035 §4.1: one question, class IN).
"""

import asyncio
import ipaddress
import struct
from collections.abc import Mapping
from typing import Final, cast

A: Final = 1
TTL_S: Final = 1  # so that a resolver which obeyed it would ask again at once
ANY_NAME: Final = "*"


class Names(asyncio.DatagramProtocol):
    """Answers from ``known`` (name in lower case to IPv4; ``*`` is any); ``asked`` counts."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = dict(known)
        self.asked = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where answers go."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question; a packet that is none gets no answer."""
        answer = reply(data, self.known)
        if answer and self._transport is not None:
            self.asked += 1
            self._transport.sendto(answer, addr)


def reply(question: bytes, known: Mapping[str, str]) -> bytes:
    """Return the answer to one DNS packet, ``b""`` where it is no question."""
    parsed = _parse(question)
    if parsed is None:
        return b""
    name, kind, end = parsed
    address = known.get(name) or known.get(ANY_NAME)
    records = b""
    if address and kind == A:
        packed = ipaddress.IPv4Address(address).packed
        records = struct.pack("!HHHIH", 0xC00C, A, 1, TTL_S, len(packed)) + packed
    flags = 0x8180 if address else 0x8183  # a recursive answer; without an address, no such name
    head = question[:2] + struct.pack("!HHHHH", flags, 1, 1 if records else 0, 0, 0)
    return head + question[12:end] + records


def _parse(question: bytes) -> tuple[str, int, int] | None:
    """Return (name, type, where the question ends)."""
    labels: list[str] = []
    at = 12
    while at < len(question) and question[at]:
        size = question[at]
        labels.append(question[at + 1:at + 1 + size].decode("ascii", "replace"))
        at += 1 + size
    if len(question) < at + 5 or not labels or question[2] & 0x80:
        return None
    return ".".join(labels).lower(), struct.unpack_from("!H", question, at + 1)[0], at + 5
