"""The samples of a field after the network: where they lie, and what it says of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.limits import LONGEST_SIDE_PX

MAX_CLASSES = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldSamples:
    """The labelled samples of one field, and the pixels that they decide.

    Attributes:
        kept: Level-0 px whose mask pixels these samples decide. Samples may lie outside it (context margin).
        points_px: (N, 2) float64, (x, y), slide edge frame: pixel i covers [i, i + 1).
        labels: (N,) uint8.
        probabilities: (N, C) of class c in column c, for the linear reverse sampler: uint8 with 255 for 1, or
            float16 or float32 in [0, 1].
        lattice: Width and height of the sampled image whose pixels, row by row, the samples are; wherever
            there are probabilities.
        areas_px: (N,) float32, area of each sample's warped cell, level-0 px^2, 0 or more, for the
            footprint map.

    Raises:
        ShapeError: The arrays have another shape or type, no sample, or a position, probability or area that
            is not finite or out of range.
    """

    kept: Region
    points_px: NDArray[np.float64]
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.uint8] | NDArray[np.float16] | NDArray[np.float32] | None = None
    lattice: Size | None = None
    areas_px: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Check the arrays once, here."""
        points, labels = self.points_px, self.labels
        if points.ndim != 2 or points.shape[1] != 2 or points.dtype != np.float64:
            raise ShapeError(
                f"points_px: shape {points.shape}, {points.dtype}. Needed (N, 2) float64, last axis (x, y)."
            )
        if labels.shape != points.shape[:1] or labels.dtype != np.uint8:
            raise ShapeError(
                f"labels: shape {labels.shape}, {labels.dtype}. Needed {points.shape[:1]} uint8, one a point."
            )
        if len(points) == 0:
            raise ShapeError(
                "points_px: no points. Needed at least one sample; leave out fields without samples."
            )
        bad = ~(np.abs(points) <= LONGEST_SIDE_PX)  # also true where a position is NaN
        if bad.any():
            first = int(np.argmax(bad.any(axis=1)))
            raise ShapeError(
                f"points_px[{first}] = {points[first].tolist()}. Needed finite level-0 pixels, at most "
                f"{LONGEST_SIDE_PX:,} px from the slide's top-left corner. Is it in another frame?"
            )
        self._check_probabilities()
        areas = self.areas_px
        if areas is not None and (areas.shape != labels.shape or areas.dtype != np.float32):
            raise ShapeError(
                f"areas_px: shape {areas.shape}, {areas.dtype}. Needed {labels.shape} float32, one a point."
            )
        if areas is not None and not (np.isfinite(areas) & (areas >= 0)).all():
            raise ShapeError("areas_px: an area is negative or not finite. Needed level-0 px^2 of each cell.")

    def _check_probabilities(self) -> None:
        """Check what the linear reverse sampler needs, where it is given."""
        scores, count = self.probabilities, len(self.labels)
        if self.lattice is not None and self.lattice.area != count:
            raise ShapeError(
                f"lattice {self.lattice}: {self.lattice.area} samples, but there are {count} points. "
                "Needed the size of the sampled image whose pixels the points are."
            )
        if scores is None:
            return
        if self.lattice is None:
            raise ShapeError("lattice: None beside probabilities. Needed the size of the sampled image.")
        if scores.ndim != 2 or len(scores) != count or not 1 <= scores.shape[1] <= MAX_CLASSES:
            raise ShapeError(
                f"probabilities: shape {scores.shape}. Needed ({count}, C), one row a point, "
                f"1 to {MAX_CLASSES} classes."
            )
        if scores.dtype not in (np.uint8, np.float16, np.float32):
            raise ShapeError(f"probabilities: {scores.dtype}. Needed uint8 (255 for 1), float16 or float32.")
        # Sums of half-precision probabilities may pass 1 by a rounding or two, a single one does not.
        if scores.dtype != np.uint8 and not ((scores >= 0) & (scores <= 1)).all():
            raise ShapeError("probabilities: a value is outside [0, 1] or NaN. Are they scores, not softmax?")
