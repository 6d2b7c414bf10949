"""The relay's held frames: their order, their time, and their limit."""

from tests.bench.rig.delay import HELD_MAX, Held


def test_a_frame_is_held_for_its_time_and_given_once() -> None:
    held = Held(0.03)
    held.take(b"first", 10.0)
    held.take(b"second", 10.01)
    assert held.due(10.02) == []
    assert round(held.next_s(10.02) or 0.0, 6) == 0.01
    assert held.due(10.03) == [b"first"]
    assert held.due(10.05) == [b"second"]
    assert held.due(10.06) == []
    assert held.next_s(10.06) is None


def test_what_is_late_is_due_at_once() -> None:
    held = Held(0.03)
    held.take(b"one", 10.0)
    assert held.next_s(11.0) == 0.0


def test_a_full_relay_loses_what_comes_like_any_router() -> None:
    held = Held(1.0)
    for number in range(HELD_MAX + 1):
        held.take(b"%d" % number, 10.0)
    assert len(held.due(11.0)) == HELD_MAX
