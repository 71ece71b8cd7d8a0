"""How much of each cell of a grid each class covers, counted at a few pixels or points per cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import compiled


@compiled
def cell_shares(labels: NDArray[np.uint8], side: int, classes: int) -> NDArray[np.float32]:
    """Share of the labels of each cell that are of each class.

    Args:
        labels: (rows * side, columns * side) uint8.
        side: Labels of a cell along each axis, at least 1.
        classes: Number of classes; other labels count for none.

    Returns:
        (classes, rows, columns) float32, 0 to 1.
    """
    rows, columns = labels.shape[0] // side, labels.shape[1] // side
    counts = np.zeros((rows, columns, classes), np.int32)
    for y in range(rows * side):
        for column in range(columns):
            for x in range(column * side, (column + 1) * side):
                label = labels[y, x]
                if label < classes:
                    counts[y // side, column, label] += 1
    shares = np.empty((classes, rows, columns), np.float32)
    for label in range(classes):
        for row in range(rows):
            for column in range(columns):
                shares[label, row, column] = np.float32(counts[row, column, label]) / np.float32(side * side)
    return shares
