"""Edges of polygons, indexed by rows and columns: a region or a point finds those that matter to it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Ints, Longs, compiled

Doubles = NDArray[np.float64]
Shorts = NDArray[np.int16]

BIN_PX, CELL_PX = 32.0, 256.0
"""Height and width of the parts that edges are indexed by, level-0 px, where that needs little room."""

SLACK_PX = 0.01
"""By how much boxes of edges are larger than they: crossings are rounded."""


class Edges(NamedTuple):
    """Polygons as edges, indexed so that a region or a point finds those that matter to it.

    Attributes:
        edges: (E, 4) float64 x, y of the upper end and x, y of the lower end, level-0 px, polygon after polygon.
        codes: (N,) int16, what each polygon gives its pixels: a label from 0 on, or a code
            of ``scanline``.
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
def part_of(value: float, size: float, count: int) -> int:
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
            for part in range(part_of(edge[1], bin_px, bins), part_of(edge[3], bin_px, bins) + 1):
                counts[part] += 1
    return counts


@compiled
def _binned(edges: Doubles, bin_px: float, bins: int, starts: Longs) -> Ints:
    entries = np.empty(starts[-1], np.int32)
    ends = starts[:-1].copy()
    for number in range(len(edges)):
        edge = edges[number]
        if _is_seen(edge, bin_px, bins):
            for part in range(part_of(edge[1], bin_px, bins), part_of(edge[3], bin_px, bins) + 1):
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
            first, last = part_of(xs[piece, 0], cell_px, cells), part_of(xs[piece, 1], cell_px, cells)
            for cell in range(first, last + 1):
                counts[bin_of[piece] * cells + cell] += 1
    return counts


@compiled
def _in_cells(bin_of: Ints, xs: Doubles, cell_px: float, cells: int, starts: Longs) -> Ints:
    held = np.empty(starts[-1], np.int32)
    ends = starts[:-1].copy()
    for piece in range(len(bin_of)):
        if xs[piece, 1] >= 0 and xs[piece, 0] <= cells * cell_px:
            first, last = part_of(xs[piece, 0], cell_px, cells), part_of(xs[piece, 1], cell_px, cells)
            for cell in range(first, last + 1):
                at = bin_of[piece] * cells + cell
                held[ends[at]] = piece
                ends[at] += 1
    return held


@compiled
def pieces_near(index: Edges, part: int, x_first: float, x_last: float) -> Ints:
    """Pieces of a bin that columns with centres between two may meet, in rising order, each once."""
    first = part_of(x_first, index.cell_px, index.cells)
    last = part_of(x_last, index.cell_px, index.cells)
    begin, end = (
        index.cell_starts[part * index.cells + first],
        index.cell_starts[part * index.cells + last + 1],
    )
    held = index.cell_pieces[begin:end]
    if first == last or len(held) < 2:
        return held
    return np.unique(held)
