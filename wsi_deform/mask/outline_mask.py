"""Outlines as a mask file: rasterised tile by tile into every level of a pyramid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.outlines.labels import OutlineLabels
from wsi_deform.errors import AnnotationError, ShapeError
from wsi_deform.geometry import Mpp, Point, Region, Size, both_axes, level_downsample
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes
from wsi_deform.slide.slide import Slide


def write_outline_mask(
    path: Path,
    labels: OutlineLabels,
    *,
    size: Size | None = None,
    mpp: Mpp | None = None,
    tile_px: int = 512,
    threads: int = 1,
) -> None:
    """Write the labels of outlines as a mask that the same class table reads.

    Args:
        path: The mask, by custom ``<slide_id>.ome.tif``; replaced if it exists, whole or absent.
        labels: The outlines over their slide.
        size: Size of the mask's level 0, px, at most the slide's; default: the slide's.
        mpp: Level-0 um per pixel of the slide, or None when unknown.
        tile_px: Side of a tile, a multiple of 16.
        threads: Threads that encode.

    Raises:
        AnnotationError: A class has no mask value up to 255, or pixels are unlabelled and no value says so.
        ShapeError: The size is larger than the slide's.
        MaskError: The file cannot be written.

    Convention:
        Every pixel of every level is what the outlines say at its centre, see ``OutlineRaster``: coarse levels are not
        made of finer ones. A pixel holds the first mask value of its class, by default the class index.
    """
    slide = labels.slide_size
    size = slide if size is None else size
    if size.width > slide.width or size.height > slide.height:
        raise ShapeError(f"mask {path}: {size} px, larger than its slide of {slide} px. Needed at most that.")
    values = _mask_values(labels.classes)
    downsample = level_downsample(slide, size)
    of_mask = None if mpp is None else both_axes(mpp)
    write_mask(
        path,
        _tiles(labels, size, downsample, tile_px, values),
        size=size,
        mpp=None if of_mask is None else Point(of_mask.x * downsample.x, of_mask.y * downsample.y),
        tile_px=tile_px,
        threads=threads,
        annotations={
            "made from": labels.path.name,
            "outlines": f"pixel centres, even-odd; of several outlines over a pixel: {labels.order}",
            **{f"value {values[index]}": name for index, name in enumerate(labels.classes.names)},
        },
    )


def outline_mask_size(slide: Slide, *, level: int | None = None, mpp: float | None = None) -> Size:
    """Size of a mask that is as large as a level of its slide, or has so many um per pixel; else that of level 0.

    Args:
        slide: The slide.
        level: Number of the level, from 0, or None.
        mpp: Um per mask pixel, or None; not beside a level.

    Raises:
        ShapeError: Both are given, there is no such level, or the mask would be larger than the slide.
        SlideError: The slide has no mpp to compare with.
    """
    if level is not None and mpp is not None:
        raise ShapeError(f"level {level} and mpp {mpp:g}: needed one of them. Leave one out.")
    if level is not None:
        if not 0 <= level < len(slide.levels):
            raise ShapeError(
                f"slide {slide.path}: level {level}. Needed 0 to {len(slide.levels) - 1}. "
                "`wsi-deform inspect` shows the levels."
            )
        return slide.levels[level].size
    if mpp is None:
        return slide.size
    own = slide.mpp
    if not mpp >= own * (1 - 1e-6):
        raise ShapeError(
            f"slide {slide.path}: mpp {mpp:g} is finer than its {own:.4g} um per pixel. Needed that or more."
        )
    both = slide.mpp_xy or Point(own, own)
    return Size(
        max(1, round(slide.size.width * both.x / mpp)), max(1, round(slide.size.height * both.y / mpp))
    )


def _tiles(
    labels: OutlineLabels, size: Size, downsample: Point, tile_px: int, values: NDArray[np.int16]
) -> Iterator[MaskTile]:
    """Every tile of every level; those that no outline passes through by their one label."""
    tile = Size(tile_px, tile_px)
    raster = labels.raster
    lookup = values.astype(np.uint8)
    is_same = np.array_equal(lookup, np.arange(UNLABELLED + 1))
    for level, level_size in enumerate(pyramid_sizes(size, tile_px)):
        step = Point(downsample.x * 2**level, downsample.y * 2**level)
        for part, found in raster.parts(Region.whole(level_size), tile, step):
            column, row = part.x // tile_px, part.y // tile_px
            if values[UNLABELLED] < 0 and np.max(found) == UNLABELLED:
                raise AnnotationError(
                    f"annotation {labels.path}: some pixels are unlabelled, and no mask value of the class table "
                    "says so. Needed one up to 255. Add unlabelled: [255], or another value, to the class table."
                )
            if isinstance(found, int):
                yield MaskTile(level=level, column=column, row=row, label=int(values[found]))
            else:
                yield MaskTile(
                    level=level, column=column, row=row, pixels=found if is_same else lookup.take(found)
                )


def _mask_values(table: ClassTable) -> NDArray[np.int16]:
    """(256,) int16 label -> the first mask value that means it; -1 where no value means unlabelled."""
    values = np.arange(UNLABELLED + 1, dtype=np.int16)
    values[UNLABELLED] = -1
    for index, name in enumerate(table.names):
        small = [value for value in table.values[index] if value <= UNLABELLED]
        if not small:
            raise AnnotationError(
                f"class {name!r}: no mask value up to 255. Needed one to write it into an 8-bit mask. Give it a value "
                "in the class table."
            )
        values[index] = small[0]
    unlabelled = [value for value in table.unlabelled_values if value <= UNLABELLED]
    if unlabelled:
        values[UNLABELLED] = unlabelled[0]
    return values
