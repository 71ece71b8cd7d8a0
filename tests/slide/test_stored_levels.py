"""Levels of a file: none lost, none invented, and what cannot be read of coarse ones is made of finer ones."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from slide_files import (
    APERIO,
    halved,
    picture,
    pyramid,
    write_ome_tiff,
    write_ome_zarr,
    write_svs,
    write_tiff,
)

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.slide.levels.mending import MendingReader
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.openslide_reader import OpenSlideReader
from wsi_deform.slide.reader import tiles_of
from wsi_deform.slide.registry import READERS
from wsi_deform.slide.slide import Slide
from wsi_deform.slide.tiff.reader import TiffReader


def whole(slide: Slide, level: int) -> np.ndarray:
    return slide.read_region(level, Region.whole(slide.levels[level].size))


@pytest.mark.parametrize("order", [(0, 2, 1), (0, 1, 2), (2, 1, 0)])
def test_levels_of_a_plain_tiff_are_found_in_any_order(tmp_path: Path, order: tuple[int, ...]):
    levels = pyramid(800, 600, 3)
    how = {"photometric": "rgb", "metadata": None, "tile": (128, 128), "compression": "deflate"}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number in order:
            writer.write(levels[number], subfiletype=1 if number else 0, **how)
    slide = open_slide(tmp_path / "a.tif")
    assert slide.stored_levels == 3
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(slide, number), level)
    assert slide.info.remarks == slide.info.images == ()


@pytest.mark.parametrize("thumbnail", [True, False])
def test_levels_of_an_svs_with_and_without_a_thumbnail_are_those_of_openslide(
    tmp_path: Path, thumbnail: bool
):
    levels = pyramid(800, 600, 3)
    path = tmp_path / "a.svs"
    if thumbnail:
        write_svs(path, levels)
    else:
        said = APERIO.format(w=800, h=600)
        how = {"tile": (128, 128), "compression": "jpeg", "photometric": "rgb", "metadata": None}
        with tifffile.TiffWriter(path) as writer:
            for level in levels:
                writer.write(level, description=said, **how)
    slide = open_slide(path)
    with openslide.OpenSlide(path) as other:
        assert [(level.size.width, level.size.height) for level in slide.levels[:3]] == list(
            other.level_dimensions
        )
        for number, size in enumerate(other.level_dimensions):
            expected = np.asarray(other.read_region((0, 0), number, size))[..., :3]
            np.testing.assert_array_equal(whole(slide, number), expected)
    assert slide.stored_levels == 3


def test_levels_in_another_compression_or_photometric_are_levels(tmp_path: Path):
    levels = pyramid(800, 600, 2)
    how = {"metadata": None, "tile": (128, 128)}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(levels[0], photometric="rgb", compression="deflate", **how)
        writer.write(levels[1], photometric="ycbcr", compression="jpeg", subfiletype=1, **how)
    slide = open_slide(tmp_path / "a.tif")
    assert slide.stored_levels == 2
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        np.testing.assert_array_equal(whole(slide, 1), tif.pages[1].asarray())


def test_pages_of_other_pixels_shapes_and_sizes_are_no_levels(tmp_path: Path):
    first = picture(800, 600)
    how = {"metadata": None, "tile": (64, 64)}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(first, photometric="rgb", **how)
        writer.write(first[::2, ::2, 0].copy(), photometric="minisblack", **how)  # gray
        writer.write(first[::2, ::2].astype(np.uint16), photometric="rgb", **how)
        writer.write(picture(400, 290), photometric="rgb", **how)  # 10 rows less
        writer.write(first[::2, ::2].copy(), photometric="rgb", metadata=None)  # a stripped thumbnail
        writer.write(first[::2, ::2, 0].copy() > 9, photometric="minisblack", subfiletype=5, **how)  # a mask
        writer.write(first[::2, ::2].copy(), photometric="rgb", subfiletype=9, **how)  # a macro
        named = [(285, 2, 0, "Macro", True)]
        writer.write(first[::2, ::2].copy(), photometric="rgb", extratags=named, **how)
    assert open_slide(tmp_path / "a.tif").stored_levels == 1


def test_a_coarse_level_that_nobody_decodes_is_left_out_and_remarked_upon(tmp_path: Path):
    levels = pyramid(800, 600, 3)
    for name, write in (("a.tif", write_tiff), ("a.ome.tif", write_ome_tiff)):
        path = write(tmp_path / name, levels, tile=(128, 128), compression="deflate")
        with tifffile.TiffFile(path) as tif:
            page = tif.series[0].levels[1].keyframe
            at = page.tags["Compression"].valueoffset
        data = bytearray(path.read_bytes())
        data[at : at + 2] = (60001).to_bytes(2, "little")
        path.write_bytes(data)
        slide = open_slide(path)
        assert [str(level.size) for level in slide.levels[: slide.stored_levels]] == [
            "800 x 600",
            "200 x 150",
        ]
        assert len(slide.info.remarks) == 1
        assert slide.info.remarks[0].startswith("the level of 400 x 300 px cannot be read (compression 60001")
        np.testing.assert_array_equal(whole(slide, 1), levels[2])


def damaged(path: Path, level: int, tiles: list[int]) -> Path:
    """The file with rubbish for some tiles of a level."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[level]
        places = [(page.dataoffsets[tile], page.databytecounts[tile]) for tile in tiles]
    data = bytearray(path.read_bytes())
    for at, count in places:
        data[at : at + count] = b"\x99" * count
    path.write_bytes(data)
    return path


