"""How long it will take to build the coarse levels that a file lacks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from wsi_deform.geometry import tile_grid
from wsi_deform.slide.levels.box_means import READ_THREADS
from wsi_deform.slide.reader import Level

TIMED_TILES = 8
# Means of boxes, and deflating what is kept: measured with two cores of an AMD EPYC, in 0.0053 s.
S_PER_MPX = 0.006


def build_seconds(level: Level, read_tile: Callable[[int, int], object]) -> float:
    """Estimate by some tiles how long all of a stored level takes to be read and made into coarser ones, s.

    Args:
        level: The coarsest level that a slide stores.
        read_tile: Reads its tile of a column and row.

    Raises:
        SlideError: A tile cannot be read.

    Convention:
        As if nothing else ran: a busy machine takes longer, and a slide's tissue more than its glass.
    """
    grid = tile_grid(level.size, level.tile)
    started = time.perf_counter()
    numbers = sorted(set(np.linspace(0, grid.area - 1, TIMED_TILES + 2)[1:-1].astype(int).tolist()))
    for number in numbers:
        read_tile(number % grid.width, number // grid.width)
    per_tile = (time.perf_counter() - started) / len(numbers)
    threads = min(READ_THREADS, os.cpu_count() or 1)
    return per_tile * grid.area / threads + S_PER_MPX * level.size.area / 1e6
