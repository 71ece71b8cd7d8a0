"""Where methods looked beside what they made of it, asked of matplotlib's own objects."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_figures import Drawn, places

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawing.levels import level_colours
from wsi_deform.drawing.looks_figure import Look, looks_figure
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size
from wsi_deform.mask.scale_bar import ScaleBar

CLASSES = ClassTable.from_names(["background", "gland", "tumour"])
WIDE = np.full((60, 240, 3), 240, np.uint8)
SIZE = Size(2400, 600)
TRUTH = np.zeros((6, 24), np.uint8)
BAR = ScaleBar(share=0.25, text="200 µm")
POINTS = np.array([[300.0, 100.0], [1200.0, 500.0]])
JOINT = Look(labels=TRUTH + np.uint8(1), how="2 samples", what="mIoU 0.618", points_px=POINTS)
BLOCKS = Look(
    labels=TRUTH,
    how="96 pixels read",
    what="mask",
    points_px=POINTS,
    levels=np.repeat(np.array([[0, 1]], np.uint8), 120, axis=1).repeat(60, axis=0),
    scales=("16 um per px", "8 um per px"),
)


def test_each_method_has_a_row_where_it_looked_and_what_it_saw(drawn: Drawn) -> None:
    figure = drawn(
        looks_figure,
        WIDE,
        TRUTH,
        {"joint": JOINT, "blocks": BLOCKS},
        CLASSES,
        size=SIZE,
        title="slide a",
        bar=BAR,
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "slide a", "truth", "joint: 2 samples", "joint: mIoU 0.618", "blocks: 96 pixels read", "blocks: mask",
    ]  # fmt: skip
    # 12 in are two panels of 5.94 in and a gap of .12; a row is a panel, its title of .27 in and the gap.
    height = 5.94 / 4
    assert places(figure) == [
        pytest.approx((column * 6.06, row * (height + 0.39) + 0.27, 5.94, height))
        for row in range(3)
        for column in range(2)
    ]
    assert figure.get_size_inches() == pytest.approx([12, 3 * (height + 0.39) + 2 * 0.34])


def test_samples_are_points_and_levels_are_tints(drawn: Drawn) -> None:
    figure = drawn(looks_figure, WIDE, TRUTH, {"joint": JOINT, "blocks": BLOCKS}, CLASSES, size=SIZE)
    assert figure.axes[2].collections[0].get_offsets().tolist() == POINTS.tolist()
    assert figure.axes[2].images[0].get_array()[0, 0].tolist() == [246, 246, 246]  # lightened
    assert [len(axes.collections) for axes in figure.axes] == [0, 0, 1, 0, 0, 0]
    tinted = figure.axes[4].images[0].get_array()
    assert tinted[30, 20].tolist() == [240, 240, 240]  # the coarsest level is left as it is
    assert tinted[30, 200].tolist() != [240, 240, 240]
    assert figure.axes[3].images[0].get_array()[0, 0].tolist() == list(CLASSES.colours[1])


def test_legends_name_the_classes_that_occur_and_every_level(drawn: Drawn) -> None:
    figure = drawn(looks_figure, WIDE, TRUTH, {"joint": JOINT, "blocks": BLOCKS}, CLASSES, size=SIZE)
    of_classes, of_levels = figure.legends
    assert [text.get_text() for text in of_classes.get_texts()] == ["background", "gland"]
    assert [text.get_text() for text in of_levels.get_texts()] == [
        "read at 16 um per px",
        "read at 8 um per px",
    ]
    shown = [
        tuple(round(255 * each) for each in patch.get_facecolor()[:3]) for patch in of_levels.get_patches()
    ]
    assert shown == level_colours(2)
    assert len(drawn(looks_figure, WIDE, TRUTH, {"joint": JOINT}, CLASSES, size=SIZE).legends) == 1


def test_pairs_of_narrow_slides_stand_side_by_side(drawn: Drawn) -> None:
    square, labels = np.full((80, 80, 3), 240, np.uint8), np.zeros((8, 8), np.uint8)
    look = Look(labels=labels, how="2 samples", what="mask", points_px=POINTS)
    figure = drawn(looks_figure, square, labels, {"a": look, "b": look}, CLASSES, size=Size(800, 800))
    lefts = [round(left, 2) for left, *_ in places(figure)]
    assert lefts == [0, 3.03, 6.06, 9.09, 0, 3.03]


def test_maps_of_another_kind_are_refused_by_name() -> None:
    look = Look(labels=np.zeros(3, np.uint8), how="", what="", points_px=POINTS)
    with pytest.raises(ShapeError, match=r"label map joint: uint8 \(3,\). Needed \(H, W\) uint8."):
        looks_figure(WIDE, TRUTH, {"joint": look}, CLASSES, size=SIZE)
