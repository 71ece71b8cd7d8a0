"""Mask files: what the common readers see in them, and that nothing half-written stays behind."""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import openslide
import pytest
import pyvips
import tifffile

from wsi_deform.errors import MaskError, ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.directories import TileTable, header_and_directories
from wsi_deform.mask.ome import Channel, image_xml
from wsi_deform.mask.pyramid import deflated
from wsi_deform.mask.tiff import write_mask, write_nearest_mask
from wsi_deform.reverse.levels import MaskTile
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

SIZE = Size(1300, 1101)  # 3 levels of 512 px tiles; partial tiles and partial pixels on both sides


def drawn_samples(size: Size, count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points spread over a slide, and labels 0..4 that depend on where they are."""
    rng = np.random.default_rng(seed)
    points = rng.random((count, 2)) * [size.width, size.height]
    waves = np.sin(points[:, 0] * 9 / size.width) + np.sin(points[:, 1] * 7 / size.height + 1)
    return points, np.digitize(waves, [-1, 0, 0.7, 1.5]).astype(np.uint8)


def sampler_of(size: Size) -> ReverseSampler:
    points, labels = drawn_samples(size)
    return ReverseSampler([FieldSamples(kept=Region.whole(size), points_px=points, labels=labels)], size=size)


def levels_of(size: Size) -> list[np.ndarray]:
    """All levels of the drawn mask, from the sampler's regions."""
    sampler = sampler_of(size)
    return [sampler.region(Region.whole(each), level) for level, each in enumerate(sampler.level_sizes)]


@pytest.fixture(scope="module", params=["classic", "big"])
def mask_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masks") / "slide_7.ome.tif"
    limit = {"classic": 2**32, "big": 1000}[request.param]
    write_mask(
        path,
        sampler_of(SIZE).tiles(),
        size=SIZE,
        mpp=0.2525,
        annotations={"classes": '{"tumour": 1} & <more>', "slide": "\N{GREEK SMALL LETTER MU}7\0"},
        classic_limit_bytes=limit,
    )
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff == (request.param == "big")
    return path


def test_tifffile_sees_an_ome_image_with_all_levels(mask_file: Path):
    expected = levels_of(SIZE)
    with tifffile.TiffFile(mask_file) as tiff:
        assert tiff.is_ome
        assert len(tiff.series) == 1
        series = tiff.series[0]
        assert series.axes == "YX"
        assert len(series.levels) == len(expected) == 3
        for level, pixels in zip(series.levels, expected, strict=True):
            np.testing.assert_array_equal(level.asarray(), pixels)
        for level, page in enumerate(each.keyframe for each in series.levels):
            assert page.subfiletype == (1 if level else 0)
            numerator, denominator = page.tags["XResolution"].value
            assert numerator / denominator == pytest.approx(1e4 / (0.2525 * 2**level), rel=1e-9)
            assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
            assert page.tags["Software"].value == "wsi-deform"


def test_the_ome_xml_says_size_and_annotations(mask_file: Path):
    with tifffile.TiffFile(mask_file) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata)
    space = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    pixels = root.find("ome:Image/ome:Pixels", space)
    assert (pixels.get("SizeX"), pixels.get("SizeY")) == ("1300", "1101")
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")) == ("0.2525", "\N{MICRO SIGN}m")
    assert root.find("ome:Image", space).get("Name") == "slide_7"
    values = {m.get("K"): m.text for m in root.iterfind(".//ome:M", space)}
    assert values == {
        "classes": '{"tumour": 1} & <more>',
        "slide": "\N{GREEK SMALL LETTER MU}7\N{REPLACEMENT CHARACTER}",
    }


def test_the_ome_xml_has_no_character_reference_which_bio_formats_takes_for_damage():
    document = image_xml(
        "B\N{LATIN SMALL LETTER U WITH DIAERESIS}ro\n7",
        SIZE,
        0.25,
        {"slide": "\N{MICRO SIGN}\t&#181;"},
        channels=[Channel(name="a\tb \N{GREEK SMALL LETTER BETA}")],
    )
    assert "&#" not in document
    root = ElementTree.fromstring(document)
    space = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    assert root.find("ome:Image", space).get("Name") == "B\N{LATIN SMALL LETTER U WITH DIAERESIS}ro 7"
    assert root.find(".//ome:M", space).text == "\N{MICRO SIGN}\t&#181;"
    assert root.find(".//ome:Channel", space).get("Name") == "a b \N{GREEK SMALL LETTER BETA}"


