"""The frame that the page shows a slide in: square pixels, halved step by step, cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Point, Region, Size, tile_grid, tile_region

TILE_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The tiles of one slide, and which level-0 px each shows.

    Attributes:
        slide_size: The slide, level-0 px.
        size: The same in square pixels of the same area; equal where the slide's are square.

    Convention:
        A pixel of step k is 2^k pixels of ``size`` wide; sizes are rounded up, as those of masks are. The coarsest
        step is one tile.
    """

    slide_size: Size
    size: Size

    @property
    def steps(self) -> int:
        """Number of steps, the finest (0) included."""
        return 1 + max(0, (-(-self.size.long // TILE_PX) - 1).bit_length())

    def size_at(self, step: int) -> Size:
        """Size of a step, px of it."""
        return Size(-(-self.size.width >> step) or 1, -(-self.size.height >> step) or 1)

    def tile(self, step: int, column: int, row: int) -> Region:
        """A tile, px of its step; clipped at the edge.

        Raises:
            ShapeError: There is no such step or tile.
        """
        if not 0 <= step < self.steps:
            raise ShapeError(
                f"step {step}: needed 0 to {self.steps - 1} for a slide of {self.slide_size} px."
            )
        size, tile = self.size_at(step), Size(TILE_PX, TILE_PX)
        grid = tile_grid(size, tile)
        if not (0 <= column < grid.width and 0 <= row < grid.height):
            raise ShapeError(
                f"tile (column {column}, row {row}) of step {step}: needed one of {grid.width} columns and "
                f"{grid.height} rows."
            )
        return tile_region(column, row, tile, size)

    def scale(self, step: int) -> Point:
        """Level-0 px per px of a step, along x and y."""
        return Point(
            2**step * self.slide_size.width / self.size.width,
            2**step * self.slide_size.height / self.size.height,
        )

    def centres(self, step: int, tile: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centres of the columns and of the rows of a tile, level-0 px; inside the slide."""
        scale = self.scale(step)
        x = (np.arange(tile.x, tile.right) + 0.5) * scale.x
        y = (np.arange(tile.y, tile.bottom) + 0.5) * scale.y
        # The last pixel of a step may have its centre past the edge.
        return np.minimum(x, self.slide_size.width - 0.5), np.minimum(y, self.slide_size.height - 0.5)
