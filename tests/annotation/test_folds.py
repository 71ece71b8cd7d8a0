"""Cross-validation: folds of patients, stratified and seeded, and which of them is val and test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from wsi_deform.annotation.folds import fold_manifests, fold_path
from wsi_deform.annotation.splits import fold_patients
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.rows import Manifest, ManifestRow


def row(name, patient, split="train", *, labelled=True):
    mask = Path("m.png") if labelled else None
    return ManifestRow(slide=Path(f"{name}.svs"), slide_id=name, patient=patient, split=split, mask=mask)


def manifest_of(*rows):
    return Manifest(rows=tuple(rows), folder=Path())


def patients_in(manifest, split):
    return {row.patient for row in manifest.rows if row.split == split}


STUDY = manifest_of(
    *(row(f"{number:02d}{slide}", f"p{number:02d}") for number in range(11) for slide in "ab"),
    row("t1", "q1", "test"),
    row("t2", "q2", "test"),
    row("u", "p00", None, labelled=False),
)


def test_every_patient_is_validated_on_once_and_test_is_the_same_in_all():
    made = fold_manifests(STUDY, 5, seed=0)
    assert len(made) == 5
    validated = Counter(patient for manifest in made for patient in patients_in(manifest, "val"))
    assert validated == {f"p{number:02d}": 1 for number in range(11)}
    for manifest in made:
        assert patients_in(manifest, "test") == {"q1", "q2"}
        assert len(patients_in(manifest, "train")) + len(patients_in(manifest, "val")) == 11
        assert not patients_in(manifest, "train") & patients_in(manifest, "val")
        assert [each.slide_id for each in manifest.rows] == [each.slide_id for each in STUDY.rows]
        assert manifest.rows[-1].split is None
    assert sorted(len(patients_in(manifest, "val")) for manifest in made) == [2, 2, 2, 2, 3]


def test_where_test_rotates_every_patient_is_tested_on_once_and_val_is_the_fold_after():
    study = manifest_of(*(each for each in STUDY.rows if each.split == "train"))
    made = fold_manifests(study, 4, seed=0, rotate_test=True)
    tested = [patients_in(manifest, "test") for manifest in made]
    assert Counter(patient for each in tested for patient in each) == {
        f"p{number:02d}": 1 for number in range(11)
    }
    for number, manifest in enumerate(made):
        assert patients_in(manifest, "val") == tested[(number + 1) % 4]
        held = [patients_in(manifest, split) for split in ("train", "val", "test")]
        assert sum(map(len, held)) == 11 == len(set.union(*held))


def test_folds_are_seeded():
    first, again, other = (fold_manifests(STUDY, 3, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_class_of_as_many_patients_as_folds_is_in_every_fold():
    pixels = {f"p{number:02d}": {0: 1000, 1: 100} for number in range(20)}
    for number in (3, 4, 5, 6, 7):
        pixels[f"p{number:02d}"][2] = 50
    rows = [row(name, name) for name in pixels]
    plain = 0
    for seed in range(10):
        dealt = fold_patients(rows, 5, seed, pixels)
        assert Counter(dealt[name] for name, has in pixels.items() if 2 in has) == dict.fromkeys(range(5), 1)
        assert Counter(dealt.values()) == dict.fromkeys(range(5), 4)
        dealt = fold_patients(rows, 5, seed)
        plain += len({dealt[name] for name, has in pixels.items() if 2 in has}) == 5
    assert plain < 5  # without the labels most seeds leave a fold without the class


@pytest.mark.parametrize("folds", [1, 12])
def test_too_few_or_too_many_folds_are_refused(folds):
    with pytest.raises(
        ManifestError, match=f"{folds} folds of 11 patients: needed 2 folds or more, and a patient for"
    ):
        fold_manifests(STUDY, folds, seed=0)


def test_rotating_needs_three_folds_and_no_test_split():
    with pytest.raises(ManifestError, match="2 folds: needed 3 or more where test rotates"):
        fold_manifests(STUDY, 2, seed=0, rotate_test=True)
    with pytest.raises(ManifestError, match="test rotates, and there is a test split"):
        fold_manifests(STUDY, 3, seed=0, rotate_test=True)


def test_folds_lie_beside_the_manifest():
    assert fold_path(Path("a/m.csv"), 2) == Path("a/m_fold2.csv")
