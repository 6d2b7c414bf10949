"""Requests as raw bytes, most of them malformed, as data for every door's tests.

Each ``Case`` says what its own answer's status must be, whether it arrives at the other side
(``arrives``), and whether the connection goes on to the good request that the test pipelines
behind it in the same segment (``survives``). ``NHS``, and the key put in by ``render``, are
marks: they stand in the URL, a header and the body, and must turn up in no error and no log.

Markers in the bytes: ``@ODS@ @UPSTREAM@ @KEY@ @AUTHORITY@``, see ``render``.
"""

from dataclasses import dataclass
from typing import Final

NHS: Final = b"9990000018"
"""A number of the test range."""

PATH: Final = b"/@ODS@/@UPSTREAM@"
PATIENT: Final = PATH + b"/Patient?identifier=" + NHS


@dataclass(frozen=True)
class Case:
    """One request on the wire and what must come of it. ``status`` 200 means that it passes."""

    name: str
    raw: bytes
    status: int = 400
    survives: bool = False

    @property
    def arrives(self) -> bool:
        """Whether it must reach the other side of the door."""
        return self.status == 200


def render(raw: bytes, ods: str, upstream: str, key: str, authority: str) -> bytes:
    """Put real names into ``raw``; ``authority`` is the listener's ``host:port``."""
    for mark, value in (
        (b"@ODS@", ods), (b"@UPSTREAM@", upstream), (b"@KEY@", key), (b"@AUTHORITY@", authority),
    ):  # fmt: skip
        raw = raw.replace(mark, value.encode())
    return raw


