"""Masks and outlines as labels: one contract, and for outlines what class tables and files say."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tifffile
from labels_contract import PART, SIZE, Case, LabelsContract

from wsi_deform.annotation import raster
from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.annotation.label_file import LabelFile, open_labels
from wsi_deform.annotation.outlines import labels as outline_labels
from wsi_deform.annotation.outlines.held import OUTLINE_CACHE
from wsi_deform.annotation.outlines.labels import open_outline_labels
from wsi_deform.annotation.raster import LABEL_CACHE, open_label_mask
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Point, Region, Size

CLASSES = ClassTable.from_names(["background", "a", "b"])


def truth():
    values = np.random.default_rng(0).integers(0, 4, (14, 15)).astype(np.uint8).repeat(5, 0).repeat(10, 1)
    values[values == 3] = 255
    return values


def geojson(path, features):
    """Write QuPath GeoJSON of (class name or None, shell, holes ...) features."""
    data = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]},
            "properties": {
                "objectType": "annotation",
                **({} if name is None else {"classification": {"name": name, "color": [1, 2, 3]}}),
            },
        }
        for name, *rings in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": data}))
    return path


def box(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def boxes_of(values):
    """Every block of 10 x 5 px of ``truth`` as a feature of its class; what is unlabelled has none."""
    return [
        (CLASSES.names[values[y, x]], box(x, y, x + 10, y + 5))
        for y in range(0, 70, 5)
        for x in range(0, 150, 10)
        if values[y, x] != 255
    ]


def opened(path, classes=CLASSES, **options):
    return open_outline_labels(path, slide_size=SIZE, classes=classes, **options)


class TestMasks(LabelsContract):
    @pytest.fixture(params=["kept whole", "read by tiles"])
    def case(self, request, tmp_path, monkeypatch):
        LABEL_CACHE.forget()
        if request.param == "read by tiles":
            monkeypatch.setattr(raster, "WHOLE_MASK_BYTES", 0)
        path = tmp_path / "m.tif"
        tifffile.imwrite(path, truth(), tile=(32, 16), compression="deflate")
        labels, of_part = (
            open_label_mask(path, slide_size=SIZE, classes=CLASSES, region=region) for region in (None, PART)
        )
        return Case(labels, of_part, truth())


class TestOutlines(LabelsContract):
    @pytest.fixture
    def case(self, tmp_path):
        path = geojson(tmp_path / "o.geojson", boxes_of(truth()))
        labels, of_part = (opened(path, outside="unlabelled", region=region) for region in (None, PART))
        return Case(labels, of_part, truth())


def table_of(**more):
    return class_table_from_data(
        {"classes": ["background", {"name": "a", "source_names": ["Tumor"]}, "b"], **more},
        "class table c.yaml",
    )


def row_of(labels):
    """Labels along a row of outlines that start at every tenth pixel."""
    return labels.read_region(Region(5, 5, 100, 1))[0, ::10].tolist()


@pytest.fixture
def row(tmp_path):
    """A file with a region from 0 to 60, Tumor from 10 to 30, b from 20 to 40 and Tumor from 70 to 80."""
    features = [
        ("ROI", box(0, 0, 60, 20)),
        ("Tumor", box(10, 0, 30, 20)),
        ("b", box(20, 0, 40, 20)),
        ("TUMOR", box(70, 0, 80, 20)),
    ]
    return geojson(tmp_path / "row.geojson", features)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        # Outside all outlines is unlabelled where there are annotated regions, and background inside these.
        ({"regions": ["ROI"]}, [0, 1, 2, 2, 0, 0, 255, 1, 255, 255]),
        # Without any, background.
        ({"ignored": ["ROI"]}, [0, 1, 2, 2, 0, 0, 0, 1, 0, 0]),
        ({"ignored": ["ROI"], "background": None}, [255, 1, 2, 2, 255, 255, 255, 1, 255, 255]),
        ({"regions": ["ROI"], "background": None}, [255, 1, 2, 2, 255, 255, 255, 1, 255, 255]),
        # Or what the table says.
        ({"regions": ["ROI"], "outside_outlines": "b"}, [0, 1, 2, 2, 0, 0, 2, 1, 2, 2]),
        ({"ignored": ["ROI"], "outside_outlines": "unlabelled"}, [255, 1, 2, 2, 255, 255, 255, 1, 255, 255]),
        ({"regions": ["ROI"], "outside_outlines": "background"}, [0, 1, 2, 2, 0, 0, 0, 1, 0, 0]),
        ({"unlabelled_names": ["roi"]}, [255, 1, 2, 2, 255, 255, 0, 1, 0, 0]),
    ],
)  # fmt: skip
def test_the_class_table_says_what_names_mean_and_what_is_outside(row, more, expected):
    assert row_of(opened(row, table_of(**more))) == expected


def test_the_class_table_says_which_outline_lies_over_which(tmp_path):
    path = geojson(tmp_path / "o.geojson", [("b", box(0, 0, 30, 20)), ("a", box(10, 0, 20, 20))])
    assert row_of(opened(path))[:4] == [2, 1, 2, 0]
    assert row_of(opened(path, table_of(outline_order="classes")))[:4] == [2, 2, 2, 0]
    assert row_of(opened(path, table_of(outline_order="classes"), order="drawing"))[:4] == [2, 1, 2, 0]


@pytest.mark.parametrize(
    ("outside", "label"), [("unlabelled", 255), ("background", 0), ("b", 2), (1, 1), (None, 0)]
)
def test_what_is_outside_may_be_said_where_the_file_is_opened(tmp_path, outside, label):
    path = geojson(tmp_path / "o.geojson", [("a", box(0, 0, 10, 10))])
    labels = opened(path, outside=outside)
    assert labels.at_points(np.array([[5.0, 5.0], [50.0, 50.0]])).tolist() == [1, label]


def test_an_outside_that_is_no_class_is_refused_with_the_nearest(tmp_path):
    path = geojson(tmp_path / "o.geojson", [("a", box(0, 0, 10, 10))])
    with pytest.raises(AnnotationError) as caught:
        opened(path, outside="backgroud")
    assert str(caught.value) == (
        "outside 'backgroud': no class of the class table. Needed one of unlabelled, background, a, b. Did you mean "
        "'background'?"
    )
    with pytest.raises(AnnotationError, match="outside=3: no class. Needed an index from 0 to 2"):
        opened(path, outside=3)


def test_names_that_the_table_does_not_know_are_told_all_at_once_with_numbers_and_the_nearest(tmp_path):
    features = [("a", box(0, 0, 9, 9)), ("Tumr", box(0, 0, 9, 9)), ("Tumr", box(9, 9, 20, 20))]
    path = geojson(tmp_path / "o.geojson", [*features, (None, box(30, 30, 50, 50)), ("zzz", box(1, 1, 9, 9))])
    with pytest.raises(AnnotationError) as caught:
        opened(path, table_of())
    assert str(caught.value) == (
        f"annotation {path}: 3 class names are not in the class table: 'Tumr' (2 outlines, nearest 'Tumor'), "
        "'unclassified' (1 outline), 'zzz' (1 outline). Needed a meaning for every name; the table knows "
        "'background', 'a', 'b', 'Tumor'. Add each to source_names of its class, or to unlabelled_names, regions or "
        "ignored of the class table."
    )


def test_outlines_without_a_class_are_called_unclassified(tmp_path):
    path = geojson(tmp_path / "o.geojson", [(None, box(0, 0, 10, 10))])
    table = class_table_from_data(["background", {"name": "nucleus", "source_names": "Unclassified"}], "t")
    assert opened(path, table).class_counts().tolist() == [150 * 70 - 100, 100, 0]


def test_a_file_is_parsed_once_for_all_who_open_it_and_again_when_it_was_written_again(tmp_path, monkeypatch):
    OUTLINE_CACHE.forget()
    path = geojson(tmp_path / "o.geojson", [("a", box(0, 0, 10, 10))])
    os.utime(path, (1_700_000_000, 1_700_000_000))
    read, parsed = outline_labels.read_outlines, []
    monkeypatch.setattr(
        outline_labels, "read_outlines", lambda path, **more: parsed.append(path) or read(path, **more)
    )
    first, second = opened(path), opened(path, region=PART)
    assert second.at_points(np.array([[35.0, 15.0]])).tolist() == [0]
    assert len(parsed) == 1
    geojson(path, [("b", box(0, 0, 10, 10))])
    os.utime(path, (1_700_000_001, 1_700_000_001))
    assert opened(path).at_points(np.zeros((1, 2))).tolist() == [2]
    assert first.at_points(np.zeros((1, 2))).tolist() == [1]
    assert len(parsed) == 2


def test_parsed_outlines_are_kept_within_a_limit_and_the_newest_always(tmp_path):
    OUTLINE_CACHE.forget()
    paths = [geojson(tmp_path / f"{name}.geojson", [("a", box(0, 0, 10, 10))]) for name in "abc"]
    first = opened(paths[0])
    one = OUTLINE_CACHE.held_bytes
    assert one == first.raster.nbytes > 0
    OUTLINE_CACHE.set_limit(2 * one)
    for path in paths:
        opened(path)
    assert OUTLINE_CACHE.held_bytes == 2 * one
    OUTLINE_CACHE.set_limit(0)
    assert OUTLINE_CACHE.held_bytes == one
    assert first.class_counts().tolist() == [150 * 70 - 100, 100, 0, 0]


def test_counts_follow_the_outlines_not_the_slide(tmp_path, monkeypatch):
    path = geojson(tmp_path / "o.geojson", [("a", box(1000, 1000, 90_000, 90_001))])
    labels = open_outline_labels(path, slide_size=Size(100_000, 100_000), classes=CLASSES)
    looked = []
    read = outline_labels.OutlineRaster.read
    monkeypatch.setattr(
        outline_labels.OutlineRaster, "read", lambda *a, **b: looked.append(a[1].size.area) or read(*a, **b)
    )
    area = 89_000 * 89_001
    assert labels.class_counts().tolist() == [10**10 - area, area, 0, 0]
    assert sum(looked) < 0.02 * 10**10
    assert labels.counts_in(Region(0, 0, 1001, 1002)).tolist() == [1001 * 1002 - 2, 2, 0, 0]


def test_outlines_of_qupath_count_from_the_corner_that_viewers_show(tmp_path):
    path = geojson(tmp_path / "o.geojson", [("a", box(0, 0, 10, 10))])
    labels = opened(path, corner=Point(20, 30))
    assert labels.at_points(np.array([[5.0, 5.0], [25.0, 35.0], [30.0, 35.0]])).tolist() == [0, 1, 0]


def test_a_row_names_a_mask_or_outlines_and_both_are_opened_alike(tmp_path, slide_of):
    tifffile.imwrite(tmp_path / "m.tif", truth())
    geojson(tmp_path / "o.geojson", boxes_of(truth()))
    slide = slide_of(SIZE)
    table = table_of(outside_outlines="unlabelled")
    maps = [
        open_labels(LabelFile(path=tmp_path / name, is_outlines=outlines), slide, table).read_region(
            Region.whole(SIZE)
        )
        for name, outlines in (("m.tif", False), ("o.geojson", True))
    ]
    assert np.array_equal(maps[0], maps[1])
    assert np.array_equal(maps[0], truth())


@pytest.fixture
def slide_of(tmp_path):
    from wsi_deform.slide.open import open_slide

    def made(size):
        tifffile.imwrite(tmp_path / "s.tif", np.zeros((*size.shape, 3), np.uint8), tile=(16, 16))
        return open_slide(tmp_path / "s.tif", mpp=0.5)

    return made


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"annotation .*none.geojson: cannot be read"):
        opened(tmp_path / "none.geojson")
