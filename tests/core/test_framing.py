"""The scanner against replies it must follow to the byte and replies it must refuse to read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.framing import HEAD_BYTES_MAX, SIZE_LINE_MAX, Scanner
from tests.kit.bad_replies import CASES, CUTS, FOLLOWED, GOOD, SECOND, Case

HEAD_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def scanned(raw: bytes, step: int = 0, method: str = "GET") -> Scanner:
    """Feed ``raw`` whole, or in segments of ``step`` bytes."""
    scanner = Scanner(method)
    for at in range(0, len(raw), step or len(raw)):
        scanner.feed(raw[at:at + (step or len(raw))])
    return scanner


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_reply_of_the_battery_is_read_as_it_should(case: Case, step: int) -> None:
    scanner = scanned(case.raw, step, case.method)
    whole = scanner.finish() if case.close else scanner.ended

    if case.outcome == "whole":
        assert whole
        assert scanner.unambiguous is case.unambiguous
    elif case.outcome == "cut":
        assert not whole
    elif case.outcome == "either":
        assert not scanner.unambiguous


@pytest.mark.parametrize(
    "case", [case for case in FOLLOWED if case.outcome == "whole" and case.unambiguous],
    ids=lambda case: case.name)
def test_the_end_is_found_to_the_byte_and_what_follows_is_a_fault(case: Case) -> None:
    scanner = Scanner(case.method)

    assert scanner.feed(case.raw + SECOND) == len(case.raw)
    assert scanner.ended
    assert scanner.fault == "surplus"


@pytest.mark.parametrize("case", CUTS, ids=lambda case: case.name)
def test_a_cut_reply_is_never_whole_even_when_the_connection_ends_well(case: Case) -> None:
    assert not scanned(case.raw).finish()


bodies = st.binary(max_size=300)
chunks = st.lists(st.binary(min_size=1, max_size=80), max_size=5)
fields = st.lists(st.sampled_from([b"X-A: 1", b"x-a:2", b"ETag: W/\"1\"", b"Empty:", b"T: a\tb"]),
                  max_size=4)


def reply_of(extra: list[bytes], parts: list[bytes], chunked: bool) -> bytes:
    """Return a good reply made of ``parts``."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % sum(
        map(len, parts))
    head = b"\r\n".join((b"HTTP/1.1 200 OK", *extra, framing)) + b"\r\n\r\n"
    if not chunked:
        return head + b"".join(parts)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@settings(max_examples=150, deadline=None)
@given(fields, chunks, st.booleans(), st.lists(st.integers(1, 40), min_size=1), bodies)
def test_a_good_reply_ends_where_it_ends_however_it_is_cut_into_segments(
        extra: list[bytes], parts: list[bytes], chunked: bool, steps: list[int],
        behind: bytes) -> None:
    raw = reply_of(extra, parts, chunked)
    stream, scanner, at, claimed, turn = raw + behind, Scanner("GET"), 0, 0, 0
    while at < len(stream):
        step = steps[turn % len(steps)]
        claimed += scanner.feed(stream[at:at + step])
        at, turn = at + step, turn + 1

    assert scanner.ended
    assert claimed == len(raw)
    assert scanner.unambiguous is (not behind)


@settings(max_examples=200, deadline=None)
@given(chunks, st.booleans(), st.data())
def test_one_byte_taken_out_of_the_framing_is_never_a_whole_unambiguous_reply(
        parts: list[bytes], chunked: bool, data: st.DataObject) -> None:
    """What remains may be another good reply only if it ends exactly where the bytes do."""
    raw = reply_of([], parts, chunked)
    at = data.draw(st.integers(0, len(raw) - 1))
    scanner = Scanner("GET")
    claimed = scanner.feed(raw[:at] + raw[at + 1:])

    if raw[at:at + 1] in b"\r\n" and at < raw.index(b"\r\n\r\n") + 4:
        assert not (scanner.ended and scanner.unambiguous)
    assert claimed <= len(raw) - 1


@pytest.mark.parametrize(("line", "fault"), [
    (b"2 \r\n", "chunk_size"), (b" 2\r\n", "chunk_size"), (b"+2\r\n", "chunk_size"),
    (b"0x2\r\n", "chunk_size"), (b"\r\n", "chunk_size"), (b"g\r\n", "chunk_size"),
    (b"2\n", "line_end"), (b"2\r\r\n", "line_end"), (b"1" * 16 + b"\r\n", "chunk_size"),
    (b"2\r\nokX", "chunk_end"), (b"2\r\nok\n", "chunk_end"),
])
def test_a_chunk_has_one_spelling(line: bytes, fault: str) -> None:
    assert scanned(HEAD_CHUNKED + line).fault == fault


def test_heads_and_size_lines_are_bounded_at_their_limit_and_one_past_it() -> None:
    start = b"HTTP/1.1 200 OK\r\nX: "
    fits = start + b"y" * (HEAD_BYTES_MAX - len(start) - 4) + b"\r\n\r\n"

    assert not scanned(fits).overgrown
    assert scanned(fits.replace(b"X: y", b"X: yy")).overgrown
    assert not scanned(HEAD_CHUNKED + b"2;" + b"e" * (SIZE_LINE_MAX - 4) + b"\r\n").fault
    assert scanned(HEAD_CHUNKED + b"2;" + b"e" * (SIZE_LINE_MAX - 3) + b"\r\n").overgrown


def test_a_lost_scanner_claims_everything_and_stays_lost() -> None:
    scanner = scanned(b"HTTP/1.1 200 OK\nX: 1\r\n\r\n")

    assert scanner.feed(GOOD) == len(GOOD)
    assert scanner.lost
    assert not scanner.finish()


@pytest.mark.parametrize(("raw", "method", "ending"), [
    (GOOD, "GET", "length"), (GOOD, "HEAD", "none"), (HEAD_CHUNKED, "GET", "chunked"),
    (b"HTTP/1.1 200 OK\r\n\r\n", "GET", "close"), (b"HTTP/1.1 204 \r\n\r\n", "GET", "none"),
    (b"HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n", "GET", "none"),
])
def test_the_ending_is_told_by_the_head(raw: bytes, method: str, ending: str) -> None:
    assert scanned(raw, method=method).ending == ending
