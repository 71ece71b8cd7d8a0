"""The kernel that follows outlines row by row: it holds two rows of runs, and the outlines that are still open.

A line between two rows of pixels is walked from left to right. Where an outline turns on it there is a vertex. An
open outline comes down the right edge of a run (it goes on at its *tail*) and goes up the left edge of a run (what
comes before it is still to be found, at its *head*). Where a tail meets its own head the ring is closed. Runs of one
label that share an edge are one component; when no run of the next row goes on with a component, all of its rings
are closed.

Where three or more labels meet, an outline may go straight on. With ``pins`` it gets a vertex there too, and every
vertex says in the lowest bit of its x (which is doubled) whether it lies at such a place: the borders between them
are then the same vertices for the labels on both sides.

Convention:
    Rings run with their label on the right hand as people see a slide (y down), so that outer rings have positive
    area by the shoelace formula and holes negative. Pixels that share only a corner are not joined there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Longs, compiled
from wsi_deform.mask.open_outlines import (
    FINISHED,
    FREE,
    HEAD,
    LABEL,
    PART,
    PARTS,
    RUNS,
    TAIL,
    UPPER,
    VOID,
    Pool,
    Rows,
    X,
    close_outline,
    joined_parts,
    new_outline,
    put_after,
    put_before,
    root_of,
)

# What the left end of a horizontal edge leads to, or comes from: up the left edge of an upper run, down the right edge
# of a lower run; up the left edge of a lower run, down the right edge of an upper run.
UP, DOWN, NEW, GOES_ON = 1, 2, 3, 4
# Of the edge below the upper run and of that above the lower run: what, node, run, x.
_BELOW, _ABOVE = 0, 4
_WHAT, _NODE, _RUN, _AT = 0, 1, 2, 3
# Where edges meet each of up to four labels gets a vertex, and two edges bring the one where they began.
_NODES_PER_VERTEX = 6
_BORDERS_AT_PIN = 3
_PIXELS_PER_WORD = 8

Bytes = NDArray[np.uint8]
Blocks = tuple[Longs, Longs, Bytes, NDArray[np.uint64]]
"""Right edges of the blocks, their places in the stack (or -1 - value), the stack, and it by words of eight pixels."""


@compiled
def trace_rows(
    blocks: Blocks,
    begin: int,
    end: int,
    y: int,
    sides: tuple[int, int],
    table: Bytes,
    pins: bool,
    rows: Rows,
    pool: Pool,
) -> Pool:
    """Go on with the outlines through rows ``begin`` to ``end`` of a stack.

    Args:
        blocks: Where the labels are.
        begin: First row.
        end: The row behind the last.
        y: Where the first row begins, px.
        sides: Left and right edge of what is traced, px.
        table: (256,) label of each value; VOID gets no outline.
        pins: Whether places where three labels meet get vertices, and are told.
        rows: Changed.
        pool: Changed, and replaced by a larger one where it is full.

    Returns:
        The pool.
    """
    runs, scalars = rows.runs, rows.scalars
    for row in range(begin, end):
        if row > begin and _is_as_above(blocks, row):
            continue
        lower = runs[1 - scalars[UPPER]]
        count = _find_runs(blocks, row, sides, table, lower)
        if not _are_equal(runs[scalars[UPPER]], scalars[RUNS], lower, count):
            pool = _with_room(pool, scalars, count)
            _cross(y + row - begin, count, sides, pins, rows, pool)
    return pool


@compiled
def _is_as_above(blocks: Blocks, row: int) -> bool:
    """Whether all stacked pixels of a row equal those above."""
    words = blocks[3]
    for tile in range(words.shape[0]):
        for word in range(words.shape[2]):
            if words[tile, row, word] != words[tile, row - 1, word]:
                return False
    return True


@compiled
def _find_runs(
    blocks: Blocks, row: int, sides: tuple[int, int], table: Bytes, runs: NDArray[np.int32]
) -> int:
    """Write the runs of a row, with the void on both sides; returns how many there are between."""
    ends, places, stack, words = blocks
    count, label, begin = 0, -1, 0
    for block in range(len(ends)):
        end, place = ends[block], places[block]
        x, last = max(begin, sides[0]), min(end, sides[1])
        value = -1 if place >= 0 else -1 - place
        while x < last:
            column = x - begin
            if place >= 0:
                if (
                    value >= 0
                    and column % _PIXELS_PER_WORD == 0
                    and x + _PIXELS_PER_WORD <= last
                    and words[place, row, column // _PIXELS_PER_WORD]
                    == np.uint64(value) * np.uint64(0x0101010101010101)
                ):
                    x += _PIXELS_PER_WORD
                    continue
                value = int(stack[place, row, column])
            if table[value] != label:
                label = int(table[value])
                count += 1
                runs[count, X], runs[count, LABEL] = x, label
            x = x + 1 if place >= 0 else last
        begin = end
    runs[count + 1, X], runs[count + 1, LABEL] = sides[1], VOID
    return count


@compiled
def _are_equal(upper: NDArray[np.int32], above: int, lower: NDArray[np.int32], below: int) -> bool:
    """Whether two rows have the same runs."""
    if above != below:
        return False
    for run in range(1, above + 1):
        if upper[run, X] != lower[run, X] or upper[run, LABEL] != lower[run, LABEL]:
            return False
    return True


@compiled
def _with_room(pool: Pool, scalars: Longs, below: int) -> Pool:
    """The pool, with room for all that a line can add."""
    nodes, free, finished = pool.nodes, pool.free, pool.finished
    wanted = _NODES_PER_VERTEX * (scalars[RUNS] + below + 2)
    held = len(nodes)
    # Copied by loops: slices assigned to slices take the compiler ten seconds.
    if scalars[FREE] < wanted:
        nodes = np.empty((2 * held + wanted, 4), np.int32)
        free = np.empty(len(nodes), np.int32)
        for node in range(held):
            for column in range(4):
                nodes[node, column] = pool.nodes[node, column]
        for place in range(scalars[FREE]):
            free[place] = pool.free[place]
        for node in range(held, len(nodes)):
            free[scalars[FREE]] = node
            scalars[FREE] += 1
    if scalars[FINISHED] + scalars[RUNS] > len(finished):
        finished = np.empty((2 * len(finished) + scalars[RUNS], 2), np.int32)
        for place in range(scalars[FINISHED]):
            finished[place, 0], finished[place, 1] = pool.finished[place, 0], pool.finished[place, 1]
    return Pool(nodes, free, finished)


@compiled
def _cross(y: int, below: int, sides: tuple[int, int], pins: bool, rows: Rows, pool: Pool) -> None:
    """Walk the line above y, of whose lower row ``below`` runs are known; that row becomes the upper one."""
    runs, parent, scalars = rows.runs, rows.parent, rows.scalars
    upper, lower = runs[scalars[UPPER]], runs[1 - scalars[UPPER]]
    above = scalars[RUNS]
    if above == 0:  # before the first row
        upper[1, X], upper[1, LABEL] = sides[0], VOID
        upper[2, X], upper[2, LABEL] = sides[1], VOID
        above = 1
    for part in range(scalars[PARTS]):
        parent[part] = part
    for run in range(1, below + 1):
        lower[run, PART] = -1
    edges = np.zeros(8, np.int64)
    around = np.array([0, 1, 0, 1])  # runs: upper left, upper right, lower left, lower right
    x = sides[0]
    while True:
        is_pin = pins and _is_pin(around, upper, lower)
        at = 2 * x + is_pin if pins else x
        _end_edges(at, y, around, upper, lower, edges, rows, pool)
        if is_pin:
            _pin_across(at, y, around, upper, lower, edges, pool, scalars)
        _go_on_down(around, upper, lower)
        if is_pin:
            _pin_down(at, y, around, upper, lower, pool, scalars)
        _begin_edges(at, y, around, upper, lower, edges, pool, scalars)
        if x == sides[1]:
            break
        b, d = around[1], around[3]
        if upper[b, LABEL] == lower[d, LABEL] and upper[b, LABEL] != VOID:
            lower[d, PART] = joined_parts(lower[d, PART], upper[b, PART], pool.nodes, rows)
        x = min(upper[b + 1, X], lower[d + 1, X])
        around[0], around[2] = b, d
        around[1] += upper[b + 1, X] == x
        around[3] += lower[d + 1, X] == x
    _renumber_parts(above, below, rows, pool)
    scalars[UPPER], scalars[RUNS] = 1 - scalars[UPPER], below


@compiled
def _end_edges(
    x: int,
    y: int,
    around: Longs,
    upper: NDArray[np.int32],
    lower: NDArray[np.int32],
    edges: Longs,
    rows: Rows,
    pool: Pool,
) -> None:
    """End the horizontal edges that come from the left, at a vertex where they turn."""
    a, b, c, d = around[0], around[1], around[2], around[3]
    va, vb, vc, vd = upper[a, LABEL], upper[b, LABEL], lower[c, LABEL], lower[d, LABEL]
    nodes, scalars = pool.nodes, rows.scalars
    if VOID != va != vc:
        what, node, run = edges[_BELOW + _WHAT], edges[_BELOW + _NODE], edges[_BELOW + _RUN]
        if vb != va:  # down the right edge of a run that ends, then left
            tail = put_after(upper[a, TAIL], x, y, pool, scalars)
            if what == UP:
                close_outline(tail, node, upper[a, PART], nodes, rows)
            else:
                lower[run, TAIL] = put_after(tail, edges[_BELOW + _AT], y, pool, scalars)
        elif vd == va:  # up the left edge of a lower run, then left
            if what == UP:
                lower[d, HEAD] = put_before(node, x, y, pool, scalars)
            else:
                lower[d, HEAD], lower[run, TAIL] = new_outline(x, edges[_BELOW + _AT], y, pool, scalars)
    if VOID != vc != va:
        what, node, run = edges[_ABOVE + _WHAT], edges[_ABOVE + _NODE], edges[_ABOVE + _RUN]
        if vd != vc:  # right, then down the right edge of a run
            if what == NEW:
                lower[run, HEAD], lower[c, TAIL] = new_outline(edges[_ABOVE + _AT], x, y, pool, scalars)
            else:
                lower[c, TAIL] = put_after(node, x, y, pool, scalars)
        elif vb == vc:  # right, then up the left edge of an upper run
            if what == NEW:
                head = put_before(upper[b, HEAD], x, y, pool, scalars)
                lower[run, HEAD] = put_before(head, edges[_ABOVE + _AT], y, pool, scalars)
            else:
                close_outline(
                    put_after(node, x, y, pool, scalars), upper[b, HEAD], upper[b, PART], nodes, rows
                )


@compiled
def _go_on_down(around: Longs, upper: NDArray[np.int32], lower: NDArray[np.int32]) -> None:
    """Hand outlines that go straight on from a run to the one below."""
    a, b, c, d = around[0], around[1], around[2], around[3]
    va, vb, vc, vd = upper[a, LABEL], upper[b, LABEL], lower[c, LABEL], lower[d, LABEL]
    if va == vc and VOID != va != vb and va != vd:
        lower[c, TAIL] = upper[a, TAIL]
    if vb == vd and VOID != vb != va and vb != vc:
        lower[d, HEAD] = upper[b, HEAD]


@compiled
def _is_pin(around: Longs, upper: NDArray[np.int32], lower: NDArray[np.int32]) -> bool:
    """Whether three or more labels meet at a corner of pixels, or it is a corner of the map."""
    va, vb = upper[around[0], LABEL], upper[around[1], LABEL]
    vc, vd = lower[around[2], LABEL], lower[around[3], LABEL]
    borders = int(va != vb) + int(vc != vd) + int(va != vc) + int(vb != vd)
    inside = int(va != VOID) + int(vb != VOID) + int(vc != VOID) + int(vd != VOID)
    return borders >= _BORDERS_AT_PIN or inside == 1


@compiled
def _pin_down(
    x: int,
    y: int,
    around: Longs,
    upper: NDArray[np.int32],
    lower: NDArray[np.int32],
    pool: Pool,
    scalars: Longs,
) -> None:
    """Put a vertex where an outline has just gone straight on from a run to the one below."""
    a, b, c, d = around[0], around[1], around[2], around[3]
    va, vb, vc, vd = upper[a, LABEL], upper[b, LABEL], lower[c, LABEL], lower[d, LABEL]
    if va == vc and VOID != va != vb and va != vd:
        lower[c, TAIL] = put_after(lower[c, TAIL], x, y, pool, scalars)
    if vb == vd and VOID != vb != va and vb != vc:
        lower[d, HEAD] = put_before(lower[d, HEAD], x, y, pool, scalars)


@compiled
def _pin_across(
    x: int,
    y: int,
    around: Longs,
    upper: NDArray[np.int32],
    lower: NDArray[np.int32],
    edges: Longs,
    pool: Pool,
    scalars: Longs,
) -> None:
    """Put a vertex where a horizontal edge goes straight on."""
    a, b, c, d = around[0], around[1], around[2], around[3]
    va, vb, vc, vd = upper[a, LABEL], upper[b, LABEL], lower[c, LABEL], lower[d, LABEL]
    if va == vb and VOID != va != vc and va != vd:
        if edges[_BELOW + _WHAT] == UP:
            edges[_BELOW + _NODE] = put_before(edges[_BELOW + _NODE], x, y, pool, scalars)
        else:
            head, tail = new_outline(x, edges[_BELOW + _AT], y, pool, scalars)
            lower[edges[_BELOW + _RUN], TAIL] = tail
            edges[_BELOW + _WHAT], edges[_BELOW + _NODE] = UP, head
    if vc == vd and VOID != vc != va and vc != vb:
        if edges[_ABOVE + _WHAT] == GOES_ON:
            edges[_ABOVE + _NODE] = put_after(edges[_ABOVE + _NODE], x, y, pool, scalars)
        else:
            head, tail = new_outline(edges[_ABOVE + _AT], x, y, pool, scalars)
            lower[edges[_ABOVE + _RUN], HEAD] = head
            edges[_ABOVE + _WHAT], edges[_ABOVE + _NODE] = GOES_ON, tail


@compiled
def _begin_edges(
    x: int,
    y: int,
    around: Longs,
    upper: NDArray[np.int32],
    lower: NDArray[np.int32],
    edges: Longs,
    pool: Pool,
    scalars: Longs,
) -> None:
    """Note what the left end of the horizontal edges is that go on to the right, where they turn."""
    a, b, c, d = around[0], around[1], around[2], around[3]
    va, vb, vc, vd = upper[a, LABEL], upper[b, LABEL], lower[c, LABEL], lower[d, LABEL]
    if VOID != vb != vd:
        if va != vb:
            edges[_BELOW + _WHAT], edges[_BELOW + _NODE] = UP, put_before(upper[b, HEAD], x, y, pool, scalars)
        elif vc == vb:
            edges[_BELOW + _WHAT], edges[_BELOW + _RUN], edges[_BELOW + _AT] = DOWN, c, x
    if VOID != vd != vb:
        if vc != vd:
            edges[_ABOVE + _WHAT], edges[_ABOVE + _RUN], edges[_ABOVE + _AT] = NEW, d, x
        elif va == vd:
            edges[_ABOVE + _WHAT] = GOES_ON
            edges[_ABOVE + _NODE] = put_after(upper[a, TAIL], x, y, pool, scalars)


@compiled
def _renumber_parts(above: int, below: int, rows: Rows, pool: Pool) -> None:
    """Number the components of the lower row from 0, and note which of the upper row are finished."""
    runs, parent, numbers, scalars = rows.runs, rows.parent, rows.numbers, rows.scalars
    rings, moved = rows.rings, rows.moved
    upper, lower = runs[scalars[UPPER]], runs[1 - scalars[UPPER]]
    for part in range(scalars[PARTS]):
        numbers[part] = -1
    count = 0
    for run in range(1, below + 1):
        if lower[run, LABEL] == VOID:
            continue
        root = -1 if lower[run, PART] < 0 else root_of(lower[run, PART], parent)
        if root < 0 or numbers[root] < 0:
            moved[count, 0], moved[count, 1] = -1, -1
            if root >= 0:
                moved[count, 0], moved[count, 1] = rings[root, 0], rings[root, 1]
                numbers[root] = count
            lower[run, PART] = count
            count += 1
        else:
            lower[run, PART] = numbers[root]
    for run in range(1, above + 1):
        if upper[run, LABEL] == VOID:
            continue
        root = root_of(upper[run, PART], parent)
        if numbers[root] < 0:
            numbers[root] = 0
            pool.finished[scalars[FINISHED], 0] = upper[run, LABEL]
            pool.finished[scalars[FINISHED], 1] = rings[root, 0]
            scalars[FINISHED] += 1
    for part in range(count):
        rings[part, 0], rings[part, 1] = moved[part, 0], moved[part, 1]
    scalars[PARTS] = count
