"""What `import wsi_deform` offers a notebook."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile
from drawn_reader import AddressReader, ArrayReader, address_pixels, constant_reader
from PIL import Image
from tiny_study import MPP, tiny_model, tiny_study
from typer.testing import CliRunner

import wsi_deform
from wsi_deform.cli.main import typer_app
from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.mask.caption import title_rows, title_strip
from wsi_deform.notebook.mask import SlideMask
from wsi_deform.notebook.slide import OpenedSlide
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.reader import Level
from wsi_deform.slide.slide import Slide

PUBLIC = [
    "Region",
    "Size",
    "WantedOutputs",
    "WsiDeformError",
    "load_model",
    "open_slide",
    "segment_slide",
    "segment_to_files",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides P001-A, P002-A and P003-A of 640 x 160 px, and an untrained model, ``run``."""
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "run", tiny_study(folder).classes)
    return folder


@pytest.fixture(scope="module")
def mask(study: Path) -> SlideMask:
    slide = wsi_deform.open_slide(study / "slides" / "P002-A.tif")
    return wsi_deform.segment_slide(slide, wsi_deform.load_model(study / "run"))


def drawn(reader: object, **given: object) -> OpenedSlide:
    return OpenedSlide.from_reader(reader, slide_id="drawn", **given)  # type: ignore[arg-type]


