"""Outlines that are still open, as linked vertices, and the components that their labels belong to.

Parts of the kernel in ``outlines``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Ints, Longs, compiled

VOID = 255
"""What gets no outline; also everything outside."""

# Columns of a run: left edge, label, first node of the outline up its left edge, last node of the one down its right
# edge, component. Run 0 and the run behind the last are the void on both sides.
X, LABEL, HEAD, TAIL, PART = 0, 1, 2, 3, 4
# Columns of a node: a vertex; the next of its outline; and the other end of its outline, where it is an end itself.
# In the first node of a closed ring that is the first node of the component's next ring.
NODE_X, NODE_Y, NEXT, OTHER = 0, 1, 2, 3
# Scalars: nodes that are free, which row of runs is the upper one, its runs, its components, finished components.
FREE, UPPER, RUNS, PARTS, FINISHED = 0, 1, 2, 3, 4


class Rows(NamedTuple):
    """Two rows of runs and their components.

    Attributes:
        runs: (2, width + 2, 5).
        parent: Of each component, one that it was joined to, or itself.
        rings: Of each component, first node of its first and of its last closed ring, or -1.
        moved: Room to renumber ``rings``.
        numbers: Room for new numbers.
        scalars: Counters, for ``Pool`` too.
    """

    runs: NDArray[np.int32]
    parent: Ints
    rings: NDArray[np.int32]
    moved: NDArray[np.int32]
    numbers: Ints
    scalars: Longs


class Pool(NamedTuple):
    """Room for vertices.

    Attributes:
        nodes: (N, 4).
        free: Numbers of nodes that nobody uses; the first so many of them.
        finished: (F, 2) label and first ring of each finished component.
    """

    nodes: NDArray[np.int32]
    free: Ints
    finished: NDArray[np.int32]


def empty_rows(width: int) -> Rows:
    """The state before the first row: nothing yet, of so many pixels."""
    runs = np.zeros((2, width + 2, 5), np.int32)
    runs[:, 0, LABEL] = VOID
    parts = 2 * width + 4
    return Rows(
        runs=runs,
        parent=np.empty(parts, np.int32),
        rings=np.empty((parts, 2), np.int32),
        moved=np.empty((parts, 2), np.int32),
        numbers=np.empty(parts, np.int32),
        scalars=np.zeros(5, np.int64),
    )


def empty_pool() -> Pool:
    """No room yet."""
    return Pool(
        nodes=np.empty((0, 4), np.int32), free=np.empty(0, np.int32), finished=np.empty((0, 2), np.int32)
    )


@compiled
def new_node(x: int, y: int, pool: Pool, scalars: Longs) -> int:
    """Take a free node."""
    nodes, free = pool.nodes, pool.free
    scalars[FREE] -= 1
    node = free[scalars[FREE]]
    nodes[node, NODE_X], nodes[node, NODE_Y], nodes[node, NEXT], nodes[node, OTHER] = x, y, -1, -1
    return int(node)


@compiled
def new_outline(first_x: int, last_x: int, y: int, pool: Pool, scalars: Longs) -> tuple[int, int]:
    """Begin an outline with a horizontal edge; returns its ends."""
    nodes = pool.nodes
    head, tail = new_node(first_x, y, pool, scalars), new_node(last_x, y, pool, scalars)
    nodes[head, NEXT], nodes[head, OTHER], nodes[tail, OTHER] = tail, tail, head
    return head, tail


@compiled
def put_after(tail: int, x: int, y: int, pool: Pool, scalars: Longs) -> int:
    """Put a vertex behind the last one of an outline; returns the new last."""
    nodes = pool.nodes
    node = new_node(x, y, pool, scalars)
    head = nodes[tail, OTHER]
    nodes[tail, NEXT], nodes[node, OTHER], nodes[head, OTHER] = node, head, node
    return node


@compiled
def put_before(head: int, x: int, y: int, pool: Pool, scalars: Longs) -> int:
    """Put a vertex before the first one of an outline; returns the new first."""
    nodes = pool.nodes
    node = new_node(x, y, pool, scalars)
    tail = nodes[head, OTHER]
    nodes[node, NEXT], nodes[node, OTHER], nodes[tail, OTHER] = head, tail, node
    return node


@compiled
def close_outline(tail: int, head: int, part: int, nodes: NDArray[np.int32], rows: Rows) -> None:
    """Let an outline go on with another, or with itself: then its ring is closed, and the component's."""
    nodes[tail, NEXT] = head
    if nodes[tail, OTHER] != head:
        first, last = nodes[tail, OTHER], nodes[head, OTHER]
        nodes[first, OTHER], nodes[last, OTHER] = last, first
        return
    parent, rings = rows.parent, rows.rings
    root = root_of(part, parent)
    nodes[head, OTHER] = -1
    if rings[root, 0] < 0:
        rings[root, 0] = head
    else:
        nodes[rings[root, 1], OTHER] = head
    rings[root, 1] = head


@compiled
def root_of(part: int, parent: Ints) -> int:
    """The component that a component was joined to."""
    while parent[part] != part:
        parent[part] = parent[parent[part]]
        part = parent[part]
    return int(part)


@compiled
def joined_parts(one: int, other: int, nodes: NDArray[np.int32], rows: Rows) -> int:
    """One component of two that met; the first may be -1, none yet."""
    parent, rings = rows.parent, rows.rings
    kept = root_of(other, parent)
    gone = kept if one < 0 else root_of(one, parent)
    if gone == kept:
        return kept
    parent[gone] = kept
    if rings[gone, 0] >= 0:
        if rings[kept, 0] < 0:
            rings[kept, 0] = rings[gone, 0]
        else:
            nodes[rings[kept, 1], OTHER] = rings[gone, 0]
        rings[kept, 1] = rings[gone, 1]
    return kept
