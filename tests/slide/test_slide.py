from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from drawn_reader import AddressReader, ArrayReader, address_pixels
from slide_files import picture, pyramid, write_ome_zarr, write_svs, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.slide.cache import DEFAULT_CACHE_BYTES, TILE_CACHE, TileCache, set_cache_bytes
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.registry import READERS, ReaderRegistry
from wsi_deform.slide.slide import Slide


@pytest.fixture
def svs(tmp_path: Path) -> Path:
    return write_svs(tmp_path / "core_17.svs", pyramid())


def read_sum(slide: Slide) -> int:
    return int(slide.read_region(0, Region.whole(slide.size)).sum(dtype=np.int64))


def test_convention_region_is_in_pixels_of_its_level_and_background_outside(svs: Path):
    slide = open_slide(svs)
    whole = slide.read_region(1, Region.whole(slide.levels[1].size))
    assert whole.shape == (165, 226, 3)
    part = slide.read_region(1, Region(-10, 100, 300, 100))
    np.testing.assert_array_equal(part[:65, 10:236], whole[100:])
    part[:65, 10:236] = 255
    assert (part == 255).all()


def test_convention_level_is_the_coarsest_that_is_fine_enough():
    slide = Slide.from_reader(AddressReader(downsamples=(1, 4, 16, 64, 256)), slide_id="a")
    wanted = [0.5, 1, 3.9, 3.97, 4, 15, 16, 100, 1000]
    assert [slide.level_for_downsample(one) for one in wanted] == [0, 0, 0, 1, 1, 1, 2, 3, 4]


def test_address_reader_serves_a_huge_slide_from_no_memory():
    slide = Slide.from_reader(AddressReader(Size(100_000, 80_000)), slide_id="huge")
    found = slide.read_region(2, Region(20_001, 15_003, 300, 200))
    y, x = np.mgrid[15_003:15_203, 20_001:20_301]
    np.testing.assert_array_equal(found, address_pixels(2, x, y))
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 0.99 * found.shape[0] * found.shape[1]


def test_mpp_of_the_manifest_wins_over_the_file(svs: Path):
    assert open_slide(svs).mpp == pytest.approx(0.499)
    slide = open_slide(svs, mpp=0.25)
    assert slide.mpp == slide.mpp_or_none == 0.25
    assert slide.info.mpp == pytest.approx(0.499)


def test_missing_mpp_says_what_to_do(tmp_path: Path):
    slide = open_slide(write_tiff(tmp_path / "a.tif", pyramid(), tile=(64, 64)))
    assert slide.mpp_or_none is None
    with pytest.raises(SlideError, match=r"a\.tif.*Set the mpp column in its manifest row"):
        _ = slide.mpp


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_mpp_is_refused(svs: Path, mpp: float):
    with pytest.raises(SlideError, match=r"core_17\.svs: mpp .*positive"):
        open_slide(svs, mpp=mpp)


def test_slide_pickles_as_its_path(svs: Path):
    slide = open_slide(svs, mpp=0.3, slide_id="other")
    stored = pickle.dumps(slide)
    assert len(stored) < 1000
    copy = pickle.loads(stored)
    assert (copy.path, copy.slide_id, copy.mpp) == (svs, "other", 0.3)
    assert read_sum(copy) == read_sum(slide)
    assert copy._reader() == slide._reader()  # one handle per process


def test_slide_of_a_reader_pickles_with_its_reader():
    slide = Slide.from_reader(AddressReader(Size(900, 700), downsamples=(1,)), slide_id="a", mpp=0.4)
    copy = pickle.loads(pickle.dumps(slide))
    assert copy.mpp == 0.4
    assert len(copy.levels) == len(slide.levels) == 2
    assert read_sum(copy) == read_sum(slide)
    bare = Slide.from_reader(
        AddressReader(Size(900, 700), downsamples=(1,)), slide_id="a", virtual_levels=False
    )
    assert len(bare.levels) == len(pickle.loads(pickle.dumps(bare)).levels) == 1


def test_slide_travels_to_a_spawned_process(svs: Path, tmp_path: Path):
    slides = [open_slide(svs), open_slide(write_ome_zarr(tmp_path / "z.zarr", pyramid(count=1)))]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(read_sum, slides) == [read_sum(slide) for slide in slides]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_reads_with_its_own_handles_and_locks(svs: Path):
    slide = open_slide(svs)
    expected = read_sum(slide)
    receive, send = os.pipe()
    with TILE_CACHE._lock, READERS._lock:  # as if another thread were inside at the moment of the fork
        child = os.fork()
        if child == 0:
            try:
                os.write(send, str(read_sum(slide)).encode())
            finally:
                os._exit(0)
    os.close(send)
    for _ in range(100):
        done, _status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(receive) as answer:
        assert answer.read() == str(expected)


