from __future__ import annotations

import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_files import picture, pyramid, write_ome_tiff, write_svs, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.slide.mpp.claims import scale_from_claims
from wsi_deform.slide.mpp.texts import claims_of_description, claims_of_ome_xml, claims_of_tags
from wsi_deform.slide.tiff.reader import TiffReader
from wsi_deform.slide.tiff.tiles import TiffTiles


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.bool_])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
def test_label_masks_keep_their_numbers_and_pixel_type(tmp_path: Path, dtype: type, compression: str | None):
    most = 2 if dtype == np.bool_ else 7
    mask = np.random.default_rng(0).integers(0, most, (231, 317)).astype(dtype)
    photometric = "minisblack"
    path = write_tiff(
        tmp_path / "m.tif", [mask], tile=(64, 64), photometric=photometric, compression=compression
    )
    tiles = TiffTiles(path)
    found = tiles.read_region(0, Region.whole(tiles.size))
    assert found.dtype == (np.uint8 if dtype == np.bool_ else dtype)
    np.testing.assert_array_equal(found[..., 0], mask)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_masks_with_several_channels_keep_all_of_them(tmp_path: Path, channels: int):
    mask = np.random.default_rng(0).integers(0, 255, (100, 90, channels)).astype(np.uint8)
    path = tmp_path / "m.tif"
    tifffile.imwrite(
        path, mask, tile=(64, 64), photometric="minisblack", planarconfig="contig", metadata=None
    )
    tiles = TiffTiles(path)
    assert tiles.channels == channels
    np.testing.assert_array_equal(tiles.read_region(0, Region.whole(tiles.size)), mask)


