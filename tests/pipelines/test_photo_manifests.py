"""Manifests of the data sets that stand in for the paper's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.photos.manifests import main
from wsi_deform.annotation.check import check_manifest
from wsi_deform.annotation.classes import read_class_table
from wsi_deform.manifest.read import read_manifest

COUNTS = {"camvid": 235, "cwfid": 50, "hei_med": 143, "glas": 134}


def drawn_data(folder: Path) -> Path:
    """A folder like CWFID's, of 12 photographs of 6 px, and one like CamVid's, of 4 drives."""
    for name, ids in (
        ("cwfid", [f"cwfid_{n:03}" for n in range(12)]),
        ("camvid", [f"{drive}_{n}" for drive in ("A", "B", "C", "D") for n in range(3)]),
    ):
        (folder / name).mkdir(parents=True)
        lines = ["slide_id,slide,patient,split,mask,mpp"]
        for number, one in enumerate(ids):
            Image.fromarray(np.full((6, 6, 3), 20 * number, np.uint8)).save(folder / name / f"{one}.jpg")
            Image.fromarray(np.roll(np.eye(6, dtype=np.uint8), number)).save(
                folder / name / f"{one}_mask.png"
            )
            lines.append(f"{one},{one}.jpg,{one},train,{one}_mask.png,10.0")
        (folder / name / "manifest.csv").write_text("\n".join(lines))
        (folder / name / "classes.yaml").write_text("[soil, crop]")
    return folder


def test_the_placeholder_goes_and_paths_are_found_from_anywhere(tmp_path, monkeypatch, capsys):
    data = drawn_data(tmp_path / "data")
    assert main(["--data", str(data), "--out", str(tmp_path / "out")]) == 0
    assert "cwfid" in capsys.readouterr().out
    manifest = read_manifest(tmp_path / "out" / "cwfid" / "manifest.csv")
    assert {row.mpp for row in manifest.rows} == {None}
    assert manifest.rows[3].slide == data / "cwfid" / "cwfid_003.jpg"
    assert [len(manifest.of_split(split)) for split in ("train", "val", "test")] == [7, 2, 3]
    assert check_manifest(manifest, read_class_table(tmp_path / "out" / "cwfid" / "classes.yaml")) == []


def test_a_drive_is_in_one_split_and_a_seed_gives_the_same_splits(tmp_path):
    data = drawn_data(tmp_path / "data")
    split_of = {}
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        arguments = [
            "--data",
            str(data),
            "--out",
            str(tmp_path / out),
            "--seed",
            str(seed),
            "--only",
            "camvid",
        ]
        assert main(arguments) == 0
        rows = read_manifest(tmp_path / out / "camvid" / "manifest.csv").rows
        split_of[out] = {row.slide_id: row.split for row in rows}
        assert {row.patient for row in rows} == {"A", "B", "C", "D"}
        assert len({(row.patient, row.split) for row in rows}) == 4
    assert split_of["a"] == split_of["b"]
    assert sorted(split_of["a"].values()).count("train") == 6


def test_a_folder_without_any_of_them_is_told(tmp_path, capsys):
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "holds none of camvid, cwfid, hei_med, glas" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_the_real_ones(name, shared_data, tmp_path):
    if not (shared_data / name).is_dir():
        pytest.skip(f"no {name} in {shared_data}")
    assert main(["--data", str(shared_data), "--out", str(tmp_path), "--only", name]) == 0
    manifest = read_manifest(tmp_path / name / "manifest.csv")  # refuses a patient in two splits
    assert len(manifest.rows) == COUNTS[name]
    shares = [len(manifest.of_split(split)) / COUNTS[name] for split in ("train", "val", "test")]
    assert shares == pytest.approx([0.55, 0.15, 0.3], abs=0.07)
    assert {row.mpp for row in manifest.rows} == {0.62 if name == "glas" else None}
    classes = read_class_table(tmp_path / name / "classes.yaml")
    assert classes.count == {"camvid": 11, "cwfid": 3, "hei_med": 3, "glas": 3}[name]
