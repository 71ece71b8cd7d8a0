"""JSON of the Digital Slide Archive, HistomicsTK and HistomicsUI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from wsi_deform.annotation.outlines.colours import colour_from_json
from wsi_deform.annotation.outlines.found import Found, shown
from wsi_deform.annotation.outlines.outline import Ring
from wsi_deform.annotation.outlines.shapes import box_ring, ellipse_ring, turned_ring
from wsi_deform.annotation.outlines.stored import AnnotationFile

NOT_AREAS = {
    "point": "points", "arrow": "arrows", "heatmap": "heatmaps", "griddata": "grids", "image": "images",
    "pixelmap": "pixel maps", "rectanglegrid": "grids",
}  # fmt: skip


class DsaJson:
    """Elements of an annotation, or of a list of annotations; the group or else the label of each is its class."""

    name = "DSA JSON"
    is_cropped = True

    def recognises(self, file: AnnotationFile) -> bool:
        """By a list "elements", in the outermost object, in its member "annotation", or in those of a list."""
        data = file.json
        first = data[0] if isinstance(data, list) and data else data
        return _elements(first) is not None

    def read(self, file: AnnotationFile, found: Found) -> None:
        """See ``OutlineFormat``."""
        for number, element in enumerate(_all_elements(file), start=1):
            if not isinstance(element, dict):
                raise file.error(f"it is {shown(element)}, needed an object", number)
            rings = _rings(found, element, number)
            if rings is not None:
                colour = colour_from_json(element.get("lineColor"))
                found.add([rings], source_class=_class_of(element), number=number, colour=colour)


def _elements(data: Any) -> list[Any] | None:
    """The elements of one annotation, None for what is none."""
    if isinstance(data, dict) and isinstance(data.get("annotation"), dict):
        data = data["annotation"]
    held = data.get("elements") if isinstance(data, dict) else None
    return held if isinstance(held, list) else None


def _all_elements(file: AnnotationFile) -> Iterator[Any]:
    documents = file.json if isinstance(file.json, list) else [file.json]
    for place, document in enumerate(documents, start=1):
        held = _elements(document)
        if held is None:
            raise file.error(f"document {place} is {shown(document)}, needed an annotation with elements")
        yield from held


def _class_of(element: dict[str, Any]) -> str | None:
    """The group, which HistomicsUI lets people choose, or the label."""
    group, label = element.get("group"), element.get("label")
    if isinstance(group, str) and group:
        return group
    value = label.get("value") if isinstance(label, dict) else None
    return value if isinstance(value, str) else None


def _rings(found: Found, element: dict[str, Any], number: int) -> list[Ring] | None:
    """The shell and the holes of an element; None where it is no area, which is counted."""
    kind = element.get("type")
    if kind == "polyline":
        if not element.get("closed"):
            found.leave_out("lines")
            return None
        holes = element.get("holes") or []
        if not isinstance(holes, list):
            raise found.file.error(f"holes are {shown(holes)}, needed a list", number)
        return [found.ring(each, number) for each in (element.get("points"), *holes)]
    if kind in ("rectangle", "ellipse", "circle"):
        return [_shape(found, element, number)]
    if isinstance(kind, str) and kind in NOT_AREAS:
        found.leave_out(NOT_AREAS[kind])
        return None
    raise found.file.error(
        f"type is {shown(kind)}, needed one of polyline, rectangle, ellipse, circle, {', '.join(NOT_AREAS)}",
        number,
    )


def _shape(found: Found, element: dict[str, Any], number: int) -> Ring:
    """A rectangle, ellipse or circle around its centre."""
    centre = element.get("center")
    if not isinstance(centre, list) or len(centre) < 2:
        raise found.file.error(f"center is {shown(centre)}, needed x and y", number)
    x, y = found.numbers(centre[:2], number, "center")
    if element["type"] == "circle":
        (radius,) = found.numbers([element.get("radius")], number, "radius")
        return ellipse_ring((x, y), (abs(radius), abs(radius)))
    sides = [element.get("width"), element.get("height")]
    width, height = (abs(each) for each in found.numbers(sides, number, "width or height"))
    (angle,) = found.numbers([element.get("rotation") or 0.0], number, "rotation")
    if element["type"] == "ellipse":
        return ellipse_ring((x, y), (width / 2, height / 2), turned=angle)
    around_zero = box_ring(-width / 2, -height / 2, width / 2, height / 2)
    placed: Ring = turned_ring(around_zero, angle) + np.array([x, y])
    return placed
