"""The kernel that simplifies borders: stretches of rings, from one place where three labels meet to the next.

Vertices are left out as Douglas and Peucker do it, from the stretch's lower end in reading order, so that it comes out
the same for the polygons on both sides. What is kept are corners of pixels, by chance all outer or all inner ones of a
staircase; so each is moved to where the new border leaves as much on one side of the old one as on the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Longs, compiled

FEWEST = 3
"""Vertices of a ring."""

# How much a vertex is held back: where two lines are nearly one, nothing else says how far it moves along them.
_HOLD = 0.05


@compiled
def stretch_keys(ring: NDArray[np.int32], starts: Longs) -> NDArray[np.int64]:
    """(A, 4) keys of the stretches of a ring that begin at some of its vertices."""
    keys = np.empty((len(starts), 4), np.int64)
    for number in range(len(starts)):
        order = _in_order(ring, starts, number)
        for i in range(2):
            keys[number, 2 * i], keys[number, 2 * i + 1] = ring[order[i], 0], ring[order[i], 1]
    return keys


@compiled
def kept_vertices(
    ring: NDArray[np.int32], starts: Longs, tolerances: NDArray[np.float64], unit: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which vertices of a ring are kept.

    Args:
        ring: (N, 2) vertices, not closed.
        starts: Where its stretches begin, rising; one that begins and ends at the same vertex is a loop.
        tolerances: Of each; 0 keeps all of its vertices.
        unit: Length of a px along x and y.
    """
    kept = np.zeros(len(ring), np.bool_)
    for number in range(len(starts)):
        order = _in_order(ring, starts, number)
        last = len(order) - 1
        kept[order[0]] = kept[order[last]] = True
        if tolerances[number] <= 0:
            for i in range(last):
                kept[order[i]] = True
        elif order[0] != order[last]:
            _keep_between(ring, order, 0, last, tolerances[number], unit, kept)
        else:
            far, _ = _farthest(ring, order, 0, last, unit)
            kept[order[far]] = True
            _keep_between(ring, order, 0, far, tolerances[number], unit, kept)
            _keep_between(ring, order, far, last, tolerances[number], unit, kept)
            count = 0
            for i in range(last):
                count += kept[order[i]]
            if count < FEWEST:  # a loop within the tolerance: too small to be simplified
                for i in range(last):
                    kept[order[i]] = True
    return kept


