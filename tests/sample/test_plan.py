"""Plans of sampling: where one way of reading ends and the next begins, and grids and pyramids of one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from array_slide import random_slide

from wsi_deform.geometry import Point, Size
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import areas_of_grid, plan_tiles
from wsi_deform.slide.reader import Level


@dataclass
class Levels:
    """Of a slide no more than its levels, of which planning reads no pixel."""

    levels: tuple[Level, ...]


def even_grid(size: Size, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Samples in the middle of equal cells."""
    x = (torch.arange(size.width, dtype=dtype) + 0.5) / size.width
    y = (torch.arange(size.height, dtype=dtype) + 0.5) / size.height
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


@pytest.mark.parametrize(("tiles", "level"), [(Size(37, 27), 0), (Size(40, 25), 1)])  # 999, 1,000
def test_auto_reads_level_0_of_fewer_than_a_thousand_tiles(tiles: Size, level: int) -> None:
    levels = tuple(
        Level(
            size=Size(side * tiles.width, side * tiles.height),
            downsample=Point(16 / side, 16 / side),
            tile=Size(16, 16),
        )
        for side in (16, 8)
    )
    plan = plan_tiles(Levels(levels), even_grid(Size(4, 4)), level="auto")  # type: ignore[arg-type]
    assert set(plan.level.tolist()) == {level}


def test_a_row_of_samples_shares_the_region_out() -> None:
    for size in (Size(5, 1), Size(1, 5), Size(3, 4)):
        assert areas_of_grid(even_grid(size)).flatten().tolist() == pytest.approx([1 / size.area] * size.area)


@pytest.mark.parametrize("level", ["mip", "trilinear", "auto"])
def test_a_slide_of_one_level_is_read_there_however_large_the_cells_are(level: str) -> None:
    slide = random_slide(Size(64, 48))
    plan = plan_tiles(slide, even_grid(Size(2, 2)), level=level)  # type: ignore[arg-type]
    assert plan.level.tolist() == [0, 0, 0, 0]
    assert plan.weight.tolist() == [1, 1, 1, 1]


def test_trilinear_reads_one_level_where_its_pixels_are_as_large_as_the_cells() -> None:
    slide = random_slide(Size(64, 64), levels=4)
    assert (
        len(plan_tiles(slide, even_grid(Size(32, 32)), level="trilinear").level) == 32 * 32
    )  # cells of 2 px
    assert len(plan_tiles(slide, even_grid(Size(24, 24)), level="trilinear").level) == 2 * 24 * 24


def test_a_batch_of_one_grid_gives_a_batch_of_one_image() -> None:
    slide, grid = random_slide(Size(64, 48), levels=2), even_grid(Size(9, 7))
    assert gather(slide, grid[None]).shape == (1, 3, 7, 9)
    assert torch.equal(gather(slide, grid[None])[0], gather(slide, grid))


def test_half_precision_grids_are_read_as_single_precision_ones() -> None:
    slide, grid = random_slide(Size(64, 48), levels=2), even_grid(Size(8, 4), torch.float16)
    areas = torch.full((4, 8), 1 / 32, dtype=torch.float16)
    found = gather(slide, grid, areas=areas)
    assert found.dtype == torch.float32
    assert torch.equal(found, gather(slide, grid.float(), areas=areas.float()))
