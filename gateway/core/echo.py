"""Signed, numbered echoes: what goes over the wire, who may be believed, and which way loss fell.

Rule 1: a reply counts only if it signs our very question: nonce, number and the link's origin
        (N21). A portal cannot, whatever it answers; nor can an old reply, as no question is asked
        twice.
Rule 2: a reply is exactly as long as its question. Whoever forges a sender's address gains nothing.
Rule 3: whoever has not our secret costs an anchor one hash and leaves no trace in its memory.
Rule 4: a reply tells which of the last 64 questions arrived, so the asker knows of each one that
        stayed unanswered whether the question or the reply was lost (N22).

A question is 36 bytes, big-endian, then zeros up to the wanted length; a reply is as long::

    question  magic 2 | key id 2 | origin 6          | nonce 4 | seq 4 | sent 2 | tag 16 | zeros
    reply     magic 2 | key id 2 | arrived 8 (bitmap) | nonce 4 | seq 4          | tag 16 | zeros

``origin`` is a hash of the link's name and of the asker's run, so that two devices, or one device
before and after its restart, never share a window. The tag is HMAC-SHA256 cut to 16 bytes, over the
head and the zeros; a reply's also covers its question's head. ``sent`` is the asker's clock in
milliseconds, modulo 65,536: for people who read a capture.
"""

import hmac
import struct
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

TAG_BYTES: Final = 16
SECRET_BYTES_MIN: Final = 32
"""As long as the hash: RFC 2104 section 3 advises against less."""
DATAGRAM_BYTES: Final = 36
"""So that a bare echo over IPv4 is the ladder's least rung, 64 bytes on the wire."""
DATAGRAM_BYTES_MAX: Final = 1472
"""What IPv4 leaves of an Ethernet frame: longer datagrams are nobody's question."""
IPV4_UDP_BYTES: Final = 28
IPV6_UDP_BYTES: Final = 48
LADDER: Final = (64, 1200, 1400, 1472, 1500)
"""Bytes on the wire of each rung, IP header included: those of links.md section 3, and a whole
Ethernet frame's, without which a hole as PPPoE's (1492) or GRE's (1476) makes would be missed."""
WINDOW: Final = 64
"""Questions that a reply tells of: 16 s of them at 250 ms."""

_QUESTION_MAGIC: Final = 0xE701  # format 1; a second format counts on from here by two
_REPLY_MAGIC: Final = 0xE702
_QUESTION: Final = struct.Struct("!HH6s4sIH")
_REPLY: Final = struct.Struct("!HHQ4sI")
_HEAD: Final = _QUESTION.size
_SEQ_MAX: Final = 0xFFFFFFFF
_ALL: Final = (1 << WINDOW) - 1


@dataclass(frozen=True, slots=True)
class Question:
    """One echo asked. ``nonce`` is 4 random bytes, ``origin`` 6; ``seq`` counts from 1."""

    origin: bytes
    nonce: bytes
    seq: int
    sent_ms: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """Which questions of one origin arrived: bit ``n`` of ``arrived`` stands for ``newest - n``."""

    newest: int = 0
    arrived: int = 0

    def take(self, seq: int) -> "Window | None":
        """Return the window with ``seq`` in it; None where it is there already, or is too old.

        Such a question is a repetition, somebody's or the network's: it gets no reply.
        """
        ahead = seq - self.newest
        if ahead > 0:
            arrived = (self.arrived << ahead) & _ALL if ahead < WINDOW else 0
            return Window(seq, arrived | 1)
        bit = 1 << -ahead
        if -ahead >= WINDOW or self.arrived & bit:
            return None
        return Window(self.newest, self.arrived | bit)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that is ours. ``arrived`` counts back from ``newest``, as in ``Window``.

    A question that overtook an older one makes ``newest`` more than the number replied to; a reply
    tells only of numbers up to its own.
    """

    seq: int
    arrived: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Of ``sent`` questions so many were lost on the way ``up``, as many replies on the way down.

    ``untold``: unanswered, and no later reply has told yet whether they arrived.
    """

    sent: int = 0
    up: int = 0
    down: int = 0
    untold: int = 0


def key_id(secret: bytes) -> int:
    """Return 16 bits that name ``secret`` without telling it: for its change, two at a time."""
    return int.from_bytes(sha256(b"practice-gateway echo key\0" + secret).digest()[:2])


def origin(link: str, run: bytes) -> bytes:
    """Return who asks: the link's name and ``run``, random bytes of this run, in 6 bytes."""
    return sha256(b"practice-gateway echo origin\0" + run + link.encode()).digest()[:6]


