"""Where a slide has tissue, found at a coarse level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.kernels.connected import connected_parts
from wsi_deform.kernels.window import window_means
from wsi_deform.look.lowres import low_res_picture, whole_view_size
from wsi_deform.look.tissue_area import half_covered
from wsi_deform.look.tissue_file import half_covered_cells, open_tissue_raster
from wsi_deform.slide.slide import Slide

MAX_SIDE_PX = 2048
# Rows that are smoothed at a time.
BAND_ROWS = 128
# Chroma is max - min of RGB, 0 to 1: glass stays below the first number, stained tissue is above the second.
GLASS_CHROMA, STAINED_CHROMA = 0.03, 0.08
# Optical density -log10(I / I0) of unstained or gray tissue is above this; JPEG noise of glass is below.
GLASS_DENSITY, STAINED_DENSITY = 0.06, 0.12
# Fluorescence, and the area that scanners do not scan: everything darker than this is background.
BLACK = 0.06
OTSU_BINS = 256
MIN_TISSUE_UM2, MIN_HOLE_UM2 = 10_000.0, 10_000.0
MIN_TISSUE_PX, MIN_HOLE_PX = 16, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueMask:
    """Where a slide has tissue.

    Attributes:
        tissue: (H, W) bool.
        downsample: Level-0 px per mask pixel, per axis.
        half: (H, W) bool, of these the pixels that are tissue on half of what they cover or more; None is all.
    """

    tissue: NDArray[np.bool_]
    downsample: Point
    half: NDArray[np.bool_] | None = None

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(H, W), what counts as tissue in areas: ``half``."""
        return self.tissue if self.half is None else self.half

    @property
    def fraction(self) -> float:
        """Share of the slide that was found to be tissue, 0 to 1; ``counted`` has the share for areas."""
        return float(self.tissue.mean())

    def fraction_of(self, region: Region) -> float:
        """Share of a region that is tissue.

        Args:
            region: Level-0 px; all mask pixels that it touches count whole.

        Returns:
            0 to 1; 0 for regions outside the slide.
        """
        left, top = math.floor(region.x / self.downsample.x), math.floor(region.y / self.downsample.y)
        right = math.ceil(region.right / self.downsample.x)
        bottom = math.ceil(region.bottom / self.downsample.y)
        part = self.tissue[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        return float(part.mean()) if part.size else 0.0

    def box_in(self, region: Region) -> Region | None:
        """The smallest box of mask pixels around the tissue in a region.

        Args:
            region: Level-0 px.

        Returns:
            Level-0 px, inside the region; None where it has no tissue.
        """
        left, top = math.floor(region.x / self.downsample.x), math.floor(region.y / self.downsample.y)
        right = math.ceil(region.right / self.downsample.x)
        bottom = math.ceil(region.bottom / self.downsample.y)
        part = self.tissue[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        if len(rows) == 0:
            return None
        x0, y0 = (max(0, left) + columns[0]) * self.downsample.x, (max(0, top) + rows[0]) * self.downsample.y
        x1 = (max(0, left) + columns[-1] + 1) * self.downsample.x
        y1 = (max(0, top) + rows[-1] + 1) * self.downsample.y
        x, y = math.floor(x0), math.floor(y0)
        return Region(x, y, math.ceil(x1) - x, math.ceil(y1) - y).intersection(region)

    def fractions(self, region: Region, size: Size) -> NDArray[np.float32]:
        """How much of each cell of a grid over a region is tissue.

        Args:
            region: What the grid covers, level-0 px.
            size: Columns and rows of the grid.

        Returns:
            (size.height, size.width) float32 in [0, 1]; 0 outside the slide.
        """
        across = np.linspace(region.x, region.right, size.width + 1) / self.downsample.x
        down = np.linspace(region.y, region.bottom, size.height + 1) / self.downsample.y
        cell_px = np.ptp(across) * np.ptp(down) / size.area
        height, width = self.tissue.shape
        left, right = _touched(across, width)
        top, bottom = _touched(down, height)
        part = self.tissue[top:bottom, left:right]
        # Tissue above and to the left of every pixel corner; between corners it grows linearly along each axis.
        above = np.zeros((part.shape[0] + 1, part.shape[1] + 1))
        above[1:, 1:] = part.cumsum(0, np.int64).cumsum(1)
        at_edges = _between(_between(above, down - top).T, across - left).T
        shares: NDArray[np.float64] = np.diff(np.diff(at_edges, axis=0), axis=1) / cell_px
        return shares.clip(0.0, 1.0).astype(np.float32)


def _touched(edges: NDArray[np.float64], length: int) -> tuple[int, int]:
    """First and last + 1 of the pixels between the outer edges that are there."""
    first, last = math.floor(edges[0]), math.ceil(edges[-1])
    return min(max(0, first), length), min(max(0, last), length)


def _between(values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of values at fractional positions, held at the ends."""
    at = at.clip(0, len(values) - 1)
    low = np.floor(at).astype(int).clip(0, max(0, len(values) - 2))
    high = np.minimum(low + 1, len(values) - 1)
    part = (at - low)[:, None]
    blended: NDArray[np.float64] = (1 - part) * values[low] + part * values[high]
    return blended


def tissue_mask(slide: Slide, *, mpp_um: float = 8.0, max_side_px: int = MAX_SIDE_PX) -> TissueMask:
    """Find the tissue of a slide at a coarse resolution.

    Args:
        slide: An open slide.
        mpp_um: Resolution of the mask, um per px; used where the slide's own is known.
        max_side_px: The longer side of the mask at most; the only limit where the mpp is not known.

    Returns:
        The mask: all False for bare glass, all True for a slide full of tissue.

    Raises:
        ShapeError: mpp_um or max_side_px is not positive.
        SlideError: A tile cannot be read.

    Convention:
        A pixel is tissue when it is coloured (max - min of RGB) or dense (-log10(I / I0)); each threshold is
        Otsu's, held within the range that glass and stained tissue leave. Near-black pixels are background,
        so that fluorescence slides and unscanned areas come out as background where they are dark; on a
        slide that is mostly dark, whatever is not dark is tissue. Objects and holes under 10,000 um2 (16 px
        where the mpp is not known) are removed. What is found is generous along its border, see ``tissue_area``.
    """
    if mpp_um <= 0 or max_side_px < 1:
        raise ShapeError(f"tissue mask at {mpp_um} um/px, at most {max_side_px} px: both must be positive.")
    size = _mask_size(slide, mpp_um, max_side_px)
    picture = low_res_picture(slide, Region.whole(slide.size), size)
    downsample = Point(slide.size.width / size.width, slide.size.height / size.height)
    mpp = slide.mpp_or_none
    pixel_um2 = None if mpp is None else downsample.x * downsample.y * mpp * mpp
    tissue, is_dark = _tissue_of(picture)
    tissue = _cleaned(tissue, pixel_um2)
    return TissueMask(
        tissue=tissue, downsample=downsample, half=half_covered(picture, tissue, is_dark=is_dark)
    )


def tissue_mask_from_file(
    path: Path, slide: Slide, *, mpp_um: float = 8.0, max_side_px: int = MAX_SIDE_PX
) -> TissueMask:
    """Read where a slide has tissue from a raster file, in place of finding it.

    Args:
        path: A mask of the whole slide: TIFF (tiled or stripped, pyramidal or not) or PNG of whole numbers, at
            the slide's size or smaller. Pixels above 0 in any channel are tissue; transparency does not count.
        slide: An open slide.
        mpp_um: Resolution of the mask that is returned, as for ``tissue_mask``.
        max_side_px: Its longer side at most.

    Returns:
        The mask, no finer than the file. Specks and holes stay: the file knows better.

    Raises:
        ShapeError: mpp_um or max_side_px is not positive.
        SlideError: The file cannot be read, is lossy, has no whole numbers, or has not the slide's aspect.

    Convention:
        A mask pixel is tissue where at least half of what it covers is. Of a pyramid the coarsest level that
        is fine enough is read, a tile at a time.
    """
    if mpp_um <= 0 or max_side_px < 1:
        raise ShapeError(f"tissue mask at {mpp_um} um/px, at most {max_side_px} px: both must be positive.")
    wanted = _mask_size(slide, mpp_um, max_side_px)
    try:
        raster = open_tissue_raster(path, wanted)
        _check_aspect(raster.size, slide)
        cells = Size(min(wanted.width, raster.level.width), min(wanted.height, raster.level.height))
        tissue = half_covered_cells(raster, cells)
    except SlideError as error:
        what = str(error).removeprefix(f"{path}: ")
        raise SlideError(f"slide {slide.path}: tissue mask {path}: {what}") from error
    downsample = Point(slide.size.width / cells.width, slide.size.height / cells.height)
    return TissueMask(tissue=tissue, downsample=downsample)


def _check_aspect(found: Size, slide: Slide) -> None:
    """A mask covers the whole slide: one scale for both axes, to a pixel, which writers round."""
    scale_x, scale_y = found.width / slide.size.width, found.height / slide.size.height
    fits = (
        abs(scale_x * slide.size.height - found.height) <= 1
        or abs(scale_y * slide.size.width - found.width) <= 1
    )
    if not fits or max(found.width - slide.size.width, found.height - slide.size.height) > 0:
        raise SlideError(
            f"{found} px for a slide of {slide.size}. Needed a mask of the whole slide, of its size or smaller by one "
            "factor for both axes. Is it another slide's?"
        )


def _mask_size(slide: Slide, mpp_um: float, max_side_px: int) -> Size:
    mpp = slide.mpp_or_none
    return whole_view_size(slide, max_side_px=max_side_px, scale=1.0 if mpp is None else mpp / mpp_um)


def _tissue_of(picture: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], bool]:
    """(H, W, 3) RGB -> (H, W), and whether glass is black."""
    brightest, chroma, mean = _smooth_planes(picture)
    lit = brightest > BLACK
    if lit.mean() < 0.5:  # black background: fluorescence
        return np.asarray(lit), True
    # Glass is never brighter than 1; a slide without any has no bright mode: 0.75 is the least that scanners
    # make of glass.
    white = max(0.75, float(np.percentile(brightest[lit], 95)))
    del brightest
    tissue = chroma > _threshold(chroma[lit], GLASS_CHROMA, STAINED_CHROMA)
    del chroma
    mean /= np.float32(white)
    np.maximum(mean, np.float32(1e-3), out=mean)
    density = np.negative(np.log10(mean, out=mean), out=mean)
    tissue |= density > _threshold(density[lit], GLASS_DENSITY, STAINED_DENSITY)
    return np.asarray(tissue & lit), False


def _smooth_planes(
    picture: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Brightest, brightest - darkest and mean channel of the picture, smoothed over 3 x 3; 0 to 1.

    A band of rows at a time: only the three planes are ever held whole.
    """
    height, width = picture.shape[:2]
    brightest, chroma, mean = (np.empty((height, width), np.float32) for _ in range(3))
    for top in range(0, height, BAND_ROWS):
        bottom = min(top + BAND_ROWS, height)
        first, last = max(0, top - 1), min(height, bottom + 1)
        red, green, blue = (
            window_means(
                (picture[first:last, :, channel] / np.float32(255.0)).astype(np.float32, copy=False), 3
            )[top - first : bottom - first]
            for channel in range(3)
        )
        most = np.maximum(np.maximum(red, green), blue, out=brightest[top:bottom])
        np.subtract(most, np.minimum(np.minimum(red, green), blue), out=chroma[top:bottom])
        np.divide(red + green + blue, np.float32(3), out=mean[top:bottom])
    return brightest, chroma, mean


def _threshold(values: NDArray[np.float32], least: float, most: float) -> float:
    """Otsu's threshold within [least, most]: slides of only glass or only tissue have one mode to split."""
    if values.size == 0 or float(values.max()) - float(values.min()) < 1e-6:
        return least
    return float(np.clip(_otsu(values), least, most))


def _otsu(values: NDArray[np.float32]) -> float:
    """The threshold between two modes that leaves them the furthest apart.

    Args:
        values: (N,) float32 of more than one value.

    Convention:
        To the bit what ``skimage.filters.threshold_otsu`` gives, whose package takes as long to import as a small slide
        to segment: the centre of one of 256 bins, with sums in float32.

    Source:
        Otsu, "A threshold selection method from gray-level histograms", 1979, equation 14.
    """
    found, edges = np.histogram(values, bins=OTSU_BINS)
    counts, centres = found.astype(np.float32), (edges[:-1] + edges[1:]) / 2
    moments = counts * centres
    lower, upper = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    lower_means, upper_means = np.cumsum(moments) / lower, (np.cumsum(moments[::-1]) / upper[::-1])[::-1]
    between = lower[:-1] * upper[1:] * (lower_means[:-1] - upper_means[1:]) ** 2
    return float(centres[np.argmax(between)])


def _cleaned(tissue: NDArray[np.bool_], pixel_um2: float | None) -> NDArray[np.bool_]:
    min_px, hole_px = MIN_TISSUE_PX, MIN_HOLE_PX
    if pixel_um2 is not None:
        min_px, hole_px = int(MIN_TISSUE_UM2 / pixel_um2), int(MIN_HOLE_UM2 / pixel_um2)
    # A tiny slide is not emptied: nothing over a hundredth of it is small.
    most = tissue.size // 100
    without_specks = _without_small(tissue, min(min_px, most))
    return ~_without_small(~without_specks, min(hole_px, most))


def _without_small(mask: NDArray[np.bool_], max_px: int) -> NDArray[np.bool_]:
    """The mask without its connected parts, by edges, of at most so many pixels."""
    parts, count = connected_parts(mask)
    kept = np.bincount(parts.ravel(), minlength=count + 1) > max_px
    kept[0] = False
    return np.asarray(kept[parts])
