"""Trimap and boundary distance by hand, and against MONAI and brute force on the whole image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance
from scipy import ndimage

from wsi_deform.evaluate.block import Block, borders_of
from wsi_deform.evaluate.boundary import Boundary, Distances
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.slides import blocks
from wsi_deform.evaluate.trimap import Trimap
from wsi_deform.geometry import Size


def streamed(measure, truth, predicted, *, side_px):
    size = Size(truth.shape[1], truth.shape[0])
    for region in blocks(size, side_px):
        outer = region.grown(measure.halo_px, size)
        part = np.s_[outer.y : outer.bottom, outer.x : outer.right]
        measure.add(Block.of(region, outer, truth[part], predicted[part]))
    return measure.result()


def ellipse(shape, centre, radii):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


def drawn(seed=0, shape=(120, 150)):
    """Labels of three classes that keep off the frame, a prediction that is shifted and misses one object."""
    truth, predicted = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    truth[ellipse(shape, (40, 50), (25, 18))] = 1
    truth[ellipse(shape, (105, 60), (14, 33))] = 2
    predicted[ellipse(shape, (44, 52), (22, 20))] = 1
    predicted[ellipse(shape, (103, 57), (18, 30))] = 2
    rng = np.random.default_rng(seed)
    predicted[rng.integers(2, shape[0] - 2, 12), rng.integers(2, shape[1] - 2, 12)] = 1
    return truth, predicted


def test_borders_are_labelled_pixels_beside_another_class():
    labels = np.array([[0, 0, 1], [0, 255, 1], [0, 255, 255], [0, 0, 2]], np.uint8)
    assert borders_of(labels).astype(int).tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0], [0, 1, 1]]
    assert not borders_of(np.full((3, 3), 1, np.uint8)).any()


def test_trimap_bands_by_hand():
    truth = np.zeros((5, 9), np.uint8)
    truth[:, 4:] = 1
    predicted = np.zeros((5, 9), np.uint8)
    predicted[:, 5:] = 1  # one column too far
    found = streamed(
        Trimap(classes=2, mpp=0.5, widths_px=[1, 2], widths_um=[0.2, 2.0]), truth, predicted, side_px=4
    )
    # One, two, and (2 um at 0.5 um per px) four columns on either side; 0.2 um hold no centre of a pixel.
    assert {band: counts.counts.tolist() for band, counts in found.bands.items()} == {
        ("px", 1): [[5, 0], [5, 0]],
        ("px", 2): [[10, 0], [5, 5]],
        ("um", 2): [[20, 0], [5, 15]],
    }


def test_the_frame_and_the_edge_of_what_is_unlabelled_have_no_band():
    truth = np.full((6, 8), 1, np.uint8)
    truth[:, 3:5] = 255
    truth[:, 5:] = 2
    found = streamed(Trimap(classes=3, mpp=None, widths_px=[3]), truth, truth, side_px=4)
    assert found.bands["px", 3].counts.sum() == 0


@pytest.mark.parametrize("side_px", [9, 32, 200])
def test_trimap_equals_brute_force(side_px):
    truth, predicted = drawn()
    truth[60:75, 30:50] = 255
    widths = [1, 2, 5.5, 16]
    found = streamed(Trimap(classes=3, mpp=None, widths_px=widths), truth, predicted, side_px=side_px)
    # Centres of pixel pairs of different classes that share a side, by rolling the image.
    beside = np.zeros(truth.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            other = np.roll(truth, step, axis)
            differ = (truth != other) & (truth != 255) & (other != 255)
            edge = [slice(None)] * 2
            edge[axis] = slice(0, 1) if step == 1 else slice(-1, None)
            differ[tuple(edge)] = False
            beside |= differ
    y, x = np.mgrid[: truth.shape[0], : truth.shape[1]]
    at_y, at_x = np.nonzero(beside)
    nearest = np.min(np.hypot(y[..., None] - at_y, x[..., None] - at_x), axis=2)
    for width in widths:
        band = np.where(nearest + 0.5 < width, truth, 255)
        np.testing.assert_array_equal(
            found.bands["px", width].counts, Confusion.of(band, predicted, 3).counts
        )


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("side_px", [11, 40, 200])
def test_boundary_distances_equal_those_of_monai_and_scipy_on_the_whole_image(side_px):
    truth, predicted = drawn()
    mpp = 0.25
    found = streamed(Boundary(classes=3, mpp=mpp), truth, predicted, side_px=side_px)
    one_hot = [
        torch.nn.functional.one_hot(torch.from_numpy(m).long(), 3).permute(2, 0, 1)[None]
        for m in (predicted, truth)
    ]
    options = {"include_background": False, "spacing": mpp}
    mean = compute_average_surface_distance(*one_hot, symmetric=True, **options)[0]
    for index, of in ((1, 0), (2, 1)):
        pair = found.units["um"][index]
        assert pair.mean() == pytest.approx(float(mean[of]), abs=1e-6)
        ways = []
        for own, other in ((predicted, truth), (truth, predicted)):
            edges = [(each == index) & ~ndimage.binary_erosion(each == index) for each in (own, other)]
            ways.append(ndimage.distance_transform_edt(~edges[1], sampling=mpp)[edges[0]])
        worst = max(np.percentile(way, 95, method="inverted_cdf") for way in ways)
        assert pair.percentile_95() == pytest.approx(worst, abs=1 / 128)
        assert found.units["px"][index].mean() == pytest.approx(float(mean[of]) / mpp, abs=1e-5)
        assert pair.capped_share() == 0


def test_boundary_distances_by_hand():
    truth, predicted = np.zeros((7, 12), np.uint8), np.zeros((7, 12), np.uint8)
    truth[:, :4] = 1
    predicted[:, :6] = 1
    found = streamed(Boundary(classes=3, mpp=2.0), truth, predicted, side_px=5)
    # Seven border pixels each way, all two pixels apart; the frame is no border.
    for index in (0, 1):
        pair = found.units["px"][index]
        assert (pair.to_true.count, pair.to_true.total, pair.to_predicted.total) == (7, 14, 14)
        assert (pair.mean(), pair.percentile_95()) == (2, 2)
        assert (found.units["um"][index].mean(), found.units["um"][index].percentile_95()) == (4, 4)
    assert np.isnan(found.units["px"][2].mean())
    assert np.isnan(found.units["px"][2].percentile_95())


@pytest.mark.parametrize("side_px", [3, 7, 30])
def test_distances_beyond_the_cap_count_as_the_cap_and_are_told(side_px):
    truth, predicted = np.zeros((40, 9), np.uint8), np.zeros((40, 9), np.uint8)
    truth[3:6, 3:6] = 1  # eight border pixels
    truth[30, 4] = 1  # missed: one border pixel
    predicted[4:7, 3:6] = 1
    pair = streamed(Boundary(classes=2, mpp=None, cap_px=10), truth, predicted, side_px=side_px).units["px"][
        1
    ]
    assert (pair.to_predicted.count, pair.to_predicted.capped, pair.to_true.capped) == (9, 1, 0)
    near = ndimage.distance_transform_edt(~((predicted == 1) & borders_of(predicted)))
    own = near[(truth == 1) & borders_of(truth)]
    assert pair.to_predicted.total == pytest.approx(np.minimum(own, 10).sum())
    assert pair.to_predicted.percentile(1.0) == 10
    assert pair.capped_share() == pytest.approx(1 / 17)


def test_distances_of_slides_add_up():
    one, other = Distances.of(np.array([0.5, 1.0, 1.0]), 0), Distances.of(np.array([1.0, 9.0]), 1)
    both = one + other
    assert (both.count, both.total, both.capped) == (5, 12.5, 1)
    assert [both.percentile(share) for share in (0.2, 0.8, 0.81)] == [0.5, 1.0, 9.0]


def test_borders_too_long_to_hold_are_not_measured(monkeypatch):
    monkeypatch.setattr("wsi_deform.evaluate.boundary.MAX_POINTS", 50)
    truth, predicted = drawn()
    assert streamed(Boundary(classes=3, mpp=None), truth, predicted, side_px=40) is None
