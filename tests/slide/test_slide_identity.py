"""What tells a slide from another one at its path."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from range_server import serving

from wsi_deform.errors import SlideError
from wsi_deform.slide.identity import slide_identity
from wsi_deform.slide.path import slide_path


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_a_file_is_known_by_its_bytes_time_inode_and_content(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(bytes(1000))
    before = slide_identity(path)
    assert set(before) == {"bytes", "modified", "inode", "content"}
    assert before["bytes"] == "1000"
    assert slide_identity(path) == before
    os.utime(path, ns=(0, 5))
    assert changed(before, slide_identity(path)) == {"modified"}
    assert slide_identity(path)["modified"] == "5"
    os.utime(path, ns=(0, int(before["modified"])))
    assert slide_identity(path) == before
    other = tmp_path / "b.svs"
    other.write_bytes(bytes(1000))
    os.utime(other, ns=(0, int(before["modified"])))
    other.replace(path)
    assert changed(before, slide_identity(path)) == {"inode"}


@pytest.mark.parametrize("at", [0, 5 << 20, (10 << 20) - 1])
def test_bytes_at_both_ends_and_between_count(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(bytes(10 << 20))
    before, times = slide_identity(path), path.stat().st_mtime_ns
    with path.open("r+b") as file:
        # 16 blocks of 4 KiB lie 617 KiB apart: a change of a MiB meets one.
        file.seek(max(0, at - (1 << 19)))
        file.write(b"x" * min(1 << 20, (10 << 20) - file.tell()))
    os.utime(path, ns=(times, times))
    assert changed(before, slide_identity(path)) == {"content"}


@pytest.mark.parametrize("is_big", [False, True])
def test_the_index_of_a_tiff_counts_wherever_it_lies(tmp_path: Path, is_big: bool) -> None:
    path = tmp_path / "a.tif"
    # Its directory lies in the middle of 8 MiB, away from every block that is looked at for any file.
    at = (4 << 20) + 150_000
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, at) if is_big else struct.pack("<2sHI", b"II", 42, at)
    path.write_bytes(head + bytes((8 << 20) - len(head)))
    before, times = slide_identity(path), path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\x01")
    os.utime(path, ns=(times, times))
    assert changed(before, slide_identity(path)) == {"content"}


def test_the_other_files_of_a_slide_count(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"index")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Data0000.dat").write_bytes(b"tiles")
    before = slide_identity(tmp_path / "a.mrxs")
    (tmp_path / "a" / "Data0000.dat").write_bytes(b"other tiles")
    assert changed(before, slide_identity(tmp_path / "a.mrxs")) == {"files"}


def test_the_files_of_a_folder_count(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=(4, 4), chunks=(2, 2), dtype="uint8")
    before = slide_identity(path)
    (path / "0" / "1.1").write_bytes(b"a chunk")
    assert "files" in changed(before, slide_identity(path))


def test_a_real_index_that_changes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((512, 512, 3), np.uint8), tile=(256, 256), photometric="rgb")
    before = slide_identity(path)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags["ImageDescription"].overwrite('{"shape": [512, 512, 9]}')
    assert "content" in changed(before, slide_identity(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"none\.svs: cannot be read \(No such file or directory\)"):
        slide_identity(tmp_path / "none.svs")


def test_a_url_is_known_by_what_the_server_calls_its_version(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="URLs of the web need the extra remote")
    for name in ("a.svs", "b.svs"):
        (tmp_path / name).write_bytes(bytes(1000))
    (tmp_path / "b.svs").write_bytes(bytes(1001))
    with serving(tmp_path) as server:
        server.etag = "one"
        url = slide_path(server.url("a.svs"))
        before = slide_identity(url)
        assert set(before) == {"version"}
        assert slide_identity(url) == before
        assert slide_identity(slide_path(server.url("b.svs"))) != before
        server.etag = "two"
        assert changed(before, slide_identity(url)) == {"version"}
