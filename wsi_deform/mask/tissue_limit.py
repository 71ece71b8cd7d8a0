"""Masks limited to tissue: what the samples label outside it becomes background.

Samples on a border stand for glass beside it too, and a network that saw little glass may call it anything. The limit
works on the stream of mask tiles of all levels: blocks of one label stay blocks, and only tiles that the border of the
tissue crosses are looked at pixel by pixel. What is unlabelled stays so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.kernels.compiled import Longs
from wsi_deform.kernels.connected import connected_parts
from wsi_deform.mask.blanks import BlankRegions
from wsi_deform.mask.tissue_cells import Cells
from wsi_deform.mask.tissue_pixels import add_zone_counts, cut
from wsi_deform.reverse.histogram import add_label_counts
from wsi_deform.reverse.interpolation import Interpolation
from wsi_deform.reverse.levels import MaskTile, kept_at_level, pyramid_sizes
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

OUTSIDE, BORDER, TISSUE = 0, 1, 2
"""Zones: outside the limit; inside it and yet no tissue; tissue."""


def with_border(tissue: NDArray[np.bool_], *, hole_cells: int = 0) -> NDArray[np.bool_]:
    """Grow tissue by one cell on every side, corners too, so that its border is never cut.

    Args:
        tissue: (H, W).
        hole_cells: Enclosed holes of at most this many cells that are left after that become tissue too.

    Returns:
        (H, W).
    """
    grown = tissue.copy()
    grown[1:] |= tissue[:-1]
    grown[:-1] |= tissue[1:]
    taller = grown.copy()
    grown[:, 1:] |= taller[:, :-1]
    grown[:, :-1] |= taller[:, 1:]
    if hole_cells > 0:
        holes, count = connected_parts(~grown)
        filled = np.bincount(holes.ravel(), minlength=count + 1) <= hole_cells
        # What touches the slide's edge is no hole: it may be glass all around.
        for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
            filled[edge] = False
        filled[0] = False
        grown |= filled[holes]
    return grown


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TissueLimit:
    """Where a mask may have other labels than background.

    Attributes:
        cells: (H, W) bool, where; see ``tissue_cells`` for which pixels lie in a cell.
        size: The slide's level-0 size, px.
        background: Label of all pixels elsewhere.
    """

    cells: NDArray[np.bool_]
    size: Size
    background: int


class TissueCounts:
    """Limits a stream of mask tiles to tissue, and counts the level-0 pixels of each label where they lie.

    Args:
        tissue: (H, W) bool, the cells that are tissue.
        size: The slide's level-0 size, px.
        limit: The limit, on the same cells; None leaves the tiles as they are.
        tile_px: Side of a tile.

    Attributes:
        found: (zones, 256) int64, pixels of each label that came in each zone; complete when the stream has ended.
        tissue_pixels: Level-0 pixels that are tissue.

    Raises:
        ShapeError: Tissue and limit are of different cells or slides.
    """

    def __init__(
        self, tissue: NDArray[np.bool_], size: Size, *, limit: TissueLimit | None, tile_px: int = 512
    ) -> None:
        inside = np.ones_like(tissue) if limit is None else limit.cells
        if inside.shape != tissue.shape or (limit is not None and limit.size != size):
            raise ShapeError(
                f"tissue of {tissue.shape} cells on {size} px, limit of {inside.shape}: needed the same."
            )
        self.found = np.zeros((3, 256), np.int64)
        self._limit = limit
        self._zones = np.where(tissue, np.uint8(TISSUE), inside.view(np.uint8))
        self._tile_px = tile_px
        self._size = (size.width, size.height)
        self._sizes = pyramid_sizes(size, tile_px)
        cells, allowed = Cells(tissue, size), Cells(inside | tissue, size)
        tables = [allowed.in_tiles(level, tile_px) for level in range(len(self._sizes))]
        self._any, self._all = [each[0] for each in tables], [each[1] for each in tables]
        in_tissue, in_limit = cells.pixels_of_tiles(tile_px), allowed.pixels_of_tiles(tile_px)
        self.tissue_pixels = int(in_tissue.sum())
        everywhere = Cells(np.ones((1, 1), bool), size).pixels_of_tiles(tile_px)
        # Pixels of each zone in each tile of level 0, (zones, rows, columns).
        self._in_tiles = np.stack((everywhere - in_limit, in_limit - in_tissue, in_tissue))

    @property
    def pixels(self) -> Longs:
        """Level-0 pixels of each label of the limited mask, (256,)."""
        pixels = np.asarray(self.found.sum(axis=0) - self.removed)
        if self._limit is not None:
            pixels[self._limit.background] += self.removed.sum()
        return pixels

    @property
    def pixels_in_tissue(self) -> Longs:
        """Of these those that are tissue, (256,)."""
        return np.asarray(self.found[TISSUE])

    @property
    def removed(self) -> Longs:
        """Level-0 pixels of each label that the limit made background, (256,)."""
        removed = np.array(self.found[OUTSIDE])
        removed[UNLABELLED] = 0
        if self._limit is not None:
            removed[self._limit.background] = 0
        return removed

    def limited(self, tiles: Iterable[MaskTile]) -> Iterator[MaskTile]:
        """Limit and count tiles.

        Args:
            tiles: Tiles of any levels, in any order; read lazily. Labels are uint8.

        Yields:
            The same tiles, limited. Blocks of one label are cut into blocks, and into single tiles with pixels where
            the border of the tissue crosses them. Pixels are changed where they are: nobody else may hold them.
        """
        for tile in tiles:
            if tile.pixels is not None:
                yield self._limited(tile, tile.pixels.astype(np.uint8, copy=False))
            elif tile.label is not None:
                yield from self._block(tile, tile.label)

    def _limited(self, tile: MaskTile, pixels: NDArray[np.uint8]) -> MaskTile:
        """A tile with pixels."""
        removed = self._count(tile, pixels) if tile.level == 0 else True
        if self._limit is None or not removed or self._all[tile.level][tile.row, tile.column]:
            return tile
        if self._any[tile.level][tile.row, tile.column] or (pixels == UNLABELLED).any():
            pixels = pixels if pixels.flags.writeable else pixels.copy()
            return self._crossed(tile, pixels, self._limit.background)
        return replace(tile, pixels=None, label=self._limit.background)

    def _count(self, tile: MaskTile, pixels: NDArray[np.uint8]) -> bool:
        """Count a tile of level 0 by zone; returns whether any of its pixels is outside and no background."""
        background = 0 if self._limit is None else self._limit.background
        in_zone = self._in_tiles[:, tile.row, tile.column].tolist()
        before = int(self.found[OUTSIDE, background])
        if in_zone.count(0) == len(in_zone) - 1:
            add_label_counts(pixels, self.found[in_zone.index(pixels.size)])
        else:
            place = (tile.column * self._tile_px, tile.row * self._tile_px)
            add_zone_counts(pixels, self._zones, self._size, place, self.found)
        return bool(in_zone[OUTSIDE] > self.found[OUTSIDE, background] - before)

    def _block(self, block: MaskTile, label: int) -> Iterator[MaskTile]:
        """A block of one label."""
        single = block.rows == block.columns == 1
        rows = slice(block.row, block.row + block.rows)
        columns = slice(block.column, block.column + block.columns)
        if block.level == 0 and single:
            self.found[:, label] += self._in_tiles[:, block.row, block.column]
        elif block.level == 0:
            self.found[:, label] += self._in_tiles[:, rows, columns].sum(axis=(1, 2))
        if self._limit is None or label in (self._limit.background, UNLABELLED):
            yield block
        elif single:
            some, whole = (each[block.level][block.row, block.column] for each in (self._any, self._all))
            yield self._of_kind(block, label, some, whole)
        else:
            yield from self._parts(
                block, label, self._any[block.level][rows, columns], self._all[block.level][rows, columns]
            )

    def _parts(
        self, block: MaskTile, label: int, some: NDArray[np.bool_], whole: NDArray[np.bool_]
    ) -> Iterator[MaskTile]:
        """A block of one label, cut where its tiles are not alike."""
        if whole.all():
            yield block
            return
        # Runs of tiles that are alike, row by row; each tile that the border crosses stands alone.
        starts = some & ~whole
        starts[:, 1:] |= (whole[:, 1:] != whole[:, :-1]) | (some[:, 1:] != some[:, :-1])
        starts[:, 0] = True
        at = np.flatnonzero(starts)
        lengths = np.diff(at, append=starts.size)
        kinds = zip(some[starts].tolist(), whole[starts].tolist(), strict=True)
        for place, length, (has_some, is_whole) in zip(at.tolist(), lengths.tolist(), kinds, strict=True):
            row, column = divmod(place, starts.shape[1])
            part = MaskTile(
                level=block.level,
                column=block.column + column,
                row=block.row + row,
                label=label,
                columns=length,
            )
            yield self._of_kind(part, label, has_some, is_whole)

    def _of_kind(self, block: MaskTile, label: int, some: bool, whole: bool) -> MaskTile:
        """A block of one label whose tiles are outside the limit, inside, or, a single tile, both."""
        if whole or self._limit is None:
            return block
        background = self._limit.background
        if not some:
            return replace(block, label=background)
        side, size = self._tile_px, self._sizes[block.level]
        shape = (min(side, size.height - block.row * side), min(side, size.width - block.column * side))
        return self._crossed(block, np.full(shape, label, np.uint8), background)

    def _crossed(self, tile: MaskTile, pixels: NDArray[np.uint8], background: int) -> MaskTile:
        """A tile that the border crosses; its pixels are changed."""
        place = (tile.column * self._tile_px, tile.row * self._tile_px)
        if cut(pixels, self._zones, OUTSIDE, self._size, tile.level, place, background, UNLABELLED):
            return replace(tile, label=None, pixels=pixels)
        return replace(tile, label=background, pixels=None)


class LimitedSampler(ReverseSampler):
    """A reverse sampler whose labels are limited to tissue; its probabilities are not.

    Args:
        fields: See ``ReverseSampler``.
        limit: Where labels other than background may be.
        outside_label: See ``ReverseSampler``.
        tile_px: See ``ReverseSampler``.
        interpolation: See ``ReverseSampler``.
        blanks: What is unlabelled, because it could not be read, level-0 px.

    Raises:
        ShapeError: See ``ReverseSampler``.
    """

    def __init__(
        self,
        fields: Sequence[FieldSamples],
        *,
        limit: TissueLimit,
        outside_label: int = 0,
        tile_px: int = 512,
        interpolation: Interpolation = "nearest",
        blanks: Sequence[Region] = (),
    ) -> None:
        super().__init__(
            fields,
            size=limit.size,
            outside_label=outside_label,
            tile_px=tile_px,
            interpolation=interpolation,
        )
        self.limit, self.blanks = limit, tuple(blanks)
        self._cells = Cells(limit.cells, limit.size)

    def region(self, region: Region, level: int = 0) -> NDArray[np.uint8]:
        """Limited labels of a rectangle of a level; see ``ReverseSampler.region``."""
        inside = self._cells.pixels(region, level)
        labels: NDArray[np.uint8] = np.where(
            inside, super().region(region, level), np.uint8(self.limit.background)
        )
        for blank in self.blanks:
            part = kept_at_level(blank, self.size, level).intersection(region)
            rows = slice(part.y - region.y, part.bottom - region.y)
            labels[rows, part.x - region.x : part.right - region.x] = UNLABELLED
        return labels

    def tiles(self, level_count: int | None = None, threads: int = 1) -> Iterator[MaskTile]:
        """Limited tiles of the pyramid; see ``ReverseSampler.tiles``."""
        counts = TissueCounts(self.limit.cells, self.size, limit=self.limit, tile_px=self.tile_px)
        found = super().tiles(level_count, threads)
        return counts.limited(BlankRegions(self.size, self.tile_px, self.blanks).cut(found))


def reverse_sampler(
    fields: Sequence[FieldSamples],
    *,
    size: Size,
    outside_label: int,
    interpolation: Interpolation,
    limit: TissueLimit | None,
    blanks: Sequence[Region] = (),
) -> ReverseSampler:
    """The reverse sampler of a slide's samples, limited to tissue where there is a limit, unlabelled where blank."""
    if limit is None and not blanks:
        return ReverseSampler(fields, size=size, outside_label=outside_label, interpolation=interpolation)
    if limit is None:
        limit = TissueLimit(cells=np.ones((1, 1), bool), size=size, background=outside_label)
    return LimitedSampler(
        fields, limit=limit, outside_label=outside_label, interpolation=interpolation, blanks=blanks
    )
