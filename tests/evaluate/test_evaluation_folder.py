"""The files of an evaluation: complete, one folder per split, nothing overwritten, nothing stale."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawn.study import write_labels, write_slide
from wsi_deform.evaluate.folder import evaluations_in, write_all
from wsi_deform.evaluate.masks import evaluate_masks
from wsi_deform.evaluate.slide_measures import ALL, BASIC
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.rows import ManifestRow
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.samples import write_samples
from wsi_deform.mask.tiff import write_mask
from wsi_deform.report.evaluated import evaluated_sections
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

CLASSES = ClassTable.from_names(["background", "gland|odd"])
SIZE = Size(300, 200)
TABLES = {
    "classes",
    "cost",
    "trimap",
    "boundary",
    "objects",
    "missed_objects",
    "frequency",
    "slides",
    "calibration",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six slides with two glands each, of which the mask has the left one only; a patient each."""
    folder = tmp_path_factory.mktemp("made")
    out = MaskFolder(folder / "out")
    rows = []
    truth = np.zeros(SIZE.shape, np.uint8)
    truth[50:150, 40:100] = truth[80:120, 200:260] = 1
    y, x = np.mgrid[2 : SIZE.height : 5, 2 : SIZE.width : 5]
    points = np.stack([x, y], axis=-1).reshape(-1, 2).astype(float)
    seen = truth.copy()
    seen[:, 150:] = 0
    labels = seen[y, x].ravel()
    certain = np.where(labels[:, None] == np.arange(2), 0.75, 0.25).astype(np.float16)
    field = FieldSamples(
        kept=Region.whole(SIZE), points_px=points, labels=labels, probabilities=certain, lattice=Size(60, 40)
    )
    for number in range(6):
        slide_id = f"s{number}"
        write_slide(folder / f"{slide_id}.tif", np.full((*SIZE.shape, 3), 200, np.uint8), mpp=0.5)
        write_labels(folder / f"{slide_id}-labels.tif", truth, mpp=0.5)
        rows.append(
            ManifestRow(
                slide=folder / f"{slide_id}.tif",
                slide_id=slide_id,
                patient=f"p{number}",
                mask=folder / f"{slide_id}-labels.tif",
            )
        )
        for path in out.outputs(slide_id).values():
            path.parent.mkdir(parents=True, exist_ok=True)
        tiles = ReverseSampler([field], size=SIZE, outside_label=0).tiles()
        write_mask(out.mask(slide_id), tiles, size=SIZE, mpp=0.5)
        write_samples(out.samples(slide_id), [field], size=SIZE, outside_label=0, interpolation="linear")
    return folder, rows


def evaluation_of(made, split, wanted=ALL, count=6):
    folder, rows = made
    return evaluate_masks(rows[:count], folder / "out", CLASSES, split=split, wanted=wanted)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_of_a_split_has_all_tables_and_figures(made, tmp_path):
    written = write_all(evaluation_of(made, "test"), tmp_path / "evaluation", provenance={"seed": 1})
    folder = tmp_path / "evaluation" / "test"
    assert written == (tmp_path / "evaluation.json", tmp_path / "evaluation.csv", folder / "summary.md")
    assert {path.stem for path in folder.glob("*.csv")} == TABLES
    for name in ("objects", "trimap", "calibration", "frequency"):
        with Image.open(folder / f"{name}.png") as picture:
            picture.load()
            assert picture.width > 500
    assert (tmp_path / "evaluation.csv").read_bytes() == (folder / "slides.csv").read_bytes()
    assert (tmp_path / "evaluation.json").read_bytes() == (folder / "evaluation.json").read_bytes()
    text = (folder / "summary.md").read_text(encoding="utf-8")
    # The right gland, 60 x 40 px of .25 um^2, is missed on every slide.
    assert "| gland\\|odd | 100 to 1,000 µm² | 6 | 0 (0%) | 0 (0%) |" in text
    assert "| gland\\|odd | 1,000 to 10,000 µm² | 6 | 6 (100%) | 6 (100%) |" in text
    assert "| s0 | gland\\|odd | 200, 80 | 60 x 40 | 600 | 0% |" in text
    assert "the 6 patients" in text
    assert "## Worst slides" in text
    assert [row["mean_over"] for row in rows_of(folder / "classes.csv")] == ["", "", "background; gland|odd"]
    assert {row["mean_over"] for row in rows_of(folder / "cost.csv")} == {"background; gland|odd"}
    assert {row["mean_over"] for row in rows_of(folder / "trimap.csv")} == {"background; gland|odd"}
    assert ", gland\\|odd | gland" in text
    gland = rows_of(folder / "classes.csv")[1]
    assert float(gland["recall"]) == pytest.approx(6000 / 8400, abs=0.02)
    assert (
        float(gland["iou_low"])
        == pytest.approx(float(gland["iou"]))
        == pytest.approx(float(gland["iou_high"]))
    )
    frequency = rows_of(folder / "frequency.csv")
    assert float(frequency[1]["ratio"]) == pytest.approx(1, abs=0.02)
    missed = rows_of(folder / "missed_objects.csv")
    assert {(row["slide_id"], row["x"], row["pixels"]) for row in missed} == {
        (f"s{n}", "200", "2400") for n in range(6)
    }
    slide = rows_of(folder / "slides.csv")[1]
    assert (slide["slide_id"], slide["objects"], slide["touched"], slide["patient"]) == ("s0", "2", "1", "p0")


