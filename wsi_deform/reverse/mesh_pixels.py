"""Classes and probabilities of the pixels of one level, interpolated in the warped mesh; see `mesh.py`."""

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
    kept_pixels,
    merged,
    paint,
)
from wsi_deform.reverse.mesh import Scores
from wsi_deform.reverse.pieces import (
    QUADRANT,
    TRIANGLE,
    Edge,
    edges_of,
    has_no_area,
    piece_of,
    span_of,
    value_at,
)


@compiled
def _inside(edge: Edge, x: Any, y: Any, pixel: Any, first: Any, last: Any) -> tuple[Any, Any]:
    """Of a row's columns ``first`` to ``last`` those in a half-plane, as the same two; x is that of column 0."""
    step = edge[0] * pixel
    at_first = value_at(edge, x + first * pixel, y)
    if step == 0:
        return (first, last) if at_first >= 0 else (first, first - 1)
    if step > 0:
        if at_first < 0:
            first += (step - 1 - at_first) // step
        return first, last
    at_last = at_first + step * (last - first)
    if at_last < 0:
        last -= (-step - 1 - at_last) // -step
    return first, last


@compiled
def _rivals(scores: Scores, a: Any, b: Any, c: Any, rivals: Longs) -> int:
    """Classes that may be ahead somewhere in a piece, ascending, into ``rivals``; returns how many.

    The others are at no corner ahead of one that beats them: a mean of scores does not turn an order around.
    """
    count = 0
    for each in range(scores.shape[1]):
        is_beaten = False
        for other in range(scores.shape[1]):
            ahead = min(
                np.int64(scores[a, other]) - scores[a, each],
                np.int64(scores[b, other]) - scores[b, each],
                np.int64(scores[c, other]) - scores[c, each],
            )
            # On a tie the lower index is ahead.
            if ahead > 0 or (ahead == 0 and other < each):
                is_beaten = True
                break
        if not is_beaten:
            rivals[count] = each
            count += 1
    return count


@compiled
def _ahead(values: Longs, count: int) -> int:
    """Which of the first values is the highest, the first of equal ones."""
    best = 0
    for each in range(1, count):
        if values[each] > values[best]:
            best = each
    return best


