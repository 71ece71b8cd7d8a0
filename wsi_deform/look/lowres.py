"""The low-res view: a region of a slide, averaged over the area of each view pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Point, Region, Size, tile_region
from wsi_deform.look.area_means import AxisWeights, add_tile, axis_weights
from wsi_deform.slide.slide import Slide

# Tiles of this many pixels are asked for at once, so that those of a far slide come together.
ASKED_PX = 1 << 21


def low_res_view(slide: Slide, region: Region, size: Size) -> NDArray[np.float32]:
    """Read a region at a lower resolution, area-averaged, never point-sampled.

    Reads the coarsest level that is still finer than the view, tile by tile: memory follows the view, not
    the region.

    Args:
        slide: An open slide.
        region: What to look at, level-0 px; the part outside the slide counts as background.
        size: Size of the view, px.

    Returns:
        (size.height, size.width, 3) float32 RGB in [0, 255].

    Raises:
        ShapeError: The region is empty.
        SlideError: A tile cannot be read.

    Convention:
        View pixel i along x stands for level-0 ``[region.x + i * s, region.x + (i + 1) * s)``, ``s =
        region.width / size.width``. It is the mean of the level's pixels weighted by their overlap. The last
        pixel of a level reaches to the slide's edge. A constant slide gives exactly that constant.
    """
    view = np.empty((*size.shape, 3), np.float32)
    for top, rows in _rows_of_view(slide, *_corner_and_extent(slide, region), size):
        view[top : top + len(rows)] = rows
    return view


def low_res_picture(slide: Slide, region: Region, size: Size) -> NDArray[np.uint8]:
    """``low_res_view`` in whole numbers, a quarter of its memory.

    Returns:
        (size.height, size.width, 3) uint8 RGB, rounded to the nearest.

    Raises:
        ShapeError: The region is empty.
        SlideError: A tile cannot be read.
    """
    return _picture(slide, *_corner_and_extent(slide, region), size)


def tiles_of_view(slide: Slide, region: Region, size: Size) -> int:
    """How many tiles ``low_res_view`` reads; nothing is read for it.

    Raises:
        ShapeError: The region is empty.
    """
    number, x, y = _weights(slide, *_corner_and_extent(slide, region), size)
    (left, right), (top, bottom) = x.pixels, y.pixels
    part = Region(left, top, right - left, bottom - top)
    return 0 if part.is_empty else sum(1 for _ in part.tiles(slide.levels[number].tile))


def picture_of_scale(slide: Slide, region: Region, scale: Point) -> NDArray[np.uint8]:
    """Read a region of the slide as it is at another scale, area-averaged as ``low_res_view``.

    Args:
        slide: An open slide.
        region: In pixels of that scale; the part outside the slide counts as background.
        scale: Level-0 pixels per pixel along x and y, any positive numbers.

    Returns:
        (region.height, region.width, 3) uint8 RGB, rounded to the nearest.

    Raises:
        ShapeError: The region is empty.
        SlideError: A tile cannot be read.

    Convention:
        Pixel i along x stands for level-0 ``[i * scale.x, (i + 1) * scale.x)``, whatever region it is read with;
        along y alike. A scale below 1 repeats level-0 pixels by area.
    """
    corner = Point(region.x * scale.x, region.y * scale.y)
    return _picture(slide, corner, Point(region.width * scale.x, region.height * scale.y), region.size)


def whole_view_size(slide: Slide, *, max_side_px: int, scale: float = 1.0) -> Size:
    """Size of a view of the whole slide in which its pixels are square.

    Args:
        slide: An open slide.
        max_side_px: Its longer side at most.
        scale: View pixels per level-0 pixel at most; where these are not square, per side of the square of their area.

    Returns:
        The largest size within both limits that enlarges nothing.
    """
    pixel, whole = slide.pixel, slide.size
    width, height = whole.width * pixel.x, whole.height * pixel.y
    scale = min(1.0, scale, max_side_px / max(width, height), 1 / max(pixel.x, pixel.y))
    return Size(max(1, round(width * scale)), max(1, round(height * scale)))


def thumbnail(slide: Slide, max_side_px: int) -> NDArray[np.uint8]:
    """A small picture of the whole slide, for people.

    Args:
        slide: An open slide.
        max_side_px: The longer side of the picture; a smaller slide keeps its size.

    Returns:
        (H, W, 3) RGB, in the proportions of the tissue: pixels that are not square are made so.

    Raises:
        SlideError: A tile cannot be read.
    """
    return low_res_picture(slide, Region.whole(slide.size), whole_view_size(slide, max_side_px=max_side_px))


def _corner_and_extent(slide: Slide, region: Region) -> tuple[Point, Point]:
    """Left top corner and lengths of a region, level-0 px."""
    if region.is_empty:
        raise ShapeError(f"slide {slide.path}: {region} has no pixel. Needed a region of at least 1 x 1.")
    return Point(region.x, region.y), Point(region.width, region.height)


def _picture(slide: Slide, corner: Point, extent: Point, size: Size) -> NDArray[np.uint8]:
    """A view in whole numbers."""
    picture = np.empty((*size.shape, 3), np.uint8)
    for top, rows in _rows_of_view(slide, corner, extent, size):
        picture[top : top + len(rows)] = np.rint(rows, out=rows)
    return picture


def _rows_of_view(
    slide: Slide, corner: Point, extent: Point, size: Size
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The rows of a view as they are complete: number of the first, and (rows, size.width, 3) float64."""
    number, x, y = _weights(slide, corner, extent, size)
    background = np.asarray(slide.info.background, np.float64)
    (left, right), (top, bottom) = x.pixels, y.pixels
    done, held = 0, np.empty((0, size.width, 3))
    for rows_of_tiles in _tiles_by_row(slide, number, Region(left, top, right - left, bottom - top)):
        for place, tile in rows_of_tiles:
            if place.x <= left:  # a new row of tiles
                reached = y.cells_of(place.y, place.bottom)[1]
                held = np.concatenate((held, _outside(x, y, done + len(held), reached, background)))
            add_tile(held, done, tile, (place.x, place.y), x, y)
            if place.right >= right:
                complete = size.height if place.bottom >= bottom else y.cells_of(place.bottom, bottom)[0]
                complete = min(complete, done + len(held))
                yield done, held[: complete - done]
                done, held = complete, held[complete - done :]
    if done < size.height:
        yield done, _outside(x, y, done, size.height, background)


