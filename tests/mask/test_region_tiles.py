"""Tiles of a mask outside a region."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_deform.geometry import Region, Size
from wsi_deform.mask.region_tiles import unlabelled_outside
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

SIZE, TILE = Size(300, 170), 32


def drawn(tiles):
    """The levels that tiles make up; a pixel that has none is 99, one that has two fails."""
    levels = [np.full(size.shape, 99, np.uint8) for size in pyramid_sizes(SIZE, TILE)]
    for tile in tiles:
        rows = np.s_[tile.row * TILE : (tile.row + tile.rows) * TILE]
        columns = np.s_[tile.column * TILE : (tile.column + tile.columns) * TILE]
        assert (levels[tile.level][rows, columns] == 99).all()
        levels[tile.level][rows, columns] = tile.label if tile.pixels is None else tile.pixels
    return levels


@pytest.mark.parametrize(
    "region",
    [Region(37, 11, 101, 77), Region(0, 0, 300, 170), Region(299, 169, 1, 1), Region(64, 32, 64, 64)],
)
def test_it_is_what_a_reverse_sampler_of_that_region_leaves(region):
    points = np.random.default_rng(0).uniform(0, (300, 170), (60, 2))
    labels = (np.arange(60) % 3).astype(np.uint8)
    whole = FieldSamples(kept=Region.whole(SIZE), points_px=points, labels=labels)
    tiles = ReverseSampler([whole], size=SIZE, tile_px=TILE).tiles()
    part = FieldSamples(kept=region, points_px=points, labels=labels)
    wanted = ReverseSampler([part], size=SIZE, tile_px=TILE, outside_label=255).tiles()
    for found, expected in zip(
        drawn(unlabelled_outside(tiles, region, size=SIZE, tile_px=TILE)), drawn(wanted), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_a_block_is_cut_at_the_edge_alone():
    block = MaskTile(level=0, column=0, row=0, label=1, columns=10, rows=6)
    tiles = list(unlabelled_outside([block], Region(40, 0, 200, 170), size=SIZE, tile_px=TILE))
    assert sum(tile.pixels is not None for tile in tiles) == 12
    (level_0, *_) = drawn(tiles)
    assert (level_0[:, 40:240] == 1).all()
    assert (np.delete(level_0, np.s_[40:240], axis=1) == 255).all()
