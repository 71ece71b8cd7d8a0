"""Coarse levels that a file does not store, built in memory by box means on first use."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Point, Size, tile_grid, tile_region
from wsi_deform.slide.reader import Level, Reader, SlideInfo

# Levels are added until the long side is no longer than this.
COARSE_ENOUGH_PX = 512
# The coarsest stored level is read as a whole: only where it has at most this many decoded bytes.
MOST_DECODED_BYTES = 100_000_000
TILE = Size(256, 256)


class VirtualReader:
    """A reader with coarse levels appended; implements ``Reader``.

    Attributes:
        reader: The reader of the stored levels.
        append: Whether missing levels are appended.
        info: Its info, with the virtual levels appended.
        stored_levels: Number of levels that the file stores; those from here on are virtual.

    Convention:
        A pixel of the k-th virtual level is the mean over the ``2**k x 2**k`` pixels of the coarsest stored
        level below it, rounded to the nearest whole number, ties up; at the right and bottom edge over those
        that exist. Its downsample is the stored level's times ``2**k``.
    """

    def __init__(self, reader: Reader, *, append: bool = True) -> None:
        """Append the levels that are missing, unless told not to; reads no pixels yet."""
        self.reader = reader
        self.append = append
        self.stored_levels = len(reader.info.levels)
        stored = reader.info
        self.info = SlideInfo(
            levels=stored.levels + (_virtual_levels(stored.levels[-1]) if append else ()),
            mpp=stored.mpp,
            vendor=stored.vendor,
            bounds=stored.bounds,
            background=stored.background,
            properties=stored.properties,
        )
        self._lock = threading.Lock()
        self._built: list[NDArray[np.uint8]] | None = None

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile, from the file or from memory; see ``Reader``."""
        if level < self.stored_levels:
            return self.reader.read_tile(level, column, row)
        if level >= len(self.info.levels):
            raise SlideError(f"level {level} wanted, levels 0 to {len(self.info.levels) - 1} exist.")
        found = self.info.levels[level]
        region = tile_region(column, row, found.tile, found.size)
        if column < 0 or row < 0 or region.is_empty:
            raise SlideError(
                f"tile (column {column}, row {row}) of level {level} wanted; the level has {found.size} px."
            )
        pixels = self._levels()[level - self.stored_levels]
        return pixels[region.y : region.bottom, region.x : region.right]

    def close(self) -> None:
        """Close the stored levels' reader."""
        self.reader.close()

    def _levels(self) -> list[NDArray[np.uint8]]:
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

    def _build(self) -> list[NDArray[np.uint8]]:
        coarsest = self.stored_levels - 1
        stored = self.info.levels[coarsest]
        sums = self._half_sums(coarsest)
        scale = 2
        built: list[NDArray[np.uint8]] = []
        for level in self.info.levels[self.stored_levels :]:
            if built:
                sums, scale = _pair_sums(sums), scale * 2
            height = np.minimum(
                scale, stored.size.height - scale * np.arange(level.size.height, dtype=np.uint64)
            )
            width = np.minimum(
                scale, stored.size.width - scale * np.arange(level.size.width, dtype=np.uint64)
            )
            count = (height[:, None] * width[None, :]).astype(np.uint32)[..., None]
            mean = ((sums + count // 2) // count).astype(np.uint8)
            mean.setflags(write=False)
            built.append(mean)
        return built

    def _half_sums(self, level: int) -> NDArray[np.uint32]:
        """2 x 2 sums of a stored level, one row of tiles in memory at a time."""
        found = self.info.levels[level]
        size, tile = found.size, found.tile
        sums = np.zeros((-(-size.height // 2), -(-size.width // 2), 3), np.uint32)
        grid = tile_grid(size, tile)
        for row in range(grid.height):
            top = row * tile.height
            band = np.empty((min(tile.height, size.height - top), size.width, 3), np.uint8)
            for column in range(grid.width):
                region = tile_region(column, row, tile, size)
                band[:, region.x : region.right] = self.reader.read_tile(level, column, row)
            # Tiles of odd height split a pair of rows: both halves are added to the same row of sums.
            for parity in (0, 1):
                rows = np.arange(top, top + len(band))
                rows = rows[rows % 2 == parity]
                if rows.size:
                    part = band[rows - top].astype(np.uint32)
                    sums[rows // 2] += part[:, ::2]
                    sums[rows // 2, : size.width // 2] += part[:, 1::2]
        return sums


def _virtual_levels(stored: Level) -> tuple[Level, ...]:
    if stored.size.area * 3 > MOST_DECODED_BYTES:
        return ()
    levels = []
    size, scale = stored.size, 1
    while size.long > COARSE_ENOUGH_PX:
        size, scale = Size(-(-size.width // 2), -(-size.height // 2)), scale * 2
        downsample = Point(stored.downsample.x * scale, stored.downsample.y * scale)
        levels.append(Level(size=size, downsample=downsample, tile=TILE))
    return tuple(levels)


def _pair_sums(sums: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """2 x 2 sums; a last odd row or column stands alone."""
    rows = sums[::2].copy()
    rows[: len(sums) // 2] += sums[1::2]
    pairs = rows[:, ::2].copy()
    pairs[:, : rows.shape[1] // 2] += rows[:, 1::2]
    return pairs
