"""The coloured copy of a mask: what the common readers see in it, and what it costs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
import pyvips
import tifffile

from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.coloured import palette_of, write_coloured
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

SIZE = Size(1300, 1101)
TILE_PX = 64  # many tiles of one label beside tiles of several
COLOURS = [[220, 220, 220], [230, 159, 0], [0, 114, 178], [1, 2, 3]]
CLASSES = class_table_from_data(
    [{"name": name, "color": colour} for name, colour in zip("abcd", COLOURS, strict=True)], "table"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A mask of four classes whose right side is unlabelled, and its coloured copy."""
    folder = tmp_path_factory.mktemp("coloured")
    points = np.random.default_rng(0).random((60, 2)) * [SIZE.width, SIZE.height]
    field = FieldSamples(
        kept=Region(0, 0, 1000, SIZE.height), points_px=points, labels=np.arange(60, dtype=np.uint8) % 4
    )
    sampler = ReverseSampler([field], size=SIZE, tile_px=TILE_PX, outside_label=255)
    mask, coloured = folder / "s.ome.tif", folder / "overlays" / "s.tif"
    write_mask(mask, sampler.tiles(), size=SIZE, mpp=0.25, tile_px=TILE_PX)
    write_coloured(coloured, mask, classes=CLASSES, mpp=0.25, slide_id="s & 7")
    return mask, coloured


def colours_of(mask: Path) -> list[np.ndarray]:
    """All levels of a mask in the colours of the classes; unlabelled is white."""
    table = np.full((256, 3), 255, np.uint8)
    table[:4] = COLOURS
    with tifffile.TiffFile(mask) as tiff:
        return [table[level.asarray()] for level in tiff.series[0].levels]


def test_every_level_has_the_colours_of_the_labels(files: tuple[Path, Path]):
    mask, coloured = files
    expected = colours_of(mask)
    assert {tuple(each) for each in expected[0][::50, ::50].reshape(-1, 3).tolist()} == {
        *map(tuple, COLOURS),
        (255, 255, 255),
    }
    with tifffile.TiffFile(coloured) as tiff:
        assert tiff.is_ome
        assert len(tiff.series) == 1
        assert tiff.series[0].axes == "YXS"
        assert tiff.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
        assert len(tiff.series[0].levels) == len(expected) == 6
        for level, pixels in zip(tiff.series[0].levels, expected, strict=True):
            np.testing.assert_array_equal(level.asarray(), pixels)


def test_the_ome_xml_says_rgb_and_how_large_a_pixel_is(files: tuple[Path, Path]):
    with tifffile.TiffFile(files[1]) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata)
    space = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    pixels = root.find("ome:Image/ome:Pixels", space)
    assert root.find("ome:Image", space).get("Name") == "s & 7"
    assert (pixels.get("SizeC"), pixels.get("PhysicalSizeX")) == ("3", "0.25")
    assert [each.get("SamplesPerPixel") for each in pixels.iterfind("ome:Channel", space)] == ["3"]


def test_openslide_sees_the_colours_and_the_resolution(files: tuple[Path, Path]):
    mask, coloured = files
    expected = colours_of(mask)
    with openslide.OpenSlide(coloured) as slide:
        assert slide.level_dimensions == (
            (1300, 1101),
            (650, 551),
            (325, 276),
            (163, 138),
            (82, 69),
            (41, 35),
        )
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        pixels = np.asarray(slide.read_region((0, 0), 0, (1300, 1101)))
    np.testing.assert_array_equal(pixels[..., :3], expected[0])
    assert (pixels[..., 3] == 255).all()


def test_libvips_sees_the_colours(files: tuple[Path, Path]):
    mask, coloured = files
    for level, pixels in enumerate(colours_of(mask)):
        image = pyvips.Image.new_from_file(str(coloured), page=level)
        assert (image.bands, image.interpretation) == (3, "srgb")
        np.testing.assert_array_equal(image.numpy(), pixels)


def test_the_mask_itself_has_no_colours_that_readers_would_give_in_place_of_labels(files: tuple[Path, Path]):
    with tifffile.TiffFile(files[0]) as tiff:
        assert {page.photometric for page in tiff.pages} == {tifffile.PHOTOMETRIC.MINISBLACK}
        assert all("ColorMap" not in page.tags for page in tiff.pages)


def test_pixels_do_not_depend_on_threads(files: tuple[Path, Path], tmp_path: Path):
    write_coloured(tmp_path / "s.tif", files[0], classes=CLASSES, mpp=0.25, slide_id="s & 7", threads=3)
    with tifffile.TiffFile(tmp_path / "s.tif") as tiff:
        for level, pixels in zip(tiff.series[0].levels, colours_of(files[0]), strict=True):
            np.testing.assert_array_equal(level.asarray(), pixels)


def drawn_mask(path: Path, size: Size, tile_px: int = 512) -> None:
    """A mask whose tiles have noise in their top rows."""
    noise = np.random.default_rng(0).integers(0, 4, (8, tile_px)).astype(np.uint8)

    def tiles():
        for level, each in enumerate(pyramid_sizes(size, tile_px)):
            for row in range(-(-each.height // tile_px)):
                for column in range(-(-each.width // tile_px)):
                    height = min(tile_px, each.height - row * tile_px)
                    width = min(tile_px, each.width - column * tile_px)
                    pixels = np.zeros((height, width), np.uint8)
                    pixels[:8] = noise[:height, :width]
                    yield MaskTile(level=level, column=column, row=row, pixels=pixels)

    write_mask(path, tiles(), size=size, mpp=None, tile_px=tile_px)


def test_memory_does_not_grow_with_the_mask(tmp_path: Path):
    peaks = []
    for side in (2048, 8192):
        mask = tmp_path / f"{side}.ome.tif"
        drawn_mask(mask, Size(side, side))
        tracemalloc.start()
        write_coloured(tmp_path / f"{side}.tif", mask, classes=CLASSES, mpp=None, slide_id="s")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The larger has 190 MiB more pixels of RGB.
    assert peaks[1] < peaks[0] + (16 << 20)


def test_a_file_that_is_no_mask_is_refused_and_leaves_nothing(files: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(MaskError, match="Needed an 8-bit, tiled mask of one channel"):
        write_coloured(tmp_path / "s.tif", files[1], classes=CLASSES, mpp=None, slide_id="s")
    assert list(tmp_path.iterdir()) == []


def test_labels_without_a_class_are_white():
    palette = palette_of(ClassTable.from_names(["a", "b"]))
    assert palette.shape == (256, 3)
    assert (palette[2:] == 255).all()
    assert palette[1].tolist() == list(ClassTable.from_names(["a", "b"]).colours[1])
