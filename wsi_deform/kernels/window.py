"""Means of square windows, a moving sum at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import compiled

Floats = NDArray[np.float32]


@compiled
def window_means(values: Floats, side: int) -> Floats:
    """The mean of the square window around each cell; beyond an edge the cells of the edge go on.

    Args:
        values: (H, W) float32, one cell or more.
        side: Cells along each side of the window; odd.

    Returns:
        (H, W) float32.

    Convention:
        To the bit what ``scipy.ndimage.uniform_filter`` gives with ``mode="nearest"``: columns first, kept as float32,
        then rows; each window's double sum is that of the one before it, with what came in and went out.
    """
    height, width = values.shape
    half = side // 2
    down = np.empty((height, width), np.float32)
    sums = np.zeros(width)
    # A row of all columns at a time, which the processor does several of at once.
    for row in range(-half, half + 1):
        line = values[min(max(row, 0), height - 1)]
        for column in range(width):
            sums[column] += np.float64(line[column])
    for column in range(width):
        down[0, column] = sums[column] / side
    for row in range(1, height):
        enters, leaves = values[min(row + half, height - 1)], values[max(row - 1 - half, 0)]
        for column in range(width):
            sums[column] += np.float64(enters[column]) - np.float64(leaves[column])
            down[row, column] = sums[column] / side
    out = np.empty((height, width), np.float32)
    for row in range(height):
        line = down[row]
        total = 0.0
        for column in range(-half, half + 1):
            total += np.float64(line[min(max(column, 0), width - 1)])
        out[row, 0] = total / side
        for column in range(1, width):
            come, gone = line[min(column + half, width - 1)], line[max(column - 1 - half, 0)]
            total += np.float64(come) - np.float64(gone)
            out[row, column] = total / side
    return out
