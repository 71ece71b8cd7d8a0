"""From a sampling grid to the tiles that it needs: which level each sample reads, and which pixels of which tiles.

A sample reads the four pixels around its position, on the level of the pyramid where one pixel is about as large as its
warped cell, or a number of octaves from there. So the number of tiles follows the number of samples, whatever the size
of the slide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, tile_grid
from wsi_deform.sample.counting_sort import levels_of_areas, placed_and_sorted
from wsi_deform.slide.reader import Level

LevelMode = Literal["exact", "mip", "trilinear", "auto"]
AUTO_EXACT_TILES = 1_000


class TileSource(Protocol):
    """What gathering needs of a slide: its levels and their tiles."""

    @property
    def levels(self) -> Sequence[Level]:
        """The pyramid, finest first."""
        ...

    def read_tiles(self, tiles: Sequence[tuple[int, int, int]]) -> Iterator[NDArray[np.uint8]]:
        """Tiles (level, column, row) in order, each (H, W, 3) uint8, clipped at the slide's edge."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TilePlan:
    """Exactly which pixels to read, ordered so that each tile is read once.

    A *reading* is one sample on one level; ``trilinear`` reads each sample on two levels. Each reading has four
    *corners*: (x0, y0), (x1, y0), (x0, y1), (x1, y1).

    Attributes:
        region: The level-0 region that the unit frame of the grid spans.
        shape: (h, w) of the sampled image.
        levels: The slide's levels.
        level: (R,) uint8, level of each reading.
        sample: (R,) index of its sample, row by row.
        weight: (R,) share of the reading in its sample; constant to autograd.
        floor: (R, 2) int32, the pixel (x0, y0) of the level.
        fraction: (R, 2), how far the position lies past the centre of that pixel, 0 to 1.
        tiles: (T, 3) int64 (level, column, row), each tile once, sorted by level, row and column.
        starts: (T + 1,) where the visits of each tile start.
        visits: (V,) int32, tile by tile: a reading all of whose corners lie in the tile, or -1 - b for ``border[b]``.
        border: (B,) int32, the readings whose corners lie in two or four tiles; each is visited there.
    """

    region: Region
    shape: tuple[int, int]
    levels: tuple[Level, ...]
    level: NDArray[np.uint8]
    sample: NDArray[np.int64]
    weight: NDArray[np.float64]
    floor: NDArray[np.int32]
    fraction: NDArray[np.float64]
    tiles: NDArray[np.int64]
    starts: NDArray[np.int64]
    visits: NDArray[np.int32]
    border: NDArray[np.int32]

    @property
    def tile_count(self) -> int:
        """Number of tiles that the plan reads."""
        return len(self.tiles)

    def corner_pixels(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Every pixel that is read, corner by corner: level, column and row in it; (4 R,) each."""
        level = np.repeat(self.level.astype(np.int64), 4)
        last = np.array([[each.size.width - 1, each.size.height - 1] for each in self.levels], np.int64)
        pixels = self.floor[:, None, :].astype(np.int64) + np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
        pixels = np.minimum(pixels.reshape(-1, 2), last[level])
        return level, pixels[:, 0], pixels[:, 1]


def plan_tiles(
    slide: TileSource,
    grid: Tensor,
    *,
    region: Region | None = None,
    areas: Tensor | None = None,
    level: LevelMode = "mip",
    bias: float = 0.0,
    coarsest_px: float | None = None,
) -> TilePlan:
    """Plan which tiles a sampling grid reads.

    Args:
        slide: An open slide.
        grid: (h, w, 2), last axis (x, y), unit frame of ``region``.
        region: Level-0 region that the grid spans; None is the whole slide.
        areas: (h, w), area of each warped cell as a fraction of the region; None estimates it from the grid.
        level: "exact" reads level 0; "mip" the level whose pixels are nearest in size to the warped cell, at
            most sqrt(2) times as long; "trilinear" blends the two levels around that size; "auto" is "exact" for
            regions of fewer than 1,000 level-0 tiles and "mip" for others.
        bias: Added to the level in octaves, but for "exact"; positive reads coarser, negative finer and more tiles (two
            octaves finer: about seven times as many).
        coarsest_px: Cells longer than this, in level-0 px, are read at the level whose pixels are nearest to this in
            size. None is no limit.

    Returns:
        The plan.

    Raises:
        ShapeError: The grid is not (h, w, 2), is not finite, or the areas do not fit it; a limit that is not positive.

    Convention:
        ``level_x = slide_x / downsample`` in the edge frame; the pixel index is ``level_x - 0.5``, clamped.
    """
    if grid.ndim != 3 or grid.shape[-1] != 2:
        raise ShapeError(f"sampling grid of shape {tuple(grid.shape)}: needed (h, w, 2).")
    if coarsest_px is not None and not coarsest_px > 0:
        raise ShapeError(f"coarsest pixel {coarsest_px} px: needed a positive number, or None for no limit.")
    region = Region.whole(slide.levels[0].size) if region is None else region
    levels = tuple(slide.levels)
    # x and y apart, as the warp computes them: no copy for its grids.
    xy = grid.detach().reshape(-1, 2).cpu().t()
    unit_xy = (xy if xy.dtype in (torch.float32, torch.float64) else xy.double()).contiguous().numpy()
    if level == "auto":
        tiles = tile_grid(region.size, levels[0].tile).area
        level = "exact" if tiles < AUTO_EXACT_TILES else "mip"
    reading_level, sample, weight = _readings(levels, grid, region, areas, level, bias, coarsest_px)
    finite, floor, fraction, wanted, starts, visits, border = placed_and_sorted(
        unit_xy,
        sample,
        reading_level,
        np.array([region.x, region.y, region.width, region.height], np.float64),
        np.array([[each.downsample.x, each.downsample.y] for each in levels], np.float64),
        np.array([[each.size.width, each.size.height] for each in levels], np.int64),
        np.array([[each.tile.width, each.tile.height] for each in levels], np.int64),
    )
    if not finite:
        raise ShapeError("sampling grid: found positions that are not finite. Needed numbers in [0, 1].")
    return TilePlan(
        region=region,
        shape=(grid.shape[0], grid.shape[1]),
        levels=levels,
        level=reading_level,
        sample=sample,
        weight=weight,
        floor=floor,
        fraction=fraction,
        tiles=wanted,
        starts=starts,
        visits=visits,
        border=border,
    )


def level_positions(
    unit_xy: Tensor,
    region: Region,
    levels: Sequence[Level],
    level: NDArray[np.uint8],
    sample: NDArray[np.int64],
) -> Tensor:
    """Pixel-index positions of the readings on their levels, for autograd; the planner's kernel computes the same.

    Args:
        unit_xy: (N, 2) float64 on the CPU, unit frame of the region.
        region: Level-0 region.
        levels: The slide's levels.
        level: (R,) level of each reading.
        sample: (R,) sample of each reading.

    Returns:
        (R, 2) float64, clamped to [0, side - 1]; differentiable with respect to ``unit_xy``.
    """
    origin = torch.tensor([region.x, region.y], dtype=torch.float64)
    extent = torch.tensor([region.width, region.height], dtype=torch.float64)
    downsample = torch.tensor(
        [[each.downsample.x, each.downsample.y] for each in levels], dtype=torch.float64
    )
    last = torch.tensor([[each.size.width - 1, each.size.height - 1] for each in levels], dtype=torch.float64)
    of_level = torch.from_numpy(level.astype(np.int64))
    slide_xy = (origin + unit_xy * extent)[torch.from_numpy(sample)]
    position = slide_xy / downsample[of_level] - 0.5
    return torch.minimum(position.clamp(min=0), last[of_level])


def areas_of_grid(grid: Tensor) -> Tensor:
    """Areas of the cells around the samples of a grid, estimated from the distances between samples.

    Args:
        grid: (h, w, 2), unit frame.

    Returns:
        (h, w) non-negative fractions of the region. An axis with one sample counts as the whole side.
    """
    h, w, _ = grid.shape
    one = torch.ones(1, dtype=grid.dtype, device=grid.device)
    zero = torch.zeros(1, dtype=grid.dtype, device=grid.device)
    down = torch.gradient(grid, dim=0)[0] if h > 1 else torch.cat((zero, one)).expand_as(grid)
    right = torch.gradient(grid, dim=1)[0] if w > 1 else torch.cat((one, zero)).expand_as(grid)
    return (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]).abs()


def _readings(
    levels: Sequence[Level],
    grid: Tensor,
    region: Region,
    areas: Tensor | None,
    mode: LevelMode,
    bias: float,
    coarsest_px: float | None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64]]:
    """Level, sample and weight of every reading."""
    count = grid.shape[0] * grid.shape[1]
    every, whole = _every_sample(count)
    if mode == "exact":
        return np.zeros(count, np.uint8), every, whole
    if mode not in ("mip", "trilinear"):
        raise ShapeError(f'level "{mode}": needed "exact", "mip", "trilinear" or "auto".')
    areas = areas_of_grid(grid.detach()) if areas is None else areas.detach()
    if areas.shape != grid.shape[:2]:
        raise ShapeError(f"areas of shape {tuple(areas.shape)}: needed {tuple(grid.shape[:2])}, as the grid.")
    octave = np.array([0.5 * np.log2(each.downsample.x * each.downsample.y) for each in levels])
    most = np.inf if coarsest_px is None else np.log2(coarsest_px)
    if mode == "mip":
        # Halfway between two levels, but never a pixel more than sqrt(2) times as long as the cell: it matters where
        # a pyramid skips octaves (ratio 4: root mean square error 10.4 instead of 11.6 of 255 on an H&E slide).
        middles = np.maximum((octave[1:] + octave[:-1]) / 2, octave[1:] - 0.5)
        flat = areas.reshape(-1).cpu()
        flat = (flat if flat.dtype in (torch.float32, torch.float64) else flat.double()).contiguous()
        min_px = np.where(middles > most, np.inf, 4.0 ** (middles - bias))
        level = levels_of_areas(flat.numpy(), float(region.size.area), min_px)
        return level, every, whole
    area_px = areas.reshape(-1).cpu().double().numpy() * region.size.area
    # Octave: log2 of level-0 pixels per pixel. A cell folded to nothing reads level 0.
    wanted = 0.5 * np.log2(np.maximum(area_px, 1.0)) + bias
    wanted = np.clip(np.minimum(wanted, most), octave[0], octave[-1])
    fine = np.clip(np.searchsorted(octave, wanted, side="right") - 1, 0, max(0, len(octave) - 2))
    coarse = np.minimum(fine + 1, len(octave) - 1)
    gap = np.where(coarse > fine, octave[coarse] - octave[fine], 1.0)
    share = (wanted - octave[fine]) / gap
    level = np.concatenate((fine, coarse)).astype(np.uint8)
    weight = np.concatenate((1 - share, share))
    used = weight > 0
    return level[used], np.concatenate((every, every))[used], weight[used]


@lru_cache(maxsize=4)
def _every_sample(count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each sample read once, whole: the same for all fields of a budget, so kept, and never written to."""
    return np.arange(count, dtype=np.int64), np.ones(count)
