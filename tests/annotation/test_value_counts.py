"""Counts of mask values: what is counted, and when it is known from the last time."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tifffile

from wsi_deform.annotation import value_counts
from wsi_deform.annotation.mask_file import MaskFile, raw_value_counts
from wsi_deform.annotation.value_counts import counted_values
from wsi_deform.geometry import Region


@pytest.fixture
def counting(monkeypatch, tmp_path):
    """Every mask is large enough to be kept; the list says which were counted."""
    counted = []

    def count(path, channel=None, **options):
        counted.append(path.name)
        return raw_value_counts(path, channel, **options)

    monkeypatch.setattr(value_counts, "KEPT_FROM_BYTES", 0)
    monkeypatch.setattr(value_counts, "raw_value_counts", count)
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
    return counted


def mask(path, *values):
    tifffile.imwrite(path, np.repeat(np.array(values, np.uint16), 32).reshape(len(values), 32), tile=(16, 16))
    return path


def test_tiles_of_one_value_and_of_many_are_counted_alike(tmp_path):
    labels = np.zeros((64, 48), np.uint16)
    labels[40:, 20:] = 300
    labels[3, 5] = 65535
    tifffile.imwrite(tmp_path / "m.tif", labels, tile=(16, 16))
    assert raw_value_counts(tmp_path / "m.tif") == {0: 64 * 48 - 24 * 28 - 1, 300: 24 * 28, 65535: 1}


def test_a_mask_that_did_not_change_is_counted_once(tmp_path, counting):
    path = mask(tmp_path / "m.tif", 0, 0, 255)
    assert [counted_values(path) for _ in range(3)] == [{0: 64, 255: 32}] * 3
    assert counting == ["m.tif"]


def test_a_mask_that_was_written_again_is_counted_again(tmp_path, counting):
    path = mask(tmp_path / "m.tif", 0, 255)
    counted_values(path)
    status = path.stat()
    mask(path, 0, 1)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert counted_values(path) == {0: 32, 1: 32}
    assert counting == ["m.tif", "m.tif"]


def test_channels_of_a_mask_are_counted_apart(tmp_path, counting):
    labels = np.zeros((32, 32, 3), np.uint8)
    labels[..., 1] = 7
    tifffile.imwrite(tmp_path / "m.tif", labels, photometric="rgb")
    assert [counted_values(tmp_path / "m.tif", channel) for channel in (0, 1)] == [{0: 1024}, {7: 1024}]


def test_a_damaged_note_is_not_believed(tmp_path, counting):
    path = mask(tmp_path / "m.tif", 0, 255)
    counted_values(path)
    (note,) = (tmp_path / "cache").iterdir()
    note.write_text("[1, 2]")
    assert counted_values(path) == {0: 32, 255: 32}
    assert counting == ["m.tif", "m.tif"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, counting, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "file" / "cache"))
    assert counted_values(mask(tmp_path / "m.tif", 0, 255)) == {0: 32, 255: 32}


def test_small_masks_leave_no_notes(tmp_path, monkeypatch):
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
    assert counted_values(mask(tmp_path / "m.tif", 3)) == {3: 32}
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("planar", [False, True])
def test_tiles_that_are_stored_as_the_same_bytes_are_counted_as_often_as_they_occur(tmp_path, planar):
    labels = np.zeros((200, 250), np.uint8)
    labels[64:128] = 3
    labels[150:160, 10:20] = 1
    pixels = np.stack([labels, labels + 1]) if planar else labels
    tifffile.imwrite(
        tmp_path / "m.tif",
        pixels,
        tile=(64, 64),
        compression="deflate",
        planarconfig="separate" if planar else None,
    )
    channel = 1 if planar else None
    expected = {0: 200 * 250 - 64 * 250 - 100, 1: 100, 3: 64 * 250}
    found = raw_value_counts(tmp_path / "m.tif", channel)
    assert found == {value + planar: number for value, number in expected.items()}
    part = raw_value_counts(tmp_path / "m.tif", channel, part=Region(10, 60, 70, 10))
    assert part == {0 + planar: 280, 3 + planar: 420}


def test_a_tile_is_decoded_once_for_all_that_are_stored_so(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((512, 512), np.uint8), tile=(64, 64), compression="deflate")
    decoded = []
    read_tile = MaskFile.read_tile
    monkeypatch.setattr(MaskFile, "read_tile", lambda *place: decoded.append(place) or read_tile(*place))
    assert raw_value_counts(tmp_path / "m.tif") == {0: 512 * 512}
    assert len(decoded) == 1
