"""Objects by hand, and against scipy on the whole image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from wsi_deform.evaluate.block import Block
from wsi_deform.evaluate.objects import SIZES, Objects
from wsi_deform.evaluate.slides import blocks
from wsi_deform.geometry import Region, Size


def objects_of(truth, predicted, *, side_px, classes=3, background=0, mpp=None):
    size = Size(truth.shape[1], truth.shape[0])
    objects = Objects(classes=classes, background=background, mpp=mpp, width_px=size.width)
    for region in blocks(size, side_px):
        part = np.s_[region.y : region.bottom, region.x : region.right]
        objects.add(Block.of(region, region, truth[part], predicted[part]))
    return objects.result()


def brute(labels, other, classes, unit, um2):
    """(C, S, 5) and boxes of objects covered by less than half, by ndimage on the whole image."""
    counts = np.zeros((classes, len(SIZES[unit]), 5), int)
    less = []
    for of in range(1, classes):
        parts, many = ndimage.label(labels == of, np.ones((3, 3)))
        for number, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1):
            at = parts == number
            pixels, covered = int(at.sum()), int((at & (other == of)).sum())
            size = max(k for k, begin in enumerate(SIZES[unit]) if pixels * um2 >= begin)
            counts[of, size] += [1, covered > 0, covered >= pixels / 2, pixels, covered]
            if covered < pixels / 2:
                less.append((of, columns.start, rows.start, columns.stop, rows.stop, pixels))
    return counts, less


def blobs(rng, shape, classes, period):
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), period)
    levels = np.quantile(noise, np.linspace(0.5, 1, classes)[:-1])
    return np.searchsorted(levels, noise.ravel()).reshape(shape).astype(np.uint8)


@pytest.mark.parametrize("side_px", [1, 7, 16, 100])
@pytest.mark.parametrize("mpp", [None, 2.0])
def test_objects_equal_those_of_scipy_on_the_whole_image(side_px, mpp):
    rng = np.random.default_rng(5)
    height, width = (18, 23) if side_px == 1 else (60, 83)
    for period in (0, 1, 4):
        truth, predicted = (blobs(rng, (height, width), 4, period) for _ in range(2))
        predicted[: height // 2] = truth[: height // 2]
        truth[height * 2 // 3 : height * 5 // 6, width // 4 : width * 3 // 4] = 255
        seen = np.where(truth == 255, 255, predicted)
        found = objects_of(truth, predicted, side_px=side_px, classes=4, mpp=mpp)
        unit, um2 = ("px", 1) if mpp is None else ("um", mpp**2)
        true_counts, less = brute(truth, seen, 4, unit, um2)
        np.testing.assert_array_equal(found.true[unit], true_counts)
        np.testing.assert_array_equal(found.predicted[unit], brute(seen, truth, 4, unit, um2)[0])
        largest = sorted((each[-1] for each in less), reverse=True)[:20]
        assert [each.pixels for each in found.missed] == largest
        for each in found.missed:
            box = each.box
            assert (each.class_index, box.x, box.y, box.right, box.bottom, each.pixels) in less


@pytest.mark.parametrize("side_px", [3, 4, 100])
def test_objects_by_hand(side_px):
    truth = np.array(
        [
            [1, 1, 0, 0, 2, 2, 0, 1],
            [0, 0, 1, 0, 2, 2, 0, 0],
            [0, 0, 0, 0, 0, 0, 2, 0],
            [1, 255, 1, 0, 0, 0, 0, 0],
        ],
        np.uint8,
    )
    predicted = np.array(
        [
            [1, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 1, 0, 2, 2, 0, 0],
            [0, 0, 0, 0, 2, 0, 0, 0],
            [1, 1, 1, 1, 0, 0, 0, 2],
        ],
        np.uint8,
    )
    found = objects_of(truth, predicted, side_px=side_px)
    # 1: three pixels meeting at a corner (two are covered), one at the right, and two that nobody labelled between.
    assert found.true["px"][1].sum(axis=0).tolist() == [4, 3, 3, 6, 4]
    # 2: a square with one at its corner, two of its five pixels covered.
    assert found.true["px"][2].sum(axis=0).tolist() == [1, 1, 0, 5, 2]
    # The unlabelled pixel cuts the lowest object of class 1 in two; the right one is half true.
    assert found.predicted["px"][1].sum(axis=0).tolist() == [4, 4, 4, 5, 4]
    # Of class 2 the lower right pixel is on nothing.
    assert found.predicted["px"][2].sum(axis=0).tolist() == [2, 1, 1, 4, 2]
    (square, single) = found.missed
    assert (square.class_index, square.box, square.covered) == (2, Region(4, 0, 3, 3), 2 / 5)
    assert (single.class_index, single.box, single.covered) == (1, Region(7, 0, 1, 1), 0)


def test_sizes_are_um2_where_the_slide_says_how_large_a_pixel_is():
    truth = np.zeros((20, 20), np.uint8)
    truth[2:12, 3:13] = 1  # 100 px = 2,500 um2
    found = objects_of(truth, np.zeros_like(truth), side_px=8, mpp=5.0)
    assert found.true["um"][1, :, 0].tolist() == [0, 0, 1, 0, 0, 0]
    assert found.missed[0].area_um2 == 2500
    together = found + objects_of(truth, truth, side_px=8, mpp=5.0) + objects_of(truth, truth, side_px=8)
    assert together.true["um"][1, 2].tolist() == [2, 1, 1, 200, 100]
    assert together.true["px"][1].sum(axis=0).tolist() == [1, 1, 1, 100, 100]


def test_classes_without_a_background_all_count():
    truth = np.array([[0, 0, 1]], np.uint8)
    found = objects_of(truth, truth, side_px=2, classes=2, background=None)
    assert found.true["px"][:, 0, 0].tolist() == [1, 1]
