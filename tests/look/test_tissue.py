from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from drawn_reader import ArrayReader
from PIL import Image

from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.look.tissue import TissueMask, tissue_mask, tissue_mask_from_file
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.slide.tiff.tiles import TiffTiles

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


def truth_of_slide() -> np.ndarray:
    """A box and a disk on the slide that ``drawn`` makes, (600, 800)."""
    y, x = np.mgrid[:600, :800]
    truth = (x - 500) ** 2 + (y - 300) ** 2 < 150**2
    truth[40:200, 60:260] = True
    return truth


def write_mask_file(path: Path, truth: np.ndarray, how: str) -> Path:
    values = truth.astype(np.uint8)
    if how == "pyramid":
        with tifffile.TiffWriter(path) as tif:
            tif.write(values, tile=(64, 64), compression="deflate", subifds=2, metadata=None)
            for step in (2, 4):
                tif.write(
                    values[::step, ::step], tile=(64, 64), compression="deflate", subfiletype=1, metadata=None
                )
    elif how == "strips":
        tifffile.imwrite(
            path, values.astype(np.uint16) * 700, compression="lzw", rowsperstrip=32, metadata=None
        )
    elif how == "rgba tiff":
        pixels = np.stack((0 * values, 0 * values, 9 * values, 0 * values + 255), axis=-1)
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    elif how == "rgba tiff, associated":
        pixels = np.stack((9 * values, 0 * values, 0 * values, 0 * values + 255), axis=-1)
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    elif how == "tiles":
        tifffile.imwrite(path, values, tile=(64, 64), metadata=None)
    elif how == "rgba png":
        Image.fromarray(np.stack((0 * values, 9 * values, 0 * values, 0 * values + 255), axis=-1)).save(path)
    else:
        picture = Image.fromarray(values * (255 if how == "L" else 1))
        if how == "P":
            picture.putpalette([0, 0, 0, 0, 0, 0])  # black on black: indices count, not colours
        (picture.convert("1") if how == "1" else picture).save(path)
    return path


@pytest.mark.parametrize(
    "how", ["pyramid", "strips", "rgba tiff", "rgba tiff, associated", "rgba png", "L", "P"]
)
@pytest.mark.parametrize("step", [1, 2])
def test_tissue_mask_from_a_file_is_what_the_file_says_at_the_resolution_of_tissue_mask(
    tmp_path: Path, how: str, step: int
):
    truth = truth_of_slide()
    name = "m.png" if how in ("rgba png", "L", "P") else "m.tif"
    path = write_mask_file(tmp_path / name, truth[::step, ::step], how)
    slide = drawn()
    found = tissue_mask_from_file(path, slide)
    assert found.tissue.dtype == bool
    assert found.tissue.shape == tissue_mask(slide).tissue.shape == (300, 400)
    assert found.downsample.x == found.downsample.y == 2.0
    expected = (
        truth.reshape(300, 2, 400, 2).mean(axis=(1, 3)) >= 0.5
        if step == 1 and how != "pyramid"
        else truth[::2, ::2]
    )
    assert (found.tissue == expected).mean() > (0.995 if how == "pyramid" else 1.0 - 1e-9)