def _weights(slide: Slide, corner: Point, extent: Point, size: Size) -> tuple[int, AxisWeights, AxisWeights]:
    """The level that a view is read from, and how its pixels make those of the view along both axes."""
    number = slide.level_for_downsample(min(extent.x / size.width, extent.y / size.height))
    level = slide.levels[number]
    x = axis_weights(
        start=corner.x,
        length=extent.x,
        cells=size.width,
        downsample=level.downsample.x,
        level_px=level.size.width,
        slide_px=slide.size.width,
    )
    y = axis_weights(
        start=corner.y,
        length=extent.y,
        cells=size.height,
        downsample=level.downsample.y,
        level_px=level.size.height,
        slide_px=slide.size.height,
    )
    return number, x, y


def _outside(
    x: AxisWeights, y: AxisWeights, first: int, last: int, background: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the background gives to some rows of the view."""
    outside = 1.0 - y.inside[first:last, None] * x.inside[None, :]
    if not outside.any():  # as nearly always; memory that is not written to costs nothing yet
        return np.zeros((*outside.shape, len(background)))
    return np.asarray(outside[..., None] * background)


def _tiles_by_row(
    slide: Slide, number: int, part: Region
) -> Iterator[Iterator[tuple[Region, NDArray[np.uint8]]]]:
    """The tiles of a part of a level, whole rows of them at a time, with their places."""
    if part.is_empty:
        return
    level = slide.levels[number]
    rows = max(1, ASKED_PX // (level.tile.height * (part.width + level.tile.width)))
    step = rows * level.tile.height
    first = part.y // level.tile.height * level.tile.height
    for top in range(first, part.bottom, step):
        asked = Region(part.x, top, part.width, step).intersection(part)
        addresses = list(asked.tiles(level.tile))
        places = (tile_region(column, row, level.tile, level.size) for column, row in addresses)
        yield zip(places, slide.read_tiles([(number, *address) for address in addresses]), strict=True)
