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


def test_samples_that_make_no_square_lie_along_x_of_a_square_region():
    assert size_of_area(Size(10, 10), 6) == Size(3, 2)
    assert size_of_area(Size(10, 11), 6) == Size(2, 3)
    assert size_of_area(Size(1000, 1), 64, min_px=4) == Size(16, 4)


def test_a_level_a_whole_pixel_off_is_of_another_downsample():
    assert level_downsample(Size(20, 20), Size(9, 9)) == Point(20 / 9, 20 / 9)
    assert level_downsample(Size(20, 30), Size(10, 14)) == Point(2, 30 / 14)
    assert level_downsample(Size(30, 20), Size(14, 10)) == Point(30 / 14, 2)
    # Larger than level 0: at least 1.
    assert level_downsample(Size(20, 20), Size(60, 60)) == Point(1 / 3, 1 / 3)


def test_regions_by_hand():
    region = Region(3, 4, 10, 20)
    assert (region.right, region.bottom, region.size) == (13, 24, Size(10, 20))
    assert region.intersection(Region(5, 0, 100, 10)) == Region(5, 4, 8, 6)
    assert region.intersection(Region(13, 24, 5, 5)) == Region(13, 24, 0, 0)
    assert region.intersection(Region(100, 100, 5, 5)).is_empty
    assert [Region(0, 0, *sides).is_empty for sides in ((1, 1), (0, 1), (1, 0))] == [False, True, True]
    assert list(Region(5, 16, 16, 17).tiles(Size(8, 16))) == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]
    assert region.grown(2, Size(100, 100)) == Region(1, 2, 14, 24)


def test_sizes_by_hand():
    size = Size(3, 5)
    assert (size.shape, size.area, size.short, size.long, str(size)) == ((5, 3), 15, 3, 5, "3 x 5")
    with pytest.raises(ShapeError, match="3 x 0"):
        Size(3, 0)


def test_a_sampled_image_has_a_pixel_at_least():
    assert sampled_size(Size(1000, 1), Size(100, 10)) == Size(100, 1)
    assert sampled_size(Size(1000, 1), Size(100, 10), min_px=4) == Size(100, 4)
    assert size_of_area(Size(1000, 1), 16) == Size(16, 1)
