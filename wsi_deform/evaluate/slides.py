"""Count predicted label maps of a slide against its labels at full resolution, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.annotation.labels import Labels
from wsi_deform.evaluate.block import Block, BlockMeasure
from wsi_deform.evaluate.measures import Confusion, count_pairs, no_pairs
from wsi_deform.geometry import Region, Size

BLOCK_PX = 2048
# Counted in parts: small ones are often of one label, which needs no counting.
PART_PX = 512

LabelMap = Callable[[Region], NDArray[np.uint8]]


def blocks(size: Size, side_px: int = BLOCK_PX) -> Iterator[Region]:
    """Regions that tile an image, row by row."""
    whole = Region.whole(size)
    for y in range(0, size.height, side_px):
        for x in range(0, size.width, side_px):
            yield Region(x, y, side_px, side_px).intersection(whole)


def confusion_of(truth: Labels, predicted: LabelMap, *, size: Size, classes: int) -> Confusion:
    """Confusion counts of one slide at level 0; see ``confusions_of``."""
    return confusions_of(truth, [predicted], size=size, classes=classes)[0]


def confusions_of(
    truth: Labels,
    label_maps: Sequence[LabelMap],
    *,
    size: Size,
    classes: int,
    measures: Sequence[BlockMeasure] = (),
) -> list[Confusion]:
    """Confusion counts of several label maps of one slide at level 0, in one pass over its labels.

    Args:
        truth: Its label mask.
        label_maps: Each gives the classes of a level-0 region, (H, W) uint8. Where one says unlabelled (255),
            as labels put back through the reverse sampler may, the pixel counts nowhere in it.
        size: Level-0 size of the slide.
        classes: Number of classes.
        measures: What else is counted of the first label map, in the same pass.

    Returns:
        The counts of each label map; memory stays bounded by one block.

    Raises:
        ShapeError: A label is neither a class nor unlabelled.
    """
    pairs = [no_pairs() for _ in label_maps]
    halo_px = max((measure.halo_px for measure in measures), default=0)
    for block in blocks(size):
        outer = block.grown(halo_px, size)
        around, first = truth.read_region(outer), label_maps[0](outer)
        if measures:
            seen = Block.of(block, outer, around, first)
            for measure in measures:
                measure.add(seen)
        true = _inside(around, outer, block)
        for counted, label_map in zip(pairs, label_maps, strict=True):
            is_first = label_map is label_maps[0]
            predicted = _inside(first, outer, block) if is_first else label_map(block)
            for part in blocks(block.size, PART_PX):
                inside = np.s_[part.y : part.bottom, part.x : part.right]
                count_pairs(true[inside], predicted[inside], into=counted)
    for counted in pairs:
        counted[:, UNLABELLED] = 0
    return [Confusion.from_pairs(counted, classes) for counted in pairs]


def _inside(labels: NDArray[np.uint8], outer: Region, inner: Region) -> NDArray[np.uint8]:
    """The labels of a region inside the one that they are of."""
    left, top = inner.x - outer.x, inner.y - outer.y
    return labels[top : top + inner.height, left : left + inner.width]
