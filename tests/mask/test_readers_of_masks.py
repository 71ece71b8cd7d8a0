"""What other programs show of a mask as it is, and why it has no colour table; docs/masks.md has them as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import pyvips
import tifffile
from numpy.typing import NDArray
from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.coloured import write_coloured
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

SIZE = Size(1024, 768)  # halves of it are whole, so that OpenSlide blends nothing
CLASSES = ClassTable.from_names(["background", "gland", "tumour"])
Files = tuple[Path, Path, list[NDArray[np.uint8]]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A mask, its coloured copy, and the labels of its levels."""
    folder = tmp_path_factory.mktemp("masks")
    points = np.random.default_rng(0).random((30, 2)) * [SIZE.width, SIZE.height]
    field = FieldSamples(
        kept=Region.whole(SIZE), points_px=points, labels=np.arange(30, dtype=np.uint8) % CLASSES.count
    )
    mask, coloured = folder / "s.ome.tif", folder / "overlays" / "s.tif"
    write_mask(
        mask, ReverseSampler([field], size=SIZE, tile_px=128).tiles(), size=SIZE, mpp=0.25, tile_px=128
    )
    write_coloured(coloured, mask, classes=CLASSES, mpp=0.25, slide_id="s")
    with tifffile.TiffFile(mask) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    assert len(levels) == 4
    assert set(np.unique(levels[0])) == {0, 1, 2}
    return mask, coloured, levels


def test_openslide_shows_the_labels_as_greys_that_are_nearly_black(files: Files) -> None:
    with openslide.OpenSlide(files[0]) as slide:
        for level, labels in enumerate(files[2]):
            size = slide.level_dimensions[level]
            pixels = np.asarray(slide.read_region((0, 0), level, size))
            np.testing.assert_array_equal(pixels[..., :3], np.repeat(labels[..., None], 3, axis=2))


def test_libvips_has_one_band_of_labels_at_every_level(files: Files) -> None:
    for level, labels in enumerate(files[2]):
        image = pyvips.Image.new_from_file(str(files[0]), page=level)
        assert (image.bands, image.format, image.interpretation) == (1, "uchar", "b-w")
        np.testing.assert_array_equal(image.numpy(), labels)


def test_pillow_has_the_labels_of_level_0(files: Files) -> None:
    with Image.open(files[0]) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), files[2][0])


def test_a_colour_table_would_hide_the_labels_from_openslide_and_libvips(
    files: Files, tmp_path: Path
) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, : CLASSES.count] = np.array(CLASSES.colours, np.uint16).T * 257
    path, labels = tmp_path / "palette.tif", files[2][0]
    tifffile.imwrite(path, labels, tile=(128, 128), photometric="palette", colormap=colours)
    wanted = np.array(CLASSES.colours, np.uint8)[labels]
    with openslide.OpenSlide(path) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    np.testing.assert_array_equal(pixels, wanted)
    image = pyvips.Image.new_from_file(str(path))
    assert image.bands == 3
    np.testing.assert_array_equal(image.numpy(), wanted)
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    with Image.open(path) as opened:
        assert opened.mode == "P"
        np.testing.assert_array_equal(np.asarray(opened), labels)


def test_napari_has_labels_in_a_range_of_256_greys_and_the_coloured_copy_as_rgb(files: Files) -> None:
    reader = pytest.importorskip("napari_tiff.napari_tiff_reader", reason="needs napari-tiff")
    mask, coloured, levels = files
    (data, options, kind), *others = reader.napari_get_reader(str(mask))(str(mask))
    assert (kind, others) == ("image", [])
    assert (options["name"], options["contrast_limits"], options["rgb"]) == ("class", (0, 255), False)
    assert options["scale"] == [0.25, 0.25]
    for level, labels in zip(data, levels, strict=True):
        np.testing.assert_array_equal(np.asarray(level), labels)
    (data, options, _), *_ = reader.napari_get_reader(str(coloured))(str(coloured))
    assert options["rgb"] is True
    for level, labels in zip(data, levels, strict=True):
        np.testing.assert_array_equal(np.asarray(level), np.array(CLASSES.colours, np.uint8)[labels])
