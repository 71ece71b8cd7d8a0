"""The kernel that turns closed outlines into rings that polygons may have.

An outline that meets itself at a corner is no ring of a valid polygon. It is cut there: one of the parts goes round
the whole, the others are holes that touch it, or each other, at that corner.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Longs, compiled
from wsi_deform.mask.open_outlines import FINISHED, FREE, NEXT, NODE_X, NODE_Y, OTHER, Pool

Rings = tuple[NDArray[np.int32], Longs, Longs, NDArray[np.int32]]
"""Vertices (N, 2); behind the last vertex of each ring; behind the last ring of each component; label of each."""

_SHORTEST = 4
# Odd numbers, so that corners near each other get places far apart.
_SPREAD_X, _SPREAD_Y, _SPREAD_BITS = 73856093, 19349663, 16


@compiled
def finished_rings(pool: Pool, scalars: Longs) -> Rings:
    """Take the rings of finished components out of the pool.

    Args:
        pool: Gets the nodes back.
        scalars: See ``outlines``.

    Returns:
        The rings, each from its highest vertex (the leftmost of those), not closed by a repeated vertex.
    """
    nodes, finished = pool.nodes, pool.finished
    components = scalars[FINISHED]
    vertices = np.empty((_vertex_count(pool, components), 2), np.int32)
    ring_ends = np.empty(len(vertices) // _SHORTEST, np.int64)
    component_ends, labels = np.empty(components, np.int64), np.empty(components, np.int32)
    count, rings = 0, 0
    for component in range(components):
        ring = int(finished[component, 1])
        while ring >= 0:
            following = int(nodes[ring, OTHER])
            begin = count
            count = _take(ring, vertices, begin, pool, scalars)
            rings = _cut(vertices, begin, count, ring_ends, rings)
            ring = following
        component_ends[component], labels[component] = rings, finished[component, 0]
    scalars[FINISHED] = 0
    return vertices, ring_ends[:rings].copy(), component_ends, labels


@compiled
def _vertex_count(pool: Pool, components: int) -> int:
    """Vertices of all rings of the finished components."""
    nodes, finished = pool.nodes, pool.finished
    count = 0
    for component in range(components):
        ring = int(finished[component, 1])
        while ring >= 0:
            node = ring
            while True:
                count += 1
                node = int(nodes[node, NEXT])
                if node == ring:
                    break
            ring = int(nodes[ring, OTHER])
    return count


@compiled
def _take(ring: int, vertices: NDArray[np.int32], begin: int, pool: Pool, scalars: Longs) -> int:
    """Copy an outline and give its nodes back; returns the place behind its last vertex."""
    nodes, free = pool.nodes, pool.free
    node, end = ring, begin
    while True:
        vertices[end, 0], vertices[end, 1] = nodes[node, NODE_X], nodes[node, NODE_Y]
        end += 1
        free[scalars[FREE]] = node
        scalars[FREE] += 1
        node = int(nodes[node, NEXT])
        if node == ring:
            return end


@compiled
def _cut(vertices: NDArray[np.int32], begin: int, end: int, ring_ends: Longs, rings: int) -> int:
    """Cut an outline where it meets itself, in its place; returns the number of rings so far."""
    outline = vertices[begin:end].copy()
    # Which vertices wait, by a table of corners: the last that waits at each corner, or -1.
    size = 2 * _SHORTEST
    while size < 2 * len(outline):
        size *= 2
    at_slot, slot_of = np.full(size, -1, np.int64), np.empty(len(outline), np.int64)
    waiting, depth_of = np.empty(len(outline), np.int64), np.full(size, -1, np.int64)
    depth, at = 0, begin
    for i in range(len(outline)):
        slot = _slot(outline, i, at_slot)
        slot_of[i], at_slot[slot] = slot, i
        since = depth_of[slot]
        if since >= 0:
            at = _put(outline, waiting[since:depth], vertices, at)
            ring_ends[rings] = at
            rings += 1
            for gone in range(since + 1, depth):
                depth_of[slot_of[waiting[gone]]] = -1
            depth = since
        depth_of[slot], waiting[depth] = depth, i
        depth += 1
    ring_ends[rings] = _put(outline, waiting[:depth], vertices, at)
    return rings + 1


@compiled
def _slot(outline: NDArray[np.int32], i: int, at_slot: Longs) -> int:
    """Place of a vertex's corner in a table of more places than corners: its own, or the first free one."""
    x, y = int(outline[i, 0]), int(outline[i, 1])
    mixed = (x * _SPREAD_X) ^ (y * _SPREAD_Y)
    slot = (mixed ^ (mixed >> _SPREAD_BITS)) & (len(at_slot) - 1)
    while at_slot[slot] >= 0:
        other = int(at_slot[slot])
        if outline[other, 0] == x and outline[other, 1] == y:
            break
        slot = (slot + 1) & (len(at_slot) - 1)
    return slot


@compiled
def _put(outline: NDArray[np.int32], chosen: Longs, vertices: NDArray[np.int32], at: int) -> int:
    """Write some vertices of an outline, from the highest on; returns the place behind them."""
    first = 0
    for i in range(1, len(chosen)):
        x, y = outline[chosen[i], 0], outline[chosen[i], 1]
        top_x, top_y = outline[chosen[first], 0], outline[chosen[first], 1]
        if y < top_y or (y == top_y and x < top_x):
            first = i
    for i in range(len(chosen)):
        source = chosen[(first + i) % len(chosen)]
        vertices[at, 0], vertices[at, 1] = outline[source, 0], outline[source, 1]
        at += 1
    return at
