"""What lies where in figures, asked of matplotlib's own objects before they become pixels."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from drawn_figures import Drawn, places, style
from matplotlib.figure import Figure
from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawing.figures import comparison_figure, sampling_points_figure, svg_bytes
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size
from wsi_deform.mask.scale_bar import ScaleBar

SVG = "{http://www.w3.org/2000/svg}"
CLASSES = ClassTable.from_names(["background", "gland", "tumour"])
WIDE, SQUARE = np.full((60, 300, 3), 240, np.uint8), np.full((80, 80, 3), 155, np.uint8)


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


def test_the_picture_below_points_is_lightened_by_nearly_half(drawn: Drawn) -> None:
    picture = np.array([0, 100, 241, 255], np.uint8).repeat(3).reshape(2, 2, 3)
    figure = drawn(sampling_points_figure, picture, np.ones((3, 2)), size=Size(2, 2))
    # 255, 155, 14 and 0 below white become .55 of that, rounded down.
    assert figure.axes[0].images[0].get_array()[..., 0].tolist() == [[114, 169], [247, 255]]


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
    assert [each.get_linewidth() for each in figure.legends[0].get_patches()] == [0.5] * 3

    tall = np.full((400, 20, 3), 200, np.uint8)
    figure = drawn(comparison_figure, tall, {"truth": labels}, CLASSES, title="core")
    assert figure.get_size_inches() == pytest.approx([4, 9 + 0.27 + 0.12 + 0.34])
    assert places(figure) == [pytest.approx((0, 0.27, 0.45, 9)), pytest.approx((0.57, 0.27, 0.45, 9))]


def test_the_legend_has_the_classes_that_occur(drawn: Drawn) -> None:
    figure = drawn(comparison_figure, SQUARE, {"a": np.full((2, 2), 2, np.uint8)}, CLASSES)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["tumour"]
    figure = drawn(comparison_figure, SQUARE, {"a": np.full((2, 2), 255, np.uint8)}, CLASSES)
    assert figure.legends == []


def test_a_bar_has_a_row_of_its_own_and_is_its_share_of_a_panel(drawn: Drawn) -> None:
    bar = ScaleBar(share=0.25, text="2 mm")
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    figure = drawn(comparison_figure, SQUARE, {"truth": labels}, CLASSES, bar=bar)
    assert figure.get_size_inches() == pytest.approx([12, 0.27 + 5.94 + 0.12 + 2 * 0.34])
    (line,) = figure.artists
    assert np.multiply(line.get_xdata(), 12) == pytest.approx([0, 0.25 * 5.94])
    assert np.multiply(line.get_ydata(), 7.01) == pytest.approx([0.51, 0.51])
    assert [text.get_text() for text in figure.texts] == ["2 mm"]
    figure = drawn(sampling_points_figure, WIDE, np.ones((3, 2)), size=Size(3000, 600), bar=bar)
    assert figure.get_size_inches() == pytest.approx([12, 2.52 + 0.34])
    assert np.multiply(figure.artists[0].get_xdata(), 12) == pytest.approx([0, 3])


def test_more_than_seven_classes_get_more_rows_of_legend(drawn: Drawn) -> None:
    classes = ClassTable.from_names([f"c{index}" for index in range(15)])
    figure = drawn(comparison_figure, SQUARE, {"a": np.arange(15, dtype=np.uint8)[None]}, classes)
    assert figure.get_size_inches() == pytest.approx([12, 0.27 + 5.94 + 0.12 + 3 * 0.34])


def test_panels_of_two_columns_fill_rows_one_after_the_other(drawn: Drawn) -> None:
    picture = np.full((50, 75, 3), 240, np.uint8)
    figure = drawn(comparison_figure, picture, dict.fromkeys("abcd", np.zeros((2, 3), np.uint8)), CLASSES)
    found = places(figure)
    assert [round(left, 2) for left, *_ in found] == [0, 6.06, 0, 6.06, 0]
    assert [round(top, 2) for _, top, *_ in found] == [0.27, 0.27, 4.62, 4.62, 8.97]
    assert figure.get_size_inches() == pytest.approx([12, 3 * (3.96 + 0.27 + 0.12) + 0.34])


def test_type_lines_and_markers_are_small_and_of_few_sizes(drawn: Drawn) -> None:
    label = np.zeros((2, 2), np.uint8)
    figure = drawn(sampling_points_figure, WIDE, np.ones((3, 2)), size=Size(3, 3), title="core")
    assert style(figure)[0] == [10]
    assert style(drawn(comparison_figure, SQUARE, {"truth": label}, CLASSES))[0] == [9, 10]


def test_points_have_the_colours_of_their_classes_also_where_some_are_left_out(drawn: Drawn) -> None:
    points = np.arange(40.0).reshape(-1, 2)
    colours = np.stack([np.arange(20) * 10] * 3, axis=1).astype(np.uint8)
    figure = drawn(sampling_points_figure, WIDE, points, size=Size(3, 3), max_points=5, colours=colours)
    shown = figure.axes[0].collections[0]
    chosen = np.random.default_rng(0).choice(20, 5, replace=False)
    assert shown.get_facecolor()[:, 0] == pytest.approx(colours[chosen, 0] / 255)
    with pytest.raises(ShapeError, match=r"colours: shape \(19, 3\)\. Needed \(20, 3\)"):
        sampling_points_figure(WIDE, points, size=Size(3, 3), colours=colours[1:])


def test_the_letters_of_an_svg_stay_letters_and_the_same_figure_gives_the_same_file() -> None:
    def made() -> bytes:
        figure = Figure(figsize=(2, 1))
        figure.subplots().set_xlabel("epoch & <more>")
        return svg_bytes(figure)

    data = made()
    assert data == made()
    texts = ["".join(each.itertext()) for each in ElementTree.fromstring(data).iter(f"{SVG}text")]
    assert "epoch & <more>" in texts
    assert b"<dc:date>" not in data
