"""A block of labels and predictions, and what a measure that is counted block by block must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.geometry import Region


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A block of a slide with what lies around it.

    Attributes:
        region: The pixels that are counted here and in no other block, level-0 px.
        outer: These and a halo around them, clipped to the slide; the arrays below cover it.
        truth: (H, W) uint8 class indices, 255 unlabelled.
        predicted: (H, W) uint8 class indices; 255 where the truth is unlabelled.
        true_borders: (H, W) bool, see ``borders_of``.
        predicted_borders: (H, W) bool.
    """

    region: Region
    outer: Region
    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    true_borders: NDArray[np.bool_]
    predicted_borders: NDArray[np.bool_]

    @classmethod
    def of(
        cls, region: Region, outer: Region, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]
    ) -> Block:
        """Make a block from label maps of ``outer``; the prediction of unlabelled pixels is left out."""
        unlabelled = truth == UNLABELLED
        if unlabelled.any():
            predicted = np.where(unlabelled, np.uint8(UNLABELLED), predicted)
        return cls(
            region=region,
            outer=outer,
            truth=truth,
            predicted=predicted,
            true_borders=borders_of(truth),
            predicted_borders=borders_of(predicted),
        )

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where ``region`` lies in the arrays."""
        top, left = self.region.y - self.outer.y, self.region.x - self.outer.x
        return slice(top, top + self.region.height), slice(left, left + self.region.width)


class BlockMeasure(Protocol):
    """What is added up over the blocks of one slide; its result adds to those of other slides by ``+``."""

    @property
    def halo_px(self) -> int:
        """Pixels around a block that it must see."""
        ...

    def add(self, block: Block) -> None:
        """Count a block; blocks come row by row, from the left to the right."""
        ...


def borders_of(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels beside a border between two classes.

    Args:
        labels: (H, W) class indices, 255 unlabelled; not empty.

    Returns:
        (H, W) bool: labelled pixels one of whose four neighbours is of another class.

    Convention:
        The frame of the image and the edge of what is unlabelled are no borders.
    """
    borders = np.zeros(labels.shape, bool)
    highest = labels.max()
    if labels.min() == highest:
        return borders
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[one] != labels[other]
        if highest == UNLABELLED:
            differ &= labels[one] != UNLABELLED
            differ &= labels[other] != UNLABELLED
        borders[one] |= differ
        borders[other] |= differ
    return borders
