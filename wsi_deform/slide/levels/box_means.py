"""Coarse levels by box means, streamed: one row of a level's tiles in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import Point, Region, Size, tile_grid, tile_region
from wsi_deform.kernels.ahead import ahead_in
from wsi_deform.slide.reader import Level, Reader, TilesReader, is_picture, tiles_of

# Levels are added until the long side is no longer than this.
COARSE_ENOUGH_PX = 512
TILE = Size(256, 256)
# Sums over up to 16 x 16 pixels fit 16 bits.
MAX_SHORT_SCALE = 16
READ_THREADS = 4
READS_AHEAD = 16
AHEAD_BYTES = 64 << 20

Put = Callable[[int, int, int, NDArray[np.uint8]], None]
Progress = Callable[[int, int], None]


def coarse_levels(stored: Level) -> tuple[Level, ...]:
    """The levels that are missing above the coarsest stored one.

    Args:
        stored: The coarsest stored level.

    Returns:
        Levels of a factor of 2 each, sizes rounded up, until the long side has at most 512 px.
    """
    levels = []
    size, scale = stored.size, 1
    while size.long > COARSE_ENOUGH_PX:
        size, scale = Size(-(-size.width // 2), -(-size.height // 2)), scale * 2
        downsample = Point(stored.downsample.x * scale, stored.downsample.y * scale)
        levels.append(Level(size=size, downsample=downsample, tile=TILE))
    return tuple(levels)


def stream_box_means(
    reader: Reader, stored: int, levels: Sequence[Level], put: Put, *, on_row: Progress | None = None
) -> None:
    """Read a stored level once and hand over every tile of the levels above it.

    Args:
        reader: The slide.
        stored: The stored level.
        levels: ``coarse_levels`` of it.
        put: Given the index into ``levels``, column, row and (h, w, 3) pixels of each tile, row by row; keeps
            or copies what it needs.
        on_row: Called after each row of stored tiles with how many are done and how many there are.

    Raises:
        SlideError: A tile cannot be read.

    Convention:
        A pixel of ``levels[k]`` is the mean over the ``2**(k+1) x 2**(k+1)`` stored pixels below it, rounded
        to the nearest whole number, ties up; at the right and bottom edge over those that exist. Sums are
        exact: means of means are never taken.
    """
    found = reader.info.levels[stored]
    size, tile = found.size, found.tile
    grid = tile_grid(size, tile)
    stages = [_Stage(number, level, size) for number, level in enumerate(levels)]
    window = _Window(size, Size(min(tile.width, size.width), min(tile.height, size.height)))
    tiles = _every_tile(reader, stored, grid)
    for row in range(grid.height):
        bottom = min((row + 1) * tile.height, size.height)
        for column in range(grid.width):
            window.add(next(tiles), tile_region(column, row, tile, size))
        sums = window.take(bottom)
        for stage in stages:
            sums = stage.push(sums, put, last=bottom == size.height)
        if on_row is not None:
            on_row(row + 1, grid.height)


def box_mean_tile(
    reader: Reader, stored: int, level: Level, scale: int, column: int, row: int
) -> NDArray[np.uint8]:
    """One tile of a coarse level, from the stored pixels below it alone; see ``stream_box_means``.

    Args:
        reader: The slide.
        stored: The stored level.
        level: The coarse level.
        scale: Stored pixels per pixel of it along one axis, a power of 2.
        column: Tile column.
        row: Tile row.

    Returns:
        (h, w, 3), equal to the streamed one bit for bit.
    """
    found = reader.info.levels[stored]
    place = tile_region(column, row, level.tile, level.size)
    below = Region(place.x * scale, place.y * scale, place.width * scale, place.height * scale)
    below = below.intersection(Region.whole(found.size))
    sums = np.zeros((place.height, place.width, 3), np.uint32)
    addresses = [(stored, *address) for address in below.tiles(found.tile)]
    for (_, at_column, at_row), pixels in zip(addresses, tiles_of(reader, addresses), strict=True):
        whole = tile_region(at_column, at_row, found.tile, found.size)
        part = whole.intersection(below)
        cut = pixels[part.y - whole.y : part.bottom - whole.y, part.x - whole.x : part.right - whole.x]
        rows = np.arange(part.y, part.bottom) // scale - place.y
        columns = np.arange(part.x, part.right) // scale - place.x
        # Where each row and column of boxes starts within the part.
        row_starts = np.flatnonzero(np.diff(rows, prepend=-1))
        column_starts = np.flatnonzero(np.diff(columns, prepend=-1))
        boxes = np.add.reduceat(
            np.add.reduceat(cut, row_starts, axis=0, dtype=np.uint32), column_starts, axis=1
        )
        sums[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += boxes
    return _means(sums, place.x, place.y, scale, found.size)


class _Window:
    """2 x 2 sums of the row of stored tiles that is being read."""

    def __init__(self, size: Size, tile: Size) -> None:
        self._size = size
        self._sums = np.zeros((tile.height // 2 + 2, -(-size.width // 2), 3), np.uint16)
        self._top = 0

    def add(self, pixels: NDArray[np.uint8], place: Region) -> None:
        """Add a tile. A pair that it shares with a neighbour gets its other half from there."""
        odd_y, odd_x = place.y % 2, place.x % 2
        uneven_y, uneven_x = (odd_y + place.height) % 2, (odd_x + place.width) % 2
        if odd_y or odd_x or uneven_y or uneven_x:
            pixels = np.pad(pixels, ((odd_y, uneven_y), (odd_x, uneven_x), (0, 0)))
        sums = _pair_sums(pixels, np.uint16)
        top, left = place.y // 2 - self._top, place.x // 2
        self._sums[top : top + sums.shape[0], left : left + sums.shape[1]] += sums

    def take(self, bottom: int) -> NDArray[np.uint16]:
        """The rows of sums that are complete once everything above ``bottom`` has been added."""
        complete = -(-bottom // 2) if bottom == self._size.height else bottom // 2
        count = complete - self._top
        taken = self._sums[:count].copy()
        self._sums[: len(self._sums) - count] = self._sums[count:]
        self._sums[len(self._sums) - count :] = 0
        self._top = complete
        return taken


class _Stage:
    """One coarse level while its rows come in."""

    def __init__(self, number: int, level: Level, stored: Size) -> None:
        self._number, self._level, self._stored = number, level, stored
        self._scale = 2 << number
        self._row = 0
        self._pixels = np.empty((level.tile.height, level.size.width, 3), np.uint8)
        self._filled = 0
        self._carried: NDArray[np.unsignedinteger] | None = None

    def push(self, sums: NDArray[np.unsignedinteger], put: Put, *, last: bool) -> NDArray[np.unsignedinteger]:
        """Take rows of sums: hand over the tiles that they fill, return rows of sums of the next level."""
        done = 0
        while done < len(sums):
            count = min(len(sums) - done, len(self._pixels) - self._filled)
            y = self._row * self._level.tile.height + self._filled
            part = sums[done : done + count]
            self._pixels[self._filled : self._filled + count] = _means(part, 0, y, self._scale, self._stored)
            self._filled += count
            done += count
            if self._filled == len(self._pixels):
                self._hand_over(put)
        if last and self._filled:
            self._hand_over(put)
        return self._next_sums(sums, last=last)

    def _hand_over(self, put: Put) -> None:
        for column in range(tile_grid(self._level.size, self._level.tile).width):
            left = column * self._level.tile.width
            pixels = self._pixels[: self._filled, left : left + self._level.tile.width]
            put(self._number, column, self._row, pixels)
        self._row += 1
        self._filled = 0

    def _next_sums(self, sums: NDArray[np.unsignedinteger], *, last: bool) -> NDArray[np.unsignedinteger]:
        if self._carried is not None:
            sums = np.concatenate((self._carried, sums))
            self._carried = None
        if len(sums) % 2 and not last:
            self._carried, sums = sums[-1:].copy(), sums[:-1]
        if len(sums) % 2 or sums.shape[1] % 2:
            sums = np.pad(sums, ((0, len(sums) % 2), (0, sums.shape[1] % 2), (0, 0)))
        return _pair_sums(sums, np.uint16 if 2 * self._scale <= MAX_SHORT_SCALE else np.uint32)


def _pair_sums(
    pixels: NDArray[np.unsignedinteger], dtype: type[np.unsignedinteger]
) -> NDArray[np.unsignedinteger]:
    """Sums over 2 x 2 of an array of even sides."""
    rows = np.add(pixels[::2], pixels[1::2], dtype=dtype)
    pairs = rows.reshape(rows.shape[0], rows.shape[1] // 2, 6)
    sums = np.empty((*pairs.shape[:2], 3), dtype)
    # Channel by channel: the innermost loop is over pixels, not over three numbers.
    for channel in range(3):
        np.add(pairs[..., channel], pairs[..., channel + 3], out=sums[..., channel])
    return sums


def _means(sums: NDArray[np.unsignedinteger], x: int, y: int, scale: int, stored: Size) -> NDArray[np.uint8]:
    """Sums over boxes of stored pixels, whose first box is box (x, y), divided by the pixels that exist."""
    whole = scale * scale
    half, shift = sums.dtype.type(whole // 2), sums.dtype.type(whole.bit_length() - 1)
    means: NDArray[np.uint8] = ((sums + half) >> shift).astype(np.uint8)
    heights = np.minimum(scale, stored.height - scale * (y + np.arange(sums.shape[0])))
    widths = np.minimum(scale, stored.width - scale * (x + np.arange(sums.shape[1])))
    # Only the last row and column can be cut off.
    if sums.size and heights[-1] < scale:
        means[-1] = _divided(sums[-1], (heights[-1] * widths)[:, None])
    if sums.size and widths[-1] < scale:
        means[:, -1] = _divided(sums[:, -1], (heights * widths[-1])[:, None])
    return means


def _divided(sums: NDArray[np.unsignedinteger], count: NDArray[np.int64]) -> NDArray[np.uint8]:
    divided: NDArray[np.uint8] = ((sums.astype(np.int64) + count // 2) // count).astype(np.uint8)
    return divided


def _every_tile(reader: Reader, stored: int, grid: Size) -> Iterator[NDArray[np.uint8]]:
    """All tiles of a level, row by row, read ahead by threads."""
    rows = ([(stored, column, row) for column in range(grid.width)] for row in range(grid.height))
    if isinstance(reader, TilesReader) and reader.reads_ahead:
        for row in rows:
            yield from reader.read_tiles(row)
        return
    if is_picture(reader):
        # Nothing to wait for: its pixels are in memory.
        for row in rows:
            yield from (reader.read_tile(*tile) for tile in row)
        return
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="slide-ahead") as pool:
        addresses = (address for row in rows for address in row)
        tile_bytes = 3 * reader.info.levels[stored].tile.area
        waiting = max(1, min(READS_AHEAD, AHEAD_BYTES // tile_bytes))
        yield from ahead_in(pool, lambda one: reader.read_tile(*one), addresses, max_waiting=waiting)