def test_file_rewritten_under_the_same_path_is_read_anew(tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", [picture(200, 150, 1)], tile=(64, 64))
    before = read_sum(open_slide(path))
    path.unlink()
    write_tiff(path, [picture(210, 150, 2)], tile=(64, 64))
    after = open_slide(path)
    assert after.size == Size(210, 150)
    assert read_sum(after) != before


def test_tiles_are_cached_and_read_only():
    counting = CountingReader(AddressReader(Size(2000, 2000)))
    slide = Slide.from_reader(counting, slide_id="a")
    first, again = slide.read_tile(0, 1, 1), slide.read_tile(0, 1, 1)
    assert first is again
    assert counting.tiles == {0: 1}
    assert counting.total_bytes == 256 * 256 * 3
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 0


def test_two_slides_do_not_share_tiles():
    size = Size(300, 300)
    white, black = (
        Slide.from_reader(ArrayReader(np.full((300, 300, 3), v, np.uint8)), slide_id="s") for v in (255, 0)
    )
    assert white.size == black.size == size
    assert white.read_tile(0, 0, 0).max() == 255
    assert black.read_tile(0, 0, 0).max() == 0


def test_cache_holds_no_more_bytes_than_its_limit():
    cache = TileCache(1000)
    for number in range(50):
        cache.get(number, lambda: np.zeros((10, 10, 3), np.uint8))
        assert cache.held_bytes <= 1000
    reads = []
    cache.get(49, lambda: reads.append(1) or np.zeros(300, np.uint8))
    assert not reads
    cache.get(0, lambda: reads.append(1) or np.zeros(300, np.uint8))
    assert reads
    cache.set_limit(0)
    assert cache.held_bytes == 0
    assert cache.get(1, lambda: np.ones(5, np.uint8)).sum() == 5
    assert cache.held_bytes == 0


def test_cache_makes_room_before_something_large_is_read():
    cache = TileCache(1000)
    for key in range(10):
        cache.keep(key, np.zeros(100, np.uint8))
    cache.make_room(250)
    assert cache.held_bytes == 700
    assert cache.held(2) is None
    assert cache.held(3) is not None
    cache.make_room(5000)
    assert cache.held_bytes == 0


def test_cache_counts_right_under_threads():
    cache = TileCache(20_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cache.get(n % 97, lambda: np.zeros((10, 10, 3), np.uint8)), range(5000)))
    assert cache.held_bytes == sum(tile.nbytes for tile in cache._tiles.values()) <= 20_000


def test_cache_limit_of_the_process_can_be_set():
    set_cache_bytes(0)
    counting = CountingReader(AddressReader(Size(600, 600)))
    slide = Slide.from_reader(counting, slide_id="a")
    slide.read_tile(0, 0, 0)
    slide.read_tile(0, 0, 0)
    set_cache_bytes(DEFAULT_CACHE_BYTES)
    assert counting.total_tiles == 2


def test_virtual_levels_are_built_once_and_only_when_used():
    counting = CountingReader(AddressReader(Size(2220, 2967), downsamples=(1,)))
    slide = Slide.from_reader(counting, slide_id="a")
    assert slide.stored_levels == 1
    assert [level.size for level in slide.levels[1:]] == [Size(1110, 1484), Size(555, 742), Size(278, 371)]
    assert [level.downsample.x for level in slide.levels] == [1.0, 2.0, 4.0, 8.0]
    assert counting.total_tiles == 0
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda level: slide.read_region(level, Region(0, 0, 200, 200)), [1, 2, 3, 1]))
    assert counting.total_tiles == 9 * 12


def test_slides_with_coarse_levels_get_no_virtual_levels():
    assert len(Slide.from_reader(AddressReader(), slide_id="a").levels) == 9


def test_several_tiles_are_read_in_order_and_through_the_cache(svs: Path):
    slide = open_slide(svs)
    wanted = [(0, 1, 1), (2, 0, 0), (0, 0, 0), (0, 1, 1), (1, 1, 0)]
    found = list(slide.read_tiles(wanted))
    for tile, address in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(tile, slide.read_tile(*address))
    assert found[0] is found[3] is slide.read_tile(0, 1, 1)
    assert list(slide.read_tiles([])) == []
    with pytest.raises(SlideError, match="wanted"):
        list(slide.read_tiles([(0, 99, 0)]))


def test_a_child_count_starts_at_zero_after_pickling():
    counting = CountingReader(AddressReader(Size(600, 600)))
    counting.read_tile(0, 0, 0)
    copy = pickle.loads(pickle.dumps(counting))
    assert counting.total_tiles == 1
    assert copy.total_tiles == 0


def test_registry_keeps_as_many_readers_as_it_is_told_to(tmp_path: Path) -> None:
    paths = [write_tiff(tmp_path / f"{n}.tif", pyramid(64, 64, 1), tile=(64, 64)) for n in range(3)]
    registry = ReaderRegistry()
    registry.keep_at_most(2)
    tokens = [registry.reader(path)[0] for path in paths]
    assert registry.reader(paths[2])[0] == tokens[2]
    assert registry.reader(paths[1])[0] == tokens[1]
    assert registry.reader(paths[0])[0] not in tokens
