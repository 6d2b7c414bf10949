"""Echoes: who is believed, what a reply costs, and on which way a loss fell."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.echo import (
    DATAGRAM_BYTES,
    DATAGRAM_BYTES_MAX,
    LADDER,
    Loss,
    Question,
    Reply,
    Window,
    datagram_length,
    key_id,
    loss,
    origin,
    question_bytes,
    read_question,
    read_reply,
    reply_bytes,
    seq_of,
    wire_bytes,
)

SECRET = b"s" * 32
OTHER = b"o" * 32
KNOWN = {key_id(SECRET): SECRET}
FIRST = Question(origin("fibre", b"run"), b"nonc", 1, 70_000)


def test_a_question_is_read_as_it_was_asked_and_its_reply_is_as_long() -> None:
    for length in (DATAGRAM_BYTES, 37, 1172, DATAGRAM_BYTES_MAX):
        asked = question_bytes(FIRST, SECRET, length)
        assert read_question(asked, KNOWN) == (replace(FIRST, sent_ms=70_000 % 65536), SECRET)

        reply = reply_bytes(asked, Window(1, 1), SECRET)
        assert len(reply) == len(asked) == length
        assert read_reply(reply, asked, SECRET) == Reply(1, 1)
        assert seq_of(reply) == 1


def test_a_bare_echo_is_the_least_rung_and_costs_128_bytes_both_ways() -> None:
    assert datagram_length(LADDER[0], is_ipv6=False) == DATAGRAM_BYTES
    assert wire_bytes() == 128
    assert wire_bytes(is_ipv6=True) == 168
    assert wire_bytes(rung=1400) == 2800
    assert wire_bytes() * 30 * 8640 < 52e6  # a month at 10 s, the budget of a metered standby


@given(st.integers(0, DATAGRAM_BYTES * 8 - 1))
def test_no_bit_of_a_question_or_a_reply_may_change(bit: int) -> None:
    asked = question_bytes(FIRST, SECRET, 40)
    reply = reply_bytes(asked, Window(1, 1), SECRET)

    assert read_question(_flipped(asked, bit), KNOWN) is None
    assert read_reply(_flipped(reply, bit), asked, SECRET) is None


def _flipped(datagram: bytes, bit: int) -> bytes:
    changed = bytearray(datagram)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(st.binary(max_size=1600))
def test_garbage_is_nobodys_question_and_nobodys_reply(garbage: bytes) -> None:
    assert read_question(garbage, KNOWN) is None
    assert read_reply(garbage, question_bytes(FIRST, SECRET), SECRET) is None
    seq_of(garbage)


@pytest.mark.parametrize("length", [0, 1, 35, DATAGRAM_BYTES_MAX + 1])
def test_what_is_too_short_or_too_long_is_refused_whoever_signed_it(length: int) -> None:
    asked = question_bytes(FIRST, SECRET, DATAGRAM_BYTES_MAX + 1)[:length]

    assert read_question(asked, KNOWN) is None


def test_a_reply_serves_no_other_question_secret_link_or_run() -> None:
    asked = question_bytes(FIRST, SECRET)
    reply = reply_bytes(asked, Window(1, 1), SECRET)
    others = [replace(FIRST, seq=2), replace(FIRST, nonce=b"NONC"),
              replace(FIRST, origin=origin("sim", b"run")),
              replace(FIRST, origin=origin("fibre", b"another run"))]

    assert all(read_reply(reply, question_bytes(each, SECRET), SECRET) is None for each in others)
    assert read_reply(reply, question_bytes(FIRST, OTHER), OTHER) is None
    assert read_question(question_bytes(FIRST, OTHER), KNOWN) is None
    assert read_reply(asked, asked, SECRET) is None  # a mirror


def test_two_secrets_serve_side_by_side_while_one_replaces_the_other() -> None:
    both = {key_id(SECRET): SECRET, key_id(OTHER): OTHER}
    read = read_question(question_bytes(FIRST, OTHER), both)

    assert read is not None
    assert read[1] == OTHER


@given(st.lists(st.integers(1, 200), max_size=60))
def test_a_window_takes_each_number_once_and_remembers_the_last_64(numbers: list[int]) -> None:
    window, taken = Window(), set[int]()
    for seq in numbers:
        after = window.take(seq)
        newest = max(taken, default=0)
        assert (after is None) == (seq in taken or newest - seq >= 64)
        if after is not None:
            window = after
            taken.add(seq)
        assert {window.newest - n for n in range(64) if window.arrived >> n & 1} == {
            seq for seq in taken if max(taken) - seq < 64}


def test_loss_is_told_by_its_way_from_the_next_reply_on() -> None:
    # 1 answered, 2 lost up, 3 arrived and its reply was lost, 4 answered, 5 not yet told
    replies = [Reply(1, 0b1), Reply(4, 0b1011)]

    assert loss([1, 2, 3, 4, 5], {1, 4}, replies) == Loss(5, up=1, down=1, untold=1)


def test_an_anchor_that_was_restarted_blames_nobody_for_what_it_did_not_see() -> None:
    assert loss([1, 2, 3], {3}, [Reply(3, 0b1)]) == Loss(3, untold=2)


def test_a_question_that_was_overtaken_counts_as_arrived_once_a_reply_says_so() -> None:
    replies = [Reply(1, 1), Reply(3, 0b101), Reply(4, 0b1111)]

    assert loss([1, 2, 3, 4], {1, 3, 4}, replies) == Loss(4, up=0, down=1)


@given(st.lists(st.sampled_from(["up", "down", "ok"]), min_size=1, max_size=60))
def test_each_loss_is_told_rightly_between_two_answers(fates: list[str]) -> None:
    window, answered, replies = Window(), set[int](), []
    for seq, fate in enumerate(["ok", *fates, "ok"], 1):
        if fate == "up":
            continue
        after = window.take(seq)
        assert after is not None
        window = after
        if fate == "ok":
            answered.add(seq)
            asked = question_bytes(replace(FIRST, seq=seq), SECRET)
            reply = read_reply(reply_bytes(asked, window, SECRET), asked, SECRET)
            assert reply is not None
            replies.append(reply)

    found = loss(range(1, len(fates) + 3), answered, replies)
    assert (found.up, found.down, found.untold) == (fates.count("up"), fates.count("down"), 0)
