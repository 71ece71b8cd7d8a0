"""Measures from confusion counts, pooled over all pixels of all slides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.errors import ShapeError


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Pixels counted by true and by predicted class.

    Attributes:
        counts: (C, C) int64, ``counts[true, predicted]``. Unlabelled pixels are in none.
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, classes: int) -> Confusion:
        """Nothing counted yet."""
        return cls(np.zeros((classes, classes), dtype=np.int64))

    @classmethod
    def of(cls, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> Confusion:
        """Count the pixels of two label maps of one shape.

        Args:
            truth: Class indices; 255 is unlabelled and counts nowhere.
            predicted: Class indices; 255 counts as a class that is never right.
            classes: Number of classes.

        Raises:
            ShapeError: Shapes differ, or an index is not below ``classes``.
        """
        if truth.shape != predicted.shape:
            raise ShapeError(f"label maps of shapes {truth.shape} and {predicted.shape}: needed the same.")
        pairs = np.bincount(
            truth.astype(np.intp).ravel() * 256 + predicted.ravel(), minlength=256 * 256
        ).reshape(256, 256)
        pairs[UNLABELLED] = 0
        strange = np.flatnonzero(pairs.sum(axis=1) + np.where(np.arange(256) < 255, pairs.sum(axis=0), 0))
        if len(strange) and strange[-1] >= classes:
            raise ShapeError(f"label map: class {strange[-1]} found. Needed classes 0 to {classes - 1}, or 255.")
        counts = pairs[:classes, :classes].copy()
        if pairs[:classes, UNLABELLED].any():
            raise ShapeError("predicted label map: unlabelled pixels (255) found. Needed a class everywhere.")
        return cls(counts)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class, (C,); NaN where a class is in neither label map."""
        hit = np.diag(self.counts).astype(float)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - hit
        return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)

    def miou(self, *, without: int | None = None) -> float:
        """Mean IoU over the classes that occur.

        Args:
            without: Class to leave out of the mean, usually the background; its pixels still count as errors of others.

        Returns:
            In [0, 1]; NaN when no class occurs.
        """
        values = np.delete(self.iou(), without) if without is not None else self.iou()
        present = values[~np.isnan(values)]
        return float(present.mean()) if len(present) else float("nan")

    def accuracy(self) -> float:
        """Share of the labelled pixels that are right; NaN when none is labelled."""
        total = self.counts.sum()
        return float(np.diag(self.counts).sum() / total) if total else float("nan")