def test_openslide_sees_all_levels_the_resolution_and_exact_labels(mask_file: Path):
    expected = levels_of(SIZE)
    with openslide.OpenSlide(mask_file) as slide:
        assert slide.level_count == 3
        assert slide.level_dimensions == ((1300, 1101), (650, 551), (325, 276))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.2525, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.2525, rel=1e-6)
        pixels = np.asarray(slide.read_region((0, 0), 0, (1300, 1101)))
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], expected[0])
    assert (pixels[..., 3] == 255).all()


def test_libvips_sees_all_levels_as_pages_and_as_subifds(mask_file: Path):
    expected = levels_of(SIZE)
    first = pyvips.Image.new_from_file(str(mask_file))
    assert first.get("n-pages") == 3
    assert first.get("n-subifds") == 2
    assert (first.bands, first.interpretation) == (1, "b-w")
    assert first.xres == pytest.approx(1000 / 0.2525, rel=1e-6)  # px per mm
    for level, pixels in enumerate(expected):
        page = pyvips.Image.new_from_file(str(mask_file), page=level)
        np.testing.assert_array_equal(page.numpy(), pixels)
        subifd = pyvips.Image.new_from_file(str(mask_file), subifd=level - 1)
        np.testing.assert_array_equal(subifd.numpy(), pixels)


@pytest.mark.parametrize("size", [Size(130, 1), Size(513, 7), Size(512, 512), Size(1024, 513), Size(3, 1025)])
def test_odd_sizes_are_read_back_by_all_readers(tmp_path: Path, size: Size):
    path = tmp_path / "odd.ome.tif"
    points, labels = drawn_samples(size)
    write_nearest_mask(path, points_px=points, labels=labels, size=size, mpp=0.5)
    expected = levels_of(size)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.series[0].levels) == len(expected)
        for level, pixels in zip(tiff.series[0].levels, expected, strict=True):
            np.testing.assert_array_equal(level.asarray(), pixels)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_count == len(expected)
        np.testing.assert_array_equal(
            np.asarray(slide.read_region((0, 0), 0, (size.width, size.height)))[..., 0], expected[0]
        )
    np.testing.assert_array_equal(pyvips.Image.new_from_file(str(path)).numpy(), expected[0])


