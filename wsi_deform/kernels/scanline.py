"""Which pixel centres lie inside polygons: even-odd, a row at a time, from an index of their edges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Longs, compiled
from wsi_deform.kernels.edge_index import SLACK_PX, Doubles, Edges, Shorts, part_of, pieces_near

Bytes = NDArray[np.uint8]

NOTHING = -2
"""Code of a pixel that no polygon gave one."""

REGION = -1
"""Code of a pixel inside an annotated region and no other polygon; it never lies over another one."""

ERASE = -3
"""Code of a polygon that takes away what those before it gave."""

FAR = 1 << 62
SHORT_SORT = 24  # up to so many numbers an insertion sort is the fastest


class Frame(NamedTuple):
    """The rows and columns whose centres are asked for.

    Attributes:
        left: First column.
        top: First row.
        x_step: Level-0 px per column.
        y_step: Level-0 px per row.
        x_last: Centre of the slide's last level-0 column, which no centre lies beyond.
        y_last: The same of rows.
    """

    left: int
    top: int
    x_step: float
    y_step: float
    x_last: float
    y_last: float


@compiled
def _centre(number: int, step: float, last: float) -> float:
    """Centre of a column or row, level-0 px; those beyond the slide's edge are taken at its last pixel."""
    return min((number + 0.5) * step, last)


@compiled
def _first_from(value: float, step: float, last: float) -> int:
    """The first column or row whose centre is at or past a coordinate."""
    if value > last:
        return FAR
    if value < -1e15:
        return -FAR
    found = int(np.ceil(value / step - 0.5))
    # The division is rounded; the centres decide.
    while (found - 0.5) * step >= value:
        found -= 1
    while (found + 0.5) * step < value:
        found += 1
    return found


@compiled
def _crossing(edge: Doubles, y: float) -> float:
    """Where an edge crosses a row, of numbers of that edge and row alone."""
    return float(edge[0] + (y - edge[1]) * (edge[2] - edge[0]) / (edge[3] - edge[1]))


@compiled
def _sort(values: Longs) -> None:
    """Sort in place."""
    if len(values) > SHORT_SORT:
        values[:] = np.sort(values)
        return
    for at in range(1, len(values)):
        value = values[at]
        before = at - 1
        while before >= 0 and values[before] > value:
            values[before + 1] = values[before]
            before -= 1
        values[before + 1] = value


@compiled
def _give(row: Shorts, left: int, right: int, code: int, later_wins: bool) -> None:
    """Give some pixels of a row a polygon's code."""
    if code == ERASE:
        row[left:right] = NOTHING
    elif later_wins and code != REGION:
        row[left:right] = code
    else:
        for at in range(left, right):
            row[at] = max(row[at], code)


@compiled
def _paint_piece(
    index: Edges,
    piece: int,
    frame: Frame,
    rows: tuple[int, int],
    codes: Shorts,
    later_wins: bool,
    room: Longs,
) -> Longs:
    """Paint what a polygon has in the rows of one bin; returns room for crossings, larger where it did not suffice."""
    begin, end = index.piece_starts[piece], index.piece_starts[piece + 1]
    first, last = rows
    right = frame.left + codes.shape[1]
    x_most = _centre(right - 1, frame.x_step, frame.x_last)
    # Rows that each edge crosses, and with that where the crossings of each row go.
    ends = np.zeros(last - first + 1, np.int64)
    for at in range(begin, end):
        edge = index.edges[index.entries[at]]
        if min(edge[0], edge[2]) - SLACK_PX > x_most:
            continue
        top = max(first, _first_from(edge[1], frame.y_step, frame.y_last))
        bottom = min(last, _first_from(edge[3], frame.y_step, frame.y_last))
        for row in range(top, bottom):
            ends[row - first + 1] += 1
    for row in range(last - first):
        ends[row + 1] += ends[row]
    total = ends[last - first]
    if total == 0:
        return room
    if total > len(room):
        room = np.empty(2 * total, np.int64)
    filled = ends[:-1].copy()
    for at in range(begin, end):
        edge = index.edges[index.entries[at]]
        if min(edge[0], edge[2]) - SLACK_PX > x_most:
            continue
        top = max(first, _first_from(edge[1], frame.y_step, frame.y_last))
        bottom = min(last, _first_from(edge[3], frame.y_step, frame.y_last))
        for row in range(top, bottom):
            x = _crossing(edge, _centre(row, frame.y_step, frame.y_last))
            column = min(max(_first_from(x, frame.x_step, frame.x_last), frame.left), right)
            room[filled[row - first]] = column - frame.left
            filled[row - first] += 1
    code = index.codes[index.pieces[piece]]
    for row in range(first, last):
        crossings = room[ends[row - first] : ends[row - first + 1]]
        _sort(crossings)
        for at in range(0, len(crossings), 2):
            # Crossings right of all columns were left out: a span without an end goes on to the edge.
            until = crossings[at + 1] if at + 1 < len(crossings) else codes.shape[1]
            _give(codes[row - frame.top], crossings[at], until, code, later_wins)
    return room


