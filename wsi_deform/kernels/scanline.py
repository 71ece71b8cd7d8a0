"""Which pixel centres lie inside polygons: even-odd, a row at a time, from an index of edges by rows and columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Ints, Longs, compiled

Doubles = NDArray[np.float64]
Shorts = NDArray[np.int16]
Bytes = NDArray[np.uint8]

NOTHING = -2
"""Code of a pixel that no polygon gave one."""

REGION = -1
"""Code of a pixel inside an annotated region and no other polygon; it never lies over another one."""

ERASE = -3
"""Code of a polygon that takes away what those before it gave."""

BIN_PX, CELL_PX = 32.0, 256.0
"""Height and width of the parts that edges are indexed by, level-0 px, where that needs little room."""

SLACK_PX = 0.01
"""By how much boxes of edges are larger than they: crossings are rounded."""

FAR = 1 << 62
SHORT_SORT = 24  # up to so many numbers an insertion sort is the fastest


class Edges(NamedTuple):
    """Polygons as edges, indexed so that a region or a point finds those that matter to it.

    Attributes:
        edges: (E, 4) float64 x, y of the upper end and x, y of the lower end, level-0 px, polygon after polygon.
        codes: (N,) int16, what each polygon gives its pixels: a label from 0 on, ``REGION`` or ``ERASE``.
        entries: (M,) int32 edges, bin after bin (a bin is a strip of rows), of each bin in the order of ``edges``.
        pieces: (P,) int32 polygon of each piece; a piece is what one polygon has in one bin.
        piece_starts: (P + 1,) int64 where the entries of each piece start.
        piece_xs: (P, 2) float64 least and most x of each piece, with slack.
        cell_starts: (bins * cells + 1,) int64 where the pieces of each cell of a bin start in ``cell_pieces``.
        cell_pieces: int32 pieces, in rising order in each cell.
        bin_px: Height of a bin, level-0 px.
        cell_px: Width of a cell, level-0 px.
        bins: Number of bins.
        cells: Number of cells of a bin.
    """

    edges: Doubles
    codes: Shorts
    entries: Ints
    pieces: Ints
    piece_starts: Longs
    piece_xs: Doubles
    cell_starts: Longs
    cell_pieces: Ints
    bin_px: float
    cell_px: float
    bins: int
    cells: int


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


def indexed(edges: Doubles, polygons: Ints, codes: Shorts, *, width: int, height: int) -> Edges:
    """Index the edges of polygons.

    Args:
        edges: (E, 4) float64, as ``Edges.edges``, finite.
        polygons: (E,) int32, rising: which polygon each edge is of.
        codes: (N,) int16, as ``Edges.codes``.
        width: Of the slide, level-0 px.
        height: Of the slide, level-0 px.

    Returns:
        The index. It is as large as the edges, however tall or wide they are: bins and cells grow with them.
    """
    bin_px = BIN_PX
    while True:
        bins = int(np.ceil(height / bin_px))
        counts = _bin_counts(edges, bin_px, bins)
        if bins == 1 or counts.sum() <= 2 * len(edges) + (1 << 20):
            break
        bin_px *= 2
    bin_starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    entries = _binned(edges, bin_px, bins, bin_starts)
    bin_of, pieces, piece_starts, piece_xs = _pieces(edges, polygons, entries, bin_starts)
    cell_px = CELL_PX
    while True:
        cells = int(np.ceil(width / cell_px))
        cell_counts = _cell_counts(bin_of, piece_xs, cell_px, bins, cells)
        fits = bins * cells <= 4 * len(pieces) + (1 << 16)
        if cells == 1 or (fits and cell_counts.sum() <= 2 * len(pieces) + (1 << 20)):
            break
        cell_px *= 2
    cell_starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(cell_counts)))
    cell_pieces = _in_cells(bin_of, piece_xs, cell_px, cells, cell_starts)
    return Edges(
        edges=edges,
        codes=codes,
        entries=entries,
        pieces=pieces,
        piece_starts=piece_starts,
        piece_xs=piece_xs,
        cell_starts=cell_starts,
        cell_pieces=cell_pieces,
        bin_px=bin_px,
        cell_px=cell_px,
        bins=bins,
        cells=cells,
    )


@compiled
def edges_of_rings(points: Doubles, starts: Longs) -> Doubles:
    """The edges of closed rings, each from its upper to its lower end.

    Args:
        points: (N, 2) float64 (x, y), ring after ring.
        starts: (R + 1,) int64 where each ring starts.

    Returns:
        (N, 4) float64: from each point to the next of its ring, the last to the first.

    Convention:
        Two rings that share an edge have the same four numbers for it, whichever way they go: they cross each row at
        the same x, to the last bit.
    """
    edges = np.empty((len(points), 4), np.float64)
    for ring in range(len(starts) - 1):
        for one in range(starts[ring], starts[ring + 1]):
            other = one + 1 if one + 1 < starts[ring + 1] else starts[ring]
            upper, lower = one, other
            if (points[other, 1], points[other, 0]) < (points[one, 1], points[one, 0]):
                upper, lower = other, one
            edges[one, 0], edges[one, 1] = points[upper, 0], points[upper, 1]
            edges[one, 2], edges[one, 3] = points[lower, 0], points[lower, 1]
    return edges


@compiled
def _clipped(value: float, size: float, count: int) -> int:
    """Which of some parts of equal size a coordinate lies in, or the nearest."""
    return int(min(max(np.floor(value / size), 0.0), count - 1.0))


@compiled
def _is_seen(edge: Doubles, bin_px: float, bins: int) -> bool:
    """Whether an edge reaches into the rows of the slide."""
    return bool(edge[3] >= -SLACK_PX and edge[1] <= bins * bin_px)


@compiled
def _bin_counts(edges: Doubles, bin_px: float, bins: int) -> Longs:
    counts = np.zeros(bins, np.int64)
    for edge in edges:
        if _is_seen(edge, bin_px, bins):
            for part in range(_clipped(edge[1], bin_px, bins), _clipped(edge[3], bin_px, bins) + 1):
                counts[part] += 1
    return counts


@compiled
def _binned(edges: Doubles, bin_px: float, bins: int, starts: Longs) -> Ints:
    entries = np.empty(starts[-1], np.int32)
    ends = starts[:-1].copy()
    for number in range(len(edges)):
        edge = edges[number]
        if _is_seen(edge, bin_px, bins):
            for part in range(_clipped(edge[1], bin_px, bins), _clipped(edge[3], bin_px, bins) + 1):
                entries[ends[part]] = number
                ends[part] += 1
    return entries


@compiled
def _pieces(
    edges: Doubles, polygons: Ints, entries: Ints, bin_starts: Longs
) -> tuple[Ints, Ints, Longs, Doubles]:
    """Runs of entries of one polygon in each bin: their bins, polygons, starts and least and most x."""
    count = 0
    for part in range(len(bin_starts) - 1):
        for at in range(bin_starts[part], bin_starts[part + 1]):
            if at == bin_starts[part] or polygons[entries[at]] != polygons[entries[at - 1]]:
                count += 1
    bin_of, pieces = np.empty(count, np.int32), np.empty(count, np.int32)
    starts, xs = np.empty(count + 1, np.int64), np.empty((count, 2), np.float64)
    piece = -1
    for part in range(len(bin_starts) - 1):
        for at in range(bin_starts[part], bin_starts[part + 1]):
            edge = edges[entries[at]]
            if at == bin_starts[part] or polygons[entries[at]] != polygons[entries[at - 1]]:
                piece += 1
                bin_of[piece], pieces[piece], starts[piece] = part, polygons[entries[at]], at
                xs[piece, 0], xs[piece, 1] = edge[0], edge[0]
            xs[piece, 0] = min(xs[piece, 0], edge[0], edge[2])
            xs[piece, 1] = max(xs[piece, 1], edge[0], edge[2])
    starts[count] = len(entries)
    xs[:, 0] -= SLACK_PX
    xs[:, 1] += SLACK_PX
    return bin_of, pieces, starts, xs


@compiled
def _cell_counts(bin_of: Ints, xs: Doubles, cell_px: float, bins: int, cells: int) -> Longs:
    counts = np.zeros(bins * cells, np.int64)
    for piece in range(len(bin_of)):
        if xs[piece, 1] >= 0 and xs[piece, 0] <= cells * cell_px:
            first, last = _clipped(xs[piece, 0], cell_px, cells), _clipped(xs[piece, 1], cell_px, cells)
            for cell in range(first, last + 1):
                counts[bin_of[piece] * cells + cell] += 1
    return counts


@compiled
def _in_cells(bin_of: Ints, xs: Doubles, cell_px: float, cells: int, starts: Longs) -> Ints:
    held = np.empty(starts[-1], np.int32)
    ends = starts[:-1].copy()
    for piece in range(len(bin_of)):
        if xs[piece, 1] >= 0 and xs[piece, 0] <= cells * cell_px:
            first, last = _clipped(xs[piece, 0], cell_px, cells), _clipped(xs[piece, 1], cell_px, cells)
            for cell in range(first, last + 1):
                at = bin_of[piece] * cells + cell
                held[ends[at]] = piece
                ends[at] += 1
    return held


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
def _near(index: Edges, part: int, x_first: float, x_last: float) -> Ints:
    """Pieces of a bin that columns with centres between two may meet, in rising order, each once."""
    first = _clipped(x_first, index.cell_px, index.cells)
    last = _clipped(x_last, index.cell_px, index.cells)
    begin, end = (
        index.cell_starts[part * index.cells + first],
        index.cell_starts[part * index.cells + last + 1],
    )
    held = index.cell_pieces[begin:end]
    if first == last or len(held) < 2:
        return held
    return np.unique(held)


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
        part = _clipped(_centre(row, frame.y_step, frame.y_last), index.bin_px, index.bins)
        last = row + 1
        while (
            last < bottom
            and _clipped(_centre(last, frame.y_step, frame.y_last), index.bin_px, index.bins) == part
        ):
            last += 1
        for piece in _near(index, part, x_first, x_last):
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
    first = _clipped(y_first, index.bin_px, index.bins)
    last = _clipped(y_last, index.bin_px, index.bins)
    for part in range(first, last + 1):
        for piece in _near(index, part, x_first, x_last):
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
        part = _clipped(y, index.bin_px, index.bins)
        cell = part * index.cells + _clipped(x, index.cell_px, index.cells)
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
