"""Darwin JSON: paths by the even-odd rule, boxes where there is no polygon."""

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

BOX = {"x": 10.0, "y": 20.0, "w": 20.0, "h": 20.0}


@pytest.fixture
def read(tmp_path: Path):
    def written_and_read(*annotations: Any, version: Any = "2.0"):
        data = {"version": version, "item": {}, "annotations": annotations}
        (tmp_path / "a.json").write_text(json.dumps(data))
        return read_outlines(tmp_path / "a.json")

    return written_and_read


def path(ring) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in ring]


def square(left: float, top: float, side: float):
    return [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]


def test_paths_that_lie_in_each_other_are_even_odd_and_keep_their_vertices(read):
    rings = [square(0, 0, 100), square(10, 10, 50), square(20, 20, 10), square(200, 0, 10)]
    found = read({"name": "a", "polygon": {"paths": list(map(path, rings))}})
    np.testing.assert_array_equal(found.outlines[0].rings, rings)
    assert even_odd_area(found.outlines[0].rings) == 10_000 - 2_500 + 100 + 100
    assert found.remarks == ()


def test_paths_that_cross_each_other_are_even_odd_too(read):
    rings = [square(0, 0, 20), square(10, 0, 20), square(5, 5, 5)]
    found = read({"name": "a", "polygon": {"paths": list(map(path, rings))}})
    assert even_odd_area(found.outlines[0].rings) == 200 + 200 - 25
    assert found.remarks[0].endswith("were repaired: 1")


def test_a_bounding_box_is_a_rectangle_only_without_a_polygon(read):
    found = read(
        {"name": "a", "bounding_box": BOX},
        {"name": "b", "bounding_box": BOX, "polygon": {"paths": [path(square(11, 21, 5))]}},
        {
            "name": "c",
            "bounding_box": BOX,
            "ellipse": {"center": {"x": 1, "y": 2}, "radius": {"x": 5, "y": 3}},
        },
    )
    np.testing.assert_array_equal(found.outlines[0].rings[0], SQUARE)
    assert shoelace(found.outlines[1].rings[0]) == 25
    assert shoelace(found.outlines[2].rings[0]) == pytest.approx(math.pi * 15)
    assert found.remarks == ("Bounding boxes without a polygon, taken for rectangles: 1",)


def test_an_ellipse_is_turned_from_x_towards_y(read):
    ellipse = {"center": {"x": 100, "y": 50}, "radius": {"x": 40, "y": 10}, "angle": math.pi / 2}
    (ring,) = read({"name": "a", "ellipse": ellipse}).outlines[0].rings
    assert ring.max(axis=0).tolist() == pytest.approx([110, 90], abs=0.5)


def test_tags_points_lines_and_layers_are_counted(read):
    kinds = ("tag", "keypoint", "line", "skeleton", "raster_layer", "mask", "new_thing")
    found = read(*({"name": "a", kind: {}} for kind in kinds))
    assert found.outlines == ()
    assert found.remarks == (
        "Tags, no areas and left out: 1",
        "Points, no areas and left out: 1",
        "Lines, no areas and left out: 1",
        "Skeletons, no areas and left out: 1",
        "Raster layers, no areas and left out: 2",
        "Annotations of another kind, no areas and left out: 1",
    )


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (3, "it is 3, needed an object"),
        ({"polygon": 3}, "polygon is 3, needed an object with paths"),
        ({"polygon": {"path": []}}, "polygon is {'path': .*}, needed an object with paths"),
        ({"polygon": {"paths": [[1, 2]]}}, r"a path is \[1, 2\], needed a list of x and y"),
        ({"polygon": {"paths": [[{"x": 1}]]}}, "a path is"),
        ({"bounding_box": {"x": 1}}, "{'x': 1}, needed an object with x, y, w, h"),
        ({"bounding_box": {**BOX, "w": "wide"}}, "bounding_box is .*, needed numbers"),
        ({"bounding_box": {**BOX, "w": 1e300}}, "bounding_box is 1e.300, needed px"),
        ({"ellipse": 3}, "ellipse is 3, needed an object"),
        ({"ellipse": {"center": {"x": 1, "y": 2}}}, "None, needed an object with x, y"),
    ],
)
def test_wrong_types_are_refused_by_number(read, annotation, said):
    with pytest.raises(AnnotationError, match=f"feature 2: {said}"):
        read({"name": "a", "bounding_box": BOX}, annotation)


def test_other_versions_and_several_slots_are_refused(read):
    with pytest.raises(AnnotationError, match="version is '1.0', needed 2"):
        read(version="1.0")
    with pytest.raises(AnnotationError, match="its outlines lie in 2 slots"):
        read({"bounding_box": BOX, "slot_names": ["0"]}, {"bounding_box": BOX, "slot_names": ["1"]})
