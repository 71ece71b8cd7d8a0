"""TIFFs as few programs write them: tags of other types, parts left out, OME-XML of another picture."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from slide_files import halved, picture

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.reader import BadTileError
from wsi_deform.slide.slide import Slide

PIXELS = picture(150, 100)
HALF_UM: dict[str, Any] = {"resolution": (20000, 20000), "resolutionunit": 3}


def write(path: Path, pixels: np.ndarray = PIXELS, **how: Any) -> Path:
    tifffile.imwrite(path, pixels, **{"photometric": "rgb", "metadata": None, **how})
    return path


def retag(path: Path, name: str, value: object, dtype: str | None = None, page: int = 0) -> None:
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[page].tags[name].overwrite(value, dtype=dtype)


def rename_tag(path: Path, number: int, other: int) -> None:
    """A little-endian file of one page that loses a tag to an unknown one."""
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry) == (number,):
            struct.pack_into("<H", data, entry, other)
    path.write_bytes(data)


def whole(slide: Slide, level: int = 0) -> np.ndarray:
    return slide.read_region(level, Region.whole(slide.levels[level].size))


@pytest.mark.parametrize(("value", "dtype"), [(20000, "I"), (20000, "H"), (20000.0, "f")])
def test_resolution_tags_may_be_numbers_of_any_type(tmp_path: Path, value: float, dtype: str):
    path = write(tmp_path / "a.tif", **HALF_UM)
    for name in ("XResolution", "YResolution"):
        retag(path, name, value, dtype)
    slide = open_slide(path)
    assert slide.mpp == 0.5
    assert (whole(slide) == PIXELS).all()


@pytest.mark.parametrize("tag", [282, 283])
def test_one_resolution_tag_counts_for_both_axes(tmp_path: Path, tag: int):
    path = write(tmp_path / "a.tif", **HALF_UM)
    rename_tag(path, tag, 65000)
    slide = open_slide(path)
    assert slide.mpp_xy == Point(0.5, 0.5)


def test_a_raw_strip_without_a_byte_count_has_the_size_of_its_rows(tmp_path: Path):
    path = write(tmp_path / "a.tif", rowsperstrip=100, **HALF_UM)
    retag(path, "StripByteCounts", 0)
    slide = open_slide(path)
    assert (whole(slide) == PIXELS).all()


def test_a_tile_that_lacks_one_of_its_planes_is_damaged_and_not_white(tmp_path: Path):
    path = write(
        tmp_path / "a.tif",
        np.moveaxis(PIXELS, 2, 0).copy(),
        planarconfig="separate",
        tile=(64, 64),
        **HALF_UM,
    )
    with tifffile.TiffFile(path) as tif:
        counts = list(tif.pages[0].databytecounts)
    counts[6] = 0  # the first tile of the second plane
    retag(path, "TileByteCounts", counts)
    slide = open_slide(path)
    with pytest.raises(BadTileError, match=r"a\.tif: tile at \(0, 0\) of level 0.* lacks 1 of its 3 planes"):
        slide.read_region(0, Region(0, 0, 10, 10))
    assert (slide.read_region(0, Region(70, 0, 10, 10)) == PIXELS[:10, 70:80]).all()


def without_tiles(path: Path, page: int) -> None:
    with tifffile.TiffFile(path) as tif:
        count = len(tif.pages[page].dataoffsets)
    retag(path, "TileOffsets", [0] * count, page=page)
    retag(path, "TileByteCounts", [0] * count, page=page)


def two_levels(path: Path) -> Path:
    with tifffile.TiffWriter(path) as tif:
        for level in (PIXELS, halved(PIXELS)):
            tif.write(level, tile=(16, 16), photometric="rgb", metadata=None, **HALF_UM)
    return path


def test_a_coarse_level_of_which_no_tile_is_stored_is_built_and_not_white(tmp_path: Path):
    path = two_levels(tmp_path / "a.tif")
    without_tiles(path, 1)
    slide = open_slide(path)
    assert slide.remarks == (
        "the level of 75 x 50 px cannot be read (none of its tiles is stored); finer ones are read in its place",
    )
    assert [level.size for level in slide.levels][0] == Size(150, 100)
    assert all(whole(slide, level).mean() < 200 for level in range(len(slide.levels)))


def test_a_slide_of_which_no_tile_is_stored_is_refused(tmp_path: Path):
    path = two_levels(tmp_path / "a.tif")
    for page in (0, 1):
        without_tiles(path, page)
    with pytest.raises(
        SlideError, match=r"a\.tif: none of the tiles of its level 0 is stored\. .* export it again\."
    ):
        open_slide(path)


def ome_image(
    number: int, name: str, size: tuple[int, int], mpp: float, tiff_data: str, channel: str = ""
) -> str:
    return (
        f'<Image ID="Image:{number}" Name="{name}"><Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" Type="uint8" '
        f'SizeX="{size[0]}" SizeY="{size[1]}" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="{mpp}" '
        f'PhysicalSizeY="{mpp}"><Channel ID="Channel:{number}:0" SamplesPerPixel="3" {channel}/>{tiff_data}'
        "</Pixels></Image>"
    )


def ome(path: Path, *images: str) -> Path:
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    xml = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{schema}">{"".join(images)}</OME>'
    return write(path, description=xml.encode())


HERE = '<TiffData IFD="0" PlaneCount="1"/>'
ELSEWHERE = '<TiffData IFD="0"><UUID FileName="other.ome.tif">urn:uuid:1</UUID></TiffData>'


def test_the_scale_is_that_of_the_image_in_the_file_not_of_one_in_another_file(tmp_path: Path):
    path = ome(
        tmp_path / "a.ome.tif",
        ome_image(0, "first", (150, 100), 0.25, ELSEWHERE),
        ome_image(1, "second", (150, 100), 0.5, HERE),
    )
    slide = open_slide(path)
    assert slide.mpp == 0.5


def test_ome_xml_of_a_picture_of_another_size_gives_no_scale(tmp_path: Path):
    path = ome(tmp_path / "a.ome.tif", ome_image(0, "scan", (1500, 1000), 0.05, HERE))
    slide = open_slide(path, mpp=0.5)
    assert slide.remarks == (
        "its OME-XML cannot be followed; its pages are taken as they lie and none of its scales is taken, as none "
        "is of this size",
    )
    assert slide.mpp == 0.5


@pytest.mark.parametrize(
    "channel", ['EmissionWavelength="460"', 'Fluor="DAPI"', 'ContrastMethod="Fluorescence"']
)
def test_fluorescence_is_refused_also_where_it_is_stored_as_rgb(tmp_path: Path, channel: str):
    path = ome(tmp_path / "a.ome.tif", ome_image(0, "scan", (150, 100), 0.5, HERE, f'Name="DAPI" {channel}'))
    with pytest.raises(SlideError, match=r"a fluorescence slide of 3 channels \(DAPI\)"):
        open_slide(path)


def test_files_of_very_many_pages_images_or_subifds_are_refused(tmp_path: Path):
    small = np.zeros((16, 16, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as tif:
        for _ in range(1001):
            tif.write(small, photometric="rgb", metadata=None)
    with pytest.raises(SlideError, match=r"pages\.tif: over 1,000 pages that are no levels of others"):
        open_slide(tmp_path / "pages.tif")
    for first in (True, False):
        path = tmp_path / f"{first}.tif"
        with tifffile.TiffWriter(path) as tif:
            if not first:
                tif.write(PIXELS, photometric="rgb", metadata=None)
            tif.write(PIXELS, subifds=65, photometric="rgb", metadata=None)
            for _ in range(65):
                tif.write(small, subfiletype=1, photometric="rgb", metadata=None)
        with pytest.raises(SlideError, match=r"a page with 65 SubIFDs\. Needed at most 64"):
            open_slide(path)
    images = (ome_image(number, f"a{number}", (150, 100), 0.5, HERE) for number in range(1001))
    with pytest.raises(SlideError, match=r"its description speaks of 1,001 images\. Needed at most 1,000"):
        open_slide(ome(tmp_path / "a.ome.tif", *images))


@pytest.mark.parametrize(
    ("dtype", "white", "factor"),
    [("float32", "1", "255"), ("int16", "32767", "0.00778222"), ("uint32", "4294967295", "5.9")],
)
def test_pixels_that_are_too_deep_are_refused_with_the_command_for_their_range(
    tmp_path: Path, dtype: str, white: str, factor: str
):
    path = write(tmp_path / "a.tif", PIXELS.astype(dtype))
    with pytest.raises(
        SlideError, match=rf"pixels are {dtype}.*so that {white} becomes white: .*\]' {factor}.* --uchar"
    ):
        open_slide(path)


def test_a_palette_of_16_bits_is_called_one(tmp_path: Path):
    path = write(
        tmp_path / "a.tif",
        PIXELS[..., 0].astype(np.uint16),
        photometric="palette",
        colormap=np.zeros((3, 65536), np.uint16),
    )
    with pytest.raises(
        SlideError, match=r"a palette of 16 bits\. Needed 8 bits or fewer\. Write the slide as 8-bit RGB"
    ):
        open_slide(path)
