"""Classes and probabilities of the pixels of one level, interpolated in the warped mesh; see `mesh.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import (
    MIXED,
    NONE_YET,
    STACK_DEPTH,
    Box,
    Ints,
    Longs,
    compiled,
    halvings_of,
    kept_pixels,
    merged,
    put_box,
)
from wsi_deform.reverse.mesh import Scores, best_class, keep_meeting
from wsi_deform.reverse.pieces import QUADRANT, TRIANGLE, edges_of, piece_of, span_of, value_at

_SMALL_BOX_PX = 4


@compiled
def _fill_box(
    samples: Ints,
    scores: Scores,
    lattice: Longs,
    pieces: Ints,
    labels: Ints,
    begin: int,
    end: int,
    level: int,
    box: Box,
    out: NDArray[Any],
    origin: tuple[int, int],
) -> int:
    """Fill a small box of pixels of one level: each by the first piece that holds its centre.

    Returns:
        The one label that was painted, or MIXED; a label may have been painted over.
    """
    common = NONE_YET
    left, top, right, bottom = box
    step = np.int64(2) << (level + 7)
    first_x, first_y = left * step + step // 2, top * step + step // 2
    for i in range(end - 1, begin - 1, -1):  # the first piece is painted last
        kind, a, b, c = piece_of(samples, lattice, pieces[i])
        e, f, g = edges_of(samples, kind, a, b, c)
        alone = end - begin == 1  # the pieces cover all, so this one holds all
        for row in range(top, bottom):
            y = first_y + (row - top) * step
            for column in range(left, right):
                x = first_x + (column - left) * step
                weights = (value_at(e, x, y), value_at(f, x, y), value_at(g, x, y))
                if alone or (weights[0] >= 0 and weights[1] >= 0 and weights[2] >= 0):
                    label = (
                        int(labels[i]) if labels[i] != MIXED else best_class(scores, kind, a, b, c, weights)
                    )
                    out[row - origin[1], column - origin[0]] = label
                    common = merged(common, label)
    return int(common)


@compiled
def render(
    samples: Ints,
    scores: Scores,
    lattices: Longs,
    kept: Longs,
    outside_label: int,
    fields: Ints,
    starts: Longs,
    candidates: Ints,
    level: int,
    origin: tuple[int, int],
    out: NDArray[Any],
) -> int:
    """Fill a rectangle of one level, all of it, from the fields and pieces that `prune` kept for it.

    Args:
        samples: (N, 3) x, y (units) and best class of every sample.
        scores: (N, C) whole-numbered probabilities.
        lattices: (F, 4) first sample, width, height and full score of each field's lattice.
        kept: (F, 4) left, top, right, bottom of each field's kept rectangle, level-0 px.
        outside_label: Label of pixels that no field owns.
        fields: (n,) fields that may reach the rectangle.
        starts: (n + 1,) where each one's candidates begin in ``candidates``.
        candidates: Pieces, field after field, ascending in each.
        level: The level; its pixels are 2^level level-0 pixels wide.
        origin: Column and row of the rectangle's first pixel.
        out: (H, W) receives the labels.

    Returns:
        The one label of all pixels, or MIXED. MIXED may also be said of one label, rarely.
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
    most = np.max(starts[1:] - starts[:-1]) if fields.shape[0] else 0
    room = most * (halvings_of(out.shape[0], out.shape[1]) + 2)  # as in nearest_pixels.render
    lists, labels = np.empty(room, np.int32), np.empty(room, np.int32)
    boxes = np.empty((STACK_DEPTH, 6), np.int64)
    for i in range(fields.shape[0]):
        field = fields[i]
        lattice = lattices[field]
        count = starts[i + 1] - starts[i]
        lists[:count] = candidates[starts[i] : starts[i + 1]]
        labels[:count] = MIXED
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
            end, label = keep_meeting(
                samples,
                scores,
                lattice,
                lists,
                labels,
                boxes[waiting, 4],
                begin,
                lists,
                labels,
                begin,
                centres,
            )
            width, height = right - left, bottom - top
            if label != MIXED:
                for row in range(top - origin[1], bottom - origin[1]):
                    for column in range(left - origin[0], right - origin[0]):
                        out[row, column] = label
                common = merged(common, label)
            elif max(width, height) <= _SMALL_BOX_PX:
                box = (left, top, right, bottom)
                label = _fill_box(
                    samples, scores, lattice, lists, labels, begin, end, level, box, out, origin
                )
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
def render_scores(
    samples: Ints,
    scores: Scores,
    lattices: Longs,
    kept: Longs,
    fields: Ints,
    starts: Longs,
    candidates: Ints,
    level: int,
    origin: tuple[int, int],
    out: NDArray[np.uint8],
) -> None:
    """Interpolate the probabilities of all classes over a rectangle of one level; 0 where no field keeps.

    Args:
        samples: (N, 3) x, y (units) and best class of every sample.
        scores: (N, C) whole-numbered probabilities.
        lattices: (F, 4) first sample, width, height and full score of each field's lattice.
        kept: (F, 4) left, top, right, bottom of each field's kept rectangle, level-0 px.
        fields: (n,) fields that may reach the rectangle.
        starts: (n + 1,) where each one's candidates begin in ``candidates``.
        candidates: Pieces, field after field, ascending in each.
        level: The level; its pixels are 2^level level-0 pixels wide.
        origin: Column and row of the rectangle's first pixel.
        out: (C, H, W) receives them, 255 for 1.
    """
    half = np.int64(1) << (level + 7)
    pixel = 2 * half
    out[:, :, :] = 0
    for i in range(fields.shape[0]):
        field = fields[i]
        left, top, right, bottom = kept_pixels(kept, field, level, origin, out.shape[1:])
        for j in range(starts[i + 1] - 1, starts[i] - 1, -1):  # the first piece is painted last
            kind, a, b, c = piece_of(samples, lattices[field], candidates[j])
            span = span_of(samples, kind, a, b, c)
            if kind < QUADRANT and (span[0] == span[2] or span[1] == span[3]):
                continue
            e, f, g = edges_of(samples, kind, a, b, c)
            first_row = max(top, (span[1] + half - 1) // pixel)
            last_row = min(bottom - 1, (span[3] - half) // pixel)
            first_column = max(left, (span[0] + half - 1) // pixel)
            last_column = min(right - 1, (span[2] - half) // pixel)
            for row in range(first_row, last_row + 1):
                y = row * pixel + half
                for column in range(first_column, last_column + 1):
                    x = column * pixel + half
                    of_a, of_b, of_c = value_at(e, x, y), value_at(f, x, y), value_at(g, x, y)
                    if of_a < 0 or of_b < 0 or of_c < 0:
                        continue
                    if kind >= QUADRANT:
                        of_a, of_b = 1, 0
                    if kind != TRIANGLE:
                        of_c = 0
                    total = of_a + of_b + of_c
                    if total == 0:
                        continue
                    share = 255.0 / (float(total) * lattices[field, 3])
                    for each in range(scores.shape[1]):
                        score = float(of_a) * scores[a, each] + float(of_b) * scores[b, each]
                        score += float(of_c) * scores[c, each]
                        out[each, row - origin[1], column - origin[0]] = int(score * share + 0.5)
