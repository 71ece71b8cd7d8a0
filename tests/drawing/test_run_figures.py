"""Figures of runs: what is drawn is what was logged."""

from __future__ import annotations

import io

import pytest
from drawn_figures import Drawn, lines
from PIL import Image

from wsi_deform.drawing.run_figures import loss_figure, over_text, rates_figure, scores_figure

ROWS = [
    {"epoch": e, "loss": 1.5 / e, "segmentation_loss": 1 / e, "edge_loss": 0.5 / e, "learning_rate": 0.01 / e}
    for e in (1.0, 2.0, 4.0)
]
UNIFORM = [{"epoch": 1.0, "loss": 3.0, "segmentation_loss": 3.0, "edge_loss": 0.0}]


def test_the_loss_that_is_drawn_is_the_loss_that_was_logged(drawn: Drawn) -> None:
    (axes,) = drawn(loss_figure, {"joint": ROWS}).axes
    assert lines(axes) == {
        "loss": ([1, 2, 4], [1.5, 0.75, 0.375]),
        "segmentation loss": ([1, 2, 4], [1, 0.5, 0.25]),
        "edge loss": ([1, 2, 4], [0.5, 0.25, 0.125]),
    }
    assert axes.get_ylim()[0] == 0
    assert axes.get_xlim() == pytest.approx((0.92, 4.08))


def test_runs_are_named_where_there_are_several_and_differ_by_more_than_colour(drawn: Drawn) -> None:
    (axes,) = drawn(loss_figure, {"joint": ROWS, "uniform": UNIFORM}).axes
    assert list(lines(axes)) == [
        "joint: loss",
        "joint: segmentation loss",
        "joint: edge loss",
        "uniform: loss",
    ]
    assert len({line.get_linestyle() for line in axes.lines[:3]}) > 1
    assert [line.get_color() for line in axes.lines] == ["#0072B2"] * 3 + ["#D55E00"]
    scored = {name: [{"epoch": 1.0, "val_miou": 0.5}, {"epoch": 2.0, "val_miou": 0.25}] for name in "abcdefg"}
    figure = drawn(scores_figure, scored)
    shown = [
        line for line in figure.axes[0].lines if line.get_linestyle() != "None" and len(line.get_xdata()) > 1
    ]
    markers = [line.get_marker() for line in shown]
    assert len(set(markers)) == 6
    # Many runs have their legend below the axes, where it hides no line.
    assert figure.axes[0].get_legend() is None
    assert [text.get_text() for text in figure.legends[0].get_texts()][0] == "a (best 0.500, epoch 1)"


def test_a_ring_marks_the_best_epoch(drawn: Drawn) -> None:
    rows = [
        ROWS[0],
        {**ROWS[1], "val_miou": 0.625, "val_classes": 2.0, "val_classes_absent": 1.0},
        {**ROWS[2], "val_miou": 0.5},
    ]
    (axes,) = drawn(scores_figure, {"joint": rows}).axes
    assert lines(axes)["best 0.625, epoch 2, over 2 of 3 classes"] == ([2, 4], [0.625, 0.5])
    ring = axes.lines[1]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([2], [0.625])
    assert axes.get_ylim() == (0, 1)


def test_rates_are_drawn_where_they_were_logged(drawn: Drawn) -> None:
    rows = [{**row, "deformation_learning_rate": 0.05} for row in ROWS]
    (axes,) = drawn(rates_figure, {"joint": rows}).axes
    assert lines(axes) == {
        "learning rate": ([1, 2, 4], [0.01, 0.005, 0.0025]),
        "of the deformation network": ([1, 2, 4], [0.05, 0.05, 0.05]),
    }
    (axes,) = drawn(rates_figure, {"joint": ROWS}).axes
    assert list(lines(axes)) == ["learning rate"]


def test_curves_of_nothing_are_empty(drawn: Drawn) -> None:
    for draw in (loss_figure, scores_figure, rates_figure):
        (axes,) = drawn(draw, {}).axes
        assert axes.get_legend() is None
        assert axes.get_xlim() == pytest.approx((0.98, 1.02))


def test_a_panel_is_as_wide_as_a_telephone_shows_well() -> None:
    with Image.open(io.BytesIO(loss_figure({"joint": ROWS}))) as opened:
        assert opened.size == (676, 442)
    assert loss_figure({"joint": ROWS}, "svg").startswith(b"<?xml")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, ""),
        ({"val_classes": 3.0, "val_classes_absent": 0.0}, ""),
        ({"val_classes": 3.0, "val_classes_absent": 2.0}, ", over 3 of 5 classes"),
    ],
)
def test_a_mean_over_some_classes_is_said_to_be(row: dict[str, float], said: str) -> None:
    assert over_text(row) == said
