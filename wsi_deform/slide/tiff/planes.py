"""How many pages and planes a TIFF holds or describes, counted before tifffile makes room for all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import tifffile

from wsi_deform.limits import MAX_IMAGES, MAX_LEVELS, MAX_PLANES
from wsi_deform.slide.declared import TooLargeError
from wsi_deform.slide.path import SlidePath

_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_SIZE = re.compile(r"\bSize([CZT])\s*=\s*[\"']\s*(\d+)")
_PLACE = re.compile(r"\b(IFD|PlaneCount|First[CZT])\s*=\s*[\"']\s*(\d+)")
_RANGE = re.compile(r"<(?:\w+:)?ModuloAlong\w\b[^>]*>")
_ENDS = re.compile(r"\b(Start|End|Step)\s*=\s*[\"']([^\"']*)")
_COUNTS = re.compile(r"^(images|frames|slices|channels)=(\d+)", re.MULTILINE)


def check_planes(tif: tifffile.TiffFile, path: SlidePath) -> None:
    """Refuse a file that holds more planes than any slide has.

    Args:
        tif: The open file.
        path: Its path, for messages.

    Raises:
        TooLargeError: There are more than ``limits.MAX_PLANES`` pages, or ``limits.MAX_LEVELS`` SubIFDs of the first.
    """
    held = len(tif.pages)
    if held > MAX_PLANES:
        raise _too_many(path, f"has {held:,} pages")
    if held and tif.pages.first.subifds and len(tif.pages.first.subifds) > MAX_LEVELS:
        raise _too_many(path, f"has a page with {len(tif.pages.first.subifds):,} SubIFDs", MAX_LEVELS)


def check_described(tif: tifffile.TiffFile, path: SlidePath) -> None:
    """Refuse a file that describes more planes than any slide has, before tifffile is asked for its series.

    Args:
        tif: The open file, with one page or more.
        path: Its path, for messages.

    Raises:
        TooLargeError: There are more than ``limits.MAX_PLANES``, or images than ``limits.MAX_IMAGES``.
    """
    description = tif.pages.first.description
    for what, count in _described(description):
        if count > MAX_PLANES:
            raise _too_many(path, f"its description speaks of {what} {count:,.0f}")
    if (count := len(_PIXELS.findall(description))) > MAX_IMAGES:
        raise _too_many(path, f"its description speaks of {count:,} images", MAX_IMAGES)


def _described(description: str) -> Iterator[tuple[str, float]]:
    """What numbers of planes a description of OME or ImageJ speaks of."""
    if description.startswith("ImageJ="):
        for name, number in _COUNTS.findall(description):
            yield name, _number(number)
        return
    for pixels in _PIXELS.finditer(description):
        sizes = [_number(number) for _, number in _SIZE.findall(pixels[0])]
        yield "SizeC x SizeZ x SizeT", math.prod(sizes)
    for name, number in _PLACE.findall(description):
        yield name, _number(number)
    for found in _RANGE.finditer(description):
        ends = {name: _number(text) for name, text in _ENDS.findall(found[0])}
        start, step = ends.get("Start", 0.0), ends.get("Step", 1.0)
        yield "ModuloAlong", (ends.get("End", start) - start) / step if step else math.inf


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _too_many(path: SlidePath, found: str, most: int = MAX_PLANES) -> TooLargeError:
    return TooLargeError(
        f"{path}: {found}. Needed at most {most:,}. The file is damaged, or no slide: copy or export it again."
    )