def test_palette_masks_keep_indices_and_palette_slides_get_colours(tmp_path: Path):
    index = np.random.default_rng(0).integers(0, 4, (70, 90)).astype(np.uint8)
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:, :4] = np.array([[255, 10, 0, 7], [0, 20, 255, 8], [128, 30, 0, 9]]) * 257
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, index, tile=(64, 64), photometric="palette", colormap=colormap, metadata=None)
    np.testing.assert_array_equal(TiffTiles(path).read_tile(0, 0, 0)[..., 0], index[:64, :64])
    np.testing.assert_array_equal(
        TiffReader(path).read_tile(0, 1, 0), (colormap.T[index] // 257).astype(np.uint8)[:64, 64:]
    )


def test_label_macro_and_thumbnail_of_an_aperio_slide_are_no_levels(tmp_path: Path):
    tiles = TiffTiles(write_svs(tmp_path / "a.svs", pyramid()))
    assert [level.size for level in tiles.levels] == [Size(453, 331), Size(226, 165), Size(113, 82)]


def test_pages_of_another_aspect_are_no_levels(tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", [picture(400, 300), picture(200, 90)], tile=(64, 64), flagged=False)
    assert len(TiffTiles(path).levels) == 1


@pytest.mark.parametrize("compression", ["deflate", "jpeg"])
def test_tiles_that_the_writer_left_out_are_zero_or_background(tmp_path: Path, compression: str):
    pixels = [picture(64, 64, seed) for seed in range(6)]
    path = tmp_path / "a.tif"
    gaps = iter([pixels[0], None, pixels[2], None, pixels[4], pixels[5]])
    how = {"shape": (128, 192, 3), "dtype": "u1", "tile": (64, 64), "photometric": "rgb", "metadata": None}
    tifffile.imwrite(path, gaps, compression=compression, **how)
    tiles, reader = TiffTiles(path), TiffReader(path)
    assert not tiles.has_tile(0, 1, 0)
    assert (tiles.read_tile(0, 1, 0) == 0).all()
    assert (reader.read_tile(0, 1, 0) == 255).all()
    np.testing.assert_array_equal(reader.read_tile(0, 2, 0), tifffile.imread(path)[:64, 128:])


def test_transparent_pixels_are_laid_over_the_background(tmp_path: Path):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[:32, :, 3] = 255
    pixels[32:48, :, 3] = 128
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels, photometric="rgb", extrasamples=["unassalpha"], tile=(64, 64), metadata=None
    )
    tile = TiffReader(path).read_tile(0, 0, 0)
    assert tile[0, 0].tolist() == [200, 0, 0]
    assert tile[40, 0].tolist() == [227, 127, 127]
    assert tile[63, 0].tolist() == [255, 255, 255]


def test_gray_slides_become_rgb_and_white_is_zero_is_inverted(tmp_path: Path):
    gray = picture(80, 70)[..., 0]
    for photometric, expected in (("minisblack", gray), ("miniswhite", 255 - gray)):
        path = write_tiff(tmp_path / f"{photometric}.tif", [gray], tile=(64, 64), photometric=photometric)
        np.testing.assert_array_equal(
            TiffReader(path).read_tile(0, 0, 0), expected[:64, :64, None].repeat(3, 2)
        )


def test_slides_of_real_numbers_are_refused_with_a_remedy(tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", [picture(80, 70).astype(np.float32)], tile=(64, 64))
    with pytest.raises(SlideError, match=r"a\.tif: pixels are float32\. Needed 8 bits.*Convert it"):
        TiffReader(path)


@pytest.mark.parametrize("compression", [None, "jpeg", "deflate", "lzw"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95, 0.999])
def test_truncated_file_is_refused_before_a_pixel_is_read(
    tmp_path: Path, compression: str | None, keep: float
):
    whole = write_tiff(tmp_path / "whole.tif", pyramid(), tile=(64, 64), compression=compression).read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(whole[: int(len(whole) * keep)])
    # Also where the cut takes only coarse levels: nothing is read from any of it.
    with pytest.raises(SlideError, match=r"cut\.tif: .*[Cc]opy or download"):
        TiffTiles(path)


TAGS = {"ImageWidth": 256, "TileOffsets": 324, "Predictor": 317, "ResolutionUnit": 296, "XResolution": 282}


@pytest.mark.parametrize(
    ("tag", "dtype", "count", "said"),
    [
        ("ImageWidth", 3, 2, r"the TIFF tag imagewidth holds \(.*\), needed one whole number"),
        ("Predictor", 3, 2, r"the TIFF tag predictor holds \(.*\), needed one whole number"),
        ("ResolutionUnit", 3, 2, "the TIFF tag ResolutionUnit holds"),
        ("XResolution", 5, 2, r"the TIFF tag XResolution holds \(.*\), needed one number"),
        ("TileOffsets", 4, 1, r"lists 1 tiles, needed 4"),
    ],
)
def test_a_tag_of_another_kind_is_named(tmp_path: Path, tag: str, dtype: int, count: int, said: str):
    path = write_tiff(
        tmp_path / "a.tif",
        [picture(128, 128)],
        tile=(64, 64),
        resolution=(20000, 20000),
        compression="deflate",
        predictor=True,
    )
    with tifffile.TiffFile(path) as tif:
        at = tif.pages.first.tags[TAGS[tag]].offset
    data = bytearray(path.read_bytes())
    data[at + 2 : at + 8] = struct.pack("<HI", dtype, count)
    path.write_bytes(data)
    with pytest.raises(SlideError, match=rf"a\.tif: .*{said}.*again"):
        TiffTiles(path)


def test_a_raw_image_whose_strips_are_not_all_listed_is_refused(tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", [picture(80, 64)], rowsperstrip=16)
    with tifffile.TiffFile(path) as tif:
        offsets, counts = (tif.pages.first.tags[code].offset for code in (273, 279))
    data = bytearray(path.read_bytes())
    data[offsets + 4 : offsets + 8] = data[counts + 4 : counts + 8] = struct.pack("<I", 3)
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"a\.tif: the level of 80 x 64 lists 3 tiles, needed 4"):
        TiffTiles(path)


def test_a_tiff_without_a_page_is_refused(tmp_path: Path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IHI", 8, 0, 0))
    with pytest.raises(SlideError, match=r"a\.tif: .*opy or download"):
        TiffTiles(path)


def test_file_cut_while_open_names_the_tile(tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", [picture(640, 640)], tile=(64, 64), compression="deflate")
    tiles = TiffTiles(path)
    tiles.read_tile(0, 9, 9)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(
        SlideError, match=r"tile at \(576, 576\) of level 0 needs \d+ bytes at \d+, found \d+"
    ):
        tiles.read_tile(0, 9, 9)


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "jpeg2000"])
def test_scrambled_tile_is_an_error_and_not_garbage(tmp_path: Path, compression: str):
    path = write_tiff(tmp_path / "a.tif", [picture(128, 128)], tile=(64, 64), compression=compression)
    plane = TiffTiles(path).levels[0].planes[0]
    with path.open("r+b") as file:
        file.seek(int(plane.offsets[2]))
        file.write(b"\x00" * int(plane.counts[2]))
    tiles = TiffTiles(path)
    tiles.read_tile(0, 0, 0)
    with pytest.raises(SlideError, match=r"tile at \(0, 64\) of level 0.*cannot be decoded"):
        tiles.read_tile(0, 0, 1)


def test_one_huge_raw_strip_is_served_in_small_blocks(tmp_path: Path):
    pixels = picture(1000, 900)
    tiles = TiffTiles(write_tiff(tmp_path / "a.tif", [pixels], rowsperstrip=900))
    assert tiles.levels[0].tile.height < 900
    np.testing.assert_array_equal(tiles.read_region(0, Region(3, 340, 500, 300)), pixels[340:640, 3:503])


def test_one_raw_strip_of_a_prime_number_of_rows_has_large_blocks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wsi_deform.slide.tiff.level.BLOCK_BYTES", 100_000)  # 33 rows of 3000 bytes
    pixels = picture(1000, 907)
    tiles = TiffTiles(write_tiff(tmp_path / "a.tif", [pixels], rowsperstrip=907))
    assert tiles.levels[0].tile == Size(1000, 33)
    np.testing.assert_array_equal(tiles.read_region(0, Region.whole(tiles.size)), pixels)


def test_no_block_of_huge_raw_strips_that_lie_apart_spans_two_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wsi_deform.slide.tiff.level.BLOCK_BYTES", 100_000)
    pixels = picture(1000, 900)
    path = write_tiff(tmp_path / "a.tif", [pixels], rowsperstrip=450)
    with tifffile.TiffFile(path) as tif:
        first, second = tif.pages.first.tags[273].value
        at = tif.pages.first.tags[273].valueoffset
    data = bytearray(path.read_bytes())
    data[at : at + 8] = struct.pack("<2I", second, first)  # the lower half comes first in the file
    path.write_bytes(data)
    tiles = TiffTiles(path)
    assert tiles.levels[0].tile == Size(1000, 30)  # 450 rows are 15 times 30, and 33 are the most
    np.testing.assert_array_equal(
        tiles.read_region(0, Region.whole(tiles.size)), np.concatenate([pixels[450:], pixels[:450]])
    )


@pytest.mark.parametrize("rows", [900, 450])
@pytest.mark.parametrize("separate", [False, True])
def test_huge_compressed_strips_are_decoded_once_for_all_their_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, separate: bool
):
    monkeypatch.setattr("wsi_deform.slide.tiff.level.KEPT_STRIP_BYTES", 100_000)
    monkeypatch.setattr("wsi_deform.slide.tiff.level.BLOCK_BYTES", 100_000)
    pixels = picture(1000, 899)
    stored = pixels.transpose(2, 0, 1) if separate else pixels
    how = {"planarconfig": "separate"} if separate else {}
    tiles = TiffTiles(
        write_tiff(tmp_path / "a.tif", [stored], compression="deflate", rowsperstrip=rows, **how)
    )
    assert tiles.levels[0].tile.height <= 100
    decoded = []
    decode = tiles._decode
    monkeypatch.setattr(tiles, "_decode", lambda *args: decoded.append(args[1]) or decode(*args))
    np.testing.assert_array_equal(tiles.read_region(0, Region.whole(tiles.size)), pixels)
    np.testing.assert_array_equal(tiles.read_region(0, Region(3, 340, 500, 300)), pixels[340:640, 3:503])
    assert len(decoded) == (3 if separate else 1) * (1 if rows == 900 else 2)
    assert tiles.read_tile(0, 0, 1).base is None or separate  # never a view that keeps the strip alive


def test_compressed_strips_beyond_the_limit_are_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wsi_deform.slide.tiff.level.KEPT_STRIP_BYTES", 1000)
    monkeypatch.setenv("WSI_DEFORM_MAX_STRIP_MIB", "0.1")
    path = write_tiff(tmp_path / "a.tif", [picture(300, 200)], compression="deflate", rowsperstrip=200)
    with pytest.raises(
        SlideError, match=r"a\.tif: .*compressed strips of 300 x 200 px.* 0\.172 MiB .*--tile"
    ):
        TiffTiles(path)


def test_file_descriptor_is_released_with_the_last_reference(tmp_path: Path):
    tiles = TiffTiles(write_tiff(tmp_path / "a.tif", [picture(80, 80)], tile=(64, 64)))
    link = Path(f"/proc/self/fd/{tiles.source._descriptor}")
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    assert link.resolve().name == "a.tif"
    del tiles
    assert not link.exists() or link.resolve().name != "a.tif"


def test_many_threads_on_one_level_read_the_same_as_one(tmp_path: Path):
    pixels = picture(512, 512)
    tiles = TiffTiles(write_tiff(tmp_path / "a.tif", [pixels], tile=(64, 64), compression="deflate"))
    wrong = []

    def read() -> None:
        if not np.array_equal(tiles.read_region(0, Region.whole(tiles.size)), pixels):
            wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("unit", "value", "mpp"),
    [("µm", 0.25, 0.25), ("nm", 250.0, 0.25), ("mm", 0.001, 1.0), ("pixel", 1.0, None)],
)
def test_ome_units_are_converted(tmp_path: Path, unit: str, value: float, mpp: float | None):
    path = write_ome_tiff(tmp_path / "a.ome.tif", pyramid(200, 150, 1), mpp=value, unit=unit)
    assert TiffReader(path).info.mpp == (None if mpp is None else pytest.approx(mpp))


@pytest.mark.parametrize(
    ("per_unit", "unit", "mpp"),
    [(20000.0, 3, 0.5), (101600.0, 2, 0.25), (72.0, 2, None), (0.0, 3, None), (1.0, 3, None),
     (2004008.0, 3, None), (1.0, 1, None)],
)  # fmt: skip
def test_resolution_tags_are_believed_only_where_a_microscope_can_have_them(per_unit, unit, mpp):
    found = scale_from_claims(list(claims_of_tags(per_unit, per_unit, unit)))
    assert found.mpp == (None if mpp is None else pytest.approx(mpp))
    assert found.remarks == ()


def test_broken_metadata_gives_no_mpp():
    assert not list(claims_of_ome_xml("<OME><Pixels PhysicalSizeX='0.5'"))
    assert not list(claims_of_ome_xml("<OME/>"))
    assert not list(claims_of_description("Aperio|MPP = none"))
    assert not list(claims_of_description("Aperio|MPP = 0"))
