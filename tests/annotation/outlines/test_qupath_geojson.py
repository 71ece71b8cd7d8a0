"""GeoJSON in every shape that QuPath has written, and that others write for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outline_files import SQUARE, TRIANGLE, even_odd_area

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.annotation.outlines.outline import OutlineSet
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.mask.geojson import write_geojson
from wsi_deform.mask.tiff import write_nearest_mask

RING = [*SQUARE, SQUARE[0]]
POLYGON = {"type": "Polygon", "coordinates": [RING]}
HOLE = [(12, 22), (12, 30), (20, 30), (20, 22), (12, 22)]


@pytest.fixture
def read(tmp_path: Path):
    def written_and_read(data: Any, **how: Any) -> OutlineSet:
        (tmp_path / "a.geojson").write_text(json.dumps(data), encoding="utf-8")
        return read_outlines(tmp_path / "a.geojson", **how)

    return written_and_read


def feature(geometry: Any = POLYGON, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


@pytest.mark.parametrize(
    "data",
    [
        POLYGON,
        feature(),
        [feature()],
        [POLYGON],
        {"type": "FeatureCollection", "features": [feature()]},
        {"features": [feature()], "type": "FeatureCollection"},
        {"type": "GeometryCollection", "geometries": [POLYGON]},
        {"type": "MultiPolygon", "coordinates": [[RING]]},
    ],
)
def test_collection_list_feature_and_bare_geometry_are_the_same(read, data):
    (outline,) = read(data).outlines
    np.testing.assert_array_equal(outline.rings, [SQUARE])
    assert (outline.source_class, outline.colour, outline.number) == (None, None, 1)


def test_an_empty_list_and_an_empty_collection_have_no_outlines(read):
    assert read([]).outlines == ()
    assert read({"type": "FeatureCollection", "features": []}).outlines == ()


@pytest.mark.parametrize(
    ("properties", "name", "colour"),
    [
        ({"classification": {"name": "Tumor", "color": [200, 1, 2]}}, "Tumor", (200, 1, 2)),
        ({"classification": {"name": "Tumor", "colorRGB": -3670016}}, "Tumor", (200, 0, 0)),
        ({"classification": "Tumor"}, "Tumor", None),
        (
            {"classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}},
            "Tumor: Positive",
            (1, 2, 3),
        ),
        ({"classification": ["Tumor", "Positive"]}, "Tumor: Positive", None),
        ({"classification": {"name": "Tumor: Positive"}}, "Tumor: Positive", None),
        (
            {"classification": {"parentClass": {"name": "Tumor"}, "name": "Positive", "colorRGB": -16711936}},
            "Tumor: Positive",
            (0, 255, 0),
        ),
        ({"pathClass": {"name": "Stroma"}}, "Stroma", None),
        ({"classification": None, "pathClass": "Stroma"}, "Stroma", None),
        ({"classification": {"name": "Tumor", "color": [1, 2, 3]}, "color": [9, 8, 7]}, "Tumor", (9, 8, 7)),
        ({"classification": {"name": "Tumor", "color": [1, 2]}}, "Tumor", None),
        ({"classification": {"name": "Tumor", "color": [1, 2, 256]}}, "Tumor", None),
        ({"classification": {"name": ""}}, None, None),
        ({"classification": 3}, None, None),
        ({"isLocked": True, "objectType": "detection", "measurements": {"a": 1}}, None, None),
    ],
)
def test_class_and_colour_of_every_version(read, properties, name, colour):
    (outline,) = read(feature(**properties)).outlines
    assert (outline.source_class, outline.colour) == (name, colour)


def test_names_are_classes_only_where_no_outline_has_a_classification(read):
    named = [feature(name="UT"), feature(name="I")]
    found = read(named)
    assert [each.source_class for each in found.outlines] == ["UT", "I"]
    assert found.remarks == (
        "No outline has a classification; outlines whose name was taken for their class: 2",
    )
    mixed = read([*named, feature(name="region 3", classification="Tumor")])
    assert [each.source_class for each in mixed.outlines] == [None, None, "Tumor"]
    assert mixed.remarks == ()


@pytest.mark.parametrize("kind", ["annotation", "detection", "cell", "tile", "tmaCore"])
def test_objects_of_every_type_count(read, kind):
    assert len(read(feature(objectType=kind)).outlines) == 1
    assert len(read({**feature(), "id": "PathDetectionObject"}).outlines) == 1


def test_a_hole_is_not_inside_whatever_its_direction(read):
    for hole in (HOLE, HOLE[::-1]):
        (outline,) = read({"type": "Polygon", "coordinates": [RING, hole]}).outlines
        assert [len(ring) for ring in outline.rings] == [4, 4]
        assert even_odd_area(outline.rings) == 400 - 64


def test_parts_of_a_multipolygon_that_overlap_are_one_area(read):
    moved = [(x + 10, y) for x, y in RING]
    found = read({"type": "MultiPolygon", "coordinates": [[RING], [moved]]})
    assert even_odd_area(found.outlines[0].rings) == 600.0
    assert found.remarks == (
        "Outlines that crossed themselves, their holes or their parts, and were repaired: 1",
    )


def test_a_hole_across_its_shell_or_in_another_hole_takes_away_and_never_adds(read):
    across = [(x + 12, y) for x, y in HOLE]  # 24 to 32 of a square that ends at 30
    found = read({"type": "Polygon", "coordinates": [RING, across]})
    assert even_odd_area(found.outlines[0].rings) == 400 - 6 * 8
    inner = [(14, 24), (14, 26), (16, 26), (16, 24), (14, 24)]
    found = read({"type": "Polygon", "coordinates": [RING, HOLE, inner]})
    assert even_odd_area(found.outlines[0].rings) == 400 - 64


def test_a_part_without_a_shell_and_an_empty_part_are_nothing(read):
    coordinates = [[], [[(1, 1), (2, 2)], HOLE], [RING]]
    (outline,) = read({"type": "MultiPolygon", "coordinates": coordinates}).outlines
    np.testing.assert_array_equal(outline.rings, [SQUARE])
    assert read({"type": "MultiPolygon", "coordinates": []}).outlines == ()


def test_points_and_lines_are_counted_also_in_collections(read):
    line = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}
    points = {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4], [5, 6]]}
    held = {"type": "GeometryCollection", "geometries": [points, line, POLYGON]}
    found = read([feature(held), feature(line), {"type": "Feature", "geometry": None}])
    assert len(found.outlines) == 1
    assert found.remarks == (
        "Points, no areas and left out: 3",
        "Lines, no areas and left out: 2",
        "Features without a geometry, no areas and left out: 1",
    )


def test_the_nucleus_of_a_cell_is_left_out_with_a_remark(read):
    found = read([{**feature(objectType="cell"), "nucleusGeometry": POLYGON}])
    assert len(found.outlines) == 1
    assert found.remarks == ("Nuclei of cells (nucleusGeometry), left out: 1",)


def test_children_are_read_after_their_parents(read):
    child = feature({"type": "Polygon", "coordinates": [[*TRIANGLE, TRIANGLE[0]]]}, classification="b")
    found = read([feature(classification="a", childObjects=[child]), feature(classification="c")])
    assert [(each.source_class, each.number) for each in found.outlines] == [("a", 1), ("b", 2), ("c", 3)]


def test_outlines_of_other_planes_are_remarked_upon(read):
    found = read([feature({**POLYGON, "plane": {"c": -1, "z": 3, "t": 0}}), feature()])
    assert found.remarks == (
        "Outlines on another plane than the first (z or t), which were not told apart: 1",
    )


def test_measurements_that_are_no_numbers_do_not_matter(read, tmp_path):
    text = json.dumps(feature(measurements={"Area": "x"})).replace('"x"', "NaN")
    (tmp_path / "b.geojson").write_text(text)
    assert len(read_outlines(tmp_path / "b.geojson").outlines) == 1


def test_a_third_coordinate_is_ignored(read):
    (outline,) = read({"type": "Polygon", "coordinates": [[(x, y, 5.0) for x, y in RING]]}).outlines
    np.testing.assert_array_equal(outline.rings, [SQUARE])


@pytest.mark.parametrize(
    ("geometry", "said"),
    [
        (3, "geometry is 3, needed an object"),
        ({"type": "Circle"}, "geometry type is 'Circle', needed one of Point"),
        ({"type": "Polygon"}, "coordinates are None, needed a list"),
        ({"type": "Polygon", "coordinates": {"a": 1}}, "coordinates are {'a': 1}, needed a list"),
        ({"type": "Polygon", "coordinates": [3]}, "vertices are 3, needed pairs"),
        (
            {"type": "Polygon", "coordinates": [[[1, 2], [3]]]},
            r"vertices are \[\[1, 2\], \[3\]\], needed pairs",
        ),
        (
            {"type": "Polygon", "coordinates": [[[1], [2], [3]]]},
            r"vertices are \[\[1\], \[2\], \[3\]\], needed pairs of numbers",
        ),
        (
            {"type": "Polygon", "coordinates": [[[1, 2], [3, 10**400]]]},
            "vertices are .*needed pairs of numbers",
        ),
        ({"type": "MultiPolygon", "coordinates": [3]}, "a polygon is 3, needed a list of rings"),
        ({"type": "MultiPolygon", "coordinates": [[[1, 2]]]}, r"vertices are \[1, 2\], needed pairs"),
        ({"type": "GeometryCollection"}, "geometries is None, needed a list of geometries"),
    ],
)
def test_wrong_types_are_refused_with_the_number_of_the_feature(read, geometry, said):
    with pytest.raises(AnnotationError, match=rf"a\.geojson: feature 2: {said}"):
        read([feature(), feature(geometry)])


def test_features_that_are_no_objects_are_refused(read):
    with pytest.raises(AnnotationError, match="feature 2: it is 3, needed an object"):
        read([feature(), 3])
    with pytest.raises(AnnotationError, match="features is None, needed a list"):
        read({"type": "FeatureCollection"})


def test_collections_in_collections_are_refused_when_too_deep(read):
    geometry: dict[str, Any] = POLYGON
    for _ in range(200):
        geometry = {"type": "GeometryCollection", "geometries": [geometry]}
    with pytest.raises(AnnotationError, match="needed a list of geometries"):
        read(geometry)


def test_the_outlines_that_this_program_writes_come_back_where_they_were(tmp_path):
    points = np.array([[x + 0.5, y + 0.5] for y in range(20) for x in range(30)])
    labels = np.zeros((20, 30), np.uint8)
    labels[5:12, 8:25] = 1
    labels[7:9, 10:12] = 0
    mask = tmp_path / "a.ome.tif"
    write_nearest_mask(mask, points_px=points, labels=labels.ravel(), size=Size(30, 20), mpp=0.5)
    classes = ClassTable(
        names=("background", "gland"), colours=((0, 0, 0), (10, 20, 30)), values=((0,), (1,)), background=0
    )
    for shown, corner in ((None, Point(0, 0)), (Region(6, 4, 24, 16), Point(6, 4))):
        write_geojson(tmp_path / "a.geojson.gz", mask, classes=classes, shown=shown)
        # The file knows its corner; where it were lost, QuPath's corner is the same.
        for bounds in (Point(0, 0), corner):
            (outline,) = read_outlines(
                tmp_path / "a.geojson.gz", bounds=bounds, slide_size=Size(30, 20)
            ).outlines
            assert (outline.source_class, outline.colour) == ("gland", (10, 20, 30))
            shell, hole = outline.rings
            assert (shell.min(axis=0).tolist(), shell.max(axis=0).tolist()) == ([8, 5], [25, 12])
            assert (hole.min(axis=0).tolist(), hole.max(axis=0).tolist()) == ([10, 7], [12, 9])


def test_a_corner_that_is_no_pair_of_numbers_is_refused(read):
    for offset in (3, [1], ["a", 2]):
        with pytest.raises(AnnotationError, match="offset_px is .*, needed"):
            read({"type": "FeatureCollection", "wsi_deform": {"offset_px": offset}, "features": []})
