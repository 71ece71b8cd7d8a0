"""From decoded tiles to pixels and to samples: the innermost loops of gathering.

``blended_inside`` and ``blended_corners`` do the same arithmetic in the same order, so that it makes no
difference to a single bit whether the tiles are in this process.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import compiled

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Frame = tuple[int, int, int, int]
"""Left and top edge of a tile, and the last pixel (x, y) of its level."""


def flat_tile(tile: Bytes) -> Bytes:
    """A tile as (h, 3 w), without a copy where it is contiguous; read-only, so that there is one kernel for all."""
    flat = np.ascontiguousarray(tile).reshape(tile.shape[0], -1)
    flat.flags.writeable = False
    return flat


@compiled
def pick_corners(tile: Bytes, frame: Frame, floor: Ints, picked: Bytes) -> None:
    """Copy the corners of some readings that lie in a tile.

    Args:
        tile: (h, 3 w), see ``flat_tile``.
        frame: Where it lies.
        floor: (V, 2) pixel (x0, y0) of the readings.
        picked: (V, 4, 3), where corners go; those in other tiles are left as they are.
    """
    left, top, last_x, last_y = frame
    height, width = tile.shape[0], tile.shape[1] // 3
    for visit in range(len(floor)):
        for corner in range(4):
            x = min(floor[visit, 0] + corner % 2, last_x) - left
            y = min(floor[visit, 1] + corner // 2, last_y) - top
            if 0 <= x < width and 0 <= y < height:
                for channel in range(3):
                    picked[visit, corner, channel] = tile[y, 3 * x + channel]


@compiled
def put_corners(visits: Ints, border: Ints, picked: Bytes, corners: Bytes) -> None:
    """Put what ``pick_corners`` picked where it belongs.

    Args:
        visits: (V,), see ``TilePlan``.
        border: (B,), see ``TilePlan``.
        picked: (V, 4, 3), 0 where a corner lies in another tile.
        corners: (R, 4, 3), 0 at first.
    """
    for visit in range(len(visits)):
        reading = visits[visit]
        if reading < 0:
            reading = border[-1 - reading]
        for corner in range(4):
            for channel in range(3):
                corners[reading, corner, channel] |= picked[visit, corner, channel]


@compiled
def blend_inside(
    tile: Bytes,
    frame: Frame,
    visits: Ints,
    border: Ints,
    floor: Ints,
    fraction: Floats,
    weight: Floats,
    sample: Longs,
    border_corners: Bytes,
    out: NDArray[np.floating],
) -> None:
    """Add the readings that lie in a tile to the sampled image; keep the corners of those that lie there in part.

    Args:
        tile: (h, 3 w), see ``flat_tile``.
        frame: Where it lies.
        visits: (V,) the visits of this tile, see ``TilePlan``.
        border: (B,), see ``TilePlan``.
        floor: (R, 2), see ``TilePlan``.
        fraction: (R, 2), see ``TilePlan``.
        weight: (R,), see ``TilePlan``.
        sample: (R,), see ``TilePlan``.
        border_corners: (B, 4, 3), where the corners of border readings go.
        out: (3, S), added to.
    """
    left, top, last_x, last_y = frame
    height, width = tile.shape[0], tile.shape[1] // 3
    rounded = np.empty(1, out.dtype)
    for reading in visits:
        if reading < 0:
            at = border[-1 - reading]
            for corner in range(4):
                x = min(floor[at, 0] + corner % 2, last_x) - left
                y = min(floor[at, 1] + corner // 2, last_y) - top
                if 0 <= x < width and 0 <= y < height:
                    for channel in range(3):
                        border_corners[-1 - reading, corner, channel] = tile[y, 3 * x + channel]
            continue
        x0, y0 = floor[reading, 0] - left, floor[reading, 1] - top
        x1, y1 = min(floor[reading, 0] + 1, last_x) - left, min(floor[reading, 1] + 1, last_y) - top
        fx, fy, share = fraction[reading, 0], fraction[reading, 1], weight[reading]
        w00, w10 = (1 - fx) * (1 - fy) * share, fx * (1 - fy) * share
        w01, w11 = (1 - fx) * fy * share, fx * fy * share
        above, below, at = tile[y0], tile[y1], sample[reading]
        for channel in range(3):
            # Rounded before it is added, so that the order of two readings of a sample does not matter.
            rounded[0] = (
                w00 * above[3 * x0 + channel]
                + w10 * above[3 * x1 + channel]
                + w01 * below[3 * x0 + channel]
                + w11 * below[3 * x1 + channel]
            )
            out[channel, at] += rounded[0]


@compiled
def blend_corners(
    readings: Ints,
    corners: Bytes,
    fraction: Floats,
    weight: Floats,
    sample: Longs,
    out: NDArray[np.floating],
) -> None:
    """Add readings to the sampled image, given their corners.

    Args:
        readings: (N,) their numbers.
        corners: (N, 4, 3) their corners.
        fraction: (R, 2), see ``TilePlan``.
        weight: (R,), see ``TilePlan``.
        sample: (R,), see ``TilePlan``.
        out: (3, S), added to.
    """
    rounded = np.empty(1, out.dtype)
    for number in range(len(readings)):
        reading = readings[number]
        fx, fy, share = fraction[reading, 0], fraction[reading, 1], weight[reading]
        w00, w10 = (1 - fx) * (1 - fy) * share, fx * (1 - fy) * share
        w01, w11 = (1 - fx) * fy * share, fx * fy * share
        at = sample[reading]
        for channel in range(3):
            rounded[0] = (
                w00 * corners[number, 0, channel]
                + w10 * corners[number, 1, channel]
                + w01 * corners[number, 2, channel]
                + w11 * corners[number, 3, channel]
            )
            out[channel, at] += rounded[0]
