"""Place readings on their levels and sort them by tile, in passes of one kernel: place, count, sort."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import compiled

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@compiled
def levels_of_areas(areas: NDArray[np.floating], scale: float, min_px: Floats) -> Bytes:
    """The level of each sample from the area of its warped cell.

    Args:
        areas: (S,) areas, as fractions of the region.
        scale: Area of the region, level-0 px.
        min_px: (L - 1,) least area of a cell that reads level 1, 2, ..., level-0 px; rising.

    Returns:
        (S,) levels.
    """
    level = np.empty(len(areas), np.uint8)
    for sample in range(len(areas)):
        # A cell folded to nothing reads level 0.
        area_px = max(np.float64(areas[sample]) * scale, 1.0)
        found = 0
        while found < len(min_px) and area_px >= min_px[found]:
            found += 1
        level[sample] = found
    return level


@compiled
def placed_and_sorted(
    unit_xy: NDArray[np.floating],
    sample: Longs,
    level: Bytes,
    frame: Floats,
    downsample: Floats,
    size: Longs,
    tile: Longs,
) -> tuple[bool, Ints, Floats, Longs, Longs, Ints, Ints]:
    """Find the pixels of each reading and sort the readings by tile; time and memory follow the readings.

    The arithmetic is that of ``plan.level_positions``, operation by operation.

    Args:
        unit_xy: (2, S) x and y of the samples, unit frame of the region.
        sample: (R,) sample of each reading.
        level: (R,) its level.
        frame: (4,) x, y, width and height of the region, level-0 px.
        downsample: (L, 2) level-0 px per pixel of each level.
        size: (L, 2) width and height of each level, px.
        tile: (L, 2) width and height of its tiles, px.

    Returns:
        Whether all positions are finite (nothing else holds if not); floor (R, 2) and fraction (R, 2) of the
        readings; the tiles (T, 3) that are needed as level, column and row, in this order; where the visits of each
        tile start (T + 1,); the visits, each a reading all of whose corners lie in the tile, or -1 - b for the b-th
        of the border readings; and the border readings, whose corners lie in up to four tiles.
    """
    readings, levels = len(level), len(size)
    floor = np.empty((readings, 2), np.int32)
    fraction = np.empty((readings, 2))
    # First and last column and row of the tiles that each level needs: counts are kept of no more than these.
    box = np.empty((levels, 4), np.int64)
    box[:, :2], box[:, 2:] = np.int64(1) << 40, -1
    for reading in range(readings):
        of, at = level[reading], sample[reading]
        for axis in range(2):
            position = (frame[axis] + np.float64(unit_xy[axis, at]) * frame[2 + axis]) / downsample[
                of, axis
            ] - 0.5
            if not np.isfinite(position):
                return False, floor, fraction, size, size[0], floor[0], floor[0]
            position = min(max(position, 0.0), np.float64(size[of, axis] - 1))
            pixel = np.int64(position)
            floor[reading, axis] = pixel
            fraction[reading, axis] = position - pixel
            box[of, axis] = min(box[of, axis], pixel)
            box[of, 2 + axis] = max(box[of, 2 + axis], min(pixel + 1, size[of, axis] - 1))
    first_tile = np.zeros(levels + 1, np.int64)
    columns = np.zeros(levels, np.int64)
    inverse = 1.0 / tile.astype(np.float64)
    for of in range(levels):
        first_tile[of + 1] = first_tile[of]
        if box[of, 2] >= 0:
            for axis in range(2):
                box[of, axis] //= tile[of, axis]
                box[of, 2 + axis] //= tile[of, axis]
            columns[of] = box[of, 2] - box[of, 0] + 1
            first_tile[of + 1] += columns[of] * (box[of, 3] - box[of, 1] + 1)
    count = np.zeros(first_tile[-1], np.int32)
    # Per reading the number of its first tile, times 4; + 1 where it reaches the next column, + 2 the next row.
    place_of = np.empty(readings, np.int32)
    borders = 0
    for reading in range(readings):
        of = level[reading]
        x, y = np.int64(floor[reading, 0]), np.int64(floor[reading, 1])
        # Exact below 2**51: half a pixel past the edge of a tile is far more than what rounding moves.
        column, row = np.int64((x + 0.5) * inverse[of, 0]), np.int64((y + 0.5) * inverse[of, 1])
        wide = x + 1 < size[of, 0] and x + 1 == (column + 1) * tile[of, 0]
        high = y + 1 < size[of, 1] and y + 1 == (row + 1) * tile[of, 1]
        number = first_tile[of] + (row - box[of, 1]) * columns[of] + column - box[of, 0]
        place_of[reading] = 4 * number + wide + 2 * high
        borders += wide or high
        for down in range(1 + high):
            for right in range(1 + wide):
                count[number + down * columns[of] + right] += 1
    wanted = 0
    for number in range(len(count)):
        wanted += count[number] > 0
    tiles = np.empty((wanted, 3), np.int64)
    starts = np.zeros(wanted + 1, np.int64)
    found = 0
    for of in range(levels):
        for number in range(first_tile[of], first_tile[of + 1]):
            if count[number] > 0:
                inside = number - first_tile[of]
                tiles[found, 0] = of
                tiles[found, 1] = inside % columns[of] + box[of, 0]
                tiles[found, 2] = inside // columns[of] + box[of, 1]
                starts[found + 1] = starts[found] + count[number]
                count[number] = starts[found]  # from here on: the next free place of the tile
                found += 1
    visits = np.empty(starts[-1], np.int32)
    border = np.empty(borders, np.int32)
    borders = 0
    for reading in range(readings):
        number, reach = place_of[reading] // 4, place_of[reading] % 4
        if reach == 0:
            visits[count[number]] = reading
            count[number] += 1
            continue
        of = level[reading]
        border[borders] = reading
        borders += 1
        for down in range(1 + reach // 2):
            for right in range(1 + reach % 2):
                next_to = number + down * columns[of] + right
                visits[count[next_to]] = -borders
                count[next_to] += 1
    return True, floor, fraction, tiles, starts, visits, border
