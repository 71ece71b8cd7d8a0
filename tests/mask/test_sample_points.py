"""Where a slide was sampled, as a picture needs it: in a region, thinned, without the probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.sample_points import SamplePoints, read_sample_points
from wsi_deform.mask.samples import write_samples
from wsi_deform.reverse.samples import FieldSamples

SIZE = Size(100, 50)


def written(path: Path) -> Path:
    fields = [
        FieldSamples(
            kept=Region(x, 0, 50, 50),
            points_px=np.array([[x + 10.5, 5.25], [x + 40.0, 49.0]]),
            labels=np.array([1, x // 50 + 1], np.uint8),
            probabilities=np.zeros((2, 3), np.uint8),
            lattice=Size(2, 1),
        )
        for x in (0, 50)
    ]
    write_samples(path, fields, size=SIZE, outside_label=0, interpolation="linear")
    return path


@pytest.fixture
def samples(tmp_path: Path) -> SamplePoints:
    return read_sample_points(written(tmp_path / "s.npz"))


def test_points_labels_and_fields_are_those_that_were_written(samples: SamplePoints) -> None:
    points, labels, count = samples.within(Region.whole(SIZE), 10)
    assert points.tolist() == [[10.5, 5.25], [40.0, 49.0], [60.5, 5.25], [90.0, 49.0]]
    assert (labels.tolist(), count, samples.count) == ([1, 1, 1, 2], 4, 4)
    assert samples.kept == (Region(0, 0, 50, 50), Region(50, 0, 50, 50))
    assert samples.size == SIZE


def test_convention_left_and_top_edge_are_inside_and_right_and_bottom_edge_are_not(
    samples: SamplePoints,
) -> None:
    assert samples.within(Region(40, 49, 1, 1), 9)[0].tolist() == [[40.0, 49.0]]
    assert samples.within(Region(30, 40, 10, 9), 9)[2] == 0


@pytest.mark.parametrize(
    ("most", "x"), [(4, [10.5, 40.0, 60.5, 90.0]), (3, [10.5, 60.5]), (2, [10.5, 60.5]), (1, [10.5])]
)
def test_of_too_many_every_so_many_th_is_taken(samples: SamplePoints, most: int, x: list[float]) -> None:
    points, labels, count = samples.within(Region.whole(SIZE), most)
    assert points[:, 0].tolist() == x
    assert (len(labels), count) == (len(x), 4)


def test_samples_whose_probabilities_are_damaged_are_still_shown(tmp_path: Path) -> None:
    path = written(tmp_path / "s.npz")
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    np.savez(path, **arrays | {"probabilities": np.zeros(1)})
    assert read_sample_points(path).count == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": np.zeros(3, np.uint8)}, "different lengths"),
        ({"size": np.array([0, 5])}, r"size \[0, 5\]"),
    ],
)
def test_samples_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, np.ndarray], said: str) -> None:
    path = written(tmp_path / "s.npz")
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    np.savez(path, **arrays | change)
    with pytest.raises(MaskError, match=said):
        read_sample_points(path)
