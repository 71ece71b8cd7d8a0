"""Connected parts of masks, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from wsi_deform.kernels.connected import connected_parts


def test_parts_share_edges_and_are_numbered_row_by_row():
    mask = np.array([[1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1], [1, 0, 1, 1]], bool)
    parts, count = connected_parts(mask)
    assert count == 3
    assert parts.tolist() == [[1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 2], [3, 0, 2, 2]]
    assert parts.dtype == np.int32


@pytest.mark.parametrize("share", [0.05, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 1), (53, 64), (200, 131)])
def test_parts_of_random_masks_are_those_of_scipy(shape: tuple[int, int], share: float):
    mask = np.random.default_rng(0).random(shape) < share
    expected, expected_count = ndimage.label(mask)
    parts, count = connected_parts(mask)
    np.testing.assert_array_equal(parts, expected)
    assert count == expected_count


def test_a_chessboard_is_all_parts_of_one_cell_and_a_comb_is_one():
    board = np.indices((9, 11)).sum(axis=0) % 2 == 0
    assert connected_parts(board)[1] == 50
    comb = np.zeros((6, 9), bool)
    comb[:, ::2] = True
    comb[-1] = True
    assert connected_parts(comb)[1] == 1


def test_empty_full_and_strided_masks():
    assert connected_parts(np.zeros((0, 4), bool))[1] == 0
    assert connected_parts(np.zeros((3, 4), bool))[1] == 0
    assert connected_parts(np.ones((3, 4), bool)[:, ::2])[0].tolist() == [[1, 1]] * 3
