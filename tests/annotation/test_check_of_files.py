"""The deep check of many files: in their order whatever the threads, what is there twice, and levels to be built."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile
from manifest_of_pictures import two_classes, write_manifest_of_pictures
from PIL import Image

from wsi_deform.annotation.check import check_manifest
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.manifest.read import read_manifest
from wsi_deform.slide.levels import virtual
from wsi_deform.slide.open import open_slide

CLASSES = ClassTable.from_names(["background", "gland"])


@pytest.fixture
def manifest(tmp_path):
    return write_manifest_of_pictures(
        tmp_path, [two_classes(), two_classes((1, 0)), two_classes()], splits=("train", "train", "val")
    )


def checked(manifest, **options):
    """Problems as text, and remarks."""
    remarks = []
    problems = check_manifest(read_manifest(manifest), CLASSES, on_remark=remarks.append, **options)
    return [str(each) for each in problems], [
        each for each in remarks if not each.startswith("no slide has um")
    ]


def test_what_is_said_is_in_the_order_of_the_rows_whatever_the_threads(tmp_path):
    masks = [two_classes((0, 1 + number % 2 * 6)) for number in range(24)]
    manifest = write_manifest_of_pictures(tmp_path, masks, splits=["train", "val"] * 12)
    for number in (3, 8, 20):
        (tmp_path / f"s{number:03d}.png").write_bytes(b"no picture")
    rows, told = [], []
    for jobs in (1, 5):
        order, found = [], []
        problems, _ = checked(manifest, jobs=jobs, on_row=order.append, on_findings=found.extend)
        rows.append([row.slide_id for row in order])
        told.append(problems)
        assert [each.row for each in found] == order
        assert [each.slide is None for each in found] == [number in (3, 8, 20) for number in range(24)]
    assert rows[0] == rows[1] == [f"s{number:03d}" for number in range(24)]
    assert told[0] == told[1]
    bad = [text for text in told[0] if "s003" in text or "s008" in text or "s020" in text]
    assert [text.split(":")[0] for text in bad[:3]] == [f"slide s{n:03d} (line {n + 2})" for n in (3, 8, 20)]


def test_a_slide_that_is_in_two_splits_under_two_names_is_a_problem(manifest):
    folder = manifest.parent
    shutil.copy(folder / "s000.png", folder / "s002.png")
    problems, remarks = checked(manifest)
    assert problems == [
        "slide s002 (line 4): the same slide as slide s000 (line 2): one is in train, the other in val. Needed every "
        "slide in one split, or measures on unseen slides mean nothing. Remove one of the rows, or give both one split."
    ]
    assert remarks == []
    problems, remarks = checked(manifest, for_training=True)
    assert problems == []
    assert remarks == [
        "slide s002 (line 4): the same slide as slide s000 (line 2): one is in train, the other in val"
    ]


def test_a_slide_that_is_twice_in_one_split_is_a_remark(manifest):
    folder = manifest.parent
    shutil.copy(folder / "s000.png", folder / "s001.png")
    assert checked(manifest) == ([], ["s000 and s001 are the same slide and count twice"])


def test_labels_of_two_slides_that_are_the_same_file_are_told(manifest):
    folder = manifest.parent
    shutil.copy(folder / "s000_mask.png", folder / "s002_mask.png")
    (problem,), remarks = checked(manifest)
    assert problem.startswith(
        "slide s002 (line 4): the same labels as slide s000 (line 2): one is in train, the"
    )
    assert problem.endswith("Needed labels of its own for each slide. Check which of the slides they are of.")
    assert remarks == []
    shutil.copy(folder / "s000_mask.png", folder / "s001_mask.png")
    Image.fromarray(two_classes()).save(folder / "s002_mask.png")
    problems, remarks = checked(manifest)
    assert problems == []
    assert remarks == ["s000 and s001 have the same labels: check which of the slides they are of"]


def test_labels_of_one_value_and_those_of_slides_that_are_the_same_are_passed_over(manifest):
    folder = manifest.parent
    empty = np.zeros((40, 60), np.uint8)
    for number in (1, 2):
        Image.fromarray(empty).save(folder / f"s{number:03d}_mask.png")
    assert checked(manifest, allow_empty_classes=True)[0] == []
    shutil.copy(folder / "s000.png", folder / "s002.png")
    shutil.copy(folder / "s000_mask.png", folder / "s002_mask.png")
    (problem,), _ = checked(manifest)
    assert "the same slide as slide s000" in problem


def test_levels_that_slides_lack_are_announced_and_not_built(tmp_path, monkeypatch):
    monkeypatch.setattr(virtual, "MAX_DECODED_BYTES", 1_000_000)
    (tmp_path / "manifest.csv").write_text("slide,mpp\nlarge.tif,0.5\nsmall.tif,0.5\n")
    rng = np.random.default_rng(0)
    for name, side in (("large", 1024), ("small", 256)):
        pixels = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, tile=(256, 256), photometric="rgb")
    problems, (remark,) = checked(tmp_path / "manifest.csv")
    assert problems == []
    assert remark.startswith(
        "1 slide lacks coarse levels; they are built when first read, once, and kept in "
    )
    assert remark.endswith(": about 1 s in all (large: 1 s)")
    slide = open_slide(tmp_path / "large.tif", mpp=0.5)
    assert slide.will_build_levels
    # Training builds them; they are not announced again.
    checked(tmp_path / "manifest.csv", for_training=True, scan=False)
    assert not slide.will_build_levels
    assert checked(tmp_path / "manifest.csv") == ([], [])
