"""Figures of results, asked of matplotlib's objects."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_figures import Drawn

from wsi_deform.drawing.result_figures import Measure, confusion_figure, cost_figure, intervals_figure


def test_a_confusion_matrix_shows_shares_of_the_labels(drawn: Drawn) -> None:
    counts = np.array([[90, 10, 0], [5, 15, 0], [0, 0, 0]])
    figure = drawn(confusion_figure, counts, ["background", "gland", "$nerve$"])
    axes = figure.axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert shown[:2].tolist() == [[0.9, 0.1, 0], [0.25, 0.75, 0]]
    assert np.isnan(shown[2]).all()
    assert [text.get_text() for text in axes.texts] == [
        "90.0%",
        "10.0%",
        "0.0%",
        "25.0%",
        "75.0%",
        "0.0%",
        *"–––",
    ]
    # Dark cells have white letters.
    assert [text.get_color() for text in axes.texts[:2]] == ["white", "#1b1f24"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["background", "gland", r"\$nerve\$"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("class of the mask", "class of the labels")
    many = drawn(confusion_figure, np.eye(13, dtype=np.int64), [str(number) for number in range(13)])
    assert list(many.axes[0].texts) == []


def test_measures_are_points_on_their_intervals(drawn: Drawn) -> None:
    points = {
        "IoU": [Measure(name="gland", value=0.5, interval=[0.4, 0.7]), Measure(name="nerve", value=None)],
        "Dice": [Measure(name="gland", value=0.75), Measure(name="nerve", value=0.25)],
    }
    figure = drawn(intervals_figure, points, {"gland": (255, 0, 51)})
    (axes,) = figure.axes
    shown = [(list(line.get_xdata()), list(line.get_ydata()), line.get_marker()) for line in axes.lines]
    assert shown[0] == ([0.4, 0.7], [pytest.approx(-0.175)] * 2, "None")
    assert shown[1] == ([0.5], [pytest.approx(-0.175)], "o")
    marked = [each for each in shown if each[0] and each[2] == "s"]
    assert [each[0] for each in marked] == [[0.75], [0.25]]
    assert axes.lines[0].get_color().tolist() == [1, 0, 0.2]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gland", "nerve"]
    assert axes.get_xlim() == (0, 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["IoU", "Dice"]


def test_few_points_are_named_and_many_are_one_colour(drawn: Drawn) -> None:
    few = [
        Measure(name="uniform", value=0.5, cost=10.0, interval=[0.45, 0.55]),
        Measure(name="joint", value=0.625, cost=12.0),
        Measure(name="unknown", value=0.5),
        Measure(name="not measured", value=None, cost=1.0),
    ]
    (axes,) = drawn(cost_figure, few, cost="seconds").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["uniform", "joint"]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines] == [
        ([10, 10], [0.45, 0.55]), ([10], [0.5]), ([12], [0.625]),
    ]  # fmt: skip
    assert (axes.get_xlim(), axes.get_ylim()) == (pytest.approx((0, 13.44)), (0, 1))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds", "mIoU")
    many = [Measure(name=str(n), value=0.5, cost=float(n)) for n in range(1, 30)]
    (axes,) = drawn(cost_figure, many, cost="seconds").axes
    assert axes.get_legend() is None
    assert {line.get_color() for line in axes.lines} == {"#0072B2"}
    assert axes.get_xscale() == "log"  # from 1 to 29
    (axes,) = drawn(cost_figure, [], cost="seconds").axes
    assert len(axes.lines) == 0
