"""Exact linear interpolation of class probabilities in the warped mesh: pieces, and the kernels over them.

The samples of a field are the vertices of a lattice, and each quad of four neighbours is two triangles, cut
from its first corner (row i, column j) to its last (i + 1, j + 1). In a triangle the probability of a class
is linear; the pixel takes the class with the highest. Around the lattice the field goes on without end: beyond
each edge between two border samples lies a *strip* in which the probabilities change along the border only,
as they do on the edge; beyond each corner sample a *quadrant* with the probabilities of that sample. This is
the mesh with its border samples copied straight out, to any distance, so it joins without a step, and a pixel
half a cell outside the outermost sample centres sees what it would see on the border.

Triangles, strips and quadrants are the *pieces* of a field. Together they cover the plane whatever the grid
does: a closed surface whose rim runs once around a point covers that point, folded or not. Where a fold
covers a pixel more than once, the piece with the lowest number decides; pieces without area decide nothing.

Pruning
    A box of pixels carries the pieces that meet it. A piece whose corners all have one best class has it
    everywhere, since the weights of a mean do not turn an order around. A piece with several classes still
    has one all over a box when that class wins at the four corners of the box (clipped to the piece's own
    box), since both sides of each comparison are linear. When all pieces of a box say one class, the box is
    done and nothing below is visited; so the cost follows the borders between classes.

Exactness
    Probabilities are whole numbers and so is twice the area of a triangle: every comparison is one of int64,
    and a pixel's class depends on the pixel alone, not on the box, tile or region in which it was asked for.

Convention:
    Units, kept rectangles and order as in `quadtree.py`. Pieces are numbered within their field: triangles
    (cell by cell, row by row, the one that holds the cell's top right corner first), strips above, below,
    left and right, quadrants top left, top right, bottom left, bottom right. Ties between classes go to the
    lower index.
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
from wsi_deform.deform.pieces import (
    QUADRANT,
    TRIANGLE,
    Edge,
    edges_of,
    misses,
    piece_of,
    span_of,
    value_at,
)

Scores = NDArray[np.uint16]

_SMALL_BOX_PX = 4


@compiled
def _best(scores: Scores, kind: int, a: Any, b: Any, c: Any, weights: tuple[Any, Any, Any]) -> int:
    """The class with the highest weighted sum of scores, the lower index on ties."""
    best, most = 0, np.int64(-1 << 62)
    for each in range(scores.shape[1]):
        score = weights[0] * scores[a, each] + weights[1] * scores[b, each]
        if kind == TRIANGLE:
            score += weights[2] * scores[c, each]
        if score > most:
            best, most = each, score
    return best


@compiled
def _label_in(
    samples: Ints,
    scores: Scores,
    kind: int,
    a: Any,
    b: Any,
    c: Any,
    edges: tuple[Edge, Edge, Edge],
    box: Box,
) -> int:
    """The one class of a piece in a box of centres, or MIXED; the box lies in the piece's own box."""
    label = samples[a, 2]
    if samples[b, 2] == label and samples[c, 2] == label:
        return int(label)
    found = NONE_YET
    for corner in range(4):
        x = box[0] if corner & 1 else box[2]
        y = box[1] if corner & 2 else box[3]
        weights = (value_at(edges[0], x, y), value_at(edges[1], x, y), value_at(edges[2], x, y))
        here = _best(scores, kind, a, b, c, weights)
        if found == NONE_YET:
            found = here
        elif here != found:
            return MIXED
    return found


