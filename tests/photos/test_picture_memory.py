"""Plain images of a study stay in memory only as far as a limit goes, and are read again where they had to leave."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region
from wsi_deform.slide.cache import PICTURES, TILE_CACHE, set_cache_bytes
from wsi_deform.slide.open import open_slide

SIDE = 1100
PIXELS_BYTES = SIDE * SIDE * 3


@pytest.fixture
def small_caches():
    before = PICTURES.limit_bytes, TILE_CACHE.limit_bytes
    PICTURES.forget()
    TILE_CACHE.set_limit(0)
    PICTURES.set_limit(2 * PIXELS_BYTES)
    yield
    PICTURES.set_limit(before[0])
    TILE_CACHE.set_limit(before[1])


def test_many_open_images_hold_no_more_than_the_limit_and_read_right(tmp_path, small_caches):
    pictures = [np.random.default_rng(n).integers(0, 255, (SIDE, SIDE, 3), np.uint8) for n in range(5)]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png", compress_level=1)
    slides = [open_slide(tmp_path / f"{number}.png") for number in range(5)]
    for _ in range(2):
        for slide, picture in zip(slides, pictures, strict=True):
            region = Region(200, 300, 400, 250)
            assert (slide.read_region(0, region) == picture[300:550, 200:600]).all()
            half = picture.reshape(550, 2, 550, 2, 3).astype(int).sum((1, 3))
            assert (slide.read_region(1, Region(0, 0, 550, 550)) == (half + 2) // 4).all()
            assert PICTURES.held_bytes <= 2 * PIXELS_BYTES


def test_the_newest_image_stays_though_it_is_larger_than_the_limit(tmp_path, small_caches, monkeypatch):
    PICTURES.set_limit(100)
    decoded = []
    original = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda *a, **o: decoded.append(1) or original(*a, **o))
    Image.fromarray(np.full((600, 300, 3), 9, np.uint8)).save(tmp_path / "a.png")
    slide = open_slide(tmp_path / "a.png")
    for row in range(3):
        assert (slide.read_tile(0, 0, row) == 9).all()
    assert len(decoded) == 1


def test_tiles_of_coarse_levels_stay_when_their_image_had_to_leave(tmp_path, small_caches, monkeypatch):
    TILE_CACHE.set_limit(10 * PIXELS_BYTES)
    PICTURES.set_limit(100)
    for name in "ab":
        Image.fromarray(np.full((SIDE, SIDE, 3), ord(name), np.uint8)).save(tmp_path / f"{name}.png")
    slides = [open_slide(tmp_path / f"{name}.png") for name in "ab"]
    for slide in slides:
        slide.read_tile(1, 0, 0)
    decoded = []
    original = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda *a, **o: decoded.append(1) or original(*a, **o))
    for _ in range(3):
        for slide, value in zip(slides, b"ab", strict=True):
            assert (slide.read_tile(1, 0, 0) == value).all()
    assert not decoded


def test_a_cache_that_was_asked_for_is_one_for_whole_images_too(small_caches):
    set_cache_bytes(3 * PIXELS_BYTES)
    assert PICTURES.limit_bytes == 3 * PIXELS_BYTES
    set_cache_bytes(0)
    assert (TILE_CACHE.limit_bytes, PICTURES.limit_bytes) == (0, 3 * PIXELS_BYTES)


def test_an_image_that_changed_while_it_was_away_is_refused(tmp_path, small_caches):
    Image.fromarray(np.full((60, 30, 3), 9, np.uint8)).save(tmp_path / "a.png")
    slide = open_slide(tmp_path / "a.png")
    Image.fromarray(np.full((60, 40, 3), 9, np.uint8)).save(tmp_path / "a.png")
    PICTURES.forget()
    with pytest.raises(SlideError, match="was 30 x 60 px and is 40 x 60 px now"):
        slide.read_tile(0, 0, 0)
