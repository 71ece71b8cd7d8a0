"""Small sound annotation files of every format, with something of each kind that the format knows."""

from __future__ import annotations

import json
from pathlib import Path

RING = [[10, 20], [60, 20], [60, 90], [10, 90], [10, 20]]
HOLE = [[20, 30], [20, 50], [40, 50], [40, 30], [20, 30]]
TRIANGLE = [[100.5, 20], [160.25, 20], [100.5, 90], [100.5, 20]]


def qupath_geojson(path: Path) -> None:
    """Annotations, a cell with its nucleus, a point and a collection, of several versions of QuPath."""
    polygon = {"type": "Polygon", "coordinates": [RING, HOLE]}
    parts = {"type": "MultiPolygon", "coordinates": [[RING], [TRIANGLE]]}
    point = {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}
    held = {"type": "GeometryCollection", "geometries": [polygon, point]}
    child = {"type": "Feature", "geometry": polygon, "properties": {"classification": "Stroma"}}
    features = [
        _feature(polygon, objectType="annotation", classification={"name": "Tumor", "color": [200, 0, 0]}),
        _feature(
            parts, classification={"name": "Positive", "colorRGB": -3670016, "parentClass": {"name": "Tumor"}}
        ),
        {**_feature(polygon, objectType="cell", childObjects=[child]), "nucleusGeometry": polygon},
        _feature(held, name="region", isLocked=True),
    ]
    about = {"offset_px": [5, 6]}
    _write(path, {"type": "FeatureCollection", "wsi_deform": about, "features": features})


def darwin_json(path: Path) -> None:
    """Paths, a bounding box, an ellipse and a point."""
    paths = [[{"x": x, "y": y} for x, y in ring] for ring in (RING, HOLE)]
    box = {"x": 10.5, "y": 20, "w": 30, "h": 40}
    ellipse = {"center": {"x": 90, "y": 80}, "radius": {"x": 20, "y": 10}, "angle": 0.5}
    annotations = [
        {"name": "tumour", "polygon": {"paths": paths}, "bounding_box": box, "slot_names": ["0"]},
        {"name": "roi", "bounding_box": box, "slot_names": ["0"]},
        {"name": "cell", "ellipse": ellipse, "slot_names": ["0"]},
        {"name": "cell", "keypoint": {"x": 1, "y": 2}, "slot_names": ["0"]},
    ]
    _write(path, {"version": "2.0", "item": {"name": "a.svs"}, "annotations": annotations})


def coco_json(path: Path) -> None:
    """Polygons, a box and both kinds of run-length masks."""
    flat = [value for pair in RING[:-1] for value in pair]
    held: list[dict[str, object]] = [
        {"segmentation": [flat], "bbox": [10, 20, 50, 70]},
        {"segmentation": [], "bbox": [10, 20, 50, 70]},
        {"segmentation": {"size": [200, 300], "counts": [2, 5, 3, 4, 59986]}, "iscrowd": 1},
        {"segmentation": {"size": [200, 300], "counts": "45gbj1"}},
    ]
    annotations = [{"image_id": 1, "category_id": 5, **each} for each in held]
    images = [{"id": 1, "file_name": "a.svs", "width": 300, "height": 200}]
    _write(path, {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "tumour"}]})


def dsa_json(path: Path) -> None:
    """A polyline with a hole, a rectangle, an ellipse, a circle and a point."""
    shape = {"center": [100, 80, 0], "width": 40, "height": 20, "rotation": 0.5}
    elements = [
        {
            "type": "polyline",
            "closed": True,
            "points": RING,
            "holes": [HOLE],
            "group": "tumour",
            "lineColor": "#ff0000",
        },
        {"type": "rectangle", **shape, "label": {"value": "roi"}},
        {"type": "ellipse", **shape},
        {"type": "circle", "center": [100, 80, 0], "radius": 9},
        {"type": "point", "center": [1, 2, 0]},
    ]
    _write(path, {"annotation": {"name": "a", "elements": elements}})


def asap_xml(path: Path) -> None:
    """A polygon, a rectangle, a spline, an exclusion and a dot."""
    text = '<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>'
    for kind, group in (
        ("Polygon", "_0"),
        ("Rectangle", "_1"),
        ("Spline", "None"),
        ("Polygon", "_2"),
        ("Dot", "None"),
    ):
        text += f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>'
        for order, (x, y) in enumerate(RING[:1] if kind == "Dot" else RING[:4]):
            text += f'<Coordinate Order="{order}" X="{x}" Y="{y}" />'
        text += "</Coordinates></Annotation>"
    text += '</Annotations><AnnotationGroups><Group Name="_0" PartOfGroup="None" Color="#64FE2E" /></AnnotationGroups>'
    path.write_text(text + "</ASAP_Annotations>", encoding="utf-8")


def imagescope_xml(path: Path) -> None:
    """Two layers with a negative region, an ellipse and a ruler."""
    text = '<Annotations MicronsPerPixel="0.25">'
    for colour, kinds in ((255, ("0", "1")), (65280, ("2", "5"))):
        text += f'<Annotation Id="1" Name="" LineColor="{colour}">'
        text += '<Attributes><Attribute Name="CaP" Value=""/></Attributes><Regions>'
        for kind in kinds:
            for negative, ring in (("0", RING), ("1", HOLE)):
                vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring[:4])
                text += (
                    f'<Region Type="{kind}" NegativeROA="{negative}"><Vertices>{vertices}</Vertices></Region>'
                )
        text += "</Regions></Annotation>"
    path.write_text(text + "</Annotations>", encoding="utf-8")


def sedeen_xml(path: Path) -> None:
    """A polygon, a rectangle, an ellipse and a point."""
    text = '<session software="x"><image identifier="a.svs"><transform><translation>0.0,0.0</translation>'
    text += "<rotation>0.0</rotation><scale>1.0,1.0</scale></transform><overlays>"
    for kind in ("polygon", "rectangle", "ellipse", "point"):
        points = "".join(f"<point>{x}.000000,{y}.000000</point>" for x, y in RING[:4])
        text += f'<graphic type="{kind}" name="a"><pen color="#00ff00ff"/><point-list>{points}</point-list></graphic>'
    path.write_text(text + "</overlays></image></session>", encoding="utf-8")


def _feature(geometry: object, **properties: object) -> dict[str, object]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


SEEDS = {
    "outlines-geojson": ("o.json", qupath_geojson),
    "outlines-asap": ("o.xml", asap_xml),
    "outlines-imagescope": ("o.xml", imagescope_xml),
    "outlines-sedeen": ("o.xml", sedeen_xml),
    "outlines-darwin": ("o.json", darwin_json),
    "outlines-coco": ("o.json", coco_json),
    "outlines-dsa": ("o.json", dsa_json),
}
"""Kind -> file name and what draws it, as ``seeds.SEEDS``, which holds these too."""
