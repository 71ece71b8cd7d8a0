"""Coarse levels of a file that cannot be read in places: made there from the next finer level."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size, tile_grid, tile_region
from wsi_deform.slide.reader import Address, BadTileError, Reader, TilesReader, tiles_of


class MendingReader:
    """A reader whose coarse levels are whole; implements ``Reader``.

    Attributes:
        reader: The reader of the file.
        info: Its info, with a remark for each level that had to be mended so far.

    Convention:
        A tile of a level above 0 that cannot be decoded is made of the level below it: a pixel is the mean over the
        pixels that it covers there, its edges rounded. Level 0 is as the file has it, and so are
        tiles of which the finer level cannot be read either.
    """

    def __init__(self, reader: Reader) -> None:
        """Wrap a reader."""
        self.reader = reader
        self._lock = threading.Lock()
        self._remarks: dict[int, str] = {}
        self.info = reader.info

    @property
    def reads_ahead(self) -> bool:
        """Whether the reader does."""
        return isinstance(self.reader, TilesReader) and self.reader.reads_ahead

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read or make one tile, (H, W, 3) uint8; see ``Reader``."""
        try:
            return self.reader.read_tile(level, column, row)
        except BadTileError as error:
            return self._mended(level, column, row, error)

    def read_tiles(self, tiles: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
        """Read or make several tiles, each (H, W, 3) uint8; see ``TilesReader``."""
        left = list(tiles)
        while left:
            done = 0
            try:
                for tile in tiles_of(self.reader, left):
                    yield tile
                    done += 1
                return
            except BadTileError as error:
                mended = self._mended(*left[done], error)
            yield mended
            left = left[done + 1 :]

    def close(self) -> None:
        """Close the reader."""
        self.reader.close()

    def _mended(self, number: int, column: int, row: int, error: BadTileError) -> NDArray[np.uint8]:
        levels = self.info.levels
        if not 0 < number < len(levels):
            raise error
        level = levels[number]
        grid = tile_grid(level.size, level.tile)
        if not (0 <= column < grid.width and 0 <= row < grid.height):
            raise error
        try:
            tile = mean_tile(self, number, tile_region(column, row, level.tile, level.size))
        except SlideError:
            raise error from None
        self._note(number, level.size, error)
        return tile

    def _note(self, number: int, size: Size, error: BadTileError) -> None:
        with self._lock:
            if number in self._remarks:
                return
            self._remarks[number] = (
                f"level {number} ({size} px) cannot be read everywhere and is made from the next finer level there "
                f"({str(error)[-200:].rstrip('.')})"
            )
            said = (*self.reader.info.remarks, *self._remarks.values())
            self.info = dataclasses.replace(self.info, remarks=said)


def mended(reader: Reader) -> Reader:
    """The reader, made whole where it has coarse levels."""
    return MendingReader(reader) if len(reader.info.levels) > 1 else reader


def mean_tile(reader: Reader, number: int, place: Region) -> NDArray[np.uint8]:
    """A part of a coarse level, made of the level below it.

    Args:
        reader: The slide; tiles of level ``number - 1`` are read.
        number: The level, 1 or more.
        place: Which part, px of the level.

    Returns:
        (place.height, place.width, 3), see ``MendingReader``.

    Raises:
        SlideError: One of them cannot be read.
    """
    level, finer = reader.info.levels[number], reader.info.levels[number - 1]
    columns = _edges(place.x, place.right, level.downsample.x / finer.downsample.x, finer.size.width)
    rows = _edges(place.y, place.bottom, level.downsample.y / finer.downsample.y, finer.size.height)
    below = Region(int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]), int(rows[-1] - rows[0]))
    sums = np.zeros((*place.size.shape, 3), np.uint32)
    for column, row in below.tiles(finer.tile):
        whole = tile_region(column, row, finer.tile, finer.size)
        part = whole.intersection(below)
        pixels = reader.read_tile(number - 1, column, row)
        pixels = pixels[part.y - whole.y : part.bottom - whole.y, part.x - whole.x : part.right - whole.x]
        at_y, starts_y = _boxes(rows, part.y, part.bottom)
        at_x, starts_x = _boxes(columns, part.x, part.right)
        boxes = np.add.reduceat(pixels, starts_y, axis=0, dtype=np.uint32)
        sums[at_y, at_x] += np.add.reduceat(boxes, starts_x, axis=1)
    counts = (np.diff(rows)[:, None] * np.diff(columns)[None, :])[..., None]
    means: NDArray[np.uint8] = ((sums + counts // 2) // counts).astype(np.uint8)
    return means


def _edges(first: int, last: int, ratio: float, length: int) -> NDArray[np.int64]:
    """(last - first + 1,) where the pixels of a level begin and the last ends, in pixels of the finer level."""
    edges: NDArray[np.int64] = np.rint(np.arange(first, last + 1) * ratio).astype(np.int64)
    # Where a writer rounds up, something is left for the last pixel all the same.
    most = np.arange(length - (last - first), length + 1)
    edges[edges > most] = most[edges > most]
    return edges


def _boxes(edges: NDArray[np.int64], first: int, last: int) -> tuple[slice, NDArray[np.int64]]:
    """Which pixels [first, last) of the finer level reach into, and where each of these starts among them."""
    start = int(np.searchsorted(edges, first, side="right")) - 1
    end = int(np.searchsorted(edges, last, side="left"))
    return slice(start, end), np.maximum(edges[start:end], first) - first