@pytest.mark.parametrize(
    "how",
    ["g4", "miniswhite", "miniswhite 1 bit", "miniswhite 16 bits", "4 bits", "palette", "palette of white", "png 1 bit",
     "png of white", "g4 pyramid"],
)  # fmt: skip
def test_tissue_is_what_viewers_show_above_black(tmp_path: Path, how: str):
    truth = truth_of_slide()
    path = tmp_path / ("m.png" if how.startswith("png") else "m.tif")
    shown = pyvips.Image.new_from_array(truth.astype(np.uint8) * 255)
    if how.startswith("g4"):
        if 4 not in tifffile.TIFF.DECOMPRESSORS:
            pytest.skip("this tifffile has no decoder of CCITT fax")
        pyramid = {"tile": True, "pyramid": True, "region_shrink": "nearest"} if "pyramid" in how else {}
        shown.tiffsave(str(path), bitdepth=1, miniswhite=True, compression="ccittfax4", **pyramid)
    elif how == "miniswhite 1 bit":
        shown.tiffsave(str(path), bitdepth=1, miniswhite=True)
    elif how.startswith("miniswhite"):
        most = 65535 if "16" in how else 255
        stored = (most - truth * most).astype(np.uint16 if "16" in how else np.uint8)
        tifffile.imwrite(path, stored, photometric="miniswhite", compression="deflate", metadata=None)
    elif how == "4 bits":
        shown.tiffsave(str(path), bitdepth=4)
    elif how == "png 1 bit":
        Image.fromarray(truth).save(path)
    else:
        # A palette of white and black holds 1 where it shows black; one of black and a colour the other way round.
        white = how.endswith("white")
        index = (truth != white).astype(np.uint8)
        palette = [255, 255, 255, 0, 0, 0] if white else [0, 0, 0, 9, 200, 9]
        if how.startswith("png"):
            picture = Image.fromarray(index)
            picture.putpalette(palette)
            picture.save(path)
        else:
            colormap = np.zeros((3, 256), np.uint16)
            colormap[:, :2] = np.array(palette).reshape(2, 3).T * 257
            tifffile.imwrite(path, index, photometric="palette", colormap=colormap, metadata=None)
    viewed = pyvips.Image.new_from_file(str(path)).numpy()
    np.testing.assert_array_equal(np.atleast_3d(viewed).max(axis=2) > 0, truth)
    found = tissue_mask_from_file(path, drawn())
    expected = truth[::2, ::2] if "pyramid" in how else truth.reshape(300, 2, 400, 2).mean(axis=(1, 3)) >= 0.5
    assert (found.tissue == expected).mean() > (0.995 if "pyramid" in how else 1.0 - 1e-9)


@pytest.mark.parametrize("how", ["strips", "tiles"])
def test_convention_a_cell_is_tissue_where_half_of_it_is(tmp_path: Path, how: str):
    truth = np.zeros((600, 800), bool)
    truth[:, :50] = True  # half of the first cells of 100 px
    truth[:, 200:249] = True  # less than half of the third
    path = write_mask_file(tmp_path / "m.tif", truth, how)
    found = tissue_mask_from_file(path, drawn(mpp=None), max_side_px=8)
    assert found.tissue.shape == (6, 8)
    np.testing.assert_array_equal(found.tissue, np.arange(8) == np.zeros((6, 1)))


def test_sizes_that_do_not_divide_keep_the_share_of_tissue(tmp_path: Path):
    truth = truth_of_slide()
    path = write_mask_file(tmp_path / "m.tif", truth, "strips")
    for side in (37, 111, 333, 799):
        found = tissue_mask_from_file(path, drawn(mpp=None), max_side_px=side)
        assert found.fraction == pytest.approx(truth.mean(), abs=0.01 + 0.5 / side)
        assert max(found.tissue.shape) == side


def test_a_file_coarser_than_wanted_is_taken_as_it_is(tmp_path: Path):
    truth = truth_of_slide()[::20, ::20]
    found = tissue_mask_from_file(write_mask_file(tmp_path / "m.png", truth, "L"), drawn())
    np.testing.assert_array_equal(found.tissue, truth)
    assert found.downsample.x == 20


def test_only_the_level_that_is_fine_enough_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_mask_file(tmp_path / "m.tif", truth_of_slide(), "pyramid")
    levels = []
    read_tile = TiffTiles.read_tile
    monkeypatch.setattr(
        TiffTiles, "read_tile", lambda self, *tile: levels.append(tile[0]) or read_tile(self, *tile)
    )
    tissue_mask_from_file(path, drawn(mpp=None), max_side_px=200)
    assert set(levels) == {2}


