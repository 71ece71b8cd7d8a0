"""Exact nearest-sample labels of whole pyramids: the pruned quadtree.

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
    (column, row) of level k, so one traversal yields every level (`sampler.py` walks it). Its test covers the
    pixel centres of levels 0..k, so a node of one label is constant in all of them. Other nodes are rendered
    (`nearest_pixels.py`): the tile is cut into squares, which are halved again and again by the same test over the
    centres of level k alone, until a box has one label, or lies between two samples, whose bisector cuts each row
    once, or is so small that comparing its few candidates at each pixel costs less than halving it again.

Convention:
    Kernels count in whole *units* of 1/256 level-0 pixel; pixel x of level k has its centre at ``(2 x + 1) <<
    (k + 7)`` units. Coordinates stay below 2^30 units, so squared distances stay below 2^62 and int64 holds
    every number exactly. A box of pixels never includes its right and bottom edge; a box of centres includes
    its last centre. Samples are stored field after field; a field owns the pixels whose centres lie in its
    kept rectangle.
"""

from __future__ import annotations

import numpy as np

from wsi_deform.kernels.compiled import (
    MIXED,
    NONE_YET,
    Box,
    Ints,
    Longs,
    compiled,
    kept_centres,
    merged,
    room_for,
    with_outside,
)


@compiled
def keep_near(samples: Ints, source: Ints, begin: int, end: int, target: Ints, at: int, centres: Box) -> int:
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
        target[at] = s  # the next one takes its place if it is not kept: no branch that cannot be foreseen
        at += 1 if least < 0 or (least == 0 and s <= nearest) else 0
    return at


@compiled
def common_label(samples: Ints, candidates: Ints, begin: int, end: int) -> int:
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
    boxes: Longs,
) -> tuple[Longs, Longs, Ints, Longs, Ints]:
    """Keep the fields that reach each of several boxes of level-0 pixels, and of each the samples that may win in it.

    Args:
        samples: (N, 3) x, y (units) and label of every sample.
        kept: (F, 4) left, top, right, bottom of each field's kept rectangle, level-0 px.
        outside_label: Label of pixels that no field owns.
        fields: (n,) fields that may reach the boxes.
        starts: (n + 1,) where each one's candidates begin in ``candidates``.
        candidates: Rows of ``samples``, field after field, ascending in each.
        boxes: (B, 4) left, top, right, bottom, level-0 px; all pixels of the levels in question lie wholly in or out.

    Returns:
        (B,) the one label of each box or MIXED; (B + 1,) where the fields of each box begin; and the fields, starts
        and candidates that stay, box after box, with `starts` from the first box on.
    """
    labels, ends = np.empty(boxes.shape[0], np.int64), np.zeros(boxes.shape[0] + 1, np.int64)
    near_fields, near_starts, near_candidates = room_for(fields, starts, boxes)
    count, at = 0, 0
    for b in range(boxes.shape[0]):
        box = (boxes[b, 0], boxes[b, 1], boxes[b, 2], boxes[b, 3])
        label = NONE_YET
        not_kept = (box[2] - box[0]) * (box[3] - box[1])
        for i in range(fields.shape[0]):
            centres, kept_count = kept_centres(kept, fields[i], box)
            if kept_count == 0:
                continue
            not_kept -= kept_count
            begin, at = (
                at,
                keep_near(samples, candidates, starts[i], starts[i + 1], near_candidates, at, centres),
            )
            if label != MIXED:
                label = merged(label, common_label(samples, near_candidates, begin, at))
            near_fields[count] = fields[i]
            near_starts[count + 1] = at
            count += 1
        labels[b] = with_outside(label, outside_label, not_kept)
        ends[b + 1] = count
    return (
        labels,
        ends,
        near_fields[:count].copy(),
        near_starts[: count + 1].copy(),
        near_candidates[:at].copy(),
    )
