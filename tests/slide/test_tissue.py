from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_reader import ArrayReader

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.slide.tissue import tissue_mask

GLASS, PINK, PURPLE = (243, 242, 244), (225, 160, 200), (140, 90, 170)


def drawn(*boxes: tuple[slice, slice, tuple[int, int, int]], mpp: float | None = 4.0, base=GLASS) -> Slide:
    pixels = np.empty((600, 800, 3), np.int64)
    pixels[...] = base
    for rows, columns, colour in boxes:
        pixels[rows, columns] = colour
    pixels += np.random.default_rng(0).integers(-6, 7, pixels.shape)
    return Slide.from_reader(ArrayReader(np.clip(pixels, 0, 255).astype(np.uint8), mpp=mpp), slide_id="t")


def test_tissue_on_glass_is_found_where_it_is():
    found = tissue_mask(
        drawn((slice(100, 300), slice(200, 500), PINK), (slice(350, 500), slice(100, 300), PURPLE))
    )
    assert found.downsample.x == pytest.approx(2.0)
    truth = np.zeros((300, 400), bool)
    truth[50:150, 100:250] = True
    truth[175:250, 50:150] = True
    assert (found.tissue & truth).sum() / (found.tissue | truth).sum() > 0.95


@pytest.mark.parametrize("base", [GLASS, (255, 255, 255), (215, 217, 214), (228, 226, 222)])
def test_bare_glass_has_no_tissue(base: tuple[int, int, int]):
    assert tissue_mask(drawn(base=base)).fraction == 0.0


@pytest.mark.parametrize("base", [PINK, PURPLE, (90, 50, 120)])
def test_slide_full_of_tissue_is_all_tissue(base: tuple[int, int, int]):
    assert tissue_mask(drawn(base=base)).fraction == 1.0
    two = drawn((slice(0, 300), slice(0, 800), PURPLE), base=PINK)
    assert tissue_mask(two).fraction > 0.999


def test_black_background_of_fluorescence_is_no_tissue():
    found = tissue_mask(drawn((slice(200, 400), slice(200, 400), (20, 30, 200)), base=(0, 0, 0)))
    assert found.fraction == pytest.approx(200 * 200 / (600 * 800), rel=0.1)
    assert tissue_mask(drawn(base=(0, 0, 0))).fraction == 0.0


def test_unscanned_black_frame_around_glass_is_no_tissue():
    frame = [(slice(0, 60), slice(None), (0, 0, 0)), (slice(None), slice(0, 60), (0, 0, 0))]
    found = tissue_mask(drawn(*frame, (slice(200, 400), slice(200, 400), PINK)))
    assert found.fraction_of(Region(0, 0, 40, 600)) == 0.0
    assert found.fraction_of(Region(210, 210, 180, 180)) == 1.0


def test_specks_and_holes_are_removed_by_their_area_in_um2():
    speck, hole = (slice(50, 60), slice(50, 60), PURPLE), (slice(300, 310), slice(300, 310), GLASS)
    body = (slice(200, 400), slice(200, 400), PURPLE)
    found = tissue_mask(drawn(speck, body, hole, mpp=4.0))  # 10 px are 1,600 um2
    assert found.fraction_of(Region(40, 40, 40, 40)) == 0.0
    assert found.fraction_of(Region(290, 290, 40, 40)) == 1.0
    kept = tissue_mask(drawn(speck, body, hole, mpp=16.0))  # 25,600 um2
    assert kept.fraction_of(Region(52, 52, 6, 6)) == 1.0


def test_slide_without_mpp_is_masked_at_its_own_size_up_to_a_limit():
    assert tissue_mask(drawn(mpp=None)).tissue.shape == (600, 800)
    assert tissue_mask(drawn(mpp=None), max_side_px=200).tissue.shape == (150, 200)


def test_share_of_a_region_outside_the_slide_is_zero():
    found = tissue_mask(drawn(base=PINK))
    assert found.fraction_of(Region(-100, -100, 50, 50)) == 0.0
    assert found.fraction_of(Region(5000, 0, 50, 50)) == 0.0


def test_impossible_resolution_is_refused():
    with pytest.raises(ShapeError, match="positive"):
        tissue_mask(drawn(), mpp_um=0)


def test_real_slides_have_plausible_tissue(shared_data: Path):
    folder = shared_data / "slides"
    assert 0.25 < tissue_mask(open_slide(folder / "CMU-1-Small-Region.svs")).fraction < 0.5
    found = tissue_mask(open_slide(folder / "multi_frame_jpeg2000_camelyon_challenge_image.dcm"))
    assert 0.2 < found.fraction < 0.45
    assert tissue_mask(open_slide(shared_data / "glas" / "testA_10.png", mpp=0.62)).fraction > 0.9
