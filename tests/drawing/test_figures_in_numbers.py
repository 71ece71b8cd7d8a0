"""What lies where in figures, asked of matplotlib's own objects before they become pixels."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawing import figures, measure_figures
from wsi_deform.drawing.figures import comparison_figure, curves_figure, over_text, sampling_points_figure
from wsi_deform.drawing.measure_figures import (
    calibration_figure,
    frequency_figure,
    objects_figure,
    trimap_figure,
)
from wsi_deform.geometry import Size

CLASSES = ClassTable.from_names(["background", "gland", "tumour"])
WIDE, SQUARE = np.full((60, 300, 3), 240, np.uint8), np.full((80, 80, 3), 155, np.uint8)
Drawn = Callable[..., Figure]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Calls what draws a figure, and gives the figure instead of its PNG."""
    for module in (figures, measure_figures):
        monkeypatch.setattr(module, "png_bytes", lambda figure: figure)
    return lambda draw, *args, **given: draw(*args, **given)


def places(figure: Figure) -> list[tuple[float, ...]]:
    """Left, top, width and height of each panel, inches."""
    width, height = figure.get_size_inches()
    boxes = [axes.get_position() for axes in figure.axes]
    return [(box.x0 * width, (1 - box.y1) * height, box.width * width, box.height * height) for box in boxes]


def bars(axes: Axes) -> list[tuple[float, float, float]]:
    """Middle, width and height of each upright bar."""
    return [(p.get_x() + p.get_width() / 2, p.get_width(), p.get_height()) for p in axes.patches]


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_a_figure_is_12_inches_of_130_pixels_each() -> None:
    with Image.open(io.BytesIO(sampling_points_figure(WIDE, np.ones((3, 2)), size=Size(3, 3)))) as opened:
        assert opened.size == (1560, 327)  # 2.4 in of picture, .12 in of gap


@pytest.mark.parametrize(("title", "height_in", "top_in"), [("", 2.52, 0), ("core", 2.79, 0.27)])
def test_the_slide_fills_the_width_below_its_title(
    drawn: Drawn, title: str, height_in: float, top_in: float
) -> None:
    figure = drawn(sampling_points_figure, WIDE, np.ones((3, 2)), size=Size(3000, 600), title=title)
    assert figure.get_size_inches() == pytest.approx([12, height_in])
    assert places(figure) == [pytest.approx((0, top_in, 12, 2.4))]
    (axes,) = figure.axes
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 3000), (600, 0))
    assert axes.images[0].get_extent() == [0, 3000, 600, 0]
    # 15 below white becomes 8.25 below it, rounded down.
    assert np.unique(axes.images[0].get_array()).tolist() == [246]


@pytest.mark.parametrize(
    ("count", "area_pt2"), [(1, 9.0), (10_000, 0.12 * 28.8 * 5184 / 10_000), (90_000, 0.5)]
)
def test_points_leave_most_of_the_picture_free_and_are_neither_specks_nor_blots(
    drawn: Drawn, count: int, area_pt2: float
) -> None:
    points = np.zeros((count, 2))
    figure = drawn(sampling_points_figure, WIDE, points, size=Size(3000, 600), max_points=90_000)
    assert figure.axes[0].collections[0].get_sizes() == pytest.approx([area_pt2])


def test_twenty_thousand_points_are_shown_as_they_are_and_of_more_so_many(drawn: Drawn) -> None:
    points = np.arange(40_002.0).reshape(-1, 2)
    offsets = [
        drawn(sampling_points_figure, WIDE, points[:count], size=Size(3, 3))
        .axes[0]
        .collections[0]
        .get_offsets()
        for count in (20_000, 20_001)
    ]
    assert np.array_equal(offsets[0], points[:20_000])
    chosen = np.random.default_rng(0).choice(20_001, 20_000, replace=False)
    assert np.array_equal(offsets[1], points[chosen])


