"""Rings of shapes that files give by a few numbers: rectangles and ellipses, also turned ones."""

from __future__ import annotations

import math

import numpy as np

from wsi_deform.annotation.outlines.outline import Ring

FLAT_PX = 0.25
"""A chord of an ellipse lies this far from its arc at most."""

MIN_CORNERS, MAX_CORNERS = 16, 4096


def box_ring(left: float, top: float, right: float, bottom: float) -> Ring:
    """The four corners of a rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def bounding_ring(points: Ring) -> Ring:
    """The bounding rectangle of (N, 2) points, N >= 1."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return box_ring(left, top, right, bottom)


def ellipse_ring(centre: tuple[float, float], radii: tuple[float, float], *, turned: float = 0.0) -> Ring:
    """An ellipse as a polygon of its area.

    Args:
        centre: (x, y), px.
        radii: Half axes along x and y before it is turned, px, not negative.
        turned: Angle in radians, from x towards y.

    Returns:
        (N, 2), N from 16 to 4096 by the size: no chord is more than about a quarter pixel from the arc.

    Convention:
        The corners lie a little outside, so that the polygon has the area of the ellipse.
    """
    half_step = math.acos(1 - FLAT_PX / max(*radii, 1.0))
    corners = math.ceil(math.pi / max(half_step, math.pi / MAX_CORNERS))
    corners = min(max(corners, MIN_CORNERS), MAX_CORNERS)
    step = 2 * math.pi / corners
    angles = np.arange(corners) * step
    grown = math.sqrt(step / math.sin(step))
    points = np.stack([radii[0] * grown * np.cos(angles), radii[1] * grown * np.sin(angles)], axis=-1)
    placed: Ring = turned_ring(points, turned) + np.array(centre)
    return placed


def ellipse_in(points: Ring) -> Ring:
    """The ellipse in the bounding rectangle of (N, 2) points, N >= 1."""
    low, high = points.min(axis=0), points.max(axis=0)
    centre, radii = (low + high) / 2, (high - low) / 2
    return ellipse_ring((float(centre[0]), float(centre[1])), (float(radii[0]), float(radii[1])))


def turned_ring(points: Ring, angle: float) -> Ring:
    """Points turned around (0, 0), from x towards y, radians."""
    sine, cosine = math.sin(angle), math.cos(angle)
    turned: Ring = points @ np.array([[cosine, sine], [-sine, cosine]])
    return turned
