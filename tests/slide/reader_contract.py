"""What every reader must do, whatever the file: subclass and give the fixture ``case``."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size, level_downsample, tile_grid, tile_region
from wsi_deform.slide.reader import Reader, tiles_of


@dataclass(frozen=True)
class Case:
    """A reader, and the pixels of all its levels as an independent program decodes them."""

    reader: Reader
    levels: Sequence[NDArray[np.uint8]]
    mpp: float | None = None
    path: Path | None = None
    names: Sequence[str] = field(default_factory=tuple)


def all_tiles(reader: Reader) -> list[tuple[int, int, int]]:
    return [
        (number, column, row)
        for number, level in enumerate(reader.info.levels)
        for row in range(tile_grid(level.size, level.tile).height)
        for column in range(tile_grid(level.size, level.tile).width)
    ]


def whole_level(reader: Reader, number: int) -> NDArray[np.uint8]:
    level = reader.info.levels[number]
    out = np.zeros((*level.size.shape, 3), np.uint8)
    for one, column, row in all_tiles(reader):
        if one == number:
            region = tile_region(column, row, level.tile, level.size)
            out[region.y : region.bottom, region.x : region.right] = reader.read_tile(number, column, row)
    return out


class ReaderContract:
    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        raise NotImplementedError

    def test_levels_have_the_sizes_of_an_independent_decode(self, case: Case):
        assert [level.size.shape for level in case.reader.info.levels] == [
            one.shape[:2] for one in case.levels
        ]

    def test_levels_shrink_and_the_first_has_downsample_one(self, case: Case):
        levels = case.reader.info.levels
        assert levels[0].downsample.x == levels[0].downsample.y == 1.0
        for before, after in zip(levels[:-1], levels[1:], strict=True):
            assert after.size.area < before.size.area
            assert after.downsample.x > before.downsample.x

    def test_downsample_is_the_nominal_whole_number_where_it_fits(self, case: Case):
        for level in case.reader.info.levels:
            assert level.downsample == level_downsample(case.reader.info.size, level.size)

    def test_bounds_lie_on_the_slide(self, case: Case):
        bounds, size = case.reader.info.bounds, case.reader.info.size
        assert bounds.intersection(Region.whole(size)) == bounds

    def test_mpp_is_the_one_that_was_written(self, case: Case):
        assert case.reader.info.mpp == (None if case.mpp is None else pytest.approx(case.mpp, rel=1e-6))

    def test_tiles_are_rgb_clipped_at_the_edge(self, case: Case):
        for number, column, row in all_tiles(case.reader):
            level = case.reader.info.levels[number]
            tile = case.reader.read_tile(number, column, row)
            assert tile.dtype == np.uint8
            assert tile.shape == (*tile_region(column, row, level.tile, level.size).size.shape, 3)

    def test_pixels_equal_an_independent_decode(self, case: Case):
        for number, expected in enumerate(case.levels):
            np.testing.assert_array_equal(whole_level(case.reader, number), expected)

    def test_reading_order_does_not_matter(self, case: Case):
        tiles = all_tiles(case.reader)
        first = {address: case.reader.read_tile(*address).copy() for address in tiles}
        for index in np.random.default_rng(1).permutation(len(tiles)):
            np.testing.assert_array_equal(case.reader.read_tile(*tiles[index]), first[tiles[index]])

    def test_threads_read_the_same_bits(self, case: Case):
        tiles = all_tiles(case.reader) * 2
        expected = [case.reader.read_tile(*address).copy() for address in tiles]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda address: case.reader.read_tile(*address), tiles))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_several_tiles_equal_single_ones_in_order(self, case: Case):
        tiles = all_tiles(case.reader)[::-1]
        tiles = [*tiles, *tiles[:3]]
        for address, tile in zip(tiles, tiles_of(case.reader, tiles), strict=True):
            np.testing.assert_array_equal(tile, case.reader.read_tile(*address))

    def test_tiles_that_do_not_exist_are_refused(self, case: Case):
        levels = case.reader.info.levels
        grid: Size = tile_grid(levels[0].size, levels[0].tile)
        for address in ((0, grid.width, 0), (0, 0, grid.height), (0, -1, 0), (0, 0, -1), (len(levels), 0, 0)):
            with pytest.raises(SlideError, match="wanted"):
                case.reader.read_tile(*address)

    def test_reading_after_close_is_an_error(self, case: Case):
        case.reader.close()
        with pytest.raises(SlideError, match="closed"):
            case.reader.read_tile(0, 0, 0)
