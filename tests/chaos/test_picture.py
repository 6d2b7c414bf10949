"""The picture of a story: everything told is in it, and colour never stands alone."""

import xml.etree.ElementTree as ET

import pytest

from chaos.picture import CEILING_MS, COLOURS, FLOOR_MS, SHAPES, Mark, Scale, Span, Told, draw

TOLD = Told(
    seconds=20.0,
    phases=(Span("phase", 0, 8, "normal"), Span("phase", 8, 20, "fibre dead")),
    weather=(Span("fibre", 8, 14, "cut"),),
    links=(Span("fibre link", 0, 9.5, "UP"), Span("fibre link", 9.5, 20, "DOWN")),
    marks=(Mark(1.0, 22.0, "live", "fibre"), Mark(8.5, 420.0, "backup", "sim"),
           Mark(9.0, 3.0, "copy"), Mark(9.1, 2.0, "refused"), Mark(9.2, 10_000.0, "failed"),
           Mark(9.3, 900.0, "unknown")))


def test_the_picture_is_well_formed_and_stands_alone() -> None:
    drawn = draw(TOLD)
    ET.fromstring(drawn)  # noqa: S314  # our own
    assert "http" not in drawn.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_every_kind_of_answer_has_a_shape_of_its_own() -> None:
    assert set(SHAPES) == set(COLOURS)
    assert len({shape(10, 10) for shape in SHAPES.values()}) == len(SHAPES)


def test_the_legend_counts_every_kind_even_none() -> None:
    drawn = draw(TOLD)
    for words in ("live: 1", "live over the backup: 1", "copy, marked: 1", "refused: 1",
                  "failed: 1", "unknown, said so: 1"):
        assert words in drawn
    assert "failed: 0" in draw(Told(1.0, (), (), (), ()))


def test_spans_say_their_words_and_times() -> None:
    drawn = draw(TOLD)
    assert "<title>DOWN: 9.5 to 20.0 s</title>" in drawn
    assert ">cut</text>" in drawn


@pytest.mark.parametrize(("took", "stands"), [(0.0, FLOOR_MS), (10.0**9, CEILING_MS)])
def test_a_latency_beyond_the_scale_stands_at_its_edge(took: float, stands: float) -> None:
    scale = Scale(10.0, 0.0)
    assert scale.y(took) == scale.y(stands)
    assert scale.x(-5.0) == scale.x(0.0)
    assert scale.x(50.0) == scale.x(10.0)


def test_names_cannot_break_the_picture() -> None:
    hostile = Span("<fibre & co>", 0, 1, 'a"<b>')
    ET.fromstring(draw(Told(1.0, (hostile,), (hostile,), (hostile,), ())))  # noqa: S314  # our own
