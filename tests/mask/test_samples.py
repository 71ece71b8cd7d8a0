"""Samples on disk."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.samples import SamplesWriter, read_samples, write_samples
from wsi_deform.mask.tissue_limit import TissueLimit
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

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


def linear_fields() -> list[FieldSamples]:
    rng = np.random.default_rng(1)
    return [
        replace(field, probabilities=rng.random((50, 7)).astype(np.float16), lattice=Size(10, 5))
        for field in fields()
    ]


def test_a_linear_mask_of_what_was_read_is_that_of_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_samples(path, linear_fields(), size=SIZE, outside_label=6, interpolation="linear")
    assert [each.name for each in tmp_path.iterdir()] == ["a.npz"]
    held = read_samples(path)
    assert held.interpolation == "linear"
    whole = Region.whole(SIZE)
    made = ReverseSampler(linear_fields(), size=SIZE, outside_label=6, interpolation="linear").region(whole)
    np.testing.assert_array_equal(held.reverse().region(whole), made)
    # Relabelled, samples are certain: the truth goes back the way the prediction did, 255 included.
    truth = np.random.default_rng(2).choice(np.array([1, 255], np.uint8), 50)
    put_back = held.relabelled(lambda points: truth).reverse().region(whole)
    certain = (truth[:, None] == np.arange(256)).astype(np.float32)
    expected = [replace(field, probabilities=certain) for field in linear_fields()]
    expected = ReverseSampler(expected, size=SIZE, outside_label=6, interpolation="linear").region(whole)
    np.testing.assert_array_equal(put_back, expected)
    write_samples(path, [], size=SIZE, outside_label=3, interpolation="linear")
    assert (read_samples(path).reverse().region(whole) == 3).all()


def test_linear_samples_need_probabilities_of_one_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    one, two = linear_fields()
    with pytest.raises(MaskError, match="no probabilities"):
        write_samples(path, fields(), size=SIZE, outside_label=6, interpolation="linear")
    two = replace(two, probabilities=two.probabilities[:, :3])
    with pytest.raises(MaskError, match="differ"):
        write_samples(path, [one, two], size=SIZE, outside_label=6, interpolation="linear")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 cut off"])
def test_a_file_that_is_not_samples_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(MaskError, match=r"samples .*a\.npz: cannot be read"):
        read_samples(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("points", None, "no points"),
        ("kept", np.zeros((2, 3), np.int64), r"kept of shape \(2, 3\), int64"),
        ("points", np.zeros((100, 2), np.complex64), r"points of shape \(100, 2\), complex64"),
        ("size", np.int64(3), r"size of shape \(\), int64"),
        ("labels", np.zeros(99, np.uint8), "arrays are of different lengths"),
        ("starts", np.array([0, 80, 50]), "arrays are of different lengths"),
        ("starts", np.array([0, 120, 100]), "arrays are of different lengths"),
        ("starts", np.array([0, 50, 99]), "arrays are of different lengths"),
        ("starts", np.array([1, 50, 100]), "arrays are of different lengths"),
        ("starts", np.array([0, 100]), "arrays are of different lengths"),
        ("starts", np.array([0, 20, 50, 100]), "arrays are of different lengths"),
        ("starts", np.array([0, 0, 100]), "no points"),
        ("limit", np.ones((2, 2), bool), "no background"),
        ("units_per_px", np.int64(0), "units_per_px 0"),
        ("labels", np.zeros(100, np.uint16), "uint16"),
        ("size", np.array([400, 0]), "400 x 0"),
        ("lattices", np.ones((2, 2), np.int64), "no probabilities"),
    ],
)
def test_arrays_of_another_shape_are_named(tmp_path: Path, name: str, array: object, said: str) -> None:
    write_samples(tmp_path / "a.npz", fields(), size=SIZE, outside_label=6)
    with np.load(tmp_path / "a.npz") as held:
        arrays = {key: held[key] for key in held.files if key != name}
    np.savez(tmp_path / "a.npz", **arrays, **({} if array is None else {name: array}))
    with pytest.raises(MaskError, match=rf"a\.npz: cannot be read \(.*{said}.*--overwrite"):
        read_samples(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("lattices", np.ones((3, 2), np.int64), "arrays are of different lengths"),
        ("probabilities", np.ones((99, 7), np.float16), "arrays are of different lengths"),
        ("lattices", None, "no lattices"),
    ],
)
def test_linear_arrays_of_other_lengths_are_named(
    tmp_path: Path, name: str, array: object, said: str
) -> None:
    path = tmp_path / "a.npz"
    write_samples(path, linear_fields(), size=SIZE, outside_label=6, interpolation="linear")
    with np.load(path) as held:
        arrays = {key: held[key] for key in held.files if key != name}
    np.savez(path, **arrays, **({} if array is None else {name: array}))
    with pytest.raises(MaskError, match=said):
        read_samples(path)


def test_one_sample_more_or_less_than_announced_is_refused(tmp_path: Path) -> None:
    for count in (49, 51):
        with (
            pytest.raises(MaskError, match=f"50 samples came. Needed {count}, as announced"),
            SamplesWriter(tmp_path / "b.npz", count=count, size=SIZE, outside_label=6) as writer,
        ):
            writer.add(fields()[0])
    assert list(tmp_path.iterdir()) == []


def test_a_limit_comes_back_and_limits_the_mask(tmp_path: Path) -> None:
    cells = np.array([[True, False], [False, False]])
    limit = TissueLimit(cells=cells, size=SIZE, background=2)
    write_samples(tmp_path / "a.npz", fields(), size=SIZE, outside_label=6, limit=limit)
    held = read_samples(tmp_path / "a.npz")
    assert (held.limit.cells.tolist(), held.limit.size, held.limit.background) == (cells.tolist(), SIZE, 2)
    mask = held.reverse().region(Region.whole(SIZE))
    assert (mask[150:] == 2).all()
    assert (mask[:, 200:] == 2).all()
    np.testing.assert_array_equal(
        mask[:150, :200], replace(held, limit=None).reverse().region(Region(0, 0, 200, 150))
    )


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("points.npy", b"\x93NUMPY\x01\x00\x08\x00{'desc(\n")
    with pytest.raises(MaskError, match=r"a\.npz: cannot be read"):
        read_samples(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(MaskError, match=r"b\.npy: cannot be read \(one array, no archive\)"):
        read_samples(tmp_path / "b.npy")