@compiled
def _fill_row(
    count: int,
    rivals: Longs,
    here: Longs,
    there: Longs,
    change: Longs,
    beyond: int,
    out: NDArray[Any],
    begin: int,
) -> int:
    """Fill a row of pixels of one piece with the class of the highest sum of scores, which changes a few times at most.

    Args:
        count: Of the rivals.
        rivals: The classes that may be ahead.
        here: Their sums at the first pixel; changed.
        there: At the last.
        change: By how much they change from a pixel to the next.
        beyond: Pixels behind the first.
        out: (n,) receives the labels.
        begin: Where in it the first pixel lies.

    Returns:
        The one label, or MIXED.
    """
    best, last = _ahead(here, count), _ahead(there, count)
    common = int(rivals[best]) if best == last else MIXED
    at = 0
    while best != last:
        # The next pixel at which another class is ahead; on a tie the lower index is.
        nearest = beyond - at
        for each in range(count):
            gain = change[each] - change[best]
            if gain > 0:
                gap = here[best] - here[each]
                nearest = min(nearest, gap // gain + 1 if each > best else (gap + gain - 1) // gain)
        paint(out, begin + at, nearest, rivals[best])
        at += nearest
        for each in range(count):
            here[each] += nearest * change[each]
        best = _ahead(here, count)
    paint(out, begin + at, beyond + 1 - at, rivals[best])
    return common


@compiled
def _fill_box(
    samples: Ints,
    scores: Scores,
    lattice: Longs,
    pieces: Ints,
    level: int,
    box: Box,
    sums: NDArray[np.int64],
    out: NDArray[Any],
    width: int,
    origin: tuple[int, int],
) -> int:
    """Fill a box of pixels of one level, row by row: each pixel by the first piece that holds its centre.

    Args:
        samples: As of ``render``, as are ``scores`` and ``level``.
        scores: (N, C).
        lattice: Of the field.
        pieces: Those that may meet the box, ascending.
        level: Of the pixels.
        box: Left, top, right, bottom, px of the level.
        sums: (6, C), room for sums of scores.
        out: (H * W,) receives the labels of a rectangle, row after row.
        width: Its W.
        origin: Column and row of its first pixel.

    Returns:
        The one label that was painted, or MIXED; a label may have been painted over.
    """
    common = NONE_YET
    left, top, right, bottom = box
    rivals, start, change, down, here, there = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    half = np.int64(1) << (level + 7)
    pixel = 2 * half
    first_x = left * pixel + half
    for i in range(pieces.shape[0] - 1, -1, -1):  # the first piece is painted last
        kind, a, b, c = piece_of(samples, lattice, pieces[i])
        span = span_of(samples, kind, a, b, c)
        first_row = max(top, (span[1] + half - 1) // pixel)
        last_row = min(bottom - 1, (span[3] - half) // pixel)
        first_column = max(left, (span[0] + half - 1) // pixel) - left
        last_column = min(right - 1, (span[2] - half) // pixel) - left
        if first_row > last_row or first_column > last_column:
            continue
        e, f, g = edges_of(samples, kind, a, b, c)
        if has_no_area(samples, kind, a, span, e):
            continue
        label = int(samples[a, 2])
        if samples[b, 2] != label or samples[c, 2] != label:
            label = MIXED
        count = 0
        if label == MIXED:
            count = _rivals(scores, a, b, c, rivals)
            x, y = first_x + first_column * pixel, first_row * pixel + half
            of_c = 1 if kind == TRIANGLE else 0
            for each in range(count):
                of_a, of_b = np.int64(scores[a, rivals[each]]), np.int64(scores[b, rivals[each]])
                third = of_c * np.int64(scores[c, rivals[each]])
                start[each] = value_at(e, x, y) * of_a + value_at(f, x, y) * of_b + value_at(g, x, y) * third
                change[each] = pixel * (e[0] * of_a + f[0] * of_b + g[0] * third)
                down[each] = pixel * (e[1] * of_a + f[1] * of_b + g[1] * third)
        for row in range(first_row, last_row + 1):
            y = row * pixel + half
            first, last = _inside(e, first_x, y, pixel, first_column, last_column)
            first, last = _inside(f, first_x, y, pixel, first, last)
            first, last = _inside(g, first_x, y, pixel, first, last)
            if last < first:
                continue
            begin = (row - origin[1]) * width + left + first - origin[0]
            if label != MIXED:
                paint(out, begin, last - first + 1, label)
                common = merged(common, label)
            else:
                for each in range(count):
                    # Whatever overflows lies outside of the piece, and comes back in it: sums of whole numbers wrap.
                    here[each] = (
                        start[each] + (row - first_row) * down[each] + (first - first_column) * change[each]
                    )
                    there[each] = here[each] + (last - first) * change[each]
                common = merged(
                    common, _fill_row(count, rivals, here, there, change, last - first, out, begin)
                )
    return int(common)


@compiled
def _one_label(out: NDArray[Any]) -> int:
    """The label of all pixels, or MIXED."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            if out[row, column] != out[0, 0]:
                return MIXED
    return int(out[0, 0])


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
        The one label of all pixels, or MIXED.
    """
    common = NONE_YET
    not_kept = out.size
    for i in range(fields.shape[0]):
        left, top, right, bottom = kept_pixels(kept, fields[i], level, origin, out.shape)
        not_kept -= max(0, right - left) * max(0, bottom - top)
    if not_kept > 0:
        out[:, :] = outside_label
        common = outside_label
    flat = out.reshape(-1)
    sums = np.empty((6, scores.shape[1]), np.int64)
    for i in range(fields.shape[0]):
        box = kept_pixels(kept, fields[i], level, origin, out.shape)
        label = _fill_box(
            samples,
            scores,
            lattices[fields[i]],
            candidates[starts[i] : starts[i + 1]],
            level,
            box,
            sums,
            flat,
            out.shape[1],
            origin,
        )
        common = merged(common, label)
    return int(common) if common != MIXED else _one_label(out)


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
