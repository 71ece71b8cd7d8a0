"""Darwin JSON 2.0, as V7 exports it."""

from __future__ import annotations

from typing import Any

from wsi_deform.annotation.outlines.found import Found, shown
from wsi_deform.annotation.outlines.outline import Ring
from wsi_deform.annotation.outlines.shapes import box_ring, ellipse_ring
from wsi_deform.annotation.outlines.stored import AnnotationFile

NOT_AREAS = {
    "keypoint": "points", "line": "lines", "skeleton": "skeletons", "tag": "tags", "cuboid": "cuboids",
    "raster_layer": "raster layers", "mask": "raster layers", "string": "strings", "graph": "graphs",
    "simple_table": "tables",
}  # fmt: skip


class DarwinJson:
    """Annotations of an item; the name of each is its class."""

    name = "Darwin JSON"
    is_cropped = False

    def recognises(self, file: AnnotationFile) -> bool:
        """By its members "version", "item" and "annotations"."""
        data = file.json
        return isinstance(data, dict) and {"version", "item", "annotations"} <= data.keys()

    def read(self, file: AnnotationFile, found: Found) -> None:
        """See ``OutlineFormat``."""
        version, annotations = file.json["version"], file.json["annotations"]
        if not isinstance(version, str) or not version.startswith("2."):
            raise file.error(f"version is {shown(version)}, needed 2. Export the item again as Darwin JSON 2")
        if not isinstance(annotations, list):
            raise file.error(f"annotations is {shown(annotations)}, needed a list")
        slots: set[str] = set()
        for number, annotation in enumerate(annotations, start=1):
            if not isinstance(annotation, dict):
                raise file.error(f"it is {shown(annotation)}, needed an object", number)
            paths = _paths(found, annotation, number)
            if paths is None:
                continue
            slots.add(shown(annotation.get("slot_names")))
            name = annotation.get("name")
            found.add(
                [[path] for path in paths],
                source_class=name if isinstance(name, str) else None,
                number=number,
                is_even_odd=True,
            )
        item = file.json["item"]
        held = item.get("slots") if isinstance(item, dict) else None
        if isinstance(held, list) and len(held) == 1 and isinstance(held[0], dict):
            found.says_size(held[0].get("width"), held[0].get("height"))
        if len(slots) > 1:
            raise file.error(
                f"its outlines lie in {len(slots)} slots ({', '.join(sorted(slots)[:3])}), needed one image. Export "
                "each slot alone"
            )


def _paths(found: Found, annotation: dict[str, Any], number: int) -> list[Ring] | None:
    """The rings of an annotation; None where it is no area, which is counted."""
    if "polygon" in annotation:
        polygon = annotation["polygon"]
        paths = polygon.get("paths") if isinstance(polygon, dict) else None
        if not isinstance(paths, list):
            raise found.file.error(f"polygon is {shown(polygon)}, needed an object with paths", number)
        return [_ring(found, path, number) for path in paths]
    if "ellipse" in annotation:
        return [_ellipse(found, annotation["ellipse"], number)]
    for kind, what in NOT_AREAS.items():
        if kind in annotation:
            found.leave_out(what)
            return None
    if "bounding_box" in annotation:
        box = annotation["bounding_box"]
        x, y, width, height = found.numbers(_members(found, box, "xywh", number), number, "bounding_box")
        found.remark("Bounding boxes without a polygon, taken for rectangles")
        return [box_ring(x, y, x + width, y + height)]
    found.leave_out("annotations of another kind")
    return None


def _ring(found: Found, path: Any, number: int) -> Ring:
    try:
        points = [(each["x"], each["y"]) for each in path]
    except (TypeError, KeyError, IndexError) as error:
        raise found.file.error(f"a path is {shown(path)}, needed a list of x and y", number) from error
    return found.ring(points, number)


def _ellipse(found: Found, ellipse: Any, number: int) -> Ring:
    if not isinstance(ellipse, dict):
        raise found.file.error(f"ellipse is {shown(ellipse)}, needed an object", number)
    centre = found.numbers(_members(found, ellipse.get("center"), "xy", number), number, "center")
    radii = found.numbers(_members(found, ellipse.get("radius"), "xy", number), number, "radius")
    (angle,) = found.numbers([ellipse.get("angle", 0.0)], number, "angle")
    return ellipse_ring((centre[0], centre[1]), (abs(radii[0]), abs(radii[1])), turned=angle)


def _members(found: Found, held: Any, names: str, number: int) -> list[Any]:
    """Members of an object that are all needed."""
    if not isinstance(held, dict) or not held.keys() >= set(names):
        raise found.file.error(f"{shown(held)}, needed an object with {', '.join(names)}", number)
    return [held[name] for name in names]
