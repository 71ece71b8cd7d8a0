"""Where a slide was sampled, without the probabilities: what a picture of the samples needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import Region, Size
from wsi_deform.mask.samples import stored_points


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SamplePoints:
    """The samples of a slide.

    Attributes:
        size: Level-0 size of the slide, px.
        points: (N, 2) int32 (x, y) in ``1 / units_per_px`` level-0 px.
        units_per_px: What a pixel is divided into.
        labels: (N,) uint8.
        kept: What each field keeps, level-0 px.
    """

    size: Size
    points: NDArray[np.int32]
    units_per_px: int
    labels: NDArray[np.uint8]
    kept: tuple[Region, ...]

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def within(self, region: Region, most: int) -> tuple[NDArray[np.float64], NDArray[np.uint8], int]:
        """The samples in a region, thinned.

        Args:
            region: Level-0 px.
            most: Of more samples, so many at most, evenly taken in their order.

        Returns:
            (M, 2) float64 (x, y), level-0 px; their labels (M,); and how many lie in the region.
        """
        units = self.units_per_px
        x, y = self.points[:, 0], self.points[:, 1]
        inside = (x >= region.x * units) & (x < region.right * units)
        inside &= (y >= region.y * units) & (y < region.bottom * units)
        found = np.flatnonzero(inside)
        taken = found[:: max(1, -(-len(found) // most))]
        return self.points[taken] / units, self.labels[taken], len(found)


def read_sample_points(path: Path | str) -> SamplePoints:
    """Read the samples of a slide, 9 bytes each.

    Raises:
        MaskError: The file is missing, damaged, or not one that ``write_samples`` wrote.
    """
    stored = stored_points(path)
    return SamplePoints(
        size=Size(*map(int, stored["size"])),
        points=stored["points"],
        units_per_px=int(stored["units_per_px"]),
        labels=stored["labels"],
        kept=tuple(Region(*map(int, row)) for row in stored["kept"]),
    )
