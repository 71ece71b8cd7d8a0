from __future__ import annotations

import numpy as np
import pytest
from drawn_reader import ArrayReader
from numpy.typing import NDArray

from wsi_deform.geometry import Size, tile_grid, tile_region
from wsi_deform.slide.levels.box_means import box_mean_tile, coarse_levels, stream_box_means


def expected(pixels: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Means over scale x scale boxes, ties up, over what exists at the edges."""
    rows, columns = (np.arange(0, side, scale) for side in pixels.shape[:2])
    wide = pixels.astype(np.int64)
    sums = np.add.reduceat(np.add.reduceat(wide, rows, axis=0), columns, axis=1)
    ones = np.ones_like(wide)
    counts = np.add.reduceat(np.add.reduceat(ones, rows, axis=0), columns, axis=1)
    return ((sums + counts // 2) // counts).astype(np.uint8)


SHAPES = [
    (Size(1024, 1024), Size(64, 64)),
    (Size(1301, 517), Size(75, 31)),  # pairs split by tiles along both axes
    (Size(700, 2050), Size(64, 64)),
    (Size(700, 2050), Size(3000, 1)),  # rows as strips
    (Size(1, 3000), Size(75, 31)),
    (Size(1025, 3), Size(513, 129)),
    (Size(1301, 517), Size(513, 129)),
]


@pytest.mark.parametrize(("size", "tile"), SHAPES)
def test_streamed_tiles_and_single_tiles_are_exact_box_means(size: Size, tile: Size):
    noise = np.random.default_rng(0).integers(0, 256, (*size.shape, 3), dtype=np.uint8)
    reader = ArrayReader(noise, tile=tile)
    levels = coarse_levels(reader.info.levels[0])
    found = [np.zeros((*level.size.shape, 3), np.uint8) for level in levels]
    order = []

    def put(level: int, column: int, row: int, pixels: NDArray[np.uint8]) -> None:
        place = tile_region(column, row, levels[level].tile, levels[level].size)
        assert pixels.shape == (place.height, place.width, 3)
        found[level][place.y : place.bottom, place.x : place.right] = pixels
        order.append((level, column, row))

    rows = []
    stream_box_means(reader, 0, levels, put, on_row=lambda done, total: rows.append((done, total)))
    assert len(order) == len(set(order)) == sum(tile_grid(one.size, one.tile).area for one in levels)
    assert rows[-1] == (tile_grid(size, tile).height,) * 2
    for number, level in enumerate(levels):
        truth = expected(reader.pixels[0], 2 << number)
        np.testing.assert_array_equal(found[number], truth)
        for column, row in {(0, 0), (tile_grid(level.size, level.tile).width - 1, 0)}:
            place = tile_region(column, row, level.tile, level.size)
            single = box_mean_tile(reader, 0, level, 2 << number, column, row)
            np.testing.assert_array_equal(single, truth[place.y : place.bottom, place.x : place.right])


def test_convention_white_stays_white_and_ties_go_up():
    white = ArrayReader(np.full((3000, 600, 3), 255, np.uint8))
    seen = set()
    stream_box_means(
        white, 0, coarse_levels(white.info.levels[0]), lambda *put: seen.update(np.unique(put[3]))
    )
    assert seen == {255}
    checks = np.zeros((1024, 1024, 3), np.uint8)
    checks[::2] = 1
    seen.clear()
    board = ArrayReader(checks)
    stream_box_means(
        board, 0, coarse_levels(board.info.levels[0]), lambda *put: seen.update(np.unique(put[3]))
    )
    assert seen == {1}  # 0.5 everywhere


def test_levels_go_down_to_512_px_by_halves_rounded_up():
    level = ArrayReader(np.zeros((2049, 1500, 3), np.uint8)).info.levels[0]
    assert [one.size for one in coarse_levels(level)] == [Size(750, 1025), Size(375, 513), Size(188, 257)]
    assert [one.downsample.x for one in coarse_levels(level)] == [2.0, 4.0, 8.0]
