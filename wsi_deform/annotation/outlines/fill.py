"""What a ring that crosses itself encloses, by the even-odd rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.outlines.outline import Ring

if TYPE_CHECKING:
    import shapely

MAX_CROSSINGS = 20_000
"""A hand crosses its own line some ten times; this many take about a second."""

_AT_ONCE = 1000
_EDGES_AT_ONCE = 50  # of a scribble each meets thousands


def filled(ring: Ring) -> shapely.Geometry:
    """The area of a ring.

    Args:
        ring: (N, 2), N >= 3, not closed.

    Returns:
        A valid polygon or several; empty where it encloses nothing.

    Raises:
        ValueError: It crosses or touches itself more than ``MAX_CROSSINGS`` times.

    Convention:
        Inside is what a ray to the right leaves by an odd number of crossings. ``shapely.make_valid`` finds the same
        where no edge lies on another one, in a time that grows with the square of the crossings (GEOS 3.14).
    """
    import shapely

    polygon = shapely.polygons(ring)
    if shapely.is_valid(polygon):
        return polygon
    crossings = _crossings(ring)
    if crossings > MAX_CROSSINGS:
        raise ValueError(
            f"it crosses or touches itself {crossings:,} times or more, {MAX_CROSSINGS:,} at most"
        )
    lines = shapely.union_all(shapely.linearrings(ring))
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    within = shapely.get_coordinates(shapely.point_on_surface(faces))
    # Where no edge lies on another one they touch at corners alone, and need no union, which is slow.
    area = shapely.multipolygons(faces[is_inside(ring, within)])
    return area if shapely.is_valid(area) else shapely.union_all(shapely.get_parts(area))


def is_inside(ring: Ring, points: Ring) -> NDArray[np.bool_]:
    """(M,) whether each of (M, 2) points lies in a ring by the even-odd rule."""
    (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
    found = np.zeros(len(points), bool)
    for start in range(0, len(points), _AT_ONCE):
        x, y = points[start : start + _AT_ONCE, :1], points[start : start + _AT_ONCE, 1:]
        meets = (y0 <= y) != (y1 <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            found[start : start + _AT_ONCE] = (meets & (at > x)).sum(axis=1) % 2 == 1
    return found


def _crossings(ring: Ring) -> int:
    """How often edges meet others than their neighbours, counted until it is too often."""
    import shapely

    edges = shapely.linestrings(np.stack([ring, np.roll(ring, -1, axis=0)], axis=1))
    tree = shapely.STRtree(edges)
    met = 0
    for start in range(0, len(edges), _EDGES_AT_ONCE):
        some = edges[start : start + _EDGES_AT_ONCE]
        met += tree.query(some, predicate="intersects").shape[1] - 3 * len(some)  # itself and two neighbours
        if met > 2 * MAX_CROSSINGS:
            break
    return max(met, 0) // 2