def test_files_that_are_no_tissue_mask_of_the_slide_are_refused_with_what_was_needed(tmp_path: Path):
    slide = drawn()

    def refused(path: Path, match: str):
        with pytest.raises(SlideError, match=rf"slide t: tissue mask .*{path.name}: {match}"):
            tissue_mask_from_file(path, slide)

    refused(tmp_path / "none.png", "no such file")
    (tmp_path / "m.jpg").write_bytes(b"")
    refused(tmp_path / "m.jpg", r"a \.jpg file is lossy(.|\n)*TIFF or PNG")
    refused(tmp_path / "m.geojson", "a .geojson file is outlines")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    refused(tmp_path / "broken.png", "not a readable picture")
    (tmp_path / "broken.tif").write_bytes(b"not a tiff")
    refused(tmp_path / "broken.tif", "the TIFF index cannot be read")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((600, 800), np.float32), metadata=None)
    refused(tmp_path / "float.tif", "pixel type float32(.|\n)*whole numbers")
    other = write_mask_file(tmp_path / "other.png", np.ones((300, 390), bool), "L")
    refused(other, "390 x 300 px for a slide of 800 x 600(.|\n)*one factor")
    larger = write_mask_file(tmp_path / "larger.png", np.ones((1200, 1600), bool), "L")
    refused(larger, "1600 x 1200 px for a slide of 800 x 600")
    with pytest.raises(ShapeError, match="positive"):
        tissue_mask_from_file(larger, slide, max_side_px=0)


def test_bands_of_rows_leave_no_seam(monkeypatch: pytest.MonkeyPatch):
    slide = drawn((slice(100, 300), slice(200, 500), PINK), (slice(350, 500), slice(100, 300), PURPLE))
    found = []
    for rows in (7, 10_000):
        monkeypatch.setattr("wsi_deform.look.tissue.BAND_ROWS", rows)
        found.append(tissue_mask(slide).tissue)
    np.testing.assert_array_equal(*found)


def test_tissue_fractions_are_areas_of_overlap():
    rng = np.random.default_rng(0)
    mask = TissueMask(tissue=rng.random((30, 40)) < 0.4, downsample=Point(8.0, 10.0))
    fine = np.kron(mask.tissue, np.ones((10, 8)))
    for region in (
        Region(0, 0, 320, 300),
        Region(33, 47, 120, 90),
        Region(-40, -20, 200, 100),
        Region(300, 280, 60, 60),
    ):
        size = Size(6, 5)
        padded = np.zeros((700, 800))
        padded[200:500, 200:520] = fine
        inside = padded[200 + region.y : 200 + region.bottom, 200 + region.x : 200 + region.right]
        wide = np.kron(inside, np.ones((size.height, size.width)))
        expected = wide.reshape(size.height, region.height, size.width, region.width).mean((1, 3))
        assert mask.fractions(region, size) == pytest.approx(expected, abs=1e-6)


def test_the_box_around_tissue_in_a_region():
    tissue = np.zeros((30, 40), bool)
    tissue[5:8, 10:12] = True
    mask = TissueMask(tissue=tissue, downsample=Point(8.0, 10.0))
    assert mask.box_in(Region(0, 0, 320, 300)) == Region(80, 50, 16, 30)
    assert mask.box_in(Region(90, 55, 100, 100)) == Region(90, 55, 6, 25)
    assert mask.box_in(Region(200, 0, 120, 300)) is None
    assert mask.box_in(Region(0, 0, 80, 300)) is None
    assert mask.box_in(Region(0, 0, 320, 50)) is None
    assert mask.box_in(Region(0, 80, 320, 50)) is None


