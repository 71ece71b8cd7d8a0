"""Outlines as mask files: what OpenSlide and tifffile see, at every level, and what is refused."""

from __future__ import annotations

import numpy as np
import openslide
import pytest
import tifffile

from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.annotation.outlines import labels as outline_labels
from wsi_deform.annotation.outlines.labels import open_outline_labels
from wsi_deform.annotation.outlines.outline import Outline, OutlineSet
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.errors import AnnotationError, ShapeError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.mask.outline_mask import outline_mask_size, write_outline_mask
from wsi_deform.slide.open import open_slide

SIZE = Size(1300, 1101)
CLASSES = ClassTable.from_names(["background", "a", "b"])


def triangle(rng):
    return rng.uniform((-100, -100), (1400, 1200), (3, 2))


@pytest.fixture
def labels_by(tmp_path, monkeypatch):
    """Opens drawn outlines with a class table."""
    rng = np.random.default_rng(0)
    outlines = tuple(
        Outline(rings=(triangle(rng), triangle(rng)), source_class=str(rng.choice(["a", "b"])))
        for _ in range(12)
    )
    path = tmp_path / "o.geojson"
    path.write_text("{}")
    monkeypatch.setattr(
        outline_labels,
        "read_outlines",
        lambda path, **_: OutlineSet(path=path, format="drawn", outlines=outlines),
    )
    return lambda table=CLASSES, **options: open_outline_labels(
        path, slide_size=SIZE, classes=table, **options
    )


def test_openslide_and_tifffile_see_the_labels_of_every_level(tmp_path, labels_by):
    labels = labels_by()
    path = tmp_path / "s.ome.tif"
    write_outline_mask(path, labels, mpp=0.25, threads=2)
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
    with tifffile.TiffFile(path) as tif:
        levels = [level.asarray() for level in tif.series[0].levels]
        assert "value 2" in tif.ome_metadata
        assert 'PhysicalSizeX="0.25"' in tif.ome_metadata
    assert [level.shape for level in levels] == [(1101, 1300), (551, 650), (276, 325)]
    for number, level in enumerate(levels):
        region = Region(0, 0, level.shape[1], level.shape[0])
        expected = labels.raster.read(region, Point(2**number, 2**number))
        assert np.array_equal(level, expected)
        assert set(np.unique(level)) == {0, 1, 2}
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (1300, 1101)
        seen = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., 0]
    assert np.array_equal(seen, labels.read_region(Region.whole(SIZE)))


@pytest.mark.parametrize(
    "data",
    [
        ["background", "a", "b"],
        {"classes": {"background": 7, "b": 0, "a": 255}},
        {"classes": {"a": 3, "b": 4}, "unlabelled": [0]},
    ],
)
def test_the_same_class_table_reads_the_mask(tmp_path, labels_by, data):
    table = class_table_from_data(data, "t")
    labels = labels_by(table)
    write_outline_mask(tmp_path / "m.ome.tif", labels)
    mask = open_label_mask(tmp_path / "m.ome.tif", slide_size=SIZE, classes=table)
    assert np.array_equal(mask.read_region(Region.whole(SIZE)), labels.read_region(Region.whole(SIZE)))


def test_a_smaller_mask_has_the_label_at_the_centre_of_each_of_its_pixels(tmp_path, labels_by):
    labels = labels_by()
    path = tmp_path / "m.ome.tif"
    write_outline_mask(path, labels, size=Size(130, 111), mpp=0.25)
    x, y = np.meshgrid(np.arange(130) * 10 + 5, np.arange(110) * 10 + 5)
    found = tifffile.imread(path)
    assert found.shape == (111, 130)
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    # The centre of ten by ten pixels is a corner of four of them: points take the one right of and below it.
    inside = labels.raster.read(Region(0, 0, 130, 110), Point(10, 10))
    assert np.array_equal(found[:110], inside)
    agree = labels.at_points(points.astype(float)).reshape(110, 130) == found[:110]
    assert agree.mean() > 0.98
    with tifffile.TiffFile(path) as tif:
        assert 'PhysicalSizeX="2.5"' in tif.ome_metadata


def test_masks_that_cannot_say_what_pixels_are_are_refused(tmp_path, labels_by):
    without = class_table_from_data({"classes": ["background", "a", "b"], "unlabelled": []}, "t")
    large = class_table_from_data({"background": 0, "a": 1, "b": 300}, "t")
    path = tmp_path / "m.ome.tif"
    with pytest.raises(
        AnnotationError, match="some pixels are unlabelled, and no mask value of the class table"
    ):
        write_outline_mask(path, labels_by(without, outside="unlabelled"))
    with pytest.raises(AnnotationError, match="class 'b': no mask value up to 255"):
        write_outline_mask(path, labels_by(large))
    with pytest.raises(ShapeError, match="1301 x 1101 px, larger than its slide of 1300 x 1101 px"):
        write_outline_mask(tmp_path / "m.ome.tif", labels_by(), size=Size(1301, 1101))
    assert not (tmp_path / "m.ome.tif").exists()


def test_a_mask_may_have_the_size_of_a_level_or_an_mpp(tmp_path):
    with tifffile.TiffWriter(tmp_path / "s.tif") as tif:
        for step in (1, 4):
            tif.write(np.zeros((400 // step, 600 // step, 3), np.uint8), tile=(64, 64))
    slide = open_slide(tmp_path / "s.tif", mpp=0.5)
    assert outline_mask_size(slide) == Size(600, 400)
    assert outline_mask_size(slide, level=0) == Size(600, 400)
    assert outline_mask_size(slide, mpp=0.5) == Size(600, 400)
    assert outline_mask_size(slide, mpp=2.0) == Size(150, 100)
    with pytest.raises(ShapeError, match="level 0 and mpp 2: needed one of them"):
        outline_mask_size(slide, level=0, mpp=2.0)
    with pytest.raises(ShapeError, match=r"level 99. Needed 0 to "):
        outline_mask_size(slide, level=99)
    with pytest.raises(ShapeError, match=r"mpp 0.25 is finer than its 0.5 um per pixel"):
        outline_mask_size(slide, mpp=0.25)
