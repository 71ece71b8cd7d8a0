"""GeoJSON as QuPath writes it, in all its versions, and as other programs write it for QuPath."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wsi_deform.annotation.outlines.colours import colour_from_json
from wsi_deform.annotation.outlines.found import Found, shown
from wsi_deform.annotation.outlines.outline import Colour, Ring
from wsi_deform.annotation.outlines.stored import AnnotationFile
from wsi_deform.geometry import Point
from wsi_deform.texts import MAX_DEPTH

POINTS = ("Point", "MultiPoint")
LINES = ("LineString", "MultiLineString")
AREAS = ("Polygon", "MultiPolygon")
COLLECTION = "GeometryCollection"
GEOMETRIES = (*POINTS, *LINES, *AREAS, COLLECTION)
TYPES = (*GEOMETRIES, "Feature", "FeatureCollection")
BETWEEN_CLASSES = ": "
"""What QuPath puts between the names of a class within a class."""

Parts = list[list[Ring]]


class QupathGeojson:
    """A FeatureCollection, a list of features, a feature or a geometry."""

    name = "QuPath GeoJSON"
    is_cropped = True

    def recognises(self, file: AnnotationFile) -> bool:
        """By the member "type" of the outermost object, or of the first one of a list."""
        data = file.json
        if isinstance(data, list):
            data = data[0] if data else {"type": "FeatureCollection"}
        return (
            isinstance(data, dict) and data.get("type") in TYPES and not isinstance(data["type"], list | dict)
        )

    def read(self, file: AnnotationFile, found: Found) -> None:
        """See ``OutlineFormat``."""
        data = file.json
        found.corner = _own_corner(found, data)
        features = list(_features(found, data))
        has_classes = any(_class_of(_properties(each)) is not None for each in features)
        for number, feature in enumerate(features, start=1):
            _read_feature(found, feature, number, has_classes=has_classes)


def _own_corner(found: Found, data: Any) -> Point | None:
    """The corner that files of this program count from, see ``mask/geojson.py``."""
    about = data.get("wsi_deform") if isinstance(data, dict) else None
    if not isinstance(about, dict) or "offset_px" not in about:
        return None
    offset = about["offset_px"]
    if not isinstance(offset, list) or len(offset) != 2:
        raise found.file.error(f"offset_px is {shown(offset)}, needed two numbers")
    x, y = found.numbers(offset, 0, "offset_px")
    return Point(x, y)


def _features(found: Found, data: Any) -> Iterator[Any]:
    """All features, children after their parents."""
    if isinstance(data, dict):
        kind = data.get("type")
        if kind == "FeatureCollection":
            data = data.get("features")
            if not isinstance(data, list):
                raise found.file.error(f"features is {shown(data)}, needed a list")
        else:
            data = [data if kind == "Feature" else {"type": "Feature", "geometry": data}]
    waiting = [(each, 0) for each in reversed(data)]
    while waiting:
        feature, depth = waiting.pop()
        yield feature
        properties = _properties(feature)
        children = properties.get("childObjects", properties.get("children"))
        if isinstance(children, list) and depth < MAX_DEPTH:
            waiting += [(each, depth + 1) for each in reversed(children)]


def _properties(feature: Any) -> dict[str, Any]:
    held = feature.get("properties") if isinstance(feature, dict) else None
    return held if isinstance(held, dict) else {}


def _read_feature(found: Found, feature: Any, number: int, *, has_classes: bool) -> None:
    if not isinstance(feature, dict):
        raise found.file.error(f"it is {shown(feature)}, needed an object", number)
    if feature.get("type") in GEOMETRIES:  # a list of bare geometries
        feature = {"geometry": feature}
    geometry, properties = feature.get("geometry"), _properties(feature)
    if geometry is None:
        found.leave_out("features without a geometry")
        return
    parts = _parts(found, geometry, number, depth=0)
    if feature.get("nucleusGeometry") is not None:
        found.remark("Nuclei of cells (nucleusGeometry), left out")
    if not parts:
        return
    source_class = _class_of(properties)
    if source_class is None and not has_classes and isinstance(properties.get("name"), str):
        source_class = properties["name"]
        found.remark("No outline has a classification; outlines whose name was taken for their class")
    if isinstance(geometry.get("plane"), dict) and any(geometry["plane"].get(axis) for axis in "zt"):
        found.remark("Outlines on another plane than the first (z or t), which were not told apart")
    found.add(parts, source_class=source_class, colour=_colour_of(properties), number=number)


def _parts(found: Found, geometry: Any, number: int, *, depth: int) -> Parts:
    """The polygons of a geometry; points and lines are counted."""
    if not isinstance(geometry, dict):
        raise found.file.error(f"geometry is {shown(geometry)}, needed an object", number)
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == COLLECTION:
        held = geometry.get("geometries")
        if not isinstance(held, list) or depth >= MAX_DEPTH:
            raise found.file.error(f"geometries is {shown(held)}, needed a list of geometries", number)
        return [part for each in held for part in _parts(found, each, number, depth=depth + 1)]
    if kind not in GEOMETRIES:
        raise found.file.error(
            f"geometry type is {shown(kind)}, needed one of {', '.join(GEOMETRIES)}", number
        )
    if not isinstance(coordinates, list):
        raise found.file.error(f"coordinates are {shown(coordinates)}, needed a list", number)
    if kind in AREAS:
        return [
            [found.ring(ring, number) for ring in _list(found, rings, number)]
            for rings in ([coordinates] if kind == "Polygon" else coordinates)
            if rings != []
        ]
    count = 1 if kind in ("Point", "LineString") else len(coordinates)
    found.leave_out("points" if kind in POINTS else "lines", count)
    return []


def _list(found: Found, rings: Any, number: int) -> list[Any]:
    if not isinstance(rings, list):
        raise found.file.error(f"a polygon is {shown(rings)}, needed a list of rings", number)
    return rings


def _classification(properties: dict[str, Any]) -> Any:
    """What stands for the class; older and other writers call it ``pathClass``."""
    held = properties.get("classification")
    return properties.get("pathClass") if held is None else held


def _class_of(properties: dict[str, Any]) -> str | None:
    """The name of the class, as QuPath shows it; None without one."""
    held = _classification(properties)
    names: list[str] = []
    for _ in range(MAX_DEPTH):
        if isinstance(held, str):
            held = {"name": held}
        elif isinstance(held, list):
            held = {"names": held}
        if not isinstance(held, dict):
            break
        several, name = held.get("names"), held.get("name")
        if isinstance(several, list) and several and all(isinstance(each, str) for each in several):
            names[:0] = several
        elif isinstance(name, str) and name:
            names.insert(0, name)
        held = held.get("parentClass")  # QuPath 0.2 and 0.3
    return BETWEEN_CLASSES.join(names) or None


def _colour_of(properties: dict[str, Any]) -> Colour | None:
    """The colour of the object itself, or else of its class."""
    held = _classification(properties)
    written = [properties.get("color")]
    if isinstance(held, dict):
        written += [held.get("color"), held.get("colorRGB")]
    return next((found for each in written if (found := colour_from_json(each)) is not None), None)