def test_mask_pixels_that_are_no_whole_pixels_of_the_slide_count_where_they_are_touched():
    tissue = np.zeros((30, 40), bool)
    tissue[5:8, 11:13] = True  # x from 93.5 to 110.5, y from 52.5 to 84
    mask = TissueMask(tissue=tissue, downsample=Point(8.5, 10.5))
    assert mask.box_in(Region(0, 0, 340, 315)) == Region(93, 52, 18, 32)
    assert mask.box_in(Region(0, 0, 95, 55)) == Region(93, 52, 2, 3)
    assert mask.box_in(Region(109, 83, 100, 100)) == Region(109, 83, 2, 1)
    assert mask.box_in(Region(111, 0, 100, 100)) is None
    assert mask.fraction_of(Region(93, 52, 18, 32)) == 6 / 16  # columns 10 to 13, rows 4 to 7
    assert mask.fraction_of(Region(94, 53, 16, 31)) == 1
    assert mask.fraction == 6 / 1200


def flat(
    shares: dict[tuple[int, int, int], float], *, base=(250, 250, 250), mpp: float | None = None
) -> Slide:
    """A slide of 200 x 100 px of one colour and, from the left, stripes of others that are so much of it."""
    pixels = np.empty((100, 200, 3), np.uint8)
    pixels[...] = base
    left = 0
    for colour, share in shares.items():
        right = left + round(200 * share)
        pixels[:, left:right] = colour
        left = right
    return Slide.from_reader(ArrayReader(pixels, mpp=mpp), slide_id="flat")


STRONG = (250, 120, 200)  # chroma .51, optical density .12
DARK = (60, 60, 60)  # no chroma, .62


@pytest.mark.parametrize(
    ("shares", "base", "found"),
    [
        # Chroma alone, where two modes are near: Otsu's is held above .03 (a density of .01 counts for nothing).
        ({(250, 246, 241): 0.2}, (250, 250, 250), 0.2),  # chroma .0353
        ({(250, 247, 243): 0.2}, (250, 250, 250), 0.0),  # .0275
        # Where they are far apart, below .08: what is faint beside what is strong is still tissue.
        ({(250, 240, 228): 0.1, STRONG: 0.4}, (250, 250, 250), 0.5),  # .0863
        ({(250, 241, 232): 0.1, STRONG: 0.4}, (250, 250, 250), 0.4),  # .0706
        # Density alone, -log10(I / 250): .06 and .12.
        ({(213, 213, 213): 0.2}, (250, 250, 250), 0.2),  # .0696
        ({(220, 220, 220): 0.2}, (250, 250, 250), 0.0),  # .0555
        ({(187, 187, 187): 0.1, DARK: 0.4}, (250, 250, 250), 0.5),  # .1261
        ({(193, 193, 193): 0.1, DARK: 0.4}, (250, 250, 250), 0.4),  # .1124
        # A slide without glass is measured against .75 at least.
        ({}, (160, 160, 160), 1.0),  # .0777
        ({}, (170, 170, 170), 0.0),  # .0512
        # Fluorescence: what is above .06 of white, where that is less than half of the slide.
        ({(16, 0, 0): 0.2}, (0, 0, 0), 0.2),  # .0627
        ({(15, 0, 0): 0.2}, (0, 0, 0), 0.0),  # .0588
        ({(200, 200, 200): 0.45}, (0, 0, 0), 0.45),
        ({(200, 200, 200): 0.55}, (0, 0, 0), 0.0),
    ],
)
def test_convention_what_counts_as_tissue(shares, base, found):
    # Smoothing moves a border by a pixel of 200 at most.
    assert tissue_mask(flat(shares, base=base)).fraction == pytest.approx(found, abs=0.011)


FAINT = (250, 230, 185)  # chroma .255: a third of it is tissue, a ninth is not


