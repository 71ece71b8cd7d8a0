"""Tiles of a slide as JPEG: stored pixels where the slide has the step, else area means of the next finer level."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import Point, Region, Size
from wsi_deform.slide.slide import Slide
from wsi_deform.viewer.frame import Frame

JPEG_QUALITY = 87


def slide_tile(slide: Slide, frame: Frame, step: int, column: int, row: int) -> NDArray[np.uint8]:
    """The pixels of a tile.

    Args:
        slide: An open slide.
        frame: Its frame.
        step: Halvings of the frame.
        column: Tile column.
        row: Tile row.

    Returns:
        (H, W, 3) uint8 RGB: what ``slide.read_region`` gives where a level has the scale of the step, else means over
        the area of each pixel of the coarsest level that is finer.

    Raises:
        ShapeError: There is no such tile.
        SlideError: The slide cannot be read there.
    """
    tile, scale = frame.tile(step, column, row), frame.scale(step)
    number = slide.level_for_downsample(min(scale.x, scale.y))
    level = slide.levels[number]
    if level.downsample == scale:
        return _inside(slide, number, tile)
    ratio = Point(scale.x / level.downsample.x, scale.y / level.downsample.y)
    box = (tile.x * ratio.x, tile.y * ratio.y, tile.right * ratio.x, tile.bottom * ratio.y)
    return _averaged(slide, number, box, tile.size)


def white_tile(frame: Frame, step: int, column: int, row: int) -> NDArray[np.uint8]:
    """What is shown below the mask of a slide that cannot be read: (H, W, 3) uint8.

    Raises:
        ShapeError: There is no such tile.
    """
    return np.full((*frame.tile(step, column, row).size.shape, 3), 255, np.uint8)


def jpeg_of(pixels: NDArray[np.uint8]) -> bytes:
    """The JPEG file of a picture, (H, W, 3) uint8 RGB."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _inside(slide: Slide, number: int, wanted: Region) -> NDArray[np.uint8]:
    """A rectangle of a level; writers that round down lack a last column or row, which repeats the one before."""
    part = wanted.intersection(Region.whole(slide.levels[number].size))
    if part.is_empty:
        return np.full((*wanted.size.shape, 3), slide.info.background, np.uint8)
    pixels = slide.read_region(number, part)
    if part != wanted:
        more = ((0, wanted.height - part.height), (0, wanted.width - part.width), (0, 0))
        pixels = np.pad(pixels, more, mode="edge")
    return pixels


def _averaged(
    slide: Slide, number: int, box: tuple[float, float, float, float], size: Size
) -> NDArray[np.uint8]:
    """Area means of a box of a level, px of it, in the size of a tile."""
    from PIL import Image

    whole = slide.levels[number].size
    left, top = min(math.floor(box[0]), whole.width - 1), min(math.floor(box[1]), whole.height - 1)
    right, bottom = min(math.ceil(box[2]), whole.width), min(math.ceil(box[3]), whole.height)
    region = Region(left, top, max(1, right - left), max(1, bottom - top))
    inner = (
        min(box[0] - left, region.width - 1e-3),
        min(box[1] - top, region.height - 1e-3),
        min(box[2] - left, region.width),
        min(box[3] - top, region.height),
    )
    picture = Image.fromarray(slide.read_region(number, region))
    return np.asarray(picture.resize((size.width, size.height), Image.Resampling.BOX, box=inner))
