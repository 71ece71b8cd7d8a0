"""Sidecar pyramids: built once, by one process, kept within a limit, and mended."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from drawn_reader import AddressReader, ArrayReader
from slide_files import halved, picture, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.levels import build_lock
from wsi_deform.slide.levels.build_progress import set_build_progress
from wsi_deform.slide.levels.cache_folder import CACHE, set_cache_folder
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.registry import READERS
from wsi_deform.slide.slide import Slide

PIXELS = picture(1500, 1100)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own; every slide counts as a large one."""
    monkeypatch.setattr("wsi_deform.slide.levels.virtual.MAX_DECODED_BYTES", 0)
    monkeypatch.setattr("wsi_deform.slide.levels.cache_folder.MIN_FREE_BYTES", 0)
    monkeypatch.setenv("WSI_DEFORM_CACHE_GIB", "1")
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def drawn(key: str | None = "drawn", pixels: np.ndarray = PIXELS) -> tuple[Slide, CountingReader]:
    counting = CountingReader(ArrayReader(pixels))
    return Slide.from_reader(counting, slide_id="drawn", key=key), counting


def whole(slide: Slide, level: int) -> np.ndarray:
    return slide.read_region(level, Region.whole(slide.levels[level].size))


def names(cache: Path) -> list[str]:
    return sorted(path.suffix for path in cache.iterdir()) if cache.is_dir() else []


def test_levels_are_listed_at_once_and_built_on_first_use(cache: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "wsi_deform")
    slide, counting = drawn()
    assert [level.size for level in slide.levels] == [Size(1500, 1100), Size(750, 550), Size(375, 275)]
    whole(slide, 0)
    assert not cache.exists()
    counted = counting.total_tiles
    np.testing.assert_array_equal(whole(slide, 1), halved(PIXELS, round_up=True))
    assert "building its coarse levels once" in caplog.text
    assert names(cache) == [".sidecar"]
    whole(slide, 2)
    assert counting.total_tiles == 2 * counted


def test_second_slide_with_the_same_key_builds_nothing(cache: Path):
    first, _ = drawn()
    expected = whole(first, 1)
    second, counting = drawn()
    np.testing.assert_array_equal(whole(second, 1), expected)
    assert counting.total_tiles == 0
    assert names(cache) == [".sidecar"]


def test_slide_without_a_key_leaves_nothing_behind(cache: Path):
    slide, _ = drawn(None)
    np.testing.assert_array_equal(whole(slide, 1), halved(PIXELS, round_up=True))
    assert names(cache) == []


def test_progress_is_told(cache: Path):
    calls = []
    set_build_progress(lambda name, done, total: calls.append((name, done, total)))
    try:
        whole(drawn()[0], 2)
    finally:
        set_build_progress(None)
    assert calls == [("drawn", row + 1, 18) for row in range(18)]


def test_progress_of_a_build_that_fails_ends_too(cache: Path):
    class Torn(ArrayReader):
        def read_tile(self, level: int, column: int, row: int) -> np.ndarray:
            if row == 3:
                raise SlideError("torn")
            return super().read_tile(level, column, row)

    told = []
    set_build_progress(lambda name, done, total: told.append((done, total)))
    try:
        with pytest.raises(SlideError, match="torn"):
            whole(Slide.from_reader(Torn(PIXELS), slide_id="drawn", key="torn"), 2)
    finally:
        set_build_progress(None)
    assert told == [(1, 18), (2, 18), (3, 18), (18, 18)]


def test_moved_file_keeps_its_sidecar_and_a_changed_one_does_not(cache: Path, tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", [PIXELS], tile=(128, 128))
    whole(open_slide(path), 1)
    moved = path.rename(tmp_path / "b.tif")
    whole(open_slide(moved), 1)
    assert names(cache) == [".sidecar"]
    with moved.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\0" * 500_000)
    found = whole(open_slide(moved), 1)
    assert names(cache) == [".sidecar"] * 2
    assert (found != halved(PIXELS, round_up=True)).any()


BUILD = """
import sys, time
sys.path.insert(0, {tests!r})
import numpy as np
from drawn_reader import ArrayReader
from slide_files import picture
from wsi_deform.slide.levels import cache_folder, virtual
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.slide import Slide
virtual.MAX_DECODED_BYTES = cache_folder.MIN_FREE_BYTES = 0

class Slow(ArrayReader):
    def read_tile(self, level, column, row):
        time.sleep(0.005)
        return super().read_tile(level, column, row)

counting = CountingReader(Slow(picture(1500, 1100)))
slide = Slide.from_reader(counting, slide_id="drawn", key="drawn")
print("ready", flush=True)
sys.stdin.readline()
print(int(slide.read_tile(1, 0, 0).sum()), counting.total_tiles, flush=True)
"""


def two_builders() -> list[subprocess.Popen[str]]:
    program = BUILD.format(tests=str(Path(__file__).parents[1])).replace(
        "sys.path.insert(0, ", f"sys.path.insert(0, {str(Path(__file__).parent)!r}); sys.path.insert(0, "
    )
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True)
        for _ in range(2)
    ]
    for one in started:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    return started


