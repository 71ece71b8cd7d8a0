"""Slides whose pixels are not square: areas, views, fields, distances and masks along both axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from drawn_reader import ArrayReader
from PIL import Image
from scipy import ndimage
from scipy.spatial.distance import cdist

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import field_side_px, fields_of, sampled_size_of, view_of
from wsi_deform.evaluate.block import Block, borders_of
from wsi_deform.evaluate.boundary import Boundary
from wsi_deform.evaluate.objects import Objects
from wsi_deform.evaluate.slides import blocks
from wsi_deform.evaluate.trimap import Trimap
from wsi_deform.geometry import Point, Region, Size, mean_mpp, squared, steps_of
from wsi_deform.look.fields import cover_exactly, cover_with_fields
from wsi_deform.look.lowres import thumbnail
from wsi_deform.look.tissue import tissue_mask
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import write_manifest
from wsi_deform.mask.footprint import FootprintMap
from wsi_deform.mask.tiff import write_nearest_mask
from wsi_deform.model import Model
from wsi_deform.notebook.slide import OpenedSlide
from wsi_deform.slide.slide import Slide

MPP = Point(0.25, 1.0)  # pixels four times as high as wide
SHAPE = (200, 1600)  # 400 x 200 um


def glands() -> np.ndarray:
    """A round gland of 60 um radius in the middle of glass, as its pixels have it: an ellipse."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    inside = ((x + 0.5) * MPP.x - 200) ** 2 + ((y + 0.5) * MPP.y - 100) ** 2 <= 60**2
    return np.where(inside[..., None], np.uint8([150, 60, 140]), np.uint8([245, 245, 245])).astype(np.uint8)


@pytest.fixture
def slide() -> Slide:
    return Slide.from_reader(ArrayReader(glands(), levels=1, mpp=None), slide_id="a", mpp=MPP)


def test_convention_the_mpp_is_the_side_of_the_square_with_a_pixels_area(slide: Slide):
    assert (slide.mpp, slide.mpp_xy, slide.pixel) == (0.5, MPP, Point(0.5, 2.0))
    assert slide.mpp**2 * slide.size.area == 400 * 200
    assert slide.squared(slide.size) == Size(800, 400)
    assert squared(Size(3, 5), Point(1.0, 1.0)) == Size(3, 5)
    assert steps_of(Point(0.25, 0.2501)) == Point(
        mean_mpp(Point(0.25, 0.2501)), mean_mpp(Point(0.25, 0.2501))
    )


def width_and_height(mask: np.ndarray) -> tuple[int, int]:
    return int(mask.any(axis=0).sum()), int(mask.any(axis=1).sum())


def test_a_round_gland_is_round_in_the_thumbnail_which_is_pillows_area_mean(slide: Slide):
    picture = thumbnail(slide, 200)
    assert picture.shape == (100, 200, 3)
    assert width_and_height(picture[..., 1] < 150) == (60, 60)
    pillow = np.asarray(Image.fromarray(glands()).resize((200, 100), Image.Resampling.BOX))
    assert np.abs(picture.astype(int) - pillow).max() <= 1
    assert thumbnail(slide, 5000).shape == (200, 400, 3)  # nothing is enlarged


def test_a_view_at_a_physical_scale_is_right_along_both_axes(slide: Slide):
    opened = OpenedSlide(Path("a"), mpp=MPP)
    opened._own(ArrayReader(glands(), levels=1, mpp=None), virtual_levels=True, key=None)
    picture = opened.read(0, 0, 100, 50, mpp=4.0)
    pillow = np.asarray(Image.fromarray(glands()).resize((100, 50), Image.Resampling.BOX))
    assert np.abs(picture.astype(int) - pillow).max() <= 1


def test_tissue_is_found_and_counted_right(slide: Slide):
    mask = tissue_mask(slide, mpp_um=2.0)
    assert mask.tissue.shape == (100, 200)
    assert mask.downsample == Point(8.0, 2.0)
    assert mask.fraction * 400 * 200 == pytest.approx(np.pi * 60**2, rel=0.06)


def model_of(*changes: str) -> Model:
    config = read_config(changes=["sampling.budget=[40, 40]", *changes])
    return Model(config=config, classes=ClassTable.from_names(["background", "gland"]), mpp=0.5)


def test_fields_have_one_length_along_both_axes(slide: Slide):
    model = model_of("fields={side_um: 128, whole_below_mm2: 0, margin: 0.1}")
    assert field_side_px(slide, model) == 256
    fields = fields_of(slide, model)
    assert max(each.kept.width for each in fields) == 384  # at most 512, in steps of 64
    assert max(each.kept.height for each in fields) == 128
    field = next(each for each in fields if each.kept.x and each.kept.y)
    longer_um = max(field.kept.width * 0.25, field.kept.height * 1.0)
    margins_um = (field.kept.x - field.region.x) * 0.25, (field.kept.y - field.region.y) * 1.0
    assert margins_um == (pytest.approx(0.1 * longer_um, abs=0.25), pytest.approx(0.1 * longer_um, abs=1.0))
    size, region = sampled_size_of(slide, field, model), field.region
    assert size.width / size.height == pytest.approx(region.width * 0.25 / (region.height * 1.0), rel=0.05)
    assert view_of(slide, field, size).shape == (3, *size.shape)