def with_box(box: Size, *, size: Size, mpp: float | None, hole: bool = False) -> float:
    """Share of tissue of a slide with a box of tissue, which smoothing makes one px larger on each side but for its
    corners, or with a hole in tissue, which it makes one px smaller."""
    width, height = box.width, box.height
    # Otsu's threshold of a tiny box is lower: a ninth of what is strong would be above it.
    colour = FAINT if hole or mpp is None else STRONG
    inside, outside = ((250, 250, 250), colour) if hole else (colour, (250, 250, 250))
    pixels = np.full((*size.shape, 3), outside, np.uint8)
    pixels[8 : 8 + height, 8 : 8 + width] = inside
    return float(tissue_mask(Slide.from_reader(ArrayReader(pixels, mpp=mpp), slide_id="box")).tissue.mean())


@pytest.mark.parametrize(
    ("box", "size", "mpp", "px"),
    [
        # At 8 um per px 10,000 um2 are 156.25 px.
        ((8, 14), Size(200, 160), 8.0, 0),  # 156
        ((7, 16), Size(200, 160), 8.0, 158),
        # At 16 um per px 39.
        ((3, 6), Size(100, 80), 16.0, 0),  # 36
        ((2, 9), Size(100, 80), 16.0, 40),
        # Without mpp 16 px.
        ((2, 3), Size(200, 160), None, 0),  # 16
        ((3, 3), Size(200, 160), None, 21),
        # Nothing above a hundredth of the slide is small.
        ((2, 2), Size(40, 30), None, 0),  # 12 of 1,200
        ((2, 2), Size(39, 30), None, 12),  # of 1,170
    ],
)
def test_what_is_small_is_no_tissue(box, size, mpp, px):
    assert with_box(Size(*box), size=size, mpp=mpp) * size.area == pytest.approx(px)


@pytest.mark.parametrize(
    ("box", "size", "mpp", "px"),
    [
        ((14, 15), Size(200, 160), 8.0, 0),  # 12 x 13
        ((12, 18), Size(200, 160), 8.0, 160),
        ((6, 6), Size(200, 160), None, 0),
        ((5, 8), Size(200, 160), None, 18),
    ],
)
def test_a_small_hole_is_tissue(box, size, mpp, px):
    assert (1 - with_box(Size(*box), size=size, mpp=mpp, hole=True)) * size.area == pytest.approx(px)


