"""Windows bind a link from their drain to their end, and never every link at once unnoticed."""

import pytest

from gateway.core.instant import Wall
from gateway.core.maintenance import Window, binding, upcoming, without_path

NIGHT = Window("night", "fibre", Wall(1000.0), Wall(2000.0), drain_s=100.0)


@pytest.mark.parametrize(("wall", "bound"), [
    (899.9, False), (900.0, True), (1000.0, True), (1999.9, True), (2000.0, False)])
def test_a_window_binds_from_its_drain_to_its_end(wall: float, bound: bool) -> None:
    assert (binding((NIGHT,), "fibre", Wall(wall)) is NIGHT) == bound
    assert binding((NIGHT,), "sim", Wall(wall)) is None


def test_the_next_window_is_the_one_that_drains_first() -> None:
    later = Window("later", "sim", Wall(1200.0), Wall(1300.0), drain_s=50.0)
    assert upcoming((later, NIGHT), Wall(0.0)) is NIGHT
    assert upcoming((later, NIGHT), Wall(950.0)) is later
    assert upcoming((later, NIGHT), Wall(1250.0)) is None


def test_a_window_that_takes_the_last_path_is_named() -> None:
    other = Window("other", "sim", Wall(1500.0), Wall(1600.0), drain_s=0.0)
    assert without_path((NIGHT, other), ("fibre", "sim")) == ("other",)
    assert without_path((NIGHT,), ("fibre", "sim")) == ()
    assert without_path((NIGHT,), ("fibre",)) == ("night",)
