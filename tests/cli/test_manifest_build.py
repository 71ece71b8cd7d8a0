"""`manifest build` as a user meets it: splits stratified by class, and what they hold."""

from __future__ import annotations

import csv

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app


def build(folder, *more):
    done = CliRunner().invoke(
        typer_app,
        [
            "manifest",
            "build",
            str(folder / "slides"),
            "--out",
            str(folder / "m.csv"),
            "--each-slide-a-patient",
            *more,
        ],
    )
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output.splitlines()


def write_slides(folder, count, rare):
    """Slides with masks of 0 and 1, and of 2 in some of them."""
    (folder / "slides").mkdir()
    for number in range(count):
        Image.fromarray(np.full((20, 20, 3), 200, np.uint8)).save(folder / "slides" / f"s{number:02d}.png")
        mask = np.zeros((20, 20), np.uint8)
        mask[:5] = 1
        if number in rare:
            mask[10:12] = 2
        Image.fromarray(mask).save(folder / "slides" / f"s{number:02d}_mask.png")


def splits_of(folder):
    with (folder / "m.csv").open() as file:
        return {row["slide_id"]: row["split"] for row in csv.DictReader(file)}


def test_splits_are_stratified_seeded_and_said(tmp_path):
    write_slides(tmp_path, 20, rare=(1, 2, 3))
    (tmp_path / "classes.yaml").write_text("[background, gland, tumour]")
    said = build(tmp_path)
    assert said[0].endswith(
        "m.csv: 20 slides of 20 patients (each slide is taken for a patient of its own). Patients dealt to splits "
        "(stratified by class, seed 0): train 14 slides of 14 patients, val 3 slides of 3 patients, test 3 slides of 3 "
        "patients."
    )
    assert said[1:] == [
        "class       train, px   share  val, px   share  test, px   share",
        "background      4,160  74.3 %      860  71.7 %       860  71.7 %",
        "gland           1,400  25.0 %      300  25.0 %       300  25.0 %",
        "tumour             40   0.7 %       40   3.3 %        40   3.3 %",
    ]
    first = splits_of(tmp_path)
    assert build(tmp_path) == said
    assert splits_of(tmp_path) == first
    assert {split for name, split in first.items() if name in ("s01", "s02", "s03")} == {
        "train",
        "val",
        "test",
    }
    build(tmp_path, "--seed", "5")
    assert splits_of(tmp_path) != first


def test_a_class_that_a_split_lacks_is_said_with_its_patients(tmp_path):
    write_slides(tmp_path, 6, rare=(4,))
    said = build(tmp_path)
    assert "remark: no class table was found: every value of the masks is taken for a class" in said
    assert "remark: no pixel of class 'class 2' in val, test: 1 patient with it" in said
    assert splits_of(tmp_path)["s04"] == "train"


def test_masks_that_cannot_be_counted_are_one_remark(tmp_path):
    write_slides(tmp_path, 6, rare=())
    for number in range(2, 6):
        (tmp_path / "slides" / f"s{number:02d}_mask.png").write_bytes(b"no picture")
    said = build(tmp_path)
    (line,) = [line for line in said if line.startswith("remark: labels were not counted")]
    assert line.startswith("remark: labels were not counted: 4 times, such as slide s02: mask ")


def test_masks_of_many_values_without_a_table_split_by_slides(tmp_path):
    write_slides(tmp_path, 3, rare=())
    for number in range(3):
        Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(
            tmp_path / "slides" / f"s{number:02d}_mask.png"
        )
    said = build(tmp_path)
    assert "(by numbers of slides, seed 0): train 1 slide of 1 patient" in said[0]
    assert said[1].startswith(
        "remark: splits are by numbers of slides alone: the masks hold more values than classes"
    )
