"""Tiles of a TIFF pyramid, read directly: one positioned read and one decode per tile, stored pixel type."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.faults import pass_on_own_fault
from wsi_deform.geometry import Region, Size, tile_grid, tile_region
from wsi_deform.kernels.ahead import ahead
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.reader import Address, bad_tile
from wsi_deform.slide.source import ByteSource, LocalFile
from wsi_deform.slide.tiff.index import TiffIndex, read_index
from wsi_deform.slide.tiff.level import Plane, TiffLevel
from wsi_deform.slide.tiff.strips import Strips, announce_strips, forget_strips, strip_rows

# Decoders raise RuntimeError (imagecodecs), ValueError (tifffile, NumPy), ImportError (a codec that is not built in)
# and, on scrambled bytes, nearly anything; ``pass_on_own_fault`` tells it from mistakes of ours.
DECODE_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, ImportError, MemoryError,
    struct.error, tifffile.TiffFileError,
)  # fmt: skip

# Bytes of a batch that is fetched at once from far, and how many batches are on the way while one is decoded.
BATCH_BYTES = 4 << 20
BATCH_TILES = 32
BATCHES_AHEAD = 2

_numbers = itertools.count()


class TiffTiles:
    """An open TIFF pyramid: RGB slides and single-channel label masks alike.

    The index is parsed once; tiles are read at their places, with no shared position: threads, and for files
    on this machine forked processes, may read at the same time.

    Attributes:
        path: The file or URL.
        source: Its bytes.
        index: Everything known without reading pixels.
        levels: ``index.levels``; each has ``size``, ``tile`` and ``downsample``.
        dtype: Pixel type of every tile.
        channels: Channels of every tile.
    """

    def __init__(self, path: str | Path | ByteSource, asked: str = "") -> None:
        """Open a TIFF.

        Args:
            path: A tiled or stripped TIFF, BigTIFF, SVS or OME-TIFF: a path, or an open source of bytes.
            asked: The name of one of its images; empty takes the slide.

        Raises:
            SlideError: Not a TIFF, truncated, or of an unsupported layout.
        """
        self.source: ByteSource
        self.source = LocalFile(Path(path)) if isinstance(path, str | Path) else path
        self.path: SlidePath = self.source.path
        self.index: TiffIndex = read_index(self.source, asked)
        self.levels: tuple[TiffLevel, ...] = self.index.levels
        self.dtype: np.dtype[Any] = self.index.dtype
        self.channels: int = self.index.channels
        self._number = next(_numbers)
        announce_strips(self, self._number, self._strips())

    @property
    def size(self) -> Size:
        """Size of level 0, px."""
        return self.levels[0].size

    @property
    def first_stored(self) -> bytes:
        """The stored bytes of the first tile of level 0 that is stored; none where none is."""
        for plane in self.levels[0].planes:
            for segment in np.flatnonzero(plane.counts)[:1]:
                self._check_open()
                return self.source.read(int(plane.offsets[segment]), int(plane.counts[segment]))
        return b""

    def has_tile(self, level: int, column: int, row: int) -> bool:
        """Whether the tile, or a plane of it, is stored; writers may leave empty tiles out."""
        segment = self._segment(level, column, row)
        return any(plane.counts[segment] > 0 for plane in self.levels[level].planes)

    def stored_tile(self, level: int, column: int, row: int) -> tuple[bytes, ...]:
        """The stored bytes of one tile, of each of its planes; empty where it has none of its own.

        Tiles of a level with the same bytes decode to the same pixels, but for how much of them lies in the image.

        Raises:
            SlideError: There is no such tile, or its bytes cannot be read.
        """
        segment = self._segment(level, column, row)
        stored = tuple(self._stored(plane, segment) for plane in self.levels[level].planes)
        return stored if all(stored) else ()

    def read_tile(self, level: int, column: int, row: int) -> NDArray[Any]:
        """Read one tile.

        Args:
            level: Index into ``levels``.
            column: Tile column, from 0 at the left edge.
            row: Tile row, from 0 at the top edge.

        Returns:
            (h, w, channels) in the stored pixel type, clipped at the image's edge; 0 where the tile is not
            stored.

        Raises:
            SlideError: There is no such tile, or its bytes are missing or cannot be decoded.
        """
        segment = self._segment(level, column, row)
        planes = self.levels[level].planes
        return self._tile((level, column, row), [self._stored(plane, segment) for plane in planes])

    def read_tiles(self, tiles: Sequence[Address]) -> Iterator[NDArray[Any]]:
        """Read several tiles; from far, the next are fetched, many at once, while the first are decoded.

        Args:
            tiles: (level, column, row) of each.

        Yields:
            (h, w, channels) of each, what ``read_tile`` returns, in order.

        Raises:
            SlideError: See ``read_tile``.
        """
        if not self.source.is_far:
            for tile in tiles:
                yield self.read_tile(*tile)
            return
        batches = self._batches(tiles)
        fetched = ahead(self._fetch, batches, threads=BATCHES_AHEAD, max_waiting=BATCHES_AHEAD + 1)
        for batch, stored in zip(batches, fetched, strict=True):
            for tile, parts in zip(batch, stored, strict=True):
                yield self._tile(tile, parts)

    def read_region(self, level: int, region: Region) -> NDArray[Any]:
        """Read a rectangle of one level.

        Args:
            level: Index into ``levels``.
            region: In pixels of that level.

        Returns:
            (region.height, region.width, channels); 0 outside the image.

        Raises:
            SlideError: A tile cannot be read.
        """
        found = self.levels[level]
        out = np.zeros((region.height, region.width, self.channels), self.dtype)
        inside = region.intersection(Region.whole(found.size))
        for column, row in inside.tiles(found.tile):
            place = tile_region(column, row, found.tile, found.size)
            part = place.intersection(inside)
            tile = self.read_tile(level, column, row)
            out[part.y - region.y : part.bottom - region.y, part.x - region.x : part.right - region.x] = tile[
                part.y - place.y : part.bottom - place.y, part.x - place.x : part.right - place.x
            ]
        return out

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        self.source.close()
        forget_strips(self._number)

    def _segment(self, level: int, column: int, row: int) -> int:
        if not 0 <= level < len(self.levels):
            raise SlideError(f"{self.path}: level {level} wanted, levels 0 to {len(self.levels) - 1} exist.")
        grid = tile_grid(self.levels[level].size, self.levels[level].tile)
        if not (0 <= column < grid.width and 0 <= row < grid.height):
            raise SlideError(
                f"{self.path}: tile (column {column}, row {row}) of level {level} wanted; the level has "
                f"{grid.width} columns and {grid.height} rows."
            )
        return row * grid.width + column

    def _batches(self, tiles: Sequence[Address]) -> list[list[Address]]:
        """Cut a list of tiles by the bytes that they store."""
        batches: list[list[Address]] = []
        held_bytes = 0
        for level, column, row in tiles:
            segment = self._segment(level, column, row)
            # The bytes of a strip of many blocks are read when it is decoded.
            count = sum(
                int(plane.counts[segment])
                for plane in self.levels[level].planes
                if not plane.blocks_per_strip
            )
            if not batches or held_bytes + count > BATCH_BYTES or len(batches[-1]) >= BATCH_TILES:
                batches.append([])
                held_bytes = 0
            batches[-1].append((level, column, row))
            held_bytes += count
        return batches

    def _fetch(self, batch: Sequence[Address]) -> list[list[bytes]]:
        """The stored bytes of a batch, per tile and plane."""
        self._check_open()
        wanted = []
        for level, column, row in batch:
            segment = self._segment(level, column, row)
            for plane in self.levels[level].planes:
                count = 0 if plane.blocks_per_strip else int(plane.counts[segment])
                wanted.append((int(plane.offsets[segment]), count))
        stored = iter(self.source.read_many(wanted))
        return [[next(stored) for _ in self.levels[level].planes] for level, _, _ in batch]

    def _stored(self, plane: Plane, segment: int) -> bytes:
        """The stored bytes of one tile of a plane; none where they belong to a strip of many blocks."""
        count = int(plane.counts[segment])
        if count == 0 or plane.blocks_per_strip:
            return b""
        self._check_open()
        return self.source.read(int(plane.offsets[segment]), count)

    def _tile(self, tile: Address, stored: Sequence[bytes]) -> NDArray[Any]:
        """Decode the planes of one tile."""
        level, column, row = tile
        segment = self._segment(level, column, row)
        left_out = [not plane.counts[segment] for plane in self.levels[level].planes]
        if any(left_out) and not all(left_out):
            region = tile_region(column, row, self.levels[level].tile, self.levels[level].size)
            why = f"lacks {sum(left_out)} of its {len(left_out)} planes"
            raise bad_tile(self.path, level, region, self.levels, why)
        parts = [self._decoded(tile, number, one) for number, one in enumerate(stored)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _decoded(self, tile: Address, number: int, stored: bytes) -> NDArray[Any]:
        level, column, row = tile
        found = self.levels[level]
        plane, segment = found.planes[number], self._segment(level, column, row)
        region = tile_region(column, row, found.tile, found.size)
        if int(plane.counts[segment]) == 0:
            return np.zeros((region.height, region.width, plane.channels), self.dtype)
        if plane.blocks_per_strip is None:
            return self._decode(plane, segment, stored, level, region)
        return self._block(plane, segment, level, number, region)

    def _block(self, plane: Plane, segment: int, level: int, number: int, region: Region) -> NDArray[Any]:
        """Rows of a strip that holds many blocks, decoded once and kept while there is room."""
        blocks, found = plane.blocks_per_strip or 1, self.levels[level]
        strip, top = segment // blocks, region.y - (segment // blocks) * blocks * found.tile.height
        # The strip's first and last block say where it lies; an only strip may end in a shorter block.
        first_y = region.y - top
        height = min(self._strip_rows(plane, level), found.size.height - first_y)
        whole = Region(0, first_y, found.size.width, height)

        def read() -> NDArray[Any]:
            self._check_open()
            stored = self.source.read(int(plane.offsets[segment]), int(plane.counts[segment]))
            return self._decode(plane, strip, stored, level, whole)

        nbytes = whole.size.area * plane.channels * self.dtype.itemsize
        rows = strip_rows((self._number, level, number, strip), nbytes, read, self.path)
        # A copy: a view would keep the whole strip alive.
        return rows[top : top + region.height].copy()

    def _strips(self) -> Strips:
        """What strips of many blocks may take, over all levels."""
        decoded, stored = 0, 0
        for level in self.levels:
            for plane in level.planes:
                if plane.blocks_per_strip is not None:
                    decoded += level.size.area * plane.channels * self.dtype.itemsize
                    stored = max(stored, int(plane.counts.max()))
        return Strips(decoded_bytes=decoded, stored_bytes=stored)

    def _strip_rows(self, plane: Plane, level: int) -> int:
        return (plane.blocks_per_strip or 1) * self.levels[level].tile.height

    def _check_open(self) -> None:
        if not self.source.is_open:
            raise SlideError(f"{self.path}: reading from a closed file. Open the slide again.")

    def _decode(self, plane: Plane, segment: int, stored: bytes, level: int, region: Region) -> NDArray[Any]:
        """Decode one stored tile or strip and clip it to the image."""
        place = segment if plane.blocks_per_strip is None else segment * plane.blocks_per_strip
        offset, count = int(plane.offsets[place]), int(plane.counts[place])
        if len(stored) < count:
            raise SlideError(
                f"{self.path}: tile at ({region.x}, {region.y}) of level {level} needs {count} bytes at {offset}, "
                f"found {len(stored)}: the file is truncated. Copy or download it again."
            )
        try:
            tile = plane.decode(stored, plane.first_segment + segment)
        except DECODE_ERRORS as error:
            pass_on_own_fault(error, "tifffile")
            why = f"{count} bytes, cannot be decoded ({type(error).__name__}: {error})"
            raise bad_tile(self.path, level, region, self.levels, why) from error
        if tile.shape[0] < region.height or tile.shape[1] < region.width or tile.shape[2] != plane.channels:
            why = f"decodes to {tile.shape}, needed ({region.height}, {region.width}, {plane.channels})"
            raise bad_tile(self.path, level, region, self.levels, why)
        tile = tile[: region.height, : region.width]
        return tile.astype(self.dtype) if tile.dtype != self.dtype else tile
