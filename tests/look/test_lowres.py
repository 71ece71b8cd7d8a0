from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from drawn_reader import AddressReader, ArrayReader, constant_reader
from slide_files import picture

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.look import area_means
from wsi_deform.look.area_means import axis_weights
from wsi_deform.look.lowres import low_res_view, thumbnail, tiles_of_view
from wsi_deform.slide.cache import DEFAULT_CACHE_BYTES, set_cache_bytes
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.slide import Slide


def slide_of(pixels: np.ndarray, *, levels: int = 1) -> Slide:
    return Slide.from_reader(ArrayReader(pixels, levels=levels), slide_id="drawn", virtual_levels=False)


def area_mean(pixels: np.ndarray, region: Region, size: Size) -> np.ndarray:
    """Every overlap of pixel and view cell, one by one."""

    def overlaps(start: int, length: int, cells: int, count: int) -> np.ndarray:
        out = np.zeros((cells, count))
        for cell in range(cells):
            low, high = start + cell * length / cells, start + (cell + 1) * length / cells
            for pixel in range(count):
                out[cell, pixel] = max(0.0, min(high, pixel + 1) - max(low, pixel)) / (high - low)
        return out

    rows = overlaps(region.y, region.height, size.height, pixels.shape[0])
    columns = overlaps(region.x, region.width, size.width, pixels.shape[1])
    return np.einsum("ij,jkc,lk->ilc", rows, pixels.astype(float), columns)


@pytest.mark.parametrize(
    ("region", "size"),
    [
        (Region(0, 0, 153, 131), Size(20, 17)),
        (Region(11, 7, 50, 40), Size(50, 40)),
        (Region(11, 7, 97, 89), Size(13, 31)),
        (Region(40, 50, 20, 10), Size(33, 27)),
        (Region(0, 0, 153, 131), Size(1, 1)),
    ],
)
def test_view_equals_a_direct_area_mean(region: Region, size: Size):
    pixels = picture(153, 131)
    view = low_res_view(slide_of(pixels), region, size)
    assert view.dtype == np.float32
    assert view.shape == (*size.shape, 3)
    np.testing.assert_allclose(view, area_mean(pixels, region, size), atol=2e-5)


def test_convention_region_outside_the_slide_is_background():
    pixels = picture(100, 80)
    view = low_res_view(slide_of(pixels), Region(-50, -40, 200, 160), Size(4, 4))
    assert (np.delete(view.reshape(16, 3), [5, 6, 9, 10], axis=0) == 255).all()
    np.testing.assert_allclose(view[1, 1], pixels[:40, :50].reshape(-1, 3).mean(0), atol=1e-4)
    assert (low_res_view(slide_of(pixels), Region(500, 0, 10, 10), Size(3, 3)) == 255).all()


def test_nothing_but_the_slide_s_pixels_and_background_enters_a_view(monkeypatch: pytest.MonkeyPatch):
    class Dirty:
        """numpy whose fresh memory holds what no pixel does."""

        def __getattr__(self, name: str) -> object:
            return getattr(np, name)

        def empty(self, shape: int) -> np.ndarray:
            return np.full(shape, np.nan)

    monkeypatch.setattr(area_means, "_add", area_means._add.py_func)  # type: ignore[attr-defined]
    monkeypatch.setattr(area_means, "np", Dirty())
    pixels = picture(30, 20)
    for region in (
        Region(-10, -10, 60, 40),
        Region(-10, 0, 30, 20),
        Region(20, 10, 40, 20),
        Region(5, 5, 9, 9),
    ):
        for size in (Size(4, 4), Size(3, 7), Size(60, 40)):
            view = low_res_view(slide_of(pixels), region, size)
            assert np.isfinite(view).all()


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("colour", [(255, 255, 255), (201, 103, 7), (0, 0, 0)])
def test_constant_slide_gives_exactly_that_constant(colour: tuple[int, int, int], levels: int):
    slide = Slide.from_reader(constant_reader(Size(1013, 777), colour, levels=levels), slide_id="c")
    for size in (Size(7, 5), Size(100, 100), Size(333, 254), Size(1200, 900)):
        for region in (Region.whole(slide.size), Region(13, 17, 811, 613)):
            assert (low_res_view(slide, region, size) == np.array(colour, np.float32)).all()


