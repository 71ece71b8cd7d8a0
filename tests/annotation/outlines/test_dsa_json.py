"""JSON of the Digital Slide Archive: elements of every type."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outline_files import SQUARE, even_odd_area, shoelace

from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.errors import AnnotationError

POLYLINE = {"type": "polyline", "closed": True, "points": [[x, y, 0] for x, y in SQUARE]}


@pytest.fixture
def read(tmp_path: Path):
    def written_and_read(data: Any):
        (tmp_path / "a.json").write_text(json.dumps(data))
        return read_outlines(tmp_path / "a.json")

    return written_and_read


def test_an_annotation_alone_in_a_document_and_in_a_list_are_the_same(read):
    inner = {"name": "a", "elements": [POLYLINE]}
    for data in (inner, {"annotation": inner}, [{"annotation": inner}], [inner]):
        np.testing.assert_array_equal(read(data).outlines[0].rings, [SQUARE])


def test_all_annotations_of_a_list_are_read_and_counted_on(read):
    found = read([{"annotation": {"elements": [POLYLINE]}}] * 3)
    assert [each.number for each in found.outlines] == [1, 2, 3]


def test_the_group_is_the_class_and_without_one_the_label(read):
    found = read(
        {
            "elements": [
                {**POLYLINE, "group": "tumour", "label": {"value": "x"}},
                {**POLYLINE, "label": {"value": "y"}},
            ]
        }
    )
    assert [each.source_class for each in found.outlines] == ["tumour", "y"]


def test_holes_are_taken_from_their_polyline(read):
    hole = [[12, 22, 0], [20, 22, 0], [20, 30, 0], [12, 30, 0]]
    assert even_odd_area(read({"elements": [{**POLYLINE, "holes": [hole]}]}).outlines[0].rings) == 400 - 64


def test_rectangles_are_turned_around_their_centre_from_x_towards_y(read):
    element = {"type": "rectangle", "center": [100, 50, 0], "width": 40, "height": 10}
    (flat, turned) = read(
        {"elements": [{**element, "rotation": 0}, {**element, "rotation": math.pi / 6}]}
    ).outlines
    np.testing.assert_allclose(flat.rings[0], [[80, 45], [120, 45], [120, 55], [80, 55]])
    assert shoelace(turned.rings[0]) == pytest.approx(400)
    # The right upper corner, (20, -5) from the centre, by 30 degrees.
    corner = [100 + 20 * math.cos(math.pi / 6) + 5 * 0.5, 50 + 20 * 0.5 - 5 * math.cos(math.pi / 6)]
    np.testing.assert_allclose(turned.rings[0][1], corner)


def test_circles_and_ellipses_have_their_area(read):
    circle = {"type": "circle", "center": [100, 50, 0], "radius": 1000}
    ellipse = {"type": "ellipse", "center": [100, 50, 0], "width": 40, "height": 10, "rotation": 1.0}
    found = read({"elements": [circle, ellipse]})
    assert shoelace(found.outlines[0].rings[0]) == pytest.approx(math.pi * 1e6)
    assert shoelace(found.outlines[1].rings[0]) == pytest.approx(math.pi * 100)


def test_open_lines_points_and_pictures_are_counted(read):
    held = [
        {**POLYLINE, "closed": False},
        {"type": "point"},
        {"type": "arrow"},
        {"type": "heatmap"},
        {"type": "image"},
    ]
    assert read({"elements": held}).remarks == (
        "Lines, no areas and left out: 1",
        "Points, no areas and left out: 1",
        "Arrows, no areas and left out: 1",
        "Heatmaps, no areas and left out: 1",
        "Images, no areas and left out: 1",
    )


@pytest.mark.parametrize(
    ("element", "said"),
    [
        (3, "it is 3, needed an object"),
        ({"type": "blob"}, "type is 'blob', needed one of polyline, rectangle"),
        ({"type": ["a"]}, r"type is \['a'\], needed one of"),
        ({**POLYLINE, "points": 3}, "vertices are 3, needed pairs"),
        ({**POLYLINE, "holes": 3}, "holes are 3, needed a list"),
        ({"type": "circle", "center": [1]}, r"center is \[1\], needed x and y"),
        ({"type": "circle", "center": [1, 2]}, r"radius is \[None\], needed numbers"),
        (
            {"type": "rectangle", "center": [1, 2], "width": 3, "height": 1e9},
            r"width or height is 1e\+09, needed px",
        ),
    ],
)
def test_wrong_types_are_refused_by_number(read, element, said):
    with pytest.raises(AnnotationError, match=f"feature 2: {said}"):
        read({"elements": [POLYLINE, element]})


def test_a_list_with_something_else_in_it_is_refused(read):
    with pytest.raises(AnnotationError, match="document 2 is 3, needed an annotation with elements"):
        read([{"elements": [POLYLINE]}, 3])