def test_stored_tiles_are_whole_and_their_padding_repeats_the_edge(tmp_path: Path):
    path = tmp_path / "padded.ome.tif"
    points, labels = drawn_samples(SIZE)
    write_nearest_mask(path, points_px=points, labels=labels, size=SIZE, mpp=None)
    expected = levels_of(SIZE)[0]
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE
        assert "PhysicalSize" not in tiff.ome_metadata
        for index, (offset, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
            tiff.filehandle.seek(offset)
            tile = tifffile.TIFF.DECOMPRESSORS[page.compression](tiff.filehandle.read(length))
            row, column = np.array(divmod(index, 3)) * 512
            part = expected[row : row + 512, column : column + 512]
            padding = ((0, 512 - part.shape[0]), (0, 512 - part.shape[1]))
            whole = np.frombuffer(tile, np.uint8).reshape(512, 512)
            np.testing.assert_array_equal(whole, np.pad(part, padding, mode="edge"))


def test_tiles_of_one_label_share_their_bytes(tmp_path: Path):
    path = tmp_path / "one.ome.tif"
    write_nearest_mask(
        path, points_px=np.ones((1, 2)), labels=np.array([3], np.uint8), size=Size(5000, 5000), mpp=1.0
    )
    with tifffile.TiffFile(path) as tiff:
        assert {offset for page in tiff.pages for offset in page.dataoffsets} == {16}
        assert (tiff.asarray() == 3).all()
    assert all(len(stored) < 350 for stored, _ in stored_tiles(path))
    assert path.stat().st_size < 10_000


def stored_tiles(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Every stored tile of a mask as it lies in the file, and as tifffile decodes it."""
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            decode = tifffile.TIFF.DECOMPRESSORS[page.compression]
            for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
                tiff.filehandle.seek(offset)
                stored = tiff.filehandle.read(length)
                yield stored, decode(stored)


def test_every_inflater_gives_the_tiles_back(mask_file: Path):
    tiles = list(stored_tiles(mask_file))
    assert len(tiles) == 9 + 4 + 1
    for stored, pixels in tiles:
        assert len(pixels) == 512 * 512
        assert zlib.decompress(stored) == pixels  # also checks the checksum
        assert imagecodecs.zlib_decode(stored) == pixels
        assert imagecodecs.deflate_decode(stored, out=len(pixels)) == pixels  # libdeflate
        assert len(stored) < len(zlib.compress(pixels, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_deflated_pixels_of_any_layout_are_stored_row_by_row(dtype: type):
    pixels = np.arange(35 * 48, dtype=dtype).reshape(35, 48)[::2, 1:40:3]
    inflated = np.frombuffer(zlib.decompress(deflated(pixels)), dtype).reshape(18, 13)
    np.testing.assert_array_equal(inflated, pixels)


def test_files_are_byte_identical_for_any_number_of_threads(tmp_path: Path):
    points, labels = drawn_samples(Size(6000, 5000), count=3000)
    written = []
    for threads in (1, 2, 4):
        path = tmp_path / "same.ome.tif"
        write_nearest_mask(
            path, points_px=points, labels=labels, size=Size(6000, 5000), mpp=0.5, threads=threads
        )
        written.append(path.read_bytes())
    assert written[0] == written[1] == written[2]


def test_fields_keep_their_own_samples(tmp_path: Path):
    path = tmp_path / "fields.ome.tif"
    points, labels = drawn_samples(Size(900, 600), count=50)
    kept = [Region(0, 0, 400, 600), Region(450, 0, 450, 600)]
    write_nearest_mask(
        path,
        points_px=points,
        labels=labels,
        size=Size(900, 600),
        mpp=0.5,
        fields=[(kept[0], slice(0, 20)), (kept[1], slice(20, 50))],
        outside_label=255,
    )
    mask = tifffile.imread(path)
    for region, rows in zip(kept, (slice(0, 20), slice(20, 50)), strict=True):
        alone = ReverseSampler(
            [FieldSamples(kept=Region(0, 0, 900, 600), points_px=points[rows], labels=labels[rows])],
            size=Size(900, 600),
        ).region(region)
        np.testing.assert_array_equal(mask[:, region.x : region.right], alone)
    assert (mask[:, 400:450] == 255).all()


def test_fewer_levels_can_be_written(tmp_path: Path):
    path = tmp_path / "flat.ome.tif"
    write_mask(path, sampler_of(SIZE).tiles(level_count=1), size=SIZE, mpp=0.5, level_count=1)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 1
        np.testing.assert_array_equal(tiff.asarray(), levels_of(SIZE)[0])


def test_a_mask_of_ten_billion_pixels_takes_seconds_and_is_exact(tmp_path: Path):
    size = Size(100_000, 100_000)
    points, labels = drawn_samples(size, count=64_000)
    path = tmp_path / "huge.ome.tif"
    before, started = peak_bytes(), time.process_time()
    write_nearest_mask(path, points_px=points, labels=labels, size=size, mpp=0.25, threads=2)
    assert time.process_time() - started < 20  # about 1 s; room for slow and busy machines
    assert peak_bytes() - before < 300e6
    assert path.stat().st_size < 30e6
    units = np.rint(points * 256).astype(np.int64)
    rng = np.random.default_rng(1)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_count == 9
        for x, y in rng.integers(0, 100_000 - 4, (25, 2)).tolist():
            found = np.asarray(slide.read_region((x, y), 0, (4, 4)))[..., 0]
            for row in range(4):
                for column in range(4):
                    centre = 2 * np.array([x + column, y + row]) * 128 + 128
                    assert found[row, column] == labels[((units - centre) ** 2).sum(axis=1).argmin()]


@pytest.mark.parametrize("past_bytes", [-200, 0, 4096])
def test_a_file_past_four_gigabytes_is_a_big_tiff_with_64_bit_offsets(tmp_path: Path, past_bytes: int):
    path = tmp_path / "sparse.tif"  # a hole of 4 GiB takes no room on the disk
    tables = [TileTable(Size(20, 16), 16), TileTable(Size(10, 8), 16)]
    data = zlib.compress(bytes(range(256)))
    place = 2**32 + past_bytes
    for table in tables:
        table.offsets[:], table.lengths[:] = place, len(data)
    start = place + len(data) + len(data) % 2
    header, directories = header_and_directories(
        tables, start=start, tile_px=16, mpp=0.5, description="x", software="y"
    )
    with path.open("wb") as file:
        file.write(header)
        file.seek(place)
        file.write(data)
        file.seek(start)
        file.write(directories)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert len(tiff.pages) == 2
        assert tiff.pages[0].subifds == (tiff.pages[1].offset,)
        expected = np.arange(256, dtype=np.uint8).reshape(16, 16)
        np.testing.assert_array_equal(tiff.pages[0].asarray()[:, :16], expected)
        np.testing.assert_array_equal(tiff.pages[1].asarray(), expected[:8, :10])


def peak_bytes() -> int:
    """The most memory this process has held; Linux counts it in KiB, macOS in bytes."""
    resource = pytest.importorskip("resource", reason="needs getrusage")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def small_tile(level: int = 0, column: int = 0, row: int = 0, **what: object) -> MaskTile:
    return MaskTile(level=level, column=column, row=row, **(what or {"label": 1}))


@pytest.mark.parametrize(
    ("tiles", "said"),
    [
        ([], "4 of 4 tiles of level 0 were not given"),
        (
            [small_tile(columns=2, label=1), small_tile(row=1), small_tile(level=1)],
            r"first \(column 1, row 1\)",
        ),
        ([small_tile(columns=2, rows=2, label=1), small_tile(column=1)], "given twice"),
        ([small_tile(column=2)], "does not fit"),
        ([small_tile(level=2)], "needed a level from 0 to 1"),
        ([small_tile(column=1, pixels=np.zeros((16, 16), np.uint8))], r"Needed one tile of \(16, 4\)"),
        ([small_tile(pixels=np.zeros((16, 16), np.int32))], "int32"),
        ([small_tile(pixels=None)], "no label and no pixels"),
        ([small_tile(label=256)], "label 256. Needed 0 to 255"),
        ([small_tile(label=-1)], "label -1. Needed 0 to 255"),
        ([small_tile(column=-1)], "does not fit; the level has 2 x 2 tiles"),
        ([small_tile(row=-1)], "does not fit"),
        ([small_tile(row=2)], "does not fit"),
        ([small_tile(columns=0, label=1)], "does not fit"),
        ([small_tile(rows=0, label=1)], "does not fit"),
        ([small_tile(columns=3, label=1)], "a block of 3 x 1 tiles does not fit"),
        ([small_tile(level=-1)], "needed a level from 0 to 1"),
        ([small_tile(columns=2, pixels=np.zeros((16, 16), np.uint8))], "Needed one tile of"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_tiles_that_do_not_make_a_mask_are_refused(tmp_path: Path, tiles: list, said: str, threads: int):
    with pytest.raises(MaskError, match=said):
        write_mask(tmp_path / "bad.ome.tif", tiles, size=Size(20, 30), mpp=1.0, tile_px=16, threads=threads)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, threads: int):
    def interrupted() -> Iterator[MaskTile]:
        yield from list(sampler_of(SIZE).tiles())[:5]
        raise KeyboardInterrupt

    path = tmp_path / "old.ome.tif"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_mask(path, interrupted(), size=SIZE, mpp=0.5, threads=threads)
    assert [each.name for each in tmp_path.iterdir()] == ["old.ome.tif"]
    assert path.read_bytes() == b"old"
    write_mask(path, sampler_of(SIZE).tiles(), size=SIZE, mpp=0.5, threads=threads)
    assert [each.name for each in tmp_path.iterdir()] == ["old.ome.tif"]
    assert path.stat().st_size > 1000


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(MaskError, match=r"nowhere.*Check folder"):
        write_mask(tmp_path / "nowhere" / "a.ome.tif", sampler_of(SIZE).tiles(), size=SIZE, mpp=0.5)


def test_mask_settings_out_of_range_are_refused(tmp_path: Path):
    path = tmp_path / "refused.ome.tif"
    points, labels = drawn_samples(SIZE)
    with pytest.raises(ShapeError, match="mpp nan"):
        write_nearest_mask(path, points_px=points, labels=labels, size=SIZE, mpp=float("nan"))
    with pytest.raises(ShapeError, match="no points"):
        write_nearest_mask(path, points_px=points[:0], labels=labels[:0], size=SIZE, mpp=0.5)
    for tile_px in (0, 100):
        with pytest.raises(ShapeError, match=f"tile_px {tile_px}"):
            write_mask(path, [], size=SIZE, mpp=0.5, tile_px=tile_px)
    for count in (0, 4):
        with pytest.raises(ShapeError, match=f"level_count {count}. Needed 1 to 3"):
            write_mask(path, [], size=SIZE, mpp=0.5, level_count=count)
    for mpp in (0.0, 0.000099, 100_001.0):
        with pytest.raises(ShapeError, match="Needed um per pixel, 0.0001 to 100,000"):
            write_mask(path, [], size=SIZE, mpp=mpp)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mpp", [1e-4, 0.2525, 1 / 3, 1e5])
def test_the_finest_and_the_coarsest_resolution_can_be_told(tmp_path: Path, mpp: float):
    path = tmp_path / "m.ome.tif"
    tiles = [small_tile(columns=2, rows=2, label=255), small_tile(level=1)]
    write_mask(path, tiles, size=Size(20, 30), mpp=mpp, tile_px=16)
    with tifffile.TiffFile(path) as tiff:
        for level, page in enumerate(tiff.pages):
            numerator, denominator = page.tags["XResolution"].value
            assert numerator / denominator == pytest.approx(1e4 / (mpp * 2**level), rel=1e-8)
        assert (tiff.pages[0].asarray() == 255).all()


def test_directories_lie_at_even_offsets_behind_any_number_of_bytes(tmp_path: Path):
    path, ends = tmp_path / "m.ome.tif", set()
    rng = np.random.default_rng(0)
    for labels in range(2, 12):
        pixels = rng.integers(0, labels, (16, 16)).astype(np.uint8)
        write_mask(path, [small_tile(pixels=pixels)], size=Size(16, 16), mpp=0.5, tile_px=16)
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            assert page.offset % 2 == 0
            assert all(tag.valueoffset % 2 == 0 for tag in page.tags if tag.count > 4)
            ends.add((page.dataoffsets[0] + page.databytecounts[0]) % 2)
    assert ends == {0, 1}


def test_a_file_of_exactly_the_limit_is_classic_and_of_a_byte_more_is_big(tmp_path: Path):
    path = tmp_path / "m.ome.tif"
    given = {"size": Size(16, 16), "mpp": 0.5, "tile_px": 16}
    write_mask(path, [small_tile()], **given)
    limit = path.stat().st_size
    for below, big in ((0, False), (1, True)):
        write_mask(path, [small_tile()], classic_limit_bytes=limit - below, **given)
        with tifffile.TiffFile(path) as tiff:
            assert tiff.is_bigtiff is big


def test_a_mask_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All its bytes: a power cut must not leave an empty file under the name of a finished mask."""
    path = tmp_path / "a.ome.tif"
    synced, fsync = [], os.fsync

    def recorded(descriptor: int) -> None:
        synced.extend((each.read_bytes(), path.exists()) for each in tmp_path.iterdir())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    write_mask(path, sampler_of(SIZE).tiles(), size=SIZE, mpp=0.5)
    assert (path.read_bytes(), False) in synced
