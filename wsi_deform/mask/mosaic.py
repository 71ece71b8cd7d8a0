"""A mask made field by field: tiles leave as soon as every field that they show has come.

Each field is put back in slide order alone and forgotten. A tile that lies inside the kept region of one field
leaves at once; one that shows several fields waits until the last of them has come. Fields come row by row, so what
waits is the frontier between two rows of fields on the fine levels, and a few tiles of the coarse ones: memory grows
with the slide's width, not with its area or its number of samples. The mask is the same, bit for bit, as from all
samples at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size, tile_grid, tile_region
from wsi_deform.reverse.interpolation import Interpolation
from wsi_deform.reverse.levels import MaskTile, kept_at_level, pyramid_sizes
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

TileKey = tuple[int, int, int]


@dataclasses.dataclass(slots=True)
class _Waiting:
    """A tile of which some pixels are still to come: the parts that have, each of one label or its pixels alone.

    A whole tile is made when nothing is missing. Most parts on a frontier are of one label, and a part is half a
    tile, so that a wide slide's frontier takes little.
    """

    missing_px: int
    parts: list[tuple[Region, int | NDArray[np.uint8] | NDArray[np.uint16]]] = dataclasses.field(
        default_factory=list
    )

    @property
    def nbytes(self) -> int:
        """Memory of the pixels."""
        return sum(part.nbytes for _, part in self.parts if not isinstance(part, int))

    def tile(self, key: TileKey, size: Size, outside_label: int) -> MaskTile:
        """The whole tile: by its label where it has one, else by its pixels."""
        level, column, row = key
        pixels = np.full(size.shape, outside_label, np.uint8)
        for region, part in self.parts:
            pixels[region.y : region.bottom, region.x : region.right] = part
        label = int(pixels[0, 0])
        if (pixels == label).all():
            return MaskTile(level=level, column=column, row=row, label=label)
        return MaskTile(level=level, column=column, row=row, pixels=pixels)


class MaskMosaic:
    """Turns fields, one after the other, into the tiles of a mask's pyramid.

    Args:
        kept: The kept regions of all fields that will come, level-0 px; disjoint.
        size: The slide's level-0 size, px.
        outside_label: Label of pixels that no field keeps.
        tile_px: Side of a tile.
        interpolation: How the fields are put back, see ``ReverseSampler``.
    """

    def __init__(
        self,
        kept: Sequence[Region],
        *,
        size: Size,
        outside_label: int = 0,
        tile_px: int = 512,
        interpolation: Interpolation = "nearest",
    ) -> None:
        self.size = size
        self.outside_label = outside_label
        self.tile_px = tile_px
        self.interpolation: Interpolation = interpolation
        self.level_sizes = pyramid_sizes(size, tile_px)
        self._to_come = set(kept)
        self._waiting: dict[TileKey, _Waiting] = {}
        tile = Size(tile_px, tile_px)
        # Which tiles show a field at all; the others are filled in at the end.
        self._touched = [np.zeros(tile_grid(level, tile).shape, bool) for level in self.level_sizes]
        for region in kept:
            for level in range(len(self.level_sizes)):
                self._expect(level, kept_at_level(region, size, level))

    def mosaic(self, fields: Iterable[FieldSamples], *, threads: int = 1) -> Iterator[MaskTile]:
        """All tiles of the pyramid, each once, in an order that depends on the order of the fields alone.

        Args:
            fields: The samples of each field, once each, in any order; row by row keeps little waiting.
            threads: Number of threads that render.

        Yields:
            Tiles with pixels, and blocks of tiles of one label.

        Raises:
            MaskError: A field comes twice, was not announced, or does not come.
        """
        for field in fields:
            yield from self._field(field, threads)
        if self._to_come:
            raise MaskError(
                f"mask of {self.size} px: {len(self._to_come)} fields did not come, first {min(self._to_come)}. "
                "Needed every field once."
            )
        yield from self._outside()

    @property
    def waiting_bytes(self) -> int:
        """Memory of the tiles that wait for further fields."""
        return sum(tile.nbytes for tile in self._waiting.values())

    def _field(self, field: FieldSamples, threads: int) -> Iterator[MaskTile]:
        if field.kept not in self._to_come:
            raise MaskError(f"field {field.kept}: came twice, or was not announced. Needed every field once.")
        self._to_come.remove(field.kept)
        alone = ReverseSampler(
            [field],
            size=self.size,
            outside_label=self.outside_label,
            tile_px=self.tile_px,
            interpolation=self.interpolation,
        )
        kept = [kept_at_level(field.kept, self.size, level) for level in range(len(self.level_sizes))]
        for tile in alone.tiles(threads=threads):
            if tile.pixels is not None:
                yield from self._part(tile, kept[tile.level])
            else:
                yield from self._block(tile, kept[tile.level])

    def _block(self, block: MaskTile, kept: Region) -> Iterator[MaskTile]:
        """The part of a block of one label that lies in the field: inner tiles at once, others when complete."""
        covered = Region(block.column, block.row, block.columns, block.rows)
        inner = self._inner(block.level, kept).intersection(covered)
        if not inner.is_empty:
            yield MaskTile(
                level=block.level,
                column=inner.x,
                row=inner.y,
                label=block.label,
                columns=inner.width,
                rows=inner.height,
            )
        touched = covered.intersection(self._tiles_of(kept))
        for row in range(touched.y, touched.bottom):
            for column in range(touched.x, touched.right):
                if not (inner.x <= column < inner.right and inner.y <= row < inner.bottom):
                    yield from self._part(
                        MaskTile(level=block.level, column=column, row=row, label=block.label), kept
                    )

    def _part(self, tile: MaskTile, kept: Region) -> Iterator[MaskTile]:
        """A tile of which the field decides all pixels, some, or none."""
        level = self.level_sizes[tile.level]
        whole = tile_region(tile.column, tile.row, Size(self.tile_px, self.tile_px), level)
        part = whole.intersection(kept)
        if part.is_empty:
            return
        if part == whole:
            yield tile
            return
        key = (tile.level, tile.column, tile.row)
        waiting = self._waiting[key]
        window = Region(part.x - whole.x, part.y - whole.y, part.width, part.height)
        if tile.pixels is not None:
            pixels = tile.pixels[window.y : window.bottom, window.x : window.right]
            first = int(pixels[0, 0])
            waiting.parts.append((window, first if (pixels == first).all() else pixels.copy()))
        elif tile.label is not None:
            waiting.parts.append((window, tile.label))
        waiting.missing_px -= part.size.area
        if waiting.missing_px == 0:
            yield self._waiting.pop(key).tile(key, whole.size, self.outside_label)

    def _outside(self) -> Iterator[MaskTile]:
        """Rows of tiles that no field touches."""
        for level, touched in enumerate(self._touched):
            for row, line in enumerate(touched):
                edges = np.flatnonzero(np.diff(np.concatenate(([True], line, [True])).astype(np.int8)))
                for start, stop in zip(edges[::2], edges[1::2], strict=True):
                    yield MaskTile(
                        level=level,
                        column=int(start),
                        row=row,
                        label=self.outside_label,
                        columns=int(stop - start),
                    )

    def _expect(self, level: int, kept: Region) -> None:
        """Note which tiles of a level a field will show, and how many pixels of those it does not fill."""
        if kept.is_empty:
            return
        tiles = self._tiles_of(kept)
        self._touched[level][tiles.y : tiles.bottom, tiles.x : tiles.right] = True
        inner = self._inner(level, kept)
        for row in range(tiles.y, tiles.bottom):
            whole_row = inner.y <= row < inner.bottom
            for column in range(tiles.x, tiles.right):
                if whole_row and inner.x <= column < inner.right:
                    continue
                tile = tile_region(column, row, Size(self.tile_px, self.tile_px), self.level_sizes[level])
                part = tile.intersection(kept).size.area
                self._waiting.setdefault((level, column, row), _Waiting(0)).missing_px += part

    def _tiles_of(self, kept: Region) -> Region:
        """The range of tiles that a region of a level touches, in tiles."""
        if kept.is_empty:
            return Region(0, 0, 0, 0)
        left, top = kept.x // self.tile_px, kept.y // self.tile_px
        right, bottom = -(-kept.right // self.tile_px), -(-kept.bottom // self.tile_px)
        return Region(left, top, right - left, bottom - top)

    def _inner(self, level: int, kept: Region) -> Region:
        """The range of tiles that lie wholly inside a region of a level, in tiles."""
        if kept.is_empty:
            return Region(0, 0, 0, 0)
        size = self.level_sizes[level]
        left, top = -(-kept.x // self.tile_px), -(-kept.y // self.tile_px)
        # The last tiles of a level are cut off by its edge and still whole.
        right = -(-kept.right // self.tile_px) if kept.right == size.width else kept.right // self.tile_px
        bottom = (
            -(-kept.bottom // self.tile_px) if kept.bottom == size.height else kept.bottom // self.tile_px
        )
        return Region(left, top, max(0, right - left), max(0, bottom - top))
