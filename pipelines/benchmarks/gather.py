"""Gather: seconds and tiles against the side of the slide, at a fixed number of samples.

Real pyramidal JPEG TIFFs where one can be drawn in reasonable time, beyond that a pyramid that decodes a real JPEG
tile wherever one is read. The rivals get our plan (which pixels of which tiles) as a present; what is compared is how
they come by the pixels.

- *mip* cases read what mip-mapped sampling needs, *exact* cases what sampling level 0 needs.
- ``grid_sample`` reads one whole level and calls ``torch.nn.functional.grid_sample``. On a coarse level (the one whose
  pixels are nearest to the mean distance of the samples) it is cheap, and blurred wherever the samples lie closer.
- ``vindex`` asks ``dask.array.vindex`` for all pixels at once, per level, and does not blend them.
- ``zarr`` and ``openslide`` run our gather on tiles that they read: ``tifffile``'s ``aszarr`` with zarr 3, one slice
  per tile, and ``OpenSlide.read_region``, one call per tile; both on the same threads as ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import openslide
import tifffile
import torch
import torch.nn.functional as F
import zarr
from numpy.typing import NDArray
from torch import Tensor

from pipelines.benchmarks.drawn_slides import QUICK_BLOCKS, Blocks, DrawnReader, Mosaic, drawn_file
from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from wsi_deform.deform.density import deformation_map
from wsi_deform.deform.grid import sampling_grid
from wsi_deform.geometry import Region, Size
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import LevelMode, TilePlan, plan_tiles
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.reader import Level
from wsi_deform.slide.registry import READERS
from wsi_deform.slide.slide import Slide

MAP_SIDE = 64
EXACT_SAMPLES = 256 * 256
MAX_WHOLE_LEVEL_PX = 21_000**2  # level 0 as float32 of a larger slide does not fit into 16 GiB


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    quick = settings.quick
    blocks: Blocks = QUICK_BLOCKS if quick else {}
    real = (2048, 4096) if quick else (12_288, 20_480, 61_440)
    drawn = (2048, 8192) if quick else (20_480, 51_200, 102_400, 204_800)
    samples = (64 * 64,) if quick else (EXACT_SAMPLES, 512 * 512)
    rows: list[Row] = []
    with Pool(settings.threads) as pool:
        for count in samples:
            for side in real:
                file = drawn_file(Mosaic(side_px=side, **blocks), settings.cache)
                given = {"side": side, "samples": count, "path": str(file.slide)}
                cases = _real_cases(given, largest_rivals=real[1], exact=count == samples[0])
                rows += _rows(cases, given, pool, settings)
            for side in drawn:
                given = {"side": side, "samples": count, "path": ""}
                cases = [_case(method, given) for method in ("mip", "trilinear", "grid_sample coarse")]
                rows += _rows(cases, given, pool, settings)
    return rows


def _real_cases(given: dict[str, Any], *, largest_rivals: int, exact: bool) -> list[Case]:
    methods = ["mip", "trilinear", "grid_sample coarse", "vindex mip", "zarr mip", "openslide mip"]
    cases = [_case(method, given) for method in methods]
    if exact and given["side"] <= largest_rivals:
        slow = ["exact", "zarr exact", "openslide exact", "vindex exact"]
        if given["side"] ** 2 <= MAX_WHOLE_LEVEL_PX:
            slow.append("grid_sample exact")
        cases += [_case(method, given) for method in slow]
    elif exact:
        cases.append(_case("exact", given))
    return cases


def _case(method: str, given: dict[str, Any]) -> Case:
    return Case(name=method, factory="gather:work", params={**given, "method": method})


def _rows(cases: Sequence[Case], given: dict[str, Any], pool: Pool, settings: Settings) -> list[Row]:
    source = "a real file" if given["path"] else "drawn as it is read"
    chosen = [case for case in cases if not settings.only or case.name in settings.only]
    print(f" {given['samples']} samples of {given['side']} x {given['side']} px, {source}")
    rows = pool.measure(chosen, runs=settings.runs) if chosen else []
    for row in rows:
        row["source"] = "file" if row.pop("path") else "drawn"
        del row["method"]
    return rows


def work(*, side: int, samples: int, path: str, method: str) -> Work:
    """One case; every run opens the slide anew and decodes everything anew."""
    grid = warped_grid(samples)
    name, _, mode = method.partition(" ")
    if not mode:
        name, mode = "ours", method
    run = _METHODS[name]

    def once(_: int) -> Facts:
        return run(_fresh(side, path), path, grid, mode)

    # The same code on few samples, so that nothing is imported or compiled in a run.
    run(_fresh(side, path), path, warped_grid(256), "mip" if mode == "exact" else mode)
    few = warped_grid(256)
    gather(_fresh(side, path), few, scheduler="threads")
    return Work(run=once)


def warped_grid(samples: int) -> Tensor:
    """A strongly warped sampling grid of about so many samples, always the same: (h, w, 2)."""
    logits = 3 * torch.randn(1, 1, MAP_SIDE, MAP_SIDE, generator=torch.Generator().manual_seed(0))
    side = round(math.sqrt(samples))
    grid = sampling_grid(deformation_map(logits), sigma_px=MAP_SIDE / 4, size=Size(side, side), warp_steps=2)
    return grid[0]


def _fresh(side: int, path: str) -> Slide:
    TILE_CACHE.forget()
    READERS.forget()
    return open_slide(path) if path else Slide.from_reader(DrawnReader(side), slide_id=f"drawn-{side}")


def _facts(plan: TilePlan) -> Facts:
    areas = [plan.levels[level].tile.area for level in plan.tiles[:, 0]]
    return {"tiles": plan.tile_count, "decoded_mpx": sum(areas) / 1e6}


def _ours(slide: Slide, _: str, grid: Tensor, mode: str) -> Facts:
    plan = plan_tiles(slide, grid, level=_mode(mode))
    gather(slide, grid, plan=plan)
    return _facts(plan)


def _grid_sample(slide: Slide, _: str, grid: Tensor, mode: str) -> Facts:
    level = 0
    if mode == "coarse":
        spacing = slide.size.width / grid.shape[1]
        octaves = [abs(math.log2(each.downsample.x / spacing)) for each in slide.levels]
        level = int(np.argmin(octaves))
    whole = slide.read_region(level, Region.whole(slide.levels[level].size))
    image = torch.from_numpy(whole).permute(2, 0, 1)[None].float()
    F.grid_sample(image, grid[None] * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False)
    tile = slide.levels[level].tile
    tiles = -(-whole.shape[1] // tile.width) * -(-whole.shape[0] // tile.height)
    return {"tiles": tiles, "decoded_mpx": whole.shape[0] * whole.shape[1] / 1e6}


def _vindex(slide: Slide, path: str, grid: Tensor, mode: str) -> Facts:
    plan = plan_tiles(slide, grid, level=_mode(mode))
    level, x, y = plan.corner_pixels()
    with tifffile.TiffFile(path) as file:
        for number in np.unique(level):
            with file.pages[int(number)].aszarr() as store:
                array = dask.array.from_zarr(zarr.open(store, mode="r"))
                here = level == number
                array.vindex[y[here], x[here]].compute(scheduler="threads")
    return _facts(plan)


def _zarr(slide: Slide, path: str, grid: Tensor, mode: str) -> Facts:
    with tifffile.TiffFile(path) as file:
        arrays = [zarr.open(page.aszarr(), mode="r") for page in file.pages]

        def read(level: Level, number: int, column: int, row: int) -> NDArray[np.uint8]:
            top, left = row * level.tile.height, column * level.tile.width
            tile: NDArray[np.uint8] = arrays[number][
                top : top + level.tile.height, left : left + level.tile.width
            ]
            return tile

        return _ours_with(slide, read, grid, mode)


def _openslide(slide: Slide, path: str, grid: Tensor, mode: str) -> Facts:
    with openslide.OpenSlide(Path(path)) as opened:

        def read(level: Level, number: int, column: int, row: int) -> NDArray[np.uint8]:
            left, top = column * level.tile.width, row * level.tile.height
            width = min(level.tile.width, level.size.width - left)
            height = min(level.tile.height, level.size.height - top)
            place = (round(left * level.downsample.x), round(top * level.downsample.y))
            return np.asarray(opened.read_region(place, number, (width, height)))[..., :3]

        return _ours_with(slide, read, grid, mode)


class _Source:
    """Our gather on tiles that somebody else reads."""

    def __init__(
        self, levels: Sequence[Level], read: Callable[[Level, int, int, int], NDArray[np.uint8]]
    ) -> None:
        self.levels = levels
        self.read = read

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        return self.read(self.levels[level], level, column, row)

    def read_tiles(self, tiles: Sequence[tuple[int, int, int]]) -> Iterator[NDArray[np.uint8]]:
        return (self.read_tile(*tile) for tile in tiles)


def _ours_with(
    slide: Slide, read: Callable[[Level, int, int, int], NDArray[np.uint8]], grid: Tensor, mode: str
) -> Facts:
    source = _Source(slide.levels, read)
    plan = plan_tiles(source, grid, level=_mode(mode))
    gather(source, grid, plan=plan)
    return _facts(plan)


def _mode(name: str) -> LevelMode:
    modes: dict[str, LevelMode] = {"mip": "mip", "trilinear": "trilinear", "exact": "exact"}
    return modes[name]


_METHODS: dict[str, Callable[[Slide, str, Tensor, str], Facts]] = {
    "ours": _ours,
    "grid_sample": _grid_sample,
    "vindex": _vindex,
    "zarr": _zarr,
    "openslide": _openslide,
}
