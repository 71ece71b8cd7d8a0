"""Means of windows by hand and against scipy's uniform filter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from wsi_deform.kernels.window import window_means


def test_means_by_hand_hold_the_cells_of_the_edge_beyond_it():
    values = np.array([[9, 0, 0], [0, 0, 0], [0, 0, 18]], np.float32)
    assert window_means(values, 3).tolist() == [[4, 2, 0], [2, 3, 4], [0, 4, 8]]
    assert window_means(values, 1).tolist() == values.tolist()


@pytest.mark.parametrize("side", [1, 3, 7, 11])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (6, 7), (131, 90)])
def test_means_equal_those_of_scipy_to_the_bit(side, shape):
    rng = np.random.default_rng(side)
    for values in (
        rng.random(shape),
        rng.normal(0, 200, shape),
        rng.random(shape) < 0.3,
        rng.integers(0, 256, shape) / 3,
    ):
        plane = values.astype(np.float32)
        found, true = window_means(plane, side), ndimage.uniform_filter(plane, side, mode="nearest")
        assert found.dtype == np.float32
        assert found.tobytes() == true.tobytes()
