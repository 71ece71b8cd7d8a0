"""The pieces of a field's mesh, one at a time: triangles between samples, strips and quadrants around them.

`mesh.py` says what they are for and how they are numbered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wsi_deform.kernels.compiled import Ints, Longs, compiled

TRIANGLE, ABOVE, BELOW, LEFT, RIGHT, QUADRANT = 0, 1, 2, 3, 4, 5
"""Kinds of pieces; a quadrant's is QUADRANT, plus 1 when it lies to the right and plus 2 when it lies below."""

ENDLESS = 1 << 30
"""Beyond every centre, units."""

Edge = tuple[Any, Any, Any, Any]
"""A half-plane n_x, n_y, o_x, o_y: where ``n_x (x - o_x) + n_y (y - o_y) >= 0``. Whole numbers."""

Span = tuple[Any, Any, Any, Any]
"""First x, first y, last x, last y, units."""


def piece_count(width: int, height: int) -> int:
    """Number of pieces of a lattice of samples."""
    return 2 * width * height + 2


@compiled
def piece_of(samples: Ints, lattice: Longs, number: Any) -> tuple[int, Any, Any, Any]:
    """Kind of a piece and its corners, rows of ``samples``; strips have two, quadrants one.

    Triangles turn clockwise on the screen, strips run to the right or down, folded or not.
    """
    first, width, height = lattice[0], lattice[1], lattice[2]
    cells = (width - 1) * (height - 1)
    if number < 2 * cells:
        row, column = divmod(number >> 1, width - 1)
        a = first + row * width + column
        c = a + width + 1
        b = c - 1 if number & 1 else a + 1
        ab_x, ab_y = np.int64(samples[b, 0]) - samples[a, 0], np.int64(samples[b, 1]) - samples[a, 1]
        ac_x, ac_y = np.int64(samples[c, 0]) - samples[a, 0], np.int64(samples[c, 1]) - samples[a, 1]
        if ab_x * ac_y - ab_y * ac_x < 0:
            b, c = c, b
        return TRIANGLE, a, b, c
    number -= 2 * cells
    last = first + width * height - 1
    if number < 2 * (width - 1):
        below = number >= width - 1
        a = last - width + 1 + number - (width - 1) if below else first + number
        b = a + 1
        if samples[b, 0] < samples[a, 0]:
            a, b = b, a
        return (BELOW if below else ABOVE), a, b, a
    number -= 2 * (width - 1)
    if number < 2 * (height - 1):
        right = number >= height - 1
        a = first + (width - 1 + (number - (height - 1)) * width if right else number * width)
        b = a + width
        if samples[b, 1] < samples[a, 1]:
            a, b = b, a
        return (RIGHT if right else LEFT), a, b, a
    number -= 2 * (height - 1)
    a = (first if number < 2 else last - width + 1) + (width - 1 if number & 1 else 0)
    return QUADRANT + number, a, a, a


@compiled
def edges_of(samples: Ints, kind: int, a: Any, b: Any, c: Any) -> tuple[Edge, Edge, Edge]:
    """Three half-planes ``n_x (x - o_x) + n_y (y - o_y) >= 0`` whose intersection is a piece.

    The left sides of the first two (of a triangle, all three) are also the weights of the corners in order.
    """
    a_x, a_y = np.int64(samples[a, 0]), np.int64(samples[a, 1])
    b_x, b_y = np.int64(samples[b, 0]), np.int64(samples[b, 1])
    c_x, c_y = np.int64(samples[c, 0]), np.int64(samples[c, 1])
    none = np.int64(0)
    one = np.int64(1)
    if kind == TRIANGLE:
        return (
            (b_y - c_y, c_x - b_x, b_x, b_y),
            (c_y - a_y, a_x - c_x, c_x, c_y),
            (a_y - b_y, b_x - a_x, a_x, a_y),
        )
    if kind == ABOVE:
        return (-one, none, b_x, b_y), (one, none, a_x, a_y), (b_y - a_y, a_x - b_x, a_x, a_y)
    if kind == BELOW:
        return (-one, none, b_x, b_y), (one, none, a_x, a_y), (a_y - b_y, b_x - a_x, a_x, a_y)
    if kind == LEFT:
        return (none, -one, b_x, b_y), (none, one, a_x, a_y), (a_y - b_y, b_x - a_x, a_x, a_y)
    if kind == RIGHT:
        return (none, -one, b_x, b_y), (none, one, a_x, a_y), (b_y - a_y, a_x - b_x, a_x, a_y)
    side_x = one if (kind - QUADRANT) & 1 else -one
    side_y = one if (kind - QUADRANT) & 2 else -one
    return (side_x, none, a_x, a_y), (none, side_y, a_x, a_y), (none, none, a_x, a_y)


@compiled
def span_of(samples: Ints, kind: int, a: Any, b: Any, c: Any) -> Span:
    """First x, first y, last x, last y of a piece, units; ``ENDLESS`` where it has no end."""
    left = min(samples[a, 0], samples[b, 0], samples[c, 0])
    top = min(samples[a, 1], samples[b, 1], samples[c, 1])
    right = max(samples[a, 0], samples[b, 0], samples[c, 0])
    bottom = max(samples[a, 1], samples[b, 1], samples[c, 1])
    if kind != TRIANGLE:
        if kind in (ABOVE, QUADRANT, QUADRANT + 1):
            top = -ENDLESS
        if kind in (BELOW, QUADRANT + 2, QUADRANT + 3):
            bottom = ENDLESS
        if kind in (LEFT, QUADRANT, QUADRANT + 2):
            left = -ENDLESS
        if kind in (RIGHT, QUADRANT + 1, QUADRANT + 3):
            right = ENDLESS
    return np.int64(left), np.int64(top), np.int64(right), np.int64(bottom)


@compiled
def value_at(edge: Edge, x: Any, y: Any) -> Any:
    """The left side of a half-plane at a point."""
    return edge[0] * (x - edge[2]) + edge[1] * (y - edge[3])


@compiled
def misses(edge: Edge, centres: Span) -> bool:
    """Whether a half-plane has no point in a box of centres."""
    x = centres[2] if edge[0] > 0 else centres[0]
    y = centres[3] if edge[1] > 0 else centres[1]
    return bool(value_at(edge, x, y) < 0)


@compiled
def has_no_area(samples: Ints, kind: int, a: Any, span: Span, first_edge: Edge) -> bool:
    """Whether a piece decides nothing: a triangle or strip as thin as a line."""
    if kind == TRIANGLE:
        return bool(value_at(first_edge, np.int64(samples[a, 0]), np.int64(samples[a, 1])) == 0)
    return bool(kind < QUADRANT and (span[0] == span[2] or span[1] == span[3]))
