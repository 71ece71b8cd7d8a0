"""Open an annotation file, whatever its format: the one place that knows all formats."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_deform.annotation.outlines.asap_xml import AsapXml
from wsi_deform.annotation.outlines.coco_json import CocoJson
from wsi_deform.annotation.outlines.darwin_json import DarwinJson
from wsi_deform.annotation.outlines.dsa_json import DsaJson
from wsi_deform.annotation.outlines.format import OutlineFormat
from wsi_deform.annotation.outlines.found import Found
from wsi_deform.annotation.outlines.imagescope_xml import ImagescopeXml
from wsi_deform.annotation.outlines.outline import OutlineSet
from wsi_deform.annotation.outlines.qupath_geojson import QupathGeojson
from wsi_deform.annotation.outlines.repair import outlines_of
from wsi_deform.annotation.outlines.sedeen_xml import SedeenXml
from wsi_deform.annotation.outlines.stored import AnnotationFile
from wsi_deform.errors import PluginError
from wsi_deform.geometry import Point, Size
from wsi_deform.plugins import add_named, failed_plugins, load_plugins

FORMATS: tuple[OutlineFormat, ...] = (
    QupathGeojson(),
    AsapXml(),
    ImagescopeXml(),
    SedeenXml(),
    DarwinJson(),
    CocoJson(),
    DsaJson(),
)
_ADDED: dict[str, OutlineFormat] = {}

OTHER_SCALE = 1.1
"""Programs pad slides, or cut off what is no whole tile: sides may differ by this factor."""

_log = logging.getLogger(__name__)


def add_format(format: OutlineFormat) -> None:
    """Read annotation files of another format.

    Args:
        format: Of a class as in ``outlines/format.py``. It is asked whether it recognises a file where no format here
            does.

    Raises:
        PluginError: Another format has its name, or it lacks something.
    """
    lacking = [each for each in ("name", "is_cropped", "recognises", "read") if not hasattr(format, each)]
    if lacking:
        raise PluginError(
            f"format of outlines {format!r}: without {', '.join(lacking)}. Needed an object of a class as in "
            "annotation/outlines/format.py."
        )
    own = {each.name: each for each in FORMATS}
    held = (own | _ADDED).get(format.name)
    # Classes without state: two of one class are the same.
    if type(held) is not type(format):
        add_named(own if format.name in own else _ADDED, format.name, format, kind="format of outlines")


def read_outlines(
    path: Path | str,
    *,
    bounds: Point = Point(0, 0),
    slide_size: Size | None = None,
    image: str | None = None,
) -> OutlineSet:
    """Read the outlines of an annotation file.

    Args:
        path: The file, also within gzip or a zip file of one file. What it is is told by its content.
        bounds: The corner of what viewers show of the slide (``Slide.bounds``), level-0 px: is added to the
            coordinates of formats whose programs count from there (QuPath, and the Digital Slide Archive), unless the
            file says its own corner, as those of ``mask/geojson.py`` do.
        slide_size: Size of the slide, level-0 px: outlines that lie wholly outside are left out. None skips this.
        image: File name of the slide, for files of several images; its folder and suffixes do not matter.

    Returns:
        All areas of the file, in level-0 px of the slide, with remarks on what was left out, repaired or taken for
        something else.

    Raises:
        AnnotationError: The file cannot be read, is in no format that is known, or something in it is not what its
            format says; or everything in it lies outside of the slide.
    """
    file = AnnotationFile(Path(path), image=image)
    with _uncollected():
        chosen, found = _read(file)
        corner = found.corner or (bounds if chosen.is_cropped else Point(0, 0))
        _check_sizes(found, slide_size)
        outlines = outlines_of(found, corner=corner, slide_size=slide_size)
    remarks = found.remarks()
    for each in remarks:
        _log.debug("%s: %s", file.path, each)
    return OutlineSet(path=file.path, format=chosen.name, outlines=outlines, remarks=remarks)


def _read(file: AnnotationFile) -> tuple[OutlineFormat, Found]:
    chosen = next((each for each in FORMATS if each.recognises(file)), None)
    if chosen is None:
        load_plugins()
        chosen = next((each for each in list(_ADDED.values()) if each.recognises(file)), None)
    if chosen is None:
        names = ", ".join(each.name for each in (*FORMATS, *_ADDED.values()))
        raise file.error(
            f"in no format that is known; it begins with {file.shown_head()}. Needed one of {names}. Export the "
            f"annotations in one of them.{failed_plugins().removesuffix('.')}"
        )
    found = Found(file)
    chosen.read(file, found)
    return chosen, found


def _check_sizes(found: Found, slide_size: Size | None) -> None:
    """Refuse a file that says its image has another size than the slide: it is of another scale, or another slide.

    Raises:
        AnnotationError: A side differs by more than ``OTHER_SCALE``.
    """
    if slide_size is None:
        return
    for width, height in found.sizes:
        factors = (slide_size.width / width, slide_size.height / height)
        if max(max(each, 1 / each) for each in factors) > OTHER_SCALE:
            raise found.file.error(
                f"its image has {width:g} x {height:g} px, and the slide {slide_size} px: the outlines are of another "
                "scale or of another slide. Needed outlines in px of the slide's finest level. Export them at full "
                "resolution"
            )
        if (width, height) != (slide_size.width, slide_size.height):
            found.remark(
                f"Images of {width:g} x {height:g} px, where the slide has another size ({slide_size} px)"
            )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for cycles among millions of lists that have none: it takes two thirds of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
