"""Polygons of a label map that comes in bands of rows: the exact edges of its pixels, as valid polygons.

Convention:
    A polygon is one component of pixels of one label that share edges. Rings are open (the first vertex is not
    repeated), begin at their highest vertex (the leftmost of those) and turn at every vertex. The first ring goes
    round the polygon and has positive area by the shoelace formula; the others are holes, have negative area, and
    may touch it or each other at single corners: what OGC calls valid. Polygons come in the order of their lowest
    row, then from left to right, however the map is cut into bands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from wsi_deform.mask.open_outlines import VOID, empty_pool, empty_rows
from wsi_deform.mask.outlines import trace_rows
from wsi_deform.mask.rings import finished_rings

PINNED_UNLABELLED = 254
WORD_PX = 8
"""Pixels that the kernel compares at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelBand:
    """Some rows of a label map, as blocks side by side: blocks of one label cost nothing.

    Attributes:
        ends: (N,) int64 right edge of each block, px.
        places: (N,) int64 of each block, where in the stack its pixels are, or -1 - label where it has one label.
        stack: (M, rows, W) uint8, C-contiguous, W a multiple of 8: pixels of the other blocks, each from its left
            edge on; the rest is not looked at.
        begin: First row of the stack that belongs to the map.
        end: The row behind the last.
    """

    ends: NDArray[np.int64]
    places: NDArray[np.int64]
    stack: NDArray[np.uint8]
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Polygon:
    """One component.

    Attributes:
        label: Its label.
        rings: (N, 2) int32 (x, y) each, px of the map; the outer ring, then the holes from top to bottom.
        pins: With ``pinned``, (N,) bool of each ring: which of its vertices lie where three or more labels meet, or
            four pixels of two labels in a chequer.
    """

    label: int
    rings: tuple[NDArray[np.int32], ...]
    pins: tuple[NDArray[np.bool_], ...] = ()


def label_band(labels: NDArray[np.uint8]) -> LabelBand:
    """A band of (H, W) uint8 labels."""
    height, width = labels.shape
    stack = np.zeros((1, height, -(-width // WORD_PX) * WORD_PX), np.uint8)
    stack[0, :, :width] = labels
    return LabelBand(ends=np.array([width]), places=np.array([0]), stack=stack, begin=0, end=height)


def polygons(
    bands: Iterable[LabelBand],
    sides: tuple[int, int],
    *,
    top: int = 0,
    void: Iterable[int] = (),
    pinned: bool = False,
) -> Iterator[Polygon]:
    """Follow the outlines of a label map.

    Args:
        bands: The map from top to bottom; read lazily, one at a time.
        sides: Left and right edge of what is traced, px: blocks outside are not looked at.
        top: Top edge of the first band, px.
        void: Labels that get no polygon; nor does 255, unlabelled, unless ``pinned``.
        pinned: Whether places where labels meet are told: straight rings get vertices there too. Outside of the map is
            a label of its own for that, and 255 gets polygons of the label 254 (``PINNED_UNLABELLED``).

    Yields:
        Polygons as their last row is passed. What is held are two rows, a band, and the outlines of polygons that
        are not finished.
    """
    table = np.arange(256, dtype=np.uint8)
    if pinned:
        table[VOID] = PINNED_UNLABELLED
    table[list(void)] = VOID
    rows, pool = empty_rows(sides[1] - sides[0]), empty_pool()
    y = top
    below = LabelBand(
        ends=np.array([sides[1]]),
        places=np.array([-1 - VOID]),
        stack=np.empty((0, 1, WORD_PX), np.uint8),
        begin=0,
        end=1,
    )
    outside = np.full(256, VOID, np.uint8)
    for band, labels in chain(((band, table) for band in bands), [(below, outside)]):
        blocks = (band.ends, band.places, band.stack, band.stack.view(np.uint64))
        pool = trace_rows(blocks, band.begin, band.end, y, sides, labels, pinned, rows, pool)
        y += band.end - band.begin
        yield from _polygons_of(*finished_rings(pool, rows.scalars), pinned=pinned)


def _polygons_of(
    vertices: NDArray[np.int32],
    ring_ends: NDArray[np.int64],
    component_ends: NDArray[np.int64],
    labels: NDArray[np.int32],
    *,
    pinned: bool,
) -> Iterator[Polygon]:
    """Components as polygons; a hole never begins as high up as the ring around it."""
    ends = [0, *ring_ends.tolist()]
    parts = pairwise([0, *component_ends.tolist()])
    for label, (first, last) in zip(labels.tolist(), parts, strict=True):
        rings = [vertices[ends[i] : ends[i + 1]] for i in range(first, last)]
        if len(rings) > 1:
            rings.sort(key=lambda ring: (int(ring[0, 1]), int(ring[0, 0])))
        pins = tuple((ring[:, 0] & 1).astype(bool) for ring in rings) if pinned else ()
        if pinned:
            rings = [ring >> np.array([1, 0], np.int32) for ring in rings]
        yield Polygon(label=label, rings=tuple(rings), pins=pins)