@compiled
def _keep_meeting(
    samples: Ints,
    scores: Scores,
    lattice: Longs,
    source: Ints,
    source_labels: Ints,
    begin: int,
    end: int,
    target: Ints,
    target_labels: Ints,
    at: int,
    centres: Box,
) -> tuple[int, int]:
    """Copy the pieces that meet a box of centres, in order, and say the class that they agree on.

    Args:
        samples: (N, 3) x, y (units) and best class of every sample.
        scores: (N, C) whole-numbered probabilities.
        lattice: (4,) first sample, width, height and full score of the field's lattice.
        source: Pieces, ascending within ``begin:end``.
        source_labels: The class of each all over the box that it was copied for, or MIXED.
        begin: First piece in ``source``.
        end: One past the last.
        target: Where to write; may be ``source`` itself when ``at >= end``.
        target_labels: Receives the class of each in this box, or MIXED.
        at: Where in ``target`` to write the first.
        centres: First x, first y, last x, last y, units.

    Returns:
        One past the last entry written, and the class of all pieces or MIXED.
    """
    common = NONE_YET
    for i in range(begin, end):
        number, label = source[i], int(source_labels[i])
        kind, a, b, c = piece_of(samples, lattice, number)
        span = span_of(samples, kind, a, b, c)
        box = (
            max(span[0], centres[0]),
            max(span[1], centres[1]),
            min(span[2], centres[2]),
            min(span[3], centres[3]),
        )
        if box[0] > box[2] or box[1] > box[3]:
            continue
        edges = edges_of(samples, kind, a, b, c)
        if kind == TRIANGLE:
            if value_at(edges[0], samples[a, 0], samples[a, 1]) == 0:
                continue  # no area
            if misses(edges[0], box) or misses(edges[1], box) or misses(edges[2], box):
                continue
        elif kind < QUADRANT and (span[0] == span[2] or span[1] == span[3] or misses(edges[2], box)):
            continue
        if label == MIXED:
            label = _label_in(samples, scores, kind, a, b, c, edges, box)
        common = merged(common, label)
        target[at], target_labels[at] = number, label
        at += 1
    return at, common


@compiled
def prune(
    samples: Ints,
    scores: Scores,
    lattices: Longs,
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
    """Keep the fields that reach a box of level-0 pixels, and of each the pieces that meet it.

    Args:
        samples: (N, 3) x, y (units) and best class of every sample.
        scores: (N, C) whole-numbered probabilities.
        lattices: (F, 4) first sample, width, height and full score of each field's lattice.
        kept: (F, 4) left, top, right, bottom of each field's kept rectangle, level-0 px.
        outside_label: Label of pixels that no field owns.
        fields: (n,) fields that may reach the box.
        starts: (n + 1,) where each one's candidates begin in ``candidates``.
        candidates: Pieces, field after field, ascending in each.
        box: Left, top, right, bottom, level-0 px; all pixels of the levels in question lie wholly in or out.
        near_fields: (>= n,) receives the fields that stay.
        near_starts: (>= n + 1,) receives where their candidates begin.
        near_candidates: (>= as many as there are) receives the candidates that stay.

    Returns:
        How many fields stay, and the one label of the box or MIXED.
    """
    label, count, at = NONE_YET, 0, 0
    not_kept = (box[2] - box[0]) * (box[3] - box[1])
    unknown = np.full(candidates.shape[0], MIXED, np.int32)
    labels = np.empty(candidates.shape[0], np.int32)
    for i in range(fields.shape[0]):
        field = fields[i]
        centres, kept_count = kept_centres(kept, field, box)
        if kept_count == 0:
            continue
        not_kept -= kept_count
        near_fields[count] = field
        near_starts[count] = at
        count += 1
        lattice = lattices[field]
        at, common = _keep_meeting(
            samples,
            scores,
            lattice,
            candidates,
            unknown,
            starts[i],
            starts[i + 1],
            near_candidates,
            labels,
            at,
            centres,
        )
        label = merged(label, common)
    near_starts[count] = at
    if label == NONE_YET:
        label = outside_label
    elif not_kept > 0 and label != outside_label:
        label = MIXED
    return count, label


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
                    label = int(labels[i]) if labels[i] != MIXED else _best(scores, kind, a, b, c, weights)
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
    room = most * (halvings_of(out.shape[0], out.shape[1]) + 2)  # as in quadtree.render
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
            end, label = _keep_meeting(
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
