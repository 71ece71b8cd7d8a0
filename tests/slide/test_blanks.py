"""Tiles that cannot be decoded, in every container: named with what they show, or left out, and only they."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from damaged import zero_tile
from dicom_files import write_dicom
from drawn_reader import AddressReader
from slide_files import picture, pyramid, write_ome_zarr, write_svs, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.slide.openslide_reader import OpenSlideReader
from wsi_deform.slide.reader import BadTileError
from wsi_deform.slide.slide import Slide

WIDTH, HEIGHT = 453, 331


def deflate(folder: Path) -> Path:
    path = write_tiff(folder / "a.tif", [picture(WIDTH, HEIGHT)], tile=(128, 128), compression="deflate")
    return _scrambled(path, 5)


def strips(folder: Path) -> Path:
    path = write_tiff(folder / "b.tif", [picture(WIDTH, HEIGHT)], rowsperstrip=128, compression="lzw")
    return _scrambled(path, 1)


def jpeg(folder: Path) -> Path:
    path = write_tiff(
        folder / "c.tif",
        [picture(WIDTH, HEIGHT)],
        tile=(128, 128),
        compression="jpeg",
        compressionargs={"level": 95},
    )
    return zero_tile(path, tile=5)


def ome_zarr(folder: Path) -> Path:
    path = write_ome_zarr(folder / "d.zarr", [picture(WIDTH, HEIGHT)], chunk=128)
    # A tile of 256 px is four chunks.
    (path / "0" / "c" / "0" / "1" / "1").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    return path


def dicom(folder: Path) -> Path:
    path = write_dicom(folder / "e.dcm", picture(WIDTH, HEIGHT))
    stored = bytearray(path.read_bytes())
    places = [at for at in range(len(stored)) if stored[at : at + 4] == b"\xfe\xff\x00\xe0"]
    frame = places[6]  # after the table
    stored[frame + 8 : frame + 12] = b"none"
    path.write_bytes(stored)
    return path


def _scrambled(path: Path, tile: int) -> Path:
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages.first.dataoffsets[tile], tif.pages.first.databytecounts[tile]
    stored = bytearray(path.read_bytes())
    stored[offset : offset + count] = b"\xff" * count
    path.write_bytes(stored)
    return path


CASES = {
    deflate: Region(128, 128, 128, 128),
    strips: Region(0, 128, WIDTH, 128),
    jpeg: Region(128, 128, 128, 128),
    ome_zarr: Region(0, 0, 256, 256),
    # OpenSlide reads it, in tiles of 512 px of its own.
    dicom: Region(0, 0, WIDTH, HEIGHT),
}


@pytest.mark.parametrize("draw", CASES)
def test_the_tile_that_cannot_be_decoded_is_named_and_it_alone_is_left_out(draw, tmp_path: Path):
    path, bad = draw(tmp_path), CASES[draw]
    said = (
        rf"tile at \({bad.x}, {bad.y}\) of level 0, which shows level-0 px {bad.x} to {bad.right} across and "
    )
    said += rf"{bad.y} to {bad.bottom} down,.* cannot be"
    with pytest.raises(BadTileError, match=said):
        Slide(path).read_region(0, Region.whole(Slide(path).size))
    slide = Slide(path, on_bad_tile="blank")
    pixels = slide.read_region(0, slide.region)
    wrong = np.abs(pixels.astype(int) - picture(WIDTH, HEIGHT)).max(axis=2) > 100
    inside = np.zeros_like(wrong)
    inside[bad.y : bad.bottom, bad.x : bad.right] = True
    assert (pixels[inside] == 255).all()
    assert not wrong[~inside].any()
    assert [each.region for each in slide.blanks] == [bad]
    assert slide.remade_tiles == 0


def test_openslide_goes_on_after_an_error_and_names_the_region(tmp_path: Path):
    path = _scrambled(
        write_svs(tmp_path / "a.svs", [picture(900, 700)], compressionargs={"level": 95}), tile=9
    )
    reader = OpenSlideReader(path)
    # Tile 9 of 128 px is column 1, row 1, in the first of 512.
    with pytest.raises(BadTileError, match=r"level-0 px 0 to 512 across and 0 to 512 down, cannot be read"):
        reader.read_tile(0, 0, 0)
    sound = OpenSlideReader(write_svs(tmp_path / "b.svs", [picture(900, 700)], compressionargs={"level": 95}))
    for column, row in ((1, 0), (0, 1), (1, 1)):
        np.testing.assert_array_equal(reader.read_tile(0, column, row), sound.read_tile(0, column, row))


def test_a_slide_without_levels_says_what_its_coarse_ones_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Coarse levels in memory, and in a sidecar, which is of no use to those who do not leave tiles out.
    for limit in (1 << 30, 0):
        monkeypatch.setattr("wsi_deform.slide.levels.virtual.MAX_DECODED_BYTES", limit)
        path = write_tiff(
            tmp_path / f"{limit}.tif", [picture(900, 700)], tile=(128, 128), compression="deflate"
        )
        slide = Slide(_scrambled(path, 9), on_bad_tile="blank")
        assert slide.blanks == ()
        coarse = slide.read_tile(1, 0, 0)
        assert (coarse[64:128, 64:128] == 255).all()
        assert (coarse[:60] < 255).any()
        assert slide.blank_regions == (Region(128, 128, 128, 128),)
        with pytest.raises(BadTileError):
            Slide(path).read_tile(1, 0, 0)


def test_a_disk_that_cannot_be_read_is_no_damaged_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    slide = Slide(write_tiff(tmp_path / "a.tif", pyramid(), tile=(128, 128)), on_bad_tile="blank")
    _ = slide.size

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("wsi_deform.slide.source.os.pread", broken)
    with pytest.raises(SlideError, match="cannot be read"):
        slide.read_tile(0, 0, 0)
    assert slide.blanks == ()


def test_a_copy_in_another_process_fails_instead(tmp_path: Path):
    slide = Slide(deflate(tmp_path), on_bad_tile="blank")
    slide.read_tile(0, 1, 1)
    with pytest.raises(BadTileError):
        pickle.loads(pickle.dumps(slide)).read_tile(0, 1, 1)


class Broken(AddressReader):
    """A drawn slide whose coarse level cannot be decoded."""

    def read_tile(self, level: int, column: int, row: int) -> np.ndarray:
        if level == 1:
            raise BadTileError("a tile of level 1")
        return super().read_tile(level, column, row)


@pytest.mark.parametrize("factor", [4, 3])
def test_a_tile_of_a_coarse_level_is_made_anew(factor: int):
    reader = Broken(Size(1200, 900), downsamples=(1, factor), pattern="smooth")
    slide = Slide.from_reader(reader, slide_id="a", on_bad_tile="blank")
    found = slide.read_tile(1, 0, 0)
    assert slide.blanks == ()
    sound = AddressReader(Size(1200, 900), downsamples=(1, factor), pattern="smooth").read_tile(1, 0, 0)
    assert np.abs(found.astype(int) - sound).max() <= 2
