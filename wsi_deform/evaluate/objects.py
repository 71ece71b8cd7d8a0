"""Objects that were missed and objects that are not there: connected parts of each class, by size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.evaluate.block import Block
from wsi_deform.evaluate.fragments import Fragments
from wsi_deform.evaluate.trimap import Unit
from wsi_deform.geometry import Mpp, Region, mean_mpp

SIZES: Mapping[Unit, tuple[float, ...]] = {
    "um": (0.0, 1e2, 1e3, 1e4, 1e5, 1e6),
    "px": (0.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0),
}
"""Where classes of size begin, um^2 or px^2; the last has no end."""
LARGEST_LISTED = 20
OBJECTS, TOUCHED, HALF, PIXELS, COVERED = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """An object of the labels that the mask covers by less than half.

    Attributes:
        class_index: Its class.
        box: Its bounding box, level-0 px.
        pixels: Its pixels.
        covered: Share of them that the mask has as its class.
        area_um2: Its area, or None where the slide has no mpp.
    """

    class_index: int
    box: Region
    pixels: int
    covered: float
    area_um2: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectCounts:
    """Objects by class and size.

    Attributes:
        true: Unit -> (C, S, 5) int64 for the objects of the labels: how many there are, how many of them the mask
            touches (a pixel or more of their class), how many it covers by half or more, their pixels, and how many
            of these are covered. Sizes are ``SIZES`` of the unit.
        predicted: The same for the objects of the mask, and what of them is true.
        missed: The largest objects of the labels that are covered by less than half, largest first, of one slide.
    """

    true: Mapping[Unit, NDArray[np.int64]]
    predicted: Mapping[Unit, NDArray[np.int64]]
    missed: tuple[Missed, ...] = ()

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(
            true=_added(self.true, other.true), predicted=_added(self.predicted, other.predicted)
        )


class Objects:
    """Finds the connected objects of labels and mask; a ``BlockMeasure``.

    Args:
        classes: Number of classes.
        background: Class whose objects are not counted, or None.
        mpp: um per level-0 pixel of the slide, of both axes or along x and y; where it is None sizes are in px.
        width_px: Width of the slide.

    Convention:
        Pixels of one class that touch by a side or a corner are one object, whatever blocks it lies in. What is
        unlabelled is cut out of the mask first, so that no object lies there and one may be cut in two. An object is
        covered as far as the other side has its class.
    """

    halo_px = 0

    def __init__(self, *, classes: int, background: int | None, mpp: Mpp | None, width_px: int) -> None:
        self._unit: Unit = "px" if mpp is None else "um"
        self._um2_per_px = None if mpp is None else mean_mpp(mpp) ** 2
        counted = np.ones(classes, bool)
        if background is not None:
            counted[background] = False
        self._edges = np.array(SIZES[self._unit][1:])
        shape = (classes, len(self._edges) + 1, 5)
        self._counts = {side: np.zeros(shape, np.int64) for side in ("true", "predicted")}
        self._sides = {side: Fragments(width_px=width_px, counted=counted) for side in self._counts}
        self._missed: list[Missed] = []

    def add(self, block: Block) -> None:
        """Take the objects of a block."""
        truth, predicted = block.truth[block.inner], block.predicted[block.inner]
        agree = (truth == predicted) & (truth != UNLABELLED)
        for side, labels in (("true", truth), ("predicted", predicted)):
            self._count(side, self._sides[side].add(block.region, labels, agree))

    def result(self) -> ObjectCounts:
        """All objects; ends the measure."""
        for side, fragments in self._sides.items():
            self._count(side, fragments.end())
        true, predicted = ({self._unit: self._counts[side]} for side in ("true", "predicted"))
        return ObjectCounts(true=true, predicted=predicted, missed=tuple(self._missed))

    def _count(self, side: str, whole: NDArray[np.int64]) -> None:
        """Count objects that are whole, rows of ``fragments.COLUMNS``."""
        if not len(whole):
            return
        of, pixels, covered = whole[:, 0], whole[:, 1], whole[:, 2]
        area = pixels * (self._um2_per_px or 1.0)
        size = np.searchsorted(self._edges, area, side="right")
        half = 2 * covered >= pixels
        values = np.stack([np.ones_like(pixels), covered > 0, half, pixels, covered], axis=1)
        np.add.at(self._counts[side], (of, size), values)
        if side == "true":
            self._list(whole[~half])

    def _list(self, missed: NDArray[np.int64]) -> None:
        """Keep the largest of some objects that were missed."""
        largest = missed[np.argsort(-missed[:, 1], kind="stable")[:LARGEST_LISTED]]
        for of, pixels, covered, left, top, right, bottom in largest.tolist():
            area = None if self._um2_per_px is None else pixels * self._um2_per_px
            box = Region(left, top, right - left, bottom - top)
            self._missed.append(
                Missed(class_index=of, box=box, pixels=pixels, covered=covered / pixels, area_um2=area)
            )
        self._missed = sorted(self._missed, key=lambda each: -each.pixels)[:LARGEST_LISTED]


def _added(
    one: Mapping[Unit, NDArray[np.int64]], other: Mapping[Unit, NDArray[np.int64]]
) -> dict[Unit, NDArray[np.int64]]:
    together = dict(one)
    for unit, counts in other.items():
        together[unit] = together[unit] + counts if unit in together else counts
    return together
