"""Patients dealt to splits by what their masks hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from wsi_deform.annotation.splits import split_patients
from wsi_deform.manifest.rows import ManifestRow

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def rows_of(patients):
    """One slide each, with a mask."""
    return [
        ManifestRow(slide=Path(f"{name}.svs"), slide_id=name, patient=name, mask=Path("m.png"))
        for name in patients
    ]


def with_class(dealt, pixels, index):
    """Splits of the patients that have a class."""
    return Counter(split for patient, split in dealt.items() if pixels[patient].get(index))


def test_a_rare_class_is_in_every_split_where_it_has_three_patients():
    for seed in range(20):
        pixels = {f"p{i:02d}": {0: 1000, 1: 100} for i in range(40)}
        for i in range(3):
            pixels[f"p{i:02d}"][2] = 50
        dealt = split_patients(rows_of(pixels), SHARES, seed, pixels)
        assert with_class(dealt, pixels, 2) == {"train": 1, "val": 1, "test": 1}
        assert Counter(dealt.values()) == {"train": 28, "val": 6, "test": 6}
        # Without the labels the seed of most years leaves it out of val or test.
    plain = [
        with_class(split_patients(rows_of(pixels), SHARES, seed), pixels, 2).keys() for seed in range(20)
    ]
    assert sum(each == {"train", "val", "test"} for each in plain) < 5


def test_a_class_of_one_patient_is_trained_on_and_one_of_two_is_validated_too():
    pixels = {f"p{i:02d}": {0: 1000} for i in range(12)}
    pixels["p03"][1] = 10
    pixels["p05"][2] = pixels["p09"][2] = 10
    for seed in range(10):
        dealt = split_patients(rows_of(pixels), SHARES, seed, pixels)
        assert with_class(dealt, pixels, 1) == {"train": 1}
        assert with_class(dealt, pixels, 2) == {"train": 1, "val": 1}


def test_pixels_of_each_class_come_near_to_the_shares():
    pixels = {f"p{i:02d}": {0: 1000, 1: 10 * (1 + i % 7), 2: 500 if i % 4 == 0 else 0} for i in range(60)}
    dealt = split_patients(rows_of(pixels), SHARES, 3, pixels)
    for index in range(3):
        total = sum(own.get(index, 0) for own in pixels.values())
        for split, share in SHARES.items():
            held = sum(own.get(index, 0) for name, own in pixels.items() if dealt[name] == split)
            assert abs(held / total - share) < 0.06, (index, split)


def test_the_seed_decides_and_every_split_gets_a_patient():
    pixels = {name: {0: 10, 1: 5} for name in "abcdefghij"}
    first = split_patients(rows_of(pixels), SHARES, 1, pixels)
    assert split_patients(rows_of(pixels), SHARES, 1, pixels) == first
    assert any(split_patients(rows_of(pixels), SHARES, seed, pixels) != first for seed in range(2, 6))
    few = {name: {0: 10, 1: 5} for name in "abc"}
    assert set(split_patients(rows_of(few), SHARES, 0, few).values()) == {"train", "val", "test"}
    assert set(split_patients(rows_of(few), {"val": 1.0}, 0, few).values()) == {"val"}
