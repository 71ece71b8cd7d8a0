"""Where a slide's tissue counts: what is measured of it, and where its mask may have other labels than background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsi_deform.cover import tissue_of
from wsi_deform.geometry import Region
from wsi_deform.look.tissue import TissueMask
from wsi_deform.mask.tissue_limit import TissueLimit, with_border
from wsi_deform.slide.slide import Slide

# Lumens and cysts are white and belong to their glands: enclosed glass up to 0.56 mm across is not cut out.
HOLE_UM2 = 250_000.0


def counted_tissue(slide: Slide, *, limited: bool) -> NDArray[np.bool_]:
    """The cells of a slide that count as tissue in its measurements.

    Args:
        slide: An open slide.
        limited: Whether its mask is limited to tissue.

    Returns:
        (H, W), cells of ``tissue_of`` that its region touches. One cell, False, for an image without mpp whose mask
        is not limited: nobody says that it shows tissue.

    Raises:
        SlideError: See ``tissue_of``.
    """
    if not limited and slide.mpp_or_none is None and slide.tissue_path is None:
        return np.zeros((1, 1), np.bool_)
    found = tissue_of(slide)
    if not slide.is_cropped:
        return found.counted
    return np.asarray(found.counted & _cells_inside(slide.region, found, whole=False))


def tissue_limit_of(slide: Slide, background: int | None) -> TissueLimit | None:
    """Where a slide's mask may have other labels than background.

    Args:
        slide: An open slide.
        background: The background class.

    Returns:
        Its tissue and one cell of the tissue mask around it; where the tissue was found by colour also the holes in it
        up to ``HOLE_UM2``. None where no class is the background. Of a slide with a region, all outside it.

    Raises:
        SlideError: See ``tissue_of``.
    """
    if background is None:
        return None
    found = tissue_of(slide)
    hole_cells, mpp = 0, slide.mpp_or_none
    if slide.tissue_path is None and mpp is not None:
        hole_cells = int(HOLE_UM2 / (found.downsample.x * found.downsample.y * mpp**2))
    cells = with_border(found.tissue, hole_cells=hole_cells)
    if slide.is_cropped:
        # Outside its region nothing is labelled; cells that its edge crosses are left as they are.
        cells = cells | ~_cells_inside(slide.region, found, whole=True)
    return TissueLimit(cells=cells, size=slide.size, background=background)


def _cells_inside(region: Region, found: TissueMask, *, whole: bool) -> NDArray[np.bool_]:
    """(H, W), the cells of a tissue mask that lie in a region, whole or in part."""
    height, width = found.tissue.shape
    left, right = np.arange(width) * found.downsample.x, np.arange(1, width + 1) * found.downsample.x
    top, bottom = np.arange(height) * found.downsample.y, np.arange(1, height + 1) * found.downsample.y
    if whole:
        columns, rows = (
            (left >= region.x) & (right <= region.right),
            (top >= region.y) & (bottom <= region.bottom),
        )
    else:
        columns, rows = (
            (right > region.x) & (left < region.right),
            (bottom > region.y) & (top < region.bottom),
        )
    return np.asarray(rows[:, None] & columns)