def answers(started: list[subprocess.Popen[str]]) -> list[tuple[int, int]]:
    for one in started:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.communicate(timeout=300)[0].split() for one in started]
    return [(int(checksum), int(tiles)) for checksum, tiles in said]


def test_two_processes_at_once_build_one_sidecar(cache: Path):
    checksum = int(halved(PIXELS)[:256, :256].sum())
    found = answers(two_builders())
    assert [one for one, _ in found] == [checksum] * 2
    assert sorted(tiles for _, tiles in found) == [0, 24 * 18]  # one built, the other waited
    assert names(cache) == [".sidecar"]


def test_lock_of_a_killed_process_holds_nobody_up(cache: Path):
    killed, other = two_builders()
    assert killed.stdin is not None
    killed.stdin.write("\n")
    killed.stdin.flush()
    for _ in range(5000):
        if ".part" in names(cache):
            break
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    assert ".part" in names(cache)
    assert answers([other]) == [(int(halved(PIXELS)[:256, :256].sum()), 24 * 18)]
    left = next(path for path in cache.iterdir() if path.suffix == ".part")
    os.utime(left, (1, 1))
    whole(drawn("another")[0], 1)
    assert names(cache) == [".sidecar"] * 2


@pytest.mark.skipif(build_lock.fcntl is None, reason="needs flock")
def test_builder_that_hangs_is_not_waited_for_for_ever(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build_lock, "SILENT_S", 0.3)
    cache.mkdir()
    path = cache / "x.sidecar"
    with build_lock.BuildLock(path, "s"):
        started = time.monotonic()
        with build_lock.BuildLock(path, "s"):
            assert 0.2 < time.monotonic() - started < 5


@pytest.mark.parametrize("harm", ["cut", "tile", "table", "empty", "other"])
def test_damaged_sidecar_is_built_again(cache: Path, harm: str, caplog: pytest.LogCaptureFixture):
    slide, _ = drawn()
    expected = whole(slide, 1)
    path = next(cache.iterdir())
    stored = bytearray(path.read_bytes())
    if harm == "cut":
        stored = stored[: len(stored) // 2]
    elif harm == "tile":
        stored[100:110] = b"0123456789"
    elif harm == "table":
        stored[-200:-190] = b"0123456789"
    elif harm == "empty":
        stored.clear()
    else:
        whole(drawn("another", picture(1500, 1102))[0], 1)
        other = next(one for one in cache.iterdir() if one != path)
        stored = bytearray(other.read_bytes())
    path.unlink()
    path.write_bytes(stored)
    again, counting = drawn()
    np.testing.assert_array_equal(whole(again, 1), expected)
    assert counting.total_tiles == 24 * 18
    assert "damaged" in caplog.text
    third, counting = drawn()
    np.testing.assert_array_equal(whole(third, 1), expected)
    assert counting.total_tiles == 0


def test_longest_unused_sidecars_go_first_and_those_in_use_stay(cache: Path, monkeypatch: pytest.MonkeyPatch):
    slides = []
    for number in range(3):
        slide, _ = drawn(str(number), np.roll(PIXELS, number))
        whole(slide, 1)
        slides.append(slide)
    by_age = sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime)
    for number, path in enumerate(by_age):
        os.utime(path, (1000 + number, 1000 + number))
    size = by_age[0].stat().st_size
    del slide, slides[1], slides[1]  # only the oldest is in use
    monkeypatch.setattr("wsi_deform.slide.levels.sidecar.MAX_SHARE_OF_CACHE", 10.0)
    set_cache_folder(cache, limit_bytes=int(size * 3.5))
    newest = drawn("new")[0]
    whole(newest, 1)
    left = set(cache.iterdir())
    assert len(left) == 3
    assert by_age[0] in left
    assert by_age[2] in left
    assert by_age[1] not in left
    os.utime(by_age[2], (1, 1))
    set_cache_folder(cache, limit_bytes=int(size * 2.5))
    whole(drawn("newer")[0], 1)
    assert by_age[0] in set(cache.iterdir())  # still in use
    np.testing.assert_array_equal(whole(slides[0], 2), whole(drawn("0")[0], 2))


