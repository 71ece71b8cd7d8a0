"""What lies where in figures of an evaluation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from drawn_figures import Drawn, bars, lines, style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.text import Text

from wsi_deform.drawing.measure_figures import (
    calibration_figure,
    frequency_figure,
    objects_figure,
    trimap_figure,
)


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
    assert [line.get_color() for line in um.lines] == ["#0072B2", "#D55E00"]
    assert [axes.get_xlabel()[-3:] for axes in figure.axes] == [" µm", " px"]
    one = drawn(trimap_figure, rows[:1])
    assert one.get_size_inches() == pytest.approx([5.4, 3.6])
    assert lines(one.axes[0]) == {"accuracy": ([2], [0.5]), "mIoU": ([2], [0.25])}


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
    assert [text.get_fontsize() for text in figure.findobj(Text) if "points of" in text.get_text()] == [9]
    assert [to_hex(axes.patches[0].get_facecolor()).upper() for axes in figure.axes] == ["#56B4E9", "#0072B2"]
    assert [line.get_color() for line in right.lines] == ["#6b7280", "#0072B2"]
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
    # Room for the legend, and for the numbers at the ends of bars.
    assert shares.get_xlim() == pytest.approx((0, 0.8 * 1.3))
    assert change.get_xlim() == pytest.approx((-1 - 0.18 * 2, 1 + 0.18 * 2))
    many = drawn(frequency_figure, rows[:1] * 9)
    assert many.get_size_inches() == pytest.approx([10, 0.9 + 0.42 * 9])


def test_type_lines_and_markers_of_measures_are_small_and_of_few_sizes(drawn: Drawn) -> None:
    objects = [object_row("gland", 0, 1000, 4, 3, 1)]
    assert style(drawn(objects_figure, objects, {})) == [[7, 9, 10], [], [0.8], [0], []]
    bands = [{"unit": "um", "width": 2.0, "pixels": 9, "accuracy": 0.5, "miou": 0.5}]
    assert style(drawn(trimap_figure, bands)) == [[9, 10], [1.5], [0.8], [], [4]]
    bins = [{"class": "", "from": 0.0, "to": 1.0, "points": 3, "share_right": 0.5, "mean_probability": 0.5}]
    calibration = {"bins": bins, "expected_calibration_error": 0.1, "of": "samples"}
    assert style(drawn(calibration_figure, calibration)) == [[9, 10], [1, 1.5], [0.8], [0], [3.5]]
    classes = [{"class": "a", "pixels": 9, "share_of_samples": 0.6, "share_of_pixels": 0.8, "ratio": 0.75}]
    assert style(drawn(frequency_figure, classes)) == [[8, 9, 10], [1], [0.8], [0, 1], []]
