"""The coarse cells that say where a slide is tissue, and the pixels and tiles of a mask that lie in them.

Convention:
    Columns of cells share out the slide's width evenly, rows its height. A pixel (x, y) of level k belongs to the cell
    that holds its centre ((x + 1/2) 2^k, (y + 1/2) 2^k); a cell is [left, right) x [top, bottom). Partial pixels of a
    coarse level whose centre lies past the slide's edge belong to the last cell. All in whole numbers, so that every
    level, tile and region agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.kernels.compiled import Longs, compiled

Bytes = NDArray[np.uint8]


@compiled
def cell_of(pixel: int, level: int, cells: int, length_px: int) -> int:
    """The cell of a pixel along one axis; ``length_px`` is the slide's level-0 length."""
    return min(((2 * pixel + 1) << level) * cells // (2 * length_px), cells - 1)


@compiled
def end_of(cell: int, level: int, cells: int, length_px: int) -> int:
    """The first pixel of a level that lies behind a cell; a large number for the last one."""
    if cell == cells - 1:
        return 1 << 62
    # The smallest x with (2 x + 1) 2^level cells >= 2 length (cell + 1).
    odd = -((-2 * length_px * (cell + 1)) // (cells << level))
    return odd // 2


class Cells:
    """Which of a slide's cells are of a kind, and how many of them and of their pixels lie in tiles of its mask.

    Args:
        chosen: (H, W) bool, one per cell.
        size: The slide's level-0 size, px.

    Raises:
        ShapeError: ``chosen`` is not (H, W) bool with at least one cell.
    """

    def __init__(self, chosen: NDArray[np.bool_], size: Size) -> None:
        if chosen.ndim != 2 or chosen.size == 0 or chosen.dtype != np.bool_:
            raise ShapeError(
                f"cells of shape {chosen.shape}, {chosen.dtype}: needed (rows, columns) bool, one or more cells."
            )
        self.chosen = chosen
        self.size = size
        self._above = _summed_area(chosen)

    def pixels(self, region: Region, level: int = 0) -> NDArray[np.bool_]:
        """Which pixels of a region of a level lie in chosen cells, (region.height, region.width)."""
        rows = self._cells(np.arange(region.y, region.bottom), level, 0)
        columns = self._cells(np.arange(region.x, region.right), level, 1)
        # Columns first: then rows are copied whole.
        part = self.chosen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        chosen: NDArray[np.bool_] = part.repeat(np.bincount(columns - columns[0]), axis=1)
        return chosen.repeat(np.bincount(rows - rows[0]), axis=0)

    def in_tiles(self, level: int, tile_px: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which tiles of a level have any pixel in a chosen cell, and which have all; (rows, columns) each.

        A tile that is said to have some of both may yet lie in cells of one kind where tiles are coarser than cells.
        """
        top, bottom = self._of_tiles(level, tile_px, 0)
        left, right = self._of_tiles(level, tile_px, 1)
        lower, upper = self._above[bottom], self._above[top]
        counts = lower[:, right] - lower[:, left] - upper[:, right] + upper[:, left]
        return counts > 0, counts == (bottom - top)[:, None] * (right - left)

    def pixels_of_tiles(self, tile_px: int) -> Longs:
        """Level-0 pixels in chosen cells of each tile of level 0, (rows, columns) int64."""
        # Sums over rows of cells fit into 32 bits, those over the slide do not.
        by_column = self._summed(self.chosen, tile_px, 1, np.int32)
        return self._summed(np.ascontiguousarray(by_column.T), tile_px, 0, np.int64).T

    def _summed(
        self, values: NDArray[Any], tile_px: int, axis: int, dtype: type[np.signedinteger[Any]]
    ) -> NDArray[Any]:
        """Sums over the level-0 pixels of each row (axis 0) or column (1) of tiles; (H, cells) -> (H, tiles)."""
        cells, length = self.chosen.shape[axis], self.size.shape[axis]
        # The first pixel of each cell, see ``end_of``.
        firsts = -(-2 * length * np.arange(cells + 1) // cells) // 2
        before = np.zeros((len(values), cells + 1), dtype)
        np.multiply(values, np.diff(firsts).astype(dtype), out=before[:, 1:])
        np.cumsum(before[:, 1:], axis=1, out=before[:, 1:])
        edges = np.append(np.arange(0, length, tile_px), length)
        inside = self._cells(edges, 0, axis)
        part = (edges - firsts[inside]).astype(dtype) * values[:, inside]
        return np.diff(before[:, inside] + part, axis=1)

    def _of_tiles(self, level: int, tile_px: int, axis: int) -> tuple[Longs, Longs]:
        """First and last + 1 of the rows (axis 0) or columns (1) of cells in which each tile of a level has pixels."""
        length = -(-self.size.shape[axis] >> level)
        first = np.arange(0, length, tile_px)
        last = np.minimum(first + tile_px, length) - 1
        return self._cells(first, level, axis), self._cells(last, level, axis) + 1

    def _cells(self, pixels: Longs, level: int, axis: int) -> Longs:
        """The row (axis 0) or column (1) of cells of pixels; see ``cell_of``."""
        cells = self.chosen.shape[axis]
        centres = (2 * pixels + 1) << level
        found: Longs = np.minimum(centres * cells // (2 * self.size.shape[axis]), cells - 1)
        return found


def _summed_area(chosen: NDArray[Any]) -> NDArray[np.int32]:
    """How many cells lie above and to the left of every corner, (H + 1, W + 1)."""
    above = np.zeros((chosen.shape[0] + 1, chosen.shape[1] + 1), np.int32)
    np.cumsum(chosen, axis=1, dtype=np.int32, out=above[1:, 1:])
    np.cumsum(above[1:, 1:], axis=0, out=above[1:, 1:])
    return above