def ramp(width: int = 100, height: int = 60) -> OpenedSlide:
    """Red is x, green is y, blue is 7; 0.5 um per pixel; one level."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x, y, np.full_like(x, 7)], axis=-1).astype(np.uint8)
    return drawn(ArrayReader(pixels, tile=Size(32, 16)), virtual_levels=False)


def test_convention_read_counts_in_pixels_of_the_level_that_is_read():
    slide = drawn(AddressReader(Size(4000, 3000), downsamples=(1, 4)), virtual_levels=False)
    for level in (0, 1):
        y, x = np.mgrid[600:620, 900:930]
        np.testing.assert_array_equal(slide.read(900, 600, 30, 20, level=level), address_pixels(level, x, y))
    np.testing.assert_array_equal(slide.read(900, 600, 30, 20), slide.read(900, 600, 30, 20, level=0))


def test_convention_read_with_mpp_counts_in_pixels_of_that_scale():
    # 1 um per pixel is 2 x 2 level-0 px: column 10 is the mean of 20 and 21, row 5 that of 10 and 11.
    found = ramp().read(10, 5, 3, 2, mpp=1.0)
    assert found[..., 0].tolist() == [[20, 22, 24], [20, 22, 24]]  # 20.5, 22.5, 24.5 to even
    assert found[..., 1].tolist() == [[10, 10, 10], [12, 12, 12]]  # 10.5, 12.5
    assert (found[..., 2] == 7).all()


def test_convention_pixels_at_a_scale_between_levels_are_the_same_whatever_rectangle_they_are_read_with():
    slide = ramp()
    whole = slide.read(0, 0, 66, 40, mpp=0.75)
    np.testing.assert_array_equal(slide.read(7, 11, 20, 13, mpp=0.75), whole[11:24, 7:27])
    # Column 1 at 1.5 level-0 px per pixel is half of pixel 1 and all of pixel 2: (0.5 * 1 + 2) / 1.5 = 1.67.
    assert whole[0, :4, 0].tolist() == [0, 2, 3, 5]


def test_reading_at_the_mpp_of_the_slide_gives_the_pixels_of_level_0():
    slide = ramp()
    np.testing.assert_array_equal(slide.read(3, 2, 50, 40, mpp=0.5), slide.read(3, 2, 50, 40))
    # Twice as fine: every pixel twice.
    assert slide.read(0, 0, 6, 1, mpp=0.25)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_mpp_of_the_caller_decides_what_a_scale_is():
    reader = constant_reader(Size(40, 20), (10, 20, 30))
    slide = drawn(reader, mpp=2.0)
    assert slide.read(0, 0, 20, 10, mpp=4.0).shape == (10, 20, 3)
    with pytest.raises(ShapeError, match=r"20 x 10 px at 4 um per pixel"):
        slide.read(0, 0, 21, 10, mpp=4.0)


def test_both_axes_are_right_where_a_level_is_not_as_wide_as_high():
    # Level 1 is 4 times narrower but only 2 times lower: what is read at a scale comes from the same places.
    y, x = np.mgrid[:64, :128]
    fine = ArrayReader(np.stack([x, y, y * 0], axis=-1).astype(np.uint8), tile=Size(32, 16))
    coarse = fine.pixels[0].reshape(32, 2, 32, 4, 3).mean(axis=(1, 3)).astype(np.uint8)
    fine.pixels.append(coarse)
    level = Level(size=Size(32, 32), downsample=Point(4.0, 2.0), tile=Size(16, 16))
    fine.info = replace(fine.info, levels=(*fine.info.levels, level))
    slide = drawn(fine, virtual_levels=False)
    np.testing.assert_array_equal(slide.read(5, 6, 7, 8, level=1), coarse[6:14, 5:12])
    # 2 um per pixel is 4 x 4 level-0 px, the coarse level's width and two of its rows.
    found = slide.read(5, 6, 2, 2, mpp=2.0)
    assert found[0, :, 0].tolist() == [21, 25]  # means of 20..23 and 24..27, rounded down in the level
    assert found[:, 0, 1].tolist() == [25, 29]  # means of 24 and 26, 28 and 30, rounded down in the level
    assert slide.to_dask(1).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("rectangle", "given", "said"),
    [
        ((-1, 0, 10, 10), {}, r"x -1, .*inside the slide, which has 100 x 60 px at level 0"),
        ((0, 0, 101, 10), {}, r"width 101"),
        ((0, 51, 10, 10), {}, r"y 51"),
        ((0, 0, 0, 10), {}, r"width 0"),
        ((0, 0, 1, 1), {"level": 1}, r"level 1\. Needed 0 to 0"),
        ((0, 0, 1, 1), {"level": -1}, r"level -1\. Needed 0 to 0"),
        ((0, 0, 1, 1), {"level": 0, "mpp": 1.0}, r"level 0 and mpp 1.0\. Needed one of them"),
        ((0, 0, 51, 30), {"mpp": 1.0}, r"50 x 30 px at 1 um per pixel"),
        ((0, 0, 2, 1), {"mpp": 100.0}, r"1 x 1 px at 100 um per pixel"),  # the slide is 50 x 30 um
        ((0, 0, 1, 1), {"mpp": 0.0}, r"mpp 0.0\. Needed a positive number"),
        ((0, 0, 1, 1), {"mpp": float("nan")}, r"mpp nan\. Needed a positive number"),
        ((0, 0, 1.5, 1), {}, r"width 1.5\. Needed a whole number"),
    ],
)
def test_reading_outside_the_slide_or_with_odd_numbers_is_refused(rectangle, given, said):
    with pytest.raises(ShapeError, match=said):
        ramp().read(*rectangle, **given)


def test_reading_at_a_scale_needs_an_mpp():
    slide = drawn(ArrayReader(np.zeros((8, 8, 3), np.uint8), mpp=None))
    with pytest.raises(SlideError, match="no believable microns-per-pixel"):
        slide.read(0, 0, 1, 1, mpp=1.0)


def test_thumbnail_keeps_the_proportions_and_never_enlarges():
    slide = ramp()
    assert slide.thumbnail(max_side_px=50).shape == (30, 50, 3)
    assert slide.thumbnail(max_side_px=50)[0, :3, 0].tolist() == [
        0,
        2,
        4,
    ]  # means of 0 and 1, 2 and 3, 4 and 5
    np.testing.assert_array_equal(slide.thumbnail(), slide.read(0, 0, 100, 60))
    with pytest.raises(ShapeError, match="max_side_px 0"):
        slide.thumbnail(0)


def test_pictures_are_1024_px_long_and_those_that_a_notebook_shows_512(mask):
    slide = drawn(AddressReader(Size(4000, 1000), downsamples=(1,), pattern="smooth"))
    assert slide.thumbnail().shape == (256, 1024, 3)
    assert slide.thumbnail(1).shape == (1, 1, 3)
    assert Image.open(io.BytesIO(slide._repr_png_())).width == 512
    assert dataclasses.replace(mask, slide=slide, size=slide.size).thumbnail().shape == (256, 1024, 3)


def test_dask_array_of_a_slide_has_the_tiles_of_the_level_and_reads_only_what_is_asked_for():
    reader = CountingReader(AddressReader(Size(100_000, 80_000)))
    array = drawn(reader, virtual_levels=False).to_dask(2)
    assert array.shape == (20_000, 25_000, 3)
    assert array.dtype == np.uint8
    assert array.chunks[0][-2:] == (256, 32)
    assert array.chunks[1][-2:] == (256, 168)
    part = array[1000:1100, 24_700:24_900].compute(scheduler="synchronous")
    y, x = np.mgrid[1000:1100, 24_700:24_900]
    np.testing.assert_array_equal(part, address_pixels(2, x, y))
    assert reader.tiles == {2: 4}
    with pytest.raises(ShapeError, match=r"level 9\. Needed 0 to 8"):
        drawn(reader, virtual_levels=False).to_dask(9)


def test_dask_array_of_a_slide_is_computed_by_a_process_in_another_folder(study, tmp_path, monkeypatch):
    monkeypatch.chdir(study / "slides")
    slide = wsi_deform.open_slide("P001-A.tif")
    array = slide.to_dask(0)
    monkeypatch.chdir(tmp_path)
    assert len(pickle.dumps(array)) < 20_000
    script = (
        "import pickle, sys, hashlib\n"
        "a = pickle.load(sys.stdin.buffer).compute(scheduler='synchronous')\n"
        "assert 'torch' not in sys.modules\n"
        "print(hashlib.sha256(a.tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(array), capture_output=True, check=True
    )
    whole = tifffile.imread(study / "slides" / "P001-A.tif")
    assert whole.shape == (160, 640, 3)
    assert done.stdout.decode().strip() == hashlib.sha256(slide.read(0, 0, 640, 160).tobytes()).hexdigest()


def test_chunks_of_a_dask_array_may_be_written_to():
    array = ramp().to_dask(0)
    tile = array[:16, :32].compute(scheduler="synchronous")
    tile[...] = 0
    assert array[1, 1].compute(scheduler="synchronous").tolist() == [1, 1, 7]


def test_slide_says_what_it_is_in_a_line_and_does_not_open_its_file_for_it(study):
    path = study / "slides" / "P001-A.tif"
    assert repr(Slide(path)) == "Slide('P001-A.tif')"
    opened = wsi_deform.open_slide(path, slide_id="core 1")
    assert (
        repr(opened)
        == "OpenedSlide('P001-A.tif', slide_id='core 1', 640 x 160 px, 0.5 um/px, 4 levels to 1/8)"
    )


def test_slide_and_mask_show_themselves_as_png(mask):
    slide = Image.open(io.BytesIO(mask.slide._repr_png_()))
    assert slide.format == "PNG"
    top = title_rows(512)
    np.testing.assert_array_equal(np.asarray(slide)[top : top + 128, :512], mask.slide.thumbnail(512))
    strip = title_strip("P002-A: 640 x 160 px, 0.5 \N{MICRO SIGN}m per px", Size(512, 128), 512)
    np.testing.assert_array_equal(np.asarray(slide)[:top], np.asarray(strip))
    shown = np.asarray(Image.open(io.BytesIO(mask._repr_png_())))
    np.testing.assert_array_equal(shown[top : top + 128, :512], mask.thumbnail(512))
    for label in np.unique(mask.labels()):
        if label != mask.classes.background:
            # A field of the legend for each class that is there, 13 px high.
            assert (shown[top + 128 :] == mask.classes.colours[label]).all(axis=-1).sum() >= 11 * 11


def test_slide_and_mask_show_themselves_as_html_that_needs_nothing_else(mask):
    slide = wsi_deform.open_slide(mask.slide.path, slide_id="<b>core & co")
    text = slide._repr_html_()
    assert "&lt;b&gt;core &amp; co" in text
    assert "<b>" not in text
    assert "640 x 160 px" in text
    assert "0.5 \N{MICRO SIGN}m per px" in text
    assert "4, to 1/8" in text
    assert "0.32 x 0.08 mm" in text
    assert text.count("<img") == 1
    assert "data:image/jpeg;base64," in text
    assert "http" not in text
    text = mask._repr_html_()
    assert f"{mask.samples:,} samples, 1 of {640 * 160 / mask.samples:,.0f} pixels; fields: 1;" in text
    (gland, *_) = [name for name in mask.classes.names if f"{name}: " in text]
    assert re.search(rf'background:rgb\(\d+,\d+,\d+\)"></span>{gland}: [0-9.,]+ [m\xb5]m²', text)
    unknown = drawn(ArrayReader(np.zeros((8, 8, 3), np.uint8), mpp=None))
    assert "\N{MICRO SIGN}m per px not known" in unknown._repr_html_()
    assert Image.open(io.BytesIO(unknown._repr_png_())).format == "PNG"


def test_slide_opened_for_a_notebook_is_a_slide_that_pickles(study):
    slide = wsi_deform.open_slide(study / "slides" / "P001-A.tif", mpp=0.25, slide_id="a")
    copy = pickle.loads(pickle.dumps(slide))
    assert isinstance(slide, Slide)
    assert (type(copy), copy.mpp, copy.slide_id) == (OpenedSlide, 0.25, "a")


def test_mask_says_what_it_is_in_a_line(mask):
    said = repr(mask)
    assert said == (
        f"SlideMask('P002-A', 640 x 160 px, 1 field, 576 samples, {mask.interpolation}, limited to tissue, "
        f"classes {', '.join(mask.classes.names)})"
    )


def test_convention_levels_of_a_mask_halve_and_regions_are_in_pixels_of_the_level(mask):
    assert mask.level_sizes == (Size(640, 160), Size(320, 80))
    whole, half = mask.labels(), mask.labels(level=1)
    assert (whole.shape, half.shape, whole.dtype) == ((160, 640), (80, 320), np.uint8)
    assert len(np.unique(whole)) > 1
    np.testing.assert_array_equal(whole, mask.reverse().region(Region(0, 0, 640, 160), 0))
    np.testing.assert_array_equal(mask.labels(1, Region(100, 20, 50, 30)), half[20:50, 100:150])
    with pytest.raises(ShapeError, match="level 2: needed 0 to 1"):
        mask.labels(2)


def test_dask_array_of_a_mask_has_its_tiles_and_its_labels(mask):
    for level in (0, 1):
        array = mask.to_dask(level)
        assert array.shape == mask.level_sizes[level].shape
        np.testing.assert_array_equal(array.compute(scheduler="synchronous"), mask.labels(level))
    assert mask.to_dask().chunks == ((160,), (512, 128))
    with pytest.raises(ShapeError, match="level 2: needed 0 to 1"):
        mask.to_dask(2)


def test_dask_array_of_a_mask_pickles(mask):
    array = pickle.loads(pickle.dumps(mask.to_dask(1)))
    np.testing.assert_array_equal(array.compute(scheduler="synchronous"), mask.labels(1))


def test_thumbnail_of_a_mask_tints_all_but_background(mask):
    picture, drawn_over = mask.slide.thumbnail(), mask.thumbnail()
    background = mask.labels() == mask.classes.background
    assert background.any()
    np.testing.assert_array_equal(drawn_over[background], picture[background])
    assert (drawn_over[~background] != picture[~background]).any(axis=-1).mean() > 0.9


def test_saved_mask_has_the_bytes_of_the_command_and_of_segment_to_files(study, mask, tmp_path):
    slide = study / "slides" / "P002-A.tif"
    arguments = ["segment", "--slides", str(slide), "--model", str(study / "run"), "--device", "cpu"]
    arguments += ["--probabilities", "--footprint", "--out", str(tmp_path / "command")]
    done = CliRunner().invoke(typer_app, arguments)
    assert done.exit_code == 0, done.output
    saved = mask.save(tmp_path / "saved", probabilities=True, footprint=True)
    wanted = wsi_deform.WantedOutputs(probabilities=True, footprint=True)
    model = wsi_deform.load_model(study / "run")
    written = wsi_deform.segment_to_files(mask.slide, model, tmp_path / "files", wanted=wanted)
    assert written.flops > 0
    # What a mask cost is known to who made it: a mask in memory was segmented before.
    uncounted = ("read_pixels", "decoded_pixels", "decoded_bytes", "flops", "peak_memory_bytes")
    assert saved == dataclasses.replace(written, **dict.fromkeys(uncounted))
    names = [
        "footprints/P002-A.footprint.ome.tif",
        "geojson/P002-A.geojson.gz",
        "masks/P002-A.ome.tif",
        "overlays/P002-A.jpg",
        "probabilities/P002-A.probability.ome.tif",
    ]
    for folder in ("saved", "files"):
        found = [one for one in (tmp_path / folder).rglob("*") if one.is_file()]
        assert len(found) == 6
        for file in found:
            relative = file.relative_to(tmp_path / folder)
            assert file.read_bytes() == (tmp_path / "command" / relative).read_bytes(), relative
        assert [name for name in names if not (tmp_path / folder / name).is_file()] == []
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "saved" / names[2], level=1), mask.labels(1))


def test_mask_of_a_slide_that_has_changed_is_not_saved(study, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes((study / "slides" / "P001-A.tif").read_bytes())
    found = wsi_deform.segment_slide(wsi_deform.open_slide(path), wsi_deform.load_model(study / "run"))
    path.write_bytes((study / "slides" / "P003-A.tif").read_bytes())
    with pytest.raises(SlideError, match="changed since it was segmented"):
        found.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mask_not_limited_to_tissue_is_saved_so(study, tmp_path):
    slide = wsi_deform.open_slide(study / "slides" / "P002-A.tif")
    found = wsi_deform.segment_slide(slide, wsi_deform.load_model(study / "run"), limit_to_tissue=False)
    assert "not limited to tissue" in repr(found)
    files = found.save(tmp_path, geojson=False)
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "masks" / "P002-A.ome.tif", level=0), found.labels()
    )
    assert files.removed_pixels == (0,) * found.classes.count
    assert not (tmp_path / "geojson").exists()


def test_mask_of_a_slide_without_a_file_is_saved(study, tmp_path):
    pixels = tifffile.imread(study / "slides" / "P001-A.tif")
    slide = OpenedSlide.from_reader(ArrayReader(pixels, mpp=MPP), slide_id="array")
    wsi_deform.segment_slide(slide, wsi_deform.load_model(study / "run")).save(tmp_path)
    # Maps are asked for, outlines are not.
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == [
        "geojson/array.geojson.gz",
        "masks/array.ome.tif",
        "overlays/array.jpg",
        "samples/array.npz",
    ]


def test_package_lists_what_it_offers():
    assert sorted(wsi_deform.__all__) == PUBLIC
    assert [name for name in PUBLIC if name not in dir(wsi_deform)] == []
    assert [name for name in PUBLIC if getattr(wsi_deform, name).__doc__ is None] == []
    with pytest.raises(AttributeError, match="no attribute 'open_slides'"):
        _ = wsi_deform.open_slides


def test_importing_the_package_loads_nothing_heavy_and_opening_a_slide_no_torch(study):
    script = (
        "import sys, wsi_deform\n"
        "dir(wsi_deform)\n"
        "found = [name for name in ('torch', 'numba', 'numpy', 'openslide', 'dask') if name in sys.modules]\n"
        "wsi_deform.open_slide(sys.argv[1]).thumbnail()\n"
        "print(found, [name for name in ('torch', 'dask', 'matplotlib') if name in sys.modules])"
    )
    slide = study / "slides" / "P001-A.tif"
    done = subprocess.run(
        [sys.executable, "-c", script, str(slide)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] []\n"


def test_tiles_of_a_mask_are_rendered_by_several_threads(mask):
    with dask.config.set(scheduler="threads", num_workers=2):
        np.testing.assert_array_equal(mask.to_dask().compute(), mask.labels())
