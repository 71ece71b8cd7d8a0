"""Areas as files give them become outlines: checked, repaired where rings cross, dropped where nothing is inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.outlines.fill import filled
from wsi_deform.annotation.outlines.found import FARTHEST_PX, Area, Found
from wsi_deform.annotation.outlines.outline import Outline, Ring
from wsi_deform.geometry import Point, Size

if TYPE_CHECKING:
    import shapely

POLYGON = 3


@dataclass(slots=True)
class _Rings:
    """The rings of all areas in one array.

    Attributes:
        points: (V, 2), vertices of one ring after the other.
        ring_of: (V,) the ring of each vertex, from 0, growing.
        part_of: (R,) the part of each ring.
        area_of: (P,) the area of each part.
        count: Number of rings R.
    """

    points: Ring
    ring_of: NDArray[np.int64]
    part_of: NDArray[np.int64]
    area_of: NDArray[np.int64]
    count: int


def outlines_of(found: Found, *, corner: Point, slide_size: Size | None) -> tuple[Outline, ...]:
    """The outlines of what a reader found.

    Args:
        found: Its areas; what is repaired or dropped is remarked upon there.
        corner: Is added to all coordinates, px.
        slide_size: The slide, level-0 px: what lies wholly outside of it is dropped. None where it is not known.

    Returns:
        Outlines in the same order. Rings that are sound keep their vertices, but for repeated ones.

    Raises:
        AnnotationError: A coordinate is infinite, or farther than any slide is large; or everything lies outside of
            the slide.

    Convention:
        A ring that crosses itself is filled by the even-odd rule. Holes are taken from their shell, also where they
        cross it or each other, and parts that overlap are one.
    """
    areas = found.areas
    if not areas:
        return ()
    rings = _sound_vertices(found, _in_one(areas, corner))
    inside = _inside(found, rings, slide_size)
    kept, shapes = _shapes(rings, areas)
    starts = np.searchsorted(rings.ring_of, np.arange(rings.count + 1))
    outlines: list[Outline] = []
    for number, area in enumerate(areas):
        if not inside[number]:
            continue
        parts = [[rings.points[starts[each] : starts[each + 1]] for each in part] for part in kept[number]]
        sound = tuple(ring for part in parts for ring in part)
        if sound and not shapes.is_sound(number, area, sound):
            sound = _repaired_rings(found, area, parts)
        if sound:
            outlines.append(_outline(area, sound))
        else:
            found.remark("Outlines that enclose nothing (fewer than 3 vertices, or all on a line), left out")
    return tuple(outlines)


def _outline(area: Area, rings: tuple[Ring, ...]) -> Outline:
    return Outline(
        rings=rings,
        source_class=area.source_class,
        colour=area.colour,
        number=area.number,
        erases=area.erases,
    )


def _in_one(areas: list[Area], corner: Point) -> _Rings:
    rings = [ring for area in areas for part in area.parts for ring in part]
    parts = [len(part) for area in areas for part in area.parts]
    points = np.concatenate(rings) if rings else np.empty((0, 2))
    lengths = np.array([len(ring) for ring in rings], np.int64)
    return _Rings(
        points=points + np.array([corner.x, corner.y]),
        ring_of=np.repeat(np.arange(len(rings)), lengths),
        part_of=np.repeat(np.arange(len(parts)), np.array(parts, np.int64)),
        area_of=np.repeat(np.arange(len(areas)), np.array([len(area.parts) for area in areas], np.int64)),
        count=len(rings),
    )


def _sound_vertices(found: Found, rings: _Rings) -> _Rings:
    """Without vertices that are no numbers, that repeat the one before, or the first again at the end."""
    points, ring_of = rings.points, rings.ring_of
    far = ~(np.abs(points) <= FARTHEST_PX).all(axis=1) & ~np.isnan(points).any(axis=1)
    if far.any():
        at = int(np.argmax(far))
        x, y = points[at].tolist()
        area = found.areas[rings.area_of[rings.part_of[ring_of[at]]]]
        raise found.file.error(
            f"vertex ({x:g}, {y:g}), needed px of the slide's finest level, {FARTHEST_PX:,.0f} at most",
            area.number,
        )
    number = ~np.isnan(points).any(axis=1)
    if not number.all():
        found.remark("Vertices that are no numbers, left out", int((~number).sum()))
        points, ring_of = points[number], ring_of[number]
    same = np.zeros(len(points), bool)
    same[1:] = (points[1:] == points[:-1]).all(axis=1) & (ring_of[1:] == ring_of[:-1])
    points, ring_of = points[~same], ring_of[~same]
    if len(points):
        first = np.flatnonzero(np.r_[True, ring_of[1:] != ring_of[:-1]])
        last = np.r_[first[1:], len(points)] - 1
        closes = last[(points[first] == points[last]).all(axis=1) & (last > first)]
        points, ring_of = np.delete(points, closes, axis=0), np.delete(ring_of, closes)
    return _Rings(points, ring_of, rings.part_of, rings.area_of, rings.count)


def _inside(found: Found, rings: _Rings, size: Size | None) -> NDArray[np.bool_]:
    """(areas,) whether an area has a part of its bounding box on the slide.

    Raises:
        AnnotationError: None has.
    """
    inside = np.ones(len(found.areas), bool)
    if size is None or not len(rings.points):
        return inside
    area_of = rings.area_of[rings.part_of[rings.ring_of]]
    first = np.flatnonzero(np.r_[True, area_of[1:] != area_of[:-1]])
    low, high = np.minimum.reduceat(rings.points, first), np.maximum.reduceat(rings.points, first)
    whole = np.array([size.width, size.height])
    inside[area_of[first]] = ((high > 0) & (low < whole)).all(axis=1)
    if not inside[area_of[first]].any():
        left, top = low.min(axis=0).tolist()
        right, bottom = high.max(axis=0).tolist()
        raise found.file.error(
            f"all outlines lie outside of the slide: from ({left:,.0f}, {top:,.0f}) to ({right:,.0f}, {bottom:,.0f}), "
            f"and the slide is {size} px. Needed outlines in px of its finest level. Check that they were drawn on "
            "this slide, and at which scale they were exported"
        )
    outside = int((~inside).sum())
    if outside:
        found.remark(f"Outlines outside of the slide ({size} px), left out", outside)
    beyond = ((low < 0) | (high > whole)).any(axis=1) & inside[area_of[first]]
    if beyond.any():
        found.remark(f"Outlines that reach beyond the slide ({size} px)", int(beyond.sum()))
    return inside


class _Shapes:
    """Whether areas are sound polygons, asked of GEOS for all of them at once."""

    def __init__(self, valid: NDArray[np.bool_]) -> None:
        self._valid = valid

    def is_sound(self, number: int, area: Area, rings: Sequence[Ring]) -> bool:
        return (
            area.is_sound
            or bool(self._valid[number])
            or (area.is_even_odd and len(rings) > 1 and _is_sound_path(rings))
        )


def _shapes(rings: _Rings, areas: list[Area]) -> tuple[list[list[list[int]]], _Shapes]:
    """The rings of each part of each area that have three vertices, and which areas are valid as they are."""
    import shapely

    lengths = np.bincount(rings.ring_of, minlength=rings.count)
    first = np.r_[True, rings.part_of[1:] != rings.part_of[:-1]][: rings.count]
    # A part without its shell is nothing, with whatever holes.
    has_shell = np.zeros(len(rings.area_of), bool)
    has_shell[rings.part_of[first]] = lengths[first] >= 3
    used = (lengths >= 3) & has_shell[rings.part_of]
    kept: list[list[list[int]]] = [[] for _ in range(len(areas))]
    valid = np.array([area.is_sound for area in areas])
    part = -1
    for each in np.flatnonzero(used).tolist():
        mine = kept[rings.area_of[rings.part_of[each]]]
        if rings.part_of[each] != part:
            mine.append([])
            part = rings.part_of[each]
        mine[-1].append(each)
    used &= ~valid[rings.area_of[rings.part_of]]
    chosen = np.flatnonzero(used)
    if not len(chosen):
        return kept, _Shapes(valid)
    of_vertex = used[rings.ring_of]
    compact = np.cumsum(used) - 1
    lines = shapely.linearrings(rings.points[of_vertex], indices=compact[rings.ring_of[of_vertex]])
    parts, part_at = np.unique(rings.part_of[chosen], return_inverse=True)
    polygons = shapely.polygons(lines, indices=part_at)
    held, area_at, counts = np.unique(rings.area_of[parts], return_inverse=True, return_counts=True)
    single = counts[area_at] == 1
    valid[held[counts == 1]] = shapely.is_valid(polygons[single])
    if not single.all():
        several = np.unique(area_at[~single], return_inverse=True)[1]
        valid[held[counts > 1]] = shapely.is_valid(shapely.multipolygons(polygons[~single], indices=several))
    return kept, _Shapes(valid)


def _is_sound_path(rings: Sequence[Ring]) -> bool:
    """Whether the rings of a path neither cross themselves nor each other."""
    import shapely

    return bool(shapely.is_simple(shapely.multilinestrings([shapely.linearrings(ring) for ring in rings])))


def _repaired_rings(found: Found, area: Area, parts: list[list[Ring]]) -> tuple[Ring, ...]:
    """The rings of an area whose rings cross; none where it encloses nothing.

    Raises:
        AnnotationError: GEOS cannot repair it.
    """
    import shapely

    try:
        rings = tuple(_rings_of(_repaired(parts, is_even_odd=area.is_even_odd)))
    except (shapely.errors.GEOSException, ValueError) as error:
        raise found.file.error(
            f"its outline crosses itself and cannot be repaired ({error}). Draw it again", area.number
        ) from error
    if rings:
        found.remark("Outlines that crossed themselves, their holes or their parts, and were repaired")
    return rings


def _repaired(parts: list[list[Ring]], *, is_even_odd: bool) -> shapely.Geometry:
    """The area of parts whose rings cross."""
    import shapely

    if is_even_odd:
        layers = np.array([filled(ring) for part in parts for ring in part])
        while len(layers) > 1:  # pairs, pairs of pairs, ...: quick also for many
            odd = layers[len(layers) // 2 * 2 :]
            layers = np.r_[shapely.symmetric_difference(layers[:-1:2], layers[1::2]), odd]
        return layers[0]
    found = []
    for shell, *holes in parts:
        area = filled(shell)
        if holes:
            area = shapely.difference(area, shapely.union_all([filled(hole) for hole in holes]))
        found.append(area)
    return shapely.union_all(found)


def _polygons(geometry: Any) -> list[Any]:
    """The polygons in a geometry, without the lines and points that are left of rings without area."""
    import shapely

    held = shapely.get_parts(shapely.get_parts(geometry))  # a collection may hold multipolygons
    return [each for each in held if shapely.get_type_id(each) == POLYGON and not shapely.is_empty(each)]


def _rings_of(geometry: Any) -> Iterator[Ring]:
    """Shells and holes of all polygons, not closed."""
    for polygon in _polygons(geometry):
        for line in (polygon.exterior, *polygon.interiors):
            yield np.array(line.coords, np.float64)[:-1, :2]
