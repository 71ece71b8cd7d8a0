"""Raster files that say where a slide has tissue: which pixels are above 0, tile by tile, from TIFF or PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size, tile_grid, tile_region
from wsi_deform.slide.colour import black_is_zero
from wsi_deform.slide.picture import opened_picture
from wsi_deform.slide.tiff.index import TiffIndex
from wsi_deform.slide.tiff.page import WHITE_IS_ZERO
from wsi_deform.slide.tiff.tiles import TiffTiles

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".svs")
OUTLINES = "outlines, not pixels"
LOSSY = "lossy, so that its background is not 0"
NO_MASK_SUFFIXES = {
    ".geojson": OUTLINES, ".json": OUTLINES, ".xml": OUTLINES, ".jpg": LOSSY, ".jpeg": LOSSY, ".webp": LOSSY,
}  # fmt: skip
FLOAT_MODES = ("F", "CMYK", "YCbCr", "LAB", "HSV")
ALPHA = (1, 2)  # TIFF ExtraSamples: associated and unassociated alpha


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TissueRaster:
    """An open raster file of a tissue mask.

    Attributes:
        size: Width and height of the file's finest level, px.
        level: Width and height of the level that is read, px.
        parts: The parts of this level that may have tissue, once: place and (h, w) bool.
    """

    size: Size
    level: Size
    parts: Iterator[tuple[Region, NDArray[np.bool_]]]


def open_tissue_raster(path: Path, wanted: Size) -> TissueRaster:
    """Open the raster file of a tissue mask; pixels are read as the parts are taken.

    Args:
        path: TIFF or PNG.
        wanted: The coarsest level of a pyramid that has at least this size is taken.

    Returns:
        The open file.

    Raises:
        SlideError: The file cannot be read, is lossy or has no whole numbers.
    """
    suffix = path.suffix.lower()
    if suffix in NO_MASK_SUFFIXES:
        raise SlideError(
            f"a {suffix} file is {NO_MASK_SUFFIXES[suffix]}. Needed TIFF or PNG; export the mask as one."
        )
    if not path.is_file():
        raise SlideError("no such file. Needed a TIFF or PNG; check the path.")
    return _from_tiff(path, wanted) if suffix in TIFF_SUFFIXES else _from_picture(path)


def half_covered_cells(raster: TissueRaster, cells: Size) -> NDArray[np.bool_]:
    """Which cells of a coarser grid are tissue on half of their area or more.

    Args:
        raster: The file; its parts are used up.
        cells: Size of the grid, at most the level's.

    Returns:
        (cells.height, cells.width). A pixel belongs to the cell that its centre lies in.
    """
    row_of = _cell_of_pixel(raster.level.height, cells.height)
    column_of = _cell_of_pixel(raster.level.width, cells.width)
    counts = np.zeros(cells.shape, np.uint32)
    for place, tissue in raster.parts:
        rows, columns = row_of[place.y : place.bottom], column_of[place.x : place.right]
        row_starts = np.flatnonzero(np.diff(rows, prepend=-1))
        column_starts = np.flatnonzero(np.diff(columns, prepend=-1))
        sums = np.add.reduceat(tissue, row_starts, axis=0, dtype=np.uint32)
        sums = np.add.reduceat(sums, column_starts, axis=1)
        counts[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += sums
    heights, widths = np.bincount(row_of), np.bincount(column_of)
    counts *= 2
    return np.asarray(counts >= (heights[:, None] * widths[None, :]).astype(np.uint32))


def _cell_of_pixel(pixels: int, cells: int) -> NDArray[np.int64]:
    return (2 * np.arange(pixels, dtype=np.int64) + 1) * cells // (2 * pixels)


def _from_tiff(path: Path, wanted: Size) -> TissueRaster:
    tiles = TiffTiles(path)
    if tiles.dtype.kind not in "ui":
        raise SlideError(f"pixel type {tiles.dtype}. Needed whole numbers; save it as uint8.")
    fine = [
        number
        for number, level in enumerate(tiles.levels)
        if level.size.width >= wanted.width and level.size.height >= wanted.height
    ]
    number = fine[-1] if fine else 0
    level = tiles.levels[number]
    extra = tiles.index.extra_samples
    values = tiles.channels - sum(kind in ALPHA for kind in extra)
    shown = _shown_by(tiles.index)

    def parts() -> Iterator[tuple[Region, NDArray[np.bool_]]]:
        grid = tile_grid(level.size, level.tile)
        for row in range(grid.height):
            for column in range(grid.width):
                if tiles.has_tile(number, column, row):
                    pixels = shown(tiles.read_tile(number, column, row))
                    yield tile_region(column, row, level.tile, level.size), _above_0(pixels, max(1, values))

    return TissueRaster(size=tiles.size, level=level.size, parts=parts())


def _shown_by(index: TiffIndex) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """From stored values to those that viewers show, as far as it matters which are 0.

    Convention:
        A palette keeps its indices, as its colours are only for people; but one of a colour and then black is a
        picture whose 0 is white.
    """
    palette = None if index.colormap is None else index.colormap[:, :2].any(axis=0).tolist()
    if palette == [True, False]:
        return lambda pixels: np.asarray(pixels != 1)
    if index.photometric == WHITE_IS_ZERO and index.dtype.kind == "u":
        return lambda pixels: black_is_zero(pixels, index.bits)
    return lambda pixels: pixels


def _from_picture(path: Path) -> TissueRaster:
    with opened_picture(path) as picture:
        if picture.mode in FLOAT_MODES:
            raise SlideError(f"pixel type {picture.mode}. Needed whole numbers; save it as 8-bit PNG.")
        bands = picture.getbands()
        # A palette picture keeps its indices, as in ``_shown_by``.
        pixels = np.asarray(picture)
        palette = picture.getpalette() if picture.mode == "P" else None
        if palette is not None and any(palette[:3]) and palette[3:6] == [0, 0, 0]:
            pixels = pixels != 1
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    tissue = _above_0(pixels, len(bands) - (bands[-1] == "A"))
    size = Size(tissue.shape[1], tissue.shape[0])
    return TissueRaster(size=size, level=size, parts=iter([(Region.whole(size), tissue)]))


def _above_0(pixels: NDArray[Any], values: int) -> NDArray[np.bool_]:
    """(h, w, channels) -> (h, w): above 0 in any of the first channels, which are values and not transparency."""
    above = np.asarray(pixels[..., 0] > 0)
    for channel in range(1, values):
        above |= pixels[..., channel] > 0
    return above
