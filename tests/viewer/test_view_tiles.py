"""Tiles of the page: which pixels of the slide, of its mask and of its maps they show."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from drawn_results import SIZE, drawn_results, drawn_slide
from PIL import Image
from slide_files import write_tiff

from wsi_deform.errors import MaskError, ShapeError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.slide.open import open_slide
from wsi_deform.viewer.frame import Frame
from wsi_deform.viewer.overlays import LabelPyramid, class_png, footprint_png, probability_png
from wsi_deform.viewer.slide_tiles import slide_tile, white_tile

FRAME = Frame(slide_size=SIZE, size=SIZE)
RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> MaskFolder:
    return drawn_results(tmp_path_factory.mktemp("view") / "out")


def rgba(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGBA"))


def test_convention_step_k_is_2_to_the_k_times_coarser_and_rounded_up() -> None:
    assert [FRAME.size_at(step) for step in range(FRAME.steps)] == [
        Size(1300, 700),
        Size(650, 350),
        Size(325, 175),
    ]


@pytest.mark.parametrize(
    ("width", "steps"), [(1, 1), (512, 1), (513, 2), (1024, 2), (1025, 3), (100_000, 9), (131_073, 10)]
)
def test_coarsest_step_is_one_tile(width: int, steps: int) -> None:
    frame = Frame(slide_size=Size(width, 7), size=Size(width, 7))
    assert frame.steps == steps
    assert frame.tile(steps - 1, 0, 0).size == frame.size_at(steps - 1)


def test_tiles_are_512_px_and_clipped_at_the_edge() -> None:
    assert FRAME.tile(0, 0, 0) == Region(0, 0, 512, 512)
    assert FRAME.tile(0, 2, 1) == Region(1024, 512, 276, 188)
    assert FRAME.tile(2, 0, 0) == Region(0, 0, 325, 175)


@pytest.mark.parametrize("place", [(3, 0, 0), (-1, 0, 0), (0, 3, 0), (0, 0, 2), (0, -1, 0)])
def test_tiles_that_do_not_exist_are_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(ShapeError, match="needed"):
        FRAME.tile(*place)


def test_tile_of_a_stored_level_is_what_the_slide_reads_there(tmp_path: Path) -> None:
    slide = open_slide(drawn_slide(tmp_path / "a.tif"))
    assert np.array_equal(
        slide_tile(slide, FRAME, 0, 2, 1), slide.read_region(0, Region(1024, 512, 276, 188))
    )
    assert np.array_equal(slide_tile(slide, FRAME, 2, 0, 0), slide.read_region(1, Region(0, 0, 325, 175)))


def test_tile_between_stored_levels_is_the_mean_of_the_next_finer_one(tmp_path: Path) -> None:
    slide = open_slide(drawn_slide(tmp_path / "a.tif"))
    pixels = slide.read_region(0, Region(1024, 0, 276, 700)).astype(int)
    means = pixels.reshape(350, 2, 138, 2, 3).mean(axis=(1, 3))
    found = slide_tile(slide, FRAME, 1, 1, 0)
    assert found.shape == (350, 138, 3)
    assert np.abs(found - means).max() <= 1  # Pillow's own rounding


def test_last_column_that_a_writer_left_out_repeats_the_one_before(tmp_path: Path) -> None:
    levels = [np.full((5, 2051, 3), 90, np.uint8), np.full((2, 1025, 3), 40, np.uint8)]
    slide = open_slide(write_tiff(tmp_path / "odd.tif", levels, tile=(256, 256)))
    frame = Frame(slide_size=slide.size, size=slide.size)
    assert frame.size_at(1) == Size(1026, 3)
    tile = slide_tile(slide, frame, 1, 2, 0)
    assert tile.shape == (3, 2, 3)
    assert set(tile.ravel().tolist()) == {40}


def test_slide_whose_pixels_are_not_square_is_shown_in_the_proportions_of_the_tissue(tmp_path: Path) -> None:
    columns = np.repeat(np.arange(0, 200, 2, dtype=np.uint8), 4)
    pixels = np.repeat(np.broadcast_to(columns, (100, 400))[..., None], 3, axis=2)
    slide = open_slide(write_tiff(tmp_path / "flat.tif", [pixels], tile=(256, 256)), mpp=Point(0.25, 1.0))
    frame = Frame(slide_size=slide.size, size=slide.squared(slide.size))
    assert frame.size == Size(200, 200)
    tile = slide_tile(slide, frame, 0, 0, 0)
    # Two columns of the slide become one, a row two.
    assert tile[7, :4, 0].tolist() == [0, 0, 2, 2]
    assert tile[199, 198:, 0].tolist() == [198, 198]


def test_tile_of_the_mask_has_its_labels(out: MaskFolder) -> None:
    mask = LabelPyramid(out.mask("case 1"))
    assert mask.slide_size == SIZE
    tile = mask.tile(FRAME, 0, 1, 0)[..., 0]
    assert tile.shape == (512, 512)
    assert tile[100, 137:139].tolist() == [1, 2]  # x = 649 and 650
    coarse = mask.tile(FRAME, 2, 0, 0)[..., 0]
    assert coarse.shape == (175, 325)
    assert coarse[174, [0, 161, 163, 324]].tolist() == [1, 1, 2, 2]


def test_class_has_the_colour_of_the_table_and_what_is_not_shown_is_clear() -> None:
    labels = np.array([[0, 1, 255]], np.uint8)
    assert rgba(class_png(labels, [RED, GREEN], 0b11)).tolist() == [
        [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 0, 0]]
    ]
    assert rgba(class_png(labels, [RED, GREEN], 0b10))[0, :, 3].tolist() == [0, 255, 0]
    assert rgba(class_png(labels, [RED, GREEN], (1 << 255) - 1))[0, 2, 3] == 0


def test_label_without_a_class_is_clear() -> None:
    assert rgba(class_png(np.array([[2]], np.uint8), [RED, GREEN], 0b111))[0, 0, 3] == 0


def test_probability_is_how_little_of_the_slide_shines_through_the_colour() -> None:
    found = rgba(probability_png(np.array([[0, 100, 255]], np.uint8), GREEN))
    assert found.tolist() == [[[0, 255, 0, 0], [0, 255, 0, 100], [0, 255, 0, 255]]]


def test_footprint_is_dark_where_it_looked_closely_and_clear_where_it_did_not_look() -> None:
    found = rgba(footprint_png(np.array([[0, 5, 160, 5120, 65535]], np.uint16)))[0]
    assert found[0, 3] == 0
    assert found[1].tolist() == [0, 34, 78, 255]
    assert found[2].tolist() == [125, 124, 120, 255]  # 16 um: the middle of the logarithm of 0.5 to 512 um
    assert found[3].tolist() == found[4].tolist() == [254, 232, 56, 255]


def test_maps_are_read_at_the_pixels_of_the_slide(out: MaskFolder) -> None:
    probabilities = LabelPyramid(out.probabilities("case 1"), slide_size=SIZE)
    assert probabilities.channels == 3
    tile = probabilities.tile(FRAME, 0, 1, 0)
    assert tile[100, 137].tolist() == [55, 200, 0]
    assert tile[100, 138].tolist() == [155, 0, 100]
    footprint = LabelPyramid(out.footprint("case 1"), slide_size=SIZE, dtype="uint16")
    assert footprint.tile(FRAME, 1, 0, 0)[9, [324, 325], 0].tolist() == [5, 5120]


def test_map_of_another_slide_is_refused(out: MaskFolder) -> None:
    with pytest.raises(MaskError, match=r"650 x 350 px. Needed those of a slide of 1000 x 700 px"):
        LabelPyramid(out.probabilities("case 1"), slide_size=Size(1000, 700))


def test_file_that_is_no_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="uint8, 3 channels"):
        LabelPyramid(drawn_slide(tmp_path / "a.tif"))


def test_slide_that_cannot_be_read_is_white_paper() -> None:
    assert white_tile(FRAME, 0, 2, 1).shape == (188, 276, 3)
    assert white_tile(FRAME, 0, 2, 1).min() == 255
