"""Exact nearest-sample labels of whole pyramids: the pruned quadtree and its compiled kernels.

The label of a mask pixel is the label of the nearest sample (a Voronoi diagram of the samples, in pixels). A
slide has 10^10 pixels and 10^5 samples, so almost no pixel can be looked at. Instead, boxes of pixels are: a
box carries its *candidates*, the samples that may be nearest to some point of it. Where all candidates have
one label, the whole box has that label, and nothing inside it is visited.

The pruning test
    Let q be the candidate nearest to the centre c of a box with half-sides h. Another candidate s loses to q
    all over the box when ``f(p) = |p - s|^2 - |p - q|^2`` is positive for every point p of it. The squares of
    p cancel:

        f(c + v) = f(c) + 2 v . (q - s)

    is linear in the offset v, so its least value over ``|v_x| <= h_x, |v_y| <= h_y`` is at a corner:

        min f = f(c) - 2 (|q_x - s_x| h_x + |q_y - s_y| h_y)

    s is dropped when ``min f > 0``, or when ``min f = 0`` and q has the lower index, since ties go to the
    lower index. This decides "does q beat s everywhere?" exactly and in O(1): no winner is ever dropped, at
    any pixel. What remains is a superset of the winners, small once the box is about as small as the distance
    between samples.

Two trees are one
    A node (k, column, row) of the outer tree covers ``tile_px * 2^k`` level-0 pixels per side and *is* tile
    (column, row) of level k, so one traversal yields every level (`reverse.py` walks it). Its test covers the
    pixel centres of levels 0..k, so a node of one label is constant in all of them. Other nodes are rendered:
    the tile is halved again and again by the same test over the centres of level k alone, until a box has one
    label or is so small that comparing its few candidates at each pixel costs less than halving it again.

Convention:
    Kernels count in whole *units* of 1/256 level-0 pixel; pixel x of level k has its centre at ``(2 x + 1) <<
    (k + 7)`` units. Coordinates stay below 2^30 units, so squared distances stay below 2^62 and int64 holds
    every number exactly. A box of pixels never includes its right and bottom edge; a box of centres includes
    its last centre. Samples are stored field after field; a field owns the pixels whose centres lie in its
    kept rectangle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.deform.compiled import (
    MIXED,
    NONE_YET,
    STACK_DEPTH,
    Box,
    Ints,
    Longs,
    compiled,
    halvings_of,
    kept_centres,
    kept_pixels,
    merged,
    put_box,
)

_SMALL_BOX_PX = 4


@compiled
def _keep_near(samples: Ints, source: Ints, begin: int, end: int, target: Ints, at: int, centres: Box) -> int:
    """Copy the candidates that may win somewhere in a box of centres, in order.

    Args:
        samples: (N, 3) x, y (units) and label of every sample.
        source: Candidates (rows of ``samples``), ascending within ``begin:end``.
        begin: First candidate in ``source``.
        end: One past the last.
        target: Where to write; may be ``source`` itself when ``at >= end``.
        at: Where in ``target`` to write the first.
        centres: First x, first y, last x, last y of the centres, units; their sums per axis are even.

    Returns:
        One past the last entry written to ``target``.
    """
    left, top, right, bottom = centres
    centre_x, centre_y = (left + right) >> 1, (top + bottom) >> 1
    width, height = right - left, bottom - top  # 2 h_x and 2 h_y
    nearest, nearest_square = -1, np.int64(0)
    for i in range(begin, end):
        s = source[i]
        dx, dy = samples[s, 0] - centre_x, samples[s, 1] - centre_y
        square = dx * dx + dy * dy
        if nearest < 0 or square < nearest_square:
            nearest, nearest_square = s, square
    nearest_x, nearest_y = np.int64(samples[nearest, 0]), np.int64(samples[nearest, 1])
    for i in range(begin, end):
        s = source[i]
        dx, dy = samples[s, 0] - centre_x, samples[s, 1] - centre_y
        least = dx * dx + dy * dy - nearest_square
        least -= abs(nearest_x - samples[s, 0]) * width + abs(nearest_y - samples[s, 1]) * height
        if least < 0 or (least == 0 and s <= nearest):
            target[at] = s
            at += 1
    return at


@compiled
def _fill_box(
    samples: Ints,
    candidates: Ints,
    begin: int,
    end: int,
    level: int,
    box: Box,
    out: NDArray[Any],
    origin: tuple[int, int],
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
            out[row - origin[1], column - origin[0]] = label
            common = merged(common, label)
    return int(common)


@compiled
def _common_label(samples: Ints, candidates: Ints, begin: int, end: int) -> int:
    """The label of all candidates, or MIXED."""
    label = samples[candidates[begin], 2]
    for i in range(begin + 1, end):
        if samples[candidates[i], 2] != label:
            return MIXED
    return int(label)


@compiled
def prune(
    samples: Ints,
    kept: Longs,
    outside_label: int,
    fields: Ints,
    starts: Longs,
    candidates: Ints,
    box: Box,
    near_fields: Ints,
    near_starts: Longs,
    near_candidates: Ints,
) -> tuple[int, int]:
    """Keep the fields that reach a box of level-0 pixels, and of each the samples that may win in it.

    Args:
        samples: (N, 3) x, y (units) and label of every sample.
        kept: (F, 4) left, top, right, bottom of each field's kept rectangle, level-0 px.
        outside_label: Label of pixels that no field owns.
        fields: (n,) fields that may reach the box.
        starts: (n + 1,) where each one's candidates begin in ``candidates``.
        candidates: Rows of ``samples``, field after field, ascending in each.
        box: Left, top, right, bottom, level-0 px; all pixels of the levels in question lie wholly in or out.
        near_fields: (>= n,) receives the fields that stay.
        near_starts: (>= n + 1,) receives where their candidates begin.
        near_candidates: (>= as many as there are) receives the candidates that stay.

    Returns:
        How many fields stay, and the one label of the box or MIXED.
    """
    left, top, right, bottom = box
    label, count, at = NONE_YET, 0, 0
    not_kept = (right - left) * (bottom - top)
    for i in range(fields.shape[0]):
        field = fields[i]
        centres, kept_count = kept_centres(kept, field, box)
        if kept_count == 0:
            continue
        not_kept -= kept_count
        near_fields[count] = field
        near_starts[count] = at
        count += 1
        end = _keep_near(samples, candidates, starts[i], starts[i + 1], near_candidates, at, centres)
        if label != MIXED:
            label = merged(label, _common_label(samples, near_candidates, at, end))
        at = end
    near_starts[count] = at
    if label == NONE_YET:
        label = outside_label
    elif not_kept > 0 and label != outside_label:
        label = MIXED
    return count, label


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
    half = np.int64(1) << (level + 7)  # half a pixel, units
    pixel = 2 * half
    common = NONE_YET
    not_kept = out.size
    for i in range(fields.shape[0]):
        left, top, right, bottom = kept_pixels(kept, fields[i], level, origin, out.shape)
        not_kept -= max(0, right - left) * max(0, bottom - top)
    if not_kept > 0:
        out[:, :] = outside_label
        common = outside_label
    # The candidates of a box follow, in one long list, those of the box that it is half of: room for one list
    # per halving is enough, and only what is written to takes memory.
    most = np.max(starts[1:] - starts[:-1]) if fields.shape[0] else 0
    lists = np.empty(most * (halvings_of(out.shape[0], out.shape[1]) + 2), np.int32)
    boxes = np.empty((STACK_DEPTH, 6), np.int64)
    for i in range(fields.shape[0]):
        field = fields[i]
        count = starts[i + 1] - starts[i]
        lists[:count] = candidates[starts[i] : starts[i + 1]]
        left, top, right, bottom = kept_pixels(kept, field, level, origin, out.shape)
        if left >= right or top >= bottom:
            continue
        put_box(boxes, 0, (left, top, right, bottom), 0, count)
        waiting = 1
        while waiting > 0:
            waiting -= 1
            left, top = boxes[waiting, 0], boxes[waiting, 1]
            right, bottom = boxes[waiting, 2], boxes[waiting, 3]
            begin = boxes[waiting, 5]
            centres = (left * pixel + half, top * pixel + half, right * pixel - half, bottom * pixel - half)
            end = _keep_near(samples, lists, boxes[waiting, 4], begin, lists, begin, centres)
            width, height = right - left, bottom - top
            label = _common_label(samples, lists, begin, end)
            if label != MIXED:
                out[top - origin[1] : bottom - origin[1], left - origin[0] : right - origin[0]] = label
                common = merged(common, label)
            elif max(width, height) <= _SMALL_BOX_PX:
                box = (left, top, right, bottom)
                label = _fill_box(samples, lists, begin, end, level, box, out, origin)
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
