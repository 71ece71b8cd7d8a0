"""The levels of a mask and the tiles that they are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import Region, Size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskTile:
    """One tile of one level of a mask, or a block of tiles that share one label.

    Attributes:
        level: 0 is the finest; a pixel of level k is 2^k level-0 px wide.
        column: Tile column, from 0 at the left edge.
        row: Tile row, from 0 at the top edge.
        label: The label of all pixels of all tiles of the block; None where ``pixels`` say it.
        pixels: (H, W) labels of one tile, clipped to the level; None where all are ``label``. A map of
            several channels has (C, H, W).
        columns: Number of tile columns of the block; 1 where there are pixels.
        rows: Number of tile rows of the block; 1 where there are pixels.
    """

    level: int
    column: int
    row: int
    label: int | None = None
    pixels: NDArray[np.uint8] | NDArray[np.uint16] | None = None
    columns: int = 1
    rows: int = 1


def pyramid_sizes(size: Size, tile_px: int = 512) -> tuple[Size, ...]:
    """Sizes of the levels of a mask: each half of the one before, rounded up, until one tile holds it.

    Args:
        size: Size of level 0, px.
        tile_px: Side of a tile.

    Returns:
        Sizes in px of the level, finest first, at least one.
    """
    sizes = [size]
    while sizes[-1].long > tile_px:
        sizes.append(Size((sizes[-1].width + 1) // 2, (sizes[-1].height + 1) // 2))
    return tuple(sizes)


def kept_at_level(kept: Region, size: Size, level: int) -> Region:
    """The pixels of a level whose centres a kept region holds, as ``ReverseSampler`` decides it.

    Args:
        kept: Kept region, level-0 px.
        size: The slide's level-0 size, px.
        level: 0 is the finest; a level exists down to one pixel.

    Returns:
        Region in px of the level; may be empty.
    """
    step = 1 << level

    def first(edge: int) -> int:
        # The smallest i with (i + 1/2) step >= edge.
        return max(0, -((step - 2 * edge) // (2 * step)))

    right = -(-size.width // step) if kept.right >= size.width else first(kept.right)
    bottom = -(-size.height // step) if kept.bottom >= size.height else first(kept.bottom)
    left, top = first(kept.x), first(kept.y)
    return Region(left, top, max(0, right - left), max(0, bottom - top))