def test_exact_fields_and_fields_of_regions_follow_both_axes():
    pixel = Point(0.5, 2.0)
    fields = cover_exactly(Size(1600, 200), None, field_px=200, pixel=pixel)
    assert {each.region.size for each in fields} == {Size(400, 100)}
    whole = Region(0, 0, 1600, 200)
    (one,) = cover_with_fields(Size(1600, 200), None, field_px=800, pixel=pixel)
    assert one.region == whole  # 800 x 400 in square pixels
    assert len(cover_with_fields(Size(1600, 200), None, field_px=799, pixel=pixel)) == 2


def streamed(measure, truth, predicted, *, side_px):
    size = Size(truth.shape[1], truth.shape[0])
    for region in blocks(size, side_px):
        outer = region.grown(measure.halo_px, size)
        part = np.s_[outer.y : outer.bottom, outer.x : outer.right]
        measure.add(Block.of(region, outer, truth[part], predicted[part]))
    return measure.result()


def two_labellings() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:90, :120]
    truth = (((x - 50) / 30) ** 2 + ((y - 40) / 20) ** 2 <= 1).astype(np.uint8)
    predicted = (((x - 56) / 33) ** 2 + ((y - 45) / 24) ** 2 <= 1).astype(np.uint8)
    return truth, predicted


@pytest.mark.parametrize("side_px", [30, 200])
def test_boundary_distances_in_um_are_those_of_scipy_with_both_steps(side_px: int):
    truth, predicted = two_labellings()
    found = streamed(Boundary(classes=2, mpp=MPP), truth, predicted, side_px=side_px)
    for unit, sampling in (("px", (1.0, 1.0)), ("um", (MPP.y, MPP.x))):
        of_truth = borders_of(truth) & (truth == 1)
        of_predicted = borders_of(predicted) & (predicted == 1)
        to_true = ndimage.distance_transform_edt(~of_truth, sampling=sampling)[of_predicted]
        to_predicted = ndimage.distance_transform_edt(~of_predicted, sampling=sampling)[of_truth]
        pair = found.units[unit][1]
        assert pair.to_true.total == pytest.approx(to_true.sum())
        assert pair.to_predicted.total == pytest.approx(to_predicted.sum())


def test_trimap_bands_in_um_are_those_of_brute_force():
    truth, predicted = two_labellings()
    found = streamed(
        Trimap(classes=2, mpp=MPP, widths_px=[2], widths_um=[0.1, 1.5, 4.0]), truth, predicted, side_px=40
    )
    assert set(found.bands) == {("px", 2.0), ("um", 1.5), ("um", 4.0)}
    steps = np.array([MPP.y, MPP.x])
    beside = np.argwhere(borders_of(truth)) * steps
    places = np.indices(truth.shape).reshape(2, -1).T * steps
    nearest = cdist(places, beside).min(axis=1).reshape(truth.shape) + 0.25
    for width in (1.5, 4.0):
        near = nearest < width
        for true in (0, 1):
            for seen in (0, 1):
                count = int((near & (truth == true) & (predicted == seen)).sum())
                assert found.bands["um", width].counts[true, seen] == count


def test_objects_are_counted_by_their_area():
    truth = np.zeros((40, 60), np.uint8)
    truth[10:20, 10:50] = 1  # 10 x 40 px of 0.25 um2
    found = streamed(
        Objects(classes=2, background=0, mpp=MPP, width_px=60), truth, np.zeros_like(truth), side_px=64
    )
    assert [missed.area_um2 for missed in found.missed] == [100.0]


def test_masks_hold_both_axes_in_xml_and_tags(tmp_path: Path):
    write_nearest_mask(
        tmp_path / "a.ome.tif",
        points_px=np.array([[10.0, 10.0], [1000.0, 700.0]]),
        labels=np.array([0, 1], np.uint8),
        size=Size(1200, 800),
        mpp=MPP,
    )
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert 'PhysicalSizeX="0.25"' in tif.ome_metadata
        assert 'PhysicalSizeY="1.0"' in tif.ome_metadata
        page, coarse = tif.pages[0], tif.pages[1]
        assert (page.tags["XResolution"].value, page.tags["YResolution"].value) == ((40000, 1), (10000, 1))
        assert coarse.tags["YResolution"].value == (5000, 1)
    with openslide.OpenSlide(str(tmp_path / "a.ome.tif")) as other:
        assert [float(other.properties[f"openslide.mpp-{axis}"]) for axis in "xy"] == [0.25, 1.0]


def test_footprint_maps_take_both_axes(tmp_path: Path):
    with FootprintMap(tmp_path / "a.ome.tif", size=Size(64, 64), mpp=MPP, downsample=2):
        pass
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert 'PhysicalSizeX="0.5"' in tif.ome_metadata
        assert 'PhysicalSizeY="2.0"' in tif.ome_metadata


def test_a_manifest_has_one_mpp_or_one_for_each_axis(tmp_path: Path):
    for name in "abc":
        (tmp_path / f"{name}.svs").write_bytes(b"")
    path = tmp_path / "m.csv"
    path.write_text("slide,mpp\na.svs,0.25\nb.svs,0.25 1.0\nc.svs,\n")
    read = read_manifest(path)
    assert [row.mpp for row in read.rows] == [0.25, Point(0.25, 1.0), None]
    write_manifest(read, tmp_path / "n.csv")
    assert [row.mpp for row in read_manifest(tmp_path / "n.csv").rows] == [0.25, Point(0.25, 1.0), None]
    path.write_text("slide,mpp\na.svs,0.25 90\n")
    with pytest.raises(Exception, match=r"'0.25 90'.*or two, of x and y"):
        read_manifest(path)
