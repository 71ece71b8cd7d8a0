"""Where a slide has tissue, found at a coarse level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.slide.lowres import low_res_view
from wsi_deform.slide.slide import Slide

MAX_SIDE_PX = 2048
# Chroma is max - min of RGB, 0 to 1: glass stays below the first number, stained tissue is above the second.
GLASS_CHROMA, STAINED_CHROMA = 0.03, 0.08
# Optical density -log10(I / I0) of unstained or gray tissue is above this; JPEG noise of glass is below.
GLASS_DENSITY, STAINED_DENSITY = 0.06, 0.12
# Fluorescence, and the area that scanners do not scan: everything darker than this is background.
BLACK = 0.06
LEAST_TISSUE_UM2, LEAST_HOLE_UM2 = 10_000.0, 10_000.0
LEAST_TISSUE_PX, LEAST_HOLE_PX = 16, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueMask:
    """Where a slide has tissue.

    Attributes:
        tissue: (H, W) bool.
        downsample: Level-0 px per mask pixel, per axis.
    """

    tissue: NDArray[np.bool_]
    downsample: Point

    @property
    def fraction(self) -> float:
        """Share of the slide that is tissue, 0 to 1."""
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
        rows = _overlaps(
            region.y / self.downsample.y, region.height / self.downsample.y, size.height, self.tissue.shape[0]
        )
        columns = _overlaps(
            region.x / self.downsample.x, region.width / self.downsample.x, size.width, self.tissue.shape[1]
        )
        shares: NDArray[np.float32] = (rows @ self.tissue.astype(np.float32) @ columns.T).astype(np.float32)
        return shares.clip(0.0, 1.0)


def _overlaps(start: float, length: float, cells: int, pixels: int) -> sparse.csr_array:
    """(cells, pixels): the share of each of ``cells`` parts of [start, start + length) that each pixel covers."""
    edges = start + np.arange(cells + 1) * (length / cells)
    cut = np.clip(edges, 0, pixels)
    # Mass left of every edge, pixel by pixel, differs between two edges by what lies between them.
    columns, numbers, values = [], [], []
    for cell, (low, high) in enumerate(zip(cut[:-1], cut[1:], strict=True)):
        first, last = math.floor(low), math.ceil(high)
        touched = np.arange(first, last)
        covered = np.minimum(touched + 1, high) - np.maximum(touched, low)
        columns.append(touched)
        numbers.append(np.full(len(touched), cell))
        values.append(covered * (cells / length))
    return sparse.csr_array(
        (np.concatenate(values), (np.concatenate(numbers), np.concatenate(columns))), shape=(cells, pixels)
    )


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
        where the mpp is not known) are removed.
    """
    if mpp_um <= 0 or max_side_px < 1:
        raise ShapeError(f"tissue mask at {mpp_um} um/px, at most {max_side_px} px: both must be positive.")
    size = _mask_size(slide, mpp_um, max_side_px)
    view = low_res_view(slide, Region.whole(slide.size), size) / np.float32(255.0)
    downsample = Point(slide.size.width / size.width, slide.size.height / size.height)
    tissue = _tissue_of(view)
    mpp = slide.mpp_or_none
    pixel_um2 = None if mpp is None else downsample.x * downsample.y * mpp * mpp
    return TissueMask(tissue=_cleaned(tissue, pixel_um2), downsample=downsample)


def _mask_size(slide: Slide, mpp_um: float, max_side_px: int) -> Size:
    mpp = slide.mpp_or_none
    scale = 1.0 if mpp is None else min(1.0, mpp / mpp_um)
    scale = min(scale, max_side_px / slide.size.long)
    return Size(max(1, round(slide.size.width * scale)), max(1, round(slide.size.height * scale)))


def _tissue_of(view: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W, 3) in [0, 1] -> (H, W)."""
    smooth = ndimage.uniform_filter(view, size=(3, 3, 1), mode="nearest")
    brightest = smooth.max(axis=2)
    lit = brightest > BLACK
    if lit.mean() < 0.5:  # black background: fluorescence
        return np.asarray(lit)
    chroma = brightest - smooth.min(axis=2)
    # Glass is never brighter than 1; a slide without any has no bright mode: 0.75 is the least that scanners
    # make of glass.
    white = max(0.75, float(np.percentile(brightest[lit], 95)))
    density = -np.log10(np.clip(smooth.mean(axis=2) / white, 1e-3, None))
    coloured = chroma > _threshold(chroma[lit], GLASS_CHROMA, STAINED_CHROMA)
    dense = density > _threshold(density[lit], GLASS_DENSITY, STAINED_DENSITY)
    return np.asarray(lit & (coloured | dense), bool)


def _threshold(values: NDArray[np.float32], least: float, most: float) -> float:
    """Otsu's threshold within [least, most]: slides of only glass or only tissue have one mode to split."""
    if values.size == 0 or float(values.max()) - float(values.min()) < 1e-6:
        return least
    return float(np.clip(threshold_otsu(values), least, most))


def _cleaned(tissue: NDArray[np.bool_], pixel_um2: float | None) -> NDArray[np.bool_]:
    least_px, hole_px = LEAST_TISSUE_PX, LEAST_HOLE_PX
    if pixel_um2 is not None:
        least_px, hole_px = int(LEAST_TISSUE_UM2 / pixel_um2), int(LEAST_HOLE_UM2 / pixel_um2)
    # A tiny slide is not emptied: nothing over a hundredth of it is small.
    most = tissue.size // 100
    without_specks = remove_small_objects(tissue, max_size=min(least_px, most))
    return np.asarray(remove_small_holes(without_specks, max_size=min(hole_px, most)), bool)
