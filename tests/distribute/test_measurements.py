"""Pixels counted while a mask streams by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.deform.reverse import FieldSamples, ReverseSampler
from wsi_deform.distribute.ledger import State
from wsi_deform.distribute.measurements import LabelCounts, write_measurements
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.folder import MaskFolder


@pytest.mark.parametrize("size", [Size(1, 1), Size(700, 300), Size(1025, 513), Size(3000, 2000)])
def test_counts_equal_those_of_the_whole_label_map(size: Size) -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 1, (40, 2)) * [size.width, size.height]
    labels = rng.integers(0, 5, 40).astype(np.uint8)
    kept = Region(0, 0, max(1, size.width * 3 // 4), size.height)
    field = FieldSamples(kept=kept, points_px=points, labels=labels)
    sampler = ReverseSampler([field], size=size, outside_label=7)
    counts = LabelCounts(size, sampler.tile_px)
    tiles = list(counts.counted(sampler.tiles()))
    expected = np.bincount(sampler.region(Region.whole(size)).ravel(), minlength=256)
    np.testing.assert_array_equal(counts.pixels, expected)
    assert counts.pixels.sum() == size.area
    assert {tile.level for tile in tiles} == set(range(len(sampler.level_sizes)))


def test_a_slide_of_one_label_is_counted_without_pixels() -> None:
    size = Size(900_001, 700_003)
    sampler = ReverseSampler([], size=size, outside_label=2)
    counts = LabelCounts(size, sampler.tile_px)
    assert all(tile.pixels is None for tile in counts.counted(sampler.tiles()))
    assert counts.pixels[2] == size.area


def test_names_that_a_spreadsheet_would_run_are_written_as_text_and_numbers_as_numbers(
    tmp_path: Path,
) -> None:
    state = State(
        slide_id="=cmd|' /C calc'!A0",
        status="done",
        width_px=10,
        height_px=10,
        mpp=None,
        class_pixels=(60, 40),
    )
    folder = MaskFolder(tmp_path)
    write_measurements(folder, [state], ClassTable.from_names(["@glass", "-1"]))
    assert folder.measurements.read_text().splitlines()[1:] == [
        "'=cmd|' /C calc'!A0,0,'@glass,60,,0.6,",
        "'=cmd|' /C calc'!A0,1,-1,40,,0.4,",
    ]
