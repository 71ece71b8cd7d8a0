"""Squares of a tile: which samples may be nearest to some pixel of each, found among those in the squares around it.

The convention of `quadtree.py`: places are whole units of 1/256 level-0 pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wsi_deform.kernels.compiled import MIXED, NONE_YET, Box, Ints, Longs, compiled, merged


@compiled
def _square_at(units: Any, step: int, count: int) -> int:
    """Which of a row of squares of 2^step units a place lies in, or is next to."""
    return int(min(max(units >> step, 0), count - 1))


@compiled
def in_squares(
    samples: Ints, candidates: Ints, box: Box, level: int, shift: int
) -> tuple[Ints, Longs, Longs, int, int]:
    """Put candidates in the order of the squares that they lie in; those outside of all belong to the next one.

    Args:
        samples: (N, 3) x, y (units) and label of every sample.
        candidates: (n,) rows of ``samples``.
        box: What is cut into squares from its left and top edge on, px of the level.
        level: The level.
        shift: Squares are 2^shift px long.

    Returns:
        (n, 3) x, y and row of the candidates; (S + 1,) where those of each square begin, square after square, row after
        row; (S,) the one label in each, MIXED or NONE_YET; and how many columns and rows of squares there are.
    """
    columns, rows = ((box[2] - box[0] - 1) >> shift) + 1, ((box[3] - box[1] - 1) >> shift) + 1
    left, top = np.int64(box[0]) << (level + 8), np.int64(box[1]) << (level + 8)
    step = shift + level + 8
    squares = np.empty(candidates.shape[0], np.int64)
    starts = np.zeros(columns * rows + 1, np.int64)
    labels = np.full(columns * rows, NONE_YET, np.int64)
    for i in range(candidates.shape[0]):
        s = candidates[i]
        square = _square_at(samples[s, 1] - top, step, rows) * columns
        square += _square_at(samples[s, 0] - left, step, columns)
        squares[i] = square
        starts[square + 1] += 1
        labels[square] = merged(labels[square], samples[s, 2])
    for square in range(columns * rows):
        starts[square + 1] += starts[square]
    ordered = np.empty((candidates.shape[0], 3), np.int32)
    free = starts[:-1].copy()
    for i in range(candidates.shape[0]):
        s, at = candidates[i], free[squares[i]]
        ordered[at, 0], ordered[at, 1], ordered[at, 2] = samples[s, 0], samples[s, 1], s
        free[squares[i]] += 1
    return ordered, starts, labels, columns, rows


@compiled
def near_square(
    ordered: Ints,
    starts: Longs,
    labels: Longs,
    grid: tuple[int, int],
    place: tuple[int, int],
    centres: Box,
    corner: tuple[int, int],
    step: int,
    near: Ints,
) -> tuple[int, int]:
    """The one label that a square can have, or what may be nearest to some point of it.

    Some candidate lies within D of its middle, so within D + h of each of its centres, h being half their diagonal.
    What is farther than that from all of them is in none of the squares that are looked at.

    Args:
        ordered: As ``in_squares`` returns it, as are ``starts`` and ``labels``.
        starts: (S + 1,).
        labels: (S,).
        grid: Columns and rows of squares.
        place: Column and row of this one.
        centres: First x, first y, last x, last y of its pixels' centres, units.
        corner: Left and top edge of the first square, units.
        step: Squares are 2^step units long.
        near: Receives candidates where there is not one label.

    Returns:
        Label or MIXED, and the number of candidates in ``near``.
    """
    left, top, right, bottom = centres
    middle_x, middle_y = (left + right) >> 1, (top + bottom) >> 1
    columns, rows = grid
    square_distance = np.int64(-1)
    reach = 0
    while square_distance < 0:
        for row in range(max(place[1] - reach, 0), min(place[1] + reach + 1, rows)):
            first = row * columns + max(place[0] - reach, 0)
            last = row * columns + min(place[0] + reach, columns - 1)
            for i in range(starts[first], starts[last + 1]):
                dx, dy = ordered[i, 0] - middle_x, ordered[i, 1] - middle_y
                square = dx * dx + dy * dy
                if square_distance < 0 or square < square_distance:
                    square_distance = square
        reach += 1
    width, height = right - left, bottom - top
    diagonal = np.sqrt(np.float64(width * width + height * height))
    # Two units more than any rounding.
    distance = np.int64(np.sqrt(np.float64(square_distance)) + diagonal / 2) + 2
    first_column = _square_at(left - distance - corner[0], step, columns)
    last_column = _square_at(right + distance - corner[0], step, columns)
    first_row = _square_at(top - distance - corner[1], step, rows)
    last_row = _square_at(bottom + distance - corner[1], step, rows)
    label = NONE_YET
    for row in range(first_row, last_row + 1):
        for each in range(row * columns + first_column, row * columns + last_column + 1):
            if labels[each] != NONE_YET:
                label = merged(label, labels[each])
    count = 0
    if label == MIXED:
        for row in range(first_row, last_row + 1):
            for i in range(starts[row * columns + first_column], starts[row * columns + last_column + 1]):
                near[count] = ordered[i, 2]
                count += 1
    return int(label), count
