"""Slides behind URLs: only what is needed is read, and errors say what to do."""

from __future__ import annotations

import builtins
import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image
from range_server import RangeServer, serving
from reader_contract import Case, ReaderContract
from slide_files import halved, picture, pyramid, write_ome_tiff, write_ome_zarr, write_svs, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import plan_tiles
from wsi_deform.slide import remote
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.path import SlideUrl, slide_path
from wsi_deform.slide.registry import READERS
from wsi_deform.slide.remote import RemoteFile
from wsi_deform.slide.slide import Slide
from wsi_deform.slide.source import SourceFile
from wsi_deform.slide.tiff.reader import TiffReader
from wsi_deform.slide.zarr_reader import ZarrReader

aiohttp = pytest.importorskip("aiohttp", reason="http URLs need aiohttp")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    with serving(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.01)


def whole(slide: Slide, level: int = 0) -> np.ndarray:
    return slide.read_region(level, Region.whole(slide.levels[level].size))


class TestTiffReaderOverHttp(ReaderContract):
    @pytest.fixture(params=["jpeg", "strips"])
    def case(self, request: pytest.FixtureRequest, tmp_path: Path, server: RangeServer) -> Case:
        if request.param == "jpeg":
            path = write_svs(tmp_path / "a.svs", pyramid())
            mpp = 0.499
        else:
            path, mpp = write_tiff(tmp_path / "a.tif", pyramid(), rowsperstrip=50, compression="lzw"), None
        with tifffile.TiffFile(path) as tif:
            levels = [level.asarray() for level in tif.series[0].levels]
        return Case(TiffReader(RemoteFile(SlideUrl(server.url(path.name)))), levels, mpp=mpp)