def test_square_slides_are_compared_side_by_side_and_tall_ones_keep_room_for_words(drawn: Drawn) -> None:
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    figure = drawn(comparison_figure, SQUARE, {"truth": labels}, CLASSES)
    assert figure.get_size_inches() == pytest.approx([12, 0.27 + 5.94 + 0.12 + 0.34])
    assert places(figure) == [pytest.approx((0, 0.27, 5.94, 5.94)), pytest.approx((6.06, 0.27, 5.94, 5.94))]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["slide", "truth"]
    assert (figure.axes[1].get_xlim(), figure.axes[1].get_ylim()) == ((0, 80), (80, 0))
    shown = figure.axes[1].images[0].get_array().reshape(-1, 3).tolist()
    assert shown == [*map(list, CLASSES.colours), [255, 255, 255]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["background", "gland", "tumour"]

    tall = np.full((400, 20, 3), 200, np.uint8)
    figure = drawn(comparison_figure, tall, {"truth": labels}, CLASSES, title="core")
    assert figure.get_size_inches() == pytest.approx([4, 9 + 0.27 + 0.12 + 0.34])
    assert places(figure) == [pytest.approx((0, 0.27, 0.45, 9)), pytest.approx((0.57, 0.27, 0.45, 9))]


def test_panels_of_two_columns_fill_rows_one_after_the_other(drawn: Drawn) -> None:
    picture = np.full((50, 75, 3), 240, np.uint8)
    figure = drawn(comparison_figure, picture, dict.fromkeys("abcd", np.zeros((2, 3), np.uint8)), CLASSES)
    found = places(figure)
    assert [round(left, 2) for left, *_ in found] == [0, 6.06, 0, 6.06, 0]
    assert [round(top, 2) for _, top, *_ in found] == [0.27, 0.27, 4.62, 4.62, 8.97]
    assert figure.get_size_inches() == pytest.approx([12, 3 * (3.96 + 0.27 + 0.12) + 0.34])


def test_curves_are_the_logs(drawn: Drawn) -> None:
    rows = [{"epoch": e, "segmentation_loss": 1 / e, "edge_loss": 0.5 / e} for e in (1.0, 2.0, 4.0)]
    scores = [{**row, "val_miou": score} for row, score in zip(rows, (0.25, 0.625, 0.5), strict=True)]
    scores[1] |= {"val_classes": 2.0, "val_classes_absent": 1.0}
    plain = [{"epoch": 1.0, "segmentation_loss": 3.0}]
    figure = drawn(curves_figure, {"joint": [rows[0], *scores[1:]], "uniform": plain})
    losses, validated = figure.axes
    assert figure.get_size_inches().tolist() == [12, 3.9]
    assert lines(losses) == {
        "joint": ([1, 2, 4], [1, 0.5, 0.25]),
        "joint: edge loss": ([1, 2, 4], [0.5, 0.25, 0.125]),
        "uniform": ([1], [3]),
    }
    best = "joint (best 0.625, over 2 of 3 classes)"
    assert lines(validated)[best] == ([2, 4], [0.625, 0.5])
    ring = validated.lines[1]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([2], [0.625])
    assert [line.get_color() for line in losses.lines] == ["#0072B2", "#0072B2", "#D55E00"]
    assert validated.get_ylim() == (0, 1)
    assert losses.get_ylim()[0] == 0
    for axes in figure.axes:
        assert axes.get_xlim() == pytest.approx((0.92, 4.08))
        assert [axes.spines[side].get_visible() for side in ("top", "right", "left")] == [False, False, True]
        assert axes.get_axisbelow() is True
    assert losses.get_legend() is not None


def test_curves_of_nothing_are_empty_and_of_many_runs_begin_the_colours_again(drawn: Drawn) -> None:
    empty = drawn(curves_figure, {})
    assert [axes.get_xlim() for axes in empty.axes] == [pytest.approx((0.98, 1.02))] * 2
    assert [axes.get_legend() for axes in empty.axes] == [None, None]
    row = {"epoch": 1.0, "segmentation_loss": 3.0, "edge_loss": 0.0}
    many = drawn(curves_figure, {str(number): [row] for number in range(7)})
    colours = [line.get_color() for line in many.axes[0].lines]
    assert len(set(colours)) == 6
    assert colours[6] == colours[0]


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


def object_row(name: str, begin: float | None, end: float | None, *counts: int, unit: str = "um^2") -> Any:
    objects, touched, half = counts
    about = {"class": name, "unit": unit, "from": begin, "to": end}
    return about | {"objects": objects, "touched": touched, "half_covered": half}


def test_objects_are_bars_of_each_class_side_by_side_at_each_size(drawn: Drawn) -> None:
    rows = [
        object_row("gland", None, None, 14, 9, 6),  # of all sizes
        object_row("gland", 0, 1000, 4, 3, 1),
        object_row("tumour", 1000, 2_000_000, 5, 0, 0),
        object_row("gland", 1000, 2_000_000, 10, 6, 5),
        object_row("gland", 2_000_000, None, 0, 0, 0),  # none
        object_row("gland", 0, 1000, 9, 9, 9, unit="px^2"),
    ]
    figure = drawn(objects_figure, rows, {"gland": (255, 0, 51)})
    (axes,) = figure.axes
    assert figure.get_size_inches() == pytest.approx([6, 3.6])
    wide = 0.4 * 0.92
    assert bars(axes) == [
        pytest.approx(bar)
        for bar in [
            (-0.2, wide, 0.75), (0.8, wide, 0.6), (-0.2, wide, 0.25), (0.8, wide, 0.5),
            (1.2, wide, 0), (1.2, wide, 0),
        ]
    ]  # fmt: skip
    assert [patch.get_facecolor() for patch in axes.patches[::2][:2]] == [(1, 0, 0.2, 0.35), (1, 0, 0.2, 1)]
    assert axes.patches[-1].get_facecolor() == pytest.approx((90 / 255, 90 / 255, 90 / 255, 1))
    assert [(text.get_text(), text.get_position()) for text in axes.texts] == [
        ("4", pytest.approx((-0.2, 0.765))),
        ("10", pytest.approx((0.8, 0.615))),
        ("5", pytest.approx((1.2, 0.015))),
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["less than 1 k", "1 k to 2 M"]
    assert axes.get_xlabel() == "area of the object, µm²"
    assert (axes.get_xlim(), axes.get_ylim()) == (pytest.approx((-0.6, 1.6)), (0, 1.1))
    assert len(axes.get_legend().get_texts()) == 2
    assert axes.get_axisbelow() is True


def test_objects_without_a_scale_are_measured_in_pixels_and_many_sizes_take_room(drawn: Drawn) -> None:
    ends = [0, 100, 1500, 2_500_000, 3_000_000, None]
    rows = [object_row("a", *span, 1, 1, 1, unit="px^2") for span in zip(ends[:-1], ends[1:], strict=True)]
    figure = drawn(objects_figure, rows[::-1], {})
    assert figure.get_size_inches() == pytest.approx([1.2 + 1.7 * 5, 3.6])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [
        "less than 100", "100 to 1,500", "1,500 to 2500 k", "2500 k to 3 M", "3 M or more",
    ]  # fmt: skip
    assert figure.axes[0].get_xlabel() == "area of the object, px²"
    assert bars(figure.axes[0])[0] == pytest.approx((0, 0.8 * 0.92, 1))


def test_trimaps_have_a_panel_per_unit_without_the_bands_of_no_pixels(drawn: Drawn) -> None:
    def row(unit: str, width: float, pixels: int, miou: float | None) -> dict[str, Any]:
        return {"unit": unit, "width": width, "pixels": pixels, "accuracy": 0.5, "miou": miou}

    rows = [row("um", 2.0, 9, 0.25), row("um", 4.0, 9, None), row("um", 8.0, 0, 0.5), row("px", 16, 9, 0.75)]
    figure = drawn(trimap_figure, rows)
    assert figure.get_size_inches() == pytest.approx([10.8, 3.6])
    um, px = figure.axes
    assert lines(um)["accuracy"] == ([2, 4], [0.5, 0.5])
    assert lines(um)["mIoU"][1][0] == 0.25
    assert math.isnan(lines(um)["mIoU"][1][1])
    assert lines(px) == {"accuracy": ([16], [0.5]), "mIoU": ([16], [0.75])}
    assert um.get_xscale() == "log"
    assert [label.get_text() for label in um.get_xticklabels()] == ["2", "4"]
    assert um.get_ylim() == (0, 1)
    assert [axes.get_xlabel()[-3:] for axes in figure.axes] == [" µm", " px"]
    assert drawn(trimap_figure, rows[:1]).get_size_inches() == pytest.approx([5.4, 3.6])


def test_calibration_shows_filled_bins_and_the_share_of_points(drawn: Drawn) -> None:
    def row(name: str, begin: float, points: int) -> dict[str, Any]:
        said = {"share_right": 0.5, "mean_probability": begin + 0.1} if points else {}
        return {"class": name, "from": begin, "to": begin + 0.25, "points": points, **said}

    bins = [row("", 0.0, 0), row("", 0.25, 300), row("", 0.5, 0), row("", 0.75, 900), row("gland", 0.0, 5)]
    data = {"bins": bins, "expected_calibration_error": 0.0625, "of": "samples"}
    figure = drawn(calibration_figure, data)
    right, many = figure.axes
    assert figure.get_size_inches() == pytest.approx([8.6, 3.6])
    wide = 0.25 * 0.94
    assert bars(right) == [pytest.approx((0.375, wide, 0.5)), pytest.approx((0.875, wide, 0.5))]
    assert bars(many) == [
        pytest.approx(bar)
        for bar in [(0.125, wide, 0), (0.375, wide, 0.25), (0.625, wide, 0), (0.875, wide, 0.75)]
    ]
    assert lines(right) == {
        "perfect": ([0, 1], [0, 1]),
        "predicted class": ([pytest.approx(0.35), pytest.approx(0.85)], [0.5, 0.5]),
    }
    assert (right.get_xlim(), right.get_ylim(), many.get_xlim()) == ((0, 1), (0, 1), (0, 1))
    assert right.get_title(loc="left") == "expected calibration error 0.062"
    assert many.get_title(loc="left") == "1,200 points of samples"
    nothing = drawn(
        calibration_figure, {"bins": bins[:1], "expected_calibration_error": None, "of": "samples"}
    )
    assert nothing.axes[0].get_title(loc="left") == ""
    assert bars(nothing.axes[1]) == [pytest.approx((0.125, 0.94, 0))]


def test_frequencies_are_shares_beside_each_other_and_what_is_sampled_more_is_positive(drawn: Drawn) -> None:
    rows = [
        {"class": name, "pixels": pixels, "share_of_samples": s, "share_of_pixels": p, "ratio": r}
        for name, pixels, s, p, r in (
            ("a", 9, 0.6, 0.8, 0.75), ("b", 9, 0.4, 0.2, 2.0), ("none", 0, 0, 0, None), ("c", 1, None, 0.1, None)
        )
    ]  # fmt: skip
    figure = drawn(frequency_figure, rows)
    shares, change = figure.axes
    assert figure.get_size_inches() == pytest.approx([10, 2.4])

    def flat(axes: Axes) -> list[tuple[float, float, float]]:
        return [(p.get_y() + p.get_height() / 2, p.get_height(), p.get_width()) for p in axes.patches]

    assert flat(shares) == [
        pytest.approx(bar)
        for bar in [(-0.2, 0.38, 0.6), (0.8, 0.38, 0.4), (1.8, 0.38, 0), (0.2, 0.38, 0.8), (1.2, 0.38, 0.2),
                    (2.2, 0.38, 0.1)]
    ]  # fmt: skip
    assert flat(change) == [pytest.approx(bar) for bar in [(0, 0.6, -0.25), (1, 0.6, 1), (2, 0.6, -1)]]
    colours = [
        tuple(np.rint(255 * np.array(p.get_facecolor()[:3])).astype(int).tolist()) for p in change.patches
    ]
    assert colours == [(0xD5, 0x5E, 0), (0, 0x9E, 0x73), (0xD5, 0x5E, 0)]
    assert [text.get_text() for text in change.texts] == ["-25%", "+100%", "-100%"]
    assert [axes.get_ylim() for axes in figure.axes] == [pytest.approx((2.6, -0.6))] * 2
    assert [label.get_text() for label in shares.get_yticklabels()] == ["a", "b", "c"]
    assert change.get_legend() is None
    many = drawn(frequency_figure, rows[:1] * 9)
    assert many.get_size_inches() == pytest.approx([10, 0.9 + 0.42 * 9])