def test_evaluations_of_several_splits_lie_side_by_side(made, tmp_path):
    path = tmp_path / "evaluation"
    write_all(evaluation_of(made, "val", count=2), path, provenance={}, figures=False)
    write_all(evaluation_of(made, "test"), path, provenance={}, figures=False)
    counts = {
        split: len(json.loads((path / split / "evaluation.json").read_text())["slides"])
        for split in ("val", "test")
    }
    assert counts == {"val": 2, "test": 6}
    assert json.loads((tmp_path / "evaluation.json").read_text())["split"] == "test"
    found = evaluations_in(tmp_path)
    assert [each.parent.name for each in found] == ["test", "val"]
    sections, fact = evaluated_sections(found[1])
    assert fact.what.startswith('mIoU, split "val"')
    (table,) = (each.table for each in sections if each.table and "objects touched" in each.table.header)
    column = table.header.index("objects touched")
    assert [row[column] for row in table.rows] == ["1 of 2", "1 of 2"]


def test_nothing_of_an_earlier_evaluation_of_the_split_is_left(made, tmp_path):
    path = tmp_path / "evaluation"
    write_all(evaluation_of(made, "all", count=1), path, provenance={})
    write_all(evaluation_of(made, "all", BASIC, count=1), path, provenance={}, figures=False)
    left = {each.name for each in (path / "all").iterdir()}
    tables = {"classes", "cost", "frequency", "slides", "calibration"}
    assert left == {"summary.md", "evaluation.json", *(f"{name}.csv" for name in tables)}
    assert [each.name for each in path.iterdir()] == ["all"]
    assert "No intervals" in (path / "all" / "summary.md").read_text(encoding="utf-8")


def test_what_an_older_version_wrote_of_another_split_is_kept(made, tmp_path):
    older = json.dumps({"split": "val", "slides": [], "pooled": {}})
    (tmp_path / "evaluation.json").write_text(older)
    (tmp_path / "evaluation.csv").write_text("slide_id\n")
    (tmp_path / "evaluation" / "val").mkdir(parents=True)
    assert evaluations_in(tmp_path) == [tmp_path / "evaluation.json"]
    write_all(
        evaluation_of(made, "test", BASIC, count=1), tmp_path / "evaluation", provenance={}, figures=False
    )
    assert (tmp_path / "evaluation" / "val" / "evaluation.json").read_text() == older
    assert (tmp_path / "evaluation" / "val" / "slides.csv").read_text() == "slide_id\n"
    assert [each.parent.name for each in evaluations_in(tmp_path)] == ["test", "val"]


def test_another_json_beside_the_masks_is_left_and_missing_folders_are_made(made, tmp_path):
    out = tmp_path / "new" / "out"
    evaluation = evaluation_of(made, "test", BASIC, count=1)
    write_all(evaluation, out / "evaluation", provenance={}, figures=False)
    assert [each.parent.name for each in evaluations_in(out)] == ["test"]
    for text in ('{"split": "mine"}', "[1]", "{"):
        (out / "evaluation.json").write_text(text)
        write_all(evaluation, out / "evaluation", provenance={}, figures=False)
        assert [each.name for each in (out / "evaluation").iterdir()] == ["test"]
    # An older version's only evaluation, of the split that is written: it is replaced, not kept beside.
    (out / "evaluation.json").write_text('{"split": "test"}')
    shutil.rmtree(out / "evaluation")
    write_all(evaluation, out / "evaluation", provenance={}, figures=False)
    assert evaluations_in(out) == [out / "evaluation" / "test" / "evaluation.json"]
    # An older version's table may be gone.
    (out / "evaluation.json").write_text('{"split": "all"}')
    (out / "evaluation.csv").unlink()
    write_all(evaluation, out / "evaluation", provenance={}, figures=False)
    assert [each.name for each in (out / "evaluation" / "all").iterdir()] == ["evaluation.json"]


def test_cells_have_nine_digits(made, tmp_path):
    write_all(
        evaluation_of(made, "test", BASIC, count=1), tmp_path / "evaluation", provenance={}, figures=False
    )
    (row,) = rows_of(tmp_path / "evaluation" / "test" / "cost.csv")
    assert (
        row["miou"]
        == f"{json.loads((tmp_path / 'evaluation.json').read_text())['slides'][0]['predicted']['miou']:.9g}"
    )
    assert row["samples"] == ""


def test_labels_without_um_are_measured_in_px(made, tmp_path, monkeypatch):
    monkeypatch.setattr("wsi_deform.slide.slide.Slide.mpp_xy", None)
    write_all(evaluation_of(made, "test", count=1), tmp_path / "evaluation", provenance={}, figures=True)
    folder = tmp_path / "evaluation" / "test"
    assert {row["unit"] for row in rows_of(folder / "boundary.csv")} == {"px"}
    assert {row["unit"] for row in rows_of(folder / "objects.csv")} == {"px^2"}
    assert "1,024 to 4,096 px²" in (folder / "summary.md").read_text(encoding="utf-8")
