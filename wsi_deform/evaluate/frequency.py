"""Class frequency: how much of the samples, and how much of the slides, each class has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassFrequency:
    """Samples and pixels by their true class; what is unlabelled is in none.

    Attributes:
        samples: (C,) int64, samples that lie on each class.
        pixels: (C,) int64, level-0 pixels of each class.

    Source:
        Jin et al., ICLR 2022, figure 13.
    """

    samples: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.uint8], pixels: NDArray[np.int64]) -> ClassFrequency:
        """Count samples.

        Args:
            labels: (N,) true classes at the samples, 255 unlabelled.
            pixels: (C,) pixels of each class.
        """
        return cls(samples=np.bincount(labels, minlength=256)[: len(pixels)].astype(np.int64), pixels=pixels)

    def sample_shares(self) -> NDArray[np.float64]:
        """(C,) shares of the labelled samples; NaN without any."""
        return self.samples / np.where(self.samples.sum(), self.samples.sum(), np.nan)

    def pixel_shares(self) -> NDArray[np.float64]:
        """(C,) shares of the labelled pixels; NaN without any."""
        return self.pixels / np.where(self.pixels.sum(), self.pixels.sum(), np.nan)

    def ratios(self) -> NDArray[np.float64]:
        """(C,) share of the samples / share of the pixels: 1 is uniform; NaN for a class that does not occur."""
        return self.sample_shares() / np.where(self.pixels > 0, self.pixel_shares(), np.nan)

    def __add__(self, other: ClassFrequency) -> ClassFrequency:
        return ClassFrequency(samples=self.samples + other.samples, pixels=self.pixels + other.pixels)