@compiled
def moved_vertices(
    ring: NDArray[np.int32],
    kept: NDArray[np.bool_],
    starts: Longs,
    pinned: bool,
    most: NDArray[np.float64],
    unit: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The vertices of a ring, of which those that are kept lie so that areas stay.

    Args:
        ring: (N, 2) vertices, not closed.
        kept: Which are kept.
        starts: Where its stretches begin; their ends stay, as other stretches end there too.
        pinned: Whether they end at pins: else the ring is one loop, all of which may move.
        most: How far vertices of each stretch move.
        unit: Length of a px along x and y.
    """
    moved = ring.astype(np.float64)
    for number in range(len(starts)):
        order = _in_order(ring, starts, number)
        places = np.empty(len(order), np.int64)
        count = 0
        for i in range(len(order)):
            if kept[order[i]]:
                places[count] = i
                count += 1
        sides = np.empty((count - 1, 3))
        for k in range(count - 1):
            _side(ring, order, places[k], places[k + 1], unit, sides[k])
        if most[number] > 0:
            for k in range(1, count - 1):
                _move(moved[order[places[k]]], sides[k - 1], sides[k], most[number], unit)
            if not pinned:
                _move(moved[order[0]], sides[count - 2], sides[0], most[number], unit)
    return moved


@compiled
def _side(
    ring: NDArray[np.int32],
    order: Longs,
    begin: int,
    end: int,
    unit: NDArray[np.float64],
    side: NDArray[np.float64],
) -> None:
    """Direction across the line from one vertex to another, and how far the old border lies that way on average."""
    x, y = ring[order[begin], 0], ring[order[begin], 1]
    area = 0.0
    for i in range(begin + 1, end):
        ax, ay = float(ring[order[i], 0] - x), float(ring[order[i], 1] - y)
        bx, by = float(ring[order[i + 1], 0] - x), float(ring[order[i + 1], 1] - y)
        area += (ax * by - ay * bx) * unit[0] * unit[1] / 2
    dx, dy = (ring[order[end], 0] - x) * unit[0], (ring[order[end], 1] - y) * unit[1]
    length = max(np.sqrt(dx * dx + dy * dy), 1e-9)
    side[0], side[1], side[2] = -dy / length, dx / length, -area / length


@compiled
def _move(
    vertex: NDArray[np.float64],
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    most: float,
    unit: NDArray[np.float64],
) -> None:
    """Move a vertex so that the lines on both sides lie where the old border does on average, or nearly."""
    xx = one[0] * one[0] + other[0] * other[0] + _HOLD
    yy = one[1] * one[1] + other[1] * other[1] + _HOLD
    xy = one[0] * one[1] + other[0] * other[1]
    along_x, along_y = one[0] * one[2] + other[0] * other[2], one[1] * one[2] + other[1] * other[2]
    scale = xx * yy - xy * xy
    dx, dy = (yy * along_x - xy * along_y) / scale, (xx * along_y - xy * along_x) / scale
    far = np.sqrt(dx * dx + dy * dy)
    if far > most:
        dx, dy = dx * most / far, dy * most / far
    vertex[0] += dx / unit[0]
    vertex[1] += dy / unit[1]


@compiled
def _in_order(ring: NDArray[np.int32], starts: Longs, number: int) -> Longs:
    """The vertices of a stretch from its lower end, the same seen from both sides."""
    first, count = starts[number], len(ring)
    length = (starts[(number + 1) % len(starts)] - first) % count
    if length == 0:
        length = count
    order = np.empty(length + 1, np.int64)
    for i in range(length + 1):
        order[i] = (first + i) % count
    near, far = order[0], order[length]
    if near == far:
        near, far = order[1], order[length - 1]
    if ring[near, 1] > ring[far, 1] or (ring[near, 1] == ring[far, 1] and ring[near, 0] > ring[far, 0]):
        order = order[::-1].copy()
    return order


@compiled
def _keep_between(
    ring: NDArray[np.int32],
    order: Longs,
    first: int,
    last: int,
    tolerance: float,
    unit: NDArray[np.float64],
    kept: NDArray[np.bool_],
) -> None:
    """Mark the vertices that are kept between two that are."""
    waiting = np.empty((last - first + 2, 2), np.int64)
    waiting[0, 0], waiting[0, 1] = first, last
    depth = 1
    while depth > 0:
        depth -= 1
        begin, end = waiting[depth, 0], waiting[depth, 1]
        far, distance = _farthest(ring, order, begin, end, unit)
        if distance > tolerance:
            kept[order[far]] = True
            waiting[depth, 0], waiting[depth, 1] = begin, far
            waiting[depth + 1, 0], waiting[depth + 1, 1] = far, end
            depth += 2


@compiled
def _farthest(
    ring: NDArray[np.int32], order: Longs, begin: int, end: int, unit: NDArray[np.float64]
) -> tuple[int, float]:
    """The vertex between two that lies farthest from the straight line from one to the other, and how far."""
    x, y = ring[order[begin], 0] * unit[0], ring[order[begin], 1] * unit[1]
    dx, dy = ring[order[end], 0] * unit[0] - x, ring[order[end], 1] * unit[1] - y
    length = dx * dx + dy * dy
    far, most = begin, -1.0
    for i in range(begin + 1, end):
        px, py = ring[order[i], 0] * unit[0] - x, ring[order[i], 1] * unit[1] - y
        along = 0.0
        if length > 0:
            along = min(1.0, max(0.0, (px * dx + py * dy) / length))
        px, py = px - along * dx, py - along * dy
        squared = px * px + py * py
        if squared > most:
            far, most = i, squared
    return far, np.sqrt(max(0.0, most))
