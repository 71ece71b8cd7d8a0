"""How kernels are compiled, and the words that they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

UNITS_PER_PX = 256
"""Kernels count in whole units of 1/256 level-0 pixel."""

MIXED = -1
"""Label of a box that has more than one."""

NONE_YET = -2
"""Label of a box of which nothing is known yet."""

STACK_DEPTH = 64
"""Room for the boxes that wait while a tile is halved again and again."""

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""
Frame = tuple[int, int, int]
"""Of a rectangle of pixels that is stored row after row: column and row of its first pixel, and pixels in a row."""

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile at the first call, keep the machine code on disk, let other threads run meanwhile."""
    return cast(_Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@compiled
def merged(common: int, label: int) -> int:
    """What two labels, or NONE_YET or MIXED, have in common."""
    if common == NONE_YET:
        return label
    return label if common == label else MIXED


@compiled
def paint(out: NDArray[Any], begin: Any, count: Any, label: Any) -> None:
    """Set some pixels that follow each other.

    A slice would be counted by its owner, which costs as much as a row; and whole numbers without a sign need no look
    at whether they count from the end, so that the loop becomes one call.
    """
    start, value = np.uint64(begin), out.dtype.type(label)
    for each in range(np.uint64(count)):
        out[start + each] = value


@compiled
def paint_box(out: NDArray[Any], frame: Frame, box: Box, label: Any) -> None:
    """Set a box of pixels of a rectangle; see ``Frame``."""
    for row in range(box[1] - frame[1], box[3] - frame[1]):
        paint(out, row * frame[2] + box[0] - frame[0], box[2] - box[0], label)


@compiled
def put_box(boxes: Longs, at: int, box: Box, begin: int, end: int) -> None:
    """Write a box of pixels and the list of its candidates on the stack."""
    boxes[at, 0], boxes[at, 1], boxes[at, 2], boxes[at, 3] = box
    boxes[at, 4], boxes[at, 5] = begin, end


@compiled
def halvings_of(height: int, width: int) -> int:
    """How often a rectangle is halved, the longer side first, until single pixels are left."""
    halvings = 0
    for side in (height, width):
        while side > 1:
            side = (side + 1) // 2
            halvings += 1
    return halvings


@compiled
def kept_pixels(kept: Longs, field: int, level: int, origin: tuple[int, int], shape: tuple[int, int]) -> Box:
    """The pixels of a rectangle of a level whose centres a field keeps; empty where right <= left."""
    half = np.int64(1) << (level + 7)  # half a pixel, units
    pixel = 2 * half
    # The first pixel whose centre is at or past an edge of the kept region: ceil((edge - half) / pixel).
    left = max(origin[0], ((kept[field, 0] << 8) + half - 1) // pixel)
    top = max(origin[1], ((kept[field, 1] << 8) + half - 1) // pixel)
    right = min(origin[0] + shape[1], ((kept[field, 2] << 8) + half - 1) // pixel)
    bottom = min(origin[1] + shape[0], ((kept[field, 3] << 8) + half - 1) // pixel)
    return left, top, right, bottom


@compiled
def kept_centres(kept: Longs, field: int, box: Box) -> tuple[Box, int]:
    """Where in a box of level-0 pixels a field keeps centres of any level, and how many pixels it keeps.

    Returns:
        First x, first y, last x, last y, units; and the number of level-0 pixels, 0 where there are none.
    """
    left, top = max(box[0], kept[field, 0]), max(box[1], kept[field, 1])
    right, bottom = min(box[2], kept[field, 2]), min(box[3], kept[field, 3])
    if left >= right or top >= bottom:
        return (0, 0, 0, 0), 0
    # Centres lie half a pixel or more inside the box, but maybe on the kept rectangle's left or top edge.
    centres = (
        max((box[0] << 8) + 128, left << 8),
        max((box[1] << 8) + 128, top << 8),
        (right << 8) - 128,
        (bottom << 8) - 128,
    )
    return centres, (right - left) * (bottom - top)


@compiled
def room_for(fields: Ints, starts: Longs, boxes: Longs) -> tuple[Ints, Longs, Ints]:
    """Room for all that pruning may keep of each field for each box: fields, starts (from 0) and candidates."""
    most = boxes.shape[0] * fields.shape[0]
    near_starts = np.empty(most + 1, np.int64)
    near_starts[0] = 0
    return (
        np.empty(most, np.int32),
        near_starts,
        np.empty(boxes.shape[0] * (starts[-1] - starts[0]), np.int32),
    )


@compiled
def with_outside(label: int, outside_label: int, not_kept: int) -> int:
    """The label of a box, from that of what fields own of it and from how many pixels they do not own."""
    if label == NONE_YET:
        return outside_label
    return MIXED if not_kept > 0 and label != outside_label else label
