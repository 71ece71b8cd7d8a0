"""Connected objects of a label map that comes block by block: parts are joined over the borders of blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import Region

COLUMNS = ("class", "pixels", "covered", "left", "top", "right", "bottom")
_NONE = -1
_Longs = NDArray[np.int64]


class Fragments:
    """Joins the parts of objects; one that no later block can reach is whole and leaves.

    Args:
        width_px: Width of the image.
        counted: (C,) bool, the classes whose objects are wanted.

    Convention:
        Neighbours are the eight around a pixel. Objects are rows of int64 in the order of ``COLUMNS``: class, pixels,
        pixels that are covered, bounding box (right and bottom edge past the last pixel). Memory follows the number of
        parts in one row of blocks.
    """

    def __init__(self, *, width_px: int, counted: NDArray[np.bool_]) -> None:
        self._width_px = width_px
        self._counted = counted
        # Parts of objects that may go on; ``_pairs`` are those that are one.
        self._parts: list[_Longs] = []
        self._count = 0
        self._pairs: list[_Longs] = []
        # Part of each pixel of the row above the blocks that come, and of the last row of these.
        self._above, self._below = self._line(), self._line()
        self._column: _Longs = np.empty(0, np.int64)  # the last column of the block on the left

    def add(self, region: Region, labels: NDArray[np.uint8], covered: NDArray[np.bool_]) -> _Longs:
        """Take a block; blocks come row by row, from the left to the right.

        Args:
            region: Where it lies.
            labels: (H, W) classes, anything else belongs to no object.
            covered: (H, W) bool.

        Returns:
            (N, 7) int64, the objects that are whole by now.
        """
        done = np.empty((0, len(COLUMNS)), np.int64)
        if region.x == 0 and region.y > 0:
            done = self._next_row()
        edges = self._labelled(region, labels, covered)
        top, bottom, left, right = edges
        # The pixels above, with one more at each end: objects also meet at corners.
        above = self._above[region.x : region.right + 2]
        for shift in range(3):
            self._join(above[shift : shift + region.width], top)
        if region.x > 0:
            self._join(self._column, left)
            self._join(self._column[:-1], left[1:])
            self._join(self._column[1:], left[:-1])
        self._column = right
        self._below[1 + region.x : 1 + region.right] = bottom
        return done

    def end(self) -> _Longs:
        """The objects that are left, (N, 7) int64."""
        self._below = self._line()
        return self._next_row()

    def _line(self) -> _Longs:
        return np.full(self._width_px + 2, _NONE, np.int64)

    def _labelled(
        self, region: Region, labels: NDArray[np.uint8], covered: NDArray[np.bool_]
    ) -> tuple[_Longs, _Longs, _Longs, _Longs]:
        """Find the parts in a block; those of its first and last row and of its first and last column."""
        runs = _runs(labels, covered, self._counted)
        height, width = labels.shape
        lines = tuple(np.full(length, _NONE, np.int64) for length in (width, width, height, height))
        if len(runs.of):
            count, part = _components(len(runs.of), _links(runs))
            number = part + self._count
            self._parts.append(_summed(runs.objects(region), part, count))
            self._count += count
            for row, line in ((0, lines[0]), (height - 1, lines[1])):
                at = runs.y == row
                for left, right, its in zip(runs.left[at], runs.right[at], number[at], strict=True):
                    line[left:right] = its
            for at, line in ((runs.left == 0, lines[2]), (runs.right == width, lines[3])):
                line[runs.y[at]] = number[at]
        return lines  # type: ignore[return-value]

    def _join(self, one: _Longs, other: _Longs) -> None:
        """Say which parts meet; whether they are of one class is seen when they are put together."""
        both = (one != _NONE) & (other != _NONE)
        if both.any():
            self._pairs.append(np.unique(np.stack([one[both], other[both]], axis=1), axis=0))

    def _next_row(self) -> _Longs:
        """Put the parts together; objects without a pixel in the last row are whole."""
        parts = np.concatenate([np.empty((0, len(COLUMNS)), np.int64), *self._parts])
        pairs = np.concatenate([np.empty((0, 2), np.int64), *self._pairs])
        count, of = _components(len(parts), pairs[parts[pairs[:, 0], 0] == parts[pairs[:, 1], 0]])
        whole = _summed(parts, of, count)
        goes_on = np.zeros(count, bool)
        at = self._below != _NONE
        last = of[self._below[at]]
        goes_on[last] = True
        self._above, self._below = self._line(), self._line()
        self._above[at] = (np.cumsum(goes_on) - 1)[last]
        self._parts, self._pairs = [whole[goes_on]], []
        self._count = int(goes_on.sum())
        return whole[~goes_on]


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """Pixels of one class side by side in a row, all covered or none, row by row; each (N,).

    ``first`` and ``last`` are the runs of the row above that touch it, numbers among ``places``, all runs of the block,
    of whatever class: -1 there is one that is not wanted.
    """

    of: _Longs
    y: _Longs
    left: _Longs
    right: _Longs
    covered: _Longs
    first: _Longs
    last: _Longs
    places: _Longs

    def objects(self, region: Region) -> _Longs:
        """Each run as an object."""
        x, y = self.left + region.x, self.y + region.y
        length = self.right - self.left
        return np.stack([self.of, length, self.covered, x, y, x + length, y + 1], axis=1)


def _runs(labels: NDArray[np.uint8], covered: NDArray[np.bool_], counted: NDArray[np.bool_]) -> _Runs:
    """The runs of the wanted classes."""
    height, width = labels.shape
    wanted = np.zeros(256, bool)
    wanted[: len(counted)] = counted
    begins = np.ones((height, width), bool)
    # A run is covered or it is not: no sums over pixels then.
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    begins[:, 1:] |= covered[:, 1:] != covered[:, :-1]
    start = np.flatnonzero(begins)
    of = labels.ravel()[start].astype(np.int64)
    own = np.flatnonzero(wanted[of])
    places = np.full(len(start), _NONE, np.int64)
    places[own] = np.arange(len(own))
    stop = np.append(start[1:], height * width)[own]
    y, left = np.divmod(start[own], width)
    right = stop - y * width
    # The pixels above, with one more at each end: objects also meet at corners.
    above = (y - 1) * width
    first = np.searchsorted(start, above + np.maximum(left - 1, 0), side="right") - 1
    last = np.searchsorted(start, above + np.minimum(right, width - 1), side="right") - 1
    hit = np.where(covered.ravel()[start[own]], right - left, 0)
    return _Runs(of[own], y, left, right, hit, first, last, places)


def _links(runs: _Runs) -> _Longs:
    """(N, 2) pairs of runs of one class that touch."""
    below = np.flatnonzero(runs.y > 0)
    count = runs.last[below] - runs.first[below] + 1
    own = np.repeat(below, count)
    offset = np.arange(len(own)) - np.repeat(np.cumsum(count) - count, count)
    other = runs.places[runs.first[own] + offset]
    same = (other != _NONE) & (runs.of[other] == runs.of[own])
    beside = np.flatnonzero(
        (runs.right[:-1] == runs.left[1:]) & (runs.y[:-1] == runs.y[1:]) & (runs.of[:-1] == runs.of[1:])
    )
    return np.concatenate(
        [np.stack([own[same], other[same]], axis=1), np.stack([beside, beside + 1], axis=1)]
    )


def _components(count: int, pairs: _Longs) -> tuple[int, _Longs]:
    """How many connected components so many nodes have, and that of each, (count,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not count:
        return 0, np.empty(0, np.int64)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    found, of = connected_components(graph, directed=False)
    return int(found), of.astype(np.int64)


def _summed(objects: _Longs, of: _Longs, count: int) -> _Longs:
    """Put objects of one component together."""
    whole = np.zeros((count, len(COLUMNS)), np.int64)
    whole[of, 0] = objects[:, 0]
    for column in (1, 2):
        np.add.at(whole[:, column], of, objects[:, column])
    whole[:, 3:5] = np.iinfo(np.int64).max
    for column in (3, 4):
        np.minimum.at(whole[:, column], of, objects[:, column])
    for column in (5, 6):
        np.maximum.at(whole[:, column], of, objects[:, column])
    return whole