def test_mean_of_the_slide_is_kept():
    pixels = picture(1024, 768)
    for levels in (1, 4):
        view = low_res_view(slide_of(pixels, levels=levels), Region(0, 0, 1024, 768), Size(37, 29))
        np.testing.assert_allclose(view.mean((0, 1)), pixels.mean((0, 1)), atol=0.5 if levels > 1 else 1e-3)


def test_view_is_read_from_the_coarsest_level_that_is_fine_enough():
    counting = CountingReader(AddressReader(Size(20_000, 16_000)))
    slide = Slide.from_reader(counting, slide_id="a")
    low_res_view(slide, Region.whole(slide.size), Size(500, 400))
    assert counting.tiles == {5: 3 * 2}


def test_short_level_is_stretched_to_the_edge_of_the_slide():
    pixels = np.zeros((250, 300, 3), np.uint8)
    pixels[:, 260:] = 200
    reader = ArrayReader(pixels, levels=4, tile=Size(16, 16))
    assert reader.info.levels[3].size == Size(37, 31)
    slide = Slide.from_reader(reader, slide_id="a", virtual_levels=False)
    view = low_res_view(slide, Region(264, 200, 36, 50), Size(4, 5))
    assert (view == 200).all()


def test_view_of_a_slide_without_coarse_levels_is_streamed():
    set_cache_bytes(0)
    counting = CountingReader(
        AddressReader(Size(8_000, 6_000), downsamples=(1,), tile=Size(512, 512), pattern="smooth")
    )
    slide = Slide.from_reader(counting, slide_id="a")
    tracemalloc.start()
    view = low_res_view(slide, Region.whole(slide.size), Size(64, 50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    set_cache_bytes(DEFAULT_CACHE_BYTES)
    assert counting.total_tiles == 16 * 12  # each tile once
    assert peak < 120e6  # the level has 144 MB, and eight times that as float64
    assert view.std() > 10


def test_thumbnail_keeps_the_aspect_and_never_enlarges():
    slide = slide_of(picture(400, 200))
    assert thumbnail(slide, 100).shape == (50, 100, 3)
    assert thumbnail(slide, 5000).shape == (200, 400, 3)
    assert thumbnail(slide, 100).dtype == np.uint8


def test_weights_of_every_cell_sum_to_its_share_inside():
    for start in (-7, 0, 5):
        found = axis_weights(start=start, length=150, cells=31, downsample=4.0, level_px=37, slide_px=149)
        cell = np.repeat(np.arange(31), np.diff(found.starts))
        sums = np.bincount(cell, found.weights, minlength=31)
        np.testing.assert_allclose(sums, found.inside, atol=1e-15)
        assert found.inside[10] == 1.0


def test_empty_region_is_refused():
    with pytest.raises(ShapeError, match="no pixel"):
        low_res_view(slide_of(picture(40, 40)), Region(3, 3, 0, 10), Size(4, 4))


def test_the_tiles_of_a_view_are_counted_without_reading():
    counting = CountingReader(AddressReader(Size(20_000, 16_000)))
    slide = Slide.from_reader(counting, slide_id="a")
    for region, size, tiles in (
        (Region.whole(slide.size), Size(500, 400), 6),
        (Region(5000, 3000, 700, 900), Size(70, 90), None),
        (Region(-4000, 100, 9000, 500), Size(900, 50), None),
        (Region(19_000, 15_900, 3000, 3000), Size(10, 10), None),
        (Region(30_000, 0, 100, 100), Size(10, 10), 0),
    ):
        counted = tiles_of_view(slide, region, size)
        assert counting.total_tiles == 0
        low_res_view(slide, region, size)
        assert counted == counting.total_tiles == (counted if tiles is None else tiles)
        counting.reset()
