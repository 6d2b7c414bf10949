"""Replies as upstreams really send them, good, odd and broken, as data for every door's tests.

Each ``Case`` is a name, the raw bytes that the origin writes before it (perhaps) goes on, and what
must come of them:

- ``whole``: the reply arrives, ``status`` and ``body`` as given, ``unambiguous`` as given.
- ``cut``: no answer; the body or the head was cut before its end.
- ``refused``: no answer; we do not take such a reply.
- ``either``: the parser may take or refuse it, but if it is taken it is not ``unambiguous``.

``SECOND`` is a whole other reply: written in the same segment right behind a case it must never
be taken for the answer to the next request. ``close`` tells that the origin closes after writing.
"""

import random
from dataclasses import dataclass
from typing import Final, Literal

SECOND: Final = (b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\n"
                 b"Content-Length: 24\r\n\r\n{\"leaked\": \"9990000018\"}")
"""What must leak into nobody's answer (the number is from the test range)."""

BODY: Final = b'{"resourceType":"Bundle","type":"searchset","total":0}' + b" " * 200
GOOD: Final = (b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nETag: W/\"1\"\r\n"
               b"Content-Length: %d\r\n\r\n" % len(BODY)) + BODY
GOOD_CHUNKED: Final = (
    b"HTTP/1.1 200 \r\nContent-Type: application/fhir+json\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n" % 100 + BODY[:100] + b"\r\n" + b"%x\r\n" % len(BODY[100:]) + BODY[100:]
    + b"\r\n0\r\n\r\n")

Outcome = Literal["whole", "cut", "refused", "either"]


@dataclass(frozen=True)
class Case:
    """One reply on the wire and what must come of it."""

    name: str
    raw: bytes
    outcome: Outcome = "whole"
    unambiguous: bool = True
    status: int = 200
    body: bytes = b""
    close: bool = False
    method: str = "GET"


def _head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", *lines)) + b"\r\n\r\n"


def _odd(name: str, raw: bytes) -> Case:
    """A reply with two readings: whatever the parser makes of it, it is never unambiguous."""
    return Case(name, raw, "either", unambiguous=False)


