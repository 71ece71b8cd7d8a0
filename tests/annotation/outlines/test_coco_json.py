"""COCO JSON: images, categories, polygons, boxes and run-length masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outline_files import SQUARE, TRIANGLE, even_odd_area

from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.errors import AnnotationError

FLAT = [value for pair in SQUARE for value in pair]
# pycocotools 2.0 of 60 rows, 50 columns: a pixel at (0, 0), one at row 50, column 49, and columns 10 to 29 of rows
# 5 to 39 without columns 15 to 24 of rows 10 to 19.
COMPRESSED = "01lb0R1m]O00000000ROA??AA??AA??AA??AA??AA??AA??AA??AA??AA???00000000QU1nN_jN"


@pytest.fixture
def read(tmp_path: Path):
    def written_and_read(
        *annotations: Any, images: Any = None, categories: Any = None, image: str | None = None
    ):
        data = {
            "images": [{"id": 1, "file_name": "a.svs"}] if images is None else images,
            "annotations": [
                {"image_id": 1, **each} if isinstance(each, dict) else each for each in annotations
            ],
            "categories": [{"id": 5, "name": "tumour"}] if categories is None else categories,
        }
        (tmp_path / "a.json").write_text(json.dumps(data))
        return read_outlines(tmp_path / "a.json", image=image)

    return written_and_read


def test_polygons_of_an_annotation_that_overlap_are_one_area(read):
    moved = [value + 10 * (place % 2 == 0) for place, value in enumerate(FLAT)]
    (outline,) = read({"category_id": 5, "segmentation": [FLAT, moved]}).outlines
    assert outline.source_class == "tumour"
    assert even_odd_area(outline.rings) == 600


def test_a_polygon_without_the_list_around_it_is_read(read):
    np.testing.assert_array_equal(read({"segmentation": FLAT}).outlines[0].rings, [SQUARE])


def test_a_box_is_a_rectangle_only_without_a_polygon(read):
    found = read(
        {"segmentation": [], "bbox": [10, 20, 20, 20]}, {"segmentation": [FLAT], "bbox": [0, 0, 99, 99]}
    )
    for each in found.outlines:
        np.testing.assert_array_equal(each.rings[0], SQUARE)
    assert found.remarks == ("Bounding boxes without a polygon, taken for rectangles: 1",)


def test_a_run_length_mask_is_the_edges_of_its_pixels_column_by_column(read):
    # Two rows, three columns: 0 1 / 1 1 / 0 0 down the columns.
    found = read({"category_id": 5, "segmentation": {"size": [2, 3], "counts": [1, 3, 2]}})
    (ring,) = found.outlines[0].rings
    corners = {(0, 1), (0, 2), (2, 2), (2, 0), (1, 0), (1, 1)}
    assert {(x, y) for x, y in ring.tolist()} == corners
    assert len(ring) == 6
    assert even_odd_area([ring]) == 3
    assert found.remarks == ("Run-length masks, taken by the edges of their pixels: 1",)


def test_a_compressed_mask_is_that_which_pycocotools_wrote(read):
    (outline,) = read({"segmentation": {"size": [60, 50], "counts": COMPRESSED}}).outlines
    boxes = sorted((ring.min(axis=0).tolist(), ring.max(axis=0).tolist()) for ring in outline.rings)
    assert boxes == [([0, 0], [1, 1]), ([10, 5], [30, 40]), ([15, 10], [25, 20]), ([49, 50], [50, 51])]
    assert even_odd_area(outline.rings) == 1 + 35 * 20 - 100 + 1 == 602


def test_pixels_that_share_corners_and_runs_of_no_zeros_are_right(read):
    chequered = {"size": [3, 3], "counts": [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]}
    (outline,) = read({"segmentation": chequered}).outlines
    assert even_odd_area(outline.rings) == 5
    whole = {"size": [4, 4], "counts": [0, 3, 0, 6, 0, 7]}
    (outline,) = read({"segmentation": whole}).outlines
    assert [sorted(ring.tolist()) for ring in outline.rings] == [[[0, 0], [0, 4], [4, 0], [4, 4]]]


def test_an_empty_mask_encloses_nothing(read):
    found = read({"segmentation": {"size": [2, 2], "counts": [4]}})
    assert found.outlines == ()
    assert any("enclose nothing" in each for each in found.remarks)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ({"size": [2, 2], "counts": [1, 2]}, "the counts of the mask make 3 pixels, needed 2 x 2"),
        ({"size": [2, 2], "counts": [5, -1]}, "the counts of the mask make 4 pixels"),
        (
            {"size": [2, 2], "counts": [1 << 62, 1 << 62, 1 << 62, 1 << 62, 4]},
            "the counts of the mask make 18,446,744,073,709,551,620 pixels",
        ),
        ({"size": [2, 2], "counts": [1 << 70]}, "counts of the mask are"),
        (
            {"size": [2, 2], "counts": [1.5, 2.5]},
            r"counts of the mask are \[1.5, 2.5\], needed numbers or a text",
        ),
        ({"size": [2, 2], "counts": "é"}, "counts of the mask are 'é'"),
        ({"size": [2, 2], "counts": "  "}, "counts of the mask are '  ' .no such character: ' '"),
        ({"size": [2, 2], "counts": "o"}, "counts of the mask are 'o' .its last number is cut off"),
        ({"size": [2], "counts": [4]}, r"size of the mask is \[2\], needed height and width"),
        ({"size": [0, 2], "counts": []}, r"size of the mask is \[0, 2\]"),
        ({"size": [2, 1e300], "counts": [4]}, r"size of the mask is 1e\+300"),
        ([[1, 2, 3]], r"a polygon is \[1, 2, 3\], needed an even number"),
        ([["a", "b", 1, 2]], "vertices are .*needed pairs of numbers"),
        ("text", "segmentation is 'text', needed lists of numbers"),
    ],
)
def test_wrong_segmentations_are_refused_by_number(read, segmentation, said):
    with pytest.raises(AnnotationError, match=f"feature 2: {said}"):
        read({"segmentation": [FLAT]}, {"segmentation": segmentation})


def test_of_several_images_the_one_of_the_slides_name_is_taken(read):
    images = [{"id": 1, "file_name": "x/one.tif"}, {"id": 2, "file_name": "two.tif"}]
    flat = [value for pair in TRIANGLE for value in pair]
    annotations = [{"image_id": 1, "segmentation": [FLAT]}, {"image_id": 2, "segmentation": [flat]}]
    for name, number in (("one.svs", 1), ("data/two.ome.tif", None), ("two.svs", 2)):
        if number is None:
            with pytest.raises(AnnotationError, match="0 of them are called 'two.ome'"):
                read(*annotations, images=images, image=name)
        else:
            assert [each.number for each in read(*annotations, images=images, image=name).outlines] == [
                number
            ]
    with pytest.raises(
        AnnotationError, match="it holds 2 images .*'x/one.tif', 'two.tif'.*no slide was named"
    ):
        read(*annotations, images=images)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"images": [3]}, "an image is 3, needed an object with id and file_name"),
        ({"categories": [{"id": 1}]}, "a category is {'id': 1}, needed an object with id and name"),
        ({"categories": 3}, "a category is 3"),
        ({"images": [{"id": [1], "file_name": "a.svs"}]}, r"an image is {'id': \[1\]"),
        (
            {"images": [{"id": 1, "file_name": "a.svs"}, {"id": 1, "file_name": "b.svs"}]},
            "several images have the id 1, needed one each",
        ),
        (
            {"categories": [{"id": 5, "name": "tumour"}, {"id": 5, "name": "stroma"}]},
            "categories 'tumour' and 'stroma' have the same id 5, needed one each",
        ),
    ],
)
def test_wrong_images_and_categories_are_refused(read, wrong, said):
    with pytest.raises(AnnotationError, match=said):
        read({"segmentation": [FLAT]}, **wrong)


@pytest.mark.parametrize("image", ["1", 3, None, [1], {"id": 1}])
def test_an_annotation_of_no_image_is_refused_and_not_passed_over(read, image):
    with pytest.raises(
        AnnotationError, match="feature 2: image_id is .*, needed the id of one of the images"
    ):
        read({"segmentation": [FLAT]}, {"image_id": image, "segmentation": [FLAT]})


def test_annotations_of_other_images_are_counted(read):
    images = [{"id": 1, "file_name": "a.svs"}, {"id": 2, "file_name": "b.svs"}]
    annotations = [{"image_id": each, "segmentation": [FLAT]} for each in (1, 2, 2)]
    found = read(*annotations, images=images, image="a.svs")
    assert len(found.outlines) == 1
    assert found.remarks == ("Annotations of other images, left out: 2",)


def test_a_category_that_is_not_there_and_an_annotation_that_is_no_object_are_refused(read):
    for category in (6, [1], "x"):
        with pytest.raises(
            AnnotationError, match="feature 1: category_id is .*, needed one of the categories"
        ):
            read({"category_id": category, "segmentation": [FLAT]})
    with pytest.raises(AnnotationError, match="feature 1: it is 3, needed an object"):
        read(3)
    with pytest.raises(AnnotationError, match=r"feature 1: bbox is \[1, 2\], needed 4 numbers"):
        read({"bbox": [1, 2]})
