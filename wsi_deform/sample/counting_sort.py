"""Sort the pixels that a plan reads by tile, in two passes: count, then place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.deform.compiled import compiled


@compiled
def corners_by_tile(
    level: NDArray[np.int64],
    floor: NDArray[np.int64],
    size: NDArray[np.int64],
    tile: NDArray[np.int64],
    columns: NDArray[np.int64],
    first_tile: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Find the tile of each corner of each reading and sort by tile; time and memory follow the readings.

    Args:
        level: (R,) level of each reading.
        floor: (R, 2) pixel (x0, y0) of each reading.
        size: (L, 2) width and height of each level, px.
        tile: (L, 2) width and height of its tiles, px.
        columns: (L,) its tile columns.
        first_tile: (L + 1,) number of its first tile, when all tiles of all levels are numbered on.

    Returns:
        Numbers of the tiles that are needed, (T,), rising; where the corners of each start, (T + 1,); and for each of
        the 4 R places the corner (``4 * reading + corner``) and its row and column within the tile.
    """
    readings = len(level)
    # One count per tile of the slide: half a million for 200,000 x 200,000 px, touched only where samples fall.
    count = np.zeros(first_tile[-1], np.int32)
    for reading in range(readings):
        of = level[reading]
        for corner in range(4):
            x = min(floor[reading, 0] + corner % 2, size[of, 0] - 1)
            y = min(floor[reading, 1] + corner // 2, size[of, 1] - 1)
            count[first_tile[of] + y // tile[of, 1] * columns[of] + x // tile[of, 0]] += 1
    wanted = np.flatnonzero(count)
    starts = np.zeros(len(wanted) + 1, np.int64)
    for place in range(len(wanted)):
        starts[place + 1] = starts[place] + count[wanted[place]]
        count[wanted[place]] = starts[place]  # from here on: the next free place of the tile
    corners = np.empty(4 * readings, np.int32)
    row_px = np.empty(4 * readings, np.int32)
    column_px = np.empty(4 * readings, np.int32)
    for reading in range(readings):
        of = level[reading]
        for corner in range(4):
            x = min(floor[reading, 0] + corner % 2, size[of, 0] - 1)
            y = min(floor[reading, 1] + corner // 2, size[of, 1] - 1)
            row, column = y // tile[of, 1], x // tile[of, 0]
            number = first_tile[of] + row * columns[of] + column
            place = count[number]
            count[number] += 1
            corners[place] = 4 * reading + corner
            row_px[place] = y - row * tile[of, 1]
            column_px[place] = x - column * tile[of, 0]
    return wanted, starts, corners, row_px, column_px
