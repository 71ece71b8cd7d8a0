"""Stacks of planes in a TIFF: which pages of a level are read."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from wsi_deform.errors import SlideError
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.planes import plane_of, plane_remark
from wsi_deform.slide.tiff.page import checked_page

ONE_FILE = (
    "Write them into one: of three planes with python -c \"import tifffile; tifffile.imwrite('SLIDE.ome.tif', "
    "tifffile.imread('FILE'), tile=(512, 512), compression='deflate', photometric='minisblack', "
    "metadata={'axes': 'CYX'})\" where FILE is the one with the metadata"
)


def axes_of(series: Any) -> list[tuple[str, int]]:
    """The axes of a series of tifffile besides those of a page, and their lengths."""
    return [
        (axis, length) for axis, length in zip(series.axes, series.shape, strict=True) if axis not in "YXS"
    ]


def stack_pages(series: Any, path: SlidePath) -> tuple[list[Any], tuple[str, ...]]:
    """The page (all channels) or pages (one channel each) of a series that are read.

    Args:
        series: A level, as tifffile has it.
        path: The file, for messages.

    Returns:
        Pages, and remarks on the planes of which they are one.

    Raises:
        SlideError: Planes are in other files, or along an axis that is none of channels, focal planes and time points.
    """
    page = checked_page(series.keyframe, path)
    axes = axes_of(series)
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        # Channels lie within a page, whatever the series says.
        axes = [(axis, length) for axis, length in axes if axis != "C"]
    index: list[int] = []
    remarks = []
    for axis, length in axes:
        plane = 0 if axis == "C" else plane_of(axis, length)
        if plane is None:
            raise SlideError(
                f"{path}: {length} planes along axis {axis} of {series.axes}. Needed channels (C), focal planes (Z) or "
                "time points (T). Write the plane that you want into a file of its own."
            )
        index.append(plane)
        if axis != "C" and length > 1:
            remarks.append(plane_remark(axis, length))
    lengths = [length for _, length in axes]
    places = [at for at, (axis, _) in enumerate(axes) if axis == "C"]
    pages = []
    for channel in range(lengths[places[0]] if places else 1):
        for place in places[:1]:
            index[place] = channel
        number = int(np.ravel_multi_index(index, lengths)) if lengths else 0
        found = series.pages[number] if number < len(series.pages) else None
        if found is None or not _share_file(found.parent, series.keyframe.parent):
            raise SlideError(
                f"{path}: plane {number} of axes {series.axes} {series.shape} is not in this file. Needed all planes "
                f"in one file. {ONE_FILE}."
            )
        pages.append(found)
    return pages, tuple(remarks)


def _share_file(tif: Any, other: Any) -> bool:
    paths = tif.filehandle.path, other.filehandle.path
    return tif is other or os.path.realpath(paths[0]) == os.path.realpath(paths[1])