def test_tiles_of_a_coarse_level_that_cannot_be_decoded_are_means_of_finer_ones(tmp_path: Path):
    levels = pyramid(803, 601, 3)
    path = write_tiff(tmp_path / "a.tif", levels, tile=(128, 128), compression="deflate")
    slide = open_slide(damaged(damaged(path, 1, [1, 11]), 2, [0]))
    assert slide.info.remarks == ()
    # Drawn by means of 2 x 2, rounded as the mending does.
    np.testing.assert_array_equal(whole(slide, 1), levels[1])
    np.testing.assert_array_equal(whole(slide, 2), levels[2])
    mended = [one.partition(" cannot")[0] for one in slide.info.remarks]
    assert mended == ["level 1 (401 x 300 px)", "level 2 (200 x 150 px)"]
    assert "made from the next finer level there" in slide.info.remarks[0]


def test_tiles_of_level_0_that_cannot_be_decoded_stay_an_error_and_so_do_those_above_them(tmp_path: Path):
    levels = pyramid(800, 600, 2)
    path = write_tiff(tmp_path / "a.tif", levels, tile=(128, 128), compression="deflate")
    slide = open_slide(damaged(damaged(path, 0, [0]), 1, [0]))
    with pytest.raises(SlideError, match=r"tile at \(0, 0\) of level 0"):
        slide.read_tile(0, 0, 0)
    with pytest.raises(SlideError, match=r"tile at \(0, 0\) of level 1"):
        slide.read_tile(1, 0, 0)
    np.testing.assert_array_equal(slide.read_tile(1, 1, 0), levels[1][:128, 128:256])
    assert slide.info.remarks == ()


