"""Regions of a class in a mask: where they are, how sure the network is of them, how long they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_deform.errors import MaskError
from wsi_deform.geometry import Point

#: The level that regions are found in has pixels of at most this side. CAMELYON16 measures at 7.8 um.
PIXEL_UM = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionRegion:
    """Pixels of one class that touch each other, by sides or corners.

    Attributes:
        place_px: A pixel of it, the centre in level-0 px: the most probable one, else the one deepest inside.
        confidence: The highest probability of the class in it; None without a probability map.
        length_um: Its longest diameter (Feret), from edge to edge.
    """

    place_px: Point
    confidence: float | None
    length_um: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideLesions:
    """All regions of a class on a slide.

    Attributes:
        regions: The most confident, or longest, first.
        probability: The highest probability of the class on the slide, in a region or not; None without a map.
    """

    regions: tuple[LesionRegion, ...]
    probability: float | None


def lesions_of(
    mask: Path,
    probabilities: Path | None,
    *,
    label: int,
    background: int | None,
    mpp: float,
    min_um: float = 0.0,
) -> SlideLesions:
    """Find the regions of a class.

    Args:
        mask: The mask of a slide.
        probabilities: Its probability map; None where places and sizes suffice.
        label: The class.
        background: The class that the limit to tissue writes, or None.
        mpp: Level-0 um per pixel.
        min_um: Regions whose longest diameter is shorter are left out.

    Raises:
        MaskError: A file is missing, cannot be read, or they do not fit each other.

    Convention:
        At the coarsest level of the mask whose pixels are at most ``PIXEL_UM`` long (where the probability map has no
        pixels as small, at its own). What the limit to tissue made background has no region, and its probabilities do
        not count: those of pixels that are background in the mask and most probably something else.
    """
    sizes = _sizes(mask)
    level = min(max(0, math.floor(math.log2(max(1.0, PIXEL_UM / mpp)))), len(sizes) - 1)
    maps: NDArray[Any] | None = None
    if probabilities is not None:
        known = {
            sizes.index(size): number for number, size in enumerate(_sizes(probabilities)) if size in sizes
        }
        if not known:
            raise MaskError(
                f"probability map {probabilities}: none of its levels has the size of one of {mask.name}. Needed the "
                "map of this mask. Segment the slide again with --probabilities."
            )
        level = min(known, key=lambda each: abs(each - level))
        # (C, H, W), or (H, W) where there is one class.
        maps = _pixels(probabilities, known[level]).reshape(-1, *sizes[level])
    return _lesions(_pixels(mask, level), maps, label, background, mpp, 1 << level, min_um)


def _lesions(
    labels: NDArray[Any],
    maps: NDArray[Any] | None,
    label: int,
    background: int | None,
    mpp: float,
    step: int,
    min_um: float,
) -> SlideLesions:
    # Slow to import, and of no use to other commands.
    from scipy import ndimage
    from skimage import measure

    found = labels == label
    numbered, _ = ndimage.label(found, structure=np.ones((3, 3), int))
    depth = ndimage.distance_transform_edt(np.pad(found, 1))[1:-1, 1:-1] if maps is None else maps[label]
    regions = []
    for each in measure.regionprops(numbered):
        rows, columns = each.coords[:, 0], each.coords[:, 1]
        best = int(np.argmax(depth[rows, columns]))
        length_um = float(each.feret_diameter_max) * step * mpp
        if length_um < min_um:
            continue
        place = Point((float(columns[best]) + 0.5) * step, (float(rows[best]) + 0.5) * step)
        confidence = None if maps is None else float(maps[label, rows[best], columns[best]]) / 255
        regions.append(LesionRegion(place_px=place, confidence=confidence, length_um=length_um))
    regions.sort(key=lambda region: (-(region.confidence or 0.0), -region.length_um, region.place_px.y))
    probability = None
    if maps is not None:
        counts = np.ones(labels.shape, bool)
        if background is not None:
            counts = (labels != background) | (maps.argmax(axis=0) == background)
        counts &= labels != 255
        probability = float(maps[label][counts].max(initial=0)) / 255
    return SlideLesions(regions=tuple(regions), probability=probability)


def _sizes(path: Path) -> list[tuple[int, int]]:
    """(H, W) of the levels of a TIFF, finest first."""
    with _opened(path) as opened:
        return [level.shape[-2:] for level in opened.series[0].levels]


def _pixels(path: Path, level: int) -> NDArray[Any]:
    with _opened(path) as opened:
        pixels: NDArray[Any] = opened.series[0].levels[level].asarray()
        return pixels


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    try:
        with tifffile.TiffFile(path) as opened:
            yield opened
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise MaskError(f"{path}: cannot be read ({error}). Segment the slide again.") from error