def test_sidecar_larger_than_the_limit_is_used_but_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("wsi_deform.slide.levels.sidecar.MAX_SHARE_OF_CACHE", 100.0)
    set_cache_folder(cache, limit_bytes=100_000)
    np.testing.assert_array_equal(whole(drawn()[0], 1), halved(PIXELS, round_up=True))
    assert names(cache) == []
    assert "not kept" in caplog.text


def test_finest_levels_are_computed_where_the_cache_is_small(cache: Path):
    set_cache_folder(cache, limit_bytes=1_000_000)  # a quarter of it holds the second level alone
    slide, counting = drawn()
    np.testing.assert_array_equal(whole(slide, 1), halved(PIXELS, round_up=True))
    np.testing.assert_array_equal(whole(slide, 2), whole(drawn(None)[0], 2))
    assert next(cache.iterdir()).stat().st_size < 375 * 275 * 3
    counting.reset()
    slide.read_tile(1, 1, 1)
    assert counting.total_tiles in (0, 8 * 8)


@pytest.mark.parametrize("why", ["file", "zero", "full"])
def test_folder_that_cannot_be_used_gives_a_warning_and_the_same_pixels(
    cache: Path, why: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    if why == "file":
        cache.write_text("a file where the folder should be")
    elif why == "zero":
        set_cache_folder(cache, limit_bytes=0)
    else:
        monkeypatch.setattr("wsi_deform.slide.levels.cache_folder.MIN_FREE_BYTES", 1 << 60)
    slide, _ = drawn()
    np.testing.assert_array_equal(whole(slide, 1), halved(PIXELS, round_up=True))
    level_2 = whole(slide, 2)
    assert "no sidecar can be kept" in caplog.text
    assert caplog.text.count("WSI_DEFORM_CACHE") == 1
    monkeypatch.setattr("wsi_deform.slide.levels.virtual.MAX_DECODED_BYTES", 1 << 30)
    np.testing.assert_array_equal(level_2, whole(drawn()[0], 2))


def test_tile_that_cannot_be_read_is_the_slides_error_and_leaves_no_part(cache: Path):
    class Broken(ArrayReader):
        def read_tile(self, level: int, column: int, row: int) -> np.ndarray:
            if row == 5:
                raise SlideError("tile 5 is broken")
            return super().read_tile(level, column, row)

    slide = Slide.from_reader(Broken(PIXELS), slide_id="drawn", key="broken")
    with pytest.raises(SlideError, match="tile 5 is broken"):
        slide.read_tile(1, 0, 0)
    assert names(cache) == []


def test_large_file_on_disk_gets_its_levels_through_the_registry(cache: Path, tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", [PIXELS], tile=(128, 128), compression="deflate")
    np.testing.assert_array_equal(whole(open_slide(path), 1), halved(PIXELS, round_up=True))
    READERS.forget()  # as another process would start
    np.testing.assert_array_equal(whole(open_slide(path), 1), halved(PIXELS, round_up=True))
    assert names(cache) == [".sidecar"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep caches elsewhere")
def test_convention_folder_is_the_users_cache_as_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("WSI_DEFORM_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CACHE.folder == tmp_path / "wsi-deform"
    for unusable in ("not/absolute", "~/caches", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert CACHE.folder == tmp_path / "home" / ".cache" / "wsi-deform"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert CACHE.folder == tmp_path / "home" / ".cache" / "wsi-deform"
    assert list(tmp_path.iterdir()) == []  # asking makes nothing


def test_convention_the_variables_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("WSI_DEFORM_CACHE_GIB", raising=False)
    assert CACHE.limit_bytes == 10 << 30
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("WSI_DEFORM_CACHE", "~/caches")
    assert CACHE.folder == Path.home() / "caches"
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("WSI_DEFORM_CACHE_GIB", "0.5")
    assert (CACHE.folder, CACHE.limit_bytes) == (tmp_path / "here", 1 << 29)
    set_cache_folder(None)
    assert "WSI_DEFORM_CACHE" not in os.environ


MEMORY = """
import resource, sys
sys.path.insert(0, {tests!r})
from drawn_reader import AddressReader
from wsi_deform.geometry import Size
from wsi_deform.slide.slide import Slide
slide = Slide.from_reader(AddressReader(Size(40_000, 1_000), downsamples=(1,)), slide_id="drawn")
slide.read_tile(0, 0, 0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
slide.read_tile(1, 0, 0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_of_building_follows_the_width_and_not_the_area(cache: Path):
    pytest.importorskip("resource", reason="needs getrusage")
    program = MEMORY.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 100  # MiB; the level decodes to 120 MB, and its coarse levels to 40


def test_hundred_thousand_px_slide_lists_levels_down_to_512(cache: Path):
    slide = Slide.from_reader(AddressReader(downsamples=(1, 4)), slide_id="a")
    assert [level.downsample.x for level in slide.levels] == [1.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]
