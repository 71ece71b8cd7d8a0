"""Which files hold the same, told by some of their bytes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile

from wsi_deform.errors import SlideError
from wsi_deform.slide import content
from wsi_deform.slide.content import file_content, hold_the_same, slide_content
from wsi_deform.slide.open import open_slide


@pytest.fixture
def large(tmp_path):
    """A file of 40 MiB without repetition."""
    path = tmp_path / "a.bin"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 40 << 20, np.uint8).tobytes())
    return path


def test_a_copy_under_another_name_has_the_same_content(large, tmp_path):
    other = tmp_path / "b.bin"
    shutil.copy(large, other)
    assert file_content(other) == file_content(large)
    assert hold_the_same(large, other)


def test_a_byte_at_the_end_or_one_more_makes_another_content(large, tmp_path):
    other = tmp_path / "b.bin"
    shutil.copy(large, other)
    with other.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert file_content(other) != file_content(large)
    with large.open("ab") as file:
        file.write(b"x")
    assert not hold_the_same(large, other)


@pytest.mark.parametrize("size", [1, 1 << 14, (1 << 14) + 1, 1_234_567, 16 << 20])
def test_files_up_to_16_mib_are_compared_byte_by_byte(tmp_path, size):
    rng = np.random.default_rng(size)
    pixels = np.zeros(size, np.uint8)
    (tmp_path / "a").write_bytes(pixels.tobytes())
    for place in rng.integers(0, size, 5):
        changed = pixels.copy()
        changed[place] = 1
        (tmp_path / "b").write_bytes(changed.tobytes())
        assert not hold_the_same(tmp_path / "a", tmp_path / "b")


def test_no_more_than_17_mib_of_a_large_file_are_read(large, tmp_path, monkeypatch):
    other = tmp_path / "b.bin"
    shutil.copy(large, other)
    monkeypatch.setattr(content, "COMPARED_PLACES", 4)
    with other.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"x" * 100)
    assert hold_the_same(large, other)  # between the 4 places that are looked at


def test_folders_are_told_apart_by_levels_and_pixels(tmp_path):
    import zarr

    def written(name, pixels):
        group = zarr.open_group(tmp_path / name, mode="w", zarr_format=2)
        planes = np.moveaxis(pixels, -1, 0)
        group.create_array("0", shape=planes.shape, dtype=planes.dtype, chunks=(3, 64, 64))[:] = planes
        axes = [
            {"name": "c", "type": "channel"},
            {"name": "y", "type": "space"},
            {"name": "x", "type": "space"},
        ]
        scale = [{"type": "scale", "scale": [1, 1, 1]}]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
        slide = open_slide(tmp_path / name, mpp=0.5)
        return slide_content(slide.path, slide.levels[: slide.stored_levels], slide.read_tiles)

    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    first = written("a.zarr", pixels)
    assert first.startswith("pixels ")
    assert written("b.zarr", pixels) == first
    assert written("c.zarr", 255 - pixels) != first


def test_slides_in_a_file_alone_are_told_by_their_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(32, 32), photometric="rgb")
    slide = open_slide(tmp_path / "a.tif", mpp=0.5)
    found = slide_content(slide.path, slide.levels[: slide.stored_levels], slide.read_tiles)
    assert found == file_content(tmp_path / "a.tif")
    assert found.startswith(f"{(tmp_path / 'a.tif').stat().st_size} bytes ")


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(SlideError, match=r"none\.tif: cannot be read \(No such file"):
        file_content(tmp_path / "none.tif")
    with pytest.raises(SlideError, match=r"none\.tif and .*cannot be compared"):
        hold_the_same(tmp_path / "none.tif", tmp_path / "none.tif")
