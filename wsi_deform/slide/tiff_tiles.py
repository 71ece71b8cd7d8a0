"""Tiles of a TIFF pyramid, read directly: one positioned read and one decode per tile, stored pixel type."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size, tile_grid, tile_region
from wsi_deform.slide.tiff_index import TiffIndex, read_index
from wsi_deform.slide.tiff_level import TiffLevel

# Decoders raise RuntimeError (imagecodecs), ValueError (tifffile, NumPy) or ImportError (a codec that is not
# built in).
DECODE_ERRORS = (RuntimeError, ValueError, TypeError, ImportError, MemoryError)


class TiffTiles:
    """An open TIFF pyramid: RGB slides and single-channel label masks alike.

    The index is parsed once; tiles are read with ``os.pread`` on an own file descriptor, which has no shared
    position: threads and forked processes may read at the same time.

    Attributes:
        path: The file.
        index: Everything known without reading pixels.
        levels: ``index.levels``; each has ``size``, ``tile`` and ``downsample``.
        dtype: Pixel type of every tile.
        channels: Channels of every tile.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a TIFF.

        Args:
            path: A tiled or stripped TIFF, BigTIFF, SVS or OME-TIFF.

        Raises:
            SlideError: Not a TIFF, truncated, or of an unsupported layout.
        """
        self.path = Path(path)
        self.index: TiffIndex = read_index(self.path)
        self.levels: tuple[TiffLevel, ...] = self.index.levels
        self.dtype: np.dtype[Any] = self.index.dtype
        self.channels: int = self.index.channels
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        # Not closed under a thread that still reads: the descriptor goes with the last reference.
        self._closer = weakref.finalize(self, os.close, self._descriptor)

    @property
    def size(self) -> Size:
        """Size of level 0, px."""
        return self.levels[0].size

    def has_tile(self, level: int, column: int, row: int) -> bool:
        """Whether the tile is stored; writers may leave empty tiles out."""
        segment = self._segment(level, column, row)
        return all(plane.counts[segment] > 0 for plane in self.levels[level].planes)

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
        found = self.levels[level]
        region = tile_region(column, row, found.tile, found.size)
        parts = [self._read_plane(level, number, segment, region) for number in range(len(found.planes))]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

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
        self._closer()

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

    def _read_plane(self, level: int, number: int, segment: int, region: Region) -> NDArray[Any]:
        plane = self.levels[level].planes[number]
        count = int(plane.counts[segment])
        if count == 0:
            return np.zeros((region.height, region.width, plane.channels), self.dtype)
        if not self._closer.alive:
            raise SlideError(f"{self.path}: reading from a closed file. Open the slide again.")
        stored = os.pread(self._descriptor, count, int(plane.offsets[segment]))
        where = f"{self.path}: tile at ({region.x}, {region.y}) of level {level}"
        if len(stored) < count:
            raise SlideError(
                f"{where} needs {count} bytes at {int(plane.offsets[segment])}, found {len(stored)}: the "
                "file is truncated. "
                "Copy or download it again."
            )
        try:
            tile = plane.decode(stored, plane.first_segment + segment)
        except DECODE_ERRORS as error:
            raise SlideError(
                f"{where}, {count} bytes, cannot be decoded ({type(error).__name__}: {error}). The file is "
                "damaged: "
                "copy or download it again."
            ) from error
        if tile.shape[0] < region.height or tile.shape[1] < region.width or tile.shape[2] != plane.channels:
            raise SlideError(
                f"{where} decodes to {tile.shape}, needed ({region.height}, {region.width}, "
                f"{plane.channels}). The file is "
                "damaged: copy or download it again."
            )
        tile = tile[: region.height, : region.width]
        return tile.astype(self.dtype) if tile.dtype != self.dtype else tile
