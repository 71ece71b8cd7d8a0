"""Trimap: how good a mask is near the borders of the labels, in bands of growing width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.evaluate.block import Block
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.geometry import Mpp, Point, mean_mpp, steps_of
from wsi_deform.kernels.distance import LARGEST_PX, capped_squared_distances

Unit = Literal["px", "um"]
Band = tuple[Unit, float]

WIDTHS_PX = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
WIDTHS_UM = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True, slots=True, eq=False)
class TrimapCounts:
    """Pixels within each band.

    Attributes:
        bands: Unit and width of a band -> its pixels by true and predicted class.
    """

    bands: Mapping[Band, Confusion]

    def __add__(self, other: TrimapCounts) -> TrimapCounts:
        bands = dict(self.bands)
        for band, counts in other.bands.items():
            bands[band] = bands[band] + counts if band in bands else counts
        return TrimapCounts(bands)


class Trimap:
    """Counts the pixels near the borders of the labels; a ``BlockMeasure``.

    Args:
        classes: Number of classes.
        mpp: um per level-0 pixel of the slide, of both axes or along x and y, or None: no bands in um then.
        widths_px: Widths of bands, level-0 px.
        widths_um: Widths of bands, um. One that is narrower than a border pixel's half or wider than 254 px
            on this slide is left out.

    Convention:
        A border lies between two neighbouring labelled pixels of different classes; the frame of the slide and the
        edge of what is unlabelled are none. A band of width w holds the labelled pixels on both sides whose centres
        are less than w from a border. A pixel beside a border is half a pixel from it, so that the band of 1 px holds
        exactly these; any other pixel is half a pixel further from it than its centre is from that of the nearest
        pixel beside a border (exact Euclidean distances).

    Source:
        Kohli et al. 2009; Jin et al., ICLR 2022, figure 9 (b).
    """

    def __init__(
        self,
        *,
        classes: int,
        mpp: Mpp | None,
        widths_px: Sequence[float] = WIDTHS_PX,
        widths_um: Sequence[float] = WIDTHS_UM,
    ) -> None:
        limits: dict[Band, float] = {("px", float(width)): float(width) for width in widths_px}
        steps = None if mpp is None else steps_of(mpp)
        self._um_bands = None
        if steps is not None and steps.x == steps.y:
            limits |= {("um", float(width)): width / steps.x for width in widths_um}
        elif steps is not None:
            self._um_bands = _UmBands(classes=classes, steps=steps, widths_um=widths_um)
        self._limits = {band: limit for band, limit in limits.items() if 0.5 < limit <= LARGEST_PX}
        self._edges = sorted(set(self._limits.values()))
        self._classes = classes
        self._most_px = math.ceil(max(self._edges, default=1.0))
        distances = np.sqrt(np.arange(self._most_px**2 + 2)) + 0.5
        # Ring k lies within edge k and beyond edge k - 1; the last one beyond all.
        self._ring = np.searchsorted(self._edges, distances, side="right").astype(np.int64)
        self._counts = np.zeros((len(self._edges), classes, classes), np.int64)

    @property
    def halo_px(self) -> int:
        """As far as the widest band, and one pixel to see the borders there."""
        return max(self._most_px, 0 if self._um_bands is None else self._um_bands.most_px) + 1

    def add(self, block: Block) -> None:
        """Count a block."""
        if not block.true_borders.any():
            return
        if self._um_bands is not None:
            self._um_bands.add(block)
        if not self._edges:
            return
        squared = capped_squared_distances(block.true_borders, self._most_px)[block.inner]
        truth, predicted = block.truth[block.inner], block.predicted[block.inner]
        near = (squared <= self._most_px**2) & (truth != UNLABELLED)
        rings = self._ring[squared[near]]
        inside = rings < len(self._edges)
        codes = (rings * self._classes + truth[near]) * self._classes + predicted[near]
        counted = np.bincount(codes[inside], minlength=self._counts.size)
        self._counts += counted.reshape(self._counts.shape)

    def result(self) -> TrimapCounts:
        """The pixels of each band."""
        within: NDArray[np.int64] = self._counts.cumsum(axis=0)
        places = {edge: place for place, edge in enumerate(self._edges)}
        bands = {band: Confusion(within[places[limit]].copy()) for band, limit in self._limits.items()}
        return TrimapCounts(bands | ({} if self._um_bands is None else self._um_bands.result()))


class _UmBands:
    """Bands in um where pixels are not square: the nearest border in um is not the nearest in px.

    Args:
        classes: Number of classes.
        steps: Lengths of a pixel along x and y, um.
        widths_um: As for ``Trimap``.

    Convention:
        As ``Trimap``; a pixel beside a border is half the side of the square of a pixel's area from it.
    """

    def __init__(self, *, classes: int, steps: Point, widths_um: Sequence[float]) -> None:
        shorter, self._half_um = min(steps.x, steps.y), mean_mpp(steps) / 2
        self._steps, self._classes = steps, classes
        self._edges = sorted(
            {float(width) for width in widths_um if self._half_um < width <= LARGEST_PX * shorter}
        )
        self.most_px = math.ceil(max(self._edges, default=shorter) / shorter)
        self._counts = np.zeros((len(self._edges), classes, classes), np.int64)

    def add(self, block: Block) -> None:
        """Count a block that has borders."""
        from scipy import ndimage

        apart = ndimage.distance_transform_edt(~block.true_borders, sampling=(self._steps.y, self._steps.x))
        rings = np.searchsorted(self._edges, apart[block.inner] + self._half_um, side="right")
        truth, predicted = block.truth[block.inner], block.predicted[block.inner]
        near = (rings < len(self._edges)) & (truth != UNLABELLED)
        codes = (rings[near] * self._classes + truth[near]) * self._classes + predicted[near]
        counted = np.bincount(codes, minlength=self._counts.size)
        self._counts += counted.reshape(self._counts.shape)

    def result(self) -> dict[Band, Confusion]:
        """The pixels of each band."""
        within: NDArray[np.int64] = self._counts.cumsum(axis=0)
        return {("um", edge): Confusion(within[place].copy()) for place, edge in enumerate(self._edges)}