def request(
    *fields: bytes,
    method: bytes = b"GET",
    target: bytes = PATIENT,
    version: bytes = b"HTTP/1.1",
    host: bytes | None = b"Host: @AUTHORITY@",
    body: bytes = b"",
) -> bytes:
    """Write a request; the key and a marked header always stand in it."""
    lines = [method + b" " + target + b" " + version]
    lines += [host] if host is not None else []
    lines += [b"X-Gateway-Key: @KEY@", b"X-Marked: " + NHS, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


GOOD: Final = request(target=PATH + b"/metadata?good=1")
"""What is pipelined behind each case."""

BODY: Final = b'{"nhs":"' + NHS + b'"}'
_CL: Final = b"Content-Length: %d" % len(BODY)


def _post(*fields: bytes, body: bytes = BODY, **more: bytes) -> bytes:
    return request(*fields, method=b"POST", body=body, **more)


def _chunked(body: bytes, *fields: bytes) -> bytes:
    return _post(*(fields or (b"Transfer-Encoding: chunked",)), body=body)


def _climb(name: str, path: bytes) -> Case:
    return Case(f"dot segment: {name}", request(target=PATH + path), survives=True)


def _passes(name: str, target: bytes) -> Case:
    return Case(f"passes untouched: {name}", request(target=PATH + target), 200, True)


CHUNKS: Final = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

CASES: Final = (
    # Versions
    Case("HTTP/2.0 in a request line", request(version=b"HTTP/2.0"), 505),
    Case("HTTP/0.9 in a request line", request(version=b"HTTP/0.9"), 505),
    Case("HTTP/1.2", request(version=b"HTTP/1.2"), 505),
    Case("HTTP/3.0", request(version=b"HTTP/3.0"), 505),
    Case("lower-case http", request(version=b"http/1.1")),
    Case("no version at all", b"GET " + PATIENT + b"\r\n\r\n", 505),
    Case("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    # Transfer-Encoding
    Case("TE: gzip, chunked", _chunked(CHUNKS, b"Transfer-Encoding: gzip, chunked")),
    Case("TE: chunked, gzip", _chunked(CHUNKS, b"Transfer-Encoding: chunked, gzip")),
    Case("TE: gzip", _chunked(CHUNKS, b"Transfer-Encoding: gzip")),
    Case("TE: identity", _chunked(CHUNKS, b"Transfer-Encoding: identity")),
    Case("TE: chunked, chunked", _chunked(CHUNKS, b"Transfer-Encoding: chunked, chunked")),
    Case("TE: xchunked", _chunked(CHUNKS, b"Transfer-Encoding: xchunked")),
    Case("TE: chunked; with a parameter", _chunked(CHUNKS, b"Transfer-Encoding: chunked;q=1")),
    Case("TE quoted", _chunked(CHUNKS, b'Transfer-Encoding: "chunked"')),
    Case("TE twice", _chunked(CHUNKS, b"Transfer-Encoding: chunked",
                              b"transfer-encoding: chunked")),
    Case("TE with a vertical tab", _chunked(CHUNKS, b"Transfer-Encoding: \x0bchunked")),
    Case("TE empty", _chunked(CHUNKS, b"Transfer-Encoding:")),
    Case("TE in HTTP/1.0", _post(b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=CHUNKS)),
    Case("TE and CL", _chunked(CHUNKS, b"Transfer-Encoding: chunked", b"Content-Length: 3")),
    Case("CL and TE", _chunked(CHUNKS, b"Content-Length: 3", b"Transfer-Encoding: chunked")),
    Case("a space before TE's colon", _chunked(CHUNKS, b"Transfer-Encoding : chunked")),
    # Chunks
    Case("a chunk size that is no number", _chunked(b"zz\r\nab\r\n0\r\n\r\n")),
    Case("a chunk size with 0x", _chunked(b"0x2\r\nab\r\n0\r\n\r\n")),
    Case("a signed chunk size", _chunked(b"+2\r\nab\r\n0\r\n\r\n")),
    Case("a chunk size with a space behind", _chunked(b"2 \r\nab\r\n0\r\n\r\n")),
    Case("a chunk size over 64 bits", _chunked(b"10000000000000002\r\nab\r\n0\r\n\r\n")),
    Case("a chunk longer than its size", _chunked(b"2\r\nabc\r\n0\r\n\r\n")),
    Case("a chunk line ended by LF", _chunked(b"2\nab\r\n0\r\n\r\n")),
    Case("a last chunk ended by LF", _chunked(b"2\r\nab\r\n0\n\n")),
    Case("a chunk extension over its limit", _chunked(b"2;" + b"a" * 400 + b"\r\nab\r\n0\r\n\r\n")),
    Case("a chunk extension with a bare LF", _chunked(b"2;a\nb\r\nab\r\n0\r\n\r\n")),
    # Content-Length
    Case("CL twice, different", _post(_CL, b"Content-Length: 1")),
    Case("CL twice, the same", _post(_CL, _CL)),
    Case("CL as a list", _post(_CL + b", %d" % len(BODY))),
    Case("CL signed", _post(b"Content-Length: +20")),
    Case("CL negative", _post(b"Content-Length: -1")),
    Case("CL in hexadecimal", _post(b"Content-Length: 0x14")),
    Case("CL with a word", _post(b"Content-Length: 20abc")),
    Case("CL empty", _post(b"Content-Length:")),
    Case("CL over 64 bits", _post(b"Content-Length: 99999999999999999999999")),
    # Host and authority
    Case("no Host", request(host=None)),
    Case("Host twice", request(b"Host: other.example")),
    Case("Host empty", request(host=b"Host:"), survives=True),
    Case("Host with a path", request(host=b"Host: a.example/b"), survives=True),
    Case("Host with a user", request(host=b"Host: a@b.example"), survives=True),
    Case("Host as a list", request(host=b"Host: a.example, b.example"), survives=True),
    Case("Host with a space", request(host=b"Host: a b"), survives=True),
    Case("Host with a bad port", request(host=b"Host: a.example:99999"), survives=True),
    Case("Host with a port in letters", request(host=b"Host: a.example:http"), survives=True),
    Case("Host with a broken IPv6 literal", request(host=b"Host: [::1"), survives=True),
    Case("absolute form of a stranger", request(target=b"http://other.example" + PATIENT),
         survives=True),
    Case("absolute form with a user", request(target=b"http://u@@AUTHORITY@" + PATIENT),
         survives=True),
    Case("absolute form of another scheme", request(target=b"ftp://@AUTHORITY@" + PATIENT),
         survives=True),
    Case("authority form without CONNECT", request(target=b"@AUTHORITY@")),
    Case("asterisk form", request(method=b"OPTIONS", target=b"*"), survives=True),
    # Targets
    Case("a fragment", request(target=PATIENT + b"#x"), survives=True),
    Case("an empty fragment", request(target=PATH + b"/a#"), survives=True),
    Case("a space in the target", request(target=PATH + b"/a b")),
    Case("a NUL in the target", request(target=PATH + b"/a\x00b")),
    Case("a target that is not UTF-8", request(target=PATH + b"/a\xff")),
    Case("a target in raw UTF-8", request(target=PATH + b"/J\xc3\xb6rg")),
    _climb("plain ..", b"/../other/Patient"),
    _climb("plain .. at the end", b"/Patient/.."),
    _climb("plain .", b"/./Patient"),
    _climb("%2e%2e", b"/%2e%2e/other"),
    _climb(".%2E", b"/.%2E/other"),
    _climb("%2E", b"/%2E/x"),
    _climb("behind %2f", b"/a%2f..%2Fb"),
    _climb("behind a backslash", b"/a\\..\\b"),
    _climb("behind %5c", b"/a%5C%2e%2e/b"),
    _climb("at once behind the upstream", b"/.."),
    _climb("with a servlet parameter", b"/..;x=1/other"),
    Case("dot segment: before the practice", request(target=b"/.." + PATIENT), survives=True),
    # Header fields
    Case("a value that is not UTF-8", request(b"X-Name: J\xf6rg"), survives=True),
    Case("an overlong UTF-8 value", request(b"X-Name: \xc0\xaf"), survives=True),
    Case("a name that is not ASCII", request(b"X-N\xc3\xa4me: a")),
    Case("a folded line", request(b"X-Fold: a\r\n b")),
    Case("a space before a colon", request(b"X-Space : a")),
    Case("a line without a colon", request(b"Nonsense")),
    Case("an empty name", request(b": a")),
    Case("a NUL in a value", request(b"X-Nul: a\x00b")),
    Case("a bare CR in a value", request(b"X-Cr: a\rb")),
    Case("a bare LF in a value", request(b"X-Lf: a\nX-Smuggled: b")),
    Case("a first field that begins with a space", request(host=b" Host: @AUTHORITY@")),
    Case("lines ended by LF", request().replace(b"\r\n", b"\n")),
    Case("a request line ended by LF", request().replace(b"\r\n", b"\n", 1)),
    # Methods, expectations, loops
    Case("TRACE", request(method=b"TRACE"), 405, True),
    Case("CONNECT", request(method=b"CONNECT", target=b"other.example:443"), 405),
    Case("an unknown method", request(method=b"FROBNICATE")),
    Case("a method in lower case", request(method=b"get")),
    Case("an expectation that nobody meets", request(b"Expect: 200-ok"), 417, True),
    Case("the same with a body", _post(b"Expect: 200-ok", _CL), 417),
    Case("a Via loop", request(b"Via: 1.1 a, 1.0 @VIA@ (x)"), 508, True),
    # Access
    Case("another practice", request(target=b"/Z99999/@UPSTREAM@/Patient"), 403, True),
    Case("the practice in lower case", request(target=b"/b81001/@UPSTREAM@/Patient"), 403, True),
    Case("a second key that is wrong", request(b"X-Gateway-Key: wrong"), 403, True),
    Case("a wrong key with a body", _post(b"X-Gateway-Key: wrong", _CL), 403, True),
    Case("a Proxy-Authorization that is none", request(b"Proxy-Authorization: Bearer x"), 403,
         True),
    Case("an unknown upstream", request(target=b"/@ODS@/nowhere/Patient"), 404, True),
    Case("no upstream in the path", request(target=b"/@ODS@"), 404, True),
    # Odd, and passed untouched
    _passes("an empty query", b"/a?"),
    _passes("no target at all", b""),
    _passes("doubled slashes", b"//a//b/"),
    _passes("an encoded dollar", b"/%24everything"),
    _passes("a bare pipe", b"/a?x=1|2"),
    _passes("a colon and brackets", b"/a:b?x=[1]"),
    _passes("dots that are no segment", b"/a..b/...?x=/../y"),
    _passes("a doubly encoded dot", b"/%252e%252e/a"),
    _passes("an encoded space and plus", b"/a%20b?c=d+e"),
    Case("Upgrade to a websocket",
         request(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
         200, True),
    Case("Upgrade to h2c",
         request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA"),
         200, True),
    Case("Upgrade with a body", _post(b"Connection: Upgrade", b"Upgrade: websocket", _CL), 200,
         True),
    Case("TE: CHUNKED in capitals", _chunked(CHUNKS, b"transfer-encoding: CHUNKED"), 200, True),
    Case("chunks with extension and trailer",
         _chunked(b"2;a=b\r\nab\r\n0\r\nX-Trailer: 1\r\n\r\n"), 200, True),
    Case("blank lines before the head", b"\r\n\r\n" + request(), 200, True),
    Case("absolute form of ourselves", request(target=b"http://@AUTHORITY@" + PATIENT), 200, True),
    Case("a value in UTF-8", request(b"X-Name: J\xc3\xb6rg", b"x-name: again", b"X-Empty:"), 200,
         True),
    Case("Connection names Content-Length", _post(_CL, b"Connection: content-length"), 200, True),
)  # fmt: skip
