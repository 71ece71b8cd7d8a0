"""Fields drawn for people: where panels, points, scales and legends lie, and what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawing.panels import (
    Stages,
    _columns,
    _entry_width,
    _legend_lines,
    _panel_size,
    _panels,
    field_picture,
    with_legend,
)
from wsi_deform.geometry import Size

CLASSES = ClassTable.from_names(["background", "gland", "tumour"])
LINE, POINT, RIGHT, WRONG = (203, 208, 214), (0, 52, 79), (222, 228, 232), (213, 60, 40)


def even_points(height: int, width: int) -> NDArray[np.float64]:
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    return np.stack(np.meshgrid(x, y), axis=-1)


def stages(aspect: float = 1.0, height: int = 12, width: int = 24, **given: Any) -> Stages:
    zeros = np.zeros((height, width), np.uint8)
    usual: dict[str, Any] = {
        "title": "field 3",
        "aspect": aspect,
        "view": np.full((12, 12, 3), 155, np.uint8),
        "points": even_points(height, width),
        "density": np.ones((12, 12)),
        "image": np.full((height, width, 3), 99, np.uint8),
        "labels": zeros,
        "predicted": zeros,
    }
    return Stages(**{**usual, **given})


def edges(picture: NDArray[np.uint8], axis: int) -> list[int]:
    """Rows (axis 0) or columns (1) in which frames of panels have their lines."""
    found = (picture == LINE).all(axis=-1).sum(axis=1 - axis)
    return np.flatnonzero(found > 100).tolist()


@pytest.mark.parametrize(
    ("aspect", "columns", "size"),
    [
        (0.3, 6, Size(186, 620)),
        (0.49, 6, Size(230, 469)),
        (0.5, 3, Size(310, 620)),
        (1.89, 3, Size(477, 252)),
        (1.9, 2, Size(724, 381)),
        (5.99, 2, Size(724, 121)),
        (6.0, 1, Size(1464, 244)),
        (500.0, 1, Size(1464, 8)),
        (0.001, 6, Size(1, 620)),
    ],
)
def test_panels_are_as_large_as_their_number_side_by_side_allows(
    aspect: float, columns: int, size: Size
) -> None:
    assert _columns(aspect) == columns
    assert _panel_size(aspect, columns) == size


@pytest.mark.parametrize(
    ("aspect", "height", "rows", "columns"),
    [
        (1.0, 1116, [59, 537, 578, 1056], [17, 495, 510, 988, 1003, 1481]),
        (3.0, 927, [59, 301, 342, 584, 625, 867], [17, 742, 757, 1482]),
        (8.0, 1428, [59, 243, 284, 468, 509, 693, 734, 918, 959, 1143, 1184, 1368], [17, 1482]),
        (0.3, 740, [59, 680], [17, 204, 263, 450, 509, 696, 755, 942, 1001, 1188, 1247, 1434]),
    ],
)
def test_frames_of_panels_lie_in_a_grid_below_the_title(
    aspect: float, height: int, rows: list[int], columns: list[int]
) -> None:
    picture = field_picture(stages(aspect), CLASSES)
    assert picture.shape == (height, 1500, 3)
    assert (edges(picture, 0), edges(picture, 1)) == (rows, columns)
    # Text stands above each panel, and the field's name above all.
    assert (picture[8:32, 18:90] == (27, 31, 36)).all(axis=-1).any()
    assert (picture[8:32, 90:] > 240).all()  # 16 px high, and bold: "field 3"
    assert (picture[8:32, 72:80] < 200).any()
    for left in columns[::2]:
        title = picture[rows[0] - 22 : rows[0] - 1, left : left + 90]
        assert (title < 150).any()
        assert (title >= (107, 114, 128)).all()


def test_what_is_compared_lies_side_by_side_in_reading_order() -> None:
    labels = np.ones((12, 24), np.uint8)
    labels[:, 12:] = 255
    predicted = np.full((12, 24), 2, np.uint8)
    field = stages(1.0, labels=labels, predicted=predicted, density=np.linspace(0, 2, 144).reshape(12, 12))
    picture = field_picture(field, CLASSES)

    def at(column: int, row: int, across: float) -> tuple[int, ...]:
        left, top = (18, 511, 1004)[column], (60, 579)[row]
        return tuple(picture[top + 238, left + int(477 * across)].tolist())

    assert at(2, 0, 0.25) == (99, 99, 99)
    assert at(0, 1, 0.25) == CLASSES.colours[1]
    assert at(0, 1, 0.75) == (255, 255, 255)
    assert at(1, 1, 0.25) == at(1, 1, 0.75) == CLASSES.colours[2]
    assert (at(2, 1, 0.25), at(2, 1, 0.75)) == (WRONG, (255, 255, 255))
    # In two columns, the networks' side is left and the labels' side right.
    wide = field_picture(stages(3.0, labels=labels, predicted=predicted), CLASSES)
    assert tuple(wide[343 + 283 + 120, 18 + 100]) == (99, 99, 99)
    assert tuple(wide[60 + 120, 758 + 100]) == CLASSES.colours[1]
    assert tuple(wide[343 + 120, 758 + 100]) == CLASSES.colours[2]


def test_titles_say_shares_and_what_is_shown() -> None:
    labels = np.full((10, 20), 255, np.uint8)
    labels[:5] = 1
    predicted = np.ones((10, 20), np.uint8)
    predicted[0, :10] = 0
    density = np.ones((10, 10))
    density[0] = 4.0
    field = stages(1.0, 10, 20, labels=labels, predicted=predicted, density=density)
    titles = [title for title, _ in _panels(field, CLASSES, Size(477, 477))]
    assert titles == [
        "low-res view, all samples",
        "deformation map",
        "sampled image",
        "labels: 50% of samples",
        "prediction",
        "wrong: 10% of labelled",
    ]
    narrow = [title for title, _ in _panels(field, CLASSES, Size(339, 339))]
    assert narrow[1] == "deformation map, 0 to 3.1 x"  # 4 / 1.3
    assert "0 to" not in _panels(field, CLASSES, Size(340, 340))[1][0]
    unlabelled = stages(1.0, labels=np.full((12, 24), 255, np.uint8), height=12, width=24)
    assert _panels(unlabelled, CLASSES, Size(339, 339))[1][0].endswith("0 to 2.0 x")
    assert _panels(unlabelled, CLASSES, Size(477, 477))[5][0] == "wrong: no labels"


@pytest.mark.parametrize(
    ("width", "said"), [(130, "all samples"), (131, "1 of 4 samples"), (357, "1 of 16 samples")]
)
def test_of_many_samples_those_5_px_apart_are_drawn(width: int, said: str) -> None:
    field = stages(1.0, 8, width)
    title, panel = _panels(field, CLASSES, Size(477, 477))[0]
    assert title == f"low-res view, {said}"
    assert panel.size == (477, 477)


def test_points_are_small_discs_where_they_were_taken_on_a_lightened_view() -> None:
    points = np.full((2, 2, 2), 0.25)
    points[1, 1] = (0.5, 0.75)
    field = stages(1.0, 2, 2, points=points)
    panel = np.asarray(_panels(field, CLASSES, Size(400, 200))[0][1]).astype(float)
    assert panel[0, 0].tolist() == [195, 195, 195]  # 100 below white becomes 60
    ink = ((195 - panel) / (195 - np.array(POINT))).mean(axis=-1)
    assert ((195 - panel) / (195 - np.array(POINT))).max((0, 1)) == pytest.approx([0.938] * 3, abs=0.003)
    for x, y in ((100, 50), (200, 150)):
        part = ink[y - 5 : y + 5, x - 5 : x + 5]
        assert part.sum() == pytest.approx(np.pi * 1.15**2, abs=0.8)
        assert np.average(np.arange(-5, 5) + 0.5, weights=part.sum(axis=0)) == pytest.approx(0, abs=0.2)
        assert np.average(np.arange(-5, 5) + 0.5, weights=part.sum(axis=1)) == pytest.approx(0, abs=0.2)
    assert ink.sum() == pytest.approx(2 * np.pi * 1.15**2, abs=1.6)


def test_the_deformation_map_is_black_at_0_half_bright_where_even_and_pale_at_its_most() -> None:
    density = np.ones((20, 20))
    density[:, :2], density[:, 18:] = 0.0, 2.0
    panel = np.asarray(_panels(stages(density=density), CLASSES, Size(400, 400))[1][1])
    assert panel[200, 10].tolist() == [0, 0, 4]
    assert panel[200, 200].tolist() == [183, 55, 121]  # the middle of magma
    assert panel[200, 390].tolist() == [252, 253, 191]


def test_the_scale_of_the_deformation_map_ends_with_its_panel() -> None:
    picture = field_picture(stages(1.0), CLASSES)
    dark = np.argwhere((picture[34:59] == (0, 0, 4)).all(axis=-1))
    pale = np.argwhere((picture[34:59] == (252, 253, 191)).all(axis=-1))
    assert (dark[:, 0].min(), dark[:, 0].max()) == (60 - 9 - 5 - 34, 60 - 9 + 4 - 34)
    assert pale[:, 1].max() - dark[:, 1].min() == 109
    assert (picture[34:59, pale[:, 1].max() + 8 : 988] < 200).any()  # "2.0 x uniform"
    assert not (picture[34:59, 989:1003] < 200).any()
    assert not (field_picture(stages(0.3), CLASSES)[34:59] == (252, 253, 191)).all(axis=-1).any()


def test_the_legend_names_classes_that_occur_then_right_and_wrong() -> None:
    labels = np.zeros((12, 24), np.uint8)
    labels[0] = 255
    picture = field_picture(stages(1.0, labels=labels, predicted=np.full((12, 24), 2, np.uint8)), CLASSES)
    line = picture[picture.shape[0] - 18 - 26 + 14]
    found = [left for left in range(900) if tuple(line[left]) == tuple(line[left + 15]) == LINE]
    assert [tuple(line[left + 8].tolist()) for left in found] == [
        CLASSES.colours[0],
        CLASSES.colours[2],
        (255, 255, 255),  # unlabelled
        RIGHT,
        WRONG,
    ]


def test_a_legend_below_a_picture_breaks_where_it_would_be_wider() -> None:
    entries = [("tumour", (200, 0, 10)), ("background", (0, 90, 0))]
    narrow = with_legend(np.zeros((10, 50, 3), np.uint8), entries)
    widest = _entry_width("background")
    assert widest == pytest.approx(129, abs=2)
    assert _entry_width("") == 46
    assert narrow.shape == (10 + 2 * 26, widest + 18, 3)
    for number, (_, colour) in enumerate(entries):
        at = np.argwhere((narrow == colour).all(axis=-1))
        assert at.min(axis=0).tolist() == [10 + 26 * number + 8, 19]
        assert at.max(axis=0).tolist() == [10 + 26 * number + 19, 32]
        assert (narrow[at[:, 0].min() : at[:, 0].max(), 40:80] < 100).any()
    assert (narrow[:10, :50] == 0).all()
    assert (narrow[:10, 50:] == 255).all()
    wide = 18 + _entry_width("tumour") + widest
    assert with_legend(np.zeros((10, wide, 3), np.uint8), entries).shape == (36, wide, 3)
    assert with_legend(np.zeros((10, wide - 1, 3), np.uint8), entries).shape == (62, wide - 1, 3)
    assert with_legend(np.zeros((10, 50, 3), np.uint8), []).shape == (36, 50, 3)


def test_a_name_wider_than_the_page_has_a_line_of_its_own() -> None:
    (first, second) = _legend_lines([("background", (0, 0, 0)), ("gland", (1, 1, 1))], 50)
    assert [(left, name) for left, name, _ in (*first, *second)] == [(18, "background"), (18, "gland")]
