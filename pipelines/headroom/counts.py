"""How many pixels of each class lie in the cells of dyadic grids over a slide, from its labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.labels import Labels
from wsi_deform.geometry import Region

BAND_PX = 512
"""Level-0 rows that are read at once; a multiple of every finest cell."""


@dataclass(frozen=True, slots=True)
class CellCounts:
    """Labelled pixels by class in cells, from the finest grid to one cell that holds the slide.

    Attributes:
        cell_px: Side of a finest cell, level-0 px; a power of two.
        grids: Finest first, (rows, columns, classes) int64; each has cells of twice the side of the one before, and
            twice as many rows and columns as the one after.
        area_px: Level-0 px of the slide.
    """

    cell_px: int
    grids: list[NDArray[np.int64]]
    area_px: int

    def of_cells(self, side_px: int) -> NDArray[np.int64]:
        """The grid whose cells have this side, level-0 px.

        Raises:
            ValueError: There is none.
        """
        doublings = math.log2(side_px / self.cell_px)
        if not doublings.is_integer() or not 0 <= doublings < len(self.grids):
            raise ValueError(
                f"no grid of cells of {side_px} px; finest {self.cell_px} px, {len(self.grids)} grids."
            )
        return self.grids[int(doublings)]


def count_cells(labels: Labels, *, cell_px: int) -> CellCounts:
    """Count the labels of a slide, band by band; no more than a band of it is in memory.

    Args:
        labels: Of a slide; unlabelled pixels count nowhere.
        cell_px: Side of a finest cell, level-0 px; a power of two, at most ``BAND_PX``.

    Raises:
        ValueError: The side is no such number.
    """
    if cell_px < 1 or BAND_PX % cell_px:
        raise ValueError(f"cells of {cell_px} px; needed a power of two, at most {BAND_PX}.")
    size, classes = labels.slide_size, labels.classes.count
    # One cell of the last grid holds all of it, so that every grid halves.
    side = 2 ** math.ceil(math.log2(max(1, math.ceil(max(size.width, size.height) / cell_px))))
    finest = np.zeros((side, side, classes), np.int64)
    for y in range(0, size.height, BAND_PX):
        band = labels.read_region(Region(0, y, size.width, min(BAND_PX, size.height - y)))
        rows, columns = (-(-n // cell_px) for n in band.shape)
        padded = np.full((rows * cell_px, columns * cell_px), classes, np.uint8)
        padded[: band.shape[0], : band.shape[1]] = np.minimum(band, classes)
        cells = padded.reshape(rows, cell_px, columns, cell_px)
        top = y // cell_px
        for label in range(classes):
            finest[top : top + rows, :columns, label] = (cells == label).sum((1, 3))
    grids = [finest]
    while len(grids[-1]) > 1:
        half = len(grids[-1]) // 2
        grids.append(grids[-1].reshape(half, 2, half, 2, classes).sum((1, 3)))
    return CellCounts(cell_px, grids, size.width * size.height)


def confusion_of(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels by true class and by the class that most of their cell has.

    Args:
        cells: (..., classes), counts of each cell.

    Returns:
        (classes, classes) int64: rows true, columns said; ties go to the class of the lower index.
    """
    flat = cells.reshape(-1, cells.shape[-1])
    said = flat.argmax(1)
    classes = flat.shape[1]
    return np.stack([flat[said == label].sum(0) for label in range(classes)], axis=1)
