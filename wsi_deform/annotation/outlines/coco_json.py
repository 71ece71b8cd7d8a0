"""COCO JSON, as detectron2, CVAT, Label Studio and TIGER write it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from wsi_deform.annotation.outlines.found import Found, shown
from wsi_deform.annotation.outlines.image_choice import chosen_image
from wsi_deform.annotation.outlines.outline import Ring
from wsi_deform.annotation.outlines.run_lengths import run_length_rings
from wsi_deform.annotation.outlines.shapes import box_ring
from wsi_deform.annotation.outlines.stored import AnnotationFile


class CocoJson:
    """Annotations of one of its images; the category of each is its class."""

    name = "COCO JSON"
    is_cropped = False

    def recognises(self, file: AnnotationFile) -> bool:
        """By its lists "images" and "annotations"."""
        data = file.json
        return isinstance(data, dict) and all(
            isinstance(data.get(key), list) for key in ("images", "annotations")
        )

    def read(self, file: AnnotationFile, found: Found) -> None:
        """See ``OutlineFormat``."""
        data = file.json
        chosen = _image(file, data["images"])
        image = None if chosen is None else chosen["id"]
        known = {each["id"] for each in data["images"]}
        if chosen is not None:
            found.says_size(chosen.get("width"), chosen.get("height"))
        names = _category_names(file, data.get("categories", []))
        others = 0
        for number, annotation in enumerate(data["annotations"], start=1):
            if not isinstance(annotation, dict):
                raise file.error(f"it is {shown(annotation)}, needed an object", number)
            if chosen is not None and annotation.get("image_id") != image:
                _require_image(file, annotation.get("image_id"), known, number)
                others += 1
                continue
            category = annotation.get("category_id")
            if category is not None and (isinstance(category, list | dict) or category not in names):
                raise file.error(f"category_id is {shown(category)}, needed one of the categories", number)
            segmentation = annotation.get("segmentation")
            if isinstance(segmentation, dict):
                size = segmentation.get("size")
                if isinstance(size, list) and len(size) == 2:
                    found.says_size(size[1], size[0])
                found.remark("Run-length masks, taken by the edges of their pixels")
                rings = [run_length_rings(found, segmentation, number)]
                found.add(rings, source_class=names.get(category), number=number, is_sound=True)
                continue
            parts = _parts(found, annotation, number)
            if parts is not None:
                found.add(parts, source_class=names.get(category), number=number)
        if others:
            found.remark("Annotations of other images, left out", others)


def _require_image(file: AnnotationFile, image: Any, known: set[Any], number: int) -> None:
    """Refuse an annotation of no image: passed over it would be missing, and nobody told."""
    if isinstance(image, list | dict) or image not in known:
        raise file.error(f"image_id is {shown(image)}, needed the id of one of the images", number)


def _image(file: AnnotationFile, images: list[Any]) -> Any:
    """The slide among the images; None where the file lists none."""
    if not images:
        return None
    for each in images:
        known = each if isinstance(each, dict) else {}
        if not isinstance(known.get("id"), int | float | str) or not isinstance(
            known.get("file_name", ""), str
        ):
            raise file.error(f"an image is {shown(each)}, needed an object with id and file_name")
    ids = Counter(each["id"] for each in images)
    if len(ids) < len(images):
        raise file.error(f"several images have the id {shown(ids.most_common(1)[0][0])}, needed one each")
    return images[chosen_image(file, [each.get("file_name", "") for each in images])]


def _category_names(file: AnnotationFile, categories: Any) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for each in categories if isinstance(categories, list) else [categories]:
        known = each if isinstance(each, dict) else {}
        name, number = known.get("name"), known.get("id")
        if not isinstance(name, str) or not isinstance(number, int | str):
            raise file.error(f"a category is {shown(each)}, needed an object with id and name")
        if found.setdefault(number, name) != name:
            raise file.error(
                f"categories {found[number]!r} and {name!r} have the same id {number!r}, needed one each"
            )
    return found


def _parts(found: Found, annotation: dict[str, Any], number: int) -> list[list[Ring]] | None:
    """The polygons of an annotation; None where it is no area, which is counted."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        # One flat list of numbers is one polygon: some writers leave out the list around it.
        polygons = [segmentation] if not isinstance(segmentation[0], list) else segmentation
        return [[_ring(found, each, number)] for each in polygons]
    if segmentation not in (None, []):
        raise found.file.error(f"segmentation is {shown(segmentation)}, needed lists of numbers", number)
    if annotation.get("bbox") in (None, []):
        found.leave_out("annotations without an outline or box")
        return None
    box = annotation["bbox"]
    if not isinstance(box, list) or len(box) != 4:
        raise found.file.error(f"bbox is {shown(box)}, needed 4 numbers", number)
    x, y, width, height = found.numbers(box, number, "bbox")
    found.remark("Bounding boxes without a polygon, taken for rectangles")
    return [[box_ring(x, y, x + width, y + height)]]


def _ring(found: Found, flat: Any, number: int) -> Ring:
    """The vertices of a polygon that is written as x, y, x, y, ..."""
    if not isinstance(flat, list) or len(flat) % 2:
        raise found.file.error(f"a polygon is {shown(flat)}, needed an even number of numbers", number)
    return found.ring(list(zip(flat[::2], flat[1::2], strict=True)), number)
