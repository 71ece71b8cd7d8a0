"""The deep check of many files: in their order whatever the threads, what is there twice, and levels to be built."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile
from manifest_of_pictures import two_classes, write_manifest_of_pictures
from PIL import Image

from wsi_deform.annotation import counted_labels as counted_labels_module
from wsi_deform.annotation import row_check
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


@pytest.mark.parametrize("name", ["open_slide", "open_label_mask", "counted_values", "file_content"])
@pytest.mark.parametrize("error", [ZeroDivisionError("x / 0"), KeyError("x / 0"), MemoryError("x / 0")])
def test_an_exception_that_nobody_foresaw_is_told_of_its_row_and_stops_no_other(
    tmp_path, monkeypatch, name, error
):
    masks = [two_classes((0, 1 + 6 * (number == 2))) for number in range(4)]
    manifest = write_manifest_of_pictures(tmp_path, masks, splits=["train", "train", "val", "val"])
    real = getattr(row_check, name)

    def failing(path, *arguments, **options):
        if "s001" in str(path):
            raise error
        return real(path, *arguments, **options)

    monkeypatch.setattr(row_check, name, failing)
    problems, _ = checked(manifest, jobs=2)
    file = "s001.png" if name == "open_slide" else "s001_mask.png"
    said = repr(error.args[0]) if isinstance(error, KeyError) else error.args[0]
    assert problems[0] == (
        f"slide s001 (line 3): {tmp_path / file}: doubtful: {type(error).__name__}: {said}, which was not foreseen. "
        "Needed a file that is read without it. Open it in another program; if that can, please report this."
    )
    assert "value 7" in problems[1]
    assert len(problems) == 2


def outlined(folder, drawn):
    """A manifest of pictures of 60 x 40 px whose outlines are these rings, a list for each slide."""
    manifest = write_manifest_of_pictures(
        folder, [two_classes() for _ in drawn], splits=["train"] * (len(drawn) - 1) + ["val"]
    )
    for number, rings in enumerate(drawn):
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"classification": {"name": "gland"}},
            }
            for ring in rings
        ]
        (folder / f"s{number:03d}.geojson").write_text(
            json.dumps({"type": "FeatureCollection", "features": features})
        )
    text = manifest.read_text().replace(",mask\n", ",annotation\n").replace("_mask.png", ".geojson")
    manifest.write_text(text)
    return manifest


INSIDE = [[10, 10], [30, 10], [30, 30], [10, 30]]
OUTSIDE = [[110, 10], [130, 10], [130, 30], [110, 30]]
CROSSED = [[0, 0], [20, 20], [20, 0], [0, 20]]


def test_what_was_left_out_of_outlines_or_repaired_is_remarked_upon_with_its_slides(tmp_path):
    manifest = outlined(
        tmp_path, [[INSIDE], [INSIDE, OUTSIDE, OUTSIDE], [CROSSED, OUTSIDE], [INSIDE, CROSSED]]
    )
    problems, remarks = checked(manifest, jobs=2)
    assert problems == []
    assert [each for each in remarks if each.startswith("outlines of")] == [
        "outlines of 2 slides: Outlines outside of the slide, left out: 3 (s001: 2, s002: 1)",
        "outlines of 2 slides: Outlines that crossed themselves, their holes or their parts, and were repaired: 2 "
        "(s002: 1, s003: 1)",
    ]
    (tmp_path / "classes.yaml").unlink()
    remarks = []
    check_manifest(read_manifest(manifest), None, on_remark=remarks.append)
    assert any(each.startswith("outlines of 2 slides: Outlines outside of the slide") for each in remarks)


def test_building_goes_on_after_an_exception_that_nobody_foresaw(tmp_path, monkeypatch):
    manifest = outlined(tmp_path, [[INSIDE], [INSIDE], [INSIDE]])
    real = counted_labels_module.counts_of_row

    def failing(row, table):
        if row.slide_id == "s001":
            raise ZeroDivisionError("x / 0")
        return real(row, table)

    monkeypatch.setattr(counted_labels_module, "counts_of_row", failing)
    found = counted_labels_module.counted_labels(read_manifest(manifest).rows, CLASSES)
    assert found.values == {"s000": {0: 2000, 1: 400}, "s002": {0: 2000, 1: 400}}
    assert [str(each) for each in found.unread] == [
        f"slide s001: {tmp_path / 's001.geojson'}: doubtful: ZeroDivisionError: x / 0, which was not foreseen. Needed "
        "a file that is read without it. Open it in another program; if that can, please report this."
    ]
