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

Filling
    A tile that stays mixed is filled piece by piece, the first piece last, row by row: the columns of a row
    that a piece holds follow from its three half-planes by division, and along them the class changes where
    two sums of scores cross, also by division. No pixel is asked which class it has.

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

from wsi_deform.kernels.compiled import (
    MIXED,
    NONE_YET,
    Box,
    Ints,
    Longs,
    compiled,
    kept_centres,
    merged,
    with_outside,
)
from wsi_deform.reverse.pieces import (
    QUADRANT,
    TRIANGLE,
    Edge,
    edges_of,
    has_no_area,
    misses,
    piece_of,
    span_of,
    value_at,
)

Scores = NDArray[np.uint16]


@compiled
def best_class(scores: Scores, kind: int, a: Any, b: Any, c: Any, weights: tuple[Any, Any, Any]) -> int:
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
        here = best_class(scores, kind, a, b, c, weights)
        if found == NONE_YET:
            found = here
        elif here != found:
            return MIXED
    return found


@compiled
def _misses_box(kind: int, edges: tuple[Edge, Edge, Edge], box: Box) -> bool:
    """Whether a piece has no point in a box of centres, which lies in the piece's own box."""
    if kind == TRIANGLE and (misses(edges[0], box) or misses(edges[1], box)):
        return True
    return bool(kind < QUADRANT and misses(edges[2], box))


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
    boxes: Longs,
) -> tuple[Longs, Longs, Ints, Longs, Ints]:
    """Keep the fields that reach each of several boxes of level-0 pixels, and of each the pieces that meet it.

    Args:
        samples: (N, 3) x, y (units) and best class of every sample.
        scores: (N, C) whole-numbered probabilities.
        lattices: (F, 4) first sample, width, height and full score of each field's lattice.
        kept: (F, 4) left, top, right, bottom of each field's kept rectangle, level-0 px.
        outside_label: Label of pixels that no field owns.
        fields: (n,) fields that may reach the boxes.
        starts: (n + 1,) where each one's candidates begin in ``candidates``.
        candidates: Pieces, field after field, ascending in each.
        boxes: (B, 4) left, top, right, bottom, level-0 px; all pixels of the levels in question lie wholly in or out.

    Returns:
        As `quadtree.prune`.
    """
    count, total = boxes.shape[0], starts[-1] - starts[0]
    labels, not_kept = np.full(count, NONE_YET, np.int64), np.empty(count, np.int64)
    # A row per box, so that each piece is looked at once, whatever the number of boxes.
    near = np.empty((count, total), np.int32)
    stops = np.zeros((count, fields.shape[0] + 1), np.int64)
    keeps = np.zeros((count, fields.shape[0]), np.bool_)
    centres = np.empty((count, 4), np.int64)
    none = np.int64(0)
    no_edges = ((none, none, none, none), (none, none, none, none), (none, none, none, none))
    for at in range(count):
        not_kept[at] = (boxes[at, 2] - boxes[at, 0]) * (boxes[at, 3] - boxes[at, 1])
    for i in range(fields.shape[0]):
        for at in range(count):
            box = (boxes[at, 0], boxes[at, 1], boxes[at, 2], boxes[at, 3])
            of_box, kept_count = kept_centres(kept, fields[i], box)
            centres[at, 0], centres[at, 1], centres[at, 2], centres[at, 3] = of_box
            keeps[at, i] = kept_count > 0
            not_kept[at] -= kept_count
            stops[at, i + 1] = stops[at, i]
        if not keeps[:, i].any():
            continue
        for j in range(starts[i], starts[i + 1]):
            kind, a, b, c = piece_of(samples, lattices[fields[i]], candidates[j])
            span = span_of(samples, kind, a, b, c)
            has_edges, edges = False, no_edges
            for at in range(count):
                if not keeps[at, i]:
                    continue
                box = (
                    max(span[0], centres[at, 0]),
                    max(span[1], centres[at, 1]),
                    min(span[2], centres[at, 2]),
                    min(span[3], centres[at, 3]),
                )
                if box[0] > box[2] or box[1] > box[3]:
                    continue
                # A piece that lies within a box of which nothing is left to learn is looked at no further.
                if labels[at] != MIXED or box != span:
                    if not has_edges:
                        has_edges, edges = True, edges_of(samples, kind, a, b, c)
                    if has_no_area(samples, kind, a, span, edges[0]) or _misses_box(kind, edges, box):
                        continue
                    if labels[at] != MIXED:
                        label = _label_in(samples, scores, kind, a, b, c, edges, box)
                        labels[at] = merged(labels[at], label)
                near[at, stops[at, i + 1]] = candidates[j]
                stops[at, i + 1] += 1
    ends = np.zeros(count + 1, np.int64)
    near_fields = np.empty(count * fields.shape[0], np.int32)
    near_starts = np.zeros(count * fields.shape[0] + 1, np.int64)
    near_candidates = np.empty(stops[:, -1].sum(), np.int32)
    number, end = 0, 0
    for at in range(count):
        near_candidates[end : end + stops[at, -1]] = near[at, : stops[at, -1]]
        for i in range(fields.shape[0]):
            if keeps[at, i]:
                near_fields[number] = fields[i]
                near_starts[number + 1] = end + stops[at, i + 1]
                number += 1
        end += stops[at, -1]
        ends[at + 1] = number
        labels[at] = with_outside(labels[at], outside_label, not_kept[at])
    return labels, ends, near_fields[:number].copy(), near_starts[: number + 1].copy(), near_candidates