def question_bytes(question: Question, secret: bytes, length: int = DATAGRAM_BYTES) -> bytes:
    """Return the datagram of ``length`` bytes, 36 at least, that asks ``question``."""
    head = _QUESTION.pack(_QUESTION_MAGIC, key_id(secret), question.origin, question.nonce,
                          question.seq, question.sent_ms & 0xFFFF)
    zeros = bytes(length - DATAGRAM_BYTES)
    return head + _tag(secret, head, zeros) + zeros


def read_question(datagram: bytes, secrets: Mapping[int, bytes]) -> tuple[Question, bytes] | None:
    """Return the question in ``datagram`` and the secret that signed it; None for anything else.

    ``secrets`` are by their ``key_id``. At most one hash over at most 1,472 bytes is computed.
    """
    if not DATAGRAM_BYTES <= len(datagram) <= DATAGRAM_BYTES_MAX:
        return None
    magic, key, whose, nonce, seq, sent_ms = _QUESTION.unpack_from(datagram)
    secret = secrets.get(key)
    if magic != _QUESTION_MAGIC or secret is None or seq == 0:
        return None
    if not _is_signed(datagram, secret):
        return None
    return Question(whose, nonce, seq, sent_ms), secret


def reply_bytes(datagram: bytes, window: Window, secret: bytes) -> bytes:
    """Return the reply to the question in ``datagram``, which ``read_question`` has accepted."""
    _, key, _, nonce, seq, _ = _QUESTION.unpack_from(datagram)
    arrived = (window.arrived >> (window.newest - seq)) & _ALL
    head = _REPLY.pack(_REPLY_MAGIC, key, arrived, nonce, seq)
    zeros = datagram[DATAGRAM_BYTES:]
    return head + _tag(secret, head, zeros, datagram[:_HEAD]) + zeros


def read_reply(datagram: bytes, asked: bytes, secret: bytes) -> Reply | None:
    """Return the reply to the question ``asked``; None where its signature is not right."""
    if len(datagram) != len(asked):
        return None
    magic, _, arrived, _, seq = _REPLY.unpack_from(datagram)
    if magic != _REPLY_MAGIC or not _is_signed(datagram, secret, asked[:_HEAD]):
        return None
    return Reply(seq, arrived)


def seq_of(datagram: bytes) -> int:
    """Return the number that a reply claims to answer, 0 where it is not even of our form."""
    if len(datagram) < DATAGRAM_BYTES:
        return 0
    magic, _, _, _, seq = _REPLY.unpack_from(datagram)
    return int(seq) if magic == _REPLY_MAGIC else 0


def _tag(secret: bytes, head: bytes, zeros: bytes, asked: bytes = b"") -> bytes:
    # What may be left out (``asked``) comes first and has one length, and the magic tells which
    # it is: no two datagrams have one hash.
    return hmac.digest(secret, asked + head + zeros, "sha256")[:TAG_BYTES]


def _is_signed(datagram: bytes, secret: bytes, asked: bytes = b"") -> bool:
    """Whether the tag is right, compared in a time that does not depend on how nearly it is."""
    expected = _tag(secret, datagram[:_HEAD], datagram[DATAGRAM_BYTES:], asked)
    return hmac.compare_digest(expected, datagram[_HEAD:DATAGRAM_BYTES])


def datagram_length(wire_bytes: int, is_ipv6: bool) -> int:
    """Return the datagram's length that makes ``wire_bytes`` on the wire, or the least there is."""
    return max(DATAGRAM_BYTES, wire_bytes - (IPV6_UDP_BYTES if is_ipv6 else IPV4_UDP_BYTES))


def wire_bytes(is_ipv6: bool = False, rung: int = 0) -> int:
    """Return what one question and its reply cost on the wire together, IP and UDP included.

    ``rung`` is 0 for an echo, which costs 128 bytes over IPv4: 33 MB a month every 10 s.
    """
    headers = IPV6_UDP_BYTES if is_ipv6 else IPV4_UDP_BYTES
    return 2 * (datagram_length(rung, is_ipv6) + headers)


def loss(sent: Iterable[int], answered: AbstractSet[int], replies: Iterable[Reply]) -> Loss:
    """Tell for each number in ``sent`` without an answer whether it was lost up or down.

    A reply says nothing of numbers before the oldest that it knows to have arrived: an anchor that
    was restarted knows only what came since.
    """
    numbers = list(sent)
    known = list(replies)
    counts = {"up": 0, "down": 0, "untold": 0}
    for seq in numbers:
        if seq not in answered:
            counts[_way(seq, known)] += 1
    return Loss(len(numbers), counts["up"], counts["down"], counts["untold"])


def _way(seq: int, replies: list[Reply]) -> str:
    found = "untold"
    for reply in replies:
        back = reply.seq - seq
        if not 0 <= back < reply.arrived.bit_length():
            continue
        if reply.arrived >> back & 1:
            return "down"  # it arrived, so the reply did not; one that says so settles it
        found = "up"
    return found
