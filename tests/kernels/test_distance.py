"""Capped distances against scipy's distance transform and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from wsi_deform.errors import ShapeError
from wsi_deform.kernels.distance import capped_squared_distances


def test_distances_of_one_pixel_by_hand():
    marked = np.zeros((3, 5), bool)
    marked[1, 1] = True
    assert capped_squared_distances(marked, 2).tolist() == [[2, 1, 2, 5, 5], [1, 0, 1, 4, 5], [2, 1, 2, 5, 5]]


@pytest.mark.parametrize("share", [0.0002, 0.004, 0.3])
@pytest.mark.parametrize("most", [1, 7, 40, 254])
def test_distances_equal_those_of_scipy(share, most):
    rng = np.random.default_rng(int(most + 1000 * share))
    for shape in ((90, 400), (301, 33), (1, 50), (50, 1)):
        marked = rng.random(shape) < share
        found = capped_squared_distances(marked, most)
        if not marked.any():
            assert (found == most**2 + 1).all()
            continue
        true = np.rint(ndimage.distance_transform_edt(~marked) ** 2)
        np.testing.assert_array_equal(found, np.minimum(true, most**2 + 1))


def test_distances_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="needed"):
        capped_squared_distances(np.zeros((2, 2), bool), 255)
    with pytest.raises(ShapeError, match="needed"):
        capped_squared_distances(np.zeros(2, bool), 5)


def test_distances_at_the_ends_of_their_range():
    marked = np.zeros((1, 300), bool)
    marked[0, 0] = True
    near = capped_squared_distances(marked, 1)[0].tolist()
    assert near[:4] == [0, 1, 2, 2]
    far = capped_squared_distances(marked, 254)[0].tolist()
    assert (far[254], far[255], far[299]) == (64_516, 64_517, 64_517)
    assert capped_squared_distances(marked.T, 254)[:, 0].tolist() == far
    assert capped_squared_distances(np.zeros((2, 2), bool), 254).tolist() == [[64_517] * 2] * 2
    with pytest.raises(ShapeError, match="1 to 254"):
        capped_squared_distances(marked, 0)
