"""Ceilings of sampling that is not a warp: a quadtree with a label per leaf, and blocks read at the level they need.

Both are oracles: true labels decide where to look closer, and what is said of a cell is what most of its pixels are.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.headroom.counts import CellCounts, confusion_of

Weights = NDArray[np.float64]


def class_weights(pixels: NDArray[np.int64]) -> Weights:
    """1 / pixels of each class: an error weighs as it does in the mean IoU. 0 for absent classes.

    Args:
        pixels: (classes,), labelled pixels of all slides.
    """
    return np.where(pixels > 0, 1 / np.maximum(pixels, 1), 0.0)


def weighted_errors(cells: NDArray[np.int64], weights: Weights) -> NDArray[np.float64]:
    """What is wrong in each cell if it is all the class that most of it is: (..., classes) -> (...)."""
    said = cells.argmax(-1)[..., None]
    right = np.take_along_axis(cells, said, -1)[..., 0] * weights[said[..., 0]]
    wrong: NDArray[np.float64] = cells @ weights - right
    return wrong


def tree_confusion(counts: CellCounts, leaves: int, weights: Weights) -> NDArray[np.int64]:
    """Labels of the leaves of a quadtree that is split where most is wrong.

    Args:
        counts: Of a slide.
        leaves: At most so many leaves hold a part of the slide.
        weights: Of errors, by class.

    Returns:
        (classes, classes), see ``confusion_of``.
    """
    grids = counts.grids
    errors = [weighted_errors(each, weights) for each in grids]
    totals = [each.sum(-1) for each in grids]
    last = len(grids) - 1
    heap = [(-errors[last][0, 0], last, 0, 0)]
    kept: list[tuple[int, int, int]] = []
    held = 1
    while heap:
        worst, grid, row, column = heapq.heappop(heap)
        if grid == 0 or worst == 0:
            kept.append((grid, row, column))
            continue
        parts = [(2 * row + y, 2 * column + x) for y in (0, 1) for x in (0, 1)]
        parts = [part for part in parts if totals[grid - 1][part]]
        if held - 1 + len(parts) > leaves:
            kept.append((grid, row, column))
            continue
        held += len(parts) - 1
        for part in parts:
            heapq.heappush(heap, (-errors[grid - 1][part], grid - 1, *part))
    return confusion_of(np.stack([grids[grid][row, column] for grid, row, column in kept]))


def dense_confusion(counts: CellCounts, downsample: int, *, stride: int) -> NDArray[np.int64]:
    """Labels of a slide that is read at one level, in cells of so many px of it: the ceiling of reading densely."""
    return confusion_of(counts.of_cells(stride * downsample))


def block_confusion(
    counts: CellCounts,
    read_px: float,
    weights: Weights,
    *,
    downsamples: Sequence[int],
    block_px: int,
    stride: int,
) -> tuple[NDArray[np.int64], float]:
    """Labels of blocks that are each read at the level that they need.

    Args:
        counts: Of a slide.
        read_px: Most pixels that are read, all levels together; the coarsest level is read everywhere.
        weights: Of errors, by class.
        downsamples: Level-0 px per px of the levels, finest first, each twice the one before.
        block_px: Side of a block, level-0 px.
        stride: Px of a level per cell that gets a label.

    Returns:
        (classes, classes), see ``confusion_of``, and the pixels that were read. A block that is read at a level was
        read at all coarser ones before.
    """
    whole = counts.of_cells(block_px)
    there = whole.sum(-1) > 0
    blocks = np.argwhere(there)
    levels = list(reversed(downsamples))  # as they are read, coarsest first
    inside = [_of_blocks(counts.of_cells(stride * each), there.shape)[there] for each in levels]
    wrong = np.stack([weighted_errors(each, weights).sum(1) for each in inside], axis=1)  # (blocks, levels)
    pixels = np.cumsum([(block_px / each) ** 2 for each in levels])
    at = np.zeros(len(blocks), int)
    used = float(pixels[0]) * len(blocks)
    heap = [step for block in range(len(blocks)) if (step := _best_step(wrong[block], pixels, 0, block))]
    heapq.heapify(heap)
    while heap:
        _, block, level = heapq.heappop(heap)
        more = float(pixels[level] - pixels[at[block]])
        if used + more > read_px:
            continue
        used, at[block] = used + more, level
        if step := _best_step(wrong[block], pixels, level, block):
            heapq.heappush(heap, step)
    found = [confusion_of(inside[level][at == level]) for level in range(len(levels))]
    return np.sum(found, axis=0), used


def _best_step(
    wrong: NDArray[np.float64], pixels: NDArray[np.float64], level: int, block: int
) -> tuple[float, int, int] | None:
    """The finer level that mends most per pixel, as (-gain per pixel, block, level); None where none mends anything."""
    steps = [
        (-(wrong[level] - wrong[finer]) / (pixels[finer] - pixels[level]), block, finer)
        for finer in range(level + 1, len(pixels))
        if wrong[finer] < wrong[level]
    ]
    return min(steps, default=None)


def _of_blocks(cells: NDArray[np.int64], blocks: tuple[int, ...]) -> NDArray[np.int64]:
    """Cells by block: (rows, columns, classes) -> (block rows, block columns, cells of a block, classes)."""
    down, across, classes = blocks[0], blocks[1], cells.shape[-1]
    side = len(cells) // down
    split = cells.reshape(down, side, across, side, classes).swapaxes(1, 2)
    return split.reshape(down, across, side * side, classes)
