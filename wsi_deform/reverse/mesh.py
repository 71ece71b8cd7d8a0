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
from wsi_deform.reverse.pieces import (
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
def keep_meeting(
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
    labels, ends = np.empty(boxes.shape[0], np.int64), np.zeros(boxes.shape[0] + 1, np.int64)
    near_fields, near_starts, near_candidates = room_for(fields, starts, boxes)
    unknown = np.full(candidates.shape[0], MIXED, np.int32)
    piece_labels = np.empty(near_candidates.shape[0], np.int32)
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
            at, common = keep_meeting(
                samples,
                scores,
                lattices[fields[i]],
                candidates,
                unknown,
                starts[i],
                starts[i + 1],
                near_candidates,
                piece_labels,
                at,
                centres,
            )
            label = merged(label, common)
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