_GOOD: Final = (
    Case("a plain reply with a length", GOOD, body=BODY),
    Case("chunked, with an empty reason", GOOD_CHUNKED, body=BODY),
    Case("an empty body", _head(b"Content-Length: 0")),
    Case("a coding in capitals", _head(b"TRANSFER-ENCODING: CHUNKED") + b"2\r\nok\r\n0\r\n\r\n",
         body=b"ok"),
    Case("chunk sizes with leading zeros and capitals",
         _head(b"Transfer-Encoding: chunked") + b"000A\r\n0123456789\r\n00\r\n\r\n",
         body=b"0123456789"),
    Case("trailers", _head(b"Transfer-Encoding: chunked")
         + b"2\r\nok\r\n0\r\nX-Checksum: 1\r\nX-More: 2\r\n\r\n", body=b"ok"),
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", status=204),
    Case("304 that states the length it would have had",
         b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", status=304),
    Case("HEAD with a length", _head(b"Content-Length: 4096"), method="HEAD"),
    Case("HEAD with chunked", _head(b"Transfer-Encoding: chunked"), method="HEAD"),
    Case("100 and 103 before the answer", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints"
         b"\r\nLink: <x>; rel=preload\r\n\r\n" + GOOD, body=BODY),
    Case("a field value in UTF-8", _head("X-Name: Zoë".encode(), b"Content-Length: 2") + b"ok",
         body=b"ok"),
    Case("fields of one name in three cases",
         _head(b"Set-Cookie: a=1", b"set-cookie: b=2", b"SET-COOKIE: c=3", b"Content-Length: 2")
         + b"ok", body=b"ok"),
    Case("a head of 8 kB", _head(b"X-Long: " + b"y" * 8000, b"Content-Length: 2") + b"ok",
         body=b"ok"),
    Case("no empty line is mistaken inside a body",
         _head(b"Content-Length: 30") + b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n-------",
         body=b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n-------"),
)
_CLOSED: Final = (
    Case("ended by close", _head(b"Content-Type: text/plain") + b"until the end", close=True,
         body=b"until the end"),
    Case("HTTP/1.0 ended by close", b"HTTP/1.0 200 OK\r\n\r\nold", close=True, body=b"old"),
    Case("HTTP/1.0 with a length", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", close=True,
         body=b"old"),
    Case("Connection: close with a length",
         _head(b"Connection: close", b"Content-Length: 2") + b"ok", close=True, body=b"ok"),
)
_ODD: Final = (
    _odd("bare LF in the head", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    _odd("bare LF after one field", b"HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 2\r\n\r\nok"),
    _odd("a chunk size with a space behind",
         _head(b"Transfer-Encoding: chunked") + b"2 \r\nok\r\n0\r\n\r\n"),
    _odd("a chunk size with 0x", _head(b"Transfer-Encoding: chunked")
         + b"0x2\r\nok\r\n0\r\n\r\n"),
    _odd("bare LF after a chunk size",
         _head(b"Transfer-Encoding: chunked") + b"2\nok\r\n0\r\n\r\n"),
    _odd("bare LF after a chunk", _head(b"Transfer-Encoding: chunked") + b"2\r\nok\n0\r\n\r\n"),
    _odd("a chunk longer than it says",
         _head(b"Transfer-Encoding: chunked") + b"2\r\nokay\r\n0\r\n\r\n"),
    _odd("a length and chunked",
         _head(b"Content-Length: 2", b"Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n"),
    _odd("two lengths that differ", _head(b"Content-Length: 2", b"Content-Length: 3") + b"ok!"),
    _odd("two lengths alike", _head(b"Content-Length: 2", b"Content-Length: 2") + b"ok"),
    _odd("a listed length", _head(b"Content-Length: 2, 2") + b"ok"),
    _odd("a signed length", _head(b"Content-Length: +2") + b"ok"),
    _odd("a folded field", b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok"),
    _odd("a space before the colon", _head(b"Content-Length : 2") + b"ok"),
    _odd("NUL in a field", _head(b"X: a\x00b", b"Content-Length: 2") + b"ok"),
    _odd("a bare CR in a field", _head(b"X: a\rb", b"Content-Length: 2") + b"ok"),
    _odd("an empty line first", b"\r\n" + GOOD),
    _odd("a field without a colon", _head(b"nonsense", b"Content-Length: 2") + b"ok"),
    _odd("a length among the trailers", _head(b"Transfer-Encoding: chunked")
         + b"2\r\nok\r\n0\r\nContent-Length: 2\r\n\r\n"),
)
_REFUSED: Final = tuple(Case(name, raw, "refused", unambiguous=False) for name, raw in (
    ("gzip, chunked", _head(b"Transfer-Encoding: gzip, chunked") + b"2\r\nok\r\n0\r\n\r\n"),
    ("chunked, gzip", _head(b"Transfer-Encoding: chunked, gzip") + b"2\r\nok\r\n0\r\n\r\n"),
    ("identity", _head(b"Transfer-Encoding: identity", b"Content-Length: 2") + b"ok"),
    ("chunked twice", _head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")
     + b"2\r\nok\r\n0\r\n\r\n"),
    ("chunked in HTTP/1.0",
     b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("no HTTP at all", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("a status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("switching protocols unasked",
     b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    ("a head without end", _head(b"X: " + b"y" * 300_000, b"Content-Length: 2") + b"ok"),
))
_NOT_UTF8: Final = Case(
    "a field value that is not UTF-8", _head(b"X-Name: Zo\xeb", b"Content-Length: 2") + b"ok",
    "refused")
_SURPLUS: Final = (
    Case("204 with a body", b"HTTP/1.1 204 No Content\r\n\r\nbody", status=204,
         unambiguous=False),
    Case("304 with a body", b"HTTP/1.1 304 Not Modified\r\n\r\nbody", status=304,
         unambiguous=False),
    Case("HEAD with a body", _head(b"Content-Length: 4") + b"body", method="HEAD",
         unambiguous=False),
    Case("more than its length", _head(b"Content-Length: 2") + b"okay", body=b"ok",
         unambiguous=False),
    Case("something after the last chunk", GOOD_CHUNKED + b"X", body=BODY, unambiguous=False),
)


def _cuts(seed: int, count: int) -> tuple[Case, ...]:
    """Return ``count`` good replies cut at random bytes, never at their end."""
    dice = random.Random(seed)
    cases = []
    for number in range(count):
        whole = (GOOD, GOOD_CHUNKED)[number % 2]
        at = dice.randrange(1, len(whole) - 1)
        kind = "chunked" if number % 2 else "length"
        cases.append(Case(f"{kind} cut at byte {at} of {len(whole)}", whole[:at], "cut",
                          close=True))
    return tuple(cases)


CUTS: Final = _cuts(seed=20261124, count=24)
FOLLOWED: Final = (*_GOOD, *_ODD, *_REFUSED, _NOT_UTF8, *_SURPLUS)
"""Cases after which the origin's connection stays open: ``SECOND`` may be written behind them."""
CASES: Final = (*FOLLOWED, *_CLOSED, *CUTS)
