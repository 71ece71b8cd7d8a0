import pytest

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import (
    Point,
    Region,
    Size,
    level_downsample,
    sampled_size,
    size_of_area,
    tile_grid,
    tile_region,
)


@pytest.mark.parametrize(
    ("region", "budget", "expected"),
    [
        (Size(7986, 368), Size(800, 80), Size(800, 36)),
        (Size(368, 7986), Size(80, 800), Size(36, 800)),
        (Size(7986, 368), Size(400, 40), Size(400, 18)),
        (Size(1000, 1000), Size(800, 80), Size(80, 80)),
        (Size(2048, 512), Size(96, 24), Size(96, 24)),
    ],
)
def test_convention_sampled_size_keeps_the_aspect_ratio_of_appendix_a6(region, budget, expected):
    assert sampled_size(region, budget) == expected


def test_sampled_size_never_loses_a_pixel_to_rounding():
    for side in range(1, 3000, 7):
        assert sampled_size(Size(side, side), Size(49, 49)) == Size(49, 49)


@pytest.mark.parametrize("region", [Size(512, 512), Size(9400, 2000), Size(10, 3000), Size(1, 50_000)])
def test_size_of_area_has_about_as_many_samples_as_asked_for(region):
    size = size_of_area(region, 6400, min_px=4)
    assert size.area == pytest.approx(6400, rel=0.03)
    assert size.short >= 4


def test_convention_downsample_is_the_nominal_whole_number_where_sizes_are_rounded():
    assert level_downsample(Size(2221, 2967), Size(1110, 1483)) == Point(2, 2)
    assert level_downsample(Size(2221, 2967), Size(1111, 1484)) == Point(2, 2)
    assert level_downsample(Size(1000, 1000), Size(400, 400)) == Point(2.5, 2.5)
    # 4,000 / 1,333: no whole number within a pixel on both axes.
    assert level_downsample(Size(4000, 4000), Size(1300, 1333)).x == pytest.approx(4000 / 1300)


def test_edge_tiles_are_clipped_and_tile_grid_covers_the_image():
    size, tile = Size(1000, 513), Size(256, 256)
    grid = tile_grid(size, tile)
    assert grid == Size(4, 3)
    areas = [tile_region(c, r, tile, size).size.area for c in range(4) for r in range(3)]
    assert sum(areas) == size.area
    assert tile_region(3, 2, tile, size) == Region(768, 512, 232, 1)


def test_region_tiles_are_those_it_touches():
    assert list(Region(255, 0, 2, 10).tiles(Size(256, 256))) == [(0, 0), (1, 0)]
    assert list(Region(0, 0, 0, 10).tiles(Size(256, 256))) == []


def test_margin_is_clipped_at_the_border():
    assert Region(10, 10, 20, 20).grown(15, Size(100, 40)) == Region(0, 0, 45, 40)


def test_size_without_pixels_is_refused():
    with pytest.raises(ShapeError, match="0 x 3"):
        Size(0, 3)
