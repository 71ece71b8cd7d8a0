"""Area means: what each pixel of a level adds to the cells of a view, and adding it, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisWeights:
    """How the pixels of a level make the cells of a view along one axis.

    Attributes:
        first_px: (cells,) int64, the first level pixel of each cell; rising.
        starts: (cells + 1,) int64, where the weights of each cell start; equal to the next start for a cell
            that lies outside the slide.
        weights: (starts[-1],) the share of the cell that each of its pixels covers, cell by cell.
        inside: (cells,) the share of each cell that lies on the slide; the weights of the cell sum to it.
    """

    first_px: NDArray[np.int64]
    starts: NDArray[np.int64]
    weights: NDArray[np.float64]
    inside: NDArray[np.float64]

    @property
    def end_px(self) -> NDArray[np.int64]:
        """(cells,) the pixel after the last of each cell."""
        return self.first_px + np.diff(self.starts)

    @property
    def pixels(self) -> tuple[int, int]:
        """First and last + 1 of the level pixels that count; (0, 0) where none does."""
        counted = np.flatnonzero(np.diff(self.starts))
        if not len(counted):
            return 0, 0
        return int(self.first_px[counted[0]]), int(self.end_px[counted[-1]])

    def cells_of(self, low: int, high: int) -> tuple[int, int]:
        """First and last + 1 of the cells that level pixels [low, high) may add to."""
        last = int(np.searchsorted(self.first_px, high, side="left"))
        first = int(np.searchsorted(self.first_px + np.maximum(np.diff(self.starts), 1), low, side="right"))
        return min(first, last), last


def axis_weights(
    *, start: float, length: float, cells: int, downsample: float, level_px: int, slide_px: int
) -> AxisWeights:
    """Overlaps of level pixels and view cells along one axis.

    Args:
        start: Left edge of the region, level-0 px.
        length: Length of the region, level-0 px.
        cells: Number of view pixels.
        downsample: Level-0 pixels per level pixel.
        level_px: Length of the level, px.
        slide_px: Length of level 0, px.

    Returns:
        Weights relative to a whole cell.
    """
    # Edges in level pixels. Where the level falls short of the slide's edge, its last pixel is stretched to
    # it.
    end = max(slide_px / downsample, level_px - 1.0)
    edges = (start + np.arange(cells + 1) * (length / cells)) / downsample
    low, high = np.clip(edges[:-1], 0.0, end), np.clip(edges[1:], 0.0, end)
    cell = (length / cells) / downsample
    first_px = np.minimum(np.floor(low).astype(np.int64), level_px - 1)
    last_px = np.clip(np.ceil(high).astype(np.int64) - 1, first_px, level_px - 1)
    counts = np.where(high > low, last_px - first_px + 1, 0)
    starts = np.concatenate(([0], np.cumsum(counts)))
    rows = np.repeat(np.arange(cells), counts)
    pixels = np.arange(len(rows)) + np.repeat(first_px - starts[:-1], counts)
    right = np.where(pixels == level_px - 1, end, pixels + 1.0)
    overlap = np.maximum(np.minimum(high[rows], right) - np.maximum(low[rows], pixels), 0.0)
    # Each row is made to sum to the cell's share inside exactly, so that a constant slide gives exactly that
    # constant.
    covered = high - low
    inside = np.where(np.abs(covered - cell) <= 1e-8 + 1e-9 * cell, 1.0, covered / cell)
    total = np.bincount(rows, overlap, minlength=cells)
    weights = overlap * (inside / np.where(total > 0, total, 1.0))[rows]
    return AxisWeights(first_px=first_px, starts=starts, weights=weights, inside=inside)


def add_tile(
    sums: NDArray[np.float64],
    first_row: int,
    tile: NDArray[np.uint8],
    at: tuple[int, int],
    x: AxisWeights,
    y: AxisWeights,
) -> None:
    """Add what a tile contributes to some rows of a view.

    Args:
        sums: (rows, columns, 3) sums of these rows of the view, over all of its columns.
        first_row: The view's row that ``sums`` starts with.
        tile: (h, w, 3), as it was decoded: it is not copied.
        at: Level pixel (x, y) of the tile's top left corner.
        x: Weights of the view's columns.
        y: Weights of the view's rows.
    """
    height, width = tile.shape[:2]
    flat = np.ascontiguousarray(tile).reshape(height, width * 3)
    flat.flags.writeable = False  # tiles of the cache are, others are not: one kernel for both
    first, last = y.cells_of(at[1], at[1] + height)
    columns = x.cells_of(at[0], at[0] + width)
    first, last = max(first, first_row), min(last, first_row + len(sums))
    _add(
        sums,
        first_row,
        (first, last),
        columns,
        flat,
        at,
        x.first_px,
        x.starts,
        x.weights,
        y.first_px,
        y.starts,
        y.weights,
    )


def _add(
    sums: NDArray[np.float64],
    first_row: int,
    rows: tuple[int, int],
    columns: tuple[int, int],
    tile: NDArray[np.uint8],
    at: tuple[int, int],
    x_first: NDArray[np.int64],
    x_starts: NDArray[np.int64],
    x_weights: NDArray[np.float64],
    y_first: NDArray[np.int64],
    y_starts: NDArray[np.int64],
    y_weights: NDArray[np.float64],
) -> None:
    """Rows of pixels first, long and alike, which the processor does four at a time; then columns."""
    if rows[1] <= rows[0] or columns[1] <= columns[0]:
        return
    height, width = tile.shape[0], tile.shape[1] // 3
    # The tile's pixels that the view looks at.
    left = max(0, x_first[columns[0]] - at[0])
    last = columns[1] - 1
    # A last cell that lies outside the slide has no pixel, but stands at the slide's last one.
    right = min(width, x_first[last] + max(1, x_starts[last + 1] - x_starts[last]) - at[0])
    line = np.empty(3 * width)
    for row in range(rows[0], rows[1]):
        low = max(y_first[row], at[1])
        high = min(y_first[row] + y_starts[row + 1] - y_starts[row], at[1] + height)
        if low >= high:
            continue
        line[3 * left : 3 * right] = 0.0
        for y in range(low, high):
            weight = y_weights[y_starts[row] + y - y_first[row]]
            pixels = tile[y - at[1]]
            for place in range(3 * left, 3 * right):
                line[place] += weight * pixels[place]
        for column in range(columns[0], columns[1]):
            begin = max(x_first[column], at[0])
            end = min(x_first[column] + x_starts[column + 1] - x_starts[column], at[0] + width)
            red, green, blue = 0.0, 0.0, 0.0
            for x in range(begin, end):
                weight = x_weights[x_starts[column] + x - x_first[column]]
                place = 3 * (x - at[0])
                red += weight * line[place]
                green += weight * line[place + 1]
                blue += weight * line[place + 2]
            out = sums[row - first_row, column]
            out[0] += red
            out[1] += green
            out[2] += blue


if not TYPE_CHECKING:
    # Machine code is kept on disk; other threads run meanwhile.
    _add = numba.njit(cache=True, nogil=True, error_model="numpy")(_add)
