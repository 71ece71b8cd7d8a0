"""A manifest from a folder: pairs by name, patients dealt to splits as wholes."""

from __future__ import annotations

import logging
import os
from collections import Counter

import pytest

from wsi_deform.annotation.folder import LabelSource, manifest_from_folder, split_patients
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import write_manifest


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_masks_are_found_beside_slides_and_in_a_masks_folder(tmp_path):
    touch(
        tmp_path,
        "s/a.svs",
        "s/a_mask.tif",
        "s/sub/b.tiff",
        "masks/b.png",
        "s/c.svs",
        "s/labels/c.geojson",
        "s/d.ndpi",
    )
    manifest = manifest_from_folder(tmp_path / "s", each_slide_a_patient=True)
    assert [row.slide_id for row in manifest.rows] == ["a", "b", "c", "d"]
    assert [row.mask and row.mask.name for row in manifest.rows] == ["a_mask.tif", "b.png", None, None]
    assert manifest.rows[2].annotation.name == "c.geojson"
    assert manifest.rows[3].split is None  # nothing to learn from
    write_manifest(manifest, tmp_path / "manifest.csv")
    assert [row.mask for row in read_manifest(tmp_path / "manifest.csv").rows] == [
        row.mask for row in manifest.rows
    ]


def test_a_named_masks_folder_wins(tmp_path):
    touch(tmp_path, "slides/a.tif", "masks/a.tif", "truth/a_mask.ome.tif")
    found = manifest_from_folder(
        tmp_path / "slides", labels=LabelSource(folder=tmp_path / "truth"), each_slide_a_patient=True
    )
    row = found.rows[0]
    assert row.mask == tmp_path / "truth" / "a_mask.ome.tif"


def test_patients_never_cross_splits_and_splits_are_reproducible(tmp_path):
    touch(tmp_path, *(f"{patient:02d}_{slide}.svs" for patient in range(20) for slide in range(3)))
    manifest = manifest_from_folder(tmp_path, patient_pattern=r"^(\d+)_", seed=1)
    splits = {(row.patient, row.split) for row in manifest.rows}
    assert len(splits) == 20
    assert Counter(row.split for row in manifest.rows) == {"train": 42, "val": 9, "test": 9}
    assert manifest_from_folder(tmp_path, patient_pattern=r"^(\d+)_", seed=1) == manifest
    assert manifest_from_folder(tmp_path, patient_pattern=r"^(\d+)_", seed=2) != manifest


def test_tcga_barcodes_name_their_patients(tmp_path):
    touch(tmp_path, "TCGA-AA-0001-01Z-00-DX1.svs", "TCGA-AA-0001-01Z-00-DX2.svs", "TCGA-AA-0002-01Z.svs")
    patients = [row.patient for row in manifest_from_folder(tmp_path).rows]
    assert patients == ["TCGA-AA-0001", "TCGA-AA-0001", "TCGA-AA-0002"]


def test_a_list_of_patients_keeps_their_slides_together(tmp_path):
    touch(tmp_path, *(f"s/{name}.svs" for name in "abcdef"))
    (tmp_path / "p.csv").write_text(
        "slide_id,patient\n" + "".join(f"{n},P{i // 2}\n" for i, n in enumerate("abcdef"))
    )
    rows = manifest_from_folder(tmp_path / "s", patients=tmp_path / "p.csv").rows
    assert [row.patient for row in rows] == ["P0", "P0", "P1", "P1", "P2", "P2"]
    assert len({(row.patient, row.split) for row in rows}) == 3


def test_every_wanted_split_gets_a_patient(tmp_path):
    touch(tmp_path, "a.svs", "b.svs", "c.svs")
    rows = manifest_from_folder(tmp_path, each_slide_a_patient=True).rows
    assert Counter(row.split for row in rows) == {"train": 1, "val": 1, "test": 1}
    assert set(split_patients(rows, {"train": 1, "val": 1}, 0).values()) == {"train", "val"}
    with pytest.raises(ManifestError, match="needed positive numbers"):
        split_patients(rows, {}, 0)


def test_problems_are_listed_at_once(tmp_path):
    touch(tmp_path, "s/a.svs", "s/a.tif", "s/a_mask.png", "masks/a.tif", "s/b.svs")
    with pytest.raises(ManifestError) as caught:
        manifest_from_folder(tmp_path / "s", patient_pattern="^(a)")
    for part in ("same name as", "Needed one mask per slide", "no match of '^(a)'"):
        assert part in str(caught.value)


@pytest.mark.parametrize(("folder", "part"), [("none", "not a folder"), ("empty", "no slides found")])
def test_folders_without_slides_are_refused(tmp_path, folder, part):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=rf"{folder}: {part}.*Check the path"):
        manifest_from_folder(tmp_path / folder)


def test_bad_pattern_is_named(tmp_path):
    touch(tmp_path, "a.svs")
    with pytest.raises(ManifestError, match=r"patient pattern '\('"):
        manifest_from_folder(tmp_path, patient_pattern="(")


def test_odd_names_are_left_out_with_a_warning_and_the_manifest_reads(tmp_path, caplog):
    odd = os.fsdecode(b"caf\xe9.svs")
    touch(
        tmp_path,
        "s/a.svs",
        "s/a_mask.png",
        f"s/{odd}",
        f"s/{'x' * 240}.svs",
        "s/12:30.svs",
        "s/12:30_mask.png",
    )
    touch(tmp_path, f"s/masks/{odd}.png", "s/masks/ok.png")
    os.mkfifo(tmp_path / "s" / "pipe.svs")
    (tmp_path / "s" / "up").symlink_to("..")
    with caplog.at_level(logging.WARNING):
        manifest = manifest_from_folder(tmp_path / "s", each_slide_a_patient=True)
    write_manifest(manifest, tmp_path / "m.csv")
    read = read_manifest(tmp_path / "m.csv")
    assert [(row.slide_id, row.mask.name) for row in read.rows] == [
        ("12_30", "12:30_mask.png"),
        ("a", "a_mask.png"),
    ]
    said = sorted(
        record.getMessage().removeprefix(f"left out: {tmp_path}/s/")[:24] for record in caplog.records
    )
    assert said == [
        r"caf\xe9.svs: its name is",
        f"left out: mask {tmp_path}/s/"[:24],
        "pipe.svs: is a named pip",
        "up: is a link back to " + str(tmp_path)[:2],
        "x" * 24,
    ]
