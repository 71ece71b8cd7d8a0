"""Masks that are written as lengths of runs, as COCO has them, become the edges of their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.outlines.found import Found, shown
from wsi_deform.annotation.outlines.outline import Ring
from wsi_deform.limits import LONGEST_SIDE_PX

FIRST = 48
"""The character of 0; each carries five bits, and 32 where more of the number follow."""


def run_length_rings(found: Found, mask: dict[str, Any], number: int) -> list[list[Ring]]:
    """The polygons of a run-length mask.

    Args:
        found: For errors.
        mask: "size", [height, width], and "counts": lengths of runs of 0 and 1 in turn, column after column, as a
            list or as COCO's text.
        number: Of the feature.

    Returns:
        Polygons with holes along pixel edges, px of the image; pixels that share only a corner are two.

    Raises:
        AnnotationError: Size or counts are something else, or do not agree.
    """
    import shapely

    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise found.file.error(f"size of the mask is {shown(size)}, needed height and width", number)
    height, width = (int(each) for each in found.numbers(size, number, "size of the mask"))
    if not (0 < height <= LONGEST_SIDE_PX and 0 < width <= LONGEST_SIDE_PX):
        raise found.file.error(f"size of the mask is {shown(size)}, needed height and width", number)
    lengths = _lengths(found, counts, number)
    if (lengths < 0).any() or int(lengths.sum()) != height * width:
        raise found.file.error(
            f"the counts of the mask make {int(lengths.sum()):,} pixels, needed {height:,} x {width:,}",
            number,
        )
    ends = np.cumsum(lengths)
    starts = ends - lengths
    is_inside = (np.arange(len(lengths)) % 2 == 1) & (lengths > 0)
    boxes = _boxes(starts[is_inside], ends[is_inside], height)
    area = shapely.union_all(shapely.box(*boxes))
    return [
        [np.array(line.coords)[:-1] for line in (polygon.exterior, *polygon.interiors)]
        for polygon in shapely.get_parts(shapely.simplify(area, 0)).tolist()
        if not shapely.is_empty(polygon)
    ]


def _boxes(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int) -> tuple[NDArray[np.int64], ...]:
    """Left, top, right and bottom of the rectangles that runs cover: each run has at most three."""
    first, last = starts // height, (ends - 1) // height
    top, bottom = starts - first * height, ends - last * height
    one = first == last
    lefts = [first[one], first[~one], last[~one], first[~one] + 1]
    tops = [top[one], top[~one], np.zeros_like(last[~one]), np.zeros_like(last[~one])]
    rights = [first[one] + 1, first[~one] + 1, last[~one] + 1, last[~one]]
    bottoms = [
        bottom[one],
        np.full_like(first[~one], height),
        bottom[~one],
        np.full_like(first[~one], height),
    ]
    found = np.array([np.concatenate(each) for each in (lefts, tops, rights, bottoms)])
    return tuple(found[:, found[0] < found[2]])


def _lengths(found: Found, counts: Any, number: int) -> NDArray[np.int64]:
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
