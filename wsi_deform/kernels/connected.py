"""Connected parts of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Ints, compiled


def connected_parts(mask: NDArray[np.bool_]) -> tuple[Ints, int]:
    """Number the parts of a mask whose cells share edges.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) int32, 0 where the mask is false, else the number of the part, from 1 in the order of their first cells,
        row by row; and how many there are. ``scipy.ndimage.label`` gives the same, and takes longer to import than a
        small slide has cells.
    """
    parts = np.zeros(mask.shape, np.int32)
    return parts, int(_number(np.ascontiguousarray(mask), parts)) if mask.size else 0


@compiled
def _root(parents: Ints, one: int) -> int:
    while parents[one] != one:
        parents[one] = parents[parents[one]]
        one = parents[one]
    return one


@compiled
def _number(mask: NDArray[np.bool_], parts: Ints) -> int:
    """Number runs of cells first, joining those that touch the row above; then their parts."""
    height, width = mask.shape
    # A new number needs a cell whose left and upper neighbours are not set: at most every second one.
    parents = np.empty((height * width + 1) // 2 + 1, np.int32)
    used = 0
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            left = parts[y, x - 1] if x > 0 else 0
            above = parts[y - 1, x] if y > 0 else 0
            if left == 0 and above == 0:
                used += 1
                parents[used] = used
                parts[y, x] = used
            elif left == 0 or above == 0 or left == above:
                parts[y, x] = max(left, above)
            else:
                one, other = _root(parents, left), _root(parents, above)
                # The lower number was the first, row by row.
                parents[max(one, other)] = min(one, other)
                parts[y, x] = min(one, other)
    count = 0
    numbers = np.zeros(used + 1, np.int32)
    for one in range(1, used + 1):
        root = _root(parents, one)
        if root == one:
            count += 1
            numbers[one] = count
        else:
            numbers[one] = numbers[root]
    for y in range(height):
        for x in range(width):
            parts[y, x] = numbers[parts[y, x]]
    return count
