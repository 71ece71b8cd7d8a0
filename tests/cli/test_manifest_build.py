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


def test_slides_without_any_labels_lack_no_class(tmp_path):
    write_slides(tmp_path, 3, rare=())
    for mask in (tmp_path / "slides").glob("*_mask.png"):
        mask.unlink()
    (tmp_path / "classes.yaml").write_text("[background, gland, tumour]")
    assert build(tmp_path)[1:] == ["remark: no slide has labels: all patients were dealt to splits"]


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


def refused(folder, *options):
    done = CliRunner().invoke(
        typer_app,
        ["manifest", "build", str(folder), "--each-slide-a-patient", *options],
        env={"COLUMNS": "200"},
    )
    assert done.exit_code == 2, done.output
    return " ".join(done.output.replace("│", " ").split())


def test_folds_are_a_manifest_each(tmp_path):
    write_slides(tmp_path, 12, rare=(1, 2, 3))
    (tmp_path / "classes.yaml").write_text("[background, gland, tumour]")
    said = build(tmp_path, "--folds", "3", "--test", "0.25")
    assert not (tmp_path / "m.csv").exists()
    rows = {}
    for number in range(3):
        with (tmp_path / f"m_fold{number}.csv").open() as file:
            rows[number] = {row["slide_id"]: row["split"] for row in csv.DictReader(file)}
    assert [sorted(held.values()).count("val") for held in rows.values()] == [3, 3, 3]
    validated = sorted(name for held in rows.values() for name, split in held.items() if split == "val")
    tested = {tuple(name for name, split in held.items() if split == "test") for held in rows.values()}
    assert (len(validated), len(set(validated)), len(tested)) == (9, 9, 1)
    for number in range(3):
        start = f"{tmp_path / f'm_fold{number}.csv'}: 12 slides of 12 patients"
        (line,) = (line for line in said if line.startswith(start))
        assert line.endswith(
            "(stratified by class, seed 0): train 6 slides of 6 patients, val 3 slides of 3 patients, test 3 slides of "
            "3 patients."
        )
    assert sum(line.startswith("tumour ") for line in said) == 3


def test_folds_may_rotate_test(tmp_path):
    write_slides(tmp_path, 8, rare=())
    build(tmp_path, "--folds", "4", "--rotate-test")
    tested = []
    for number in range(4):
        with (tmp_path / f"m_fold{number}.csv").open() as file:
            tested += [row["slide_id"] for row in csv.DictReader(file) if row["split"] == "test"]
    assert sorted(tested) == [f"s{number:02d}" for number in range(8)]


def test_pattern_mpp_and_what_has_no_labels(tmp_path):
    write_slides(tmp_path, 4, rare=())
    for number in range(3):
        old = tmp_path / "slides" / f"s{number:02d}_mask.png"
        old.rename(tmp_path / "slides" / f"s{number:02d}_gt.png")
    said = build(tmp_path, "--labels-pattern", "{slide_id}_gt.png", "--mpp", "0.5")
    assert "remark: 1 of 4 slides without labels, in no split: s03" in said
    with (tmp_path / "m.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["mask"], row["mpp"]) for row in rows] == [
        ("slides/s00_gt.png", "0.5"),
        ("slides/s01_gt.png", "0.5"),
        ("slides/s02_gt.png", "0.5"),
        ("", "0.5"),
    ]


def test_pairs_are_read_from_a_csv(tmp_path):
    write_slides(tmp_path, 3, rare=())
    (tmp_path / "pairs.csv").write_text(
        "slide,mask\ns00.png,slides/s02_mask.png\ns01.png,slides/s01_mask.png\n"
    )
    build(tmp_path, "--pairs", str(tmp_path / "pairs.csv"))
    with (tmp_path / "m.csv").open() as file:
        masks = {row["slide_id"]: row["mask"] for row in csv.DictReader(file)}
    assert masks == {"s00": "slides/s02_mask.png", "s01": "slides/s01_mask.png", "s02": ""}


def test_options_that_exclude_each_other_are_refused(tmp_path):
    for options, part in (
        (("--mpp", "40"), "40.0: needed 0.05 to 20 um per level-0 pixel"),
        (("--folds", "1"), "1: needed 2 or more."),
        (("--folds", "2", "--rotate-test"), "2: needed 3 or more where test rotates."),
        (("--folds", "5", "--val", "0.2"), "with --folds val is one fold of them. Leave --val out."),
        (("--rotate-test",), "is about folds. Pass --folds too, or leave it out."),
        (("--folds", "5", "--rotate-test", "--test", "0.1"), "test is one of the folds. Leave --test out."),
    ):
        assert part in refused(tmp_path, *options)