@pytest.mark.parametrize("size", [(803, 601), (400, 300), (161, 121), (160, 120)])
def test_mended_tiles_are_area_means_whatever_the_ratio(tmp_path: Path, size: tuple[int, int]):
    smooth = np.stack([np.add.outer(np.arange(1201) / 12, np.arange(1607) / 13)] * 3, -1)
    first = np.rint(smooth).astype(np.uint8)
    path = write_tiff(
        tmp_path / "a.tif", [first, picture(*size)], tile=(96, 112), compression="deflate", flagged=True
    )
    tiles = range(-(-size[0] // 112) * -(-size[1] // 96))
    reader = MendingReader(TiffReader(damaged(path, 1, list(tiles))))
    level = reader.info.levels[1]
    assert level.size == Size(*size)
    y, x = np.mgrid[: size[1], : size[0]]
    # The middle of a pixel of the level, in pixels of level 0.
    right = ((y + 0.5) * level.downsample.y - 0.5) / 12 + ((x + 0.5) * level.downsample.x - 0.5) / 13
    for number in tiles:
        column, row = number % -(-size[0] // 112), number // -(-size[0] // 112)
        found = reader.read_tile(1, column, row)[..., 0]
        part = (
            slice(row * 96, row * 96 + found.shape[0]),
            slice(column * 112, column * 112 + found.shape[1]),
        )
        assert np.abs(found - right[part]).max() < 1.0
    # Several at once are the same.
    addresses = [(1, 0, 0), (0, 0, 0), (1, 1, 0)]
    for address, tile in zip(addresses, tiles_of(reader, addresses), strict=True):
        np.testing.assert_array_equal(tile, reader.read_tile(*address))


def test_openslide_goes_on_after_a_tile_that_it_cannot_read(tmp_path: Path):
    levels = pyramid(1024, 768, 3)
    path = write_svs(tmp_path / "a.svs", levels)
    with tifffile.TiffFile(path) as tif:
        page = tif.series[0].levels[1].keyframe
        at, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[at : at + count] = b"\0" * count
    path.write_bytes(data)
    reader = MendingReader(OpenSlideReader(path))
    for _ in range(2):
        found = reader.read_tile(1, 0, 0)
        expected = halved(reader.read_tile(0, 0, 0))
        np.testing.assert_array_equal(found[:256, :256], expected[:256, :256])
        assert reader.read_tile(2, 0, 0).shape == (192, 256, 3)
    assert "level 1 (512 x 384 px) cannot be read everywhere" in reader.info.remarks[0]
    errors = []

    def read() -> None:
        try:
            for level in (1, 0, 2, 1, 0):
                reader.read_tile(level, 0, 0)
        except SlideError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_virtual_level_is_built_over_a_damaged_coarsest_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wsi_deform.slide.levels.virtual.MAX_DECODED_BYTES", 0)
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
    levels = pyramid(2400, 1200, 3)
    path = write_tiff(tmp_path / "a.tif", levels[:2], tile=(128, 128), compression="deflate")
    slide = open_slide(damaged(path, 1, [0, 7]))
    np.testing.assert_array_equal(whole(slide, 2), levels[2])
    assert len(slide.info.remarks) == 1


def test_levels_of_a_zarr_that_are_missing_are_remarked_upon_and_their_order_does_not_matter(tmp_path: Path):
    levels = pyramid(800, 600, 3)
    path = write_ome_zarr(tmp_path / "a.zarr", levels)
    stored = json.loads((path / "zarr.json").read_text())
    datasets = stored["attributes"]["ome"]["multiscales"][0]["datasets"]
    datasets[1], datasets[2] = datasets[2], datasets[1]
    datasets.append({"path": "7"})
    (path / "zarr.json").write_text(json.dumps(stored))
    slide = open_slide(path)
    assert slide.stored_levels == 3
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(slide, number), level)
    assert [one.partition(" (")[0] for one in slide.info.remarks] == ["the level in 7 cannot be read"]
    chunk = next(one for one in (path / "1" / "c").rglob("*") if one.is_file())
    chunk.write_bytes(b"rubbish")
    READERS.forget()
    again = open_slide(path)
    np.testing.assert_array_equal(whole(again, 1), levels[1])
    assert len(again.info.remarks) == 2


def test_tiles_of_any_ratio_are_made_anew_where_tiles_may_be_left_out(tmp_path: Path):
    levels = [picture(900, 600), np.asarray(Image.fromarray(picture(900, 600)).resize((300, 200), Image.BOX))]
    path = write_tiff(tmp_path / "a.tif", levels, tile=(128, 128), compression="deflate")
    slide = Slide(damaged(damaged(path, 1, [0, 5]), 0, [0]), on_bad_tile="blank")
    found = whole(slide, 1)
    assert (found[:42, :42] == 255).all()  # of the tile of level 0 that is white
    assert np.abs(found.astype(int) - levels[1])[44:].max() <= 1
    assert [blank.tile for blank in slide.blanks] == [(0, 0, 0)]
    assert slide.remade_tiles == 2
