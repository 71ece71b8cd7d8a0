"""Outlines with fewer vertices, in which neighbours go on sharing their borders.

The border between two labels, from one place where three meet to the next, is a *stretch* (``stretches``). Each is
simplified by itself, so that the polygons on both sides get the same vertices of it. What that makes invalid, such as a
border that now crosses another one, is found by looking at every polygon, also of labels that nobody wants, and those
stretches get a smaller tolerance until all are valid: in the end their exact edges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsi_deform.kernels.compiled import Longs
from wsi_deform.mask.polygons import Polygon
from wsi_deform.mask.stretches import FEWEST, kept_vertices, moved_vertices, stretch_keys

if TYPE_CHECKING:
    import shapely

Key = tuple[int, int, int, int]
"""First two vertices of a stretch, from its lower end: no two stretches share them."""

HALVINGS = 3
"""So often a tolerance is halved before a stretch keeps all of its vertices."""

PARTS_OF_PX = 100
"""Vertices lie at multiples of one such part, as QuPath rounds them."""

# Of the tolerance: how far a vertex that is left out may lie from the border, and how far the others are moved.
_LEFT_OUT, _MOVED = 2 / 3, 1 / 3
_PLACE = re.compile(r"\[(\S+) (\S+)\]")


class Simplifier:
    """Leaves vertices of polygons out.

    Args:
        tolerance: How far a vertex of the old border may lie from the new one.
        unit: How long a px of the polygons is along x and y, in units of the tolerance.

    Convention:
        The same polygons, in whatever order they come, get the same vertices; see ``settle``.
    """

    def __init__(self, tolerance: float, unit: tuple[float, float]) -> None:
        self._tolerance = tolerance
        self._unit = np.array(unit)
        self._halved: dict[Key, int] = {}

    def rings(self, polygon: Polygon) -> tuple[NDArray[np.float64], ...]:
        """The simpler rings of a pinned polygon, (N, 2) float64 each, px."""
        return tuple(moved[kept] for moved, kept, *_ in self._simpler(polygon))

    def settle(self, polygons: Iterable[Polygon]) -> int:
        """Look at all polygons of a map once, and lower the tolerance where they are not valid.

        Args:
            polygons: All of them, of every label, pinned.

        Returns:
            How many stretches got a smaller tolerance. None: ``rings`` is valid for every polygon.
        """
        return sum(self._refined(polygon) for polygon in polygons)

    def _simpler(
        self, polygon: Polygon
    ) -> list[tuple[NDArray[np.float64], NDArray[np.bool_], Longs, NDArray[np.int64]]]:
        """All vertices of each ring, moved; which are kept; where its stretches begin, and their keys."""
        found = []
        for ring, pins in zip(polygon.rings, polygon.pins, strict=True):
            starts = np.flatnonzero(pins) if pins.any() else np.zeros(1, np.int64)
            tolerances = np.full(len(starts), self._tolerance)
            keys = stretch_keys(ring, starts)
            if self._halved:
                for number, key in enumerate(map(tuple, keys.tolist())):
                    times = self._halved.get(key, 0)
                    tolerances[number] = 0.0 if times > HALVINGS else self._tolerance / 2**times
            kept = kept_vertices(ring, starts, _LEFT_OUT * tolerances, self._unit)
            moved = moved_vertices(ring, kept, starts, bool(pins.any()), _MOVED * tolerances, self._unit)
            found.append((np.round(moved * PARTS_OF_PX) / PARTS_OF_PX, kept, starts, keys))
        return found

    def _refined(self, polygon: Polygon) -> int:
        """Lower the tolerance of stretches that make a polygon invalid; how many."""
        # Slow to import, and most outlines are exact.
        import shapely

        found = self._simpler(polygon)
        rings = [moved[kept] for moved, kept, *_ in found]
        shape = None
        if min(map(len, rings)) >= FEWEST:
            shape = shapely.Polygon(rings[0], rings[1:])
            if shape.is_valid:
                return 0
        stretches: dict[Key, NDArray[np.float64]] = {}
        for ring in found:
            stretches.update(_stretches(*ring))
        chosen = self._faulty(stretches, shape) if shape is not None else set()
        # Else what nobody can tell the place of, e.g. two borders that became one.
        return self._halve(chosen) or self._halve(stretches)

    def _faulty(self, stretches: dict[Key, NDArray[np.float64]], shape: shapely.Polygon) -> set[Key]:
        """Stretches that cross themselves or others, or lie where the polygon is not valid."""
        import shapely

        keys = list(stretches)
        lines = np.array([shapely.LineString(each) for each in stretches.values()])
        faulty = {keys[i] for i in np.flatnonzero(~shapely.is_simple(lines))}
        one, other = shapely.STRtree(lines).query(lines, predicate="intersects")
        one, other = one[one < other], other[one < other]
        for i, k, shared in zip(one, other, shapely.intersection(lines[one], lines[other]), strict=True):
            ends = [shapely.get_point(lines[each], at) for each in (i, k) for at in (0, -1)]
            if shared.length > 0 or not all(
                any(point.equals(end) for end in ends) for point in shapely.get_parts(shared)
            ):
                faulty |= {keys[i], keys[k]}
        place = _PLACE.search(shapely.is_valid_reason(shape))
        if not faulty and place is not None:
            reach = 2 * self._tolerance / float(self._unit.min())
            near = shapely.STRtree(lines).query(
                shapely.Point(float(place[1]), float(place[2])), predicate="dwithin", distance=reach
            )
            faulty = {keys[i] for i in near}
        return faulty

    def _halve(self, keys: Iterable[Key]) -> int:
        """Lower the tolerance of stretches that are not exact yet; how many."""
        chosen = [key for key in keys if self._halved.get(key, 0) <= HALVINGS]
        for key in chosen:
            self._halved[key] = self._halved.get(key, 0) + 1
        return len(chosen)


def _stretches(
    ring: NDArray[np.float64], kept: NDArray[np.bool_], starts: Longs, keys: NDArray[np.int64]
) -> dict[Key, NDArray[np.float64]]:
    """The kept vertices of each stretch of a ring, by its key."""
    found: dict[Key, NDArray[np.float64]] = {}
    for number, (x, y, next_x, next_y) in enumerate(keys.tolist()):
        first = int(starts[number])
        last = int(starts[(number + 1) % len(starts)])
        last += len(ring) if last <= first else 0
        at = np.arange(first, last + 1) % len(ring)
        found[x, y, next_x, next_y] = ring[at[kept[at]]]
    return found
