"""Classes drawn over a thumbnail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.overlay import label_picture, label_picture_of_mask, overlay
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples


@pytest.mark.parametrize("picture", [Size(640, 400), Size(333, 208), Size(64, 40), Size(7, 5), Size(1, 1)])
def test_label_picture_is_the_label_near_the_centre_of_each_pixel(picture: Size) -> None:
    size = Size(640, 400)
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (12, 2)) * [size.width, size.height]
    field = FieldSamples(kept=Region.whole(size), points_px=points, labels=np.arange(12, dtype=np.uint8))
    sampler = ReverseSampler([field], size=size, tile_px=16)
    labels = label_picture(sampler, picture)
    assert labels.shape == picture.shape
    scale = [size.width / picture.width, size.height / picture.height]
    centres = (np.argwhere(np.ones(picture.shape))[:, ::-1] + 0.5) * scale
    distance = np.linalg.norm(centres[:, None] - points, axis=2)
    # Half a pixel off the centre changes no distance by more than that.
    off = 0.5 * np.hypot(*scale)
    chosen = distance[np.arange(len(centres)), labels.ravel()]
    assert (chosen <= distance.min(axis=1) + 2 * off + 1).all()
    if picture == size:
        np.testing.assert_array_equal(labels, sampler.region(Region.whole(size)))


def test_background_and_unlabelled_stay_clear_and_classes_are_tinted_with_an_outline() -> None:
    picture = np.full((60, 90, 3), 100, np.uint8)
    labels = np.zeros((60, 90), np.uint8)
    labels[20:40, 30:60] = 1
    labels[0:5, 0:5] = 255
    drawn = overlay(picture, labels, [(0, 0, 0), (250, 0, 50)], background=0)
    np.testing.assert_array_equal(drawn[labels != 1], picture[labels != 1])
    inside, edge = drawn[30, 45].astype(int), drawn[20, 45].astype(int)
    for colour in (inside, edge):
        assert colour[0] > 100 > colour[2] > colour[1]
    assert edge[0] > inside[0]


def test_picture_and_labels_must_be_of_one_size() -> None:
    with pytest.raises(ShapeError, match="of one size"):
        overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), [(0, 0, 0)])


@pytest.mark.parametrize("shape", [(300, 280), (140, 500), (1, 9)])
@pytest.mark.parametrize("background", [None, 1])
def test_classes_are_blended_in_float32_and_outlines_are_those_of_scipy(shape, background):
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (shape[0] // 10 + 1, shape[1] // 10 + 1))
    labels = np.kron(labels, np.ones((10, 10), np.uint8))[: shape[0], : shape[1]]
    picture = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    colours = np.array([(255, 0, 7), (0, 255, 3), (90, 0, 255)], np.float32)
    outline = (ndimage.maximum_filter(labels, 3) != labels) | (ndimage.minimum_filter(labels, 3) != labels)
    if min(shape) > 256:
        outline = ndimage.binary_dilation(outline)
    alpha = np.where(outline, np.float32(0.9), np.float32(0.35))
    alpha[(labels == 255) | (labels == background)] = 0
    over = colours[np.minimum(labels, 2)]
    expected = np.rint((over - picture) * alpha[..., None] + picture)
    drawn = overlay(picture, labels, [(255, 0, 7), (0, 255, 3), (90, 0, 255)], background=background)
    np.testing.assert_array_equal(drawn, expected)


def test_an_outline_is_drawn_on_both_sides_of_a_border_corners_too() -> None:
    labels = np.zeros((6, 7), np.uint8)
    labels[4:, 5:] = 2
    drawn = overlay(np.zeros((6, 7, 3), np.uint8), labels, [(100, 0, 0), (0, 0, 0), (0, 0, 100)])
    # The line of class 0 is 90 bright, its fill 35; pixel (3, 4) touches the other class by a corner alone.
    assert drawn[..., 0].tolist() == [
        [35, 35, 35, 35, 35, 35, 35],
        [35, 35, 35, 35, 35, 35, 35],
        [35, 35, 35, 35, 35, 35, 35],
        [35, 35, 35, 35, 90, 90, 90],
        [35, 35, 35, 35, 90, 0, 0],
        [35, 35, 35, 35, 90, 0, 0],
    ]
    assert drawn[..., 2].tolist()[4:] == [[0, 0, 0, 0, 0, 90, 90], [0, 0, 0, 0, 0, 90, 35]]


def test_outlines_of_large_pictures_are_two_pixels_wide() -> None:
    labels = np.zeros((300, 300), np.uint8)
    labels[:, 150:] = 1
    drawn = overlay(np.zeros((300, 300, 3), np.uint8), labels, [(100, 0, 0), (0, 100, 0)])
    assert drawn[7, 146:154, 0].tolist() == [35, 35, 90, 90, 0, 0, 0, 0]
    assert drawn[7, 146:154, 1].tolist() == [0, 0, 0, 0, 90, 90, 35, 35]


@pytest.mark.parametrize(("side", "line"), [(256, 1), (257, 2)])
def test_pictures_of_257_px_and_more_have_the_thicker_lines(side: int, line: int) -> None:
    labels = np.zeros((side, 400), np.uint8)
    labels[:, 200:] = 1
    drawn = overlay(np.zeros((side, 400, 3), np.uint8), labels, [(100, 0, 0), (0, 100, 0)])
    assert np.count_nonzero(drawn[0] == 90) == 2 * line


@pytest.mark.parametrize(
    ("picture", "level"), [(Size(640, 400), 0), (Size(321, 201), 0), (Size(320, 200), 1), (Size(64, 40), 3)]
)
def test_the_picture_of_a_mask_file_is_that_of_its_sampler(picture: Size, level: int, tmp_path: Path) -> None:
    """Of the coarsest level that is not coarser than the picture: its pixels at the centres of the picture's."""
    size = Size(640, 400)
    points = np.random.default_rng(0).uniform(0, 1, (80, 2)) * [size.width, size.height]
    field = FieldSamples(kept=Region.whole(size), points_px=points, labels=np.arange(80, dtype=np.uint8))
    sampler = ReverseSampler([field], size=size, tile_px=64)
    write_mask(tmp_path / "m.ome.tif", sampler.tiles(), size=size, mpp=0.5, tile_px=64)
    found = label_picture_of_mask(tmp_path / "m.ome.tif", picture)
    np.testing.assert_array_equal(found, label_picture(sampler, picture))
    with tifffile.TiffFile(tmp_path / "m.ome.tif") as tiff:
        held = tiff.series[0].levels[level].asarray()
    rows = np.floor((np.arange(picture.height) + 0.5) * 400 / picture.height / 2**level).astype(int)
    columns = np.floor((np.arange(picture.width) + 0.5) * 640 / picture.width / 2**level).astype(int)
    np.testing.assert_array_equal(found, held[np.ix_(rows, columns)])