@compiled
def paint(index: Edges, frame: Frame, codes: Shorts, later_wins: bool) -> None:
    """Paint polygons in their order over a region.

    Args:
        index: The polygons.
        frame: Where the region lies.
        codes: (H, W) int16, painted over.
        later_wins: Whether later polygons lie over earlier ones; else larger codes lie over smaller ones.

    Convention:
        A pixel is inside where its centre is, even-odd. A row crosses an edge from its upper end on to above its lower
        end, and a centre on a crossing is right of it: left and top edges are in, right and bottom edges out.
    """
    x_first = _centre(frame.left, frame.x_step, frame.x_last)
    x_last = _centre(frame.left + codes.shape[1] - 1, frame.x_step, frame.x_last)
    room = np.empty(1024, np.int64)
    row, bottom = frame.top, frame.top + codes.shape[0]
    while row < bottom:
        part = part_of(_centre(row, frame.y_step, frame.y_last), index.bin_px, index.bins)
        last = row + 1
        while (
            last < bottom
            and part_of(_centre(last, frame.y_step, frame.y_last), index.bin_px, index.bins) == part
        ):
            last += 1
        for piece in pieces_near(index, part, x_first, x_last):
            if index.piece_xs[piece, 0] <= x_last and index.piece_xs[piece, 1] >= x_first:
                room = _paint_piece(index, piece, frame, (row, last), codes, later_wins, room)
        row = last


@compiled
def is_crossed(index: Edges, frame: Frame, shape: tuple[int, int]) -> bool:
    """Whether an edge comes near the centres of a region; where none does all of them have one code.

    Args:
        index: The polygons.
        frame: Where the region lies.
        shape: Its rows and columns.
    """
    x_first = _centre(frame.left, frame.x_step, frame.x_last) - SLACK_PX
    x_last = _centre(frame.left + shape[1] - 1, frame.x_step, frame.x_last) + SLACK_PX
    y_first = _centre(frame.top, frame.y_step, frame.y_last) - SLACK_PX
    y_last = _centre(frame.top + shape[0] - 1, frame.y_step, frame.y_last) + SLACK_PX
    first = part_of(y_first, index.bin_px, index.bins)
    last = part_of(y_last, index.bin_px, index.bins)
    for part in range(first, last + 1):
        for piece in pieces_near(index, part, x_first, x_last):
            if index.piece_xs[piece, 0] > x_last or index.piece_xs[piece, 1] < x_first:
                continue
            for at in range(index.piece_starts[piece], index.piece_starts[piece + 1]):
                edge = index.edges[index.entries[at]]
                is_beside = min(edge[0], edge[2]) > x_last or max(edge[0], edge[2]) < x_first
                if not is_beside and edge[1] <= y_last and edge[3] >= y_first:
                    return True
    return False


@compiled
def codes_of_pixels(index: Edges, pixels: Longs, codes: Shorts, later_wins: bool) -> None:
    """The codes that ``paint`` gives some level-0 pixels.

    Args:
        index: The polygons.
        pixels: (N, 2) int64 (x, y), inside the slide.
        codes: (N,) int16, written; ``NOTHING`` where no polygon is.
        later_wins: As ``paint``.
    """
    one = np.empty(1, np.int16)
    for number in range(len(pixels)):
        column, row = pixels[number, 0], pixels[number, 1]
        x, y = column + 0.5, row + 0.5
        part = part_of(y, index.bin_px, index.bins)
        cell = part * index.cells + part_of(x, index.cell_px, index.cells)
        one[0] = NOTHING
        for at in range(index.cell_starts[cell], index.cell_starts[cell + 1]):
            piece = index.cell_pieces[at]
            if index.piece_xs[piece, 0] > x or index.piece_xs[piece, 1] < x:
                continue
            is_inside = False
            for entry in range(index.piece_starts[piece], index.piece_starts[piece + 1]):
                edge = index.edges[index.entries[entry]]
                if edge[1] <= y < edge[3] and _crossing(edge, y) <= x:
                    is_inside = not is_inside
            if is_inside:
                _give(one, 0, 1, index.codes[index.pieces[piece]], later_wins)
        codes[number] = one[0]


@compiled
def labels_of_codes(codes: Shorts, nothing: int, region: int, labels: Bytes) -> None:
    """Write the labels of codes, (N,) both, and those of ``NOTHING`` and ``REGION``."""
    for at in range(len(codes)):
        code = codes[at]
        labels[at] = code if code >= 0 else region if code == REGION else nothing
