"""Read exactly the planned pixels and interpolate them: equation 1 at gigapixel size.

Tiles are read in batches. A batch is one dask task that decodes its tiles, picks the pixels that samples need
and returns only those, so no more than a few tiles are in memory at a time, on threads, processes or a cluster alike.
"""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region
from wsi_deform.sample.plan import LevelMode, TilePlan, TileSource, level_positions, plan_tiles

TILES_PER_TASK = 64
CORNERS = 4


def gather(
    slide: TileSource,
    grid: Tensor,
    *,
    region: Region | None = None,
    areas: Tensor | None = None,
    level: LevelMode = "mip",
    plan: TilePlan | None = None,
    scheduler: Any = "auto",
) -> Tensor:
    """Sample a slide at the points of a grid.

    Args:
        slide: An open slide.
        grid: (h, w, 2) or (1, h, w, 2), last axis (x, y), unit frame of ``region``.
        region: Level-0 region that the grid spans; None is the whole slide. Ignored with a plan.
        areas: (h, w) areas of the warped cells as fractions of the region; None estimates them from the grid.
        level: Which level each sample reads, see ``plan_tiles``. Ignored with a plan.
        plan: What ``plan_tiles`` returned for this slide and grid; None plans here.
        scheduler: "loop", "threads", "processes", a ``dask.distributed.Client``, or "auto": the loop
            for few tiles, else threads. The result is the same bit for bit.

    Returns:
        (3, h, w) or (1, 3, h, w) RGB in [0, 255], on the grid's device; float64 if the grid is,
        else float32. Differentiable with respect to the grid; the choice of level is constant to autograd.

    Raises:
        ShapeError: The grid has another shape.
        SlideError: A tile cannot be read.

    Source:
        Jin et al., ICLR 2022, equation 1; equals ``torch.nn.functional.grid_sample`` on the whole level.
    """
    if grid.ndim == 4 and grid.shape[0] == 1:
        batched = gather(
            slide, grid[0], region=region, areas=areas, level=level, plan=plan, scheduler=scheduler
        )
        return batched[None]
    if grid.ndim != 3 or grid.shape[-1] != 2:
        raise ShapeError(f"sampling grid of shape {tuple(grid.shape)}: needed (h, w, 2) or (1, h, w, 2).")
    if plan is None:
        plan = plan_tiles(slide, grid, region=region, areas=areas, level=level)
    pixels = torch.from_numpy(read_corners(slide, plan, scheduler=scheduler))
    return _blend(pixels, grid, plan)


def read_corners(slide: TileSource, plan: TilePlan, *, scheduler: Any = "auto") -> NDArray[np.uint8]:
    """Read the pixels of a plan.

    Args:
        slide: The slide that was planned for.
        plan: The plan.
        scheduler: See ``gather``.

    Returns:
        (R, 4, 3) uint8: the four corners of every reading.
    """
    if scheduler == "auto":
        scheduler = "loop" if plan.tile_count < TILES_PER_TASK else "threads"
    batches = [
        (first, min(first + TILES_PER_TASK, plan.tile_count))
        for first in range(0, plan.tile_count, TILES_PER_TASK)
    ]
    if scheduler == "loop":
        picked = [pick_pixels(slide, *_batch(plan, *batch)) for batch in batches]
    else:
        task = dask.delayed(pick_pixels, pure=False, traverse=False)
        tasks = [task(slide, *_batch(plan, *batch)) for batch in batches]
        if isinstance(scheduler, str):
            picked = list(dask.compute(*tasks, scheduler=scheduler))
        else:
            picked = list(scheduler.gather(scheduler.compute(tasks)))
    corners = np.empty((len(plan.corner), 3), dtype=np.uint8)
    corners[plan.corner] = np.concatenate(picked)
    return corners.reshape(-1, CORNERS, 3)


def pick_pixels(
    slide: TileSource,
    tiles: NDArray[np.int64],
    starts: NDArray[np.int64],
    row_px: NDArray[np.int32],
    column_px: NDArray[np.int32],
) -> NDArray[np.uint8]:
    """Decode some tiles and keep the pixels that are wanted: the work of one task.

    Args:
        slide: An open slide.
        tiles: (T, 3) level, column and row of each tile.
        starts: (T + 1,) where the pixels of each tile start, from 0.
        row_px: (P,) rows of the wanted pixels within their tile.
        column_px: (P,) columns of the wanted pixels within their tile.

    Returns:
        (P, 3) uint8.
    """
    picked = np.empty((len(row_px), 3), dtype=np.uint8)
    wanted = [(int(level), int(column), int(row)) for level, column, row in tiles]
    # A slide behind a network fetches the next tiles while this one is decoded.
    for tile, start, stop in zip(slide.read_tiles(wanted), starts[:-1], starts[1:], strict=True):
        # One flat index is three times as fast as a pair.
        place = row_px[start:stop] * np.int32(tile.shape[1]) + column_px[start:stop]
        np.take(tile.reshape(-1, 3), place, axis=0, out=picked[start:stop], mode="clip")
    return picked


def _batch(plan: TilePlan, first: int, last: int) -> tuple[NDArray[Any], ...]:
    """The arguments of one task."""
    start, stop = plan.starts[first], plan.starts[last]
    return (
        plan.tiles[first:last],
        plan.starts[first : last + 1] - start,
        plan.row_px[start:stop],
        plan.column_px[start:stop],
    )


def _blend(pixels: Tensor, grid: Tensor, plan: TilePlan) -> Tensor:
    """Bilinear weights, differentiable with respect to the grid, times the pixels.

    The floor is the plan's: two floors of the same number in different precision need not agree.
    """
    dtype = torch.float64 if grid.dtype == torch.float64 else torch.float32
    if grid.requires_grad:
        flat = grid.reshape(-1, 2).cpu().double()
        position = level_positions(flat, plan.region, plan.levels, plan.level, plan.sample)
        fraction = position - torch.from_numpy(plan.floor)
    else:
        fraction = torch.from_numpy(plan.fraction)
    x, y = fraction.unbind(dim=1)
    weights = torch.stack(((1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y), dim=1)
    weights = weights * torch.from_numpy(plan.weight)[:, None]
    weights = weights.to(grid.device, dtype)
    read = torch.einsum("rk,rkc->cr", weights, pixels.to(grid.device, dtype))
    height, width = plan.shape
    if read.shape[1] != height * width:
        sample = torch.from_numpy(plan.sample).to(grid.device)
        read = torch.zeros(3, height * width, dtype=dtype, device=grid.device).index_add(1, sample, read)
    return read.view(3, height, width)
