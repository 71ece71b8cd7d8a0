"""The pixels of a mask tile that the border of the tissue crosses: counted by zone, and cut. Compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Box, Longs, compiled
from wsi_deform.mask.tissue_cells import Bytes, cell_of, end_of


def add_zone_counts(
    pixels: Bytes, zones: Bytes, size: tuple[int, int], origin: tuple[int, int], counts: Longs
) -> None:
    """Count the labels of a tile of level 0 in each zone.

    Args:
        pixels: (h, w) labels.
        zones: (H, W) zone of each cell.
        size: The slide's level-0 width and height, px.
        origin: Left and top pixel of the tile.
        counts: (zones, 256) int64; the counts are added to it.
    """
    # Pixels are read eight at a time; what fills the last eight is not counted.
    padded = np.pad(pixels, ((0, 0), (0, -pixels.shape[1] % 8))) if pixels.shape[1] % 8 else pixels
    words = np.ascontiguousarray(padded).view(np.uint64)
    _add_zone_counts(words, pixels.shape[1], zones, size, origin, counts)


@compiled
def _add_zone_counts(
    words: NDArray[np.uint64],
    width: int,
    zones: Bytes,
    size: tuple[int, int],
    origin: tuple[int, int],
    counts: Longs,
) -> None:
    """Count one box of pixels in one zone after the other."""
    height = words.shape[0]
    rows, columns = zones.shape
    top = 0
    while top < height:
        row = cell_of(origin[1] + top, 0, rows, size[1])
        bottom = min(height, end_of(row, 0, rows, size[1]) - origin[1])
        left, right = 0, 0
        while left < width:
            column = cell_of(origin[0] + left, 0, columns, size[0])
            zone = zones[row, column]
            # Cells of one zone side by side are one box.
            while right < width and zones[row, column] == zone:
                right = min(width, end_of(column, 0, columns, size[0]) - origin[0])
                column += 1
            _add_box(words, (left, top, right, bottom), counts[zone])
            left = right
        top = bottom


@compiled
def _add_box(words: NDArray[np.uint64], box: Box, counts: Longs) -> None:
    """Count the pixels of a box: whole words of eight, then what is left of words at its left and right edge."""
    first, last = (box[0] + 7) // 8, box[2] // 8
    if first > last:
        _add_words(words, (last, box[1], first, box[3]), box[0] % 8, box[2] % 8, counts)
        return
    _add_words(words, (first, box[1], last, box[3]), 0, 8, counts)
    if box[0] % 8:
        _add_words(words, (first - 1, box[1], first, box[3]), box[0] % 8, 8, counts)
    if box[2] % 8:
        _add_words(words, (last, box[1], last + 1, box[3]), 0, box[2] % 8, counts)


@compiled
def _add_words(words: NDArray[np.uint64], box: Box, begin: int, end: int, counts: Longs) -> None:
    """Count bytes ``begin`` to ``end`` of the words of a box: nearly every word is the one before again."""
    # A view of its own: indices from 0 on are known to be no negative ones, which halves the time.
    part = words[box[1] : box[3], box[0] : box[2]]
    if part.size == 0:
        return
    word, repeats = part[0, 0], 0
    for y in range(part.shape[0]):
        for x in range(part.shape[1]):
            if part[y, x] != word:
                for byte in range(begin, end):
                    counts[(word >> np.uint64(8 * byte)) & np.uint64(255)] += repeats
                word, repeats = part[y, x], 0
            repeats += 1
    for byte in range(begin, end):
        counts[(word >> np.uint64(8 * byte)) & np.uint64(255)] += repeats


@compiled
def _has_other(pixels: Bytes, box: Box, label: int) -> bool:
    """Whether any pixel of a box has another label."""
    for y in range(box[1], box[3]):
        for x in range(box[0], box[2]):
            if pixels[y, x] != label:
                return True
    return False


@compiled
def cut(
    pixels: Bytes,
    zones: Bytes,
    outside: int,
    size: tuple[int, int],
    level: int,
    origin: tuple[int, int],
    background: int,
    kept: int,
) -> bool:
    """Make background of the pixels of a tile that lie in one zone.

    Args:
        pixels: (h, w) labels; changed.
        zones: (H, W) zone of each cell.
        outside: The zone.
        size: The slide's level-0 width and height, px.
        level: The tile's level.
        origin: Left and top pixel of the tile, px of the level.
        background: The label.
        kept: A label that is never changed.

    Returns:
        Whether any pixel has another label after that.
    """
    height, width = pixels.shape
    rows, columns = zones.shape
    others = False
    top = 0
    while top < height:
        row = cell_of(origin[1] + top, level, rows, size[1])
        bottom = min(height, end_of(row, level, rows, size[1]) - origin[1])
        left = 0
        while left < width:
            column = cell_of(origin[0] + left, level, columns, size[0])
            right = min(width, end_of(column, level, columns, size[0]) - origin[0])
            if zones[row, column] == outside:
                for y in range(top, bottom):
                    for x in range(left, right):
                        if pixels[y, x] == kept:
                            others = True
                        else:
                            pixels[y, x] = background
            else:
                others = others or _has_other(pixels, (left, top, right, bottom), background)
            left = right
        top = bottom
    return others
