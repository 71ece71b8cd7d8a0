"""Measures from confusion counts, pooled over all pixels of all slides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.errors import ShapeError

LABELS = 256


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
            truth: (H, W) class indices, or any other shape; 255 is unlabelled and counts nowhere.
            predicted: Class indices of the same shape; 255 only where the truth is unlabelled too.
            classes: Number of classes.

        Raises:
            ShapeError: Shapes differ, or an index is not below ``classes``.
        """
        pairs = no_pairs()
        count_pairs(truth, predicted, into=pairs)
        return cls.from_pairs(pairs, classes)

    @classmethod
    def from_pairs(cls, pairs: NDArray[np.int64], classes: int) -> Confusion:
        """Keep what counts of all pairs of labels.

        Args:
            pairs: (256, 256) int64, ``pairs[true, predicted]``, see ``count_pairs``.
            classes: Number of classes.

        Raises:
            ShapeError: A labelled pixel's truth or prediction is not below ``classes``.
        """
        labelled = pairs[:UNLABELLED]
        for name, totals in (("true", labelled.sum(axis=1)), ("predicted", labelled.sum(axis=0))):
            strange = np.flatnonzero(totals[classes:]) + classes
            if len(strange):
                found = "unlabelled pixels (255)" if strange[0] == UNLABELLED else f"class {strange[0]}"
                raise ShapeError(f"{name} label map: {found} found. Needed classes 0 to {classes - 1}.")
        return cls(pairs[:classes, :classes].copy())

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class, (C,); NaN where a class is in neither label map."""
        hit = np.diag(self.counts).astype(float)
        return _ratio(hit, self.counts.sum(axis=0) + self.counts.sum(axis=1) - hit)

    def dice(self) -> NDArray[np.float64]:
        """Dice coefficient, or F1, of each class, (C,); NaN where a class is in neither label map."""
        hit = np.diag(self.counts).astype(float)
        return _ratio(2 * hit, self.counts.sum(axis=0) + self.counts.sum(axis=1))

    def precision(self) -> NDArray[np.float64]:
        """Share of the pixels predicted as each class that are of it, (C,); NaN where none is predicted."""
        return _ratio(np.diag(self.counts).astype(float), self.counts.sum(axis=0))

    def recall(self) -> NDArray[np.float64]:
        """Share of the pixels of each class that are predicted as it, (C,); NaN where the labels have none."""
        return _ratio(np.diag(self.counts).astype(float), self.counts.sum(axis=1))

    def miou(self, *, without: int | None = None) -> float:
        """Mean IoU over the classes that occur.

        Args:
            without: Class to leave out of the mean, usually the background; its pixels still count as errors
                of others.

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


def _ratio(part: NDArray[np.float64], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Shares, NaN where there is no whole."""
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return ratio


def no_pairs() -> NDArray[np.int64]:
    """Nothing counted yet: (256, 256) int64, ``[true, predicted]``."""
    return np.zeros((LABELS, LABELS), np.int64)


def count_pairs(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], *, into: NDArray[np.int64]) -> None:
    """Count pixels by their two labels, whatever these are.

    Args:
        truth: Label map, (H, W) or any other shape, not empty.
        predicted: Label map of the same shape.
        into: (256, 256) int64, ``[true, predicted]``; the counts are added to it.

    Raises:
        ShapeError: Shapes differ, or the label maps are empty.
    """
    if truth.shape != predicted.shape or truth.size == 0:
        raise ShapeError(
            f"label maps of shapes {truth.shape} and {predicted.shape}: needed the same, not empty."
        )
    # Most of a slide is of one label: a look at the extremes is much cheaper than counting pairs.
    if truth.min() == truth.max():
        into[truth.flat[0]] += np.bincount(predicted.ravel(), minlength=LABELS)
    elif predicted.min() == predicted.max():
        into[:, predicted.flat[0]] += np.bincount(truth.ravel(), minlength=LABELS)
    else:
        codes = truth.astype(np.uint16).ravel() * LABELS + predicted.ravel()
        into += np.bincount(codes, minlength=LABELS * LABELS).reshape(LABELS, LABELS)
