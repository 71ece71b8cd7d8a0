"""Annotation files of every format, drawn; and areas of rings, measured without the program."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Pairs = Sequence[tuple[float, float]]

SQUARE = [(10.0, 20.0), (30.0, 20.0), (30.0, 40.0), (10.0, 40.0)]
TRIANGLE = [(50.5, 60.0), (70.5, 60.0), (50.5, 80.0)]


@dataclass(frozen=True)
class Drawn:
    """A polygon to be drawn."""

    ring: Pairs
    source_class: str | None = "tumour"
    colour: tuple[int, int, int] | None = (200, 0, 10)


def shoelace(ring: np.ndarray | Pairs) -> float:
    """The area of a ring that does not cross itself."""
    x, y = np.asarray(ring, float).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def even_odd_area(rings: Sequence[np.ndarray]) -> float:
    """The area that is inside of rings by the even-odd rule, slab by slab; rings do not cross."""
    edges = np.concatenate([np.stack([ring, np.roll(ring, -1, axis=0)], axis=1) for ring in rings])
    levels = np.unique(np.concatenate(rings)[:, 1])
    total = 0.0
    for low, high in zip(levels[:-1], levels[1:], strict=True):
        middle = (low + high) / 2
        (x0, y0), (x1, y1) = edges[:, 0].T, edges[:, 1].T
        met = (y0 <= middle) != (y1 <= middle)
        at = np.sort(x0[met] + (middle - y0[met]) / (y1[met] - y0[met]) * (x1[met] - x0[met]))
        total += float((high - low) * (at[1::2] - at[::2]).sum())
    return total


def geojson(drawn: Sequence[Drawn]) -> str:
    features = []
    for each in drawn:
        properties: dict[str, object] = {"objectType": "annotation"}
        if each.source_class is not None:
            properties["classification"] = {"name": each.source_class, "color": each.colour}
        ring = [*each.ring, each.ring[0]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}
    return json.dumps({"type": "FeatureCollection", "features": [*features, point]})


def asap(drawn: Sequence[Drawn]) -> str:
    text = '<?xml version="1.0"?><ASAP_Annotations><Annotations>'
    for number, each in enumerate(drawn):
        colour = "#{:02x}{:02x}{:02x}".format(*(each.colour or (1, 2, 3)))
        group = each.source_class or "None"
        text += (
            f'<Annotation Name="Annotation {number}" Type="Polygon" PartOfGroup="{group}" Color="{colour}">'
        )
        text += "<Coordinates>"
        for order, (x, y) in enumerate(each.ring):
            text += f'<Coordinate Order="{order}" X="{x}" Y="{y}" />'
        text += "</Coordinates></Annotation>"
    text += '<Annotation Name="dot" Type="Dot" PartOfGroup="None" Color="#F4FA58"><Coordinates>'
    text += '<Coordinate Order="0" X="1" Y="2" /></Coordinates></Annotation></Annotations>'
    return text + "<AnnotationGroups /></ASAP_Annotations>"


def imagescope(drawn: Sequence[Drawn]) -> str:
    text = '<Annotations MicronsPerPixel="0.25">'
    for each in drawn:
        red, green, blue = each.colour or (1, 2, 3)
        name = each.source_class or ""
        text += f'<Annotation Id="1" Name="{name}" LineColor="{red + 256 * green + 65536 * blue}">'
        text += '<Attributes><Attribute Name="Description" Id="0" Value=""/></Attributes><Regions>'
        text += region(each.ring)
        text += "</Regions></Annotation>"
    arrow = region([(1, 2), (3, 4)], kind="3")
    return (
        text + f'<Annotation Name="notes" LineColor="0"><Regions>{arrow}</Regions></Annotation></Annotations>'
    )


def region(ring: Pairs, *, kind: str = "0", negative: str = "0") -> str:
    """An element Region of ImageScope."""
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring)
    return f'<Region Type="{kind}" NegativeROA="{negative}"><Attributes/><Vertices>{vertices}</Vertices></Region>'


def sedeen(drawn: Sequence[Drawn]) -> str:
    text = '<session software="x"><image identifier="a.svs"><transform>'
    text += '<translation units="um">0.0,0.0</translation><rotation unit="degrees">0.0</rotation>'
    text += "<scale>1.0,1.0</scale></transform><overlays>"
    for each in drawn:
        colour = "#{:02x}{:02x}{:02x}ff".format(*(each.colour or (1, 2, 3)))
        points = "".join(f"<point>{x},{y}</point>" for x, y in each.ring)
        text += f'<graphic type="polygon" name="{each.source_class or ""}"><pen color="{colour}"/>'
        text += f"<point-list>{points}</point-list></graphic>"
    text += '<graphic type="point" name="p"><point-list><point>1,2</point></point-list></graphic>'
    return text + "</overlays></image></session>"


def darwin(drawn: Sequence[Drawn]) -> str:
    annotations: list[dict[str, object]] = []
    for each in drawn:
        path = [{"x": x, "y": y} for x, y in each.ring]
        annotation: dict[str, object] = {"polygon": {"paths": [path]}, "slot_names": ["0"]}
        if each.source_class is not None:
            annotation["name"] = each.source_class
        annotations.append(annotation)
    annotations.append({"name": "cell", "keypoint": {"x": 1, "y": 2}, "slot_names": ["0"]})
    return json.dumps({"version": "2.0", "item": {"name": "a.svs"}, "annotations": annotations})


def coco(drawn: Sequence[Drawn]) -> str:
    names = sorted({each.source_class for each in drawn if each.source_class is not None})
    annotations: list[dict[str, object]] = []
    for each in drawn:
        flat = [value for pair in each.ring for value in pair]
        annotation: dict[str, object] = {"image_id": 7, "segmentation": [flat], "iscrowd": 0}
        if each.source_class is not None:
            annotation["category_id"] = names.index(each.source_class)
        annotations.append(annotation)
    annotations.append({"image_id": 7, "category_id": None, "caption": "a slide"})
    images = [{"id": 7, "file_name": "a.svs"}]
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def dsa(drawn: Sequence[Drawn]) -> str:
    elements: list[dict[str, object]] = []
    for each in drawn:
        points = [[x, y, 0] for x, y in each.ring]
        element: dict[str, object] = {"type": "polyline", "closed": True, "points": points}
        if each.source_class is not None:
            element["group"] = each.source_class
        if each.colour is not None:
            element["lineColor"] = "rgb({}, {}, {})".format(*each.colour)
        elements.append(element)
    elements.append({"type": "point", "center": [1, 2, 0]})
    return json.dumps({"annotation": {"name": "a", "elements": elements}})


FORMATS: dict[str, Callable[[Sequence[Drawn]], str]] = {
    "QuPath GeoJSON": geojson,
    "ASAP XML": asap,
    "ImageScope XML": imagescope,
    "Sedeen XML": sedeen,
    "Darwin JSON": darwin,
    "COCO JSON": coco,
    "DSA JSON": dsa,
}
"""Every format by its name, and what draws a file of polygons and one thing that is no area."""
