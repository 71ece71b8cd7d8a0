"""Masks of a region of a slide: everything outside it is unlabelled, so that nobody takes it for segmented."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.geometry import Region, Size
from wsi_deform.reverse.levels import MaskTile, kept_at_level, pyramid_sizes


def unlabelled_outside(
    tiles: Iterable[MaskTile], region: Region, *, size: Size, tile_px: int
) -> Iterator[MaskTile]:
    """Make a stream of mask tiles unlabelled outside a region.

    Args:
        tiles: Tiles of any levels, in any order; read lazily. Labels are uint8.
        region: Level-0 px, inside the slide.
        size: Level-0 size of the slide, px.
        tile_px: Side of a tile.

    Yields:
        The same tiles; a block of one label is cut where the edge of the region crosses it.

    Convention:
        A pixel of a coarse level is inside where its centre is, as ``ReverseSampler`` decides it for kept regions.
    """
    levels = [Region.whole(each) for each in pyramid_sizes(size, tile_px)]
    insides = [kept_at_level(region, size, level) for level in range(len(levels))]
    for tile in tiles:
        place = _place(tile, tile_px).intersection(levels[tile.level])
        common = place.intersection(insides[tile.level])
        if common == place:
            yield tile
        elif common.is_empty:
            yield replace(tile, pixels=None, label=UNLABELLED)
        elif tile.rows == tile.columns == 1:
            pixels = np.full(place.size.shape, UNLABELLED, np.uint8)
            held = np.s_[
                common.y - place.y : common.bottom - place.y, common.x - place.x : common.right - place.x
            ]
            pixels[held] = np.uint8(tile.label or 0) if tile.pixels is None else tile.pixels[held]
            yield replace(tile, label=None, pixels=pixels)
        else:
            yield from unlabelled_outside(_halves(tile), region, size=size, tile_px=tile_px)


def _place(tile: MaskTile, tile_px: int) -> Region:
    return Region(tile.column * tile_px, tile.row * tile_px, tile.columns * tile_px, tile.rows * tile_px)


def _halves(block: MaskTile) -> Iterator[MaskTile]:
    """A block of several tiles, cut across its longer side."""
    if block.columns >= block.rows:
        half = block.columns // 2
        yield replace(block, columns=half)
        yield replace(block, column=block.column + half, columns=block.columns - half)
    else:
        half = block.rows // 2
        yield replace(block, rows=half)
        yield replace(block, row=block.row + half, rows=block.rows - half)
