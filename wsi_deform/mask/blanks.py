"""Parts of a mask that are unlabelled because the slide could not be read there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.geometry import Region, Size, tile_region
from wsi_deform.reverse.levels import MaskTile, kept_at_level, pyramid_sizes


class BlankRegions:
    """Makes regions of a stream of mask tiles unlabelled.

    Args:
        size: The slide's level-0 size, px.
        tile_px: Side of a tile.
        regions: Level-0 px; ``add`` has more.

    Attributes:
        pixels: Level-0 pixels that became unlabelled so far.
    """

    def __init__(self, size: Size, tile_px: int, regions: Iterable[Region] = ()) -> None:
        self.pixels = 0
        self._size, self._tile = size, Size(tile_px, tile_px)
        self._sizes = pyramid_sizes(size, tile_px)
        self._regions = dict.fromkeys(regions)

    def add(self, regions: Iterable[Region]) -> None:
        """Add regions, of which tiles that came before know nothing."""
        self._regions.update(dict.fromkeys(regions))

    def cut(self, tiles: Iterable[MaskTile]) -> Iterator[MaskTile]:
        """Make what lies in the regions unlabelled.

        Args:
            tiles: Tiles of any levels, in any order; read lazily.

        Yields:
            The same tiles. A block that a region touches comes as single tiles.

        Convention:
            A pixel of a coarse level is unlabelled where its centre lies in a region, as ``ReverseSampler`` decides it.
        """
        for tile in tiles:
            shown = [kept_at_level(each, self._size, tile.level) for each in self._regions]
            side = self._tile.width
            whole = Region(tile.column * side, tile.row * side, tile.columns * side, tile.rows * side)
            if all(whole.intersection(each).is_empty for each in shown):
                yield tile
                continue
            for row in range(tile.row, tile.row + tile.rows):
                for column in range(tile.column, tile.column + tile.columns):
                    yield self._single(replace(tile, column=column, row=row, columns=1, rows=1), shown)

    def _single(self, tile: MaskTile, shown: Sequence[Region]) -> MaskTile:
        """One tile; regions in px of its level."""
        place = tile_region(tile.column, tile.row, self._tile, self._sizes[tile.level])
        parts = [part for each in shown if not (part := place.intersection(each)).is_empty]
        if not parts:
            return tile
        if tile.pixels is None:
            pixels = np.full(place.size.shape, tile.label, np.uint8)
        else:
            pixels = np.array(tile.pixels, np.uint8)
        before = np.count_nonzero(pixels == UNLABELLED)
        for part in parts:
            rows = slice(part.y - place.y, part.bottom - place.y)
            pixels[rows, part.x - place.x : part.right - place.x] = UNLABELLED
        now = np.count_nonzero(pixels == UNLABELLED)
        if tile.level == 0:
            self.pixels += int(now - before)
        if now == pixels.size:
            return replace(tile, pixels=None, label=UNLABELLED)
        return replace(tile, pixels=pixels, label=None)