class TestZarrReaderOverHttp(ReaderContract):
    @pytest.fixture(params=["0.5", "0.4"])
    def case(self, request: pytest.FixtureRequest, tmp_path: Path, server: RangeServer) -> Case:
        write_ome_zarr(tmp_path / "a.zarr", pyramid(), version=request.param, chunk=200)
        return Case(ZarrReader(SlideUrl(server.url("a.zarr"))), pyramid(), mpp=0.5)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,144 x 6,144 px in JPEG tiles with all levels: about 15 MB."""
    folder = tmp_path_factory.mktemp("large")
    levels = [np.tile(picture(1024, 1024), (6, 6, 1))]
    while len(levels[-1]) > 512:
        levels.append(halved(levels[-1]))
    write_tiff(folder / "large.tif", levels, tile=(256, 256), compression="jpeg")
    return folder / "large.tif"


@pytest.fixture
def large_server(large: Path) -> Iterator[RangeServer]:
    with serving(large.parent) as running:
        yield running


def warped(side: int) -> torch.Tensor:
    """A grid that dwells on the middle."""
    unit = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    bent = 0.5 + 0.5 * (2 * unit - 1) * (0.4 + 0.6 * (2 * unit - 1) ** 2)
    return torch.stack(torch.meshgrid(bent, bent, indexing="xy"), dim=-1)


def test_gather_reads_the_planned_tiles_and_the_index_and_no_more(large: Path, large_server: RangeServer):
    slide, local = open_slide(large_server.url("large.tif")), open_slide(large)
    index_bytes = large_server.sent_bytes
    assert index_bytes < 400_000
    grid = warped(128)
    plan = plan_tiles(slide, grid)
    index = slide._reader()[1].reader.tiles.index
    planned = 0
    for level, column, row in plan.tiles:
        found = index.levels[level]
        planned += int(found.planes[0].counts[row * -(-found.size.width // 256) + column])
    large_server.reset()
    sampled = gather(slide, grid, plan=plan)
    assert torch.equal(sampled, gather(local, grid))
    assert planned <= large_server.sent_bytes <= planned + plan.tile_count * remote.MERGE_GAP_BYTES
    assert large_server.sent_bytes + index_bytes < 0.06 * large.stat().st_size


def test_many_tiles_are_asked_for_together(large: Path, large_server: RangeServer):
    slide = open_slide(large_server.url("large.tif"))
    wanted = [(0, column, row) for row in range(0, 24, 6) for column in range(0, 24, 2)]
    large_server.reset()
    large_server.latency_s = 0.02
    read = list(slide.read_tiles(wanted))
    assert len(large_server.requests) == len(wanted)
    local = open_slide(large)
    for tile, address in zip(read, wanted, strict=True):
        np.testing.assert_array_equal(tile, local.read_tile(*address))
    large_server.reset()
    assert len(list(slide.read_tiles(wanted))) == len(wanted)  # from the tile cache
    whole_row = [(0, column, 20) for column in range(24)]
    list(slide.read_tiles(whole_row))
    assert len(large_server.requests) <= 3  # neighbours in one request


@pytest.mark.parametrize(
    ("ranges", "spans"),
    [
        (
            [(0, 900), (100, 50), (200, 300), (850, 100)],
            [(0, 950)],
        ),  # the first holds others and reaches past them
        ([(50_000, 10), (0, 10)], [(0, 10), (50_000, 50_010)]),
        ([(0, 100), (4_196, 100)], [(0, 4_296)]),  # a gap of 4 KiB
        ([(0, 100), (4_197, 100)], [(0, 100), (4_197, 4_297)]),
        ([(0, 1 << 20), (1 << 20, 1)], [(0, 1 << 20), (1 << 20, (1 << 20) + 1)]),
        ([(0, 2 << 20), (1 << 20, 1)], [(0, 2 << 20)]),  # larger than merged ranges become, and whole
        ([(7, 0), (8, 2)], [(8, 10)]),
    ],
)
def test_near_and_overlapping_ranges_are_asked_for_as_one(
    ranges: list[tuple[int, int]], spans: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
):
    held = np.random.default_rng(0).bytes(3 << 20)
    files = fsspec.filesystem("memory")
    files.pipe_file("/ranges.bin", held)
    asked = []
    cat_ranges = type(files).cat_ranges

    def recorded(self, paths, starts, ends, **how):
        asked.extend(zip(starts, ends, strict=True))
        return cat_ranges(self, paths, starts, ends, **how)

    monkeypatch.setattr(type(files), "cat_ranges", recorded)
    found = RemoteFile(SlideUrl("memory://ranges.bin")).read_many(ranges)
    files.rm_file("/ranges.bin")
    assert found == [held[offset : offset + count] for offset, count in ranges]
    assert asked == spans


def test_a_stream_that_is_left_early_ends(large_server: RangeServer):
    slide = open_slide(large_server.url("large.tif"))
    stream = slide.read_tiles([(0, column, row) for row in range(24) for column in range(0, 24, 2)])
    next(stream)
    stream.close()
    assert slide.read_tile(0, 23, 23).shape == (256, 256, 3)


def test_zarr_is_given_a_store_and_no_options_beside_it(
    tmp_path: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
):
    write_ome_zarr(tmp_path / "b.ome.zarr", pyramid())
    real, given = zarr.open_group, []
    # zarr 3.4 raises TypeError for options that it makes no use of, older versions take them.
    monkeypatch.setattr(
        zarr, "open_group", lambda store, **how: given.append((store, how)) or real(store, **how)
    )
    assert open_slide(server.url("b.ome.zarr")).size.width == 453
    assert {type(store._store) for store, _ in given} == {zarr.storage.FsspecStore}
    assert all(how == {"mode": "r"} for _, how in given)


def test_ome_containers_and_protocols_are_read_alike(tmp_path: Path, server: RangeServer):
    levels = pyramid()
    write_ome_tiff(tmp_path / "a.ome.tif", levels)
    write_ome_zarr(tmp_path / "b.ome.zarr", levels)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/slides", recursive=True)
    try:
        for base in (
            server.url(""),
            "memory://slides/",
            f"file://{tmp_path}/",
            f"simplecache::{server.url('')}",
        ):
            for name in ("a.ome.tif", "b.ome.zarr"):
                if base.startswith("simplecache") and name.endswith("zarr"):
                    continue
                slide = open_slide(base + name)
                assert slide.slide_id == name[0]
                assert slide.mpp == pytest.approx(0.5)
                for number, level in enumerate(levels):
                    np.testing.assert_array_equal(whole(slide, number), level)
    finally:
        memory.rm("/slides", recursive=True)


def test_slide_pickles_as_its_url_and_is_opened_once_per_process(tmp_path: Path, server: RangeServer):
    write_svs(tmp_path / "a.svs", pyramid())
    slide = open_slide(server.url("a.svs"), mpp=0.3)
    stored = pickle.dumps(slide)
    assert len(stored) < 1000
    server.reset()
    copy = pickle.loads(stored)
    assert (copy.path, copy.slide_id, copy.mpp) == (slide.path, "a", 0.3)
    assert copy.size == slide.size
    assert not server.requests
    READERS.forget()
    again = pickle.loads(stored)
    np.testing.assert_array_equal(whole(again), whole(slide))


def test_failing_answers_are_asked_for_again_and_then_reported(tmp_path: Path, server: RangeServer):
    write_tiff(tmp_path / "a.tif", pyramid(), tile=(64, 64))
    slide = open_slide(server.url("a.tif"))
    server.failures = 2
    slide.read_tile(0, 0, 0)
    server.failures = 1000
    with pytest.raises(SlideError, match=r"a\.tif: .*3 attempts.*status 503.*Check the network"):
        slide.read_tile(0, 3, 3)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_missing_files_and_servers_are_named(server: RangeServer, tmp_path: Path):
    with pytest.raises(
        SlideError, match=r"http://127.*/gone\.svs: cannot be found \(HTTP status 404.*Check the URL"
    ):
        open_slide(server.url("gone.svs"))
    with pytest.raises(SlideError, match=r"http://127.*/gone\.zarr: "):
        open_slide(server.url("gone.zarr"))
    for name in ("a.svs", "a.zarr"):
        with pytest.raises(
            SlideError, match=rf"{name}: cannot be found .*[Cc]onnect.*Check the URL, the network"
        ):
            open_slide(f"http://127.0.0.1:{free_port()}/{name}")
    with pytest.raises(SlideError, match=r"memory://none/a\.tif: cannot be found \(no such file"):
        open_slide("memory://none/a.tif")
    with pytest.raises(SlideError, match=r"nonsense://a/b\.tif: cannot be opened.*[Pp]rotocol"):
        open_slide("nonsense://a/b.tif")


def test_server_that_gives_whole_files_only_is_refused_before_it_sends_one(large: Path):
    with serving(large.parent, ranges=False) as server:
        with pytest.raises(
            SlideError, match=r"large\.tif: the server does not give parts.*Download the slide first"
        ):
            open_slide(server.url("large.tif"))
        assert not [one for one in server.requests if one[0] == "GET" and one[2] is None]


def test_formats_that_need_a_file_are_refused_with_a_remedy(tmp_path: Path, server: RangeServer):
    Image.fromarray(picture(40, 30)).save(tmp_path / "a.png")
    with pytest.raises(SlideError, match=r"a\.png: not a TIFF.*Download the slide first"):
        open_slide(server.url("a.png"))
    write_tiff(tmp_path / "a.tif", [picture(200, 200)], tile=(64, 64), software="MedScan 1.0")
    with pytest.raises(SlideError, match=r"a\.tif: a slide of trestle.*OpenSlide.*Download"):
        open_slide(server.url("a.tif"))


def test_real_ndpi_is_refused_and_real_svs_read_from_far(shared_data: Path):
    with serving(shared_data / "slides") as server:
        with pytest.raises(SlideError, match=r"hamamatsu, which needs OpenSlide.*Download"):
            open_slide(server.url("test3-DAPI-2-387.ndpi"))
        name = "CMU-1-Small-Region.svs"
        slide, local = open_slide(server.url(name)), open_slide(shared_data / "slides" / name)
        np.testing.assert_array_equal(whole(slide), whole(local))
        assert slide.mpp == local.mpp


def test_missing_package_for_a_protocol_is_named(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *args, **kwargs):
        if name.split(".")[0] == "aiohttp":
            raise ImportError("No module named 'aiohttp'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    with pytest.raises(SlideError, match=r"a\.svs: a package for https is missing.*pip install aiohttp"):
        open_slide("https://example.invalid/a.svs")


def test_a_protocol_without_its_package_says_once_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def without(*_args, **_options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without)
    with pytest.raises(SlideError) as error:
        open_slide("s3://bucket/a.svs")
    assert str(error.value) == (
        "s3://bucket/a.svs: a package for s3 is missing. Install s3fs to access S3. Or: Download the slide first and "
        "open the copy."
    )


def test_cut_off_file_is_refused(tmp_path: Path, server: RangeServer):
    stored = write_tiff(tmp_path / "a.tif", pyramid(), tile=(64, 64)).read_bytes()
    (tmp_path / "a.tif").write_bytes(stored[: len(stored) * 2 // 3])
    with pytest.raises(SlideError, match=r"a\.tif: .*[Cc]opy or download"):
        open_slide(server.url("a.tif"))


def test_sidecar_of_a_remote_slide_is_kept_under_its_url(
    tmp_path: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wsi_deform.slide.levels.virtual.MAX_DECODED_BYTES", 0)
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
    pixels = picture(1500, 600)
    write_tiff(tmp_path / "a.tif", [pixels], tile=(256, 256), compression="deflate")
    np.testing.assert_array_equal(whole(open_slide(server.url("a.tif")), 1), halved(pixels))
    READERS.forget()
    server.reset()
    np.testing.assert_array_equal(whole(open_slide(server.url("a.tif")), 1), halved(pixels))
    assert server.sent_bytes < 0.8 * (tmp_path / "a.tif").stat().st_size  # index and eight tiles of 18
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_paths_and_urls_are_told_apart():
    assert slide_path("C:/slides/a.svs") == Path("C:/slides/a.svs")
    assert slide_path("slides/a.svs") == Path("slides/a.svs")
    assert slide_path("file:///slides/a%20b.svs") == Path("/slides/a b.svs")
    url = slide_path("s3://bucket/folder/a.ome.tif")
    assert isinstance(url, SlideUrl)
    assert (url.protocol, url.name, url.suffix, url.parts) == (
        "s3",
        "a.ome.tif",
        ".tif",
        ("folder", "a.ome.tif"),
    )
    assert slide_path(url) is url


def test_passwords_and_signatures_are_not_shown():
    url = SlideUrl("https://user:secret@host/a.svs?signature=secret#secret")
    assert str(url) == "https://host/a.svs"
    assert url.name == "a.svs"
    assert "secret" not in repr(Slide(url))


def test_source_file_reads_like_a_file(tmp_path: Path, server: RangeServer):
    stored = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "a.bin").write_bytes(stored)
    source = RemoteFile(SlideUrl(server.url("a.bin")))
    generator = np.random.default_rng(1)
    with SourceFile(source) as file:
        for _ in range(100):
            place, count = int(generator.integers(0, 310_000)), int(generator.integers(0, 90_000))
            file.seek(place)
            assert file.read(count) == stored[place : place + count]
        assert file.seek(-5, 2) == 299_995
        assert file.read() == stored[-5:]
    overlapping = [(0, 100), (50, 200), (299_990, 100), (10, 0), (100_000, 5), (400_000, 3)]
    assert source.read_many(overlapping) == [stored[at : at + count] for at, count in overlapping]
