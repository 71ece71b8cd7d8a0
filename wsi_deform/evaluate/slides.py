"""Count a slide's predicted label map against its labels at full resolution, a stripe at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.raster import LabelMask
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.geometry import Region, Size

BLOCK_PX = 2048


def blocks(size: Size, side_px: int = BLOCK_PX) -> Iterator[Region]:
    """Regions that tile an image, row by row."""
    whole = Region.whole(size)
    for y in range(0, size.height, side_px):
        for x in range(0, size.width, side_px):
            yield Region(x, y, side_px, side_px).intersection(whole)


def confusion_of(
    truth: LabelMask, predicted: Callable[[Region], NDArray[np.uint8]], *, size: Size, classes: int
) -> Confusion:
    """Confusion counts of one slide at level 0.

    Args:
        truth: Its label mask.
        predicted: Gives the predicted classes of a level-0 region, (H, W) uint8.
        size: Level-0 size of the slide.
        classes: Number of classes.

    Returns:
        The counts; memory stays bounded by one block.
    """
    counts = Confusion.empty(classes)
    for block in blocks(size):
        counts = counts + Confusion.of(truth.read_region(block), predicted(block), classes)
    return counts
