"""Whether the framing of a reply has exactly one reading, told from its raw bytes.

Law: the scanner follows a reply only as long as the grammar of RFC 9112 leaves one way to read
it: CRLF line ends, one ``Content-Length`` or one ``Transfer-Encoding: chunked`` but not both, bare
hexadecimal chunk sizes, nothing after the end. At the first byte that two parsers might read
differently it is *lost*: it follows no further and ``unambiguous`` stays False. Such a reply may
be passed on, but it is never kept and its connection is never used again, because what one side
takes for the end of this reply the other may take for the start of the next (request smuggling's
mirror image, and a breach between tenants).

It keeps no body and copies none: bodies are skipped by length, so a megabyte costs what its chunk
headers cost. It knows nothing of sockets, of HTTP libraries or of what a reply means.
"""

import re
from typing import Final, Literal, TypeAlias

from gateway.core.message import Ending

State: TypeAlias = Literal[
    "head", "length", "size", "data", "data_end", "trailer", "close", "ended", "lost"]

HEAD_BYTES_MAX: Final = 128 * 1024
"""Status line and fields, or trailers: 16 times the largest head in use, 8 kB (domain.md)."""
SIZE_LINE_MAX: Final = 1024
"""A chunk's size with its extensions: RFC 9112 §7.1.1 bids a recipient to limit them."""

_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_BODILESS: Final = frozenset({204, 304})


class Scanner:
    """Follows one reply to a request with ``method``; fed segments in the order they came.

    ``ending`` is how the reply's framing says that it ends, None before its head is whole.
    ``fault`` is a code for why the scanner was lost, ``""`` while it is not: for tests and logs.
    """

    def __init__(self, method: str) -> None:
        self._bodiless = method == "HEAD"
        self._state: State = "head"
        self._line = bytearray()
        self._seen = 0
        self._left = 0
        self._status = 0
        self._old = False
        self._lengths: list[bytes] = []
        self._codings: list[bytes] = []
        self.ending: Ending | None = None
        self.fault = ""

    @property
    def unambiguous(self) -> bool:
        """True while every byte so far had one reading only."""
        return not self.fault

    @property
    def ended(self) -> bool:
        """True when the reply's own framing says that it is whole."""
        return self._state == "ended"

    @property
    def lost(self) -> bool:
        """True when the scanner follows no more: where the reply ends is anybody's guess."""
        return self._state == "lost"

    @property
    def overgrown(self) -> bool:
        """True when the head or the trailers are longer than ``HEAD_BYTES_MAX``."""
        return self.fault == "overgrown"

    def feed(self, data: bytes) -> int:
        """Follow ``data``; return how many of its leading bytes belong to this reply.

        Fewer than ``len(data)`` means that the reply ended and something came after it, which is
        itself a fault: nobody asked for it. A lost scanner claims everything.
        """
        at, end = 0, len(data)
        while at < end and self._state not in ("ended", "lost"):
            at = self._step(data, at)
        if self._state == "lost":
            return end
        if at < end:
            self.fault = self.fault or "surplus"
        return at

    def finish(self) -> bool:
        """The connection ended without an error: True if the reply is whole now."""
        if self._state == "close":
            self._state = "ended"
        return self._state == "ended"

    def _step(self, data: bytes, at: int) -> int:
        """Consume some of ``data`` from ``at``; return where the next step begins."""
        if self._state == "close":
            return len(data)
        if self._state in ("length", "data"):
            return self._skip(data, at)
        if self._state == "data_end":
            return self._expect_crlf(data, at)
        line, after = self._take_line(data, at)
        if line is None:
            return after
        if self._state == "size":
            self._read_size(line)
        elif line:
            self._read_field(line)
        elif self._state == "trailer":
            self._state = "ended"
        else:
            self._end_head()
        return after

    def _lose(self, fault: str) -> None:
        self._state, self.fault = "lost", fault
        self._line.clear()

    def _skip(self, data: bytes, at: int) -> int:
        step = min(self._left, len(data) - at)
        self._left -= step
        if not self._left:
            self._state = "ended" if self._state == "length" else "data_end"
        return at + step

    def _expect_crlf(self, data: bytes, at: int) -> int:
        """The two bytes after a chunk: skipping whatever stands there is how readings part."""
        self._line += data[at:at + 1]
        if not b"\r\n".startswith(self._line):
            self._lose("chunk_end")
        elif len(self._line) == 2:
            self._line.clear()
            self._state, self._seen = "size", 0
        return at + 1

    def _take_line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """Return the next whole line without its CRLF (None: not whole yet) and where it ends."""
        found = data.find(b"\n", at)
        after = len(data) if found < 0 else found + 1
        self._line += data[at:after]
        self._seen += after - at
        if self._seen > (SIZE_LINE_MAX if self._state == "size" else HEAD_BYTES_MAX):
            self._lose("overgrown")
            return None, after
        if found < 0:
            return None, after
        line = bytes(self._line)
        self._line.clear()
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            self._lose("line_end")
            return None, after
        return line[:-2], after

    def _read_field(self, line: bytes) -> None:
        if self._state == "head" and not self._status:
            self._read_status(line)
            return
        match = _FIELD.fullmatch(line)
        if match is None:
            self._lose("field")
            return
        name, value = match[1].lower(), match[2].rstrip(b"\t ")
        if name not in (b"content-length", b"transfer-encoding"):
            return
        if self._state == "trailer":
            self._lose("trailer")
        elif name == b"content-length":
            self._lengths.append(value)
        else:
            self._codings.append(value)

    def _read_status(self, line: bytes) -> None:
        match = _STATUS.fullmatch(line)
        if match is None:
            self._lose("status")
            return
        self._old, self._status = match[1] == b"0", int(match[2])

    def _end_head(self) -> None:
        if not self._status:  # an empty line before the status line
            self._lose("status")
        elif self._status < 200:
            self._end_interim()
        else:
            self._begin_body()

    def _end_interim(self) -> None:
        """A 1xx head has no body; 101 would leave HTTP, which nobody asked for."""
        if self._status == 101 or self._lengths or self._codings or self._old:
            self._lose("interim")
            return
        self._status = 0

    def _begin_body(self) -> None:
        """RFC 9112 §6.3, and wherever it forgives: lost."""
        framed = len(self._lengths) + len(self._codings)
        if framed > 1:
            self._lose("framed_twice")
        elif self._codings and (self._old or self._codings[0].lower() != b"chunked"):
            self._lose("coding")
        elif self._lengths and _LENGTH.fullmatch(self._lengths[0]) is None:
            self._lose("length")
        elif self._status == 204 and (self._codings or int(self._lengths[0] if framed else 0)):
            self._lose("body_of_204")
        else:
            self._frame(int(self._lengths[0]) if self._lengths else None)

    def _frame(self, length: int | None) -> None:
        if self._bodiless or self._status in _BODILESS:
            self.ending, self._state = "none", "ended"
        elif self._codings:
            self.ending, self._state, self._seen = "chunked", "size", 0
        elif length is None:
            self.ending, self._state = "close", "close"
        else:
            self.ending, self._left = "length", length
            self._state = "length" if length else "ended"

    def _read_size(self, line: bytes) -> None:
        """Bare digits: ``2 `` is two to one parser and an error to the next."""
        match = _SIZE.fullmatch(line)
        if match is None:
            self._lose("chunk_size")
            return
        self._left, self._seen = int(match[1], 16), 0
        self._state = "data" if self._left else "trailer"
