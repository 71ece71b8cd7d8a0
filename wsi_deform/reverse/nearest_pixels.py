"""Nearest-sample labels of the pixels of one level: a tile is cut into squares, and these until they are easy to fill.

A tile has thousands of candidates; each square looks only at those in the squares around it. Where these have one
label, it is filled, together with its neighbours; elsewhere it is halved by the test of `quadtree.py`, whose
convention this is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import (
    MIXED,
    NONE_YET,
    STACK_DEPTH,
    Box,
    Frame,
    Ints,
    Longs,
    compiled,
    halvings_of,
    kept_pixels,
    merged,
    paint,
    paint_box,
    put_box,
)
from wsi_deform.reverse.quadtree import common_label, keep_near
from wsi_deform.reverse.squares import in_squares, near_square

_SMALL_BOX_PX = 4
_PER_SQUARE = 16
"""Candidates of a square on average, or up to half as many and twice as many: its side is 2^n px."""


@compiled
def _fill_box(
    samples: Ints,
    candidates: Ints,
    begin: int,
    end: int,
    level: int,
    box: Box,
    out: NDArray[Any],
    frame: Frame,
) -> int:
    """Fill a small box of pixels of one level: each by its nearest candidate, the lower index on ties.

    Returns:
        The one label of the box, or MIXED.
    """
    common = NONE_YET
    left, top, right, bottom = box
    for row in range(top, bottom):
        centre_y = np.int64(2 * row + 1) << (level + 7)
        for column in range(left, right):
            centre_x = np.int64(2 * column + 1) << (level + 7)
            winner = candidates[begin]
            dx, dy = samples[winner, 0] - centre_x, samples[winner, 1] - centre_y
            winner_square = dx * dx + dy * dy
            for i in range(begin + 1, end):
                s = candidates[i]
                dx, dy = samples[s, 0] - centre_x, samples[s, 1] - centre_y
                square = dx * dx + dy * dy
                if square < winner_square:
                    winner, winner_square = s, square
            label = int(samples[winner, 2])
            out[(row - frame[1]) * frame[2] + column - frame[0]] = label
            common = merged(common, label)
    return int(common)


@compiled
def _fill_halves(
    samples: Ints, first: int, second: int, level: int, box: Box, out: NDArray[Any], frame: Frame
) -> int:
    """Fill a box of pixels between two samples, the first of which wins ties: cut every row at the bisector.

    Returns:
        The one label of the box, or MIXED.
    """
    left, top, right, bottom = box
    pixel, half = np.int64(2) << (level + 7), np.int64(1) << (level + 7)
    first_x, first_y = np.int64(samples[first, 0]), np.int64(samples[first, 1])
    second_x, second_y = np.int64(samples[second, 0]), np.int64(samples[second, 1])
    # ahead(p) = |p - second|^2 - |p - first|^2 is linear in p: the first wins where it is 0 or more.
    x, y = left * pixel + half, top * pixel + half
    ahead = (second_x - x) ** 2 + (second_y - y) ** 2 - (first_x - x) ** 2 - (first_y - y) ** 2
    per_column = 2 * (first_x - second_x) * pixel
    per_row = 2 * (first_y - second_y) * pixel
    before, behind = samples[first, 2], samples[second, 2]
    if per_column > 0:
        before, behind = behind, before
    common = NONE_YET
    width = right - left
    for row in range(top - frame[1], bottom - frame[1]):
        if per_column < 0:  # as many pixels as keep the first ahead
            cut = ahead // -per_column + 1
        elif per_column > 0:  # as many as it takes until it is
            cut = -(ahead // per_column)
        else:
            cut = np.int64(width if ahead >= 0 else 0)
        cut = min(max(cut, np.int64(0)), np.int64(width))
        begin = row * frame[2] + left - frame[0]
        paint(out, begin, cut, before)
        paint(out, begin + cut, width - cut, behind)
        if cut > 0:
            common = merged(common, before)
        if cut < width:
            common = merged(common, behind)
        ahead += per_row
    return int(common)


@compiled
def _sort(candidates: Ints, begin: int, end: int) -> None:
    """Put a few in ascending order: on ties the first is nearest."""
    for i in range(begin + 1, end):
        each, at = candidates[i], i
        while at > begin and candidates[at - 1] > each:
            candidates[at] = candidates[at - 1]
            at -= 1
        candidates[at] = each


@compiled
def _fill_by_halving(
    samples: Ints,
    lists: Ints,
    count: int,
    whole: Box,
    level: int,
    boxes: Longs,
    out: NDArray[Any],
    frame: Frame,
) -> int:
    """Fill a box of pixels by halving it until its parts have one label, lie between two samples or are small.

    Args:
        samples: (N, 3) x, y (units) and label of every sample.
        lists: Begins with the candidates of the box, in any order; the rest is room.
        count: Of them.
        whole: Left, top, right, bottom, px of the level.
        level: The level.
        boxes: (STACK_DEPTH, 6), room.
        out: (H * W,) receives the labels.
        frame: Of ``out``.

    Returns:
        The one label of the box, or MIXED.
    """
    half = np.int64(1) << (level + 7)
    pixel = 2 * half
    common = NONE_YET
    put_box(boxes, 0, whole, 0, count)
    waiting = 1
    while waiting > 0:
        waiting -= 1
        left, top = boxes[waiting, 0], boxes[waiting, 1]
        right, bottom = boxes[waiting, 2], boxes[waiting, 3]
        # The candidates of a box follow, in one long list, those of the box that it is half of: room for one list
        # per halving is enough, and only what is written to takes memory.
        begin = boxes[waiting, 5]
        centres = (left * pixel + half, top * pixel + half, right * pixel - half, bottom * pixel - half)
        end = keep_near(samples, lists, boxes[waiting, 4], begin, lists, begin, centres)
        width, height = right - left, bottom - top
        box = (left, top, right, bottom)
        label = common_label(samples, lists, begin, end)
        if label != MIXED:
            paint_box(out, frame, box, label)
            common = merged(common, label)
        elif end - begin == 2:
            _sort(lists, begin, end)
            label = _fill_halves(samples, lists[begin], lists[begin + 1], level, box, out, frame)
            common = merged(common, label)
        elif max(width, height) <= _SMALL_BOX_PX:
            _sort(lists, begin, end)
            label = _fill_box(samples, lists, begin, end, level, box, out, frame)
            common = merged(common, label)
        elif width >= height:
            middle = left + width // 2
            put_box(boxes, waiting, (left, top, middle, bottom), begin, end)
            put_box(boxes, waiting + 1, (middle, top, right, bottom), begin, end)
            waiting += 2
        else:
            middle = top + height // 2
            put_box(boxes, waiting, (left, top, right, middle), begin, end)
            put_box(boxes, waiting + 1, (left, middle, right, bottom), begin, end)
            waiting += 2
    return int(common)


@compiled
def render(
    samples: Ints,
    kept: Longs,
    outside_label: int,
    fields: Ints,
    starts: Longs,
    candidates: Ints,
    level: int,
    origin: tuple[int, int],
    out: NDArray[Any],
) -> int:
    """Fill a rectangle of one level, all of it, from the fields and candidates that `prune` kept for it.

    Args:
        samples: (N, 3) x, y (units) and label of every sample.
        kept: (F, 4) left, top, right, bottom of each field's kept rectangle, level-0 px.
        outside_label: Label of pixels that no field owns.
        fields: (n,) fields that may reach the rectangle.
        starts: (n + 1,) where each one's candidates begin in ``candidates``.
        candidates: Rows of ``samples``, field after field, ascending in each.
        level: The level; its pixels are 2^level level-0 pixels wide.
        origin: Column and row of the rectangle's first pixel.
        out: (H, W) receives the labels.

    Returns:
        The one label of all pixels, or MIXED.
    """
    pixel = 1 << (level + 8)  # units
    half = pixel >> 1
    common = NONE_YET
    not_kept = out.size
    for i in range(fields.shape[0]):
        left, top, right, bottom = kept_pixels(kept, fields[i], level, origin, out.shape)
        not_kept -= max(0, right - left) * max(0, bottom - top)
    if not_kept > 0:
        out[:, :] = outside_label
        common = outside_label
    most = np.max(starts[1:] - starts[:-1]) if fields.shape[0] else 0
    flat, frame = out.reshape(-1), (origin[0], origin[1], out.shape[1])
    lists = np.empty(most * (halvings_of(out.shape[0], out.shape[1]) + 2), np.int32)
    boxes = np.empty((STACK_DEPTH, 6), np.int64)
    for i in range(fields.shape[0]):
        left, top, right, bottom = kept_pixels(kept, fields[i], level, origin, out.shape)
        if left >= right or top >= bottom:
            continue
        mine = candidates[starts[i] : starts[i + 1]]
        shift = 0
        while (2 * mine.shape[0]) << (2 * shift) < _PER_SQUARE * (right - left) * (bottom - top):
            shift += 1
        ordered, begins, labels, columns, rows = in_squares(
            samples, mine, (left, top, right, bottom), level, shift
        )
        corner = (left * pixel, top * pixel)
        for row in range(rows):
            y, y_end = top + (row << shift), min(top + ((row + 1) << shift), bottom)
            run, run_x = MIXED, left  # Squares of one label that follow each other are filled together.
            for column in range(columns + 1):
                x, x_end = left + (column << shift), min(left + ((column + 1) << shift), right)
                label, count = MIXED, 0
                if column < columns:
                    label, count = near_square(
                        ordered,
                        begins,
                        labels,
                        (columns, rows),
                        (column, row),
                        (x * pixel + half, y * pixel + half, x_end * pixel - half, y_end * pixel - half),
                        corner,
                        shift + level + 8,
                        lists,
                    )
                if run != MIXED and run != label:
                    paint_box(flat, frame, (run_x, y, min(x, right), y_end), run)
                    common = merged(common, run)
                if run != label:
                    run, run_x = label, x
                if count > 0:
                    label = _fill_by_halving(
                        samples, lists, count, (x, y, x_end, y_end), level, boxes, flat, frame
                    )
                    common = merged(common, label)
    return int(common)
