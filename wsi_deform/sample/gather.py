"""Read exactly the planned pixels and interpolate them: equation 1 at gigapixel size.

Few tiles, or where no gradient is wanted: each is decoded and its samples are blended at once. Many tiles are read in
batches: a batch is one dask task that decodes its tiles, picks the pixels that samples need and returns only
those, so no more than a few tiles are in memory at a time, on threads, processes or a cluster alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region
from wsi_deform.sample.pick import Frame, blend_corners, blend_inside, flat_tile, pick_corners, put_corners
from wsi_deform.sample.plan import LevelMode, TilePlan, TileSource, level_positions, plan_tiles
from wsi_deform.slide.reader import Level

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
    scheduler = _chosen(scheduler, plan)
    if grid.requires_grad and torch.is_grad_enabled():
        corners = read_corners(slide, plan, scheduler=scheduler)
        return _differentiable(torch.from_numpy(corners), grid, plan)
    dtype = np.float64 if grid.dtype == torch.float64 else np.float32
    out = np.zeros((3, plan.shape[0] * plan.shape[1]), dtype)
    readings = plan.fraction, plan.weight, plan.sample
    if scheduler == "loop":
        border_corners = np.empty((len(plan.border), CORNERS, 3), np.uint8)
        for (frame, tile), start, stop in zip(
            _framed(slide, plan.levels, plan.tiles), plan.starts[:-1], plan.starts[1:], strict=True
        ):
            visits = plan.visits[start:stop]
            blend_inside(tile, frame, visits, plan.border, plan.floor, *readings, border_corners, out)
        blend_corners(plan.border, border_corners, *readings, out)
    else:
        corners = read_corners(slide, plan, scheduler=scheduler)
        blend_corners(np.arange(len(corners), dtype=np.int32), corners, *readings, out)
    return torch.from_numpy(out).view(3, *plan.shape).to(grid.device)


def read_corners(slide: TileSource, plan: TilePlan, *, scheduler: Any = "auto") -> NDArray[np.uint8]:
    """Read the pixels of a plan.

    Args:
        slide: The slide that was planned for.
        plan: The plan.
        scheduler: See ``gather``.

    Returns:
        (R, 4, 3) uint8: the four corners of every reading.
    """
    scheduler = _chosen(scheduler, plan)
    visited = plan.visits.copy()
    partly = visited < 0
    visited[partly] = plan.border[-1 - visited[partly]]
    floor = plan.floor[visited]
    batches = []
    for first in range(0, plan.tile_count, TILES_PER_TASK):
        last = min(first + TILES_PER_TASK, plan.tile_count)
        start, stop = plan.starts[first], plan.starts[last]
        starts = plan.starts[first : last + 1] - start
        batches.append((plan.levels, plan.tiles[first:last], starts, floor[start:stop]))
    if scheduler == "loop":
        picked = [pick_pixels(slide, *batch) for batch in batches]
    else:
        import dask

        task = dask.delayed(pick_pixels, pure=False, traverse=False)
        tasks = [task(slide, *batch) for batch in batches]
        if isinstance(scheduler, str):
            picked = list(dask.compute(*tasks, scheduler=scheduler))
        else:
            picked = list(scheduler.gather(scheduler.compute(tasks)))
    corners = np.zeros((len(plan.level), CORNERS, 3), np.uint8)
    start = 0
    for part in picked:
        put_corners(plan.visits[start : start + len(part)], plan.border, part, corners)
        start += len(part)
    return corners


def pick_pixels(
    slide: TileSource,
    levels: Sequence[Level],
    tiles: NDArray[np.int64],
    starts: NDArray[np.int64],
    floor: NDArray[np.int32],
) -> NDArray[np.uint8]:
    """Decode some tiles and keep the pixels that are wanted: the work of one task.

    Args:
        slide: An open slide.
        levels: Its levels.
        tiles: (T, 3) level, column and row of each tile.
        starts: (T + 1,) where the visits of each tile start, from 0.
        floor: (V, 2) pixel (x0, y0) of the reading of each visit.

    Returns:
        (V, 4, 3) uint8; 0 for corners that lie in another tile.
    """
    picked = np.zeros((len(floor), CORNERS, 3), np.uint8)
    for (frame, tile), start, stop in zip(
        _framed(slide, levels, tiles), starts[:-1], starts[1:], strict=True
    ):
        pick_corners(tile, frame, floor[start:stop], picked[start:stop])
    return picked


def _framed(
    slide: TileSource, levels: Sequence[Level], tiles: NDArray[np.int64]
) -> Iterator[tuple[Frame, NDArray[np.uint8]]]:
    """Tiles with their places, in order; a slide behind a network fetches the next while this one is used."""
    wanted: list[tuple[int, int, int]] = [tuple(tile) for tile in tiles.tolist()]
    for (level, column, row), tile in zip(wanted, slide.read_tiles(wanted), strict=True):
        of = levels[level]
        left, top = column * of.tile.width, row * of.tile.height
        yield (left, top, of.size.width - 1, of.size.height - 1), flat_tile(tile)


def _chosen(scheduler: Any, plan: TilePlan) -> Any:
    """What "auto" stands for."""
    if isinstance(scheduler, str) and scheduler == "auto":
        return "loop" if plan.tile_count < TILES_PER_TASK else "threads"
    return scheduler


def _differentiable(pixels: Tensor, grid: Tensor, plan: TilePlan) -> Tensor:
    """Bilinear weights, differentiable with respect to the grid, times the pixels.

    The floor is the plan's: two floors of the same number in different precision need not agree.
    """
    dtype = torch.float64 if grid.dtype == torch.float64 else torch.float32
    flat = grid.reshape(-1, 2).cpu().double()
    position = level_positions(flat, plan.region, plan.levels, plan.level, plan.sample)
    fraction = position - torch.from_numpy(plan.floor)
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
