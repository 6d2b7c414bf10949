"""Which heads are admitted, and what is changed in one: by table and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.message import Answer, Request, Streamed
from gateway.core.wire import (
    Chunks,
    Head,
    Names,
    Refusal,
    Seen,
    answer_headers,
    examine,
    framed,
    is_authority,
    normal_url,
    outbound_headers,
    unspoken,
)

NAMES = Names(
    frozenset({"gateway.local:8443", "[::1]:8443"}), "practice-gateway-a",
    {"http://provider.example/base": "gpc", "http://provider.example/base/deep": "deep"},
)  # fmt: skip
HOST = (b"Host", b"gateway.local:8443")


def head(
    target: str = "/B81001/gpc/Patient",
    *fields: tuple[bytes, bytes],
    method: str = "GET",
    version: str = "HTTP/1.1",
    host: tuple[bytes, bytes] | None = HOST,
) -> Head:
    return Head(method, target, version, ((host,) if host else ()) + fields)


def admitted(target: str, *fields: tuple[bytes, bytes], **more: str) -> Seen:
    seen = examine(head(target, *fields, **more), NAMES)  # type: ignore[arg-type]  # strings only
    assert isinstance(seen, Seen), seen
    return seen


def refused(asked: Head) -> Refusal:
    seen = examine(asked, NAMES)
    assert isinstance(seen, Refusal)
    return seen


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/B81001/gpc", ""),
        ("/B81001/gpc?", "?"),
        ("/B81001/gpc/a?", "/a?"),
        ("/B81001/gpc/a", "/a"),
        ("/B81001/gpc//a//", "//a//"),
        ("/B81001/gpc/%24x?a|b=%2E%2E/..", "/%24x?a|b=%2E%2E/.."),
        ("http://gateway.local:8443/B81001/gpc/a?b", "/a?b"),
        ("HTTP://Gateway.Local:8443/B81001/gpc", ""),
        ("http://[::1]:8443/B81001/gpc/x", "/x"),
    ],
)
def test_what_follows_the_upstream_is_carried_exactly(path: str, target: str) -> None:
    seen = admitted(path)

    assert (seen.ods, seen.upstream, seen.target) == ("B81001", "gpc", target)


@pytest.mark.parametrize(
    ("url", "upstream", "target", "prefix"),
    [
        ("http://provider.example/base/Patient?a=1", "gpc", "/Patient?a=1", "/base"),
        ("http://provider.example/base", "gpc", "", "/base"),
        ("http://provider.example/base?x", "gpc", "?x", "/base"),
        ("http://PROVIDER.example:80/base/x", "gpc", "/x", "/base"),
        ("http://provider.example/base/deep/x", "deep", "/x", "/base/deep"),
        ("http://provider.example/base/deeper", "gpc", "/deeper", "/base"),
    ],
)
def test_an_alias_names_the_upstream_and_no_practice(
    url: str, upstream: str, target: str, prefix: str
) -> None:
    seen = admitted(url)

    assert (seen.ods, seen.upstream, seen.target, seen.prefix) == (None, upstream, target, prefix)


@pytest.mark.parametrize(
    "url",
    [
        "http://provider.example/based/x",
        "http://provider.example/base%2fx",
        "http://provider.example/other",
        "https://provider.example/base/x",
        "http://provider.example:8080/base/x",
    ],
)
def test_what_only_looks_like_an_alias_is_refused(url: str) -> None:
    assert refused(head(url)).status == 400


def test_an_alias_cannot_be_climbed_out_of() -> None:
    assert refused(head("http://provider.example/base/../other")).status == 400


DOTS = st.sampled_from([".", "..", "%2e", "%2E", ".%2e", "%2E.", "%2e%2e", "..;v=1", "..%3bv"])
SEPARATORS = st.sampled_from(["/", "\\", "%2f", "%2F", "%5c", "%5C"])
PLAIN = st.text(alphabet="abc.%24=:-_", min_size=0, max_size=6).filter(
    lambda text: text.replace(".", "") != ""
)


@given(before=st.lists(PLAIN, max_size=3), dots=DOTS, one=SEPARATORS, two=SEPARATORS, after=PLAIN)
def test_no_spelling_of_a_dot_segment_passes(
    before: list[str], dots: str, one: str, two: str, after: str
) -> None:
    path = "/B81001/gpc/" + "/".join(before) + one + dots + two + after

    assert refused(head(path)).status == 400


@given(
    path=st.lists(PLAIN, max_size=4),
    query=st.none() | st.text(alphabet="ab=&/.%|?", max_size=12),
)
def test_every_other_target_passes_as_it_is(path: list[str], query: str | None) -> None:
    target = "".join("/" + part for part in path) + ("" if query is None else "?" + query)

    assert admitted("/B81001/gpc" + target).target == target


@pytest.mark.parametrize(
    ("asked", "status", "close"),
    [
        (head(version="HTTP/2.0"), 505, True),
        (head("/", (b"Transfer-Encoding", b"gzip, chunked")), 400, True),
        (head("/", (b"Transfer-Encoding", b"chunked"), version="HTTP/1.0"), 400, True),
        (head("/", (b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"1")), 400, True),
        (head("/", (b"Content-Length", b"1, 1")), 400, True),
        (head("/", (b"Content-Length", b"\xb2")), 400, True),
        (head(method="CONNECT"), 405, True),
        (head(method="TRACE"), 405, False),
        (head(host=None), 400, False),
        (head("/B81001/gpc", HOST), 400, False),
        (head("/B81001/gpc", (b"X", b"\xff")), 400, False),
        (head("/B81001/gpc/#"), 400, False),
        (head("/B81001"), 404, False),
        (head("//gpc/x"), 404, False),
        (head("*"), 400, False),
        (head("/B81001/gpc", (b"Via", b"1.0 x, 1.1 Practice-Gateway-A")), 508, False),
        (head("/B81001/gpc", (b"Expect", b"x")), 417, False),
        (head("/B81001/gpc", (b"Expect", b"x"), (b"Content-Length", b"3")), 417, True),
    ],
)
def test_each_refusal_says_whether_the_connection_may_go_on(
    asked: Head, status: int, close: bool
) -> None:
    refusal = refused(asked)

    assert (refusal.status, refusal.close) == (status, close)


def test_no_refusal_repeats_what_was_sent() -> None:
    for asked in (head("/9990000018/.."), head("/9990000018#"), head("9990000018")):
        assert "9990000018" not in repr(refused(asked)) + repr(asked)


def test_framing_is_judged_before_all_else() -> None:
    """Else a refusal with a sound end would let the next request be read at the wrong byte."""
    asked = head("/../#", (b"Transfer-Encoding", b"x"), (b"X", b"\xff"), method="TRACE", host=None)

    assert refused(asked).close


def test_a_1_0_client_needs_no_host_and_its_expectation_means_nothing() -> None:
    asked = head("/B81001/gpc", (b"Expect", b"x"), version="HTTP/1.0", host=None)
    seen = examine(asked, NAMES)

    assert isinstance(seen, Seen)
    assert not seen.expects


def test_a_100_is_awaited_only_with_a_body() -> None:
    expect = (b"Expect", b"100-Continue")

    assert admitted("/B81001/gpc", expect, (b"Content-Length", b"3")).expects
    assert not admitted("/B81001/gpc", expect).expects


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("a", True), ("a.b-c:1", True), ("127.0.0.1:65535", True), ("[::1]:80", True),
        ("[fe80::1]", True), ("", False), ("a:65536", False), ("a:", False), ("a:b", False),
        ("[::1", False), ("::1", False), ("[fe80::1%eth0]", False), ("a/b", False),
        ("u@a", False), ("a b", False), ("a,b", False), ("a:٣", False), ("[::1]x", False),
    ],
)  # fmt: skip
def test_an_authority_is_host_and_port_and_nothing_else(text: str, good: bool) -> None:
    assert is_authority(text) is good


def test_urls_are_compared_without_their_own_port_and_case() -> None:
    assert normal_url("HTTP://Provider.Example:80/Base?X") == "http://provider.example/Base?X"
    assert normal_url("https://p.example:80") == "https://p.example:80"


def outgoing(*headers: tuple[str, str], version: str = "HTTP/1.1") -> Request:
    return Request(
        "B81001", "c", "gpc", "GET", "/x", headers,
        version=version, forwarded=("gw:1", "https", "/B81001/gpc"),
    )  # fmt: skip


def test_headers_keep_their_order_case_and_number() -> None:
    request = outgoing(
        ("accept", "a"), ("HOST", "us"), ("Content-Length", "3"), ("X-A", "1"), ("x-a", ""),
        ("X-Gateway-Key", "k"), ("Proxy-Authorization", "Basic x"), ("Expect", "100-continue"),
        ("Connection", "close, X-Gone"), ("X-Gone", "1"), ("TE", "trailers"), ("Upgrade", "h2c"),
        ("Keep-Alive", "1"), ("Trailer", "x"), ("X-A", "2"), ("Via", "1.1 desk"),
        ("X-Forwarded-Host", "theirs"),
    )  # fmt: skip

    assert outbound_headers(request, "up.example:1", "us", forwarded=False) == (
        ("accept", "a"), ("HOST", "up.example:1"), ("Content-Length", "3"), ("X-A", "1"),
        ("x-a", ""), ("X-A", "2"), ("Via", "1.1 desk"), ("X-Forwarded-Host", "theirs"),
        ("Via", "1.1 us"),
    )  # fmt: skip


def test_forwarded_fields_are_ours_alone_where_asked_for() -> None:
    request = outgoing(("x-forwarded-host", "theirs"), ("Forwarded", "by=x"), version="HTTP/1.0")

    assert outbound_headers(request, "up", "us", forwarded=True) == (
        ("Host", "up"), ("Forwarded", "by=x"), ("Via", "1.0 us"), ("X-Forwarded-Host", "gw:1"),
        ("X-Forwarded-Proto", "https"), ("X-Forwarded-Prefix", "/B81001/gpc"),
    )  # fmt: skip


def test_connection_cannot_name_away_what_frames_a_message() -> None:
    request = outgoing(("Host", "us"), ("Content-Length", "3"),
                       ("Connection", "content-length, host"))

    kept = outbound_headers(request, "up", "us", forwarded=False)

    assert ("Content-Length", "3") in kept
    assert ("Host", "up") in kept


def test_an_answer_cannot_forge_our_mark() -> None:
    reply = (("ETag", "W/\"1\""), ("continuity", "class=live"), ("Connection", "X-B"), ("X-B", "1"),
             ("Content-Length", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b"))

    assert answer_headers(reply, "us") == (
        ("ETag", "W/\"1\""), ("Content-Length", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b"),
        ("Via", "1.1 us"),
    )  # fmt: skip


STREAM = Streamed(source=None, length=None)


@pytest.mark.parametrize(
    ("answer", "method", "version", "expected"),
    [  # expected: chunked, length, close, Content-Length on the wire
        (Answer(200, "", (), b"abc"), "GET", "HTTP/1.1", (False, 3, False, "3")),
        (Answer(200, "", (), b"abc", "chunked"), "GET", "HTTP/1.1", (True, None, False, None)),
        (Answer(200, "", (), b"abc", "chunked"), "GET", "HTTP/1.0", (False, 3, False, "3")),
        (Answer(200, "", (), b"abc", "close"), "GET", "HTTP/1.1", (False, None, True, None)),
        (Answer(200, "", (), STREAM, "chunked"), "GET", "HTTP/1.1", (True, None, False, None)),
        (Answer(200, "", (), STREAM, "chunked"), "GET", "HTTP/1.0", (False, None, True, None)),
        (Answer(200, "", (), Streamed(None, 9)), "GET", "HTTP/1.0", (False, 9, False, "9")),
        (Answer(200, "", (), STREAM, "close"), "GET", "HTTP/1.1", (False, None, True, None)),
        (Answer(200, "", (("Content-Length", "7"),), b""), "HEAD", "HTTP/1.1",
         (False, 0, False, "7")),
        (Answer(304, "", (("Content-Length", "7"),), b""), "GET", "HTTP/1.1",
         (False, 0, False, "7")),
        (Answer(204, "", (("Content-Length", "0"),), b""), "GET", "HTTP/1.1",
         (False, 0, False, None)),
        (Answer(200, "", (("Content-Length", "7"),), b"abc"), "GET", "HTTP/1.1",
         (False, 3, False, "3")),
        (Answer(200, "", (("Content-Length", "3"),), b"abc", "chunked"), "GET", "HTTP/1.1",
         (True, None, False, None)),
        (Answer(200, "", (), b"abc", close=True), "GET", "HTTP/1.1", (False, 3, True, "3")),
    ],
)  # fmt: skip
def test_an_answer_is_framed_as_its_client_can_read_it(
    answer: Answer, method: str, version: str, expected: tuple[bool, int | None, bool, str | None]
) -> None:
    frame = framed(answer, method, version, close=False, date="now")
    fields = dict(frame.headers)

    assert (frame.chunked, frame.length, frame.close, fields.get("Content-Length")) == expected
    assert fields["Date"] == "now"
    assert ("Transfer-Encoding" in fields) == frame.chunked
    persistent = None if version == "HTTP/1.1" else "keep-alive"
    assert fields.get("Connection") == ("close" if frame.close else persistent)


def test_a_date_and_a_true_length_stay_as_they_came() -> None:
    answer = Answer(200, "", (("date", "then"), ("CONTENT-LENGTH", "3")), b"abc")

    assert framed(answer, "GET", "HTTP/1.1", False, "now").headers == answer.headers


def chunked(parts: list[bytes], extension: bytes, trailer: bytes) -> bytes:
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts if part)
    return body + b"0\r\n" + trailer + b"\r\n"


@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    extension=st.sampled_from([b"", b";a=b"]),
    trailer=st.sampled_from([b"", b"X: 1\r\n"]),
    after=st.binary(max_size=10),
    step=st.integers(1, 30),
)
def test_a_chunked_body_ends_where_it_ends_however_it_comes(
    parts: list[bytes], extension: bytes, trailer: bytes, after: bytes, step: int
) -> None:
    body = chunked(parts, extension, trailer)
    walk, read = Chunks(), 0
    for at in range(0, len(body + after), step):
        end = walk.walk((body + after)[at : at + step])
        if end is not None:
            read = at + end
            break

    assert read == len(body)


@pytest.mark.parametrize(
    "body",
    [b"x\r\n", b"-1\r\n", b"0x1\r\n", b"1 \r\n", b"1\n", b"\r\n", b"f" * 17 + b"\r\n",
     b"1;" + b"a" * 300, b"0\r\n" + b"X: " + b"a" * 9000],
)  # fmt: skip
def test_what_is_no_chunked_body_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        Chunks().walk(body)


@pytest.mark.parametrize(("line", "status"), [
    (b"GET / HTTP/1.1", None), (b"GET / HTTP/1.0", None), (b"GET /", None),
    (b"GET / http/1.1", None),
    (b"GET / HTTP/1.2", 505), (b"GET / HTTP/2.0", 505), (b"GET / HTTP/3", 505),
    (b"GET /?HTTP/2.0 HTTP/1.1", None)])
def test_a_request_line_of_another_version_is_told_so(line: bytes, status: int | None) -> None:
    refusal = unspoken(line)

    assert (refusal.status if refusal else None) == status


def test_nobody_forges_our_cache_status_and_others_pass() -> None:
    theirs = (("Cache-Status", "edge; hit"), ("cache-status", " practice-gateway; hit; ttl=9"),
              ("Continuity", "class=live"))

    assert answer_headers(theirs, "pg") == (("Cache-Status", "edge; hit"), ("Via", "1.1 pg"))
