"""XML of ASAP, also as CAMELYON, TIGER and others publish it."""

from __future__ import annotations

from dataclasses import dataclass, field

from wsi_deform.annotation.outlines.colours import colour_from_text
from wsi_deform.annotation.outlines.found import Found, shown
from wsi_deform.annotation.outlines.outline import Ring
from wsi_deform.annotation.outlines.shapes import bounding_ring
from wsi_deform.annotation.outlines.stored import AnnotationFile

AREAS = ("Polygon", "Rectangle", "Spline")
NOT_AREAS = {"Dot": "points", "PointSet": "points", "Measurement": "measurements"}
NO_GROUP = ("", "None")

CAMELYON16_GROUPS = {"_0", "_1", "_2"}
CAMELYON16_EXCLUSION = "_2"
EXCLUSION = "exclusion"
METASTASES, NORMAL = "metastases", "normal"


@dataclass(slots=True)
class _Annotation:
    """An element Annotation."""

    number: int
    kind: str
    group: str | None
    colour: str
    vertices: list[tuple[str, str, str]] = field(default_factory=list)


class AsapXml:
    """Annotations of the root element ASAP_Annotations; the group of each is its class."""

    name = "ASAP XML"
    is_cropped = False

    def recognises(self, file: AnnotationFile) -> bool:
        """By the root element."""
        return file.root == "ASAP_Annotations"

    def read(self, file: AnnotationFile, found: Found) -> None:
        """See ``OutlineFormat``."""
        annotations = _annotations(file)
        groups = {each.group for each in annotations if each.group is not None}
        exclusions = _exclusions(groups)
        last = {NORMAL} if groups >= {METASTASES, NORMAL} else set()
        drawn: list[tuple[int, _Annotation, Ring]] = []
        for each in annotations:
            if each.kind in NOT_AREAS:
                found.leave_out(
                    NOT_AREAS[each.kind], max(1, len(each.vertices)) if each.kind != "Measurement" else 1
                )
                continue
            if each.kind not in AREAS:
                raise file.error(
                    f"Type is {shown(each.kind)}, needed one of {', '.join((*AREAS, *NOT_AREAS))}",
                    each.number,
                )
            rank = 2 if each.group in exclusions else 1 if each.group in last else 0
            drawn.append((rank, each, _ring(found, each)))
        # ASAP draws group after group too when it makes a mask of CAMELYON's files.
        for rank, each, ring in sorted(drawn, key=lambda one: one[0]):
            found.add(
                [[ring]],
                source_class=each.group,
                number=each.number,
                colour=colour_from_text(each.colour),
                erases=rank == 2,
            )
            if rank == 2:
                found.remark("Outlines of exclusion groups, which take away what the others drew")
            elif rank == 1:
                found.remark(f'Outlines of the group "{NORMAL}", drawn over the others as in CAMELYON17')


def _annotations(file: AnnotationFile) -> list[_Annotation]:
    annotations: list[_Annotation] = []
    current: _Annotation | None = None
    for name, held in file.events():
        if name == "Annotation":
            current = None
            if isinstance(held, dict):
                group = held.get("PartOfGroup", "").strip()
                current = _Annotation(
                    number=len(annotations) + 1,
                    kind=held.get("Type", "Polygon").strip(),
                    group=None if group in NO_GROUP else group,
                    colour=held.get("Color", ""),
                )
                annotations.append(current)
        elif name == "Coordinate" and current is not None and isinstance(held, dict):
            if "X" not in held or "Y" not in held:
                raise file.error("a Coordinate lacks X or Y, needed both", current.number)
            current.vertices.append((held.get("Order", ""), held["X"], held["Y"]))
    return annotations


def _ring(found: Found, annotation: _Annotation) -> Ring:
    """The vertices in their order."""
    vertices, number = annotation.vertices, annotation.number
    ring = found.ring([(x, y) for _, x, y in vertices], number)
    orders = [order for order, _, _ in vertices]
    if all(order.isascii() and order.isdigit() and len(order) < 10 for order in orders):
        places = [int(order) for order in orders]
        if places != sorted(places):
            ring = ring[sorted(range(len(places)), key=places.__getitem__)]
    if annotation.kind == "Spline":
        found.remark("Splines, taken for the polygons of their control points")
    elif annotation.kind == "Rectangle" and len(ring) == 2:
        ring = bounding_ring(ring)
    return ring


def _exclusions(groups: set[str]) -> set[str]:
    """The groups whose outlines take away what others drew.

    Source:
        CAMELYON16's description: "_0" and "_1" are tumour, "_2" is what was cut out of it. Other groups that are
        called so by number mean something else.
    """
    found = {each for each in groups if each.lower() == EXCLUSION}
    numbered = {each for each in groups if each.startswith("_") and each[1:].isdigit()}
    return found | ({CAMELYON16_EXCLUSION} & groups if numbered <= CAMELYON16_GROUPS else set())
