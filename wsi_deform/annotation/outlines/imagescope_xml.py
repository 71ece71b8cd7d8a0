"""XML of Aperio ImageScope, as MoNuSeg and HistoQC have it too, and HALO's dialect of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from wsi_deform.annotation.outlines.colours import colour_from_bgr, colour_text
from wsi_deform.annotation.outlines.found import FARTHEST_PX, Found
from wsi_deform.annotation.outlines.outline import Colour, Ring
from wsi_deform.annotation.outlines.shapes import bounding_ring, ellipse_in
from wsi_deform.annotation.outlines.stored import AnnotationFile

# Types as numbers (ImageScope) and as words (HALO).
RECTANGLES, ELLIPSES = ("1", "rectangle"), ("2", "ellipse")
NOT_AREAS = {
    "3": "arrows",
    "arrow": "arrows",
    "4": "points",
    "pin": "points",
    "5": "rulers",
    "ruler": "rulers",
}
CORNERS = 4
"""A rectangle or ellipse with more vertices is drawn out already."""

UNNAMED_ATTRIBUTES = ("", "Description")
VERTICES = ("Vertex", "V")


@dataclass(slots=True)
class _Region:
    """An element Region."""

    number: int
    kind: str
    is_negative: bool
    vertices: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Layer:
    """An element Annotation, which ImageScope shows as a layer."""

    name: str
    colour: Colour | None
    regions: list[_Region] = field(default_factory=list)


class ImagescopeXml:
    """Regions of the root element Annotations; the layer of each is its class."""

    name = "ImageScope XML"
    is_cropped = False

    def recognises(self, file: AnnotationFile) -> bool:
        """By the root element, and by what lies in it."""
        if file.root != "Annotations":
            return False
        names = [name for name, held in islice(file.events(), 2) if isinstance(held, dict)]
        return names[1:] in ([], ["Annotation"], ["Attributes"])

    def read(self, file: AnnotationFile, found: Found) -> None:
        """See ``OutlineFormat``."""
        layers = _layers(file)
        drawn = [each for each in layers if any(region.kind not in NOT_AREAS for region in each.regions)]
        for layer in layers:
            name = layer.name or None
            # The colours of one layer mean nothing: MoNuSeg has nuclei in several.
            if name is None and len(drawn) > 1 and layer.colour is not None:
                name = colour_text(layer.colour)
            _add_layer(found, layer, name)
        nameless = [each for each in drawn if not each.name]
        if nameless and len(drawn) > 1:
            found.remark("Layers without a name, whose colour was taken for their class", len(nameless))


def _layers(file: AnnotationFile) -> list[_Layer]:
    """All layers; their own attributes name those without a name."""
    layers: list[_Layer] = []
    region: _Region | None = None
    count = 0
    for name, held in file.events():
        if not isinstance(held, dict):
            if name == "Region":
                region = None
        elif name == "Annotation":
            colour = colour_from_bgr(held.get("LineColor", ""))
            layers.append(_Layer(name=held.get("Name", "").strip(), colour=colour))
        elif name == "Region":
            count += 1
            region = _Region(
                number=count,
                kind=held.get("Type", "0").strip().lower(),
                is_negative=held.get("NegativeROA", "0").strip().lower() in ("1", "true"),
            )
            if not layers:
                raise file.error("a Region outside of any Annotation, needed one around it", count)
            layers[-1].regions.append(region)
        elif name == "Attribute" and region is None and layers and not layers[-1].name:
            title, value = held.get("Name", "").strip(), held.get("Value", "").strip()
            layers[-1].name = value or (title if title not in UNNAMED_ATTRIBUTES else "")
        elif name in VERTICES and region is not None:
            if "X" not in held or "Y" not in held:
                raise file.error("a vertex lacks X or Y, needed both", region.number)
            region.vertices.append((held["X"], held["Y"]))
    return layers


def _add_layer(found: Found, layer: _Layer, name: str | None) -> None:
    """Add the regions of a layer, without what its negative regions cut out of them."""
    positive: list[tuple[_Region, Ring]] = []
    negative: list[Ring] = []
    for region in layer.regions:
        if region.kind in NOT_AREAS:
            found.leave_out(NOT_AREAS[region.kind])
            continue
        ring = _ring(found, region)
        if region.is_negative:
            negative.append(ring)
        else:
            positive.append((region, ring))
    holes = _holes([ring for _, ring in positive], negative)
    for (region, ring), cut in zip(positive, holes, strict=True):
        parts = [[ring, *(negative[each] for each in cut)]]
        found.add(parts, source_class=name, colour=layer.colour, number=region.number)
    cuts = len({each for cut in holes for each in cut})
    if cuts:
        found.remark("Negative regions, cut out of the regions of their layers", cuts)
    if len(negative) > cuts:
        found.remark("Negative regions that meet no region of their layer, left out", len(negative) - cuts)


def _ring(found: Found, region: _Region) -> Ring:
    ring = found.ring(region.vertices, region.number)
    # Infinite ones are refused later, and by number.
    if len(ring) > CORNERS or len(ring) < 2 or not (np.abs(ring) <= FARTHEST_PX).all():
        return ring
    if region.kind in ELLIPSES:
        found.remark("Ellipses, drawn into their bounding boxes")
        return ellipse_in(ring)
    return bounding_ring(ring) if region.kind in RECTANGLES and len(ring) == 2 else ring


def _holes(shells: list[Ring], negative: list[Ring]) -> list[list[int]]:
    """For each shell the negative regions that meet it."""
    import shapely

    found: list[list[int]] = [[] for _ in shells]
    if not negative or not shells:
        return found
    tree = shapely.STRtree([_area(ring) for ring in negative])
    areas = [_area(ring) for ring in shells]
    for shell, hole in tree.query(areas, predicate="intersects").T.tolist():
        if not shapely.touches(areas[shell], tree.geometries[hole]):
            found[shell].append(hole)
    return found


def _area(ring: Ring) -> object:
    """A ring as a geometry that can be asked what it meets."""
    import shapely

    if len(ring) < 3 or not np.isfinite(ring).all():
        return shapely.Polygon()
    return shapely.make_valid(shapely.polygons(ring))
