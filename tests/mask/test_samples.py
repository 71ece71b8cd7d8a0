"""Samples on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wsi_deform.deform.reverse import FieldSamples, ReverseSampler
from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.samples import read_samples, write_samples

SIZE = Size(400, 300)


def fields() -> list[FieldSamples]:
    rng = np.random.default_rng(0)
    return [
        FieldSamples(
            kept=Region(left, 0, 150, 300),
            points_px=rng.uniform(-20, 300, (50, 2)) + [left, 0],
            labels=rng.integers(0, 5, 50).astype(np.uint8),
        )
        for left in (0, 200)
    ]


def test_the_mask_of_what_was_read_is_the_mask_of_what_was_written(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.npz", fields(), size=SIZE, outside_label=6)
    held = read_samples(tmp_path / "a.npz")
    assert (held.size, held.outside_label) == (SIZE, 6)
    assert [field.kept for field in held.fields] == [field.kept for field in fields()]
    np.testing.assert_array_equal(held.labels, np.concatenate([field.labels for field in fields()]))
    assert np.abs(held.points_px - np.concatenate([f.points_px for f in fields()])).max() <= 1 / 512
    whole = Region.whole(SIZE)
    expected = ReverseSampler(fields(), size=SIZE, outside_label=6).region(whole)
    np.testing.assert_array_equal(held.reverse().region(whole), expected)


def test_relabelling_keeps_points_and_what_lies_outside(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.npz", fields(), size=SIZE, outside_label=6)
    held = read_samples(tmp_path / "a.npz").relabelled(lambda points: (points[:, 0] > 200).astype(np.uint8))
    np.testing.assert_array_equal(held.labels, held.points_px[:, 0] > 200)
    assert set(np.unique(held.reverse().region(Region(150, 0, 50, 300)))) == {6}


def test_a_slide_without_fields_is_all_outside(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.npz", [], size=SIZE, outside_label=3)
    held = read_samples(tmp_path / "a.npz")
    assert held.points_px.shape == (0, 2)
    assert (held.reverse().region(Region.whole(SIZE)) == 3).all()


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 cut off"])
def test_a_file_that_is_not_samples_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(MaskError, match=r"samples .*a\.npz: cannot be read"):
        read_samples(tmp_path / "a.npz")
