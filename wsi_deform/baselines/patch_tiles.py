"""From labelled blocks to the tiles of a mask, each block once: a tree of tiles walked in the order of the blocks."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.baselines.patch_grid import PatchGrid
from wsi_deform.baselines.patches import LabelledBlock, own_pixels
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size, tile_grid, tile_region
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes

_NodeTiles = Generator[MaskTile, None, NDArray[np.uint8] | None]


def patch_tiles(
    blocks: Iterator[LabelledBlock], grid: PatchGrid, *, outside_label: int = 0, tile_px: int = 512
) -> Iterator[MaskTile]:
    """Turn labelled blocks into the tiles of a mask: what ``write_mask`` takes.

    Args:
        blocks: The labels of the blocks of ``grid.blocks()``, in its order; taken as their tiles are asked for.
        grid: Where they lie.
        outside_label: Class of everything that no block decides.
        tile_px: Side of a mask tile, a power of two, at most the side of a block on the slide.

    Yields:
        Every tile of every level of the mask once.

    Raises:
        ShapeError: A size does not fit.

    Convention:
        The mask has the slide's level-0 size: a label of a coarser level is repeated. A pixel of a coarse mask level
        shows one level-0 pixel, at most a quarter of its side from its centre.
    """
    side = grid.block_px * grid.downsample
    if tile_px < 16 or tile_px & (tile_px - 1) or tile_px > side:
        raise ShapeError(f"tile_px {tile_px}: needed a power of two, 16 to the {side} px of a block.")
    sizes = pyramid_sizes(grid.slide_size, tile_px)
    occupied = {
        (level, block.column * side // (tile_px << level), block.row * side // (tile_px << level))
        for block in grid.blocks()
        for level in range(len(sizes))
        if tile_px << level >= side or level == len(sizes) - 1
    }
    tree = _Tree(
        sizes=sizes,
        tile_px=tile_px,
        grid=grid,
        occupied=frozenset(occupied),
        outside=outside_label,
        blocks=blocks,
    )
    yield from tree.tiles()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tree:
    """The tree of mask tiles, walked depth first in Morton order, so that each block is needed once."""

    sizes: tuple[Size, ...]
    tile_px: int
    grid: PatchGrid
    occupied: frozenset[tuple[int, int, int]]
    outside: int
    blocks: Iterator[LabelledBlock]

    def tiles(self) -> Iterator[MaskTile]:
        """All tiles of the pyramid."""
        yield from self._node(len(self.sizes) - 1, 0, 0)

    def _node(self, level: int, column: int, row: int) -> _NodeTiles:
        """Tiles of a node and all below; the generator returns the node's own pixels, None without blocks."""
        if (level, column, row) not in self.occupied:
            yield from self._constant(level, column, row)
            return None
        if self.tile_px << level <= self.grid.block_px * self.grid.downsample:
            return (yield from self._cut(next(self.blocks), level, column, row))
        size = self._place(level, column, row).size
        pixels = np.full(size.shape, self.outside, np.uint8)
        for child_row, child_column in itertools.product((0, 1), (0, 1)):
            place = (2 * column + child_column, 2 * row + child_row)
            if not self._exists(level - 1, *place):
                continue
            child = yield from self._node(level - 1, *place)
            if child is not None:
                top, left = child_row * self.tile_px // 2, child_column * self.tile_px // 2
                half = _halved(child, level - 1)
                pixels[top : top + half.shape[0], left : left + half.shape[1]] = half
        yield self._tile(level, column, row, pixels.copy())
        return pixels

    def _cut(self, block: LabelledBlock, level: int, column: int, row: int) -> _NodeTiles:
        """The tiles of all levels that a block holds; returns those of the coarsest."""
        own: NDArray[np.uint8] | None = None
        for finer in range(level, -1, -1):
            scale = 1 << (level - finer)
            for inner_row, inner_column in itertools.product(range(scale), range(scale)):
                place = (column * scale + inner_column, row * scale + inner_row)
                if not self._exists(finer, *place):
                    continue
                region = self._place(finer, *place)
                pixels = self._shown(block, finer, region)
                # A copy: who takes a tile may change its pixels.
                own = pixels.copy() if own is None else own
                yield self._tile(finer, *place, pixels)
        return own

    def _shown(self, block: LabelledBlock, level: int, region: Region) -> NDArray[np.uint8]:
        """What a region of a mask level, px of it, shows of a block's labels."""
        rows, columns = np.arange(region.y, region.bottom), np.arange(region.x, region.right)
        for finer in range(level - 1, -1, -1):
            rows = _finer(rows, finer, self.sizes[finer].height)
            columns = _finer(columns, finer, self.sizes[finer].width)
        kept, (height, width) = block.block.kept, block.labels.shape
        rows = own_pixels(rows, self.grid, kept.y, height)
        shown: NDArray[np.uint8] = block.labels[rows[:, None], own_pixels(columns, self.grid, kept.x, width)]
        return shown

    def _tile(self, level: int, column: int, row: int, pixels: NDArray[np.uint8]) -> MaskTile:
        """A tile, by its label where it has one."""
        label = int(pixels[0, 0])
        if (pixels == label).all():
            return MaskTile(level=level, column=column, row=row, label=label)
        return MaskTile(level=level, column=column, row=row, pixels=pixels)

    def _constant(self, level: int, column: int, row: int) -> Iterator[MaskTile]:
        """One block of tiles per level for a node that no patch touches."""
        for finer in range(level, -1, -1):
            grid = tile_grid(self.sizes[finer], Size(self.tile_px, self.tile_px))
            scale = 1 << (level - finer)
            yield MaskTile(
                level=finer,
                column=column * scale,
                row=row * scale,
                label=self.outside,
                columns=min(scale, grid.width - column * scale),
                rows=min(scale, grid.height - row * scale),
            )

    def _exists(self, level: int, column: int, row: int) -> bool:
        grid = tile_grid(self.sizes[level], Size(self.tile_px, self.tile_px))
        return column < grid.width and row < grid.height

    def _place(self, level: int, column: int, row: int) -> Region:
        return tile_region(column, row, Size(self.tile_px, self.tile_px), self.sizes[level])


def _finer(pixels: NDArray[np.int64], level: int, length: int) -> NDArray[np.int64]:
    """Which rows or columns of a level, of ``length`` px, those of the next coarser one show.

    The second and the first of two in turn, so that what is shown stays near the centre: level-0 px 1, 1, 5, 5, 21, ...
    of 2, 4, 8, 16, 32, ...
    """
    found: NDArray[np.int64] = np.minimum(2 * pixels + 1 - level % 2, length - 1)
    return found


def _halved(pixels: NDArray[np.uint8], level: int) -> NDArray[np.uint8]:
    """The part of the next coarser level that a tile of a level shows."""
    rows, columns = (_finer(np.arange(-(-length // 2)), level, length) for length in pixels.shape)
    halved: NDArray[np.uint8] = pixels[rows[:, None], columns]
    return halved
