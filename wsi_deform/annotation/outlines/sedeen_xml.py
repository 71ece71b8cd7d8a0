"""Sessions of the Sedeen Viewer: XML with graphics over one or more images."""

from __future__ import annotations

from dataclasses import dataclass, field

from wsi_deform.annotation.outlines.colours import colour_from_text
from wsi_deform.annotation.outlines.found import Found, shown
from wsi_deform.annotation.outlines.image_choice import chosen_image
from wsi_deform.annotation.outlines.outline import Ring
from wsi_deform.annotation.outlines.shapes import bounding_ring, ellipse_in
from wsi_deform.annotation.outlines.stored import AnnotationFile

POLYGON, RECTANGLE, ELLIPSE = "polygon", "rectangle", "ellipse"
NOT_AREAS = {"polyline": "lines", "point": "points", "text": "texts", "ruler": "rulers", "arrow": "arrows"}
CORNERS = 4
IDENTITY = {"translation": 0.0, "rotation": 0.0, "scale": 1.0}


@dataclass(slots=True)
class _Graphic:
    """An element graphic."""

    number: int
    kind: str
    name: str
    pen: str = ""
    points: list[list[str]] = field(default_factory=list)


@dataclass(slots=True)
class _Image:
    """An element image with its transform and its graphics."""

    name: str
    dimensions: list[str] = field(default_factory=list)
    transform: dict[str, str] = field(default_factory=dict)
    graphics: list[_Graphic] = field(default_factory=list)


class SedeenXml:
    """Graphics of the root element session; the name of each is its class."""

    name = "Sedeen XML"
    is_cropped = False

    def recognises(self, file: AnnotationFile) -> bool:
        """By the root element and the image in it."""
        return file.root == "session" and any(name == "image" for name, _ in file.events())

    def read(self, file: AnnotationFile, found: Found) -> None:
        """See ``OutlineFormat``."""
        images = _images(file)
        image = images[chosen_image(file, [each.name for each in images])]
        _require_identity(found, image)
        if len(image.dimensions) == 2 and all(each.strip().isdecimal() for each in image.dimensions):
            found.says_size(*map(int, image.dimensions))
        for each in image.graphics:
            if each.kind in NOT_AREAS:
                found.leave_out(NOT_AREAS[each.kind], len(each.points) if each.kind == "point" else 1)
                continue
            if each.kind not in (POLYGON, RECTANGLE, ELLIPSE):
                raise file.error(
                    f"type is {shown(each.kind)}, needed one of {', '.join((POLYGON, RECTANGLE, ELLIPSE, *NOT_AREAS))}",
                    each.number,
                )
            found.add(
                [[_ring(found, each)]],
                source_class=each.name or None,
                number=each.number,
                colour=colour_from_text(each.pen),
            )


def _images(file: AnnotationFile) -> list[_Image]:
    images: list[_Image] = []
    graphic: _Graphic | None = None
    count, is_transform = 0, False
    for name, held in file.events():
        if isinstance(held, dict):
            if name == "image":
                images.append(_Image(name=held.get("identifier", "")))
            elif name == "transform":
                is_transform = True
            elif name == "graphic" and images:
                count += 1
                graphic = _Graphic(count, held.get("type", "").strip(), held.get("name", ""))
                images[-1].graphics.append(graphic)
            elif name == "pen" and graphic is not None:
                graphic.pen = held.get("color", "")
        elif name == "graphic":
            graphic = None
        elif name == "transform":
            is_transform = False
        elif name == "dimensions" and graphic is None and images:
            images[-1].dimensions = held.split(",")
        elif name == "point" and graphic is not None:
            graphic.points.append(held.split(","))
        elif is_transform and images and name in IDENTITY:
            images[-1].transform[name] = held
    return images


def _require_identity(found: Found, image: _Image) -> None:
    """Refuse an image that the session moves, turns or scales: where its graphics are then is nowhere described."""
    for name, text in image.transform.items():
        if any(each != IDENTITY[name] for each in found.numbers(text.split(","), 0, name)):
            raise found.file.error(
                f"image {shown(image.name)} has the {name} {shown(text)}, needed {IDENTITY[name]:g}. Reset the "
                "image's transform in Sedeen and save the session again"
            )


def _ring(found: Found, graphic: _Graphic) -> Ring:
    for point in graphic.points:
        if len(point) != 2:  # with decimal commas they would be four
            raise found.file.error(f"a point is {shown(','.join(point))}, needed x,y", graphic.number)
    ring = found.ring(graphic.points, graphic.number)
    if graphic.kind == POLYGON or len(ring) < 2:
        return ring
    for pair in ring.tolist():
        found.numbers(pair, graphic.number, "a point")
    if graphic.kind == ELLIPSE:
        if len(ring) == CORNERS and bounding_ring(ring).tolist() != ring.tolist():
            raise found.file.error(
                "a turned ellipse, needed one along the axes. Draw it as a polygon", graphic.number
            )
        found.remark("Ellipses, drawn into their bounding boxes")
        return ellipse_in(ring)
    return bounding_ring(ring) if len(ring) == 2 else ring
