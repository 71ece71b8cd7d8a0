"""Masks that are written as lengths of runs, as COCO has them, become the edges of their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.outlines.found import Found, shown
from wsi_deform.annotation.outlines.outline import Ring
from wsi_deform.limits import LONGEST_SIDE_PX

Longs = NDArray[np.int64]

FIRST = 48
"""The character of 0; each carries five bits, and 32 where more of the number follow."""


def run_length_rings(found: Found, mask: dict[str, Any], number: int) -> list[Ring]:
    """The edges of the pixels of a run-length mask.

    Args:
        found: For errors.
        mask: "size", [height, width], and "counts": lengths of runs of 0 and 1 in turn, column after column, as a
            list or as COCO's text.
        number: Of the feature.

    Returns:
        Closed rings of corners, px of the image, for the even-odd rule. They touch at corners and never cross.

    Raises:
        AnnotationError: Size or counts are something else, or do not agree.
    """
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise found.file.error(f"size of the mask is {shown(size)}, needed height and width", number)
    height, width = (int(each) for each in found.numbers(size, number, "size of the mask"))
    if not (0 < height <= LONGEST_SIDE_PX and 0 < width <= LONGEST_SIDE_PX):
        raise found.file.error(f"size of the mask is {shown(size)}, needed height and width", number)
    lengths = _lengths(found, counts, number)
    total = sum(lengths.tolist())  # whole numbers without end: 64 bits may wrap around to the right sum
    if (lengths < 0).any() or total != height * width:
        raise found.file.error(
            f"the counts of the mask make {total:,} pixels, needed {height:,} x {width:,}", number
        )
    return _traced(*_upright_edges(*_column_intervals(lengths, height)))


def _column_intervals(lengths: Longs, height: int) -> tuple[Longs, Longs, Longs]:
    """Column, top and bottom of the pixels that are 1 and follow each other within a column."""
    ends = np.cumsum(lengths)
    is_one = (np.arange(len(lengths)) % 2 == 1) & (lengths > 0)
    starts, ends = (ends - lengths)[is_one], ends[is_one]
    # Runs of no zeros lie between ones that go on.
    is_first = np.r_[True, starts[1:] != ends[:-1]][: len(starts)]
    starts, ends = starts[is_first], ends[np.r_[is_first[1:], True][: len(ends)]]
    first, last = starts // height, (ends - 1) // height
    spans = last - first + 1
    run = np.repeat(np.arange(len(starts)), spans)
    column = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(spans) - spans, spans)
    top = np.maximum(starts[run] - column * height, 0)
    bottom = np.minimum(ends[run] - column * height, height)
    return column, top, bottom


def _upright_edges(column: Longs, top: Longs, bottom: Longs) -> tuple[Longs, Longs]:
    """Edges along x = constant: x, and (E, 2) their upper and lower ends. Each end is a corner of the mask."""
    x = np.concatenate([column, column, column + 1, column + 1])
    y = np.concatenate([top, bottom, top, bottom])
    # What is 1 on one side alone: between the ends of both sides in order, two by two; equal ones are no edge.
    order = np.lexsort((y, x))
    x, ends = x[order][::2], y[order].reshape(-1, 2)
    is_edge = ends[:, 0] < ends[:, 1]
    return x[is_edge], ends[is_edge]


def _traced(x: Longs, ends: Longs) -> list[Ring]:
    """Rings of upright edges and of the level ones between their ends."""
    at_x, at_y = np.repeat(x, 2), ends.ravel()
    is_upper = np.arange(len(at_x)) % 2 == 0
    # Corners of a row two by two, too; where four edges meet the one from above goes on to the left.
    order = np.lexsort((is_upper, at_x, at_y))
    across = np.empty(len(order), np.int64)
    across[order[::2]], across[order[1::2]] = order[1::2], order[::2]
    next_corner = across.tolist()
    rings: list[Ring] = []
    is_seen = bytearray(len(next_corner))
    points = np.stack([at_x, at_y], axis=-1).astype(np.float64)
    for start in range(0, len(next_corner), 2):
        if is_seen[start]:
            continue
        ring, corner = [], start
        while not is_seen[corner]:
            other = corner ^ 1
            is_seen[corner] = is_seen[other] = 1
            ring += [corner, other]
            corner = next_corner[other]
        rings.append(points[ring])
    return rings


def _lengths(found: Found, counts: Any, number: int) -> Longs:
    """The lengths of the runs."""
    try:
        if isinstance(counts, str):
            return np.array(_uncompressed(counts.encode("ascii")), np.int64)
        if isinstance(counts, list) and all(type(each) is int for each in counts):
            return np.array(counts, np.int64)
    except (ValueError, OverflowError) as error:
        raise found.file.error(f"counts of the mask are {shown(counts)} ({error})", number) from error
    raise found.file.error(f"counts of the mask are {shown(counts)}, needed numbers or a text", number)


def _uncompressed(text: bytes) -> list[int]:
    """The numbers of COCO's text: groups of five bits, lowest first; from the fourth on less the one two before."""
    numbers: list[int] = []
    value = shift = 0
    for each in text:
        bits = each - FIRST
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"no such character: {chr(each)!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        numbers.append(value + numbers[-2] if len(numbers) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its last number is cut off")
    return numbers