def test_a_level_that_is_too_short_along_one_axis_is_not_fine_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A slide of 800 x 603 px at 400 px a side has 302 rows, but a level that was rounded down has 301."""
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(np.ones((603, 800), np.uint8), tile=(64, 64), subifds=1, metadata=None)
        tif.write(np.ones((301, 400), np.uint8), tile=(64, 64), subfiletype=1, metadata=None)
    levels = []
    read_tile = TiffTiles.read_tile
    monkeypatch.setattr(
        TiffTiles, "read_tile", lambda self, *tile: levels.append(tile[0]) or read_tile(self, *tile)
    )
    slide = Slide.from_reader(ArrayReader(np.zeros((603, 800, 3), np.uint8), mpp=None), slide_id="t")
    for side, level in ((400, 0), (398, 1)):
        levels.clear()
        assert max(tissue_mask_from_file(path, slide, max_side_px=side).tissue.shape) == side
        assert set(levels) == {level}


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        (Size(400, 300), True), (Size(400, 301), True), (Size(400, 299), True), (Size(401, 300), True),
        (Size(400, 302), False), (Size(400, 298), False), (Size(403, 300), False), (Size(800, 600), True),
        (Size(801, 600), False), (Size(800, 601), False),
    ],
)  # fmt: skip
def test_a_mask_has_one_scale_for_both_axes_to_a_pixel(tmp_path: Path, size: Size, fits: bool):
    path = write_mask_file(tmp_path / "m.png", np.ones(size.shape, bool), "L")
    if fits:
        assert tissue_mask_from_file(path, drawn()).fraction == 1.0
        return
    with pytest.raises(SlideError, match=f"{size} px for a slide of 800 x 600"):
        tissue_mask_from_file(path, drawn())


@pytest.mark.parametrize(("size", "fits"), [(Size(301, 400), True), (Size(302, 400), False)])
def test_a_pixel_along_the_shorter_axis_is_no_other_scale(tmp_path: Path, size: Size, fits: bool):
    path = write_mask_file(tmp_path / "m.png", np.ones(size.shape, bool), "L")
    slide = Slide.from_reader(ArrayReader(np.zeros((800, 600, 3), np.uint8)), slide_id="t")
    if fits:
        assert tissue_mask_from_file(path, slide).fraction == 1.0
        return
    with pytest.raises(SlideError, match="302 x 400 px for a slide of 600 x 800"):
        tissue_mask_from_file(path, slide)


def ellipses(cell_px: int, *, frame_px: int = 0) -> tuple[Slide, float]:
    """Pieces of 0.5 mm x 0.3 mm with a stain that varies, at 4 um per px, and the share of the slide that they are.

    The longer side of the slide is so many cells of ``cell_px`` as a mask of 96 px has.
    """
    side = 96 * cell_px
    rows, columns = np.mgrid[:side, :side]
    pixels = np.full((side, side, 3), GLASS, np.float64)
    rng = np.random.default_rng(cell_px)
    covered = np.zeros((side, side), bool)
    step = 160
    for top in range(80, side - 79, step):
        for left in range(80, side - 79, step):
            x, y = left + rng.uniform(-6, 6), top + rng.uniform(-6, 6)
            covered |= ((columns - x) / 62.5) ** 2 + ((rows - y) / 37.5) ** 2 < 1
    stain = rng.uniform(0.6, 1.5, (side // 16, side // 16)).repeat(16, 0).repeat(16, 1)[..., None]
    stained = np.array(GLASS) - stain * (np.array(GLASS) - np.array(PINK))
    pixels[covered] = stained[covered]
    pixels += rng.normal(0, 3, pixels.shape)
    pixels[:frame_px] = pixels[:, :frame_px] = 0
    covered[:frame_px] = covered[:, :frame_px] = False
    picture = np.clip(pixels, 0, 255).astype(np.uint8)
    return Slide.from_reader(ArrayReader(picture, mpp=4.0), slide_id="t"), float(covered.mean())


@pytest.mark.parametrize(("cell_px", "most"), [(2, 0.01), (5, 0.02), (10, 0.03), (20, 0.05)])
def test_the_area_of_tissue_does_not_grow_with_its_cells(cell_px: int, most: float):
    slide, share = ellipses(cell_px)
    found = tissue_mask(slide, mpp_um=4.0 * cell_px, max_side_px=96)
    assert found.downsample.x == cell_px
    assert found.counted.mean() == pytest.approx(share, rel=most)
    # What is looked at, and what a mask is limited to, stays generous.
    assert found.tissue.mean() > (1 + 3 * most) * share
    assert not (found.counted & ~found.tissue).any()


def test_a_black_frame_does_not_change_the_area_of_tissue():
    slide, share = ellipses(5, frame_px=130)
    assert tissue_mask(slide, mpp_um=20.0, max_side_px=96).counted.mean() == pytest.approx(share, rel=0.12)


def test_a_mask_has_a_pixel_at_least(tmp_path: Path):
    path = write_mask_file(tmp_path / "m.png", np.ones((600, 800), bool), "L")
    for found in (
        tissue_mask(drawn(), max_side_px=1),
        tissue_mask(drawn(), mpp_um=1e6),
        tissue_mask_from_file(path, drawn(), max_side_px=1),
    ):
        assert found.tissue.shape == (1, 1)
        assert found.downsample == Point(800, 600)
    for wrong in ({"max_side_px": 0}, {"mpp_um": 0}):
        with pytest.raises(ShapeError, match="both must be positive"):
            tissue_mask(drawn(), **wrong)
        with pytest.raises(ShapeError, match="both must be positive"):
            tissue_mask_from_file(path, drawn(), **wrong)
