"""The low-res view: a region of a slide, averaged over the area of each view pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.slide.reader import Level
from wsi_deform.slide.slide import Slide

# A block of this many level pixels is in memory at a time: 6 MB as stored, 48 MB as float64.
MOST_BLOCK_PX = 1 << 21


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisWeights:
    """How the pixels of a level make the cells of a view along one axis.

    Attributes:
        first: The first level pixel that counts.
        count: Number of level pixels that count.
        weights: (cells, count), the share of a cell that each level pixel covers.
        inside: (cells,), the share of a cell that lies on the slide; each row of ``weights`` sums to it.
    """

    first: int
    count: int
    weights: sparse.csc_array
    inside: NDArray[np.float64]


def low_res_view(slide: Slide, region: Region, size: Size) -> NDArray[np.float32]:
    """Read a region at a lower resolution, area-averaged, never point-sampled.

    Reads the coarsest level that is still finer than the view, in blocks: memory does not grow with the
    region.

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
    if region.is_empty:
        raise ShapeError(f"slide {slide.path}: {region} has no pixel. Needed a region of at least 1 x 1.")
    number = slide.level_for_downsample(min(region.width / size.width, region.height / size.height))
    level = slide.levels[number]
    x = axis_weights(
        start=region.x,
        length=region.width,
        cells=size.width,
        downsample=level.downsample.x,
        level_px=level.size.width,
        slide_px=slide.size.width,
    )
    y = axis_weights(
        start=region.y,
        length=region.height,
        cells=size.height,
        downsample=level.downsample.y,
        level_px=level.size.height,
        slide_px=slide.size.height,
    )
    background = np.asarray(slide.info.background, np.float64)
    outside = 1.0 - y.inside[:, None] * x.inside[None, :]
    view = outside[..., None] * background
    if x.count and y.count:
        _add_blocks(view, slide, number, x, y)
    return view.astype(np.float32)


def thumbnail(slide: Slide, max_side_px: int) -> NDArray[np.uint8]:
    """A small picture of the whole slide, for people.

    Args:
        slide: An open slide.
        max_side_px: The longer side of the picture; a smaller slide keeps its size.

    Returns:
        (H, W, 3) RGB.

    Raises:
        SlideError: A tile cannot be read.
    """
    whole = slide.size
    scale = min(1.0, max_side_px / whole.long)
    size = Size(max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
    return np.rint(low_res_view(slide, Region.whole(whole), size)).astype(np.uint8)


def axis_weights(
    *, start: int, length: int, cells: int, downsample: float, level_px: int, slide_px: int
) -> AxisWeights:
    """Overlaps of level pixels and view cells along one axis.

    Args:
        start: Left edge of the region, level-0 px.
        length: Length of the region, level-0 px.
        cells: Number of view pixels.
        downsample: Level-0 pixels per level pixel.
        level_px: Length of the level, px.
        slide_px: Length of level 0, px.

    Returns:
        Weights relative to a whole cell.
    """
    # Edges in level pixels. Where the level falls short of the slide's edge, its last pixel is stretched to
    # it.
    end = max(slide_px / downsample, level_px - 1.0)
    edges = (start + np.arange(cells + 1) * (length / cells)) / downsample
    low, high = np.clip(edges[:-1], 0.0, end), np.clip(edges[1:], 0.0, end)
    cell = (length / cells) / downsample
    first_px = np.minimum(np.floor(low).astype(np.int64), level_px - 1)
    last_px = np.clip(np.ceil(high).astype(np.int64) - 1, first_px, level_px - 1)
    counts = np.where(high > low, last_px - first_px + 1, 0)
    rows = np.repeat(np.arange(cells), counts)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    pixels = first_px[rows] + offsets
    right = np.where(pixels == level_px - 1, end, pixels + 1.0)
    overlap = np.maximum(np.minimum(high[rows], right) - np.maximum(low[rows], pixels), 0.0)
    # Each row is made to sum to the cell's share inside exactly, so that a constant slide gives exactly that
    # constant.
    inside = np.where(np.isclose(high - low, cell, rtol=1e-9), 1.0, (high - low) / cell)
    total = np.bincount(rows, overlap, minlength=cells)
    weights = overlap * (inside / np.where(total > 0, total, 1.0))[rows]
    if not len(pixels):
        return AxisWeights(first=0, count=0, weights=sparse.csc_array((cells, 0)), inside=np.zeros(cells))
    first, count = int(pixels.min()), int(pixels.max() - pixels.min() + 1)
    matrix = sparse.csc_array((weights, (rows, pixels - first)), shape=(cells, count))
    return AxisWeights(first=first, count=count, weights=matrix, inside=inside)


def _add_blocks(view: NDArray[np.float64], slide: Slide, number: int, x: AxisWeights, y: AxisWeights) -> None:
    """Read the level in blocks along its tile grid and add what each contributes to the view."""
    block = _block_size(slide.levels[number], x.count)
    for top, bottom in _cuts(y.first, y.count, block.height):
        to_rows, first_row, last_row = _part(y, top, bottom)
        for left, right in _cuts(x.first, x.count, block.width):
            to_columns, first_column, last_column = _part(x, left, right)
            pixels = slide.read_region(number, Region(left, top, right - left, bottom - top))
            rows = to_rows @ pixels.reshape(bottom - top, -1).astype(np.float64)
            rows = rows.reshape(last_row - first_row, right - left, 3)
            columns = to_columns @ rows.transpose(1, 0, 2).reshape(right - left, -1)
            part = columns.reshape(last_column - first_column, last_row - first_row, 3).transpose(1, 0, 2)
            view[first_row:last_row, first_column:last_column] += part


def _block_size(level: Level, width: int) -> Size:
    """Whole tiles, as wide as the region if its rows of tiles are small enough."""
    columns = max(1, MOST_BLOCK_PX // level.tile.area)
    wide = min(columns * level.tile.width, -(-width // level.tile.width) * level.tile.width)
    rows = max(1, MOST_BLOCK_PX // (wide * level.tile.height))
    return Size(wide, rows * level.tile.height)


def _cuts(first: int, count: int, step: int) -> list[tuple[int, int]]:
    """[first, first + count) cut at multiples of step."""
    inner = range((first // step + 1) * step, first + count, step)
    edges = [first, *inner, first + count]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _part(axis: AxisWeights, low: int, high: int) -> tuple[sparse.csr_array, int, int]:
    """The weights of level pixels [low, high) and the cells [first, last) that they reach."""
    part = axis.weights[:, low - axis.first : high - axis.first].tocsr()
    reached = np.flatnonzero(np.diff(part.indptr))
    if not len(reached):
        return part[:0], 0, 0
    first, last = int(reached[0]), int(reached[-1]) + 1
    return part[first:last], first, last
