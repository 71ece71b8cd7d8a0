"""Masks limited to tissue: which pixels, at every level, in a stream of tiles."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.tissue_cells import Cells
from wsi_deform.mask.tissue_limit import LimitedSampler, TissueCounts, TissueLimit, with_border
from wsi_deform.reverse.levels import MaskTile
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples


def cells_of_pixels(cells: int, pixels: int, level: int, length_px: int) -> list[int]:
    """The convention, a pixel at a time."""
    step = 1 << level
    centres = [Fraction(2 * pixel + 1, 2) * step for pixel in range(pixels)]
    return [min(cells - 1, int(centre * cells / length_px)) for centre in centres]


def spread(cells: NDArray[np.bool_], size: Size, level: int, slide: Size) -> NDArray[np.bool_]:
    rows = cells_of_pixels(cells.shape[0], size.height, level, slide.height)
    columns = cells_of_pixels(cells.shape[1], size.width, level, slide.width)
    return cells[np.ix_(rows, columns)]


def put_together(tiles: list[MaskTile], sizes: tuple[Size, ...], tile_px: int) -> list[NDArray[np.uint8]]:
    """Every level from its tiles; each pixel must come once."""
    levels = [np.full(size.shape, 99, np.uint8) for size in sizes]
    for tile in tiles:
        window = np.s_[
            tile.row * tile_px : (tile.row + tile.rows) * tile_px,
            tile.column * tile_px : (tile.column + tile.columns) * tile_px,
        ]
        assert (levels[tile.level][window] == 99).all()
        levels[tile.level][window] = tile.pixels if tile.label is None else tile.label
    return levels


def test_a_pixel_is_tissue_when_its_centre_lies_in_a_cell_that_is() -> None:
    # Cells of 3 1/3 px: columns 0 to 2 | 3 to 6 | 7 to 9. At level 1 centres lie at 1, 3, 5, 7, 9; at level 2 at
    # 2, 6 and 10, the last one past the edge of the slide.
    cells = Cells(np.array([[False, True, False]]), Size(10, 4))
    assert cells.pixels(Region(0, 0, 10, 1))[0].astype(int).tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert cells.pixels(Region(0, 0, 5, 1), 1)[0].astype(int).tolist() == [0, 0, 1, 0, 0]
    assert cells.pixels(Region(0, 0, 3, 1), 2)[0].astype(int).tolist() == [0, 1, 0]
    last = Cells(np.array([[False, False, True]]), Size(10, 4))
    assert last.pixels(Region(2, 0, 1, 1), 2).tolist() == [[True]]


@pytest.mark.parametrize("seed", range(12))
def test_every_level_is_the_unlimited_one_inside_and_background_outside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = Size(*rng.integers(1, 900, 2).tolist())
    shape = (int(rng.integers(1, min(30, size.height) + 1)), int(rng.integers(1, min(30, size.width) + 1)))
    tissue = rng.random(shape) < rng.choice([0.05, 0.5, 0.95])
    limit = TissueLimit(cells=with_border(tissue) if seed % 2 else tissue, size=size, background=seed % 3)
    points = rng.random((20, 2)) * [size.width, size.height]
    kept = Region(0, 0, max(1, size.width * 2 // 3), size.height)
    field = FieldSamples(kept=kept, points_px=points, labels=rng.integers(0, 4, 20).astype(np.uint8))
    tile_px = (16, 64, 512)[seed % 3]
    plain = ReverseSampler([field], size=size, outside_label=1, tile_px=tile_px)
    counts = TissueCounts(tissue, size, limit=limit, tile_px=tile_px)
    levels = put_together(list(counts.limited(plain.tiles())), plain.level_sizes, tile_px)
    limited = LimitedSampler([field], limit=limit, outside_label=1, tile_px=tile_px)
    for level, level_size in enumerate(plain.level_sizes):
        before = plain.region(Region.whole(level_size), level)
        inside = spread(limit.cells, level_size, level, size)
        expected = np.where(inside, before, limit.background)
        np.testing.assert_array_equal(levels[level], expected)
        np.testing.assert_array_equal(limited.region(Region.whole(level_size), level), expected)
    np.testing.assert_array_equal(counts.pixels, np.bincount(levels[0].ravel(), minlength=256))
    in_tissue = spread(tissue, size, 0, size)
    np.testing.assert_array_equal(counts.pixels_in_tissue, np.bincount(levels[0][in_tissue], minlength=256))
    assert counts.tissue_pixels == in_tissue.sum()
    outside = plain.region(Region.whole(size))[~spread(limit.cells, size, 0, size)]
    removed = np.bincount(outside, minlength=256)
    removed[limit.background] = 0
    np.testing.assert_array_equal(counts.removed, removed)


@pytest.mark.parametrize("size", [Size(1, 1), Size(700, 300), Size(1025, 513), Size(3000, 2000)])
def test_counts_without_a_limit_are_those_of_the_whole_label_map(size: Size) -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 1, (40, 2)) * [size.width, size.height]
    kept = Region(0, 0, max(1, size.width * 3 // 4), size.height)
    field = FieldSamples(kept=kept, points_px=points, labels=rng.integers(0, 5, 40).astype(np.uint8))
    sampler = ReverseSampler([field], size=size, outside_label=7)
    counts = TissueCounts(np.zeros((1, 1), bool), size, limit=None, tile_px=sampler.tile_px)
    tiles = list(counts.limited(sampler.tiles()))
    expected = np.bincount(sampler.region(Region.whole(size)).ravel(), minlength=256)
    np.testing.assert_array_equal(counts.pixels, expected)
    assert counts.pixels_in_tissue.sum() == counts.removed.sum() == counts.tissue_pixels == 0
    assert {tile.level for tile in tiles} == set(range(len(sampler.level_sizes)))


def test_of_a_huge_block_only_tiles_on_the_border_of_the_tissue_get_pixels() -> None:
    # 1,954 x 1,954 tiles of 512 px, one label; tissue is the left half of the cells: pixels 0 to 500,223, which
    # is 977 tiles, so that no tile of level 0 is crossed; then one pixel of a cell less.
    size = Size(1_000_448, 1_000_448)
    block = MaskTile(level=0, column=0, row=0, label=3, columns=1954, rows=1954)
    for columns, crossed in ((2, 0), (768, 1954)):
        cells = np.zeros((1, columns), bool)
        cells[:, : columns // 2 - (columns > 2)] = True
        counts = TissueCounts(cells, size, limit=TissueLimit(cells=cells, size=size, background=0))
        tiles = list(counts.limited([block]))
        assert sum(tile.pixels is not None for tile in tiles) == crossed
        assert counts.pixels[3] == counts.tissue_pixels
        assert counts.removed[3] == size.area - counts.tissue_pixels


def test_tiles_of_one_kind_pass_as_they_came() -> None:
    size = Size(1024, 512)
    cells = np.array([[True, False]])
    counts = TissueCounts(cells, size, limit=TissueLimit(cells=cells, size=size, background=2))
    pixels = np.arange(512 * 512, dtype=np.uint32).reshape(512, 512).astype(np.uint8) % 5
    inside = MaskTile(level=0, column=0, row=0, pixels=pixels)
    outside = MaskTile(level=0, column=1, row=0, pixels=pixels.copy())
    first, second = counts.limited([inside, outside])
    assert first is inside
    assert (second.label, second.pixels) == (2, None)


def test_pixels_that_are_read_only_are_left_alone() -> None:
    size = Size(512, 512)
    cells = np.array([[True, False]])
    counts = TissueCounts(cells, size, limit=TissueLimit(cells=cells, size=size, background=0))
    pixels = np.ones((512, 512), np.uint8)
    pixels.flags.writeable = False
    (tile,) = counts.limited([MaskTile(level=0, column=0, row=0, pixels=pixels)])
    assert tile.pixels is not None
    assert (tile.pixels[:, :256] == 1).all()
    assert not tile.pixels[:, 256:].any()
    assert pixels.all()


def test_tissue_grows_by_one_cell_and_enclosed_small_holes_close() -> None:
    tissue = np.zeros((11, 12), bool)
    tissue[2:9, 2:9] = True
    tissue[4:7, 4:7] = False  # one cell of it is left when the tissue has grown
    grown = with_border(tissue)
    expected = np.zeros((11, 12), bool)
    expected[1:10, 1:10] = True
    expected[5, 5] = False
    np.testing.assert_array_equal(grown, expected)
    expected[5, 5] = True
    np.testing.assert_array_equal(with_border(tissue, hole_cells=1), expected)
    # Glass that reaches the slide's edge is no hole, however small it is.
    corner = np.ones((6, 6), bool)
    corner[0:2, 0:2] = False
    np.testing.assert_array_equal(with_border(corner, hole_cells=9)[0, :3], [False, True, True])
    middle = np.ones((8, 8), bool)
    middle[0:2, 3:6] = False
    for turns in range(4):  # at the top, the left, the bottom and the right
        grown = with_border(np.rot90(middle, turns), hole_cells=9)
        np.testing.assert_array_equal(np.argwhere(~np.rot90(grown, -turns)), [[0, 4]])
    inner = np.ones((9, 9), bool)
    inner[1:4, 3:6] = False  # one cell of it is left, a cell away from the edge
    assert with_border(inner, hole_cells=1).all()


def test_cells_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="needed \\(rows, columns\\) bool"):
        Cells(np.zeros((2, 2), np.uint8), Size(4, 4))  # type: ignore[arg-type]
    for wrong in (np.zeros(4, bool), np.zeros((0, 4), bool)):
        with pytest.raises(ShapeError, match="one or more cells"):
            Cells(wrong, Size(4, 4))
    limit = TissueLimit(cells=np.ones((2, 3), bool), size=Size(9, 9), background=0)
    for shape, size in (((2, 2), Size(9, 9)), ((2, 3), Size(9, 8))):
        with pytest.raises(ShapeError, match="needed the same"):
            TissueCounts(np.ones(shape, bool), size, limit=limit)
