"""The comparison's picture: well formed, every mark in its place, nothing from outside."""

from xml.etree import ElementTree

import pytest

from tests.bench.failover.picture import HIGH, PANEL, Dot, Mark, Panel, Row, draw, height_of

SPACE = "{http://www.w3.org/2000/svg}"


def row(*dots: Dot) -> Row:
    return Row("blackhole: of A & its <friends>", -1.0, 6.0, ((0.0, 5.3),),
               (Panel("0 failed", dots), Panel("2 failed", ())))


def paths(svg: str) -> list[str]:
    """The data of every path below the legend's six."""
    return [str(path.get("d")) for path in ElementTree.fromstring(svg).iter(SPACE + "path")][6:]  # noqa: S314  # our own


def test_the_picture_is_well_formed_names_all_and_fetches_nothing() -> None:
    svg = draw(["ours", "nginx"], [row(Dot(0.1, 80.0, "a"))], "2 cores & more")
    said = " ".join(ElementTree.fromstring(svg).itertext())  # noqa: S314  # our own
    for words in ("ours", "nginx", "0 failed", "2 failed", "of A & its <friends>",
                  "2 cores & more", "the fault holds"):
        assert words in said
    assert "href" not in svg
    assert svg.count("http") == 1  # the name of SVG itself


def test_a_latency_stands_on_a_logarithmic_scale_held_to_the_panel() -> None:
    assert height_of(1.0) == pytest.approx(HIGH)
    assert height_of(100.0) == pytest.approx(HIGH / 2)
    assert height_of(10_000.0) == pytest.approx(0)
    assert height_of(0.01) == height_of(1.0)
    assert height_of(1e9) == height_of(10_000.0)


@pytest.mark.parametrize("mark", ["a", "b", "copy", "old", "no", "failed"])
def test_every_kind_of_mark_is_drawn(mark: Mark) -> None:
    assert len(paths(draw(["ours", "nginx"], [row(Dot(0.5, 20.0, mark))]))) == 1


def test_time_runs_from_the_left_edge_to_the_right_and_no_further() -> None:
    first, last = Dot(-1.0, 20.0, "a"), Dot(6.0, 20.0, "a")
    early, late = Dot(-1.01, 900.0, "a"), Dot(6.01, 900.0, "a")  # no mark of theirs at the edge
    drawn = paths(draw(["ours", "nginx"], [row(first, last, early, late)]))[0]
    assert [round(float(each.split()[0])) for each in drawn.split("M")[1:]] == [62, 62 + PANEL]


def test_marks_that_would_cover_each_other_are_drawn_once() -> None:
    crowd = [Dot(1.0 + n / 100_000, 20.0, "b") for n in range(500)]
    assert paths(draw(["ours", "nginx"], [row(*crowd)]))[0].count("M") == 1


def test_a_failure_lies_on_top_of_what_it_stands_among() -> None:
    drawn = paths(draw(["ours", "nginx"], [row(Dot(1.0, 20.0, "failed"), Dot(1.0, 20.0, "a"))]))
    assert "m-3-3l6 6" in drawn[-1]
